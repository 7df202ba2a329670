//! Async handlers over the kernel: streams, tasks and sleeps, as clients and other threads see them.

mod support;

use std::cell::Cell;
use std::io::{Read, Write};
use std::rc::Rc;
use std::time::Duration;

use campanile_core::{Address, Server, Stream, connect, sleep, spawn, timeout};
use support::{client, tcp};

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
    let wait = async |ticks: Rc<Rc<Cell<u32>>>, mut stream: Stream| {
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
