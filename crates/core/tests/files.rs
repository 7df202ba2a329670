//! Files: what is known of an open one, asked of the ring or at once.

mod support;

use std::io::Read;
use std::path::Path;

use campanile_core::{Answer, Config, Context, Event, FileStat, Flow, OpenFile, Server};
use support::{Told, client, tcp};

/// What is known of the file at `path` at once, if anything is; by asking; and at once again, after `then`.
fn asked(path: &Path, then: fn(&Path)) -> (Option<FileStat>, FileStat, Option<FileStat>) {
    let (tell, told) = std::sync::mpsc::channel();
    let path = path.to_owned();
    let serve = move || {
        let (path, tell) = (path.clone(), tell.clone());
        let mut opened = None;
        Told(move |event, cx: &mut Context<'_>| {
            let now = |cx: &Context<'_>, file| cx.stat_now(file).map(|stat| stat.expect("an open file"));
            match event {
                Event::Open => _ = cx.open_file(OpenFile::at(&path)),
                Event::Answer(_, Answer::Opened(file)) => {
                    let file = file.expect("the file is there");
                    cx.stat(&file);
                    opened = Some((now(cx, &file), file));
                }
                Event::Answer(_, Answer::Stat(stat)) => {
                    let (first, file) = opened.take().expect("it was opened");
                    then(&path);
                    let stats = (first, stat.expect("an open file"), now(cx, &file));
                    tell.send(stats).expect("the test waits");
                    return Flow::Finish;
                }
                _ => {}
            }
            Flow::Wait
        })
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).config(Config::default());
    let server = server.serve(serve).expect("a free port of loopback");
    let mut end = Vec::new();
    client(tcp(&server)).read_to_end(&mut end).expect("an end");
    told.recv().expect("told before the end")
}

#[test]
fn what_is_known_at_once_is_what_the_ring_says() {
    let path = std::env::temp_dir().join(format!("campanile-files-{}", std::process::id()));
    std::fs::write(&path, b"five!").expect("a writable place");
    let real = std::fs::metadata(&path).expect("just written");
    let (first, asked, removed) = asked(&path, |path| std::fs::remove_file(path).expect("it is there"));
    assert_eq!((asked.len, asked.links, asked.is_file, asked.is_dir), (5, 1, true, false));
    assert_eq!(asked.modified, real.modified().expect("every file system of ours has it"));
    assert!(asked.changed >= asked.modified);
    let Some(first) = first else {
        eprintln!("note: the temporary directory is not on a file system that tells at once");
        return;
    };
    assert_eq!(first, asked);
    let removed = removed.expect("as the first time");
    assert_eq!((removed.links, removed.inode), (0, first.inode));
}

/// Elsewhere an answer may take its time.
#[test]
fn other_file_systems_are_asked_by_the_ring() {
    let (first, asked, again) = asked(Path::new("/proc/self/status"), |_| {});
    assert!(first.is_none() && again.is_none());
    assert!(asked.is_file && asked.links == 1 && asked.changed > std::time::UNIX_EPOCH, "{asked:?}");
}
