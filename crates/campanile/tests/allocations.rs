#![allow(unsafe_code)] // An allocator that counts.
//! Allocations: a request that is answered at once needs none, however much is seen of it.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;

use campanile::http::{self, Metrics, Router};
use campanile::{Lines, Server, framed};

use support::common::{client, tcp};

/// Counts what each thread asks for.
struct Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends may have no counter any more.
    let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
}

// SAFETY: the system's allocator, which is passed everything as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.realloc(at, layout, len) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Rounds, and requests of each.
const ROUNDS: usize = 50;
const REQUESTS: usize = 100;

/// What the worker allocates for a hundred requests, in each round. `asked` asks it how often it did so far, and is
/// answered in 20 digits, at some cost.
fn allocated(
    stream: &mut TcpStream,
    request: &str,
    answer_len: usize,
    mut asked: impl FnMut(&mut TcpStream) -> u64,
) -> Vec<u64> {
    let mut answer = vec![0; answer_len];
    let mut ask = |stream: &mut TcpStream| {
        for _ in 0..REQUESTS {
            stream.write_all(request.as_bytes()).expect("it reads");
            stream.read_exact(&mut answer).expect("an answer");
        }
    };
    // Tables grow to their size.
    (0..10).for_each(|_| ask(stream));
    let rounds = (0..ROUNDS).map(|_| {
        let before = asked(stream);
        let cost = asked(stream) - before;
        ask(stream);
        (asked(stream) - before).saturating_sub(2 * cost)
    });
    let mut rounds: Vec<u64> = rounds.collect();
    rounds.sort_unstable();
    rounds
}

async fn greet(request: http::OwnedRequest) -> Result<&'static str, http::Error> {
    match request.param("name").zip(request.field("host")) {
        Some(("ten", b"a")) => Ok("Hello, World!"),
        _ => Err(http::Error::new(404, "nobody is called that")),
    }
}

fn so_far() -> String {
    format!("{:020}", ASKED.with(Cell::get))
}

#[test]
fn a_request_answered_at_once_allocates_nothing() {
    of_requests("GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n");
}

/// Neither for the future, nor for the copy of the head, nor for the answer.
#[test]
fn a_handler_that_may_wait_and_does_not_allocates_nothing() {
    of_requests("GET /async/ten?and=more HTTP/1.1\r\nHost: a\r\nUser-Agent: b\r\nAccept: */*\r\n\r\n");
    of_requests("POST /async/ten HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
}

fn of_requests(request: &str) {
    let server = Server::new().listen("127.0.0.1:0").workers(1);
    let monitor = server.monitor();
    let server = http::serve(server, http::Config::default(), move || {
        Router::new()
            .get("/plaintext", |_, response| response.text(200, "Hello, World!"))
            .get("/async/{name}", http::wait(greet))
            .post("/async/{name}", http::wait(greet))
            .get("/allocated", |_, response| response.text(200, &so_far()))
            .route("GET", "/metrics", Metrics::new(monitor.clone()))
    });
    let server = server.expect("a free port of loopback");
    let mut stream = client(tcp(&server));
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut first = [0; 1024];
    let answer_len = stream.read(&mut first).expect("an answer");
    assert!(first[..answer_len].ends_with(b"Hello, World!"));
    let rounds = allocated(&mut stream, request, answer_len, |stream| {
        stream.write_all(b"GET /allocated HTTP/1.1\r\nHost: a\r\n\r\n").expect("it reads");
        let mut answer = vec![0; answer_len - 13 + 20];
        stream.read_exact(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer[answer.len() - 20..]).parse().expect("a number")
    });
    // What a busy machine cuts in two is put together in memory that has to be found: at most now and then.
    assert_eq!(rounds[ROUNDS / 2], 0, "allocations in rounds of {REQUESTS} requests: {rounds:?}");
    // Seen all the same.
    assert!(server.counters()[0].succeeded > (ROUNDS * REQUESTS) as u64);
}

#[test]
fn a_frame_allocates_nothing() {
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(|| {
        framed(Lines::new(64), |line, reply| match line {
            b"allocated" => reply.write_line(so_far()),
            line => reply.write_line(line),
        })
    });
    let server = server.expect("a free port of loopback");
    let mut stream = client(tcp(&server));
    let rounds = allocated(&mut stream, "hello\n", 6, |stream| {
        stream.write_all(b"allocated\n").expect("it reads");
        let mut answer = [0; 21];
        stream.read_exact(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer[..20]).parse().expect("a number")
    });
    assert_eq!(rounds[ROUNDS / 2], 0, "allocations in rounds of {REQUESTS} frames: {rounds:?}");
}
