//! How a hosted worker ends: stopped, drained, or dropped with the future that runs it.

mod support;

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use campanile::{ServeError, Server, Stream, Turned};
use campanile_tokio_uring::run;
use support::common::{alone, client, echo, process, role, round, succeeds, until};
use support::{address, has_uring, host, hosts, server};
use tokio::time::sleep;

/// Whether the peer is gone: by an end or by a reset.
fn is_over(mut stream: TcpStream) -> bool {
    match stream.read(&mut [0; 16]) {
        Ok(n) => n == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_stop_closes_everything() {
    for (block_on, ring) in hosts() {
        let (tell, told) = mpsc::channel();
        host(
            block_on,
            || server(ring).host(|| echo).expect("a server"),
            |to| {
                let mut stream = client(to);
                assert_eq!(round(&mut stream, b"there").expect("an echo"), b"there");
                tell.send((stream, to)).expect("the test goes on");
            },
        );
        let (stream, to) = told.recv().expect("it was sent");
        assert!(is_over(stream), "{ring:?}");
        assert!(TcpStream::connect(to).is_err(), "{ring:?}: nobody listens any more");
    }
}

/// A handler that waits for tokio's timer when the drain begins is waited for.
#[test]
fn a_drain_finishes_what_was_begun() {
    let slow = async |mut stream: Stream| -> std::io::Result<()> {
        while stream.fill(1).await? > 0 {
            stream.consume(1);
            stream.write(b"begun\n").await?;
            sleep(Duration::from_millis(100)).await;
            stream.write(b"finished\n").await?;
        }
        Ok(())
    };
    for (block_on, ring) in hosts() {
        block_on(Box::pin(async {
            let server = server(ring).host(slow).expect("a server");
            let (to, stopper) = (address(&server), server.stopper());
            let client = thread::spawn(move || {
                let mut stream = client(to);
                stream.write_all(b"?").expect("the server reads");
                let mut begun = [0; 6];
                stream.read_exact(&mut begun).expect("it has begun");
                stopper.drain();
                let mut rest = String::new();
                stream.read_to_string(&mut rest).map(|_| rest)
            });
            run(server).await.expect("it has drained");
            let rest = client.join().expect("it does not panic").expect("an orderly end");
            assert_eq!(rest, "finished\n", "{ring:?}");
            assert!(TcpStream::connect(to).is_err(), "{ring:?}: nobody listens any more");
        }));
    }
}

/// Tells when the handler that has it is dropped.
struct Dropped(Rc<Cell<u32>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Clients that were let in, and that wait.
fn waiting(to: SocketAddr) -> thread::JoinHandle<Vec<TcpStream>> {
    thread::spawn(move || {
        let mut streams: Vec<TcpStream> = (0..3).map(|_| client(to)).collect();
        for stream in &mut streams {
            assert_eq!(round(stream, b"in").expect("an echo"), b"in");
        }
        streams
    })
}

/// Handlers wait for the peer, for the runtime, and for a timer of the worker's when the future is dropped.
fn is_dropped(block_on: support::BlockOn, ring: campanile::RingKind) {
    let dropped = Rc::new(Cell::new(0));
    let held = Rc::clone(&dropped);
    block_on(Box::pin(async move {
        let begun = Rc::new(Cell::new(0));
        let serve = async move |mut stream: Stream| -> std::io::Result<()> {
            let _held = Dropped(Rc::clone(&held));
            stream.fill(2).await?;
            let bytes = stream.take(2);
            stream.send(bytes).await?;
            begun.set(begun.get() + 1);
            match begun.get() {
                1 => sleep(Duration::from_secs(3600)).await,
                2 => campanile::sleep(Duration::from_secs(3600)).await,
                _ => drop(stream.fill(1).await?),
            }
            Ok(())
        };
        let server = server(ring).host(serve).expect("a server");
        let to = address(&server);
        let clients = waiting(to);
        let mut running = Box::pin(run(server));
        // The runtime has its turn as long as the clients are not in.
        while !clients.is_finished() {
            let some_time = tokio::time::timeout(Duration::from_millis(1), &mut running);
            assert!(some_time.await.is_err(), "nobody stops it");
        }
        assert_eq!(dropped.get(), 0);
        drop(running);
        assert_eq!(dropped.get(), 3, "{ring:?}: every handler is gone");
        for stream in clients.join().expect("all were let in") {
            assert!(is_over(stream), "{ring:?}");
        }
        assert!(TcpStream::connect(to).is_err(), "{ring:?}: nobody listens any more");
    }));
}

#[test]
fn dropping_the_future_closes_everything() {
    for (block_on, ring) in hosts() {
        is_dropped(block_on, ring);
    }
}

/// In a process of its own, where nobody else opens descriptors.
#[test]
fn nothing_is_left_behind() {
    if role().is_none() {
        succeeds(alone("nothing_is_left_behind", "counts"));
        return;
    }
    for (block_on, ring) in hosts() {
        // What is opened once and for all is opened now.
        is_dropped(block_on, ring);
        let before = process::descriptors();
        for _ in 0..3 {
            is_dropped(block_on, ring);
        }
        until("every descriptor is closed", || process::descriptors() <= before);
    }
}

/// A server that was made and never run is closed as well, and so is one on a Unix socket.
#[test]
fn a_server_that_is_never_run_leaves_nothing() {
    let path = std::env::temp_dir().join(format!("campanile-hosted-{}.sock", std::process::id()));
    let listen = || Server::new().listen(format!("unix:{}", path.display()).as_str()).host(|| echo);
    let mut made = listen().expect("a server");
    assert!(path.exists());
    assert!(matches!(made.turn(), Ok(Turned::Idle(_))), "it has nothing to do");
    assert!(matches!(listen(), Err(ServeError::AddressInUse { .. })), "it listens");
    drop(made);
    assert!(!path.exists());
    drop(listen().expect("the address is free"));
}

/// The ring of tokio-uring and what it still has to do there are none of the worker's business when that is dropped.
#[test]
fn a_read_of_tokio_uring_may_be_under_way() {
    if !has_uring() {
        return;
    }
    let (tell, told) = mpsc::channel();
    tokio_uring::start(async {
        let serve = async move |mut stream: Stream| -> std::io::Result<()> {
            let file = tokio_uring::fs::File::open("Cargo.toml").await?;
            stream.write(b"begun").await?;
            // Not before the runtime parks, and by then it is dropped.
            let (read, _) = file.read_at(vec![0; 4096], 0).await;
            read.map(drop)
        };
        let server = Server::new().listen("127.0.0.1:0").host(serve).expect("a server");
        let to = address(&server);
        let reads = thread::spawn(move || {
            let mut stream = client(to);
            stream.read_exact(&mut [0; 5]).expect("it has begun");
            tell.send(()).expect("the test goes on");
            is_over(stream)
        });
        let mut running = Box::pin(run(server));
        while told.try_recv().is_err() {
            let some_time = tokio::time::timeout(Duration::from_millis(1), &mut running);
            assert!(some_time.await.is_err(), "nobody stops it");
        }
        drop(running);
        assert!(reads.join().expect("it does not panic"));
    });
}
