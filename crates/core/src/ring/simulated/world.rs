//! The world: what is at the far side of a simulated ring. Streams with a peer at the other end, listeners, files, and
//! the tables of descriptors that name them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use crate::operation::Descriptor;
use crate::time::{Clock, Time};

use super::disk::{Opened, Stored};
use super::faults::{Fault, Faults};
use super::operations::datagrams::Letterbox;
use super::random::Random;

/// The number of a stream; never given twice.
pub(crate) type StreamId = usize;

/// The number of something open; never given twice, unlike the descriptors that name it.
pub(crate) type ThingId = usize;

/// An operation may wait so long in queues before it begins.
const QUEUED: Duration = Duration::from_millis(200);

/// The first plain descriptor that is given out, far from those the process really has.
const FIRST_PLAIN: i32 = 1000;

/// A clock that goes when the simulated ring says so.
#[derive(Debug, Clone, Default)]
pub(crate) struct VirtualClock(Rc<Cell<Duration>>);

impl VirtualClock {
    pub(crate) fn time(&self) -> Duration {
        self.0.get()
    }

    pub(crate) fn advance_to(&self, time: Duration) {
        self.0.set(self.0.get().max(time));
    }
}

impl Clock for VirtualClock {
    fn now(&mut self) -> Time {
        Time::from_start(self.0.get())
    }

    fn wall(&mut self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.0.get()
    }
}

/// A connection between a peer and the worker, as both kernels see it together.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// From the peer to the worker, and back.
    pub(crate) up: VecDeque<u8>,
    pub(crate) down: VecDeque<u8>,
    pub(crate) up_capacity: usize,
    pub(crate) down_capacity: usize,
    pub(crate) up_ended: bool,
    pub(crate) down_ended: bool,
    /// The worker has no descriptor of it, and no operation on it, any more.
    pub(crate) worker_gone: bool,
    pub(crate) peer_gone: bool,
    /// What the worker is told once it has read all that came before.
    pub(crate) reset_by_peer: Option<i32>,
    pub(crate) reset_by_worker: bool,
    pub(crate) accepted: bool,
    /// A fault has struck that entitles the worker to close it.
    pub(crate) harmed: Option<Fault>,
    /// The worker has something to send, and has had since some was taken last, or it began; that moment.
    pub(crate) sending: bool,
    pub(crate) taken_at: Duration,
    /// Of the time that the worker had something to send, what the bytes taken did not make good; and the sends that
    /// began in it, each of which may have waited in queues.
    owed: Duration,
    sends: u32,
    /// When bytes went in either direction last, and when the worker got it.
    pub(crate) moved_at: Duration,
    pub(crate) began_at: Duration,
    /// A send was cancelled short, and neither was anything taken since, nor the worker told that it would be.
    pub(crate) is_full: bool,
}

/// What a peer finds when it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Bytes(usize),
    Nothing,
    End,
    Reset,
}

/// Something a descriptor names.
#[derive(Debug)]
pub(crate) struct Thing {
    pub(crate) what: What,
    /// One for the table, one for each operation on it.
    references: u32,
    /// Shutdowns in flight, which run in a thread: nothing is closed before they completed.
    pub(crate) shutting: u32,
    /// Close by a reset (SO_LINGER with no time).
    pub(crate) reset_on_close: bool,
}

#[derive(Debug)]
pub(crate) enum What {
    /// `None` before it is connected.
    Socket(Option<StreamId>),
    Listener(VecDeque<StreamId>),
    /// The number of its letterbox.
    Datagrams(usize),
    File(Opened),
}

/// How a port of the outside answers to a connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remote {
    Accepts,
    /// Fails with this errno.
    Fails(i32),
    /// Never answers.
    Silent,
}

/// Everything outside of the worker.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) clock: VirtualClock,
    pub(crate) random: Random,
    pub(crate) faults: Faults,
    pub(crate) streams: Vec<Stream>,
    pub(crate) letterboxes: Vec<Letterbox>,
    things: Vec<Thing>,
    direct: Vec<Option<ThingId>>,
    plain: Vec<Option<ThingId>>,
    pub(crate) remotes: BTreeMap<u16, Remote>,
    /// Streams that the worker opened and no peer has taken up yet.
    pub(crate) dialled: VecDeque<(u16, StreamId)>,
    pub(super) files: BTreeMap<Vec<u8>, Rc<RefCell<Stored>>>,
    /// What the worker did that it must not.
    pub(crate) violations: Vec<String>,
    /// Accepts that failed for want of descriptors; and so many more are to fail in a row.
    pub(crate) accepts_refused: u64,
    pub(crate) accepts_to_refuse: u64,
    /// The table is one that a worker would have: an accept must never find it full.
    pub(crate) table_suffices: bool,
    last_freed: Option<Descriptor>,
    /// How long a peer may take nothing before it is given up.
    pub(crate) send_stall: Duration,
    /// Bytes per second that it is to take, or none.
    pub(crate) send_rate: u32,
    /// Files of this life can be asked for what is known of them without a wait.
    pub(crate) stats_at_once: bool,
    /// Tell all that happens on the terminal.
    pub(crate) traced: bool,
}

impl World {
    /// A world with a table of `direct` direct descriptors.
    pub(crate) fn new(mut random: Random, direct: usize) -> World {
        let faults = Faults::new(&mut random);
        World {
            clock: VirtualClock::default(),
            random,
            faults,
            streams: Vec::new(),
            letterboxes: Vec::new(),
            things: Vec::new(),
            direct: vec![None; direct],
            plain: Vec::new(),
            remotes: BTreeMap::new(),
            dialled: VecDeque::new(),
            files: BTreeMap::new(),
            violations: Vec::new(),
            accepts_refused: 0,
            accepts_to_refuse: 0,
            table_suffices: false,
            last_freed: None,
            send_stall: Duration::MAX,
            send_rate: 0,
            stats_at_once: false,
            traced: false,
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.time()
    }

    pub(crate) fn strikes(&mut self, fault: Fault) -> bool {
        self.faults.strikes(fault, &mut self.random)
    }

    #[allow(clippy::print_stderr)]
    pub(crate) fn trace(&self, what: impl FnOnce() -> String) {
        if self.traced {
            eprintln!("{:>12?} {}", self.now(), what());
        }
    }

    pub(crate) fn violated(&mut self, rule: String) {
        self.violations.push(rule);
    }

    /// What is still open, in words: nothing, after a worker's life.
    pub(crate) fn open_descriptors(&self) -> Vec<String> {
        let direct = self
            .direct
            .iter()
            .enumerate()
            .filter_map(|(at, thing)| Some((format!("direct {at}"), (*thing)?)));
        let plain =
            self.plain.iter().enumerate().filter_map(|(at, thing)| Some((format!("plain {at}"), (*thing)?)));
        direct.chain(plain).map(|(name, thing)| format!("{name}: {:?}", self.things[thing])).collect()
    }

    /// Something new, and the lowest descriptor that is free for it; `None` when the table is full.
    pub(crate) fn open(&mut self, what: What, direct: bool) -> Option<Descriptor> {
        let table = if direct { &mut self.direct } else { &mut self.plain };
        let at = match table.iter().position(Option::is_none) {
            Some(at) => at,
            None if direct => return None,
            None => {
                table.push(None);
                table.len() - 1
            }
        };
        table[at] = Some(self.things.len());
        self.things.push(Thing { what, references: 1, shutting: 0, reset_on_close: false });
        let descriptor = match direct {
            true => Descriptor::Direct(at as u32),
            false => Descriptor::Plain(FIRST_PLAIN + at as i32),
        };
        if self.last_freed == Some(descriptor) {
            self.faults.happened(Fault::DescriptorReused);
        }
        Some(descriptor)
    }

    fn place(&mut self, descriptor: Descriptor) -> Option<&mut Option<ThingId>> {
        match descriptor {
            Descriptor::Direct(at) => self.direct.get_mut(at as usize),
            Descriptor::Plain(fd) => self.plain.get_mut(usize::try_from(fd - FIRST_PLAIN).ok()?),
        }
    }

    pub(crate) fn named(&mut self, descriptor: Descriptor) -> Option<ThingId> {
        *self.place(descriptor)?
    }

    pub(crate) fn thing(&mut self, id: ThingId) -> &mut Thing {
        &mut self.things[id]
    }

    /// An operation begins to use a thing.
    pub(crate) fn hold(&mut self, id: ThingId) {
        self.things[id].references += 1;
    }

    /// Takes a descriptor out of its table; its number is free at once.
    pub(crate) fn close(&mut self, descriptor: Descriptor) -> bool {
        let Some(id) = self.place(descriptor).and_then(Option::take) else { return false };
        if self.things[id].shutting > 0 {
            self.violated(format!("{descriptor:?} closed while its shutdown is in flight"));
        }
        self.last_freed = Some(descriptor);
        self.release(id);
        true
    }

    /// An operation, or the table, is done with a thing; the last of them ends it.
    pub(crate) fn release(&mut self, id: ThingId) {
        let thing = &mut self.things[id];
        thing.references -= 1;
        if thing.references > 0 {
            return;
        }
        let reset = thing.reset_on_close;
        match std::mem::replace(&mut thing.what, What::Socket(None)) {
            What::Socket(Some(stream)) => self.worker_leaves(stream, reset),
            What::Listener(waiting) => {
                waiting.into_iter().for_each(|stream| self.worker_leaves(stream, true));
            }
            What::Datagrams(id) => self.letterboxes[id].is_closed = true,
            What::Socket(None) | What::File(_) => {}
        }
    }

    /// The last reference of the worker's to a stream is gone: an end if all was read, else a reset.
    fn worker_leaves(&mut self, id: StreamId, reset: bool) {
        let stream = &mut self.streams[id];
        stream.worker_gone = true;
        stream.down_ended = true;
        if reset || !stream.up.is_empty() {
            stream.reset_to_peer();
        }
    }

    /// The worker begins to send, or to wait until it can.
    pub(super) fn begin_to_send(&mut self, id: ThingId) {
        let now = self.now();
        if let What::Socket(Some(stream)) = self.things[id].what
            && let stream = &mut self.streams[stream]
        {
            stream.sends += 1;
            if !std::mem::replace(&mut stream.sending, true) {
                stream.taken_at = now;
            }
        }
    }

    /// The peer took `n` bytes of what is sent.
    pub(super) fn taken(&mut self, id: StreamId, n: usize) {
        let (now, rate) = (self.now(), self.send_rate);
        let stream = &mut self.streams[id];
        stream.tally(now);
        stream.owed = match rate {
            0 => Duration::ZERO,
            rate => stream.owed.saturating_sub(Duration::from_secs(n as u64) / rate),
        };
        if stream.owed.is_zero() {
            stream.sends = 0;
        }
        (stream.moved_at, stream.is_full) = (now, false);
    }

    /// A peer takes nothing: after a while the worker may give it up, and then it must.
    pub(super) fn check_patience(&mut self, id: StreamId, is_given_up: bool) {
        let stream = &mut self.streams[id];
        let waited = self.clock.time().saturating_sub(stream.taken_at);
        if waited + stream.owed + QUEUED * (stream.sends + 1) >= self.send_stall {
            stream.harmed.get_or_insert(Fault::StalledSend);
        }
        if !is_given_up && waited > self.send_stall.saturating_mul(2) + QUEUED {
            self.violated(format!("stream {id} has taken nothing for {waited:?}, and is not given up"));
        }
    }

    /// Drops a connection that cannot be given to the worker.
    pub(crate) fn refuse(&mut self, id: StreamId) {
        self.worker_leaves(id, true);
    }

    fn new_stream(&mut self) -> StreamId {
        let up_capacity = *self.random.pick(&[64, 500, 4096, 20_000]);
        let down_capacity = *self.random.pick(&[64, 500, 4096, 20_000]);
        self.streams.push(Stream { up_capacity, down_capacity, ..Stream::default() });
        self.streams.len() - 1
    }
}

/// What peers do.
impl World {
    /// Connects to a listener of the worker's; `None` while its queue is full, or when it is no more.
    pub(crate) fn connect(&mut self, listener: ThingId, backlog: usize) -> Option<StreamId> {
        match &self.things[listener] {
            Thing { what: What::Listener(waiting), references: 1.., .. } if waiting.len() < backlog => {}
            _ => return None,
        }
        let id = self.new_stream();
        let What::Listener(waiting) = &mut self.things[listener].what else { return None };
        waiting.push_back(id);
        Some(id)
    }

    /// The worker dialled `port`.
    pub(crate) fn dial(&mut self, port: u16) -> StreamId {
        let id = self.new_stream();
        (self.streams[id].accepted, self.streams[id].began_at) = (true, self.now());
        self.dialled.push_back((port, id));
        id
    }
}

impl Stream {
    /// Adds up the time that the worker has had something to send; it may have nothing now.
    pub(super) fn tally(&mut self, now: Duration) {
        self.owed += now.saturating_sub(self.taken_at);
        self.taken_at = now;
    }

    fn reset_to_peer(&mut self) {
        self.reset_by_worker = true;
        // What the peer had not read yet is lost with it.
        self.down.clear();
        self.up.clear();
    }

    /// As many of `bytes` as there is room for; `None` when the connection is no more.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.reset_by_worker || self.reset_by_peer.is_some() {
            return None;
        }
        let n = bytes.len().min(self.up_capacity.saturating_sub(self.up.len()));
        if self.worker_gone && n > 0 {
            self.reset_to_peer();
            return None;
        }
        self.up.extend(&bytes[..n]);
        Some(n)
    }

    /// At most `max` bytes, appended to `into`.
    pub(crate) fn read(&mut self, max: usize, into: &mut Vec<u8>) -> Found {
        if self.reset_by_worker || self.reset_by_peer.is_some() {
            return Found::Reset;
        }
        let n = max.min(self.down.len());
        if n > 0 {
            into.extend(self.down.drain(..n));
            return Found::Bytes(n);
        }
        if self.down_ended { Found::End } else { Found::Nothing }
    }

    /// The peer sends nothing more.
    pub(crate) fn finish(&mut self) {
        self.up_ended = true;
    }

    /// The peer resets the connection.
    pub(crate) fn reset(&mut self, errno: i32) {
        self.reset_by_peer = Some(errno);
        self.down.clear();
    }

    /// The peer closes: whatever is still sent to it resets the connection.
    pub(crate) fn leave(&mut self) {
        self.peer_gone = true;
        self.up_ended = true;
        if !self.down.is_empty() {
            self.reset(libc::ECONNRESET);
        }
    }
}
