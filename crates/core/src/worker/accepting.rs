//! Accepting: arming, pausing near the limit, and closing what nobody wants.
//!
//! A multishot accept takes all that waits in the listener's queue before the worker hears of the first, and what it
//! takes there must be a place for, or the kernel closes it (ENFILE). So an accept is multishot only while there are
//! free places for all that the queues can hold. Nearer to the limit it is armed for one connection at a time, and at
//! the limit not at all: then whoever comes waits in the kernel's queue.
//!
//! With one free place and two listeners, both accepts are armed, or an idle listener would shut out the clients of the
//! other. If both bring somebody, the second waits here until there is a place; so does whoever was accepted while a
//! service took the place to connect outwards.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::mpsc;
use std::time::Duration;

use socket2::{SockRef, Socket};

use crate::connection::Connection;
use crate::guard::guard;
use crate::listener;
use crate::operation::{Completion, Descriptor, Outcome, Submission};
use crate::ring::Ring;
use crate::time::Time;
use crate::token::{Generation, Kind, Token};

use super::{State, Worker};

/// How long to wait after the kernel had no descriptor or memory for a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// A listener as its worker sees it.
#[derive(Debug)]
pub(crate) struct Listening {
    /// Which of the server's addresses it is.
    number: usize,
    descriptor: Descriptor,
    /// Ours to close, if it is a real one.
    owned: Option<OwnedFd>,
    /// Nobody has it when it is closed here: who is in its queue then is reset.
    ours: bool,
    /// The most connections that its queue holds, and so the most that a multishot accept brings at once.
    queue: u32,
    armed: Armed,
    retry_at: Option<Time>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Armed {
    No,
    Yes { multishot: bool, cancelled: bool },
}

impl Listening {
    /// A listener of the server's address of that number, whose queue holds at most `queue` connections.
    pub(crate) fn owned(number: usize, listener: OwnedFd, queue: u32, ours: bool) -> Listening {
        let descriptor = Descriptor::Plain(listener.as_raw_fd());
        Listening { owned: Some(listener), ours, ..Listening::at(number, descriptor, queue) }
    }

    /// A listener that only the ring knows.
    pub(crate) fn at(number: usize, descriptor: Descriptor, queue: u32) -> Listening {
        Listening { number, descriptor, owned: None, ours: false, queue, armed: Armed::No, retry_at: None }
    }

    /// The most connections that its accept can bring at once.
    fn burst(&self) -> u64 {
        match self.armed {
            Armed::No => 0,
            Armed::Yes { multishot: false, .. } => 1,
            Armed::Yes { multishot: true, .. } => u64::from(self.queue),
        }
    }

    /// Whether somebody may still come in through it.
    fn is_open(&self) -> bool {
        self.armed != Armed::No || self.owned.is_some()
    }

    fn is_cancelled(&self) -> bool {
        matches!(self.armed, Armed::Yes { cancelled: true, .. })
    }
}

impl<R: Ring> Worker<R> {
    /// Begins to accept.
    pub(crate) fn listen(&mut self, listening: Listening) {
        self.listening.push(listening);
        self.arm_accept(self.listening.len() - 1);
    }

    fn arm_accept(&mut self, index: usize) {
        let full = self.is_full();
        let free = self.free_places();
        let others: u64 = self.listening.iter().map(Listening::burst).sum();
        let listening = &mut self.listening[index];
        if self.state != State::Running
            || full
            || listening.armed != Armed::No
            || listening.retry_at.is_some()
        {
            return;
        }
        // An eighth more than it takes to remain so, or it would go back and forth.
        let queue = u64::from(listening.queue);
        let multishot = others + queue + queue / 8 <= free;
        listening.armed = Armed::Yes { multishot, cancelled: false };
        let listener = listening.descriptor;
        self.counters.accepts_armed += 1;
        let direct = self.limits.abilities.direct;
        self.submit(Kind::Accept, index as u32, Submission::Accept { listener, direct, multishot });
        self.keep_places();
    }

    pub(super) fn is_full(&self) -> bool {
        self.live >= self.config.max_connections
    }

    fn free_places(&self) -> u64 {
        u64::from(self.config.max_connections.saturating_sub(self.live))
    }

    /// A connection has come: cancels the multishot accepts that could now bring more than there are places for, and
    /// when there is no place any accept.
    pub(super) fn keep_places(&mut self) {
        self.note_pause();
        let free = self.free_places();
        for index in 0..self.listening.len() {
            let armed = self.listening.iter().filter(|listening| !listening.is_cancelled());
            if armed.map(Listening::burst).sum::<u64>() <= free {
                return;
            }
            if free == 0 || matches!(self.listening[index].armed, Armed::Yes { multishot: true, .. }) {
                self.cancel_accept(index);
            }
        }
    }

    /// Whether there are places for all that the multishot accepts may bring.
    #[cfg(test)]
    pub(super) fn has_places(&self) -> bool {
        let goes_on = |listening: &&Listening| {
            matches!(listening.armed, Armed::Yes { multishot: true, cancelled: false })
        };
        self.listening.iter().filter(goes_on).map(Listening::burst).sum::<u64>() <= self.free_places()
    }

    /// A slot is free: whoever waits for it comes first, then whoever had stopped accepting goes on.
    pub(super) fn accept_again(&mut self) {
        if self.live + 1 != self.config.max_connections {
            return;
        }
        while !self.is_full()
            && let Some((listener, socket)) = self.waiting.pop_front()
        {
            self.welcome(listener, socket);
        }
        self.note_pause();
        for index in 0..self.listening.len() {
            self.arm_accept(index);
            self.close_listener(index);
        }
    }

    pub(super) fn accepted(&mut self, completion: &Completion) {
        let index = completion.token.slot() as usize;
        let Some(listening) = self.listening.get_mut(index) else {
            return self.counters.nonsense += 1;
        };
        if !completion.more {
            listening.armed = Armed::No;
        }
        match completion.outcome {
            Outcome::Count(socket) => {
                let direct = self.limits.abilities.direct;
                let socket =
                    if direct { Descriptor::Direct(socket) } else { Descriptor::Plain(socket as i32) };
                self.welcome(index, socket);
            }
            Outcome::Cancelled | Outcome::PeerGone(_) => {}
            // Nobody is admitted any more.
            Outcome::Failed(_) if self.state != State::Running => {}
            // A process that shares the listener, and waits by epoll, has it never wait: io_uring is not to fail so.
            Outcome::Retry => listening.owned.iter().for_each(|listener| {
                // If it cannot be set, the accept is tried again all the same.
                let _ = SockRef::from(listener).set_nonblocking(false);
            }),
            // No descriptors, no memory: the kernel will not have more of them in the next microsecond.
            Outcome::NoBuffers | Outcome::Failed(_) => {
                self.counters.accepts_failed += 1;
                listening.retry_at = Some(self.desk.now + ACCEPT_AGAIN);
            }
        }
        self.keep_places();
        self.arm_accept(index);
        self.close_listener(index);
    }

    fn welcome(&mut self, listener: usize, socket: Descriptor) {
        // The cancellation of the accept is on its way; what it did not catch is served all the same, as long as
        // there is somewhere to put it.
        if let State::Stopping { .. } = self.state {
            return self.close_stray(socket);
        }
        if self.is_full() {
            return self.waiting.push_back((listener, socket));
        }
        let Ok(source) = self.admit(socket) else {
            self.counters.turned_away += 1;
            return self.close_stray(socket);
        };
        self.counters.accepted += 1;
        let number = self.listening[listener].number;
        let service = match guard(|| (self.factory)(number)) {
            Ok(service) => service,
            Err(panic) => return self.turn_away(socket, &panic),
        };
        let now = self.desk.now;
        let name = self.settle(|name| Connection::accepted(name, socket, service, now));
        if let Some(source) = source {
            self.guests.enter(name.slot, source);
        }
        self.with_connection(name, Connection::handle_accept);
        if let State::Draining { .. } = self.state {
            self.undrained.push(name);
        }
    }

    fn cancel_accept(&mut self, index: usize) {
        if let Armed::Yes { cancelled: cancelled @ false, .. } = &mut self.listening[index].armed {
            *cancelled = true;
            let target = Token::new(Kind::Accept, Generation::default(), index as u32);
            self.submit(Kind::Cancel, 0, Submission::Cancel { target });
        }
    }

    /// Lets nobody begin a new connection, where that can be; says whether there is such a listener, so that those who
    /// are half connected already may be waited for.
    pub(super) fn admit_no_more(&self) -> bool {
        let ours = self.listening.iter().filter(|listening| listening.ours);
        ours.filter_map(|listening| listening.owned.as_ref()).fold(false, |any, listener| {
            // What cannot be shut in this way is closed at once, as it was.
            any | listener::admit_no_more(listener).is_ok()
        })
    }

    /// Stops for good. Each listener is closed once its accept is cancelled; a worker that drains goes on to serve
    /// those who wait.
    pub(super) fn stop_accepting(&mut self) {
        self.listening.iter_mut().for_each(|listening| listening.retry_at = None);
        for index in 0..self.listening.len() {
            self.cancel_accept(index);
            self.close_listener(index);
        }
        if let State::Stopping { .. } = self.state {
            std::mem::take(&mut self.waiting).into_iter().for_each(|(_, socket)| self.close_stray(socket));
        }
    }

    /// Another descriptor of each listener, for who asks: as many letters as there are listeners.
    pub(super) fn lend_listeners(&self, to: &[mpsc::Sender<io::Result<OwnedFd>>]) {
        for to in to {
            for listener in self.listening.iter().filter_map(|listening| listening.owned.as_ref()) {
                // Whoever asked may have gone.
                let _ = to.send(listener.try_clone());
            }
        }
    }

    /// Arms every accept anew, which looks into the queue at once. A cancelled accept may have swallowed the news of a
    /// connection: who shares the listener with one hears of that connection when the next one comes, or looks.
    pub(super) fn look_again(&mut self) {
        if self.state == State::Running {
            (0..self.listening.len()).for_each(|index| self.cancel_accept(index));
        }
    }

    /// Closes a listener that accepts no more. Closing resets whoever waits in its queue, so a worker that drains
    /// takes them out first; if it has as many connections as it may have, it goes on when one of them is over. If
    /// another process goes on with the listener, that one takes them.
    fn close_listener(&mut self, index: usize) {
        let listening = &mut self.listening[index];
        let is_open = matches!(self.state, State::Running | State::Draining { closing_at: Some(_), .. });
        if is_open || listening.armed != Armed::No {
            return;
        }
        let Some(listener) = listening.owned.take().map(Socket::from) else { return };
        if let State::Draining { handed_over: true, .. } = self.state {
            // Not a flag of it is changed, for it is the other's as well.
            drop(listener);
            if !self.listening.iter().any(Listening::is_open) {
                self.heir = None;
            }
            return;
        }
        if matches!(self.state, State::Stopping { .. })
            || listener::wait_for_no_one(&SockRef::from(&listener)).is_err()
        {
            return;
        }
        while !self.is_full() {
            match listener.accept() {
                Ok((socket, _)) => self.welcome(index, Descriptor::Plain(socket.into_raw_fd())),
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(_) => return,
            }
        }
        self.listening[index].owned = Some(listener.into());
    }

    /// Whether somebody may still come in: an accept is not cancelled yet, or a queue not empty.
    pub(super) fn is_accepting(&self) -> bool {
        !self.waiting.is_empty() || self.listening.iter().any(Listening::is_open)
    }

    pub(super) fn accept_retry_at(&self) -> Option<Time> {
        self.listening.iter().filter_map(|listening| listening.retry_at).min()
    }

    pub(super) fn retry_accept(&mut self) {
        for index in 0..self.listening.len() {
            if self.listening[index].retry_at.is_some_and(|at| at <= self.desk.now) {
                self.listening[index].retry_at = None;
                self.arm_accept(index);
            }
        }
    }
}
