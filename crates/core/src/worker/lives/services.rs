//! The services of a simulated life: every way to use the seam, each checking what it is given.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::channel::{self, Receiver, Room, Sender};
use crate::errand::{Answer, Connect};
use crate::fs::{File, OpenFile};
use crate::input::Input;
use crate::output::Output;
use crate::ring::simulated::random::Random;
use crate::service::{Context, Event, Flow, Reason, Service};
use crate::time::Time;

use super::awaiter::Awaiter;
use super::futures;
use super::ledger::{ClientId, Ledger, first_foreign, keyed};
use super::lender::Lender;
use super::storer::Storer;
use super::town::{FIRST_PORT, Kind, answer_to, file_path};

/// Length of what a client says first: which service it wants, and who it is.
pub(super) const GREETING_LEN: usize = 4;

/// Bytes whose memory is spoilt when the last clone is dropped, so that a kernel that still reads it sends rubbish. The
/// memory itself stays until the life is over.
struct Perishable {
    memory: Box<[u8]>,
}

impl AsRef<[u8]> for Perishable {
    fn as_ref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Perishable {
    fn drop(&mut self) {
        let mut memory = std::mem::take(&mut self.memory);
        memory.fill(0xdd);
        if !cfg!(miri) {
            GRAVEYARD.with_borrow_mut(|graveyard| graveyard.push(memory));
        }
    }
}

thread_local! {
    static GRAVEYARD: std::cell::RefCell<Vec<Box<[u8]>>> = const { std::cell::RefCell::new(Vec::new()) };
}

pub(super) fn clear_graveyard() {
    GRAVEYARD.with_borrow_mut(Vec::clear);
}

pub(super) fn perishable(bytes: Vec<u8>) -> Bytes {
    Bytes::from_owner(Perishable { memory: bytes.into() })
}

/// Checks the rules of the seam around any service.
pub(super) struct Checked {
    inner: Box<dyn Service>,
    client: ClientId,
    ledger: Ledger,
    open: bool,
    ended: bool,
    closed: bool,
    is_first: bool,
    /// It may end its output, and has no room from then on.
    half_closes: bool,
    buffers: bool,
    /// When it consumed something last, or saw the connection first.
    consumed_at: Option<Time>,
    frame_timeout: Duration,
}

impl Checked {
    pub(super) fn new(inner: impl Service + 'static, client: ClientId, ledger: &Ledger) -> Checked {
        ledger.service_born();
        Checked {
            inner: Box::new(inner),
            client,
            ledger: ledger.clone(),
            open: false,
            ended: false,
            closed: false,
            is_first: client == NOBODY,
            half_closes: false,
            buffers: false,
            consumed_at: None,
            frame_timeout: ledger.frame_timeout(),
        }
    }

    /// What it consumes lies in a buffer behind it, so its frames are not seen here, nor does it need room for input.
    fn buffering(mut self) -> Checked {
        (self.buffers, self.frame_timeout) = (true, Duration::ZERO);
        self
    }

    fn half_closing(mut self) -> Checked {
        self.half_closes = true;
        self
    }
}

/// Of a service that does not know yet whose it is.
const NOBODY: ClientId = usize::MAX;

impl Service for Checked {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        let rule = |what: &str| format!("client {}: {what}: {event:?}", self.client);
        let opens = matches!(event, Event::Open);
        self.ledger.check(!self.closed, || rule("an event after Closed"));
        self.ledger
            .check(opens != self.open || matches!(event, Event::Closed(_)), || rule("Open is first, once"));
        let asks_for_room = matches!(event, Event::Input | Event::Room | Event::End | Event::Open);
        let room = cx.output.room();
        let ended = self.half_closes && room == 0;
        let no_matter = ended || (self.buffers && matches!(event, Event::Input | Event::End));
        self.ledger.check(!asks_for_room || no_matter || room >= cx.promised_room(), || {
            rule(&format!("room {room} of {}", cx.promised_room()))
        });
        self.ledger
            .check(!matches!(event, Event::Input) || !cx.input.is_empty(), || rule("Input without input"));
        match event {
            Event::Open => self.open = true,
            Event::End => {
                self.ledger.check(!self.ended, || rule("a second End"));
                self.ended = true;
            }
            Event::Drain if !self.is_first => self.ledger.drained(self.client),
            Event::Closed(reason) => {
                self.closed = true;
                let (waited, least) = (self.consumed_at.map(|at| cx.now().since(at)), self.frame_timeout);
                let fine = reason != Reason::Incomplete || waited.is_some_and(|waited| waited >= least);
                self.ledger.check(fine, || rule(&format!("nothing consumed for {waited:?} of {least:?}")));
                match self.is_first {
                    false => self.ledger.closed(self.client, reason),
                    true if reason.timeout().is_some() => self.ledger.closed_unnamed(),
                    true => {}
                }
            }
            _ => {}
        }
        let flow = self.inner.handle(event, cx);
        if opens || cx.input.consumed() > 0 {
            self.consumed_at = Some(cx.now());
        }
        flow
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        self.ledger.service_died();
    }
}

/// The first service of every accepted connection: becomes what the client asks for.
pub(super) fn greeter(ledger: &Ledger, seed: u64) -> Box<dyn Service> {
    struct Greeter(Ledger, u64);
    impl Service for Greeter {
        fn handle(&mut self, _: Event, cx: &mut Context<'_>) -> Flow {
            if cx.input.len() < GREETING_LEN {
                return Flow::More(GREETING_LEN - cx.input.len());
            }
            let greeting = cx.input.consume(GREETING_LEN);
            let id = usize::from(greeting[1]) << 8 | usize::from(greeting[2]);
            let kind = Kind::ALL.get(usize::from(greeting[0])).copied();
            let Some(kind) = kind.filter(|_| greeting[3] == keyed(id, 1 << 20)) else {
                self.0.violated(format!("a greeting that nobody sent: {greeting:?}"));
                return Flow::Abort;
            };
            let random = Random::new(self.1 ^ id as u64);
            Flow::Become(Box::new(service_of(kind, id, &self.0, random)))
        }
    }
    Box::new(Checked::new(Greeter(ledger.clone(), seed), NOBODY, ledger))
}

fn service_of(kind: Kind, id: ClientId, ledger: &Ledger, mut random: Random) -> Checked {
    let at = At { id, at: 0, ledger: ledger.clone() };
    match kind {
        Kind::Echo => {
            let mut at = at;
            Checked::new(
                move |input: &mut Input<'_>, output: &mut Output<'_>| at.echo(input, output),
                id,
                ledger,
            )
        }
        Kind::Framed => Checked::new(Framed { at, random }, id, ledger),
        Kind::Keeper => {
            let most = random.between(1, 6);
            Checked::new(Keeper { at, kept: VecDeque::new(), clones: Vec::new(), most, random }, id, ledger)
        }
        Kind::Early => Checked::new(Early { id, written: 0, total: super::town::early_len(id) }, id, ledger),
        Kind::Timed | Kind::Woken => {
            Checked::new(Patient { at, random, waiting: false, woken: kind == Kind::Woken }, id, ledger)
        }
        Kind::Relay => Checked::new(Relay::near(id, ledger, random), id, ledger).half_closing(),
        Kind::File => Checked::new(FileSender::new(id, ledger), id, ledger),
        Kind::Store => Checked::new(Storer::new(id, ledger, random), id, ledger),
        Kind::Await => Checked::new(Awaiter::new(id, ledger, random), id, ledger),
        Kind::Lend => Checked::new(Lender::new(id, ledger, random), id, ledger),
        Kind::Abort => Checked::new(|_: &mut Input<'_>, _: &mut Output<'_>| Flow::Abort, id, ledger),
        Kind::Panic => Checked::new(Panicker, id, ledger),
        Kind::Close => Checked::new(Closer { at }, id, ledger),
        Kind::StreamEcho | Kind::StreamFramed | Kind::StreamRelay | Kind::StreamFile => {
            Checked::new(futures::service_of(kind, id, ledger, random), id, ledger).half_closing().buffering()
        }
    }
}

/// How far the client's bytes were read, and that they are the client's.
struct At {
    id: ClientId,
    at: usize,
    ledger: Ledger,
}

impl At {
    fn check(&mut self, bytes: &[u8]) {
        if let Some(i) = first_foreign(self.id, self.at, bytes) {
            let (id, at) = (self.id, self.at + i);
            self.ledger.violated(format!("client {id}: foreign byte {:#x} at {at}", bytes[i]));
        }
        self.at += bytes.len();
    }

    fn echo(&mut self, input: &mut Input<'_>, output: &mut Output<'_>) -> Flow {
        let n = input.len().min(output.room());
        let bytes = input.consume(n);
        self.check(bytes);
        output.write(bytes).expect("no longer than the room");
        if input.is_empty() { Flow::More(1) } else { Flow::Room }
    }
}

/// Length-prefixed requests, answered one by one, shortly or at length.
struct Framed {
    at: At,
    random: Random,
}

impl Service for Framed {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        if matches!(event, Event::Drain) && cx.input.is_empty() {
            return Flow::Finish;
        }
        loop {
            let Some(head) = cx.input.first_chunk::<2>() else { return Flow::More(2 - cx.input.len()) };
            let len = usize::from(u16::from_be_bytes(*head));
            if cx.input.len() < 2 + len {
                return Flow::More(2 + len - cx.input.len());
            }
            let answer = answer_to(&cx.input[2..2 + len]);
            if answer.len() <= cx.output.room() && self.random.chance(700) {
                cx.output.write(&answer).expect("within the room");
            } else if cx.output.send(perishable(answer)).is_err() {
                return Flow::Room;
            }
            let request = cx.input.consume(2 + len);
            self.at.check(&request[2..]);
            // Not every service is greedy.
            if self.random.chance(300) {
                return Flow::More(1);
            }
        }
    }
}

/// Keeps what it got, and answers with it, later and in order; clones of it go home out of order.
struct Keeper {
    at: At,
    kept: VecDeque<Bytes>,
    clones: Vec<Bytes>,
    most: usize,
    random: Random,
}

impl Service for Keeper {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        if !cx.input.is_empty() && self.kept.len() <= self.most {
            let n = self.random.between(1, cx.input.len());
            let bytes = cx.input.keep(n);
            self.clones.push(bytes.clone());
            self.kept.push_back(bytes);
        }
        if matches!(event, Event::Closed(_)) {
            return Flow::Wait;
        }
        let flush = self.kept.len() >= self.most || cx.input.is_ended() || matches!(event, Event::Timer);
        while flush && let Some(bytes) = self.kept.pop_front() {
            let shown = bytes.clone();
            let written = match self.random.chance(512) && bytes.len() <= cx.output.room() {
                true => cx.output.write(&bytes).map_err(|_| bytes),
                false => cx.output.send(bytes),
            };
            if let Err(bytes) = written {
                self.kept.push_front(bytes);
                return Flow::Room;
            }
            self.at.check(&shown);
        }
        while self.clones.len() > 2 * self.most || (cx.input.is_ended() && !self.clones.is_empty()) {
            let one = self.random.below(self.clones.len());
            self.clones.swap_remove(one);
        }
        if !self.kept.is_empty() && cx.timer().is_none() {
            cx.set_timer_in(Duration::from_millis(self.random.between(1, 300) as u64));
        }
        match (cx.input.is_ended() && cx.input.is_empty(), self.kept.is_empty()) {
            (true, false) => Flow::Wait,
            _ if self.kept.len() > self.most => Flow::Wait,
            _ => Flow::More(1),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        for clone in self.clones.drain(..) {
            std::hint::black_box(clone.iter().fold(0u8, |sum, byte| sum ^ byte));
        }
    }
}

/// Answers at once and finishes, while the client is still sending.
struct Early {
    id: ClientId,
    written: usize,
    total: usize,
}

impl Service for Early {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        if matches!(event, Event::Open) {
            return Flow::More(1);
        }
        while self.written < self.total {
            let n = (self.total - self.written).min(cx.output.room());
            if n == 0 {
                return Flow::Room;
            }
            let answer = super::ledger::keyed_range(!self.id, self.written..self.written + n);
            cx.output.write(&answer).expect("within the room");
            self.written += n;
        }
        Flow::Finish
    }
}

/// Leaves its input where it is until its time has come, or somebody wakes it.
struct Patient {
    at: At,
    random: Random,
    waiting: bool,
    woken: bool,
}

impl Service for Patient {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        let its_time = match event {
            Event::Timer => !self.woken,
            Event::Wake => self.woken,
            _ => false,
        };
        if its_time {
            self.at.ledger.check(self.waiting, || format!("client {}: woken out of the blue", self.at.id));
            self.waiting = false;
            return self.answer(cx);
        }
        // Room to go on answering, when the time has come already.
        if matches!(event, Event::Room) && !self.waiting {
            return self.answer(cx);
        }
        if cx.input.is_empty() {
            return if self.waiting { Flow::Wait } else { Flow::More(1) };
        }
        if !self.waiting {
            self.waiting = true;
            let after = Duration::from_micros(self.random.below(60_000) as u64);
            match self.woken {
                // Other threads are quick now and then: before this call returns.
                true if self.random.chance(300) => cx.waker().wake(),
                true => self.at.ledger.wake_at(cx.now() + after, cx.waker()),
                false => cx.set_timer_in(after),
            }
        }
        Flow::Wait
    }
}

impl Patient {
    fn answer(&mut self, cx: &mut Context<'_>) -> Flow {
        let flow = self.at.echo(&mut cx.input, &mut cx.output);
        // Whoever is called for a timer may have no room at all.
        if cx.input.is_empty() && cx.output.room() == 0 { Flow::Room } else { flow }
    }
}

/// One end of a relay: what comes in goes through one channel, what comes through the other goes out.
struct Relay {
    id: ClientId,
    ledger: Ledger,
    random: Random,
    ends: Option<(Sender, Receiver)>,
    near: bool,
}

impl Relay {
    fn near(id: ClientId, ledger: &Ledger, random: Random) -> Relay {
        Relay { id, ledger: ledger.clone(), random, ends: None, near: true }
    }

    fn connect(&mut self, cx: &mut Context<'_>) {
        let (to_far, from_near) = cx.channel(self.random.between(1, 2000));
        let (to_near, from_far) = cx.channel(self.random.between(1, 2000));
        self.ends = Some((to_far, from_far));
        let far = Relay {
            id: self.id,
            ledger: self.ledger.clone(),
            random: Random::new(self.random.next()),
            ends: Some((to_near, from_near)),
            near: false,
        };
        let address = SocketAddr::from(([10, 0, 0, 1], FIRST_PORT + self.id as u16));
        let connect = Connect::to(address).deadline(Duration::from_secs(2));
        cx.connect(connect, Checked::new(far, self.id, &self.ledger).half_closing());
    }
}

impl Service for Relay {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        match event {
            Event::Open if self.near => self.connect(cx),
            Event::Answer(_, Answer::Connected(Err(_))) => {
                self.ledger.excuse(self.id, "the connection onwards failed");
                return Flow::Abort;
            }
            Event::Closed(reason) => {
                if reason == Reason::NotConnected {
                    self.ledger.excuse(self.id, "the connection onwards failed");
                }
                self.ends = None;
                return Flow::Wait;
            }
            _ => {}
        }
        let Some((sender, receiver)) = &mut self.ends else { return Flow::Abort };
        let mut full = false;
        while !cx.input.is_empty() {
            match sender.room(cx) {
                Room::Free(room) => {
                    let n = room.min(cx.input.len());
                    let n = self.random.between(1, n);
                    let bytes = cx.input.keep(n);
                    sender.send(bytes).expect("there is room");
                }
                Room::Full => {
                    full = true;
                    break;
                }
                Room::Gone => return Flow::Abort,
            }
        }
        if cx.input.is_ended() && cx.input.is_empty() {
            sender.end();
        }
        loop {
            match receiver.receive(cx) {
                channel::Received::Data(bytes) => {
                    if let Err(bytes) = cx.output.send(bytes) {
                        receiver.put_back(bytes);
                        return Flow::Room;
                    }
                }
                channel::Received::Empty => break,
                channel::Received::Ended if cx.input.is_ended() && cx.input.is_empty() => {
                    return Flow::Finish;
                }
                channel::Received::Ended => {
                    cx.output.end();
                    break;
                }
                channel::Received::Aborted => return Flow::Abort,
            }
        }
        if full || cx.input.is_ended() { Flow::Wait } else { Flow::More(1) }
    }
}

/// Sends a file, as much of it as comes at a time.
struct FileSender {
    id: ClientId,
    ledger: Ledger,
    file: Option<File>,
    at: u64,
    reading: bool,
    unsent: Option<Bytes>,
    len: Option<u64>,
}

impl FileSender {
    fn new(id: ClientId, ledger: &Ledger) -> FileSender {
        FileSender { id, ledger: ledger.clone(), file: None, at: 0, reading: false, unsent: None, len: None }
    }

    fn failed(&self) -> Flow {
        self.ledger.excuse(self.id, "the file could not be read");
        Flow::Abort
    }
}

impl Service for FileSender {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        match event {
            Event::Open => {
                cx.open_file(OpenFile::at(file_path(self.id)));
            }
            Event::Answer(_, Answer::Opened(Ok(file))) => {
                match cx.stat_now(&file) {
                    Some(Ok(stat)) => self.len = Some(stat.len),
                    Some(Err(_)) => return self.failed(),
                    None => _ = cx.stat(&file),
                }
                self.file = Some(file);
            }
            Event::Answer(_, Answer::Stat(Ok(stat))) => self.len = Some(stat.len),
            Event::Answer(_, Answer::Read(Ok(bytes))) => {
                self.reading = false;
                if bytes.is_empty() {
                    let len = self.len;
                    self.ledger
                        .check(len == Some(self.at), || format!("a file of {len:?} ends at {}", self.at));
                    return Flow::Finish;
                }
                self.at += bytes.len() as u64;
                self.unsent = Some(bytes);
            }
            Event::Answer(..) => return self.failed(),
            Event::Closed(_) => return Flow::Wait,
            _ => {}
        }
        if let Some(bytes) = self.unsent.take()
            && let Err(bytes) = cx.output.send(bytes)
        {
            self.unsent = Some(bytes);
            return Flow::Room;
        }
        if let (Some(file), Some(_), false) = (&self.file, self.len, self.reading) {
            self.reading = true;
            cx.read_file(file, self.at, 1 << 20);
        }
        Flow::Wait
    }
}

struct Panicker;

impl Service for Panicker {
    fn handle(&mut self, event: Event, _: &mut Context<'_>) -> Flow {
        match event {
            // Without a word on the terminal.
            Event::Input => std::panic::resume_unwind(Box::new("on purpose")),
            _ => Flow::More(1),
        }
    }
}

/// Answers once, and closes.
struct Closer {
    at: At,
}

impl Service for Closer {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        if matches!(event, Event::Closed(_)) || cx.input.len() < super::town::CLOSER_LEN {
            return Flow::More(super::town::CLOSER_LEN.saturating_sub(cx.input.len()).max(1));
        }
        let request = cx.input.consume(super::town::CLOSER_LEN);
        self.at.check(request);
        if cx.output.write(request).is_err() {
            let _ = cx.output.send(Bytes::copy_from_slice(request));
        }
        Flow::Close
    }
}
