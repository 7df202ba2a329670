//! Errands: doing what services asked for, and taking the answers to them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::IntoRawFd;
use std::time::Duration;

use bytes::Bytes;
use socket2::{Protocol, Socket, Type};

use crate::connection::Connection;
use crate::counters::Counters;
use crate::desk::Handle;
use crate::errand::{Answer, Asker, Connect, ConnectError, Request, Ticket};
use crate::flight::{Flight, FlightIndex};
use crate::fs::{Extent, File, FileStat};
use crate::guard::let_go;
use crate::input::Input;
use crate::operation::{Completion, Descriptor, Outcome, Submission};
use crate::output::Output;
use crate::ring::Ring;
use crate::send_pool::BufferIndex;
use crate::service::{Flow, Service};
use crate::time::Time;
use crate::token::{Generation, Kind, Token};

use super::{Factory, State, Worker};

/// By how much loans are shorter while reads wait.
const HASTE: u32 = 100;

/// How often in a row an operation is tried again that was interrupted, or could not be carried out without waiting.
const MOST_TRIES: u8 = 16;

/// The most that one operation writes (write(2)).
const MOST_WRITTEN: usize = 0x7fff_f000;

/// Errands that the kernel runs.
#[derive(Debug, Default)]
pub(super) struct Errands {
    running: Vec<Place>,
    free: Vec<u32>,
    /// Reads that wait for a buffer: long ones, and short ones that a small buffer holds.
    long: VecDeque<Read>,
    short: VecDeque<Read>,
    /// Reads waited not long ago: until then loans are kept short.
    hasty_until: Option<Time>,
}

#[derive(Debug)]
struct Read {
    asker: Asker,
    ticket: Ticket,
    file: File,
    offset: u64,
    len: usize,
}

#[derive(Debug, Default)]
struct Place {
    generation: Generation,
    errand: Option<Errand>,
}

#[derive(Debug)]
struct Errand {
    asker: Asker,
    ticket: Ticket,
    what: What,
    /// How often in a row it was tried in vain.
    tries: u8,
}

/// What runs, and the memory it uses: taken back when it is done.
#[derive(Debug)]
enum What {
    Open(FlightIndex),
    Stat { answer: FlightIndex, file: File },
    Read { buffer: BufferIndex, file: File, offset: u64, len: u32 },
    Write { file: File, offset: u64, bytes: Bytes, done: usize },
    Sync { file: File, extent: Extent },
    Change(FlightIndex),
}

impl What {
    /// The operation that does it, or what is left of it.
    fn submission(&self) -> Submission {
        match *self {
            What::Open(path) => Submission::OpenFile { path, direct: false },
            What::Stat { answer, ref file } => Submission::Stat { file: file.raw(), answer },
            What::Read { buffer: into, ref file, offset, len } => {
                Submission::Read { file: Descriptor::Plain(file.raw()), into, len, offset }
            }
            What::Write { ref file, offset, ref bytes, done } => {
                let left = &bytes[done..];
                Submission::Write {
                    file: Descriptor::Plain(file.raw()),
                    address: left.as_ptr().expose_provenance(),
                    len: left.len().min(MOST_WRITTEN) as u32,
                    offset: offset.saturating_add(done as u64),
                }
            }
            What::Change(names) => Submission::Change { names },
            What::Sync { ref file, extent } => {
                Submission::Sync { file: Descriptor::Plain(file.raw()), extent }
            }
        }
    }
}

impl Errand {
    /// Takes note of what an operation came to. If nothing more is to be done, what the errand came to.
    fn take_note(&mut self, outcome: Outcome, counters: &mut Counters) -> Option<Outcome> {
        match (outcome, &mut self.what) {
            // Tried again, what was done all the same would find nothing to do, and fail.
            (Outcome::Retry, What::Change(_)) => Some(outcome),
            (Outcome::Retry, _) if self.tries < MOST_TRIES => {
                self.tries += 1;
                None
            }
            (Outcome::Count(n), What::Write { bytes, done, .. }) => {
                let (n, left) = (n as usize, bytes.len() - *done);
                if n > left {
                    counters.nonsense += 1;
                    return Some(Outcome::Failed(libc::EPROTO));
                }
                self.tries = 0;
                *done += n;
                (n == 0 || n == left).then_some(outcome)
            }
            _ => Some(outcome),
        }
    }
}

impl Errands {
    /// How many the kernel runs.
    pub(super) fn running(&self) -> usize {
        self.running.len() - self.free.len()
    }

    /// How many reads wait for a buffer.
    pub(super) fn reads_waiting(&self) -> usize {
        self.long.len() + self.short.len()
    }

    fn waiting(&mut self, is_short: bool) -> &mut VecDeque<Read> {
        if is_short { &mut self.short } else { &mut self.long }
    }
}

impl<R: Ring> Worker<R> {
    /// Does what services asked for in this turn.
    pub(super) fn run_errands(&mut self) {
        self.run_reads();
        self.close_files();
        // What is asked for meanwhile is for the next turn: a service may ask again whenever it is answered.
        for _ in 0..self.desk.local.requests() {
            let Some((asker, ticket, request)) = self.desk.local.next_request() else { break };
            self.run_errand(asker, ticket, request);
        }
        self.hasten_loans();
    }

    /// Begins the reads that waited, as far as there are buffers now. Those of connections that are gone are dropped.
    fn run_reads(&mut self) {
        for is_short in [true, false] {
            while let Some(read) = self.errands.waiting(is_short).pop_front() {
                if !self.waits(read.asker, read.ticket) {
                    continue;
                }
                let Some(into) = self.take_buffer(is_short) else {
                    self.errands.waiting(is_short).push_front(read);
                    break;
                };
                self.begin_read(read, into);
            }
        }
    }

    /// Whether who asked still waits for the answer.
    fn waits(&self, asker: Asker, ticket: Ticket) -> bool {
        match asker {
            Asker::Connection(name) => self
                .slots
                .get(name.slot as usize)
                .is_some_and(|slot| slot.generation == name.generation && slot.connection.is_some()),
            Asker::Future(slot) => self.desk.local.is_awaited(slot, ticket),
        }
    }

    fn read(&mut self, read: Read) {
        let is_short = self.memory.files.is_short(read.len);
        let is_first = self.errands.waiting(is_short).is_empty();
        match is_first.then(|| self.take_buffer(is_short)).flatten() {
            Some(into) => self.begin_read(read, into),
            None => self.errands.waiting(is_short).push_back(read),
        }
    }

    /// A buffer for a read. A long one takes a small buffer if nothing else wants it, and is answered with less.
    fn take_buffer(&mut self, is_short: bool) -> Option<BufferIndex> {
        let files = &mut self.memory.files;
        if is_short {
            return files.take_small();
        }
        files.take_long().or_else(|| self.errands.short.is_empty().then(|| files.take_small())?)
    }

    fn begin_read(&mut self, read: Read, into: BufferIndex) {
        let Read { asker, ticket, file, offset, len } = read;
        let len = len.min(self.memory.files.len_of(into) as usize) as u32;
        self.begin(asker, ticket, What::Read { buffer: into, file, offset, len });
    }

    /// While reads wait, what is lent is due back sooner: who takes it at all takes some of it by then.
    fn hasten_loans(&mut self) {
        let (now, lend_time) = (self.desk.now, self.config.lend_time);
        if self.errands.short.is_empty() && self.errands.long.is_empty() {
            if self.errands.hasty_until.take_if(|until| *until <= now).is_some() {
                self.limits.lend_time = lend_time;
            }
            return;
        }
        // For a while, so that this looks at all connections only now and then.
        if self.errands.hasty_until.replace(now + lend_time).is_none() {
            self.limits.lend_time = lend_time.min(Duration::from_millis(1).max(lend_time / HASTE));
            for slot in 0..self.slots.len() as u32 {
                self.follow_up(Handle { slot, generation: self.slots[slot as usize].generation });
            }
        }
    }

    /// Closes the files that were dropped.
    fn close_files(&mut self) {
        while let Some(descriptor) = self.desk.local.next_close() {
            self.close_stray(descriptor);
        }
    }

    /// Drops what outlives a service: the factory and its state, what services shared, and reads that nobody waits for
    /// any more. The files in it are closed.
    pub(super) fn let_go_of_state(&mut self) {
        let nobody: Factory = Box::new(|_| Box::new(|_: &mut Input<'_>, _: &mut Output<'_>| Flow::Abort));
        let factory = std::mem::replace(&mut self.factory, nobody);
        let shared = self.desk.take_shared();
        self.desk.local.tasks.close();
        let Errands { long, short, .. } = &mut self.errands;
        let reads: Vec<Read> = long.drain(..).chain(short.drain(..)).collect();
        for Read { asker, ticket, file, offset, len } in reads {
            // A future of the host's may wait for it.
            self.desk.local.refuse(asker, ticket, Request::Read(file, offset, len));
        }
        let_go((factory, shared));
        self.close_files();
    }

    fn run_errand(&mut self, asker: Asker, ticket: Ticket, request: Request) {
        if matches!(asker, Asker::Future(_)) && !self.waits(asker, ticket) {
            // The future was dropped. What was connected for it finds out by itself.
            return let_go(request);
        }
        match request {
            Request::Connect(to, service) => self.open_connection((asker, ticket), to, service),
            Request::TellConnected(result) => self.answer(asker, ticket, Answer::Connected(result)),
            Request::GiveUp => {
                if let Asker::Connection(name) = asker {
                    self.with_connection(name, Connection::give_up);
                }
            }
            Request::Open(file) => match file.into_flight() {
                Ok(path) => {
                    let path = self.memory.flights.launch(path);
                    self.begin(asker, ticket, What::Open(path));
                }
                Err(error) => self.answer(asker, ticket, Answer::Opened(Err(error))),
            },
            Request::Change(change) => match change.into_flight() {
                Ok(names) => {
                    let names = self.memory.flights.launch(names);
                    self.begin(asker, ticket, What::Change(names));
                }
                Err(error) => self.answer(asker, ticket, Answer::Changed(Err(error))),
            },
            Request::Stat(file) => {
                if let Some(stat) = file.stat_now(&*self.ring) {
                    return self.answer(asker, ticket, Answer::Stat(stat));
                }
                let answer = self.memory.flights.launch(Flight::stat());
                self.begin(asker, ticket, What::Stat { answer, file });
            }
            Request::BindUdp(wanted) => {
                let bound = self.bind_udp(&wanted);
                self.answer(asker, ticket, Answer::Bound(bound));
            }
            Request::Read(file, offset, len) => match file.check_offsets(&*self.ring) {
                Ok(()) => self.read(Read { asker, ticket, file, offset, len }),
                Err(error) => self.answer(asker, ticket, Answer::Read(Err(error))),
            },
            Request::Write(file, offset, bytes) => match file.check_offsets(&*self.ring) {
                Ok(()) => self.begin(asker, ticket, What::Write { file, offset, bytes, done: 0 }),
                Err(error) => {
                    // A part of the user's may be dropped with it.
                    let_go(bytes);
                    self.answer(asker, ticket, Answer::Written(Err(error)));
                }
            },
            Request::Sync(file, extent) => self.begin(asker, ticket, What::Sync { file, extent }),
        }
    }

    fn begin(&mut self, asker: Asker, ticket: Ticket, what: What) {
        let submission = what.submission();
        let errands = &mut self.errands;
        let slot = errands.free.pop().unwrap_or_else(|| {
            errands.running.push(Place::default());
            errands.running.len() as u32 - 1
        });
        let place = &mut errands.running[slot as usize];
        place.errand = Some(Errand { asker, ticket, what, tries: 0 });
        let token = Token::new(Kind::Errand, place.generation, slot);
        self.ring.submit(token, submission, &self.memory);
    }

    pub(super) fn errand_done(&mut self, completion: &Completion) {
        let slot = completion.token.slot();
        let place = self.errands.running.get_mut(slot as usize);
        let place = place.filter(|place| place.generation == completion.token.generation());
        let Some(place) = place else { return self.counters.nonsense += 1 };
        let Some(mut errand) = place.errand.take() else { return self.counters.nonsense += 1 };
        let Some(outcome) = errand.take_note(completion.outcome, &mut self.counters) else {
            let rest = errand.what.submission();
            place.errand = Some(errand);
            return self.ring.submit(completion.token, rest, &self.memory);
        };
        place.generation = place.generation.next();
        self.errands.free.push(slot);
        let answer = self.answer_of(errand.what, outcome);
        self.answer(errand.asker, errand.ticket, answer);
    }

    fn answer_of(&mut self, what: What, outcome: Outcome) -> Answer {
        let memory = &mut *self.memory;
        match what {
            What::Open(path) => {
                memory.flights.land(path);
                Answer::Opened(match outcome {
                    Outcome::Count(fd) => Ok(File::new(fd as i32, &self.desk.local)),
                    failed => Err(failed.to_error()),
                })
            }
            What::Change(names) => {
                memory.flights.land(names);
                Answer::Changed(match outcome {
                    Outcome::Count(_) => Ok(()),
                    failed => Err(failed.to_error()),
                })
            }
            What::Stat { answer, .. } => {
                let answer = memory.flights.land(answer);
                Answer::Stat(match (outcome, *answer) {
                    (Outcome::Count(_), Flight::Stat(stat)) => Ok(FileStat::from_statx(&stat)),
                    (failed, _) => Err(failed.to_error()),
                })
            }
            What::Read { buffer, .. } => Answer::Read(match outcome {
                Outcome::Count(len) if len > 0 => Ok(memory.files.lend(buffer, len)),
                outcome => {
                    memory.files.release(buffer);
                    match outcome {
                        Outcome::Count(_) => Ok(Bytes::new()),
                        failed => Err(failed.to_error()),
                    }
                }
            }),
            What::Write { bytes, done, .. } => {
                let is_empty = bytes.is_empty();
                // A part of the user's may be dropped with it.
                let_go(bytes);
                Answer::Written(match outcome {
                    Outcome::Count(0) if done == 0 && !is_empty => Err(io::ErrorKind::WriteZero.into()),
                    Outcome::Count(_) => Ok(done),
                    // What was written is told first, and the error to whoever goes on there.
                    _ if done > 0 => Ok(done),
                    failed => Err(failed.to_error()),
                })
            }
            What::Sync { .. } => Answer::Synced(match outcome {
                Outcome::Count(_) => Ok(()),
                failed => Err(failed.to_error()),
            }),
        }
    }

    /// Takes an answer to who asked. If that is gone the answer is dropped, which closes a file and frees memory.
    fn answer(&mut self, asker: Asker, ticket: Ticket, answer: Answer) {
        match asker {
            Asker::Connection(name) => {
                self.with_connection(name, |connection, env| connection.handle_answer(ticket, answer, env));
            }
            Asker::Future(slot) => self.desk.local.answer(slot, ticket, answer),
        }
    }

    fn open_connection(&mut self, asker: (Asker, Ticket), to: Connect, service: Box<dyn Service>) {
        let refusal = match self.state {
            State::Stopping { .. } => Some(ConnectError::Stopping),
            // While it drains requests are answered that need other servers.
            _ if self.live < self.config.max_connections => None,
            _ => Some(ConnectError::TooMany),
        };
        let prepared = refusal.map_or_else(|| self.prepare_socket(&to), Err);
        let (nodelay, now) = (self.config.nodelay && to.to.tcp().is_some(), self.desk.now);
        match prepared {
            Ok(descriptor) => {
                let name = self
                    .settle(|name| Connection::outgoing(name, to, asker, descriptor, nodelay, now, service));
                if let (Asker::Future(slot), ticket) = asker {
                    self.desk.local.note_opening(slot, ticket, name);
                }
                self.keep_places();
                self.follow_up(name);
            }
            Err(error) => {
                // It never gets a socket, but it is a connection for as long as it takes to tell its service so.
                let name =
                    self.settle(|name| Connection::outgoing(name, to, asker, None, nodelay, now, service));
                self.with_connection(name, |connection, env| connection.refuse(error, env));
            }
        }
    }

    /// A socket made by plain system calls, where the ring cannot do all that is asked; `None` where it can.
    fn prepare_socket(&mut self, to: &Connect) -> Result<Option<Descriptor>, ConnectError> {
        let mut addresses = [Some(&to.to), to.from.as_ref()].into_iter().flatten();
        if addresses.any(|address| address.to_sock_addr().is_err()) {
            return Err(ConnectError::Failed(to.to.clone(), libc::EINVAL));
        }
        let abilities = self.limits.abilities;
        if abilities.socket && abilities.set_option && (to.from.is_none() || abilities.bind_listen) {
            return Ok(None);
        }
        let make = || {
            let tcp = to.to.tcp().is_some();
            let socket = Socket::new(to.to.domain(), Type::STREAM, tcp.then_some(Protocol::TCP))?;
            if tcp {
                socket.set_tcp_nodelay(self.config.nodelay)?;
            }
            if let Some(from) = &to.from {
                socket.bind(&from.to_sock_addr()?)?;
            }
            Ok(socket)
        };
        let socket = make().map_err(|error: io::Error| {
            ConnectError::from_errno(to.to.clone(), error.raw_os_error().unwrap_or(libc::EINVAL))
        })?;
        Ok(Some(Descriptor::Plain(socket.into_raw_fd())))
    }
}
