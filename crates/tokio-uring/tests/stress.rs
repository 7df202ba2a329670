//! Wakes from everywhere, and none of them lost: each client waits for its answer, and for no longer than the watchdog
//! lets it.

mod support;

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use campanile::Stream;
use support::common::{client, round};
use support::{host, hosts, server};
use tokio::sync::oneshot;

const CLIENTS: usize = 4;
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 60;

/// Hands each waker that comes to another thread, which wakes it some other time.
fn waking_thread() -> mpsc::Sender<oneshot::Sender<()>> {
    let (ask, asked) = mpsc::channel::<oneshot::Sender<()>>();
    thread::spawn(move || {
        let mut waiting = VecDeque::new();
        let mut turn = 0;
        loop {
            // One that waits is answered when the next comes, or a moment later.
            match asked.recv_timeout(Duration::from_micros(50 * (turn % 4))) {
                Ok(asker) => waiting.push_back(asker),
                Err(mpsc::RecvTimeoutError::Disconnected) if waiting.is_empty() => return,
                Err(_) => {}
            }
            turn += 1;
            if turn % 3 > 0 {
                // Whoever asked may have gone.
                let _ = waiting.pop_front().map(|asker| asker.send(()));
            }
        }
    });
    ask
}

/// Waits by the kind that the client asks for, and sends that byte back.
async fn wait_and_answer(ask: mpsc::Sender<oneshot::Sender<()>>, mut stream: Stream) -> std::io::Result<()> {
    while stream.fill(1).await? > 0 {
        let kinds = stream.take(1);
        match kinds[0] % 6 {
            // Nobody: it goes on at once.
            0 => {}
            // A task of the runtime's, on this thread.
            1 => tokio::task::spawn_local(tokio::task::yield_now()).await.expect("it does not panic"),
            // A thread of the runtime's.
            2 => tokio::task::spawn_blocking(|| ()).await.expect("it does not panic"),
            // A thread that nobody knows.
            3 => {
                let (tell, told) = oneshot::channel();
                ask.send(tell).expect("the thread waits");
                told.await.expect("it tells");
            }
            // Itself, from within its own turn.
            4 => tokio::task::yield_now().await,
            // A waker that is called before anybody waits.
            _ => woken_early().await,
        }
        stream.send(kinds).await?;
    }
    Ok(())
}

/// Is pending once, and woken by another thread perhaps before that is known.
async fn woken_early() {
    let mut is_first = true;
    std::future::poll_fn(move |cx| {
        if !std::mem::take(&mut is_first) {
            return Poll::Ready(());
        }
        let waker: Waker = cx.waker().clone();
        drop(tokio::task::spawn_blocking(move || waker.wake()));
        Poll::Pending
    })
    .await;
}

/// One client: all of its connections ask, and then all of them read.
fn ask(to: SocketAddr, seed: usize) {
    let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| client(to)).collect();
    for turn in 0..ROUNDS {
        let kind = |at: usize| (seed * 7 + at * 5 + turn * 11) as u8;
        for (at, stream) in streams.iter_mut().enumerate() {
            stream.write_all(&[kind(at)]).expect("the server reads");
        }
        for (at, stream) in streams.iter_mut().enumerate() {
            let mut answer = [0];
            let read = stream.read_exact(&mut answer);
            read.unwrap_or_else(|error| panic!("no answer of kind {}: {error}", kind(at) % 6));
            assert_eq!(answer, [kind(at)]);
        }
    }
}

#[test]
fn no_wake_is_lost_wherever_it_comes_from() {
    for (block_on, ring) in hosts() {
        let ask_thread = waking_thread();
        let make = || {
            let serve = async move |stream: Stream| wait_and_answer(ask_thread.clone(), stream).await;
            server(ring).host(serve).expect("a server")
        };
        host(block_on, make, |to| {
            thread::scope(|scope| {
                for seed in 0..CLIENTS {
                    scope.spawn(move || ask(to, seed));
                }
            });
        });
    }
}

/// The worker falls asleep after each answer, and the next request comes just then: by one client, which answers as
/// fast as it can, and by one that takes a little longer each time.
#[test]
fn no_completion_is_lost_while_the_worker_falls_asleep() {
    for (block_on, ring) in hosts() {
        host(
            block_on,
            || server(ring).host(|| support::common::echo).expect("a server"),
            |to| {
                thread::scope(|scope| {
                    for pause in [0, 1] {
                        scope.spawn(move || {
                            let mut stream = client(to);
                            for turn in 0..3000u32 {
                                let bytes = turn.to_le_bytes();
                                assert_eq!(round(&mut stream, &bytes).expect("an echo"), bytes);
                                (0..pause * (turn % 500)).for_each(|_| std::hint::spin_loop());
                            }
                        });
                    }
                });
            },
        );
    }
}
