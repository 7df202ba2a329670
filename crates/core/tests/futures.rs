//! What the `futures` crates offer, in handlers and tasks; and wakes from other threads while the worker sleeps.

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use campanile_core::{JoinError, Server, Stream, sleep, spawn};
use futures::channel::{mpsc, oneshot};
use futures::future::{join_all, select_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, SinkExt, StreamExt};
use support::{client, counted, tcp, until};

/// The answer of a server whose handler this is.
fn answer<F>(handler: F) -> String
where
    F: AsyncFn(&mut Stream) -> String + Send + Sync + 'static,
{
    let serve = async move |mut stream: Stream| {
        let text = handler(&mut stream).await;
        stream.write(text.as_bytes()).await
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(serve).expect("a free port");
    let mut client = client(tcp(&server));
    client.write_all(b"hello").expect("it is read");
    let mut text = String::new();
    client.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn futures_are_joined_selected_and_gathered() {
    let text = answer(async |stream| {
        let (five, seven) = futures::join!(stream.fill(5), async {
            sleep(Duration::from_millis(2)).await;
            7
        });
        // Nobody sends more, so the sleep is first; the read that is dropped has lost nothing.
        let first = futures::select! {
            _ = Box::pin(stream.fill(6)).fuse() => "read",
            () = Box::pin(sleep(Duration::from_millis(2))).fuse() => "slept",
        };
        let set: FuturesUnordered<_> = (0..50u64)
            .map(|n| async move {
                sleep(Duration::from_millis(50 - n)).await;
                n
            })
            .collect();
        let sum: u64 = set.fold(0, async |sum, n| sum + n).await;
        let joined = join_all((0..50).map(|n| spawn(async move { n }))).await;
        let all: u64 = joined.into_iter().map(|n| n.expect("no panic")).sum();
        let (one, _, rest) = select_all((0..3).map(|n| spawn(async move { n }))).await;
        let chunks: Vec<usize> =
            futures::stream::iter(0..10).chunks(4).map(|chunk| chunk.len()).collect().await;
        format!(
            "{} {seven} {first} {sum} {all} {} {} {chunks:?} {:?}",
            five.expect("it is there"),
            one.is_ok(),
            rest.len(),
            std::str::from_utf8(stream.unread())
        )
    });
    assert_eq!(text, "5 7 slept 1225 1225 true 2 [4, 4, 2] Ok(\"hello\")");
}

#[test]
fn channels_from_other_threads_wake_a_worker_that_sleeps() {
    let text = answer(async |_| {
        let (mut sender, mut numbers) = mpsc::channel::<u64>(1);
        let (tell, told) = oneshot::channel();
        let (back, from_worker) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for n in 0..200 {
                // Until there is a place: it is the worker that makes one.
                futures::executor::block_on(sender.send(n)).expect("it is received");
                // Until it has been taken: the worker has nothing more to do, and sleeps.
                from_worker.recv().expect("an answer");
            }
            tell.send("done").expect("it is waited for");
        });
        let mut sum = 0;
        while let Some(n) = numbers.next().await {
            sum += n;
            back.send(n).expect("it waits");
        }
        format!("{sum} {}", told.await.expect("it was sent"))
    });
    assert_eq!(text, "19900 done");
}

#[test]
fn a_task_brings_its_result_its_panic_or_its_end() {
    let serve = async |mut stream: Stream| {
        let mut fine = spawn(async { 1 });
        assert_eq!((&mut fine).await, Ok(1));
        assert!(fine.is_finished());
        let panicked = spawn(async { std::panic::resume_unwind(Box::new("on purpose")) }).await;
        let Err(JoinError::Panicked(panic)) = panicked else { panic!("{panicked:?}") };
        assert_eq!(panic.to_string(), "on purpose");
        let pending = spawn(std::future::pending::<()>());
        assert!(!pending.is_finished());
        pending.abort();
        assert!(pending.is_finished());
        assert_eq!(pending.await, Err(JoinError::Cancelled));
        stream.write(b"fine").await
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(serve).expect("a free port");
    let mut text = String::new();
    client(tcp(&server)).read_to_string(&mut text).expect("an answer");
    assert_eq!((text.as_str(), counted(&server).panicked), ("fine", 1));
    until("nothing is left of it", || counted(&server).tasks == 0);
}

/// Wakers that other threads keep, and use when the task, its connection and its worker are over.
#[test]
fn a_waker_that_is_used_late_wakes_nobody() {
    let (keep, kept) = std::sync::mpsc::channel();
    let serve = async move |_: Stream| {
        let keep = || {
            let keep = keep.clone();
            std::future::poll_fn(move |cx| {
                keep.send(cx.waker().clone()).expect("they are kept");
                std::task::Poll::Ready(())
            })
        };
        keep().await;
        spawn(keep()).await.expect("no panic");
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(serve).expect("a free port");
    let mut wakers = Vec::new();
    for _ in 0..20 {
        assert_eq!(client(tcp(&server)).read(&mut [0]).expect("an end"), 0);
        wakers.extend(kept.try_iter());
        wakers.iter().for_each(std::task::Waker::wake_by_ref);
    }
    assert_eq!(wakers.len(), 40);
    assert_eq!(counted(&server).panicked, 0);
    server.stop();
    server.wait().expect("it ends well");
    wakers.into_iter().for_each(std::task::Waker::wake);
}
