//! Operations that may have to wait: tried at once, and again when epoll says so.

use std::io;
use std::os::fd::RawFd;

use rustix::event::epoll::EventFlags;
use socket2::SockRef;

use crate::listener;
use crate::operation::{Memory, Outcome, Submission};
use crate::ring::plain;
use crate::token::Token;

use super::place::{INPUT, Operation, Taker, What};
use super::{PollRing, libc_error};

/// Completions of one receive, or of one accept, in a wait: then it is the others' turn.
const PIECES: u32 = 8;
const ACCEPTS: u32 = 64;

/// What a step of a receive came to.
enum Step {
    /// It may bring more at once.
    Again,
    /// There is nothing more to do for it now.
    Over,
    /// No buffer is left, and those that were filled are to be read first.
    NoBuffer,
}

impl PollRing {
    pub(super) fn begin_input(&mut self, fd: RawFd, token: Token, what: What) -> io::Result<()> {
        if self.place(fd).taker.is_some() {
            return Err(libc_error(libc::EBUSY));
        }
        match what {
            // Whoever else has this listener shares the flag, and may take it back; the time is the socket's own.
            What::Connections { .. } => {
                plain::never_wait(fd)?;
                listener::wait_for_no_one(&SockRef::from(&plain::borrowed(fd)))?;
            }
            // It cannot be tried, only waited for.
            What::Notice => {
                self.register(fd, INPUT)?;
                self.place(fd).readable = false;
            }
            What::Bytes { .. } | What::Datagrams => {}
        }
        self.waiting.insert(token, fd);
        let place = self.place(fd);
        place.taker = Some(Taker { token, what, done: 0 });
        if place.readable {
            self.queue(fd);
        }
        Ok(())
    }

    pub(super) fn begin_output(
        &mut self,
        fd: RawFd,
        operation: Operation,
        memory: &Memory,
    ) -> io::Result<()> {
        let place = self.place(fd);
        if place.gives && matches!(operation.submission, Submission::SendDatagram { .. }) {
            self.waiting.insert(operation.token, fd);
            self.behind.push((fd, operation));
            return Ok(());
        }
        if place.gives {
            return Err(libc_error(libc::EBUSY));
        }
        if place.writable {
            self.give(fd, operation, memory);
        } else {
            self.wait_for_room(fd, operation);
        }
        Ok(())
    }

    pub(super) fn watch_peer(&mut self, fd: RawFd, token: Token) -> io::Result<()> {
        self.register(fd, INPUT)?;
        if self.peers.contains_key(&fd) {
            return Err(libc_error(libc::EBUSY));
        }
        let trouble = self.place(fd).trouble;
        if trouble.is_empty() {
            self.peers.insert(fd, token);
            self.waiting.insert(token, fd);
        } else {
            self.end(token, Ok(trouble.bits()));
        }
        Ok(())
    }

    /// Tries the input of every place that may bring something, each once.
    pub(super) fn take_inputs(&mut self, memory: &Memory) {
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else { return };
            let Some(place) = self.place_of(key) else { continue };
            place.queued = false;
            let Some(taker) = place.taker.take() else { continue };
            match taker.what {
                What::Connections { multishot } => self.accept(key.fd, taker, multishot),
                What::Bytes { .. } | What::Datagrams => {
                    if !self.receive(key.fd, taker, memory) {
                        return;
                    }
                }
                What::Notice => {
                    self.tell(taker.token, Outcome::Count(libc::POLLIN as u32), true, None);
                    self.place(key.fd).readable = false;
                    self.place(key.fd).taker = Some(taker);
                }
            }
        }
    }

    fn accept(&mut self, fd: RawFd, taker: Taker, multishot: bool) {
        for _ in 0..ACCEPTS {
            match plain::accept(fd) {
                Ok(socket) => {
                    self.renew(socket as RawFd);
                    if !multishot {
                        return self.end_accept(fd, taker.token, Ok(socket));
                    }
                    self.tell(taker.token, Outcome::Count(socket), true, None);
                }
                Err(error) if would_wait(&error) => return self.wait_for_input(fd, taker),
                Err(error) => return self.end_accept(fd, taker.token, Err(error)),
            }
        }
        self.place(fd).taker = Some(taker);
        self.queue(fd);
    }

    /// The ring is not told when a listener is closed: so between two accepts it knows nothing of it.
    pub(super) fn end_accept(&mut self, fd: RawFd, token: Token, result: io::Result<u32>) {
        self.unregister(fd);
        self.forget(fd);
        self.end(token, result);
    }

    /// False if no buffer is left, and those that were filled are to be read first.
    fn receive(&mut self, fd: RawFd, mut taker: Taker, memory: &Memory) -> bool {
        for _ in 0..PIECES {
            let step = match taker.what {
                What::Bytes { budget } => self.receive_piece(fd, &mut taker, budget, memory),
                _ => self.receive_datagram(fd, taker, memory),
            };
            match step {
                Step::Again => {}
                Step::Over => return true,
                Step::NoBuffer => {
                    self.place(fd).taker = Some(taker);
                    self.queue_first(fd);
                    return false;
                }
            }
        }
        self.place(fd).taker = Some(taker);
        self.queue(fd);
        true
    }

    fn receive_piece(&mut self, fd: RawFd, taker: &mut Taker, budget: u32, memory: &Memory) -> Step {
        let token = taker.token;
        let Some((buffer, len)) = memory.buffers.peek_as_kernel(self.head) else {
            if self.filled > 0 {
                return Step::NoBuffer;
            }
            self.end(token, Err(libc_error(libc::ENOBUFS)));
            return Step::Over;
        };
        let room = if budget == 0 { len } else { len.min(budget - taker.done) };
        let mut received = Ok(0);
        memory.buffers.fill_as_kernel(buffer, |bytes| {
            received = plain::receive(fd, &mut bytes[..room as usize]);
            0
        });
        let n = match received {
            Ok(n @ 1..) => n,
            Err(error) if would_wait(&error) => {
                self.place(fd).is_drained();
                self.wait_for_input(fd, *taker);
                return Step::Over;
            }
            ended => {
                // A reset that a send was told of looks like an orderly end to a receive.
                let untold = self.place(fd).untold.take().filter(|_| ended.is_ok());
                self.end(token, untold.map_or(ended, |errno| Err(libc_error(errno))));
                return Step::Over;
            }
        };
        self.head = self.head.wrapping_add(1);
        self.filled += 1;
        taker.done = taker.done.wrapping_add(n);
        self.place(fd).brought(n, room);
        let more = budget == 0 || taker.done < budget;
        self.tell(token, Outcome::Count(n), more, Some(buffer));
        if !more {
            self.waiting.remove(&token);
            return Step::Over;
        }
        if self.place(fd).readable {
            return Step::Again;
        }
        self.wait_for_input(fd, *taker);
        Step::Over
    }

    fn receive_datagram(&mut self, fd: RawFd, taker: Taker, memory: &Memory) -> Step {
        let token = taker.token;
        let Some((buffer, _)) = memory.buffers.peek_as_kernel(self.head) else {
            if self.filled > 0 {
                return Step::NoBuffer;
            }
            self.end(token, Err(libc_error(libc::ENOBUFS)));
            return Step::Over;
        };
        let mut received = Ok(0);
        memory.buffers.fill_as_kernel(buffer, |bytes| {
            received = plain::receive_datagram(fd, bytes);
            0
        });
        match received {
            Ok(n) => {
                self.head = self.head.wrapping_add(1);
                self.filled += 1;
                self.tell(token, Outcome::Count(n), true, Some(buffer));
                Step::Again
            }
            Err(error) if would_wait(&error) => {
                self.place(fd).is_drained();
                self.wait_for_input(fd, taker);
                Step::Over
            }
            Err(error) => {
                self.end(token, Err(error));
                Step::Over
            }
        }
    }

    /// Puts it back, to be tried when epoll says so.
    fn wait_for_input(&mut self, fd: RawFd, taker: Taker) {
        self.place(fd).readable = false;
        self.place(fd).taker = Some(taker);
        if let Err(error) = self.register(fd, INPUT) {
            self.place(fd).taker = None;
            self.end(taker.token, Err(error));
        }
    }

    /// Tries to get on with output.
    pub(super) fn give(&mut self, fd: RawFd, mut operation: Operation, memory: &Memory) {
        let Operation { token, submission, .. } = operation;
        match submission {
            Submission::WatchRoom { .. } => {
                let trouble = self.place(fd).trouble;
                return self.end(token, Ok((EventFlags::OUT | trouble).bits()));
            }
            Submission::Connect { address, .. } => {
                return self.connect(fd, operation, plain::connect(fd, address, memory));
            }
            Submission::SendDatagram { datagram, .. } => {
                return match plain::send_datagram(fd, datagram, memory) {
                    Err(error) if would_wait(&error) => self.wait_for_room(fd, operation),
                    sent => self.end(token, sent),
                };
            }
            _ => {}
        }
        if let Some(errno) = self.place(fd).untold.take() {
            return self.end(token, Err(libc_error(errno)));
        }
        let len = plain::len_of(submission, memory);
        loop {
            match plain::send(fd, submission, operation.done, memory) {
                Ok(n) => operation.done += n,
                Err(error) if would_wait(&error) => return self.wait_for_room(fd, operation),
                // What went out is told first, and the error to whoever asks next.
                Err(error) if operation.done > 0 => {
                    self.place(fd).untold = error.raw_os_error();
                    return self.end(token, Ok(operation.done));
                }
                Err(error) => return self.end(token, Err(error)),
            }
            if operation.done >= len {
                return self.end(token, Ok(len));
            }
        }
    }

    /// There is room: lets the datagrams go that waited behind another, in order, as long as none has to wait again.
    pub(super) fn give_behind(&mut self, fd: RawFd, memory: &Memory) {
        while !self.place(fd).gives {
            let Some(at) = self.behind.iter().position(|(on, _)| *on == fd) else { return };
            let (_, operation) = self.behind.remove(at);
            self.give(fd, operation, memory);
        }
    }

    /// Nothing waits for room any more: the first of those behind it does.
    pub(super) fn wait_behind(&mut self, fd: RawFd) {
        if let Some(at) = self.behind.iter().position(|(on, _)| *on == fd) {
            let (_, operation) = self.behind.remove(at);
            self.keep_giver(fd, operation);
        }
    }

    pub(super) fn connect(&mut self, fd: RawFd, operation: Operation, result: io::Result<u32>) {
        match result {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                self.wait_for_room(fd, operation);
            }
            Err(error) if would_wait(&error) => {
                self.keep_giver(fd, operation);
                let key = self.place(fd).key(fd);
                self.knocking.push(key);
            }
            result => {
                self.place(fd).is_connected();
                self.end(operation.token, result);
            }
        }
    }

    /// Tries again to connect to Unix listeners whose queue was full.
    pub(super) fn knock(&mut self, memory: &Memory) {
        for key in std::mem::take(&mut self.knocking) {
            if self.place_of(key).is_some()
                && let Some(operation) = self.take_giver(key.fd)
            {
                self.give(key.fd, operation, memory);
            }
        }
    }

    fn wait_for_room(&mut self, fd: RawFd, operation: Operation) {
        self.place(fd).writable = false;
        self.keep_giver(fd, operation);
        if let Err(error) = self.register(fd, INPUT | EventFlags::OUT) {
            self.take_giver(fd);
            self.end(operation.token, Err(error));
        }
    }

    fn keep_giver(&mut self, fd: RawFd, operation: Operation) {
        self.place(fd).gives = true;
        self.waiting.insert(operation.token, fd);
        self.givers.insert(fd, operation);
    }

    pub(super) fn take_giver(&mut self, fd: RawFd) -> Option<Operation> {
        let gives = std::mem::take(&mut self.place(fd).gives);
        gives.then(|| self.givers.remove(&fd))?
    }
}

fn would_wait(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}
