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
//!   refused (EBUSY).
//! * Files are opened and read by plain calls as well: what is not in memory is waited for by the whole worker. A pool of
//!   threads would cost every read that *is* in memory two switches between threads, which is more than the read.

mod place;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventFlags};

use crate::address::Address;
use crate::errand::FileStat;
use crate::operation::{Completion, Descriptor, Memory, Outcome, Submission};
use crate::token::Token;
use crate::wake::Kick;

use super::plain::{self, EventKick};
use super::{Abilities, Ring, Side};
use place::{INPUT, Key, Operation, Place};

/// What epoll says at one time at most; the rest it says the next time.
const EVENTS: usize = 512;

/// Completions of one receive, or of one accept, in a wait: then it is the others' turn.
const PIECES: u32 = 8;
const ACCEPTS: u32 = 64;

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
        })
    }

    fn begin(&mut self, token: Token, submission: Submission, memory: &Memory) {
        let operation = Operation { token, submission, done: 0 };
        let on = match submission {
            Submission::Accept { listener: on, .. }
            | Submission::Receive { from: on, .. }
            | Submission::Send { to: on, .. }
            | Submission::SendHeld { to: on, .. }
            | Submission::Gather { to: on, .. }
            | Submission::Connect { descriptor: on, .. }
            | Submission::WatchPeer { descriptor: on }
            | Submission::WatchRoom { descriptor: on } => on,
            Submission::Watch { descriptor } => Descriptor::Plain(descriptor),
            _ => return self.carry_out(token, submission, memory),
        };
        let fd = match plain::number(on) {
            Ok(fd) => fd,
            Err(error) => return self.end(token, Err(error)),
        };
        let begun = match submission {
            Submission::WatchPeer { .. } => self.watch_peer(fd, token),
            Submission::Accept { .. } | Submission::Receive { .. } | Submission::Watch { .. } => {
                self.begin_input(fd, operation)
            }
            _ => self.begin_output(fd, operation, memory),
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

    fn begin_input(&mut self, fd: RawFd, operation: Operation) -> io::Result<()> {
        if self.place(fd).input.is_some() {
            return Err(libc_error(libc::EBUSY));
        }
        match operation.submission {
            // It is shared with whoever else has this listener, who would wait here if we did not say so.
            Submission::Accept { .. } => plain::never_wait(fd)?,
            // It cannot be tried, only waited for.
            Submission::Watch { .. } => {
                self.register(fd, INPUT)?;
                self.place(fd).readable = false;
            }
            _ => {}
        }
        self.waiting.insert(operation.token, fd);
        let place = self.place(fd);
        place.input = Some(operation);
        if place.readable {
            self.queue(fd);
        }
        Ok(())
    }

    fn begin_output(&mut self, fd: RawFd, operation: Operation, memory: &Memory) -> io::Result<()> {
        let place = self.place(fd);
        if place.output.is_some() {
            return Err(libc_error(libc::EBUSY));
        }
        if place.writable {
            self.give(fd, operation, memory);
        } else {
            self.wait_for_room(fd, operation);
        }
        Ok(())
    }

    fn watch_peer(&mut self, fd: RawFd, token: Token) -> io::Result<()> {
        self.register(fd, INPUT)?;
        let place = self.place(fd);
        if place.peer.is_some() {
            return Err(libc_error(libc::EBUSY));
        }
        if !place.trouble.is_empty() {
            let seen = place.trouble.bits();
            self.end(token, Ok(seen));
        } else {
            place.peer = Some(token);
            self.waiting.insert(token, fd);
        }
        Ok(())
    }

    /// Tries the input of every place that may bring something, each once.
    fn take_inputs(&mut self, memory: &Memory) {
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else { return };
            let Some(place) = self.place_of(key) else { continue };
            place.queued = false;
            let Some(operation) = place.input.take() else { continue };
            match operation.submission {
                Submission::Accept { multishot, .. } => self.accept(key.fd, operation, multishot),
                Submission::Receive { budget, .. } => {
                    if !self.receive(key.fd, operation, budget, memory) {
                        return;
                    }
                }
                _ => {
                    self.tell(operation.token, Outcome::Count(libc::POLLIN as u32), true, None);
                    self.place(key.fd).readable = false;
                    self.place(key.fd).input = Some(operation);
                }
            }
        }
    }

    fn accept(&mut self, fd: RawFd, operation: Operation, multishot: bool) {
        for _ in 0..ACCEPTS {
            match plain::accept(fd) {
                Ok(socket) => {
                    self.renew(socket as RawFd);
                    if !multishot {
                        return self.end_accept(fd, operation.token, Ok(socket));
                    }
                    self.tell(operation.token, Outcome::Count(socket), true, None);
                }
                Err(error) if would_wait(&error) => return self.wait_for_input(fd, operation),
                Err(error) => return self.end_accept(fd, operation.token, Err(error)),
            }
        }
        self.place(fd).input = Some(operation);
        self.queue(fd);
    }

    /// The ring is not told when a listener is closed: so between two accepts it knows nothing of it.
    fn end_accept(&mut self, fd: RawFd, token: Token, result: io::Result<u32>) {
        self.unregister(fd);
        self.forget(fd);
        self.end(token, result);
    }

    /// False if no buffer is left, and those that were filled are to be read first.
    fn receive(&mut self, fd: RawFd, mut operation: Operation, budget: u32, memory: &Memory) -> bool {
        for _ in 0..PIECES {
            let Some((buffer, len)) = memory.buffers.peek_as_kernel(self.head) else {
                if self.filled > 0 {
                    self.place(fd).input = Some(operation);
                    self.place(fd).queued = true;
                    let key = self.place(fd).key(fd);
                    self.ready.push_front(key);
                    return false;
                }
                self.end(operation.token, Err(libc_error(libc::ENOBUFS)));
                return true;
            };
            let room = if budget == 0 { len } else { len.min(budget - operation.done) };
            let mut received = Ok(0);
            memory.buffers.fill_as_kernel(buffer, |bytes| {
                received = plain::receive(fd, &mut bytes[..room as usize]);
                0
            });
            match received {
                Ok(n @ 1..) => {
                    self.head = self.head.wrapping_add(1);
                    self.filled += 1;
                    operation.done += n;
                    let more = budget == 0 || operation.done < budget;
                    self.place(fd).brought(n, room);
                    if !more {
                        self.waiting.remove(&operation.token);
                    }
                    self.tell(operation.token, Outcome::Count(n), more, Some(buffer));
                    if !more {
                        return true;
                    }
                    if !self.place(fd).readable {
                        self.wait_for_input(fd, operation);
                        return true;
                    }
                }
                Err(error) if would_wait(&error) => {
                    self.place(fd).is_drained();
                    self.wait_for_input(fd, operation);
                    return true;
                }
                ended => {
                    self.end(operation.token, ended);
                    return true;
                }
            }
        }
        self.place(fd).input = Some(operation);
        self.queue(fd);
        true
    }

    /// Puts it back, to be tried when epoll says so.
    fn wait_for_input(&mut self, fd: RawFd, operation: Operation) {
        self.place(fd).readable = false;
        self.place(fd).input = Some(operation);
        if let Err(error) = self.register(fd, INPUT) {
            self.place(fd).input = None;
            self.end(operation.token, Err(error));
        }
    }

    /// Tries to get on with output.
    fn give(&mut self, fd: RawFd, mut operation: Operation, memory: &Memory) {
        let Operation { token, submission, .. } = operation;
        match submission {
            Submission::WatchRoom { .. } => {
                let trouble = self.place(fd).trouble;
                return self.end(token, Ok((EventFlags::OUT | trouble).bits()));
            }
            Submission::Connect { address, .. } => {
                return self.connect(fd, operation, plain::connect(fd, address, memory));
            }
            _ => {}
        }
        let len = plain::len_of(submission, memory);
        loop {
            match plain::send(fd, submission, operation.done, memory) {
                Ok(n) => operation.done += n,
                Err(error) if would_wait(&error) => return self.wait_for_room(fd, operation),
                // What went out is told first; the error comes again.
                Err(_) if operation.done > 0 => return self.end(token, Ok(operation.done)),
                Err(error) => return self.end(token, Err(error)),
            }
            if operation.done >= len {
                return self.end(token, Ok(len));
            }
        }
    }

    fn connect(&mut self, fd: RawFd, operation: Operation, result: io::Result<u32>) {
        match result {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                self.wait_for_room(fd, operation);
            }
            Err(error) if would_wait(&error) => {
                let place = self.place(fd);
                place.output = Some(operation);
                let key = place.key(fd);
                self.waiting.insert(operation.token, fd);
                self.knocking.push(key);
            }
            result => {
                self.place(fd).is_connected();
                self.end(operation.token, result);
            }
        }
    }

    /// Tries again to connect to Unix listeners whose queue was full.
    fn knock(&mut self, memory: &Memory) {
        for key in std::mem::take(&mut self.knocking) {
            if let Some(operation) = self.place_of(key).and_then(|place| place.output.take()) {
                self.give(key.fd, operation, memory);
            }
        }
    }

    fn wait_for_room(&mut self, fd: RawFd, operation: Operation) {
        self.place(fd).writable = false;
        self.place(fd).output = Some(operation);
        self.waiting.insert(operation.token, fd);
        if let Err(error) = self.register(fd, INPUT | EventFlags::OUT) {
            self.place(fd).output = None;
            self.end(operation.token, Err(error));
        }
    }

    /// Takes note of what epoll says of one place, and goes on with what waited for it.
    fn heed(&mut self, event: Event, memory: &Memory) {
        let key = Key::from_data(event.data);
        let Some(place) = self.place_of(key) else { return };
        place.note(event.flags);
        if place.readable && place.input.is_some() {
            self.queue(key.fd);
        }
        let place = self.place(key.fd);
        let (trouble, watched) = (place.trouble, place.peer.take_if(|_| !place.trouble.is_empty()));
        let writes = if place.writable { place.output.take() } else { None };
        if let Some(token) = watched {
            self.end(token, Ok(trouble.bits()));
        }
        match writes {
            // It was begun: this is the answer.
            Some(operation) if matches!(operation.submission, Submission::Connect { .. }) => {
                self.connect(key.fd, operation, plain::connected(key.fd));
            }
            Some(operation) => self.give(key.fd, operation, memory),
            None => {}
        }
    }

    fn cancel(&mut self, target: Token) {
        if let Some(at) = self.stranded.iter().position(|(token, _)| *token == target) {
            let (token, outcome) = self.stranded.swap_remove(at);
            return self.tell(token, outcome, false, None);
        }
        let Some(&fd) = self.waiting.get(&target) else { return };
        let place = self.place(fd);
        let is_target = |operation: &mut Operation| operation.token == target;
        let found = place.input.take_if(is_target).or_else(|| place.output.take_if(is_target));
        place.peer.take_if(|token| *token == target);
        match found {
            Some(operation) if matches!(operation.submission, Submission::Accept { .. }) => {
                self.end_accept(fd, target, Err(libc_error(libc::ECANCELED)));
            }
            Some(Operation { submission, done: done @ 1.., .. })
                if !matches!(submission, Submission::Receive { .. }) =>
            {
                self.end(target, Ok(done));
            }
            _ => self.end(target, Err(libc_error(libc::ECANCELED))),
        }
    }

    /// The final completion of an operation.
    fn end(&mut self, token: Token, result: io::Result<u32>) {
        self.waiting.remove(&token);
        self.tell(token, outcome_of(&result), false, None);
    }

    fn tell(&mut self, token: Token, outcome: Outcome, more: bool, buffer: Option<u16>) {
        self.completed.push(Completion { token, outcome, more, buffer });
    }

    /// The place of a descriptor.
    fn place(&mut self, fd: RawFd) -> &mut Place {
        let at = fd as usize;
        while self.places.len() <= at {
            self.places.push(Place::new(0));
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
        let next = self.place(fd).next();
        let ended = std::mem::replace(self.place(fd), next);
        let stranded =
            ended.input.into_iter().chain(ended.output).map(|Operation { token, submission, done }| {
                let is_send = done > 0 && !matches!(submission, Submission::Receive { .. });
                (token, if is_send { Outcome::Count(done) } else { Outcome::Cancelled })
            });
        let stranded = stranded.chain(ended.peer.map(|token| (token, Outcome::Cancelled)));
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
        self.submit(token, Submission::Watch { descriptor: eventfd.number() }, memory);
        self.eventfd = Some(eventfd.clone());
        Ok(Box::new(eventfd))
    }

    fn kicked(&mut self, completion: &Completion, memory: &Memory) {
        let Some(eventfd) = &self.eventfd else { return };
        let descriptor = eventfd.number();
        eventfd.take();
        if !completion.more && completion.outcome != Outcome::Cancelled {
            self.submit(completion.token, Submission::Watch { descriptor }, memory);
        }
    }

    fn address(&mut self, descriptor: Descriptor, side: Side) -> io::Result<Address> {
        plain::address(plain::number(descriptor)?, side)
    }

    fn stats_at_once(&self, file: RawFd) -> bool {
        plain::stats_at_once(file)
    }

    fn stat_now(&self, file: RawFd) -> io::Result<FileStat> {
        plain::stat_now(file)
    }

    fn in_flight(&self) -> u64 {
        self.in_flight
    }
}

fn would_wait(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

fn libc_error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

fn outcome_of(result: &io::Result<u32>) -> Outcome {
    match result {
        Ok(n) => Outcome::Count(*n),
        Err(error) => Outcome::from_result(-error.raw_os_error().unwrap_or(libc::EIO)),
    }
}
