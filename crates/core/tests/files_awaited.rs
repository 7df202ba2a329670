//! Files that futures wait for: what handlers write and read on either ring, and futures that are dropped wherever they
//! wait, which leave nothing open and no buffer lent.

mod support;

use std::future::Future;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use campanile_core::{Config, File, OpenFile, RingKind, Server, ServerHandle, Stream, fs, spawn};
use support::{alone, client, counted, keyed, process, role, succeeds, tcp, until};

const RINGS: [RingKind; 2] = [RingKind::Uring, RingKind::Poll];

/// A directory that goes with the test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("campanile-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a writable place");
        Place(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A directory left behind is no failure.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn content(key: u64, len: usize) -> Vec<u8> {
    let mut content = vec![0; len];
    keyed::fill(key, 0, &mut content);
    content
}

/// Writes what comes to a file of its own, as it comes, and sends it back from there.
async fn store(place: &Path, stream: &mut Stream) -> io::Result<()> {
    let mut name = [0; 4];
    stream.read_exact(&mut name).await?;
    let path = place.join(String::from_utf8_lossy(&name).as_ref());
    let file = OpenFile::at(&path).write(true).create_new(true).open().await?;
    let mut at = 0;
    let mut writes = Vec::new();
    while stream.fill(1).await? > 0 {
        let bytes = stream.take(usize::MAX);
        let (file, from) = (file.clone(), at);
        at += bytes.len() as u64;
        writes.push(spawn(async move { file.write_at(from, bytes).await }));
    }
    for write in writes {
        write.await.map_err(io::Error::other)??;
    }
    file.sync_all().await?;
    assert_eq!(file.stat().await?.len, at);
    stream.send(fs::read(&path).await?.into()).await
}

#[test]
fn what_comes_is_stored_and_read_back() {
    for ring in RINGS {
        let place = Place::new("files-stored");
        let path = place.0.clone();
        let server = Server::new().listen("127.0.0.1:0").workers(2).ring(ring);
        let server = server.serve(async move |mut stream: Stream| store(&path, &mut stream).await);
        let server = server.expect("a free port of loopback");
        let lens = [0, 1, 70_000, 1_000_000];
        let clients: Vec<_> = (0..16u64)
            .map(|key| {
                let (mut client, sent) =
                    (client(tcp(&server)), content(key, lens[key as usize % lens.len()]));
                client.write_all(format!("{key:04}").as_bytes()).expect("room in the socket");
                std::thread::spawn(move || {
                    client.write_all(&sent).expect("the server reads");
                    client.shutdown(Shutdown::Write).expect("a socket");
                    let mut came = Vec::new();
                    client.read_to_end(&mut came).expect("an orderly end");
                    assert!(came == sent, "file {key}: {} of {} bytes", came.len(), sent.len());
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().expect("what was sent comes back"));
        at_rest(&server);
    }
}

/// All that can be awaited of files. Its length is not known to whoever drops it somewhere.
async fn everything(path: PathBuf) -> io::Result<()> {
    fs::write(&path, content(1, 200_000)).await?;
    let file = OpenFile::at(&path).read(true).write(true).open().await?;
    file.write_at(100_000, content(2, 150_000)).await?;
    file.sync_data().await?;
    file.sync_all().await?;
    assert_eq!(file.stat().await?.len, 250_000);
    let first = file.read_at(0, 1_000).await?;
    assert!(first == content(1, 1_000));
    let second = file.read_at(100_000, 100_000).await?;
    assert!(!second.is_empty() && second == content(2, second.len()));
    let whole = [content(1, 100_000), content(2, 150_000)].concat();
    assert!(fs::read(&path).await? == whole);
    assert!(file.read_at(250_000, 1).await?.is_empty());
    let none = File::open(path.with_extension("none")).await.expect_err("it is not there");
    assert_eq!(none.kind(), io::ErrorKind::NotFound);
    let full = OpenFile::at("/dev/full").write(true).open().await?.write_at(0, "x").await;
    assert_eq!(full.expect_err("it is full").kind(), io::ErrorKind::StorageFull);
    let beside = path.with_extension("beside");
    fs::rename(&path, &beside).await?;
    fs::remove_file(&beside).await?;
    fs::create_dir(&beside).await?;
    assert_eq!(fs::create_dir(&beside).await.expect_err("it is there").kind(), io::ErrorKind::AlreadyExists);
    fs::remove_dir(&beside).await?;
    let gone = fs::remove_file(&beside).await.expect_err("it is gone");
    assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    assert_eq!(fs::rename("a\0b", "c").await.expect_err("no name").kind(), io::ErrorKind::InvalidInput);
    // What was read is still there, though its file is closed.
    drop(file);
    assert!(first == content(1, 1_000));
    Ok(())
}

/// Polls a future so often, and then drops it: at once, or when it is woken again.
struct Dropped<F> {
    future: Option<Pin<Box<F>>>,
    polls: u8,
    at_once: bool,
}

impl<F: Future> Future for Dropped<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        if self.polls > 0 {
            self.polls -= 1;
            let future = self.future.as_mut().expect("it is there while there are polls left");
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            if self.polls > 0 || !self.at_once {
                return Poll::Pending;
            }
        }
        self.future = None;
        Poll::Ready(None)
    }
}

/// Reads after how many polls, and how; and tells whether it came to its end before.
async fn drop_somewhere(place: PathBuf, mut stream: Stream) -> io::Result<()> {
    let mut how = [0; 2];
    while stream.read_exact(&mut how).await.is_ok() {
        // What was dropped may have left something.
        let path = place.join(format!("{}-{}", how[0], how[1]));
        let future = Some(Box::pin(everything(path)));
        let done = Dropped { future, polls: how[0], at_once: how[1] == 1 }.await.transpose()?;
        stream.write(if done.is_some() { b"y" } else { b"n" }).await?;
    }
    Ok(())
}

fn at_rest(server: &ServerHandle) {
    until("nothing is done with files any more", || {
        let now = counted(server);
        (now.errands_waiting, now.errands_running, now.file_buffers, now.reads_waiting) == (0, 0, 0, 0)
    });
}

/// In a process of its own, since descriptors are counted.
#[test]
fn futures_are_dropped_wherever_they_wait() {
    const NAME: &str = "futures_are_dropped_wherever_they_wait";
    if role().is_none() {
        succeeds(alone(NAME, "alone"));
        return;
    }
    for ring in RINGS {
        // Whatever the process opens once and for all is open then.
        drop_after(ring, [u8::MAX..=u8::MAX, u8::MAX..=u8::MAX]);
        let before = process::descriptors();
        drop_after(ring, [0..=u8::MAX, 0..=u8::MAX]);
        until("every file is closed", || process::descriptors() == before);
    }
}

/// Has futures dropped after so many polls, at once and later, from the least on until one comes to its end before.
fn drop_after(ring: RingKind, polls: [RangeInclusive<u8>; 2]) {
    let place = Place::new("files-dropped");
    let path = place.0.clone();
    // A buffer that is not given back would soon be missed.
    let config = Config { file_buffers: 3, file_buffer_len: 100_000, ..Config::default() };
    let server = Server::new().listen("127.0.0.1:0").workers(1).config(config).ring(ring);
    let server = server.serve(move |stream: Stream| drop_somewhere(path.clone(), stream));
    let server = server.expect("a free port of loopback");
    let mut client = client(tcp(&server));
    let mut ask = |polls: u8, at_once: bool| {
        client.write_all(&[polls, u8::from(at_once)]).expect("the server reads");
        let mut done = [0];
        client.read_exact(&mut done).expect("an answer");
        at_rest(&server);
        done == *b"y"
    };
    for (mut polls, at_once) in polls.into_iter().zip([true, false]) {
        let enough = polls.find(|polls| ask(*polls, at_once)).expect("it comes to its end");
        assert!(enough >= 15, "{ring}: it waits {enough} times, and should more often");
    }
    assert_eq!(counted(&server).panicked, 0);
    drop(client);
    server.stop();
    server.wait().expect("an orderly end");
}
