//! The options: each is told by --help and works, and what cannot work is refused with a sentence.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::site::{Folder, Site, program};
use crate::support::common::{LONG, client, on_epoll, until};
use crate::support::prints;

/// Every option that has a value or sets something, and its environment variable.
const OPTIONS: [(&str, &str); 22] = [
    ("--listen", "HTTP_LISTEN"),
    ("--root", "HTTP_ROOT"),
    ("--workers", "HTTP_WORKERS"),
    ("--pin", "HTTP_PIN"),
    ("--ring", "HTTP_RING"),
    ("--header-timeout", "HTTP_HEADER_TIMEOUT"),
    ("--idle-timeout", "HTTP_IDLE_TIMEOUT"),
    ("--keepalive-time", "HTTP_KEEPALIVE_TIME"),
    ("--keepalive-requests", "HTTP_KEEPALIVE_REQUESTS"),
    ("--body-timeout", "HTTP_BODY_TIMEOUT"),
    ("--body-rate", "HTTP_BODY_RATE"),
    ("--send-timeout", "HTTP_SEND_TIMEOUT"),
    ("--send-rate", "HTTP_SEND_RATE"),
    ("--body-limit", "HTTP_BODY_LIMIT"),
    ("--connections-per-address", "HTTP_CONNECTIONS_PER_ADDRESS"),
    ("--max-connections", "HTTP_MAX_CONNECTIONS"),
    ("--drain-time", "HTTP_DRAIN_TIME"),
    ("--drain-grace", "HTTP_DRAIN_GRACE"),
    ("--async", "HTTP_ASYNC"),
    ("--successor", "HTTP_SUCCESSOR"),
    ("--access-log", "HTTP_ACCESS_LOG"),
    ("--log", "HTTP_LOG"),
];

/// What it says when it does not start, and its exit code.
fn refused(arguments: &[&str], environment: &[(&str, &str)]) -> (String, Option<i32>) {
    let done = program(arguments).envs(environment.iter().copied()).output().expect("the example is built");
    assert!(done.stdout.is_empty(), "{arguments:?}");
    (String::from_utf8(done.stderr).expect("text"), done.status.code())
}

#[test]
fn help_tells_every_option() {
    let help = prints(&mut program(&["--help"]));
    for (option, variable) in OPTIONS {
        let line = help.lines().find(|line| line.split_whitespace().next() == Some(option));
        let line = line.unwrap_or_else(|| panic!("{option}: {help}"));
        assert!(line.contains(&format!("[env: {variable}=]")), "{line}");
    }
    let told = help.lines().filter(|line| line.trim_start().starts_with("--")).count();
    assert_eq!(told, OPTIONS.len(), "{help}");
}

#[test]
fn what_cannot_be_is_refused_by_the_name_of_its_option() {
    for (option, values) in [
        ("--listen", &["localhost", "127.0.0.1", "unix:", "127.0.0.1:99999"][..]),
        ("--root", &["/nowhere/at/all", "/proc/self/stat"]),
        ("--workers", &["0", "-1", "many"]),
        ("--ring", &["epoll", "URING", ""]),
        ("--header-timeout", &["0", "-1", "soon", "10 potatoes", "nan", "inf"]),
        ("--idle-timeout", &["0s", ""]),
        ("--keepalive-time", &["0", "long"]),
        ("--keepalive-requests", &["0", "-1"]),
        ("--send-timeout", &["0s"]),
        ("--send-rate", &["-1", "4GiB", "fast"]),
        ("--body-rate", &["-1", "slow"]),
        ("--connections-per-address", &["0", "few"]),
        ("--body-limit", &["-1", "big", "10MiBB"]),
        ("--max-connections", &["0", "1e9"]),
        ("--log", &["=x="]),
    ] {
        let variable = OPTIONS.iter().find(|(known, _)| *known == option).expect("it is one").1;
        for value in values {
            for (arguments, environment) in [(&[option, value][..], &[][..]), (&[], &[(variable, *value)])] {
                let (text, code) = refused(arguments, environment);
                assert!(
                    text.contains(option) && text.contains(value),
                    "{arguments:?} {environment:?}: {text}"
                );
                assert_eq!((text.starts_with("error: "), code), (true, Some(2)), "{text}");
            }
        }
    }
}

#[test]
fn a_start_that_fails_says_why_and_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("it is bound").to_string();
    for (arguments, sentences) in [
        (&["--listen", &taken][..], &["is in use", "stop that, or listen"][..]),
        (&["--listen", "192.0.2.1:8080"], &["192.0.2.1:8080", "`ip address`"]),
        (&["--listen", "127.0.0.1:0", "--access-log", "/nowhere/log"], &["--access-log", "may write"]),
        (&["--listen", "unix:/nowhere/socket"], &["unix:/nowhere/socket", "No such file"]),
    ] {
        let (text, code) = refused(arguments, &[]);
        assert_eq!((text.lines().count(), code), (1, Some(1)), "{text}");
        for sentence in sentences {
            assert!(text.starts_with("error: ") && text.contains(sentence), "{text}");
        }
    }
    let (site, used) = (Site::start(&[]), "is in use by");
    let (text, _) = refused(&["--listen", &site.addresses[0]], &[]);
    assert!(text.contains(used) && text.contains("http-server"), "{text}");
}

#[test]
fn it_says_where_it_listens_and_on_what_it_runs() {
    let folder = Folder::new();
    let path = folder.path("socket");
    let site =
        Site::listen(&["127.0.0.1:0", &format!("unix:{path}"), "[::1]:0"], &["--workers", "2", "--pin"]);
    let [first, second, third] = &site.addresses[..] else { panic!("three of them: {:?}", site.addresses) };
    assert!(!first.ends_with(":0") && !third.ends_with(":0"), "the real ports: {first}, {third}");
    assert_eq!(second, &format!("unix:{path}"));
    let ring = if on_epoll() { "epoll" } else { "io_uring" };
    until("it tells what it runs on", || site.said().contains(&format!("2 workers on {ring}")));
    let request = b"GET /204 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut answers = [String::new(), String::new(), String::new()];
    for (address, answer) in [first, third].into_iter().zip(&mut answers) {
        let mut stream = client(address.parse().expect("an address"));
        stream.write_all(request).expect("it reads");
        stream.read_to_string(answer).expect("an orderly end");
    }
    let mut stream = UnixStream::connect(&path).expect("it listens");
    stream.write_all(request).expect("it reads");
    stream.read_to_string(&mut answers[2]).expect("an orderly end");
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 204 ")), "{answers:?}");
    site.stop();
}

#[test]
fn a_quiet_log_says_nothing() {
    let site = Site::start(&["--log", "off"]);
    assert_eq!(site.said(), "");
    let site = Site::start(&["--log", "debug"]);
    until("it tells what the kernel can do", || site.said().contains("what this kernel can do"));
}

/// How long a connection lasts on which `bytes` are sent and nothing more, and what comes.
fn lasts(site: &Site, bytes: &[u8]) -> (Duration, String) {
    let mut stream: TcpStream = client(site.address());
    let began = Instant::now();
    stream.write_all(bytes).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an orderly end");
    (began.elapsed(), answer)
}

#[test]
fn timeouts_are_those_that_were_asked_for() {
    let slow = Site::start(&["--header-timeout", "300ms"]);
    let (time, answer) = lasts(&slow, b"GET / HTTP/1.1\r\n");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!((Duration::from_millis(300)..Duration::from_secs(9)).contains(&time), "{time:?}");
    // A plain number is one of seconds.
    let idle = Site::start(&["--idle-timeout", "0.3"]);
    let (time, answer) = lasts(&idle, b"GET /204 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert!((Duration::from_millis(300)..Duration::from_secs(9)).contains(&time), "{time:?}");
}

#[test]
fn bodies_and_requests_have_the_bounds_that_were_asked_for() {
    let site = Site::start(&["--body-timeout", "300ms", "--keepalive-requests", "2"]);
    until("it tells how much memory a worker takes", || {
        let said = site.said();
        said.contains("a worker takes at most ")
            && said.contains("GiB")
            && said.contains("64.0 MiB for bodies")
    });
    let (time, answer) = lasts(&site, b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nnot all");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!((Duration::from_millis(300)..Duration::from_secs(25)).contains(&time), "{time:?}");
    let (_, answers) = lasts(&site, &b"GET /204 HTTP/1.1\r\nHost: a\r\n\r\n".repeat(5));
    let closing = answers.matches("Connection: close").count();
    assert_eq!((answers.matches("HTTP/1.1 204 ").count(), closing), (2, 1), "{answers}");
}

#[test]
fn an_address_may_have_so_many_connections() {
    let site = Site::start(&["--connections-per-address", "1", "--workers", "1"]);
    let ask = |stream: &mut TcpStream| {
        // One that is closed at once may refuse even the request.
        let _ = stream.write_all(b"GET /204 HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).map(|()| answer)
    };
    let mut first = client(site.address());
    assert_eq!(&ask(&mut first).expect("it is served"), b"HTTP/1.1 204");
    assert!(ask(&mut client(site.address())).is_err(), "one more is closed");
    drop(first);
    until("there is a place again", || ask(&mut client(site.address())).is_ok());
}

#[test]
fn connections_beyond_the_limit_wait_their_turn() {
    let site = Site::start(&["--max-connections", "2", "--workers", "1"]);
    let ask = || {
        let mut stream = client(site.address());
        stream.write_all(b"GET /204 HTTP/1.1\r\nHost: a\r\n\r\n").expect("the kernel has room");
        stream
    };
    let answered = |mut stream: &TcpStream| stream.read_exact(&mut [0; 10]);
    let (first, second) = (ask(), ask());
    answered(&first).expect("it is served");
    answered(&second).expect("it is served");
    let third = ask();
    third.set_read_timeout(Some(Duration::from_millis(200))).expect("any time but zero");
    assert!(answered(&third).is_err(), "nobody has it yet");
    drop(first);
    third.set_read_timeout(Some(LONG)).expect("any time but zero");
    answered(&third).expect("it is its turn");
}
