//! Seeing: what of HTTP is counted and told, and what a client is told whose handler panicked.

mod support;

use std::collections::HashMap;
use std::io::Write;
use std::net::{Shutdown, SocketAddr};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use campanile::http::{self, Answered, Error, Http, Metrics, Request, Response, Router};
use campanile::{Config, Counters, FigureKind, Lines, Server, ServerHandle, framed};

use support::common::{client, counted, nothing_held, reset, round, tcp, until};
use support::http::Client;
use support::serve;

/// A panic, without a line on standard error for each.
fn fall() -> ! {
    resume_unwind(Box::new("on purpose"))
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        fall();
    }
}

fn app(request: &Request<'_>, response: Response<'_, '_>) -> Result<Answered, Error> {
    match request.path() {
        "/moved" => response.status(302).field("Location", "/").empty(),
        "/none" => Err(Error::new(404, "nothing there")),
        "/broken" => response.text(503, "not now"),
        // Before anything was answered.
        "/panic" => fall(),
        "/panic/writing" => {
            let head = response.status(200).field("X-Never", "told");
            if request.query().is_none() { fall() } else { head.empty() }
        }
        "/panic/body" => response.collect(1 << 20, |_, _| fall()),
        "/panic/run" => Ok(response.run(|_| fall())),
        "/panic/answer" => Ok(response.run(|exchange| {
            exchange.answer(|response| {
                let _head = response.status(200).field("X-Never", "told");
                fall()
            })
        })),
        // When it was begun.
        "/panic/stream" => response.status(200).stream(|exchange| {
            exchange.write("something")?;
            fall()
        }),
        // When it was answered.
        "/panic/late" => Ok(response.run(|exchange| {
            exchange.answer(|response| response.text(200, "fine"))?;
            fall()
        })),
        // By what is let go of then: there is nobody any more to be told.
        "/panic/drop" => {
            let bomb = Bomb;
            Ok(response.run(move |exchange| {
                let _ = &bomb;
                exchange.answer(|response| response.text(200, "fine"))
            }))
        }
        _ => response.text(200, "fine"),
    }
}

fn of_app() -> (ServerHandle, SocketAddr) {
    serve(Config::default(), || Http::new(app))
}

#[test]
fn whoever_meets_a_panic_is_told_500_and_nobody_else_notices() {
    let (server, address) = of_app();
    let mut other = Client::connect(address);
    let mut panics = 0;
    for path in ["", "/writing", "/body", "/run", "/answer"] {
        // What was asked before is answered, and what is asked behind it is not.
        let mut one = Client::connect(address);
        let body = if path == "/body" { "Content-Length: 3\r\n\r\nabc" } else { "\r\n" };
        let next = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        one.send(format!("{next}POST /panic{path} HTTP/1.1\r\nHost: a\r\n{body}{next}"));
        assert_eq!(one.reply().text(), "fine", "{path}");
        let reply = one.reply();
        assert_eq!((reply.status, reply.text()), (500, "internal server error\n"), "{path}");
        assert!(reply.closes() && reply.field("X-Never").is_none(), "{path}: {}", reply.head);
        assert!(one.try_reply(false).is_err(), "{path}");
        panics += 1;
        assert_eq!(counted(&server).panicked, panics, "{path}");
        assert_eq!(other.get("/").text(), "fine", "{path}");
    }
    let now = counted(&server);
    assert_eq!((now.failed, now.succeeded, now.requests), (5, 10, 15));
    drop(other);
    nothing_held(&server);
}

#[test]
fn an_answer_that_was_begun_does_not_look_complete_after_a_panic() {
    let (server, address) = of_app();
    let mut other = Client::connect(address);
    let mut one = Client::connect(address);
    one.send("GET /panic/stream HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(one.try_reply(false).is_err());
    assert_eq!((counted(&server).panicked, counted(&server).cut), (1, 1));
    // All of this one is there.
    one = Client::connect(address);
    one.send("GET /panic/late HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(one.reply().text(), "fine");
    assert!(one.try_reply(false).is_err());
    assert_eq!((counted(&server).panicked, counted(&server).succeeded), (2, 1));
    // The answer may have been on its way, or not.
    one = Client::connect(address);
    one.send("GET /panic/drop HTTP/1.1\r\nHost: a\r\n\r\n");
    let _ = one.try_reply(false);
    until("it is counted", || counted(&server).panicked == 3);
    assert_eq!(other.get("/").text(), "fine");
    drop((one, other));
    nothing_held(&server);
}

#[test]
fn requests_are_counted_by_what_became_of_them() {
    let (server, address) = of_app();
    let mut one = Client::connect(address);
    for path in ["/", "/moved", "/none", "/broken", "/"] {
        one.get(path);
    }
    // No request at all, and the last of its connection.
    one.send("nonsense\r\n\r\n");
    assert_eq!(one.reply().status, 400);
    drop(one);
    // One that is given up.
    let mut one = client(address);
    one.write_all(b"POST /panic/body HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\na").unwrap();
    until("it is begun", || counted(&server).requests == 7);
    reset(one);
    until("it is over", || counted(&server).connections == 0);
    let Counters { requests, succeeded, redirected, refused, failed, cut, .. } = counted(&server);
    assert_eq!((requests, succeeded, redirected, refused, failed, cut), (7, 2, 1, 2, 1, 1));
}

#[test]
fn frames_are_counted() {
    let (server, address) =
        serve(Config::default(), || framed(Lines::new(8), |line, reply| reply.write_line(line)));
    let mut one = client(address);
    assert_eq!(round(&mut one, b"one\ntwo\n").unwrap(), b"one\ntwo\n");
    assert_eq!((counted(&server).requests, counted(&server).succeeded), (2, 2));
    one.write_all(b"longer than any line may be").unwrap();
    one.shutdown(Shutdown::Write).unwrap();
    until("it is over", || counted(&server).connections == 0);
    assert_eq!((counted(&server).requests, counted(&server).refused), (3, 1));
}

#[test]
fn readiness_ends_when_the_server_drains() {
    let (server, address) = serve(Config::default(), || {
        let config = http::Config { drain_grace: Duration::from_millis(1), ..http::Config::default() };
        Http::new(Router::new().get("/healthz", http::health).get("/readyz", http::readiness)).config(config)
    });
    let mut one = Client::connect(address);
    assert_eq!((one.get("/healthz").status, one.get("/readyz").status), (200, 200));
    let mut begun: Vec<Client> = ["healthz", "readyz"]
        .map(|path| {
            let mut begun = Client::connect(address);
            begun.send(format!("GET /{path} HTTP/1.1\r\n"));
            begun
        })
        .into();
    until("both are begun", || counted(&server).connections == 3 && counted(&server).carried_bytes > 30);
    server.drain();
    // Who waits for nothing is told first.
    assert!(one.try_reply(false).is_err());
    let replies = begun.iter_mut().map(|begun| {
        begun.send("Host: a\r\n\r\n");
        let reply = begun.reply();
        assert!(reply.closes() && reply.field("Cache-Control") == Some("no-store"), "{}", reply.head);
        reply.status
    });
    assert_eq!(replies.collect::<Vec<_>>(), [200, 503]);
    drop((one, begun));
    server.wait().expect("it ends when all are answered");
}

/// The samples of the text format, by name and labels; each line is looked at.
fn samples(text: &str) -> HashMap<String, f64> {
    let (mut family, mut samples) = ("", HashMap::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help");
            family = name;
            assert!(help.ends_with('.') || help.ends_with("1."), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!((name, kind == "counter"), (family, name.ends_with("_total")), "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            assert_eq!(name.split('{').next(), Some(family), "{line}");
            let known = samples.insert(name.to_owned(), value.parse().expect("a number"));
            assert!(known.is_none(), "twice: {line}");
        }
    }
    samples
}

#[test]
fn metrics_have_every_figure_of_every_worker() {
    let server = Server::new().listen("127.0.0.1:0").workers(2);
    let monitor = server.monitor();
    let server = http::serve(server, http::Config::default(), move || {
        Router::new().get("/", |_, response| response.text(200, "fine")).route(
            "GET",
            "/metrics",
            Metrics::new(monitor.clone()),
        )
    });
    let server = server.expect("a free port of loopback");
    let mut one = Client::connect(tcp(&server));
    for _ in 0..3 {
        one.get("/");
    }
    let reply = one.get("/metrics");
    assert_eq!(reply.field("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let samples = samples(reply.text());
    for worker in 0..2 {
        assert_eq!(samples[&format!("campanile_worker_up{{worker=\"{worker}\"}}")], 1.0);
        for figure in Counters::FIGURES {
            let end = if figure.kind == FigureKind::Total { "_total" } else { "" };
            let label = figure.label.map_or(String::new(), |(name, value)| format!("{name}=\"{value}\","));
            let name = format!("campanile_{}{end}{{{label}worker=\"{worker}\"}}", figure.name);
            assert!(samples.contains_key(&name), "{name}: {}", reply.text());
        }
    }
    let sum = |name: &str| {
        let of_all = samples.iter().filter(|(sample, _)| sample.starts_with(name));
        of_all.map(|(_, value)| value).sum::<f64>()
    };
    // Its own request is begun, and not answered.
    assert_eq!((sum("campanile_requests_total{"), sum("campanile_answers_total{")), (4.0, 3.0));
    assert_eq!((sum("campanile_connections{"), sum("campanile_build_info{")), (1.0, 1.0));
    assert!(sum("campanile_start_time_seconds") > 1.7e9);
    one.send("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(one.try_reply(true).expect("a head").status, 200);
    one.send("POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let reply = one.reply();
    assert_eq!((reply.status, reply.field("Allow")), (405, Some("GET, HEAD, OPTIONS")));
}

#[test]
fn metrics_do_not_wait_for_a_worker_that_is_stuck() {
    let server = Server::new().listen("127.0.0.1:0").workers(2);
    let (monitor, free) = (server.monitor(), Arc::new(AtomicBool::new(false)));
    // However this test ends, before the server is waited for.
    let release = Release(Arc::clone(&free));
    let server = http::serve(server, http::Config::default(), move || {
        let (monitor, free) = (monitor.clone(), Arc::clone(&free));
        Router::new()
            .get("/who", |_, response| response.text(200, std::thread::current().name().unwrap_or("")))
            .get("/stick", move |_, response| {
                while !free.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                response.text(200, "free")
            })
            .route("GET", "/metrics", Metrics::new(monitor))
    });
    let server = server.expect("a free port of loopback");
    // The kernel chooses who is accepted where.
    let mut of_worker = HashMap::new();
    until("there is a connection on each", || {
        let mut one = Client::connect(tcp(&server));
        of_worker.insert(one.get("/who").text().to_owned(), one);
        of_worker.len() == 2
    });
    let [mut one, mut other] =
        ["campanile-0", "campanile-1"].map(|name| of_worker.remove(name).expect("by its name"));
    other.send("GET /stick HTTP/1.1\r\nHost: a\r\n\r\n");
    until("it is stuck", || {
        let samples = samples(one.get("/metrics").text());
        let up = [0, 1].map(|worker| samples[&format!("campanile_worker_up{{worker=\"{worker}\"}}")]);
        let is_told = [0, 1]
            .map(|worker| samples.contains_key(&format!("campanile_turns_total{{worker=\"{worker}\"}}")));
        (up, is_told) == ([1.0, 0.0], [true, false])
    });
    drop(release);
    assert_eq!(other.reply().text(), "free");
}

/// Lets somebody who is stuck go on, when it is dropped.
struct Release(Arc<AtomicBool>);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
