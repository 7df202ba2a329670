//! Files: written, synced and read back on either ring, opened in every way that std knows, and how that fails.

mod support;

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use campanile_core::fs::Change;
use campanile_core::{
    Answer, Bytes, Config, Context, Event, File, Flow, OpenFile, RingKind, Server, ServerHandle, Service,
};
use support::{LONG, Told, client, counted, keyed, nothing_held, tcp, until};

const RINGS: [RingKind; 2] = [RingKind::Uring, RingKind::Poll];

/// A directory that goes with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("campanile-files-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a writable place");
        Place(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A directory left behind is no failure.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What is asked of a file, one after the other. The first is to open it.
#[derive(Debug, Clone)]
enum Ask {
    Open(OpenFile),
    Write(u64, Bytes),
    Sync { data_only: bool },
    Read(u64, usize),
    Change(Change),
}

/// What was said to that.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Done,
    Count(usize),
    Bytes(Vec<u8>),
    Failed(ErrorKind, Option<i32>),
}

fn said<T>(result: std::io::Result<T>, done: impl FnOnce(T) -> Said) -> Said {
    result.map_or_else(|error| Said::Failed(error.kind(), error.raw_os_error()), done)
}

/// Asks as it is told to, and reports when it is done, or when something failed.
struct Clerk {
    asks: VecDeque<Ask>,
    file: Option<File>,
    said: Vec<Said>,
    report: mpsc::Sender<Vec<Said>>,
}

impl Clerk {
    fn go_on(&mut self, cx: &mut Context<'_>) -> Flow {
        let failed = matches!(self.said.last(), Some(Said::Failed(..)));
        let ask = self.asks.pop_front().filter(|_| !failed);
        match (ask, &self.file) {
            (Some(Ask::Open(file)), _) => cx.open_file(file),
            (Some(Ask::Change(change)), _) => cx.change_names(change),
            (Some(Ask::Write(offset, bytes)), Some(file)) => cx.write_file(file, offset, bytes),
            (Some(Ask::Sync { data_only }), Some(file)) => cx.sync_file(file, data_only),
            (Some(Ask::Read(offset, len)), Some(file)) => cx.read_file(file, offset, len),
            _ => {
                self.file = None;
                self.report.send(std::mem::take(&mut self.said)).expect("the test waits");
                return Flow::Finish;
            }
        };
        Flow::Wait
    }
}

impl Service for Clerk {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        let Event::Answer(_, answer) = event else {
            return if cx.input.consume_all().is_empty() { Flow::More(1) } else { self.go_on(cx) };
        };
        self.said.push(match answer {
            Answer::Opened(opened) => said(opened, |file| {
                self.file = Some(file);
                Said::Done
            }),
            Answer::Written(written) => said(written, Said::Count),
            Answer::Synced(done) | Answer::Changed(done) => said(done, |()| Said::Done),
            Answer::Read(read) => said(read, |bytes| Said::Bytes(bytes.to_vec())),
            _ => panic!("nothing else was asked for"),
        });
        self.go_on(cx)
    }
}

/// A server each of whose connections has a clerk.
struct Office {
    server: ServerHandle,
    asks: Arc<Mutex<VecDeque<VecDeque<Ask>>>>,
    reports: mpsc::Receiver<Vec<Said>>,
}

impl Office {
    fn new(ring: RingKind) -> Office {
        let (report, reports) = mpsc::channel();
        let asks = Arc::<Mutex<VecDeque<VecDeque<Ask>>>>::default();
        let theirs = Arc::clone(&asks);
        let server = Server::new().listen("127.0.0.1:0").workers(1).ring(ring).serve(move || Clerk {
            asks: theirs.lock().expect("nobody panics").pop_front().expect("as many as clients"),
            file: None,
            said: Vec::new(),
            report: report.clone(),
        });
        Office { server: server.expect("a free port of loopback"), asks, reports }
    }

    fn begin(&self, asks: impl IntoIterator<Item = Ask>) -> TcpStream {
        self.asks.lock().expect("nobody panics").push_back(asks.into_iter().collect());
        let mut client = client(tcp(&self.server));
        client.write_all(b"go on").expect("room in the socket");
        client
    }

    fn report(&self) -> Vec<Said> {
        self.reports.recv_timeout(LONG).expect("a report")
    }

    fn ask(&self, asks: impl IntoIterator<Item = Ask>) -> Vec<Said> {
        let _client = self.begin(asks);
        self.report()
    }
}

fn content(key: u64, len: usize) -> Bytes {
    let mut content = vec![0; len];
    keyed::fill(key, 0, &mut content);
    content.into()
}

fn fresh(path: &Path) -> OpenFile {
    OpenFile::at(path).read(true).write(true).create_new(true)
}

#[test]
fn what_is_written_is_synced_and_read_back() {
    // Nothing, a byte, and several pages that begin in the middle of one.
    let lens = [0, 1, 3 << 20, 100_003];
    for ring in RINGS {
        let (place, office) = (Place::new(), Office::new(ring));
        let clients: Vec<_> = (0..20)
            .map(|key| {
                let (path, bytes) =
                    (place.at(&key.to_string()), content(key, lens[key as usize % lens.len()]));
                office.begin([
                    Ask::Open(fresh(&path)),
                    Ask::Write(7, bytes.clone()),
                    Ask::Sync { data_only: true },
                    Ask::Write(0, Bytes::from_static(b"before ")),
                    Ask::Sync { data_only: false },
                    Ask::Read(0, 100),
                ])
            })
            .collect();
        for _ in &clients {
            let said = office.report();
            let [Said::Done, Said::Count(n), Said::Done, Said::Count(7), Said::Done, Said::Bytes(read)] =
                &said[..]
            else {
                panic!("{ring}: {said:?}")
            };
            assert!(read.starts_with(b"before ") && read.len() == 100.min(n + 7), "{ring}: {read:?}");
        }
        for key in 0..20 {
            let written = fs::read(place.at(&key.to_string())).expect("it was made");
            let expected = content(key, lens[key as usize % lens.len()]);
            assert!(written.strip_prefix(b"before ") == Some(&expected[..]), "{ring}: file {key}");
        }
        drop(clients);
        nothing_held(&office.server);
    }
}

/// All that can be asked for, of a file that is there and of one that is not: what comes of it is what comes of it with
/// std.
#[test]
fn files_are_opened_as_std_opens_them() {
    let (place, office) = (Place::new(), Office::new(RingKind::Uring));
    let (ours, theirs) = (place.at("ours"), place.at("theirs"));
    for way in 0..1 << 7 {
        let has = |bit: u32| way >> bit & 1 == 1;
        for path in [&ours, &theirs] {
            match has(6) {
                true => fs::write(path, b"old content").expect("a writable place"),
                false => _ = fs::remove_file(path),
            }
        }
        let file = OpenFile::at(&ours).read(has(0)).write(has(1)).append(has(2)).mode(0o640);
        let file = file.truncate(has(3)).create(has(4)).create_new(has(5));
        let came =
            office.ask([Ask::Open(file), Ask::Write(1, Bytes::from_static(b"new")), Ask::Read(0, 100)]);

        let mut options = fs::OpenOptions::new();
        options.read(has(0)).write(has(1)).append(has(2)).truncate(has(3)).create(has(4)).create_new(has(5));
        let expected = match options.open(&theirs) {
            Err(error) => vec![error.kind()],
            Ok(file) => {
                let mut buffer = [0; 100];
                let written = file.write_at(b"new", 1).map(|_| ());
                let done = written.and_then(|()| file.read_at(&mut buffer, 0).map(|_| ()));
                done.map_or_else(|error| vec![error.kind()], |()| Vec::new())
            }
        };
        let failed: Vec<_> = came
            .iter()
            .filter_map(|said| if let Said::Failed(kind, _) = said { Some(*kind) } else { None })
            .collect();
        assert_eq!(failed, expected, "{way:#b}: {came:?}");
        assert_eq!(fs::read(&ours).ok(), fs::read(&theirs).ok(), "{way:#b}: {came:?}");
        if let (false, Ok(made)) = (has(6), fs::metadata(&ours)) {
            // Of which the umask may have taken more away.
            assert_eq!(made.permissions().mode() & 0o137, 0, "{way:#b}");
        }
    }
}

#[test]
fn errors_are_those_of_the_kernel() {
    let place = Place::new();
    fs::write(place.at("there"), "content").expect("a writable place");
    fs::create_dir(place.at("below")).expect("a writable place");
    let root = Arc::new(OwnedFd::from(fs::File::open(place.at("below")).expect("a directory")));
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, place.at("pipe"), rustix::fs::FileType::Fifo, mode, 0)
        .expect("a writable place");
    let new = |file: OpenFile| file.write(true).create(true);
    let text = Bytes::from_static(b"text");
    for ring in RINGS {
        let office = Office::new(ring);
        let last = |asks: Vec<Ask>| office.ask(asks).pop().expect("an answer");
        let errno = |said| match said {
            Said::Failed(_, errno) => errno,
            said => panic!("{ring}: {said:?}"),
        };
        let full = [Ask::Open(OpenFile::at("/dev/full").write(true)), Ask::Write(0, text.clone())];
        assert_eq!(errno(last(full.to_vec())), Some(libc::ENOSPC));
        let only_read = [Ask::Open(OpenFile::at(place.at("there"))), Ask::Write(0, text.clone())];
        assert_eq!(errno(last(only_read.to_vec())), Some(libc::EBADF));
        let far = [Ask::Open(new(OpenFile::at(place.at("there")))), Ask::Write(1 << 63, text.clone())];
        assert_eq!(errno(last(far.to_vec())), Some(libc::EINVAL));
        let no_disk = [Ask::Open(OpenFile::at("/dev/null")), Ask::Sync { data_only: false }];
        assert_eq!(errno(last(no_disk.to_vec())), Some(libc::EINVAL));
        let names = [
            Change::create_dir(place.at("dir")),
            Change::rename(place.at("dir"), place.at("renamed")),
            Change::remove_dir(place.at("renamed")),
        ];
        assert_eq!(office.ask(names.map(Ask::Change)), [Said::Done, Said::Done, Said::Done], "{ring}");
        assert_eq!(errno(last(vec![Ask::Change(Change::remove_dir(&place.0))])), Some(libc::ENOTEMPTY));
        assert_eq!(errno(last(vec![Ask::Change(Change::remove_file(&place.0))])), Some(libc::EISDIR));
        // A pipe has no offsets, and nobody waits until somebody writes to it.
        let read_pipe = [Ask::Open(OpenFile::at(place.at("pipe")).write(true).read(true)), Ask::Read(0, 1)];
        assert_eq!(errno(last(read_pipe.to_vec())), Some(libc::ESPIPE));
        let fill_pipe = [read_pipe[0].clone(), Ask::Write(0, content(1, 100_000))];
        assert_eq!(errno(last(fill_pipe.to_vec())), Some(libc::ESPIPE));
        // A directory can be synced, and not be written.
        let directory = [Ask::Open(OpenFile::at(place.at("below"))), Ask::Sync { data_only: false }];
        assert_eq!(last(directory.to_vec()), Said::Done, "{ring}");
        assert_eq!(errno(last(vec![Ask::Open(new(OpenFile::at(&place.0)))])), Some(libc::EISDIR));
        let missing = new(OpenFile::at(place.at("no/where")));
        assert_eq!(errno(last(vec![Ask::Open(missing)])), Some(libc::ENOENT));
        let outside = new(OpenFile::beneath(Arc::clone(&root), "../outside"));
        assert_eq!(errno(last(vec![Ask::Open(outside)])), Some(libc::EXDEV));
        let beneath = new(OpenFile::beneath(Arc::clone(&root), ring.to_string()));
        assert_eq!(last(vec![Ask::Open(beneath), Ask::Write(0, text.clone())]), Said::Count(4), "{ring}");
        assert_eq!(fs::read(place.at("below").join(ring.to_string())).expect("it was made"), b"text");
        assert_eq!(fs::read(place.at("there")).expect("untouched"), b"content");
        assert!(!place.at("outside").exists());
    }
}

/// Who asked for it is gone at once, and so is the server soon after.
#[test]
fn what_was_asked_for_is_written_to_its_end() {
    for ring in RINGS {
        let place = Place::new();
        let (path, bytes) = (place.at("file"), content(3, 4 << 20));
        let (theirs, at) = (bytes.clone(), path.clone());
        let server = Server::new().listen("127.0.0.1:0").workers(1).ring(ring).serve(move || {
            let (bytes, path) = (theirs.clone(), at.clone());
            Told(move |event, cx: &mut Context<'_>| match event {
                Event::Open => {
                    cx.open_file(OpenFile::at(&path).write(true).create(true));
                    Flow::Wait
                }
                Event::Answer(_, Answer::Opened(file)) => {
                    cx.write_file(&file.expect("a writable place"), 0, bytes.clone());
                    Flow::Abort
                }
                _ => Flow::Wait,
            })
        });
        let server = server.expect("a free port of loopback");
        let client = client(tcp(&server));
        until("its connection is over", || counted(&server).closed == 1);
        server.stop();
        server.wait().expect("an orderly end");
        assert!(fs::read(&path).expect("it was made") == bytes, "{ring}");
        drop(client);
    }
}

/// Bytes of which a part is the user's, and goes off when it is dropped.
struct Bomb([u8; 4]);

impl AsRef<[u8]> for Bomb {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        // Without a word on the terminal.
        std::panic::resume_unwind(Box::new("on purpose"));
    }
}

#[test]
fn bytes_that_panic_when_they_are_dropped_harm_nobody() {
    for ring in RINGS {
        let (place, office) = (Place::new(), Office::new(ring));
        let bomb = || Ask::Write(0, Bytes::from_owner(Bomb(*b"bomb")));
        let said = office.ask([Ask::Open(fresh(&place.at("file"))), bomb(), Ask::Read(0, 10)]);
        assert_eq!(said, [Said::Done, Said::Count(4), Said::Bytes(b"bomb".to_vec())], "{ring}");
        nothing_held(&office.server);
    }
}

/// Reads that wait for memory are no reason for writes to wait, which need none.
#[test]
fn writes_need_no_file_buffer() {
    let place = Place::new();
    fs::write(place.at("there"), vec![b'a'; 1000]).expect("a writable place");
    let (report, reports) = mpsc::channel();
    let (there, new) = (place.at("there"), place.at("new"));
    let config = Config { file_buffers: 1, file_buffer_len: 4096, ..Config::default() };
    let server = Server::new().listen("127.0.0.1:0").workers(1).config(config).serve(move || {
        let (there, new, report) = (there.clone(), new.clone(), report.clone());
        let mut kept = Vec::new();
        Told(move |event, cx: &mut Context<'_>| {
            match event {
                Event::Open => _ = cx.open_file(OpenFile::at(&there)),
                Event::Answer(_, Answer::Opened(file)) if kept.is_empty() => {
                    cx.read_file(&file.expect("it is there"), 0, 1000);
                }
                Event::Answer(_, Answer::Read(bytes)) => {
                    kept.push(bytes.expect("it can be read"));
                    cx.open_file(OpenFile::at(&new).write(true).create(true));
                }
                // What was read is written, while it keeps the only buffer.
                Event::Answer(_, Answer::Opened(file)) => {
                    cx.write_file(&file.expect("a writable place"), 0, kept[0].clone());
                }
                Event::Answer(_, Answer::Written(n)) => {
                    report.send(n.expect("a writable place")).expect("the test waits");
                }
                _ => {}
            }
            Flow::More(1)
        })
    });
    let server = server.expect("a free port of loopback");
    let client = client(tcp(&server));
    assert_eq!(reports.recv_timeout(LONG).expect("a report"), 1000);
    assert_eq!(fs::read(place.at("new")).expect("it was made"), [b'a'; 1000]);
    drop(client);
    nothing_held(&server);
}
