//! Errands: doing what services asked for, and taking the answers to them.

use std::os::fd::IntoRawFd;

use socket2::{Protocol, Socket, Type};

use crate::connection::Connection;
use crate::desk::Handle;
use crate::errand::{Answer, Connect, ConnectError, File, FileStat, Request, Ticket};
use crate::flight::{Flight, FlightIndex};
use crate::guard::let_go;
use crate::input::Input;
use crate::operation::{Completion, Descriptor, Outcome, Submission};
use crate::output::Output;
use crate::ring::Ring;
use crate::send_pool::BufferIndex;
use crate::service::{Flow, Service};
use crate::token::{Generation, Kind, Token};

use super::{Factory, State, Worker};

/// Errands that the kernel runs.
#[derive(Debug, Default)]
pub(super) struct Errands {
    running: Vec<Place>,
    free: Vec<u32>,
    /// Reads that wait for a buffer.
    waiting: std::collections::VecDeque<(Handle, Ticket, Request)>,
}

#[derive(Debug, Default)]
struct Place {
    generation: Generation,
    errand: Option<Errand>,
}

#[derive(Debug)]
struct Errand {
    asker: Handle,
    ticket: Ticket,
    what: What,
}

/// What runs, and the memory it uses: taken back when it is done.
#[derive(Debug)]
enum What {
    Open(FlightIndex),
    Stat { answer: FlightIndex, _file: File },
    Read { buffer: BufferIndex, _file: File },
}

impl<R: Ring> Worker<R> {
    /// Does what services asked for in this turn.
    pub(super) fn run_errands(&mut self) {
        self.close_files();
        for _ in 0..self.errands.waiting.len() {
            let Some((asker, ticket, request)) = self.errands.waiting.pop_front() else { break };
            self.run_errand(asker, ticket, request);
        }
        // What is asked for meanwhile is for the next turn: a service may ask again whenever it is answered.
        for _ in 0..self.desk.requests.len() {
            let Some((asker, ticket, request)) = self.desk.requests.pop_front() else { break };
            self.run_errand(asker, ticket, request);
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
        let waiting = std::mem::take(&mut self.errands.waiting);
        let_go((factory, shared, waiting));
        self.close_files();
    }

    fn run_errand(&mut self, asker: Handle, ticket: Ticket, request: Request) {
        match request {
            Request::Connect(to, service) => self.open_connection((asker, ticket), to, service),
            Request::TellConnected(result) => self.answer(asker, ticket, Answer::Connected(result)),
            Request::Open(file) => {
                let Some(path) = file.path else {
                    let error = std::io::Error::from(std::io::ErrorKind::InvalidInput);
                    return self.answer(asker, ticket, Answer::Opened(Err(error)));
                };
                let path = Flight::Path { path, how: file.how, root: file.root };
                let path = self.memory.flights.launch(path);
                let submission = Submission::OpenFile { path, direct: false };
                self.begin(Errand { asker, ticket, what: What::Open(path) }, submission);
            }
            Request::Stat(file) => {
                if let Some(stat) = file.stat_now(&*self.ring) {
                    return self.answer(asker, ticket, Answer::Stat(stat));
                }
                let answer = self.memory.flights.launch(Flight::stat());
                let submission = Submission::Stat { file: file.raw(), answer };
                self.begin(Errand { asker, ticket, what: What::Stat { answer, _file: file } }, submission);
            }
            Request::Read(file, offset, len) => {
                let Some(into) = self.memory.files.take() else {
                    return self.errands.waiting.push_back((asker, ticket, Request::Read(file, offset, len)));
                };
                let len = len.min(self.memory.files.buffer_len() as usize) as u32;
                let submission = Submission::Read { file: Descriptor::Plain(file.raw()), into, len, offset };
                self.begin(
                    Errand { asker, ticket, what: What::Read { buffer: into, _file: file } },
                    submission,
                );
            }
        }
    }

    fn begin(&mut self, errand: Errand, submission: Submission) {
        let errands = &mut self.errands;
        let slot = errands.free.pop().unwrap_or_else(|| {
            errands.running.push(Place::default());
            errands.running.len() as u32 - 1
        });
        let place = &mut errands.running[slot as usize];
        place.errand = Some(errand);
        let token = Token::new(Kind::Errand, place.generation, slot);
        self.ring.submit(token, submission, &self.memory);
    }

    pub(super) fn errand_done(&mut self, completion: &Completion) {
        let slot = completion.token.slot();
        let place = self.errands.running.get_mut(slot as usize);
        let place = place.filter(|place| place.generation == completion.token.generation());
        let Some(place) = place else { return self.counters.nonsense += 1 };
        let Some(errand) = place.errand.take() else { return self.counters.nonsense += 1 };
        place.generation = place.generation.next();
        self.errands.free.push(slot);
        let answer = self.answer_of(&errand.what, completion.outcome);
        self.answer(errand.asker, errand.ticket, answer);
    }

    fn answer_of(&mut self, what: &What, outcome: Outcome) -> Answer {
        let memory = &mut *self.memory;
        match *what {
            What::Open(path) => {
                memory.flights.land(path);
                Answer::Opened(match outcome {
                    Outcome::Count(fd) => Ok(File::new(fd as i32, &self.desk.local)),
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
                        Outcome::Count(_) => Ok(bytes::Bytes::new()),
                        failed => Err(failed.to_error()),
                    }
                }
            }),
        }
    }

    /// Takes an answer to who asked. If that is gone the answer is dropped, which closes a file and frees memory.
    fn answer(&mut self, asker: Handle, ticket: Ticket, answer: Answer) {
        self.with_connection(asker, |connection, env| connection.handle_answer(ticket, answer, env));
    }

    fn open_connection(&mut self, asker: (Handle, Ticket), to: Connect, service: Box<dyn Service>) {
        let refusal = match self.state {
            State::Running if self.live < self.config.max_connections => None,
            State::Running => Some(ConnectError::TooMany),
            State::Draining { .. } | State::Stopping { .. } => Some(ConnectError::Stopping),
        };
        let prepared = refusal.map_or_else(|| self.prepare_socket(&to), Err);
        let (nodelay, now) = (self.config.nodelay && to.to.tcp().is_some(), self.desk.now);
        match prepared {
            Ok(descriptor) => {
                let name = self
                    .settle(|name| Connection::outgoing(name, to, asker, descriptor, nodelay, now, service));
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
        let socket = make().map_err(|error: std::io::Error| {
            ConnectError::from_errno(to.to.clone(), error.raw_os_error().unwrap_or(libc::EINVAL))
        })?;
        Ok(Some(Descriptor::Plain(socket.into_raw_fd())))
    }
}
