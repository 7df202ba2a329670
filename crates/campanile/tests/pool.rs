//! The pool: connections that are used again, those that are not, and who waits for one.

mod support;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use campanile::{Dial, Pool, PoolConfig, PoolError, Server, ServerHandle, Stream, sleep, spawn, timeout};

use support::common::{LONG, counted, tcp, until};
use support::worker::{idle, let_go_of_all, on};

/// Answers each line; `bye` by the end, `twice` by one answer too many, later.
async fn answer(mut stream: Stream) -> io::Result<()> {
    while let Some(line) = stream.read_line(16).await? {
        stream.write_line(&line).await?;
        match &line[..] {
            b"bye" => break,
            b"twice" => stream.write_line(&line).await?,
            _ => {}
        }
    }
    Ok(())
}

fn upstream() -> (ServerHandle, SocketAddr) {
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(answer).expect("a free port");
    let address = tcp(&server);
    (server, address)
}

fn pool(to: SocketAddr, config: &PoolConfig) -> Pool {
    Pool::new(Dial::from(to).deadline(LONG), PoolConfig { wait: LONG, ..config.clone() })
}

async fn ask(pool: &Pool, line: &str) -> bool {
    let mut stream = pool.get().await.expect("a connection");
    let is_used = stream.is_used();
    stream.write_line(line).await.expect("it is open");
    assert_eq!(stream.read_line(16).await.expect("it is open").as_deref(), Some(line.as_bytes()));
    stream.put_back();
    is_used
}

/// Waits on the worker, without end in sight: the test as a whole is bounded.
async fn until_so(mut condition: impl FnMut() -> bool) {
    while !condition() {
        sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn a_connection_is_used_again_and_only_if_it_is_put_back() {
    let (server, address) = upstream();
    let here = idle();
    on(&here, async move || {
        let pool = pool(address, &PoolConfig::default());
        assert!(!ask(&pool, "one").await);
        assert!(ask(&pool, "two").await);
        assert_eq!((pool.idle(), pool.in_use()), (1, 0));
        let lent = pool.get().await.expect("a connection");
        assert_eq!((pool.idle(), pool.in_use()), (0, 1));
        drop(lent);
        assert_eq!((pool.idle(), pool.in_use()), (0, 0));
        assert!(!ask(&pool, "three").await);
        assert!(!pool.get_new().await.expect("a connection").is_used());
    });
    until("three were accepted", || counted(&server).accepted == 3);
    let_go_of_all(&here);
}

#[test]
fn one_on_which_the_other_side_ended_or_said_more_is_not_handed_out() {
    let (_server, address) = upstream();
    let here = idle();
    on(&here, async move || {
        let pool = pool(address, &PoolConfig::default());
        for line in ["bye", "twice"] {
            // Whether or not it has heard of it when the connection is put back, it is gone soon.
            ask(&pool, line).await;
            until_so(|| pool.idle() == 0).await;
            assert!(!ask(&pool, "next").await, "after {line}");
            pool.clear();
        }
    });
    let_go_of_all(&here);
}

#[test]
fn idle_ones_are_bounded_in_number_and_time() {
    let (_server, address) = upstream();
    let here = idle();
    on(&here, async move || {
        let config = PoolConfig { idle: 2, idle_time: Duration::from_millis(50), ..PoolConfig::default() };
        let pool = pool(address, &config);
        let mut lent = Vec::new();
        for _ in 0..4 {
            lent.push(pool.get().await.expect("a connection"));
        }
        for one in lent {
            one.put_back();
            assert!(pool.idle() <= 2);
        }
        until_so(|| pool.idle() == 0).await;
    });
    let_go_of_all(&here);
}

#[test]
fn whoever_finds_all_in_use_waits_in_line_and_not_for_ever() {
    let (server, address) = upstream();
    let here = idle();
    on(&here, async move || {
        let config = PoolConfig { total: 2, ..PoolConfig::default() };
        let tasks: Vec<_> = {
            let pool = pool(address, &config);
            (0..50)
                .map(|n| {
                    let pool = pool.clone();
                    spawn(async move { ask(&pool, &n.to_string()).await })
                })
                .collect()
        };
        for task in tasks {
            task.await.expect("no panic");
        }
        let pool = Pool::new(Dial::from(address), PoolConfig { wait: Duration::from_millis(20), ..config });
        let lent = [pool.get().await.expect("a place"), pool.get().await.expect("a place")];
        let error = pool.get().await.expect_err("no third");
        assert!(matches!(error, PoolError::Busy { total: 2, .. }), "{error}");
        assert!(error.to_string().contains("raise PoolConfig::total"), "{error}");
        drop(timeout(Duration::from_millis(1), pool.get()).await);
        drop(lent);
        ask(&pool, "again").await;
        assert_eq!(pool.in_use(), 0);
    });
    assert!(counted(&server).accepted <= 2 + 2 + 1);
    let_go_of_all(&here);
}

#[test]
fn idle_ones_hold_up_no_drain_and_those_in_use_are_not_cut_by_it() {
    let (_server, address) = upstream();
    let (begun, has_begun) = std::sync::mpsc::channel();
    let serve = async move |mut stream: Stream| -> io::Result<()> {
        let pool = pool(address, &PoolConfig::default());
        ask(&pool, "kept").await;
        let mut lent = pool.get_new().await.expect("a connection");
        begun.send(()).expect("the test waits");
        // The end of input is the news of the drain: the client has not ended.
        assert_eq!(stream.fill(1).await?, 0);
        // Its answer is not at its end.
        assert!(timeout(Duration::from_millis(20), lent.fill(1)).await.is_err());
        // And what was begun may still need another.
        drop(pool.get_new().await.expect("a connection"));
        lent.write_line("last").await?;
        let last = lent.read_line(16).await?;
        // The idle one outlives this handler.
        spawn(async move {
            let _kept = pool;
            std::future::pending::<()>().await;
        });
        stream.write(&last.expect("a line")).await
    };
    let here = Server::new().listen("127.0.0.1:0").workers(1).serve(serve).expect("a free port");
    let mut client = std::net::TcpStream::connect(tcp(&here)).expect("it listens");
    has_begun.recv().expect("it begins");
    here.drain();
    let mut last = String::new();
    io::Read::read_to_string(&mut client, &mut last).expect("an answer");
    assert_eq!(last, "last");
    // Or it would be lingered for.
    drop(client);
    here.wait().expect("it ends well before its drain time");
}

#[test]
fn a_connection_that_may_not_be_idle_for_any_time_is_not_kept_and_holds_up_nobody() {
    let (server, address) = upstream();
    let here = idle();
    on(&here, async move || {
        let pool = pool(address, &PoolConfig { idle_time: Duration::ZERO, ..PoolConfig::default() });
        assert!(!ask(&pool, "one").await);
        sleep(Duration::from_millis(5)).await;
        assert_eq!((pool.idle(), pool.in_use()), (0, 0));
        assert!(!ask(&pool, "two").await);
    });
    until("two were accepted", || counted(&server).accepted == 2);
    let_go_of_all(&here);
}
