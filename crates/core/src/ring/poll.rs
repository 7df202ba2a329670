//! The ring over epoll: for where io_uring is refused.
//!
//! To the worker it is a ring like any other: operations are submitted, and complete. It does what the kernel's side of
//! io_uring does, by plain calls that never wait: each operation is tried at once, and only if it would have to wait
//! does it lie in its [`Place`] until epoll says that it may go on. Epoll is edge-triggered and told of a descriptor
//! once, so a request costs one call to wait, one to receive and one to send.
//!
//! * Sends, and all that never waits for a peer, are carried out by [`submit`](Ring::submit). Receives and accepts
//!   run in [`wait`](Ring::wait), where the buffers of the last turn have come home, each for a bounded number of
//!   completions. When there are no buffers, what was received goes to the worker first, and the rest waits a turn.
//! * A cancellation takes effect at once, and is never too late. It says what came of its target only.
//! * What waits on a descriptor that is closed completes when it is cancelled, as with io_uring, though the descriptor
//!   is gone at once. Its number may be somebody else's by then: see [`place`].
//! * One operation at a time may take input of a descriptor and one give output, as the worker has it; one more is
//!   refused (EBUSY). Datagrams that find one before them waiting for room wait behind it.
//! * Files are opened, read and renamed by plain calls as well: what is not in memory is waited for by the whole
//!   worker. A pool of threads would cost every read that *is* in memory two switches between threads, which is more
//!   than the read.
//! * What is written to files, and synced, is done by [`helpers`]: a sync waits for the disk always, and a write for as
//!   long as it takes to make room in the page cache, which is seconds when a disk is busy.

mod helpers;
mod operations;
mod place;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use socket2::{Domain, SockRef};

use crate::address::Address;
use crate::fs::FileStat;
use crate::operation::{Completion, Descriptor, Memory, Outcome, Submission};
use crate::token::Token;
use crate::udp::UdpOptions;
use crate::wake::Kick;

use super::plain::{self, EventKick};
use super::{Abilities, Ring, Side};
use helpers::Helpers;
use place::{Key, Operation, Place, What};

/// What epoll says at one time at most; the rest it says the next time.
const EVENTS: usize = 512;

/// What epoll says of the helpers: no descriptor has this number.
const NEWS: EventData = EventData::new_u64(u64::MAX);

/// How often it is tried to connect to a Unix listener whose queue is full, which nothing tells the end of.
const KNOCK: Duration = Duration::from_millis(10);

/// Epoll, and what waits for it.
pub(crate) struct PollRing {
    epoll: OwnedFd,
    abilities: Abilities,
    /// By the number of the descriptor.
    places: Vec<Place>,
    /// Where what waits is.
    waiting: HashMap<Token, RawFd>,
    /// What waits for room, and who watches a peer: few do, and so they are not part of a place.
    givers: HashMap<RawFd, Operation>,
    peers: HashMap<RawFd, Token>,
    /// Datagrams that wait behind one that waits for room.
    behind: Vec<(RawFd, Operation)>,
    /// What waited on a descriptor that was closed, and what becomes of it when it is cancelled.
    stranded: Vec<(Token, Outcome)>,
    /// Places whose input may be tried.
    ready: VecDeque<Key>,
    /// Sockets that connect to a Unix listener whose queue is full.
    knocking: Vec<Key>,
    completed: Vec<Completion>,
    events: Vec<Event>,
    /// The position in the ring of buffers that is filled next.
    head: u16,
    /// Buffers filled in this wait.
    filled: u32,
    /// The last wait has asked epoll.
    looked: bool,
    in_flight: u64,
    eventfd: Option<EventKick>,
    /// Since the first operation that brings something to a disk.
    helpers: Option<Helpers>,
}

impl PollRing {
    /// A ring for one thread, that can do so much.
    ///
    /// # Errors
    /// When the kernel has no descriptor or memory for it.
    pub(crate) fn new(abilities: Abilities) -> io::Result<PollRing> {
        Ok(PollRing {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            abilities: Abilities { direct: false, bundle: false, ..abilities },
            places: Vec::new(),
            waiting: HashMap::new(),
            givers: HashMap::new(),
            peers: HashMap::new(),
            behind: Vec::new(),
            stranded: Vec::new(),
            ready: VecDeque::new(),
            knocking: Vec::new(),
            completed: Vec::new(),
            events: Vec::with_capacity(EVENTS),
            head: 0,
            filled: 0,
            looked: false,
            in_flight: 0,
            eventfd: None,
            helpers: None,
        })
    }

    fn begin(&mut self, token: Token, submission: Submission, memory: &Memory) {
        let on = match submission {
            Submission::Accept { listener: on, .. }
            | Submission::Receive { from: on, .. }
            | Submission::ReceiveDatagrams { from: on, .. }
            | Submission::SendDatagram { from: on, .. }
            | Submission::Send { to: on, .. }
            | Submission::SendHeld { to: on, .. }
            | Submission::Gather { to: on, .. }
            | Submission::Connect { descriptor: on, .. }
            | Submission::WatchPeer { descriptor: on }
            | Submission::WatchRoom { descriptor: on } => on,
            Submission::Watch { descriptor } => Descriptor::Plain(descriptor),
            Submission::Write { .. } | Submission::Sync { .. } => {
                return self.have_done(token, submission, memory);
            }
            _ => return self.carry_out(token, submission, memory),
        };
        let fd = match plain::number(on) {
            Ok(fd) => fd,
            Err(error) => return self.end(token, Err(error)),
        };
        let begun = match submission {
            Submission::WatchPeer { .. } => self.watch_peer(fd, token),
            Submission::Accept { multishot, .. } => {
                self.begin_input(fd, token, What::Connections { multishot })
            }
            Submission::Receive { budget, .. } => self.begin_input(fd, token, What::Bytes { budget }),
            Submission::ReceiveDatagrams { .. } => self.begin_input(fd, token, What::Datagrams),
            Submission::Watch { .. } => self.begin_input(fd, token, What::Notice),
            _ => self.begin_output(fd, Operation { token, submission, done: 0 }, memory),
        };
        if let Err(error) = begun {
            self.end(token, Err(error));
        }
    }

    /// What is done by one call.
    fn carry_out(&mut self, token: Token, submission: Submission, memory: &Memory) {
        if let Submission::Close { descriptor } = submission
            && let Ok(fd) = plain::number(descriptor)
        {
            self.forget(fd);
        }
        let done = plain::at_once(submission, memory).unwrap_or(Err(libc_error(libc::EINVAL)));
        if let (Submission::Socket { .. } | Submission::OpenFile { .. }, Ok(fd)) = (submission, &done) {
            self.renew(*fd as RawFd);
        }
        self.end(token, done);
    }

    /// What a helper does, if one can be had.
    fn have_done(&mut self, token: Token, submission: Submission, memory: &Memory) {
        if self.helpers.is_none() {
            self.helpers = self.begin_helpers().ok();
        }
        let given = self.helpers.as_mut().map(|helpers| helpers.give((token, submission)));
        if !matches!(given, Some(Ok(()))) {
            self.carry_out(token, submission, memory);
        }
    }

    fn begin_helpers(&self) -> io::Result<Helpers> {
        let helpers = Helpers::new()?;
        epoll::add(&self.epoll, helpers.news(), NEWS, EventFlags::IN | EventFlags::ET)?;
        Ok(helpers)
    }

    /// Takes note of what epoll says of one place, and goes on with what waited for it.
    fn heed(&mut self, event: Event, memory: &Memory) {
        if { event.data } == NEWS {
            let done = self.helpers.as_mut().map(Helpers::take).unwrap_or_default();
            return done.into_iter().for_each(|(token, result)| self.end(token, result));
        }
        let key = Key::from_data(event.data);
        let Some(place) = self.place_of(key) else { return };
        place.note(event.flags);
        let (trouble, writable) = (place.trouble, place.writable);
        if place.readable && place.taker.is_some() {
            self.queue(key.fd);
        }
        if !trouble.is_empty()
            && let Some(token) = self.peers.remove(&key.fd)
        {
            self.end(token, Ok(trouble.bits()));
        }
        let writes = if writable { self.take_giver(key.fd) } else { None };
        match writes {
            // It was begun: this is the answer.
            Some(operation) if matches!(operation.submission, Submission::Connect { .. }) => {
                self.connect(key.fd, operation, plain::connected(key.fd));
            }
            Some(operation) => {
                self.give(key.fd, operation, memory);
                self.give_behind(key.fd, memory);
            }
            None => {}
        }
    }

    fn cancel(&mut self, target: Token) {
        if let Some(at) = self.stranded.iter().position(|(token, _)| *token == target) {
            let (token, outcome) = self.stranded.swap_remove(at);
            return self.tell(token, outcome, false, None);
        }
        let Some(&fd) = self.waiting.get(&target) else { return };
        let cancelled = Err(libc_error(libc::ECANCELED));
        if let Some(at) = self.behind.iter().position(|(_, operation)| operation.token == target) {
            self.behind.remove(at);
            return self.end(target, cancelled);
        }
        if let Some(taker) = self.place(fd).taker.take_if(|taker| taker.token == target) {
            return match taker.what {
                What::Connections { .. } => self.end_accept(fd, target, cancelled),
                What::Bytes { .. } | What::Datagrams | What::Notice => self.end(target, cancelled),
            };
        }
        if self.givers.get(&fd).is_some_and(|operation| operation.token == target) {
            match self.take_giver(fd) {
                Some(Operation { done: done @ 1.., .. }) => self.end(target, Ok(done)),
                _ => self.end(target, cancelled),
            }
            return self.wait_behind(fd);
        }
        self.peers.remove(&fd);
        self.end(target, cancelled);
    }

    /// The final completion of an operation.
    fn end(&mut self, token: Token, result: io::Result<u32>) {
        self.waiting.remove(&token);
        self.tell(token, Outcome::of_call(result), false, None);
    }

    fn tell(&mut self, token: Token, outcome: Outcome, more: bool, buffer: Option<u16>) {
        self.completed.push(Completion { token, outcome, more, buffer });
    }

    /// The place of a descriptor.
    fn place(&mut self, fd: RawFd) -> &mut Place {
        let at = fd as usize;
        if let more @ 1.. = (at + 1).saturating_sub(self.places.len()) {
            // An eighth in advance, where a vector would take as much again.
            self.places.reserve_exact(more.max(self.places.len() / 8).max(64));
            self.places.resize_with(at + 1, || Place::new(0));
        }
        &mut self.places[at]
    }

    /// The place that an event or the queue names, unless that life of it is over.
    fn place_of(&mut self, key: Key) -> Option<&mut Place> {
        self.places.get_mut(key.fd as usize).filter(|place| place.key(key.fd) == key)
    }

    fn queue(&mut self, fd: RawFd) {
        let place = self.place(fd);
        if !std::mem::replace(&mut place.queued, true) {
            let key = place.key(fd);
            self.ready.push_back(key);
        }
    }

    /// As [`queue`](Self::queue), before all others.
    fn queue_first(&mut self, fd: RawFd) {
        let place = self.place(fd);
        place.queued = true;
        let key = place.key(fd);
        self.ready.push_front(key);
    }

    /// Has epoll tell of a place what is in `flags`, if it does not yet. It tells what is so already, too.
    fn register(&mut self, fd: RawFd, flags: EventFlags) -> io::Result<()> {
        let place = self.place(fd);
        let (asked, data) = (place.asked, place.key(fd).data());
        if asked.contains(flags) {
            return Ok(());
        }
        let (epoll, socket) = (&self.epoll, plain::borrowed(fd));
        if asked.is_empty() {
            epoll::add(epoll, socket, data, flags)?;
            self.place(fd).in_parts =
                SockRef::from(&socket).domain().is_ok_and(|domain| domain == Domain::UNIX);
        } else {
            epoll::modify(epoll, socket, data, asked | flags)?;
        }
        self.place(fd).asked = asked | flags;
        Ok(())
    }

    fn unregister(&mut self, fd: RawFd) {
        if !self.place(fd).asked.is_empty() {
            // It is registered: so it cannot fail.
            let _ = epoll::delete(&self.epoll, plain::borrowed(fd));
        }
    }

    /// Ends this life of a place. What waits there is stranded.
    fn forget(&mut self, fd: RawFd) {
        let giver = self.take_giver(fd).map(|operation| {
            let sent = (operation.done > 0).then_some(Outcome::Count(operation.done));
            (operation.token, sent.unwrap_or(Outcome::Cancelled))
        });
        let next = self.place(fd).next();
        let taker = std::mem::replace(self.place(fd), next).taker.map(|taker| taker.token);
        let behind = self.behind.extract_if(.., |(on, _)| *on == fd).map(|(_, operation)| operation.token);
        let cancelled = taker.into_iter().chain(self.peers.remove(&fd)).chain(behind);
        let cancelled = cancelled.map(|token| (token, Outcome::Cancelled));
        let stranded: Vec<_> = cancelled.chain(giver).collect();
        for (token, outcome) in stranded {
            self.waiting.remove(&token);
            self.stranded.push((token, outcome));
        }
    }

    /// A new descriptor: whatever was known of its number was known of another one, closed without our knowing.
    fn renew(&mut self, fd: RawFd) {
        if !self.place(fd).is_fresh() {
            self.forget(fd);
        }
    }

    /// Asks epoll what happened, waiting so long for it.
    fn look(&mut self, timeout: Option<Duration>, memory: &Memory) -> io::Result<()> {
        let timeout =
            if self.knocking.is_empty() { timeout } else { Some(timeout.map_or(KNOCK, |t| t.min(KNOCK))) };
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let looked = epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref());
        for event in &events {
            self.heed(*event, memory);
        }
        self.events = events;
        match looked {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Ring for PollRing {
    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn submit(&mut self, token: Token, submission: Submission, memory: &Memory) {
        if let Submission::Cancel { target } = submission {
            return self.cancel(target);
        }
        self.in_flight += 1;
        self.begin(token, submission, memory);
    }

    fn wait(
        &mut self,
        timeout: Option<Duration>,
        memory: &Memory,
        batch: &mut Vec<Completion>,
    ) -> io::Result<()> {
        self.filled = 0;
        self.take_inputs(memory);
        let at_once = !self.completed.is_empty() || !self.ready.is_empty();
        // While there is something to tell, others may have become ready as well. To ask costs a call, so that is done
        // every second time: then what was sent at once costs none, and nobody waits for longer than a turn.
        self.looked = !(at_once && self.looked);
        if self.looked {
            self.look(if at_once { Some(Duration::ZERO) } else { timeout }, memory)?;
            self.knock(memory);
            self.take_inputs(memory);
        }
        for completion in &self.completed {
            self.in_flight -= u64::from(!completion.more);
        }
        batch.append(&mut self.completed);
        Ok(())
    }

    fn perform(&mut self, submission: Submission, memory: &Memory) -> io::Result<u32> {
        let done = plain::at_once(submission, memory).unwrap_or(Err(libc_error(libc::EINVAL)))?;
        if let Submission::Socket { .. } = submission {
            self.renew(done as RawFd);
        }
        Ok(done)
    }

    fn kick(&mut self, memory: &Memory, token: Token) -> io::Result<Box<dyn Kick>> {
        let eventfd = EventKick::new()?;
        self.submit(token, eventfd.watch(), memory);
        self.eventfd = Some(eventfd.clone());
        Ok(Box::new(eventfd))
    }

    fn kicked(&mut self, completion: &Completion, memory: &Memory) {
        if let Some(watch) = self.eventfd.as_ref().and_then(|eventfd| eventfd.kicked(completion)) {
            self.submit(completion.token, watch, memory);
        }
    }

    fn address(&mut self, descriptor: Descriptor, side: Side) -> io::Result<Address> {
        plain::address(plain::number(descriptor)?, side)
    }

    fn bind_datagrams(&mut self, address: SocketAddr, options: &UdpOptions) -> io::Result<Descriptor> {
        let socket = plain::bind_datagrams(address, options)?;
        self.renew(socket);
        Ok(Descriptor::Plain(socket))
    }

    fn stats_at_once(&self, file: RawFd) -> bool {
        plain::stats_at_once(file)
    }

    fn has_offsets(&self, file: RawFd) -> bool {
        plain::has_offsets(file)
    }

    fn stat_now(&self, file: RawFd) -> io::Result<FileStat> {
        plain::stat_now(file)
    }

    fn announce(&mut self) -> io::Result<OwnedFd> {
        // Epoll can be watched by epoll: it is readable while it has something to say.
        self.epoll.try_clone()
    }

    fn hush(&mut self, _: bool) {
        // It says nothing of what was done at once, and the rest has to be asked for in any case.
    }

    fn hand_over(&mut self) {
        // What was submitted was tried already.
    }

    fn has_work(&self) -> bool {
        // If there was no room for more events, there may be more.
        !self.completed.is_empty() || !self.ready.is_empty() || self.events.len() == EVENTS
    }

    fn patience(&self) -> Option<Duration> {
        (!self.knocking.is_empty()).then_some(KNOCK)
    }

    fn in_flight(&self) -> u64 {
        self.in_flight
    }
}

fn libc_error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}
