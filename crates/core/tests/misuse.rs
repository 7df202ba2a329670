//! Misuse: what services may do wrong, or ask too much of, costs their own connection and nobody else.

mod support;

use std::io::{Read, Write};
use std::panic::panic_any;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use campanile_core::{
    Answer, Bytes, Config, Connect, Context, Event, File, Flow, Input, OpenFile, Output, Server,
    ServerHandle, Service, on_open,
};
use support::{Told, client, counted, echo, process, round, tcp, until};

fn serve<S: Service + 'static>(config: Config, make: impl Fn() -> S + Send + Sync + 'static) -> ServerHandle {
    Server::new()
        .listen("127.0.0.1:0")
        .workers(1)
        .config(config)
        .serve(make)
        .expect("a free port of loopback")
}

#[test]
fn what_was_kept_of_an_input_that_was_put_aside_is_not_shown_again() {
    let server = serve(Config::default(), || {
        let mut kept = None;
        Told(move |event, cx: &mut Context<'_>| {
            match (event, &kept) {
                (Event::Input, None) => {
                    let mut real = std::mem::replace(&mut cx.input, Input::new(&mut [], false));
                    kept = Some(real.keep(5));
                    cx.output.write(b"kept ").expect("there is room at the beginning");
                }
                (Event::Input, Some(kept)) => {
                    cx.input.consume_all().fill(b'#');
                    cx.output.write(kept).expect("there is room");
                }
                _ => {}
            }
            Flow::More(1)
        })
    });
    assert_eq!(round(&mut client(tcp(&server)), b"hello worl").unwrap(), b"kept hello");
}

#[test]
fn an_input_that_claims_more_than_there_was_costs_nobody() {
    let server = serve(Config::default(), || {
        Told(|event, cx: &mut Context<'_>| {
            if matches!(event, Event::Input) {
                let mut other = Input::new(Box::leak(vec![0; 100_000].into()), false);
                other.consume_all();
                cx.output.write(b"ok").expect("there is room at the beginning");
                cx.input = other;
            }
            Flow::More(1)
        })
    });
    let mut client = client(tcp(&server));
    for _ in 0..3 {
        assert_eq!(round(&mut client, b"hi").unwrap(), b"ok");
    }
}

#[test]
fn what_earlier_calls_wrote_cannot_be_taken_back() {
    const LONG: usize = 16 << 20;
    let server = serve(Config::default(), || {
        Told(|event, cx: &mut Context<'_>| {
            if matches!(event, Event::Input) && cx.input.consume_all() == b"send" {
                cx.output.write(b"head").expect("there is room at the beginning");
                cx.output.send(vec![7; LONG].into()).expect("nothing is held");
            } else if matches!(event, Event::Input) {
                // The kernel has it: nothing of it may be let go.
                let unsent = cx.output.unsent();
                assert!(unsent > LONG / 2, "the client does not read");
                cx.output.write(b"more").expect("there is room beside what is held");
                cx.output.truncate(0);
                assert_eq!(cx.output.unsent(), unsent);
                return Flow::Finish;
            }
            Flow::More(1)
        })
    });
    let mut client = client(tcp(&server));
    client.write_all(b"send").unwrap();
    client.peek(&mut [0]).unwrap();
    client.write_all(b"take back").unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.len(), 4 + LONG);
    assert!(answer.starts_with(b"head") && answer[4..].iter().all(|&byte| byte == 7));
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a bomb");
    }
}

#[test]
fn a_panic_in_a_destructor_costs_its_own_connection() {
    let server = serve(Config::default(), || {
        let mut held = None;
        Told(move |event, cx: &mut Context<'_>| {
            if !matches!(event, Event::Input) {
                return Flow::More(1);
            }
            match cx.input.consume_all()[0] {
                // The service that becomes another.
                b'b' => {
                    held = Some(Bomb);
                    return Flow::Become(Box::new(echo));
                }
                // What was thrown.
                b't' => panic_any(Bomb),
                // What was learned.
                b'l' => cx.learn(Bomb),
                // The owner of what is sent.
                b's' => {
                    struct Owner(Vec<u8>, Bomb);
                    impl AsRef<[u8]> for Owner {
                        fn as_ref(&self) -> &[u8] {
                            &self.0
                        }
                    }
                    let bytes = Bytes::from_owner(Owner(vec![1; 100_000], Bomb));
                    cx.output.send(bytes).expect("nothing is held");
                }
                _ => drop(held.take()),
            }
            Flow::Finish
        })
    });
    for kind in [b"b", b"t", b"l", b"s"] {
        let mut client = client(tcp(&server));
        client.write_all(kind).unwrap();
        let mut answer = Vec::new();
        // The end or a reset, each is right.
        let read = client.read_to_end(&mut answer);
        drop(client);
        until("the connection is over", || counted(&server).connections == 0);
        let kind = char::from(kind[0]);
        assert!(kind != 's' || answer.len() == 100_000, "{kind}: {read:?} after {} bytes", answer.len());
    }
    // The owner of what was sent cost nothing but its own end.
    assert_eq!(server.counters()[0].panicked, 3);
    server.stop();
    server.wait().expect("no worker has panicked");
}

#[test]
fn never_is_not_at_once() {
    let never = Duration::MAX;
    let config = Config { send_stall: never, linger_time: never, drain_time: never, ..Config::default() };
    for late in [never, Duration::from_secs(u64::MAX / 999), Duration::from_secs(u64::MAX / 1_001)] {
        let server = serve(config.clone(), move || {
            Told(move |event, cx: &mut Context<'_>| {
                assert!(!matches!(event, Event::Timer), "it never comes early");
                cx.set_timer_in(late);
                if !matches!(event, Event::Closed(_)) {
                    echo(&mut cx.input, &mut cx.output);
                }
                Flow::More(1)
            })
        });
        let mut client = client(tcp(&server));
        assert_eq!(round(&mut client, b"hello").unwrap(), b"hello");
        let before = counted(&server).turns;
        std::thread::sleep(Duration::from_millis(200));
        assert!(counted(&server).turns - before < 20, "{late:?} spins");
        server.drain();
        until("the drain was told", || round(&mut client, b"hello").is_ok());
        let before = counted(&server).turns;
        std::thread::sleep(Duration::from_millis(200));
        assert!(counted(&server).turns - before < 20, "a drain of any length spins");
        server.stop();
        server.wait().expect("it ends when it is told to");
    }
}

#[test]
fn a_service_is_not_made_for_a_connection_that_was_not() {
    let made = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&made);
    let server = serve(Config::default(), move || {
        let count = Arc::clone(&count);
        Told(move |event, cx: &mut Context<'_>| {
            match event {
                Event::Open => {
                    let count = Arc::clone(&count);
                    let nobody =
                        std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr();
                    let service = on_open(move |_: &mut Context<'_>| {
                        count.fetch_add(1, Ordering::Relaxed);
                        echo
                    });
                    cx.connect(Connect::to(nobody.expect("its address")), service);
                }
                Event::Answer(_, Answer::Connected(Err(_))) => {
                    cx.output.write(b"refused").expect("there is room at the beginning");
                    return Flow::Finish;
                }
                _ => {}
            }
            Flow::Wait
        })
    });
    let mut answer = String::new();
    client(tcp(&server)).read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "refused");
    assert_eq!(made.load(Ordering::Relaxed), 0);
}

#[test]
fn files_that_services_share_are_closed_with_the_server() {
    #[derive(Default)]
    struct Cache(std::cell::RefCell<Vec<File>>);

    let path = std::env::current_exe().expect("this test");
    let of_this_test = {
        let path = path.clone();
        move || {
            let links = std::fs::read_dir("/proc/self/fd").expect("descriptors").flatten();
            links.filter(|link| std::fs::read_link(link.path()).is_ok_and(|to| to == path)).count()
        }
    };
    let before = of_this_test();
    let server = serve(Config::default(), move || {
        let path = path.clone();
        Told(move |event, cx: &mut Context<'_>| {
            match event {
                Event::Open => {
                    cx.open_file(OpenFile::at(&path));
                }
                Event::Answer(_, Answer::Opened(Ok(file))) => {
                    let cache: Rc<Cache> = cx.shared();
                    cache.0.borrow_mut().push(file);
                    cx.output.write(b"open").expect("there is room at the beginning");
                }
                _ => {}
            }
            Flow::More(1)
        })
    });
    let mut answer = [0; 4];
    client(tcp(&server)).read_exact(&mut answer).unwrap();
    assert_eq!(of_this_test(), before + 1);
    drop(server);
    assert_eq!(of_this_test(), before);
}

#[test]
fn figures_out_of_all_proportion_are_lowered_or_refused() {
    let large = Config {
        max_connections: 1 << 24,
        queue_entries: u32::MAX,
        receive_budget: u32::MAX,
        input_limit: usize::MAX,
        send_buffers: u32::MAX,
        send_buffers_per_connection: u16::MAX,
        held_limit: usize::MAX,
        linger_limit: u64::MAX,
        backlog: u32::MAX,
        ..Config::default()
    };
    let small = Config {
        max_connections: 1,
        queue_entries: 1,
        receive_buffers: 1,
        receive_buffer_len: 1,
        receive_budget: 0,
        input_limit: 1,
        send_buffer_len: 4096,
        send_buffers: 1,
        send_buffers_per_connection: 1,
        room: 1,
        held_limit: 1,
        file_buffers: 1,
        file_buffer_len: 1,
        linger_limit: 0,
        linger_time: Duration::ZERO,
        drain_time: Duration::ZERO,
        backlog: 0,
        ..Config::default()
    };
    for config in [large, small] {
        assert!(config.memory_bound() > 0);
        let server = serve(config, || |input: &mut Input<'_>, output: &mut Output<'_>| echo(input, output));
        let mut client = client(tcp(&server));
        for _ in 0..3 {
            assert_eq!(round(&mut client, b"hello").unwrap(), b"hello", "{:?}", server.notices());
        }
    }
    // Nothing of the above is left behind either.
    until("all threads are gone", || process::threads("campanile-").is_empty());
}
