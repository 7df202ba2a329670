//! No foreign byte: hundreds of connections, each with a byte stream of its own that is checked at every step, while
//! clients reset, half-close and come again at once, and the worker has hardly a receive buffer.
//!
//! Every byte is checked by the service as it arrives and by the client as it comes back; kept `Bytes` are checked
//! once more when they are let go, late, in any order and on another thread.
//!
//! `CAMPANILE_TEST_MIB` sets how many MiB each case moves (4, or 24 to get past the tail's wrap), `CAMPANILE_TEST_SEED`
//! what chance there is.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Instant;

use campanile_core::{Bytes, Config, Context, Event, Flow, Input, Output, Server, Service};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::{counted, keyed, nothing_held, tcp};

/// As many as the point needs, and hundreds of times more than there are buffers.
const MANY: u64 = 512;
const CLIENT_THREADS: u64 = 2;

/// What went wrong first.
#[derive(Debug, Default)]
struct Verdict(Mutex<Option<String>>);

impl Verdict {
    fn foreign(&self, place: &str, key: u64, at: u64) {
        let mut first = self.0.lock().expect("no panic while it is held");
        first.get_or_insert(format!("{place}: the stream of {key:#x} has a foreign byte at {at}"));
    }

    fn check(&self, place: &str, key: u64, at: u64, bytes: &[u8]) {
        if let Some(at) = keyed::differs(key, at, bytes) {
            self.foreign(place, key, at);
        }
    }

    fn assert_clean(&self) {
        let first = self.0.lock().expect("no panic while it is held").clone();
        assert_eq!(first, None);
    }
}

/// Who a connection's bytes belong to, once its first eight have come, and how far its stream was checked.
#[derive(Debug, Default)]
struct Stream {
    key: Option<u64>,
    at: u64,
}

impl Stream {
    /// How many of the unread bytes may be taken; none until the key is there.
    fn learn(&mut self, unread: &[u8]) -> Option<u64> {
        if self.key.is_none() {
            self.key = Some(u64::from_le_bytes(*unread.first_chunk()?));
        }
        self.key
    }
}

/// Echoes by copying.
struct Echo {
    stream: Stream,
    verdict: Arc<Verdict>,
}

impl Service for Echo {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        if let Event::Closed(_) = event {
            return Flow::Wait;
        }
        self.go_on(&mut cx.input, &mut cx.output)
    }
}

impl Echo {
    fn go_on(&mut self, input: &mut Input<'_>, output: &mut Output<'_>) -> Flow {
        let Some(key) = self.stream.learn(input) else {
            return Flow::More((keyed::HEADER as usize).saturating_sub(input.len()).max(1));
        };
        let n = input.len().min(output.room());
        let bytes = input.consume(n);
        self.verdict.check("the service", key, self.stream.at, bytes);
        self.stream.at += n as u64;
        output.write(bytes).expect("no longer than the room");
        if input.is_empty() { Flow::More(1) } else { Flow::Room }
    }
}

/// Bytes that were kept, and whose they are.
struct Held {
    key: u64,
    at: u64,
    bytes: Bytes,
    verdict: Arc<Verdict>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.verdict.check("kept bytes", self.key, self.at, &self.bytes);
    }
}

/// What a worker keeps, and lets go in no order: here, or on a thread of its own.
struct Hoard {
    held: Vec<Held>,
    random: fastrand::Rng,
    elsewhere: mpsc::Sender<Held>,
}

/// A hoard of so many is full.
const HOARD: usize = 48;

impl Hoard {
    fn new(seed: u64) -> Hoard {
        let (elsewhere, incoming) = mpsc::channel::<Held>();
        // Ends with the hoard.
        thread::spawn(move || incoming.into_iter().for_each(drop));
        Hoard { held: Vec::new(), random: fastrand::Rng::with_seed(seed), elsewhere }
    }

    fn put(&mut self, held: Held) {
        self.held.push(held);
        while self.held.len() > HOARD {
            let any = self.held.swap_remove(self.random.usize(..self.held.len()));
            if self.random.bool() {
                self.elsewhere.send(any).expect("it ends after the hoard");
            }
        }
    }
}

/// Echoes the very memory that the kernel filled, and keeps it beyond that.
struct KeepingEcho {
    stream: Stream,
    unsent: Option<Bytes>,
    hoard: std::rc::Rc<std::cell::RefCell<Hoard>>,
    verdict: Arc<Verdict>,
}

impl Service for KeepingEcho {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        if let Event::Closed(_) = event {
            return Flow::Wait;
        }
        if let Some(bytes) = self.unsent.take()
            && let Err(refused) = cx.output.send(bytes)
        {
            self.unsent = Some(refused);
            return Flow::Room;
        }
        let Some(key) = self.stream.learn(&cx.input) else {
            return Flow::More((keyed::HEADER as usize).saturating_sub(cx.input.len()).max(1));
        };
        // Often in two parts, so that one buffer is held twice.
        let n = cx.input.len();
        let n = if n > 1 && n.is_multiple_of(3) { n / 2 } else { n };
        let bytes = cx.input.keep(n);
        let at = self.stream.at;
        self.verdict.check("the service", key, at, &bytes);
        self.stream.at += n as u64;
        let held = Held { key, at, bytes: bytes.clone(), verdict: Arc::clone(&self.verdict) };
        self.hoard.borrow_mut().put(held);
        if let Err(refused) = cx.output.send(bytes) {
            self.unsent = Some(refused);
            return Flow::Room;
        }
        Flow::More(1)
    }
}

/// How a client's connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It sends so many bytes, half-closes, and gets every one back.
    Whole(u64),
    /// It resets after so many sent.
    Reset(u64),
    /// It closes after so many sent, whatever is on its way.
    Gone(u64),
}

/// One connection of a client.
#[derive(Debug)]
struct Caller {
    stream: TcpStream,
    key: u64,
    fate: Fate,
    sent: u64,
    received: u64,
    /// It has at most so much on its way.
    window: u64,
    half_closed: bool,
}

enum Step {
    GoOn,
    Over,
}

impl Caller {
    fn new(to: SocketAddr, key: u64, random: &mut fastrand::Rng) -> Caller {
        let stream = support::client(to);
        stream.set_nonblocking(true).expect("a socket");
        let len = match random.u8(..8) {
            0 => random.u64(8..64),
            1..=5 => random.u64(64..20_000),
            _ => random.u64(20_000..150_000),
        };
        let fate = match random.u8(..8) {
            0 => Fate::Reset(random.u64(1..len)),
            1 => Fate::Gone(random.u64(1..len)),
            _ => Fate::Whole(len),
        };
        let window = [200, 1_500, 5_000, 40_000][random.usize(..4)];
        Caller { stream, key, fate, sent: 0, received: 0, window, half_closed: false }
    }

    fn may_send(&self) -> u64 {
        let (Fate::Whole(len) | Fate::Reset(len) | Fate::Gone(len)) = self.fate;
        (len - self.sent).min(self.window.saturating_sub(self.sent - self.received))
    }

    fn interest(&self) -> PollFlags {
        if self.may_send() > 0 { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }
    }

    /// Sends and receives what goes without waiting.
    fn step(&mut self, scratch: &mut [u8], verdict: &Verdict) -> Step {
        let n = (self.may_send() as usize).min(scratch.len());
        if n > 0 {
            keyed::fill(self.key, self.sent, &mut scratch[..n]);
            match self.stream.write(&scratch[..n]) {
                Ok(n) => self.sent += n as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("the server cut {:?}: {error}", self.stream),
            }
        }
        match self.fate {
            Fate::Whole(len) if self.sent == len && !self.half_closed => {
                self.half_closed = true;
                self.stream.shutdown(Shutdown::Write).expect("it is open");
            }
            Fate::Reset(len) | Fate::Gone(len) if self.sent == len => return Step::Over,
            _ => {}
        }
        match self.stream.read(scratch) {
            Ok(0) => {
                let all = Fate::Whole(self.received);
                assert_eq!(all, self.fate, "it ends when all has come back, and only then");
                Step::Over
            }
            Ok(n) => {
                verdict.check("the client", self.key, self.received, &scratch[..n]);
                self.received += n as u64;
                assert!(self.received <= self.sent, "no more comes back than was sent");
                Step::GoOn
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Step::GoOn,
            Err(error) => panic!("the server cut {:?}: {error}", self.stream),
        }
    }

    fn leave(self) {
        if let Fate::Reset(_) = self.fate {
            support::reset(self.stream);
        }
    }
}

/// What the clients did, all together.
#[derive(Debug, Default)]
struct Tally {
    received: AtomicU64,
    callers: AtomicU64,
    whole: AtomicU64,
    resets: AtomicU64,
}

/// What the clients are to do, all together.
#[derive(Debug)]
struct Load {
    connections: u64,
    bytes: u64,
    seed: u64,
}

/// One thread's share of the connections; each that is over is followed by another at once, until enough has come
/// back. Then those that are there are served to their end.
fn call(to: SocketAddr, thread: u64, load: &Load, tally: &Tally, verdict: &Verdict) {
    let mut random = fastrand::Rng::with_seed(load.seed ^ thread);
    let mut scratch = vec![0; 16 * 1024];
    let mut next_key = thread << 48;
    let mut fresh = |random: &mut fastrand::Rng| {
        next_key += 1;
        tally.callers.fetch_add(1, Ordering::Relaxed);
        Caller::new(to, next_key.wrapping_mul(0xd134_2543_de82_ef95), random)
    };
    let mut callers: Vec<Caller> =
        (0..load.connections / CLIENT_THREADS).map(|_| fresh(&mut random)).collect();
    let began = Instant::now();
    while !callers.is_empty() {
        assert!(began.elapsed() < support::LONG, "starved: {callers:#?}\n{tally:?}");
        let mut ready: Vec<PollFd<'_>> = callers
            .iter()
            .map(|caller| PollFd::from_borrowed_fd(caller.stream.as_fd(), caller.interest()))
            .collect();
        let soon = Timespec { tv_sec: 1, tv_nsec: 0 };
        poll(&mut ready, Some(&soon)).expect("descriptors that are open");
        let ready: Vec<bool> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
        for at in (0..callers.len()).rev().filter(|&at| ready[at]) {
            let before = callers[at].received;
            let step = callers[at].step(&mut scratch, verdict);
            tally.received.fetch_add(callers[at].received - before, Ordering::Relaxed);
            let Step::Over = step else { continue };
            let over = callers.swap_remove(at);
            match over.fate {
                Fate::Whole(_) => tally.whole.fetch_add(1, Ordering::Relaxed),
                _ => tally.resets.fetch_add(1, Ordering::Relaxed),
            };
            over.leave();
            if tally.received.load(Ordering::Relaxed) < load.bytes {
                callers.push(fresh(&mut random));
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Copying,
    Keeping,
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What a case varies.
#[derive(Debug, Clone, Copy)]
struct Case {
    connections: u64,
    buffers: u16,
    buffer_len: u32,
    bundles: bool,
    way: Way,
    mib: u64,
}

/// Runs one case; says how many steps the tail of the buffer ring has made.
fn run(case: Case) -> u64 {
    let Case { connections, buffers, buffer_len, bundles, way, mib } = case;
    let mib = number("CAMPANILE_TEST_MIB", mib);
    let load = Load { connections, bytes: mib << 20, seed: number("CAMPANILE_TEST_SEED", 7) };
    let seed = load.seed;
    let verdict = Arc::new(Verdict::default());
    let config =
        Config { receive_buffers: buffers, receive_buffer_len: buffer_len, bundles, ..Config::default() };
    let server = Server::new().listen("127.0.0.1:0").workers(1).config(config);
    let checked = Arc::clone(&verdict);
    let server = match way {
        Way::Copying => {
            server.serve(move || Echo { stream: Stream::default(), verdict: Arc::clone(&checked) })
        }
        Way::Keeping => server.serve_with(
            move |_| std::rc::Rc::new(std::cell::RefCell::new(Hoard::new(seed))),
            move |hoard, _| KeepingEcho {
                stream: Stream::default(),
                unsent: None,
                hoard: std::rc::Rc::clone(hoard),
                verdict: Arc::clone(&checked),
            },
        ),
    };
    let server = server.expect("a free port of loopback");
    let (to, tally) = (tcp(&server), Tally::default());
    let began = Instant::now();
    thread::scope(|scope| {
        for thread in 1..=CLIENT_THREADS {
            let (load, tally, verdict) = (&load, &tally, &verdict);
            scope.spawn(move || call(to, thread, load, tally, verdict));
        }
    });
    verdict.assert_clean();
    let counters = counted(&server);
    eprintln!("{case:?}: {:.1?}, {tally:?}, {counters:?}", began.elapsed());
    if way == Way::Copying {
        nothing_held(&server);
    } else {
        support::until("every connection is over", || counted(&server).connections == 0);
        // What the hoard still has is with it; it never holds more than half of the ring.
        assert!(counted(&server).kept_buffers <= u64::from(buffers / 2));
    }
    drop(server);
    verdict.assert_clean();
    let (whole, resets) = (tally.whole.into_inner(), tally.resets.into_inner());
    let some = connections / 8;
    assert!(whole > some && resets > some, "both kinds of end happen: {whole} and {resets}");
    counters.buffers_given
}

/// The tail is a 16-bit number: only past this does it wrap.
const WRAP: u64 = 1 << 16;

/// Bundles on and off, copying and keeping.
fn four_ways(buffers: u16, buffer_len: u32) {
    for bundles in [true, false] {
        for way in [Way::Copying, Way::Keeping] {
            run(Case { connections: MANY, buffers, buffer_len, bundles, way, mib: 4 });
        }
    }
}

#[test]
fn two_buffers() {
    four_ways(2, 4096);
}

#[test]
fn four_buffers() {
    four_ways(4, 4096);
}

#[test]
fn eight_buffers() {
    four_ways(8, 4096);
}

#[test]
fn the_default_buffers() {
    let Config { receive_buffers, receive_buffer_len, .. } = Config::default();
    four_ways(receive_buffers, receive_buffer_len);
}

#[test]
fn past_the_wrap_of_the_tail() {
    for (connections, buffers) in [(MANY, 64), (8, 8)] {
        for (bundles, way) in [(true, Way::Keeping), (false, Way::Copying)] {
            let steps = run(Case { connections, buffers, buffer_len: 256, bundles, way, mib: 24 });
            assert!(steps > WRAP, "{steps} steps do not wrap");
        }
    }
}
