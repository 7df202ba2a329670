//! The signals: the first lets what was begun be finished, the second does not.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::callers::{Call, Calls};
use crate::endpoints::Answer;
use crate::site::{Folder, Site};
use crate::support::common::{LONG, client, until};

/// A request whose body is begun, and known to have arrived: its answer ends with `seen`.
pub(crate) fn begin(site: &Site, version: &str, seen: &str) -> TcpStream {
    let mut stream = client(site.address());
    let head = format!("POST /stream HTTP/{version}\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut bytes = Vec::new();
    while !bytes.ends_with(seen.as_bytes()) {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the body comes back");
        bytes.push(byte[0]);
    }
    stream
}

#[test]
fn what_was_begun_is_finished() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut site = Site::start(&[]);
        let mut idle = client(site.address());
        let mut begun = begin(&site, "1.1", "3\r\nabc\r\n");
        site.signal(signal);
        // Who says nothing is not waited for.
        assert_eq!(idle.read(&mut [0]).expect("an orderly end"), 0);
        drop(idle);
        until("nobody listens any more", || TcpStream::connect(site.address()).is_err());
        begun.write_all(b"def").expect("it still reads");
        let mut rest = String::new();
        begun.read_to_string(&mut rest).expect("an orderly end");
        assert_eq!(rest, "3\r\ndef\r\n0\r\n\r\n");
        assert_eq!(site.ends().code(), Some(0), "{}", site.said());
    }
}

#[test]
fn the_second_signal_stops_at_once() {
    let mut site = Site::start(&[]);
    let mut begun = begin(&site, "1.1", "3\r\nabc\r\n");
    // This answer ends with its connection.
    let mut old = begin(&site, "1.0", "\r\n\r\nabc");
    site.signal(Signal::INT);
    until("it drains", || site.said().contains("stopping when"));
    let asked = Instant::now();
    site.signal(Signal::INT);
    assert_eq!(site.ends().code(), Some(0), "{}", site.said());
    assert!(asked.elapsed() < LONG / 2, "{:?}", asked.elapsed());
    // However it ends, it does not look complete.
    let mut rest = Vec::new();
    let _ = begun.read_to_end(&mut rest);
    assert_eq!(String::from_utf8_lossy(&rest), "");
    let cut = old.read_to_end(&mut rest).expect_err("no orderly end");
    assert_eq!((cut.kind(), rest.len()), (ErrorKind::ConnectionReset, 0));
}

#[test]
fn an_answer_told_while_it_drains_is_the_last() {
    let mut site = Site::start(&["--workers", "1"]);
    let mut stream = client(site.address());
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na").expect("it reads");
    let other = client(site.address());
    site.signal(Signal::TERM);
    assert_eq!((&other).read(&mut [0]).expect("an orderly end"), 0);
    stream.write_all(b"bcGET /never HTTP/1.1\r\nHost: a\r\n\r\n").expect("it still reads");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an orderly end");
    let answer = Answer::parse(&bytes).expect("an answer");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"abc"[..]));
    assert_eq!(site.ends().code(), Some(0), "{}", site.said());
}

/// Clients that ask again at once, or after a while, until they are told that an answer was the last.
fn nothing_is_lost(think: Duration) {
    const CLIENTS: u8 = 64;
    // Longer than it ever takes until a client has its turn on a busy machine.
    let mut site = Site::start(&["--workers", "2", "--drain-grace", "5s"]);
    let (to, answered) = (site.address(), AtomicU64::new(0));
    let calls: Vec<Call> = (1..=CLIENTS).map(|from| Call::connect(to, from).expect("it listens")).collect();
    let results: Vec<Result<(), String>> = thread::scope(|scope| {
        let client = |mut call: Call| {
            while call.ask(false)? {
                answered.fetch_add(1, Ordering::Relaxed);
                thread::sleep(think);
            }
            call.ends()
        };
        let clients: Vec<_> = calls.into_iter().map(|call| scope.spawn(move || client(call))).collect();
        until("there is load", || answered.load(Ordering::Relaxed) > u64::from(CLIENTS) * 10);
        site.signal(Signal::TERM);
        clients.into_iter().map(|client| client.join().expect("no panic")).collect()
    });
    assert_eq!(results, vec![Ok(()); CLIENTS.into()]);
    assert_eq!(site.ends().code(), Some(0), "{}", site.said());
    assert!(!site.said().contains("cut"), "{}", site.said());
}

#[test]
fn no_request_is_lost_and_no_close_is_unannounced() {
    nothing_is_lost(Duration::ZERO);
}

#[test]
fn who_asks_again_within_the_grace_is_told_of_the_end() {
    nothing_is_lost(Duration::from_millis(100));
}

/// Whoever got through to the server is served, however late; the others are refused.
#[test]
fn who_connects_while_it_stops_is_served_or_refused() {
    for workers in ["1", "2", "4"] {
        let (mut site, calls) = (Site::start(&["--workers", workers]), Calls::default());
        let to = site.address();
        thread::scope(|scope| {
            for caller in 1..=24 {
                let calls = &calls;
                scope.spawn(move || calls.call(to, caller, true));
            }
            until("there is load", || calls.answered.load(Ordering::Relaxed) > 500);
            site.signal(Signal::TERM);
        });
        let refused = |wrong: &String| wrong.starts_with("connecting: Connection refused");
        let (refused, wrong): (Vec<_>, Vec<_>) = calls.wrong().into_iter().partition(refused);
        assert_eq!((refused.len(), wrong), (24, Vec::new()), "{workers} workers");
        assert_eq!(site.ends().code(), Some(0), "{}", site.said());
    }
}

#[test]
fn who_never_finishes_is_cut_and_named() {
    let mut site = Site::start(&["--drain-time", "300ms", "--drain-grace", "100ms"]);
    let begun = begin(&site, "1.1", "3\r\nabc\r\n");
    let address = begun.local_addr().expect("it is connected");
    let asked = Instant::now();
    site.signal(Signal::TERM);
    assert_eq!(site.ends().code(), Some(0), "{}", site.said());
    assert!(asked.elapsed() >= Duration::from_millis(300), "{:?}", asked.elapsed());
    let expected = format!("cut: {address}, open, 0 bytes unread, 0 bytes unsent");
    until("it is told", || site.said().contains(&expected));
    until("it is told", || site.said().contains("(300ms) is over: 1 connections were cut"));
}

#[test]
fn a_hangup_opens_the_access_log_anew() {
    let folder = Folder::new();
    let (path, moved) = (folder.path("log"), folder.path("log.1"));
    let site = Site::start(&["--access-log", &path]);
    let ask = || Call::connect(site.address(), 1).expect("it listens").ask(true);
    assert_eq!(ask(), Ok(false));
    until("it is written", || fs::read_to_string(&path).is_ok_and(|text| text.lines().count() == 1));
    fs::rename(&path, &moved).expect("it is ours");
    site.signal(Signal::HUP);
    until("it is opened anew", || site.said().contains("opened anew"));
    assert_eq!(ask(), Ok(false));
    // Nothing can be there: the old file goes on.
    fs::remove_file(&path).expect("it is ours");
    fs::create_dir(&path).expect("it is ours");
    site.signal(Signal::HUP);
    until("it is told", || site.said().contains("the old file goes on"));
    assert_eq!(ask(), Ok(false));
    site.stop();
    assert_eq!(fs::read_to_string(&moved).expect("a file").lines().count(), 1);
}
