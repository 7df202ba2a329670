//! A worker inside of tokio and of tokio-uring: what handlers wait for there, and who is woken by whom.

mod support;

use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use campanile::{Context, Event, Flow, Service, Stream, connect};
use campanile_tokio_uring::run;
use support::common::{client, echo, round};
use support::{RINGS, StopsOnDrop, address, has_uring, host, hosts, server, tokio_uring};
use tokio::time::sleep;
use tokio_uring::fs::File;

const NAP: Duration = Duration::from_millis(20);

/// Asks `times` times, and reads a line each time.
fn ask(to: SocketAddr, times: usize) -> Vec<String> {
    let mut reader = BufReader::new(client(to));
    let asked = |_| {
        reader.get_mut().write_all(b"?").expect("the server reads");
        let mut line = String::new();
        reader.read_line(&mut line).expect("the server answers");
        line
    };
    (0..times).map(asked).collect()
}

/// For each byte that comes: reads the first line of a file through tokio-uring, sleeps on tokio's timer, and answers.
async fn reads_and_sleeps(mut stream: Stream) -> std::io::Result<()> {
    while stream.fill(1).await? > 0 {
        stream.consume(1);
        let file = File::open("Cargo.toml").await?;
        let (read, bytes) = file.read_at(vec![0; 4096], 0).await;
        let line = bytes[..read?].split_inclusive(|byte| *byte == b'\n').next().expect("a line").to_owned();
        file.close().await?;
        sleep(Duration::from_millis(2)).await;
        stream.write(&line).await?;
    }
    Ok(())
}

#[test]
fn handlers_read_files_by_tokio_uring_and_sleep_on_the_timer_of_tokio() {
    for ring in RINGS.into_iter().filter(|_| has_uring()) {
        let make = || server(ring).host(reads_and_sleeps).expect("a server");
        host(tokio_uring, make, |to| {
            let clients = [(); 4].map(|()| thread::spawn(move || ask(to, 10)));
            for client in clients {
                assert_eq!(client.join().expect("all is answered"), ["[package]\n"; 10], "{ring:?}");
            }
        });
    }
}

/// A handler that says `late` three times, each after a nap.
fn says_late_and_not_early(late: impl AsyncFn(Stream) -> std::io::Result<()> + Copy + Send + Sync + 'static) {
    for (block_on, ring) in hosts() {
        host(
            block_on,
            || server(ring).host(late).expect("a server"),
            |to| {
                let began = Instant::now();
                let mut said = String::new();
                client(to).read_to_string(&mut said).expect("an orderly end");
                assert_eq!(said, "late\nlate\nlate\n");
                assert!(began.elapsed() >= 3 * NAP, "{ring:?}: too early");
            },
        );
    }
}

/// Nothing else happens in the meantime: neither at the sockets nor at the timers of the worker.
#[test]
fn an_idle_worker_is_woken_by_a_timer_of_tokio_alone() {
    let late = async |mut stream: Stream| {
        for _ in 0..3 {
            sleep(NAP).await;
            stream.write(b"late\n").await?;
        }
        Ok::<_, std::io::Error>(())
    };
    says_late_and_not_early(late);
}

/// A service without a future: a task of the runtime's wakes it, outside of its worker's turn.
#[derive(Default)]
struct Woken {
    is_time: Rc<Cell<bool>>,
}

impl Service for Woken {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        if let Event::Open = event {
            let (waker, is_time) = (cx.waker(), Rc::clone(&self.is_time));
            tokio::task::spawn_local(async move {
                sleep(NAP).await;
                is_time.set(true);
                waker.wake();
            });
        }
        if !self.is_time.get() {
            return Flow::Wait;
        }
        cx.output.write(b"now\n").expect("there is room");
        Flow::Finish
    }
}

#[test]
fn a_task_of_the_runtime_wakes_a_service_of_an_idle_worker() {
    for (block_on, ring) in hosts() {
        host(
            block_on,
            || server(ring).host(Woken::default).expect("a server"),
            |to| {
                let mut said = String::new();
                client(to).read_to_string(&mut said).expect("an orderly end");
                assert_eq!(said, "now\n");
            },
        );
    }
}

/// The worker's own timers: they are in time though it is the runtime that waits.
#[test]
fn the_timers_of_the_worker_go_on() {
    let late = async |mut stream: Stream| {
        for _ in 0..3 {
            campanile::sleep(NAP).await;
            stream.write(b"late\n").await?;
        }
        Ok::<_, std::io::Error>(())
    };
    says_late_and_not_early(late);
}

/// A task of the runtime's has the stream, and uses it when it is not the worker's turn: what it leaves there is seen.
#[test]
fn a_stream_may_go_to_a_task_of_the_runtime() {
    let away = async |mut stream: Stream| {
        let task = tokio::task::spawn_local(async move {
            while stream.fill(1).await? > 0 {
                let bytes = stream.take(usize::MAX);
                sleep(Duration::from_millis(1)).await;
                stream.write(&bytes).await?;
            }
            Ok::<_, std::io::Error>(())
        });
        task.await.expect("it does not panic")
    };
    for (block_on, ring) in hosts() {
        host(
            block_on,
            || server(ring).host(away).expect("a server"),
            |to| {
                let mut stream = client(to);
                for round_trip in 0..20u8 {
                    assert_eq!(round(&mut stream, &[round_trip; 100]).expect("an echo"), [round_trip; 100]);
                }
                stream.shutdown(Shutdown::Write).expect("it is connected");
                assert_eq!(stream.read(&mut [0]).expect("an orderly end"), 0, "{ring:?}");
            },
        );
    }
}

/// Two workers on one thread, one of which connects to the other.
#[test]
fn two_workers_share_a_thread() {
    for (block_on, ring) in hosts() {
        let back = server(ring).host(|| echo).expect("a server");
        let (to, stop) = (address(&back), StopsOnDrop(back.stopper()));
        let relay = async move |mut stream: Stream| -> std::io::Result<()> {
            let mut behind = connect(to).await.map_err(std::io::Error::other)?;
            while stream.fill(1).await? > 0 {
                let bytes = stream.take(usize::MAX);
                let len = bytes.len();
                behind.send(bytes).await?;
                behind.fill(len).await?;
                let bytes = behind.take(len);
                stream.send(bytes).await?;
            }
            Ok(())
        };
        // The first is made before there is a runtime, and the second in it; both run on this thread.
        let back = RefCell::new(Some(back));
        let make = || {
            let back = back.take().expect("it is made once");
            tokio::task::spawn_local(async move { run(back).await.expect("it runs until it is stopped") });
            server(ring).host(relay).expect("a server")
        };
        host(block_on, make, move |to| {
            let _stop = stop;
            let mut stream = client(to);
            for round_trip in 0..20u8 {
                assert_eq!(round(&mut stream, &[round_trip; 100]).expect("an echo"), [round_trip; 100]);
            }
        });
    }
}

/// Has the worker call again in its next turn, so that it is never idle.
async fn yield_to_the_worker() {
    let mut is_first = true;
    std::future::poll_fn(|cx| {
        if std::mem::take(&mut is_first) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

/// A worker that is never idle still lets the runtime see its timers, and tokio-uring submit, which it does where the
/// runtime parks.
#[test]
fn a_busy_worker_holds_nobody_up() {
    let serve = async |mut stream: Stream| {
        stream.fill(1).await?;
        if stream.unread().first() == Some(&b'?') {
            return reads_and_sleeps(stream).await;
        }
        let busy = campanile::spawn(async {
            loop {
                yield_to_the_worker().await;
            }
        });
        // Until the client has gone.
        while stream.fill(1).await? > 0 {
            stream.consume(1);
            stream.write(b"!").await?;
        }
        busy.abort();
        Ok(())
    };
    for ring in RINGS.into_iter().filter(|_| has_uring()) {
        host(
            tokio_uring,
            || server(ring).host(serve).expect("a server"),
            |to| {
                let mut busy = client(to);
                assert_eq!(round(&mut busy, b"!").expect("it is busy now"), b"!");
                assert_eq!(ask(to, 20), ["[package]\n"; 20], "{ring:?}");
                assert_eq!(round(&mut busy, b"!").expect("it is busy still"), b"!");
            },
        );
    }
}
