//! The limit: a worker with as many connections as it may have loses nobody who comes.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use campanile_core::{Config, Server};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use support::{LONG, alone, client, counted, echo, nothing_held, process, role, round, tcp, until};

/// Far more clients than connections, all of them there before the first is served.
#[test]
fn whoever_waits_at_the_limit_is_served() {
    for direct_descriptors in [true, false] {
        let config = Config { max_connections: 2, direct_descriptors, ..Config::default() };
        let server = Server::new().listen("127.0.0.1:0").workers(1).config(config).serve(|| echo);
        let server = server.expect("a free port of loopback");
        let streams: Vec<_> = (0..20).map(|_| client(tcp(&server))).collect();
        for (at, mut stream) in streams.into_iter().enumerate() {
            assert_eq!(round(&mut stream, b"x").unwrap_or_else(|e| panic!("client {at}: {e}")), b"x");
        }
        nothing_held(&server);
    }
}

/// Far from the limit one accept of each listener serves everybody; once it was near, it does so again.
#[test]
fn far_from_the_limit_an_accept_is_armed_once() {
    let config = Config { max_connections: 60, backlog: 31, ..Config::default() };
    let server = Server::new().listen("127.0.0.1:0").workers(1).config(config).serve(|| echo);
    let server = server.expect("a free port of loopback");
    let clients = |n: u32| -> Vec<_> {
        let welcome = |_| {
            let mut stream = client(tcp(&server));
            round(&mut stream, b"x").expect("an echo");
            stream
        };
        (0..n).map(welcome).collect()
    };
    let few = clients(20);
    assert_eq!(counted(&server).accepts_armed, 1);
    // Places for a full queue of 32 are left up to 28 connections; then one accept each.
    let more = clients(20);
    assert_eq!(counted(&server).accepts_armed, 13);
    drop((few, more));
    nothing_held(&server);
    drop(clients(20));
    assert_eq!(counted(&server).accepts_armed, 14);
}

/// `ulimit -n 256`, and a thousand clients: as many as fit are served, the others wait in the queue, at no cost, and
/// are served when these leave; no accept ever fails, and nobody is reset.
#[test]
fn a_thousand_clients_and_few_descriptors() {
    const TEST: &str = "a_thousand_clients_and_few_descriptors";
    const CLIENTS: usize = 1_000;
    if let Some(role) = role() {
        return serve_with_few_descriptors(role == "direct");
    }
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limits.maximum, maximum: limits.maximum };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit");
    for kind in ["direct", "plain"] {
        let mut command = alone(TEST, kind);
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().expect("this test can be run again");
        let (mut orders, errors) =
            (child.stdin.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
        let mut lines = BufReader::new(errors).lines();
        let mut said = || {
            let mut lines = lines.by_ref().map(|line| line.expect("text"));
            lines.find_map(|line| Some(line.strip_prefix("says: ")?.to_owned())).expect("the server goes on")
        };
        let address = said().parse().expect("an address");
        let mut figures = |order: &str| -> Vec<u64> {
            writeln!(orders, "{order}").expect("the server reads");
            said().split(' ').map(|figure| figure.parse().expect("a number")).collect()
        };
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| client(address)).collect();
        clients.iter_mut().for_each(|client| client.write_all(b"hello").expect("room in the socket"));
        let mut full = 0;
        until("it is full", || {
            let before = std::mem::replace(&mut full, figures("look")[0]);
            before == full && full > 100
        });
        assert!(full <= 256, "{full} connections");
        let before = figures("look")[1];
        std::thread::sleep(Duration::from_millis(500));
        let spent = Duration::from_nanos(figures("look")[1] - before);
        assert!(spent < Duration::from_millis(100), "{spent:?} of 500 ms while it is full");
        // Each leaves when it was served, and makes room for another.
        for mut client in clients {
            let mut answer = [0; 5];
            client.read_exact(&mut answer).expect("its turn comes");
            assert_eq!(&answer, b"hello");
        }
        let last = figures("end");
        assert_eq!(last, [CLIENTS as u64, 0], "{kind}: all were accepted, and no accept failed");
        assert!(child.wait().expect("a child").success());
    }
}

/// The server of that: tells its connections and the time it took, and in the end what it accepted.
fn serve_with_few_descriptors(direct_descriptors: bool) {
    let few = Rlimit { current: Some(256), maximum: Some(256) };
    setrlimit(Resource::Nofile, few).expect("lower than before");
    let config = Config { direct_descriptors, ..Config::default() };
    let server = Server::new().listen("127.0.0.1:0").workers(1).config(config).serve(|| echo);
    let server = server.expect("it starts shrunk");
    eprintln!("says: {}", tcp(&server));
    for order in std::io::stdin().lines() {
        let time = || process::threads("campanile-0").into_iter().map(process::cpu_time).sum::<Duration>();
        match order.expect("text").as_str() {
            "look" => eprintln!("says: {} {}", counted(&server).connections, time().as_nanos()),
            _ => {
                nothing_held(&server);
                let counters = counted(&server);
                eprintln!("says: {} {}", counters.accepted, counters.accepts_failed);
                return;
            }
        }
    }
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A burst on two listeners, six times what there is place for, with queues short enough for multishot accepts: each
/// client is served once, and there are never more connections than the limit.
#[test]
fn a_burst_on_two_listeners_stays_within_the_limit() {
    const LIMIT: u32 = 50;
    let path = std::env::temp_dir().join(format!("campanile-limit-{}", std::process::id()));
    for backlog in [10, 4096] {
        // Where its backlog is full the kernel sends cookies, and an acknowledgement that is processed late then makes
        // one connection more, of a client who has long been served and is gone: nothing but a deadline ends it.
        let idle_timeout = Some(Duration::from_secs(10));
        let config = Config { max_connections: LIMIT, backlog, idle_timeout, ..Config::default() };
        let server = Server::new().listen("127.0.0.1:0").listen(campanile_core::Address::unix(&path));
        let server = server.workers(1).config(config).serve(|| echo).expect("a free port and path");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let ends = Ends(&over);
            let watch = scope.spawn(|| {
                let mut most = 0;
                while !over.load(Ordering::Relaxed) {
                    most = most.max(counted(&server).connections);
                }
                most
            });
            let clients: Vec<_> = (0..300_u32)
                .map(|number| {
                    let (server, path) = (&server, &path);
                    scope.spawn(move || {
                        let mut stream: Box<dyn Stream> = if number % 2 == 0 {
                            Box::new(client(tcp(server)))
                        } else {
                            let stream = UnixStream::connect(path).expect("the server listens");
                            stream.set_read_timeout(Some(LONG)).expect("any time but zero");
                            Box::new(stream)
                        };
                        let answer = round(&mut stream, &number.to_le_bytes()).expect("an echo");
                        u32::from_le_bytes(answer.try_into().expect("four bytes"))
                    })
                })
                .collect();
            let served: BTreeSet<u32> =
                clients.into_iter().map(|client| client.join().expect("a client that is served")).collect();
            until("every connection is over", || counted(&server).connections == 0);
            drop(ends);
            assert_eq!(served.len(), 300);
            let most = watch.join().expect("figures");
            assert!(most <= u64::from(LIMIT), "{most} connections at a time");
        });
        // Each client was heard once, and nobody else has said a byte.
        assert_eq!(counted(&server).received, 300 * 4);
        let accepted = counted(&server).accepted;
        assert!(accepted == 300 || backlog == 10 && accepted > 300, "{accepted} accepted");
        nothing_held(&server);
    }
}

/// Says that it is over, also when the test fails: a thread that is not told would go on for ever.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
