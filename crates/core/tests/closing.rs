//! Closing: whatever the client is doing at that time, it gets all of an answer; and a connection that is aborted is
//! seen to be.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use campanile_core::{Bytes, Config, Event, Flow, Input, Output, Reason, Server, ServerHandle};
use support::{Told, client, counted, keyed, nothing_held, tcp, until};

const MIB: usize = 1 << 20;
const KEY: u64 = 0x5eed;
const ANSWER_LEN: usize = 4 * MIB;
const UPLOAD_LEN: usize = 8 * MIB;

fn answer() -> Bytes {
    let mut bytes = vec![0; ANSWER_LEN];
    keyed::fill(KEY, 0, &mut bytes);
    bytes.into()
}

/// Answers the first byte at once, with all of the answer, and ends as told. What it ended for is reported.
fn answering(last: fn() -> Flow, config: Config) -> (ServerHandle, mpsc::Receiver<Reason>) {
    let (report, reasons) = mpsc::channel();
    let answer = answer();
    let make = move || {
        let (answer, report) = (answer.clone(), report.clone());
        Told(move |event, cx: &mut campanile_core::Context<'_>| match event {
            Event::Input => {
                cx.output.send(answer.clone()).expect("nothing was handed over before");
                cx.input.consume(1);
                last()
            }
            Event::Closed(reason) => {
                // Not every test asks.
                let _ = report.send(reason);
                Flow::Wait
            }
            _ => Flow::More(1),
        })
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).config(config).serve(make);
    (server.expect("a free port of loopback"), reasons)
}

/// Reads to the end and checks that it is the answer.
fn expect_answer(stream: &mut TcpStream) {
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap_or_else(|error| panic!("{error} after {} bytes", got.len()));
    assert_eq!((got.len(), keyed::differs(KEY, 0, &got)), (ANSWER_LEN, None));
}

fn upload(stream: &mut TcpStream, len: usize) {
    let chunk = vec![7; 64 * 1024];
    for _ in 0..len / chunk.len() {
        stream.write_all(&chunk).expect("what is uploaded is taken until the end");
    }
}

/// The answer is there long before the upload is over, and the client looks at it only then.
#[test]
fn an_early_answer_arrives_after_the_whole_upload() {
    let (server, reasons) = answering(|| Flow::Finish, Config::default());
    let mut stream = client(tcp(&server));
    upload(&mut stream, UPLOAD_LEN);
    expect_answer(&mut stream);
    drop(stream);
    assert_eq!(reasons.recv_timeout(support::LONG), Ok(Reason::Finished));
    nothing_held(&server);
}

/// The client reads while it uploads, and goes on uploading after it has everything.
#[test]
fn an_early_answer_arrives_during_the_upload() {
    let (server, reasons) = answering(|| Flow::Finish, Config::default());
    thread::scope(|scope| {
        for _ in 0..8 {
            let to = tcp(&server);
            scope.spawn(move || {
                let mut stream = client(to);
                let mut sending = stream.try_clone().expect("a descriptor more");
                let uploading = thread::spawn(move || {
                    upload(&mut sending, UPLOAD_LEN);
                    sending.shutdown(Shutdown::Write).expect("it is open");
                });
                expect_answer(&mut stream);
                uploading.join().expect("the whole upload is taken");
            });
        }
    });
    for _ in 0..8 {
        assert_eq!(reasons.recv_timeout(support::LONG), Ok(Reason::Finished));
    }
    nothing_held(&server);
}

/// `Close` says that the peer has nothing more to say. It has, and is answered all the same.
#[test]
fn closing_with_unread_input_finishes() {
    let (server, _) = answering(|| Flow::Close, Config::default());
    let mut stream = client(tcp(&server));
    stream.write_all(&[1; 1000]).expect("room in the socket");
    expect_answer(&mut stream);
    drop(stream);
    nothing_held(&server);
}

#[test]
fn closing_at_once_sends_everything_first() {
    let (server, reasons) = answering(|| Flow::Close, Config::default());
    let mut stream = client(tcp(&server));
    stream.write_all(&[1]).expect("room in the socket");
    expect_answer(&mut stream);
    assert_eq!(reasons.recv_timeout(support::LONG), Ok(Reason::Finished));
    // It does not wait for the client to close.
    nothing_held(&server);
}

/// recv = 0 means that there are no more requests, not that nobody wants the answer.
#[test]
fn a_half_closed_client_gets_the_whole_answer() {
    for last in [|| Flow::More(1), || Flow::Finish, || Flow::Close] as [fn() -> Flow; 3] {
        let (server, reasons) = answering(last, Config::default());
        let mut stream = client(tcp(&server));
        stream.write_all(&[1]).expect("room in the socket");
        stream.shutdown(Shutdown::Write).expect("it is open");
        expect_answer(&mut stream);
        assert_eq!(reasons.recv_timeout(support::LONG), Ok(Reason::Finished));
        nothing_held(&server);
    }
}

/// The service leaves most of its input unread, and says that it has finished.
#[test]
fn finishing_with_unread_input_is_no_reset() {
    for last in [|| Flow::Finish, || Flow::Close] as [fn() -> Flow; 2] {
        let (server, _) = answering(last, Config::default());
        let mut stream = client(tcp(&server));
        stream.write_all(&[1; 200_000]).expect("room in the socket");
        stream.shutdown(Shutdown::Write).expect("it is open");
        expect_answer(&mut stream);
        nothing_held(&server);
    }
}

#[test]
fn aborting_is_a_reset() {
    let abort = |input: &mut Input<'_>, output: &mut Output<'_>| {
        input.consume_all();
        output.write(b"never sent").expect("there is room");
        Flow::Abort
    };
    let without_direct = Config { direct_descriptors: false, ..Config::default() };
    for config in [Config::default(), without_direct] {
        let server = Server::new().listen("127.0.0.1:0").workers(1).config(config).serve(move || abort);
        let server = server.expect("a free port of loopback");
        for _ in 0..50 {
            let mut stream = client(tcp(&server));
            stream.write_all(b"x").expect("room in the socket");
            let error = stream.read(&mut [0; 64]).expect_err("nothing is sent, and it does not end");
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        nothing_held(&server);
    }
}

/// A client that never stops sending is cut when so much was discarded, and one that never closes when so long was
/// waited.
#[test]
fn lingering_is_bounded() {
    let limit = 256 * 1024;
    let config = Config { linger_limit: limit, linger_time: Duration::from_secs(600), ..Config::default() };
    let (server, reasons) = answering(|| Flow::Finish, config);
    let mut stream = client(tcp(&server));
    stream.write_all(&[1]).expect("room in the socket");
    expect_answer(&mut stream);
    let cut = (0..10_000).find(|_| stream.write_all(&[7; 64 * 1024]).is_err());
    assert!(cut.is_some(), "an endless upload is cut");
    assert_eq!(reasons.recv_timeout(support::LONG), Ok(Reason::Finished));
    let received = counted(&server).received;
    // Where a receive has no budget it brings all receive buffers full, 4 MiB, and again until it is cancelled.
    let late = if server.capabilities().budget { 1024 * 1024 } else { 16 * 1024 * 1024 };
    assert!(received >= limit && received < limit + late, "{received} received");
    nothing_held(&server);

    let wait = Duration::from_millis(150);
    let config = Config { linger_time: wait, ..Config::default() };
    let (server, reasons) = answering(|| Flow::Finish, config);
    let mut stream = client(tcp(&server));
    stream.write_all(&[1]).expect("room in the socket");
    let began = Instant::now();
    expect_answer(&mut stream);
    // Neither sends nor closes; bytes that trickle do not make it longer.
    let trickle = thread::spawn(move || {
        while stream.write_all(b".").is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    });
    assert_eq!(reasons.recv_timeout(support::LONG), Ok(Reason::Finished));
    let (waited, most) = (began.elapsed(), wait + support::LONG / 2);
    assert!(waited >= wait && waited < most, "{waited:?}");
    trickle.join().expect("writing fails in the end");
    nothing_held(&server);
}

/// A client that does not read is cut, and what it was to get is freed; the service is told why.
#[test]
fn a_client_that_never_reads_is_cut() {
    let config = Config { send_stall: Duration::from_millis(200), ..Config::default() };
    let (server, reasons) = answering(|| Flow::Finish, config);
    let mut stream = client(tcp(&server));
    socket2::SockRef::from(&stream).set_recv_buffer_size(4096).expect("a socket");
    stream.write_all(&[1]).expect("room in the socket");
    assert_eq!(reasons.recv_timeout(support::LONG), Ok(Reason::Stalled));
    nothing_held(&server);
    let error = stream.read_to_end(&mut Vec::new()).expect_err("cut");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// A client that reads slowly makes progress, and is not cut: each look finds that it took something.
#[test]
fn a_client_that_reads_slowly_is_served() {
    let config = Config { send_stall: Duration::from_millis(150), ..Config::default() };
    let (server, reasons) = answering(|| Flow::Finish, config);
    let mut stream = client(tcp(&server));
    stream.write_all(&[1]).expect("room in the socket");
    let mut got = Vec::new();
    let mut chunk = vec![0; 96 * 1024];
    loop {
        let n = stream.read(&mut chunk).unwrap_or_else(|error| panic!("{error} after {} bytes", got.len()));
        if n == 0 {
            break;
        }
        got.extend_from_slice(&chunk[..n]);
        thread::sleep(Duration::from_millis(15));
    }
    assert_eq!((got.len(), keyed::differs(KEY, 0, &got)), (ANSWER_LEN, None));
    drop(stream);
    assert_eq!(reasons.recv_timeout(support::LONG), Ok(Reason::Finished));
    nothing_held(&server);
}

#[test]
fn the_service_is_told_that_the_client_reset() {
    let (server, reasons) = answering(|| Flow::Finish, Config::default());
    let mut stream = client(tcp(&server));
    stream.write_all(&[1]).expect("room in the socket");
    stream.read_exact(&mut [0; 1000]).expect("the answer begins");
    support::reset(stream);
    let reason = reasons.recv_timeout(support::LONG);
    assert!(matches!(reason, Ok(Reason::PeerGone(_))), "{reason:?}");
    nothing_held(&server);
}

/// A service that has read a request and waits for something else is told all the same that its client is gone.
#[test]
fn a_waiting_service_is_told_that_the_client_left() {
    let (report, ends) = mpsc::channel();
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(move || {
        let report = report.clone();
        Told(move |event, cx: &mut campanile_core::Context<'_>| {
            match event {
                Event::End => report.send(None).expect("the test waits for it"),
                Event::Closed(reason) => report.send(Some(reason)).expect("the test waits for it"),
                _ => {}
            }
            if cx.input.is_empty() { Flow::More(1) } else { Flow::Wait }
        })
    });
    let server = server.expect("a free port of loopback");
    let mut stream = client(tcp(&server));
    stream.write_all(b"never read").expect("room in the socket");
    until("it is with the service", || counted(&server).received == 10);
    support::reset(stream);
    let end = ends.recv_timeout(support::LONG);
    assert!(matches!(end, Ok(Some(Reason::PeerGone(_)))), "{end:?}");
    nothing_held(&server);

    let mut stream = client(tcp(&server));
    stream.write_all(b"never read").expect("room in the socket");
    stream.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(ends.recv_timeout(support::LONG), Ok(None));
    // It is for the service to say when its connection is over: the client may be waiting for an answer.
    assert_eq!(counted(&server).connections, 1);
}

/// Nothing is received for a service that never asked for input, and nothing more for one that parked with as much as
/// it may have unread: only the watch over the peer can tell them that it is gone.
#[test]
fn a_service_that_receives_nothing_is_told_of_a_reset() {
    for sent in [0, MIB] {
        let (report, ends) = mpsc::channel();
        let server = Server::new().listen("127.0.0.1:0").workers(1).serve(move || {
            let report = report.clone();
            Told(move |event, _: &mut campanile_core::Context<'_>| {
                if let Event::Closed(reason) = &event {
                    report.send(*reason).expect("the test waits for it");
                }
                if sent > 0 && matches!(event, Event::Open) { Flow::More(1) } else { Flow::Wait }
            })
        });
        let server = server.expect("a free port of loopback");
        let mut stream = client(tcp(&server));
        until("it is accepted", || counted(&server).connections == 1);
        // More than the socket's buffers take is not waited for.
        stream.set_nonblocking(true).expect("a socket");
        let _ = stream.write(&vec![1; sent]);
        if sent > 0 {
            until("it reads no more", || counted(&server).carried_bytes >= 64 * 1024);
        }
        support::reset(stream);
        let reason = ends.recv_timeout(support::LONG);
        assert!(matches!(reason, Ok(Reason::PeerGone(_))), "{reason:?}");
        nothing_held(&server);
    }
}
