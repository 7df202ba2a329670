//! Async handlers over the kernel: streams, tasks and sleeps, as clients and other threads see them.

mod support;

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use campanile_core::{
    Address, Config, Connect, ConnectError, JoinError, Server, Stream, connect, sleep, spawn, timeout,
};
use futures::future::join_all;
use support::{client, counted, tcp};

async fn echo(mut stream: Stream) -> std::io::Result<()> {
    while stream.fill(1).await? > 0 {
        let bytes = stream.take(usize::MAX);
        stream.send(bytes).await?;
    }
    Ok(())
}

#[test]
fn an_async_function_serves() {
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(echo).expect("a free port");
    let mut client = client(tcp(&server));
    for len in [1usize, 10, 5_000, 300_000] {
        let sent: Vec<u8> = (0..len).map(|n| n as u8).collect();
        let mut writer = client.try_clone().expect("a socket");
        let bytes = sent.clone();
        let writing = std::thread::spawn(move || writer.write_all(&bytes));
        let mut got = vec![0; len];
        client.read_exact(&mut got).expect("an echo");
        assert!(got == sent);
        writing.join().expect("no panic").expect("it is read");
    }
    client.shutdown(std::net::Shutdown::Write).expect("a socket");
    assert_eq!(client.read(&mut [0]).expect("an end"), 0);
}

/// A handler that connects, sleeps, spawns and waits with a deadline.
#[test]
fn a_handler_waits_for_whatever_there_is() {
    let upstream = Server::new().listen("127.0.0.1:0").workers(1).serve(echo).expect("a free port");
    let to: Address = tcp(&upstream).into();
    let handler = move |to: Address| async move {
        sleep(Duration::from_millis(5)).await;
        let mut there = connect(to).await?;
        there.write(b"hello").await?;
        let mut answer = [0; 5];
        there.read_exact(&mut answer).await?;
        let length = spawn(async move { answer.len() }).await.expect("no panic");
        assert!(timeout(Duration::from_millis(5), there.fill(1)).await.is_err());
        std::io::Result::Ok(format!("{length} {}", String::from_utf8_lossy(&answer)))
    };
    let serve = async move |mut stream: Stream| -> std::io::Result<()> {
        let text = handler(to.clone()).await?;
        let peer = stream.peer_addr().await?;
        stream.write(format!("{text} {peer}").as_bytes()).await
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(serve).expect("a free port");
    let mut client = client(tcp(&server));
    let mut text = String::new();
    client.read_to_string(&mut text).expect("an answer");
    assert_eq!(text, format!("5 hello {}", client.local_addr().expect("a socket")));
}

/// What the handler leaves behind when it ends is not cut with it.
#[test]
fn a_stream_outlives_its_handler_in_a_task() {
    let serve = async |stream: Stream| drop(spawn(echo(stream)));
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(serve).expect("a free port");
    let mut client = client(tcp(&server));
    for round in 0..3u8 {
        client.write_all(&[round; 1000]).expect("it is read");
        let mut got = [9; 1000];
        client.read_exact(&mut got).expect("an echo");
        assert_eq!(got, [round; 1000]);
    }
}

#[test]
fn both_addresses_are_asked_for_at_once_and_twice() {
    let serve = async |mut stream: Stream| -> std::io::Result<()> {
        let all = {
            let stream = &stream;
            let peers = join_all([stream.peer_addr(), stream.peer_addr(), stream.peer_addr()]);
            futures::join!(peers, stream.local_addr(), stream.peer_addr())
        };
        let (peers, local, peer) = (all.0, all.1?, all.2?);
        for other in peers {
            assert_eq!(other?, peer);
        }
        stream.write(format!("{peer} {local}").as_bytes()).await
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(serve).expect("a free port");
    let mut client = client(tcp(&server));
    let mut text = String::new();
    client.read_to_string(&mut text).expect("an answer");
    assert_eq!(text, format!("{} {}", client.local_addr().expect("a socket"), tcp(&server)));
}

/// Panics when it is dropped, without a word to standard error.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("a bomb"));
    }
}

/// Whatever is dropped may panic, and costs nobody else anything: results that nobody wants, and what is left of a
/// handler or a task.
#[test]
fn what_panics_when_it_is_dropped_costs_no_other_connection() {
    let serve = async |mut stream: Stream| {
        drop(spawn(async { Bomb }));
        let aborted = spawn(async {
            let _bomb = Bomb;
            std::future::pending::<()>().await;
        });
        sleep(Duration::from_millis(1)).await;
        aborted.abort();
        assert_eq!(aborted.await, Err(JoinError::Cancelled));
        stream.write(b"x").await.expect("it is there");
        stream.flush().await.expect("it is there");
        drop(Bomb);
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(serve).expect("a free port");
    for _ in 0..3 {
        let mut client = client(tcp(&server));
        client.read_exact(&mut [0]).expect("a byte");
        assert!(client.read(&mut [0]).is_err(), "a panic resets its connection");
    }
    server.stop();
    server.wait().expect("it ends well");
}

/// Who waits for somebody else's answer is no idle reader: its client gets all of it.
#[test]
fn a_drain_ends_idle_handlers_and_waits_for_busy_ones() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let upstream = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let to: Address = upstream.local_addr().expect("a socket").into();
    let answering = std::thread::spawn(move || {
        let (mut socket, _) = upstream.accept().expect("somebody");
        wait.recv().expect("a word");
        socket.write_all(b"answer").expect("it is read");
        // Kept open by the other side's pool.
        assert_eq!(socket.read(&mut [0]).expect("an end"), 0);
    });
    let serve = async move |mut stream: Stream| -> std::io::Result<()> {
        while stream.fill(1).await? > 0 {
            let asked = stream.take(usize::MAX);
            if asked == b"idle"[..] {
                stream.write(b"idle").await?;
                continue;
            }
            let mut there = connect(to.clone()).await?;
            stream.write(b"busy").await?;
            let mut answer = [0; 6];
            there.read_exact(&mut answer).await?;
            stream.write(&answer).await?;
            // It waits for the next use of its connection.
            spawn(async move { there.fill(1).await });
        }
        Ok(())
    };
    let server = Server::new()
        .config(Config { drain_time: Duration::from_secs(3600), ..Config::default() })
        .listen("127.0.0.1:0")
        .workers(1)
        .serve(serve)
        .expect("a free port");
    let mut idle = client(tcp(&server));
    let mut busy = client(tcp(&server));
    for (client, word) in [(&mut idle, b"idle"), (&mut busy, b"busy")] {
        client.write_all(word).expect("it is read");
        let mut got = [0; 4];
        client.read_exact(&mut got).expect("an answer");
        assert_eq!(&got, word);
    }
    server.drain();
    assert_eq!(idle.read(&mut [0]).expect("an end"), 0);
    drop(idle);
    go.send(()).expect("it waits");
    let mut rest = String::new();
    busy.read_to_string(&mut rest).expect("an answer");
    assert_eq!(rest, "answer");
    server.wait().expect("it ends well");
    answering.join().expect("the pool let go");
}

/// Nobody waits for it any more, so its descriptor does not either.
#[test]
fn a_connect_that_is_dropped_is_given_up() {
    // Its queue is full, so that nobody gets in.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    full.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().expect("an address").into())
        .expect("a free port");
    full.listen(0).expect("a socket");
    let address = full.local_addr().expect("a socket").as_socket().expect("an address");
    let fill: Vec<_> =
        (0..4).map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(50))).collect();
    assert!(fill.iter().any(Result::is_err), "its queue is full");
    let to = Connect::to(Address::from(address)).deadline(Duration::from_secs(3600));
    let serve = async move |mut stream: Stream| {
        let tried = timeout(Duration::from_millis(20), connect(to.clone())).await;
        assert!(tried.is_err(), "it connects to nobody");
        stream.write(b"x").await.expect("it is there");
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(serve).expect("a free port");
    for _ in 0..10 {
        let mut client = client(tcp(&server));
        client.read_exact(&mut [0]).expect("a byte");
    }
    support::until("those who tried are gone", || counted(&server).connections == 0);
}

/// Who does not read is not written to for longer than there is memory for it, and gets all when it does.
#[test]
fn a_slow_reader_is_written_to_within_bounds() {
    const CHUNK: usize = 50_000;
    const CHUNKS: usize = 1_000;
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    let serve = async |mut stream: Stream| -> std::io::Result<()> {
        for n in 0..CHUNKS {
            stream.write(&[n as u8; CHUNK]).await?;
            WRITTEN.fetch_add(1, Ordering::SeqCst);
        }
        stream.shutdown().await
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(serve).expect("a free port");
    let mut client = client(tcp(&server));
    // What it has written stops to grow, while turns go by.
    let mut before = (0, 0);
    support::until("it waits for its reader", || {
        let now = (WRITTEN.load(Ordering::SeqCst), counted(&server).turns);
        let rests = now.0 > 0 && now.0 == before.0 && now.1 <= before.1 + 1;
        before = now;
        rests
    });
    assert!(before.0 < CHUNKS, "all of it was taken, and nobody has read any");
    let unsent = counted(&server).unsent_bytes;
    assert!(unsent <= 1 << 20, "{unsent} bytes wait in the connection");
    let mut got = Vec::new();
    client.read_to_end(&mut got).expect("all of it");
    assert_eq!(got.len(), CHUNK * CHUNKS);
    assert!(got.chunks(CHUNK).enumerate().all(|(n, chunk)| chunk.iter().all(|&byte| byte == n as u8)));
}

#[test]
fn either_side_may_end_first_and_go_on_reading() {
    let serve = async |mut stream: Stream| -> std::io::Result<()> {
        if stream.fill(1).await? == 0 {
            // The peer has ended, and is written to all the same.
            return stream.write(b"late").await;
        }
        stream.consume(1);
        stream.write(b"early").await?;
        stream.shutdown().await?;
        assert_eq!(stream.write(b"x").await.expect_err("it has ended").kind(), ErrorKind::BrokenPipe);
        let mut all = 0;
        while stream.fill(1).await? > 0 {
            all += stream.take(usize::MAX).len();
        }
        assert_eq!(all, 100_000);
        Ok(())
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(serve).expect("a free port");
    let mut text = String::new();
    let mut ends = client(tcp(&server));
    ends.shutdown(std::net::Shutdown::Write).expect("a socket");
    ends.read_to_string(&mut text).expect("an answer");
    let mut goes_on = client(tcp(&server));
    goes_on.write_all(b"x").expect("it is read");
    goes_on.read_to_string(&mut text).expect("an answer");
    assert_eq!(text, "lateearly");
    goes_on.write_all(&[1; 100_000]).expect("it is read");
    drop(goes_on);
    support::nothing_held(&server);
    assert_eq!(counted(&server).panicked, 0);
}

#[test]
fn a_reset_is_an_error_to_one_side_and_an_abort_to_the_other() {
    let (tell, told) = std::sync::mpsc::channel();
    let serve = async move |mut stream: Stream| {
        stream.write(b"x").await.expect("it is there");
        if stream.fill(1).await.is_ok_and(|filled| filled > 0) {
            return stream.abort();
        }
        // It goes on, as a task, when the connection is over.
        sleep(Duration::from_millis(1)).await;
        let error = stream.write(b"x").await.expect_err("nobody is there");
        assert!(stream.is_over() && stream.peer_addr().await.is_err());
        tell.send(error.kind()).expect("it is waited for");
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(serve).expect("a free port");
    let mut resets = client(tcp(&server));
    resets.read_exact(&mut [0]).expect("a byte");
    support::reset(resets);
    assert_eq!(told.recv_timeout(support::LONG).expect("it goes on"), ErrorKind::ConnectionReset);
    let mut aborted = client(tcp(&server));
    aborted.read_exact(&mut [0]).expect("a byte");
    aborted.write_all(b"x").expect("it is read");
    assert_eq!(aborted.read(&mut [0]).expect_err("a reset").kind(), ErrorKind::ConnectionReset);
    support::nothing_held(&server);
}

#[test]
fn connecting_fails_for_a_reason_that_is_known() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let refused = unused.local_addr().expect("a socket");
    drop(unused);
    let serve = async move |mut stream: Stream| -> std::io::Result<()> {
        let error = connect(Address::from(refused)).await.expect_err("nobody listens");
        assert_eq!(error, ConnectError::Refused(refused.into()));
        let missing = Address::unix("/nowhere/at/all");
        let error = connect(missing.clone()).await.expect_err("nobody listens");
        assert_eq!(error, ConnectError::Refused(missing));
        stream.write(b"both").await
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(serve).expect("a free port");
    let mut text = String::new();
    client(tcp(&server)).read_to_string(&mut text).expect("an answer");
    assert_eq!((text.as_str(), counted(&server).panicked), ("both", 0));
}

/// All of them are stopped while they wait.
#[test]
fn thousands_of_handlers_wait_and_are_stopped() {
    const HANDLERS: usize = 1_000;
    let serve = async |mut stream: Stream| -> std::io::Result<()> {
        stream.write(b"x").await?;
        let (mut from, _to) = stream.into_split();
        futures::try_join!(from.fill(1), async {
            sleep(Duration::from_secs(3600)).await;
            Ok(())
        })?;
        Ok(())
    };
    let server = Server::new().listen("127.0.0.1:0").workers(2).serve(serve).expect("a free port");
    let clients: Vec<_> = (0..HANDLERS).map(|_| client(tcp(&server))).collect();
    for mut client in &clients {
        client.read_exact(&mut [0]).expect("a byte");
    }
    assert_eq!(counted(&server).sleeps as usize, HANDLERS);
    server.stop();
    server.wait().expect("it ends well");
    for mut client in clients {
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    }
}

/// What looks after the state of a worker is spawned where that is made.
#[test]
fn the_state_of_a_worker_may_spawn() {
    let state = |_| {
        let ticks = Rc::new(Cell::new(0));
        let counted = Rc::clone(&ticks);
        drop(spawn(async move {
            loop {
                sleep(Duration::from_millis(2)).await;
                counted.set(counted.get() + 1);
            }
        }));
        ticks
    };
    let wait = async |ticks: Rc<Cell<u32>>, mut stream: Stream| {
        while ticks.get() < 3 {
            sleep(Duration::from_millis(1)).await;
        }
        stream.write(b"three").await
    };
    let server =
        Server::new().listen("127.0.0.1:0").workers(1).handle_with(state, wait).expect("a free port");
    let mut text = String::new();
    client(tcp(&server)).read_to_string(&mut text).expect("an answer");
    assert_eq!(text, "three");
}
