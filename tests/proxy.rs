//! The proxy, as a process between clients and servers: what it passes on, and what it does when one of them dies.
//!
//! `CAMPANILE_PROXY_MIB` is how much goes up and down by one request (64); 1024 is a GiB.

#![allow(clippy::print_stdout)] // It says how it went.

#[path = "http_server/site.rs"]
#[allow(dead_code)]
mod site;
mod support;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use rustix::process::Signal;
use site::Site;
use support::Program;
use support::common::{LONG, client, keyed};

fn proxy(to: &[SocketAddr], arguments: &[&str]) -> Program {
    let to: Vec<String> = to.iter().flat_map(|to| ["--to".into(), to.to_string()]).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    Program::start("proxy", &[&["--workers", "1"], &to[..], arguments].concat())
}

/// A client with one connection.
struct Client(BufReader<TcpStream>);

#[derive(Debug)]
struct Head {
    status: u16,
    fields: Vec<(String, String)>,
}

impl Head {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| &value[..])
    }
}

fn ended() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(ended)
}

fn fields(reader: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = line(reader)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line.split_once(':').expect("name and value");
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

impl Client {
    fn new(to: SocketAddr) -> Client {
        Client(BufReader::with_capacity(256 * 1024, client(to)))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    fn head(&mut self) -> io::Result<Head> {
        let line = line(&mut self.0)?;
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {line}"));
        Ok(Head { status, fields: fields(&mut self.0)? })
    }

    /// Shows each piece of the body of an answer; returns its trailers.
    fn body(&mut self, head: &Head, mut see: impl FnMut(&[u8])) -> io::Result<Vec<(String, String)>> {
        if let Some(length) = head.field("content-length") {
            let length = length.parse().expect("a length");
            self.piece(length, &mut see)?;
            return Ok(Vec::new());
        }
        assert_eq!(head.field("transfer-encoding"), Some("chunked"));
        loop {
            let length = u64::from_str_radix(&line(&mut self.0)?, 16).expect("a length of a chunk");
            if length == 0 {
                return fields(&mut self.0);
            }
            self.piece(length, &mut see)?;
            assert_eq!(line(&mut self.0)?, "");
        }
    }

    fn piece(&mut self, mut left: u64, see: &mut impl FnMut(&[u8])) -> io::Result<()> {
        while left > 0 {
            let bytes = self.0.fill_buf()?;
            let n = (bytes.len() as u64).min(left) as usize;
            if n == 0 {
                return Err(ended());
            }
            see(&bytes[..n]);
            self.0.consume(n);
            left -= n as u64;
        }
        Ok(())
    }

    fn exchange(&mut self, request: &[u8]) -> io::Result<(Head, Vec<u8>)> {
        self.send(request)?;
        let head = self.head()?;
        let mut body = Vec::new();
        self.body(&head, |piece| body.extend_from_slice(piece))?;
        Ok((head, body))
    }
}

#[test]
fn much_goes_up_and_down_by_one_request_unchanged() {
    let mib = std::env::var("CAMPANILE_PROXY_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(64);
    let len: u64 = mib << 20;
    let sites = [Site::start(&[]), Site::start(&[])];
    let proxy = proxy(&[sites[0].address(), sites[1].address()], &[]);
    let (began, cpu) = (Instant::now(), proxy.cpu_time());
    let mut client = Client::new(proxy.address);
    let mut up = client.0.get_ref().try_clone().expect("a socket");
    let (mut at, mut most) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(move || {
            write!(up, "POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n")
                .expect("it reads");
            let mut piece = vec![0; 256 * 1024];
            for at in (0..len).step_by(piece.len()) {
                let n = (len - at).min(piece.len() as u64) as usize;
                keyed::fill(7, at, &mut piece[..n]);
                up.write_all(&piece[..n]).expect("it reads");
            }
        });
        let head = client.head().expect("an answer");
        assert_eq!(head.status, 200);
        let see = |piece: &[u8]| {
            assert_eq!(keyed::differs(7, at, piece), None);
            if at >> 22 != (at + piece.len() as u64) >> 22 {
                most = most.max(proxy.resident_kib());
            }
            at += piece.len() as u64;
        };
        client.body(&head, see).expect("all of it");
    });
    assert_eq!(at, len);
    let (time, cpu) = (began.elapsed(), proxy.cpu_time() - cpu);
    eprintln!("{mib} MiB up and down in {time:?}, {cpu:?} of the proxy's CPU; at most {most} KiB of memory");
    // And the connection is in order.
    assert_eq!(
        client.exchange(b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n").expect("an answer").0.status,
        200
    );
    sites.into_iter().for_each(Site::stop);
}

/// What a client saw.
#[derive(Debug, Default)]
struct Tally {
    right: AtomicUsize,
    honest: AtomicUsize,
}

/// Sends so many requests, of which every second has a body, and checks each answer. One may be an error that says so,
/// or be cut, if `may_fail`.
fn load(to: SocketAddr, key: u64, count: usize, may_fail: bool, tally: &Tally) {
    let mut client = Client::new(to);
    for n in 0..count {
        let mut body = vec![0; (n * 997) % 40_000 + 8];
        keyed::fill(key * 1_000_000 + n as u64, 0, &mut body);
        let (request, expected) = if n % 2 == 0 {
            (b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), b"Hello, World!".to_vec())
        } else {
            let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
            ([head.as_bytes(), &body].concat(), body)
        };
        let is_right = match client.exchange(&request) {
            Ok((Head { status: 200, .. }, body)) => {
                assert!(body == expected, "a wrong answer");
                true
            }
            Ok((Head { status: 502..=504, .. }, _)) => false,
            Ok((head, _)) => panic!("{head:?}"),
            Err(_) => {
                client = Client::new(to);
                false
            }
        };
        assert!(is_right || may_fail, "request {n} failed");
        (if is_right { &tally.right } else { &tally.honest }).fetch_add(1, Ordering::Relaxed);
    }
}

fn crowd(to: SocketAddr, count: usize, may_fail: bool, tally: &Tally, meanwhile: impl FnOnce()) {
    thread::scope(|scope| {
        for key in 0..8 {
            scope.spawn(move || load(to, key, count, may_fail, tally));
        }
        meanwhile();
    });
}

#[test]
fn the_death_of_a_server_under_load_brings_no_wrong_answer() {
    let [dying, living] = [Site::start(&["--workers", "1"]), Site::start(&["--workers", "1"])];
    let check = ["--check", "/readyz", "--check-every", "200"];
    let proxy = proxy(&[dying.address(), living.address()], &check);
    let before = Tally::default();
    crowd(proxy.address, 50, false, &before, || {});
    let during = Tally::default();
    crowd(proxy.address, 200, true, &during, || {
        support::common::until("the load is under way", || during.right.load(Ordering::Relaxed) > 200);
        dying.signal(Signal::KILL);
    });
    // By now all know of it.
    let after = Tally::default();
    crowd(proxy.address, 100, false, &after, || {});
    eprintln!("before {before:?}, when one died {during:?}, after {after:?}");
    assert_eq!(dying.killed().signal(), Some(Signal::KILL.as_raw()));
    living.stop();
}

/// A server that is a script: takes one connection after the other, tells what came, and answers with `answer`.
fn scripted(answer: &'static [u8]) -> (SocketAddr, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let tell = tell.clone();
            thread::spawn(move || {
                stream.set_read_timeout(Some(LONG)).expect("any time but zero");
                let mut reader = BufReader::new(stream);
                let mut head = String::new();
                while reader.read_line(&mut head).is_ok_and(|n| n > 0) {
                    if !head.ends_with("\r\n\r\n") {
                        continue;
                    }
                    if head.starts_with("GET /check ") {
                        let _ = reader.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
                    } else {
                        let _ = tell.send(std::mem::take(&mut head));
                        let _ = reader.get_mut().write_all(answer);
                    }
                    head.clear();
                }
            });
        }
    });
    (address, told)
}

const CHECK: [&str; 2] = ["--check", "/check"];

#[test]
fn fields_of_one_connection_stay_there_and_the_others_go_on() {
    let (server, told) = scripted(
        b"HTTP/1.1 200 OK\r\nConnection: X-Secret, close\r\nX-Secret: a\r\nKeep-Alive: timeout=5\r\nVia: 1.0 b\r\n\
          X-Kept: c\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n",
    );
    let proxy = proxy(&[server], &CHECK);
    let mut client = Client::new(proxy.address);
    let request = "GET http://a.test/b?c HTTP/1.1\r\nHost: other.test\r\n\
                   Connection: X-Mine, keep-alive\r\nX-Mine: d\r\nKeep-Alive: timeout=9\r\nTE: trailers\r\n\
                   Proxy-Connection: keep-alive\r\nUpgrade: websocket\r\n\
                   X-Forwarded-For: 192.0.2.1\r\nVia: 1.1 e\r\nAccept: f\r\n\r\n";
    client.send(request.as_bytes()).expect("it reads");
    let head = client.head().expect("an answer");
    let mut body = Vec::new();
    let trailers = client.body(&head, |piece| body.extend_from_slice(piece)).expect("a body");
    assert_eq!((head.status, &body[..]), (200, &b"hello"[..]));
    assert_eq!(trailers, [("x-sum".to_owned(), "5".to_owned())]);
    assert_eq!((head.field("via"), head.field("x-kept")), (Some("1.0 b, 1.1 campanile"), Some("c")));
    for name in ["connection", "x-secret", "keep-alive"] {
        assert_eq!(head.field(name), None, "{name}");
    }
    let came = told.recv_timeout(LONG).expect("it was asked").to_ascii_lowercase();
    let mut lines: Vec<&str> = came.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "get /b?c http/1.1");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "accept: f",
            "forwarded: for=127.0.0.1;proto=http",
            "host: a.test",
            "via: 1.1 e, 1.1 campanile",
            "x-forwarded-for: 192.0.2.1, 127.0.0.1",
            "x-forwarded-host: a.test",
            "x-forwarded-proto: http",
        ]
    );
}

#[test]
fn options_for_a_whole_server_are_asked_of_it_as_a_whole() {
    let (server, told) = scripted(b"HTTP/1.1 204 No Content\r\n\r\n");
    let proxy = proxy(&[server], &CHECK);
    let mut client = Client::new(proxy.address);
    for (target, line) in [
        ("http://a.test", "OPTIONS * HTTP/1.1"),
        ("*", "OPTIONS * HTTP/1.1"),
        ("http://a.test/", "OPTIONS / HTTP/1.1"),
        ("http://a.test?a.test", "OPTIONS /?a.test HTTP/1.1"),
    ] {
        client
            .send(format!("OPTIONS {target} HTTP/1.1\r\nHost: a.test\r\n\r\n").as_bytes())
            .expect("it reads");
        assert_eq!(client.head().expect("an answer").status, 204, "{target}");
        let came = told.recv_timeout(LONG).expect("it was asked");
        assert_eq!(came.lines().next(), Some(line), "{target}");
    }
}

#[test]
fn an_answer_to_head_says_how_long_it_would_be() {
    let (server, _told) = scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 123\r\n\r\n");
    let proxy = proxy(&[server], &CHECK);
    let mut client = Client::new(proxy.address);
    for _ in 0..2 {
        client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").expect("it reads");
        let head = client.head().expect("an answer");
        assert_eq!((head.status, head.field("content-length")), (200, Some("123")));
    }
}

#[test]
fn whoever_is_not_there_or_not_in_time_or_no_server_is_said_so() {
    // It has the port, and does not listen.
    let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    closed.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let gone = closed.local_addr().expect("it is bound").as_socket().expect("an IP address");
    let (silent, _told) = scripted(b"");
    let (wrong, _told) = scripted(b"SMTP ready\r\n");
    for (to, status, text) in
        [(gone, 502, "did not answer\n"), (silent, 504, "in time\n"), (wrong, 502, "did not answer\n")]
    {
        let proxy = proxy(&[to], &["--check", "/check", "--patience", "1"]);
        let mut client = Client::new(proxy.address);
        let (head, body) = client.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("an answer");
        let body = String::from_utf8(body).expect("text");
        assert!(head.status == status && body.ends_with(text), "{to}: {head:?} {body}");
    }
    // Another that is there is asked instead, whatever the request is.
    let site = Site::start(&[]);
    let proxy = proxy(&[gone, site.address()], &["--check", "/readyz"]);
    let mut client = Client::new(proxy.address);
    for _ in 0..4 {
        let post = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
        let (head, body) = client.exchange(post).expect("an answer");
        assert_eq!((head.status, &body[..]), (200, &b"hi"[..]));
    }
    site.stop();
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on_by_the_server() {
    let site = Site::start(&[]);
    let proxy = proxy(&[site.address()], &["--check", "/readyz"]);
    let mut client = Client::new(proxy.address);
    client
        .send(b"POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .expect("it reads");
    assert_eq!(client.head().expect("an interim answer").status, 100);
    client.send(b"hi").expect("it reads");
    let head = client.head().expect("an answer");
    let mut body = Vec::new();
    client.body(&head, |piece| body.extend_from_slice(piece)).expect("a body");
    assert_eq!((head.status, &body[..]), (200, &b"hi"[..]));
    let mut rest = Vec::new();
    client.0.get_mut().shutdown(std::net::Shutdown::Write).expect("a socket");
    client.0.read_to_end(&mut rest).expect("an end");
    site.stop();
}
