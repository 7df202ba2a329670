//! The connection: a state machine that is told events and asked what it wants next.
//!
//! It knows no ring, no descriptor's meaning and no clock. `handle_*` tell it what happened, and call its service as
//! far as that has consequences; [`Connection::poll_submission`] asks what is to be submitted, until it says `None`.
//! So it runs the same under io_uring, under the simulated ring and in a unit test.
//!
//! Its life:
//!
//! ```text
//!  Opening ──► Open ──────► Finishing ────────► Lingering ─────────► Ending ──► over
//!  (outgoing)   │ Finish,     │ all is sent,      SHUTDOWN is done,   cancel,
//!     │         │ Close       │ and the peer      the peer ended,     close, wait for
//!     │         │             │ may still send    or a bound is met   every completion
//!     │         │             └── nothing more is due ───────────────►│
//!     └─────────┴──── aborted, peer gone, stalled ────────────────────►│
//! ```
//!
//! The parts are in files of their own: `calling` (the service), `sending`, `deadlines`, `opening`, `closing` and `cut`
//! (what the log says of it).

mod calling;
mod closing;
mod cut;
mod deadlines;
mod opening;
mod sending;

use std::collections::VecDeque;
use std::time::Duration;

use crate::agenda::{Agenda, Change};
use crate::buffer_ring::{Piece, Received};
use crate::carry::Carry;
use crate::control::{Facts, Scope};
use crate::desk::{Desk, Handle};
use crate::errand::{Answer, Ticket};
use crate::operation::{Descriptor, Memory, ONCE_LEN, Outcome, Submission};
use crate::output::Outgoing;
use crate::ring::{Abilities, Ring};
use crate::send_pool::{BufferIndex, SendPool};
use crate::service::{Reason, Service};
use crate::time::{Millis, Time};
use crate::token::{Kind, Token};

use closing::{Ending, Shut};
use deadlines::Ages;
use opening::Opening;
use sending::{Patience, Sending};

/// The bounds of a connection: what [`Config`](crate::Config) says, and what the ring can do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) receive_budget: u32,
    pub(crate) receive_buffer_len: u32,
    pub(crate) input_limit: usize,
    pub(crate) send_buffers: u16,
    pub(crate) held_limit: usize,
    pub(crate) linger_limit: u64,
    pub(crate) linger_time: Duration,
    pub(crate) send_stall: Duration,
    pub(crate) send_rate: u32,
    pub(crate) idle_timeout: Millis,
    pub(crate) frame_timeout: Millis,
    pub(crate) lifetime: Millis,
    pub(crate) lifetime_grace: Millis,
    pub(crate) lend_time: Duration,
    pub(crate) abilities: Abilities,
}

/// What a connection works with while it handles an event.
pub(crate) struct Env<'a> {
    pub(crate) sends: &'a mut SendPool,
    pub(crate) desk: &'a mut Desk,
    pub(crate) ring: &'a mut dyn Ring,
    pub(crate) limits: &'a Limits,
    /// Connections whose receive found no buffer, and those whose call found no send buffer: in order.
    pub(crate) starved: &'a mut VecDeque<Handle>,
    pub(crate) hungry: &'a mut VecDeque<Handle>,
}

/// One connection, accepted or outgoing.
pub(crate) struct Connection {
    handle: Handle,
    /// Gone once the service was told that the connection is closed.
    service: Option<Box<dyn Service>>,
    stage: Stage,
    /// `None` before the socket is there.
    descriptor: Option<Descriptor>,
    receive: Receive,
    /// The receive that is armed, or was last, has filled a buffer to its end.
    fills_buffers: bool,
    sending: Sending,
    shut: Shut,
    watch: Watch,
    agenda: Agenda,
    /// Waits in the queue for send memory.
    is_hungry: bool,
    /// The peer said that it sends nothing more.
    peer_ended: bool,
    carry: Carry,
    outgoing: Outgoing,
    /// The service's timer.
    timer: Option<Time>,
    /// The connection's own: of the send in flight or waited for, of lingering, of connecting.
    deadline: Option<Time>,
    patience: Patience,
    ages: Ages,
    /// The service was told that the connection is too old.
    is_old: bool,
    /// A layer's inner service has seen the beginning of a frame, and waits for the rest of it.
    is_in_inner_frame: bool,
    /// The rest is rare, and boxed to keep an idle connection small.
    facts: Option<Box<Facts>>,
    opening: Option<Box<Opening>>,
}

/// Where in its life a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Open,
    /// The service has finished; what it wrote is being sent. `linger`: the peer may still be sending.
    Finishing {
        linger: bool,
        discarded: u64,
    },
    /// Our sending side is shut down; reading and discarding, so that closing does not reset what the peer has not
    /// read yet.
    Lingering {
        discarded: u64,
    },
    Ending(Ending),
}

/// The receiving half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receive {
    Idle,
    /// A multishot receive is with the kernel; `cancelled` once it was told to stop.
    Armed {
        cancelled: bool,
    },
    /// No buffer was left; waits in the worker's queue.
    Starved,
    /// One receive into a private buffer is with the kernel.
    Once(BufferIndex),
}

/// The watch over a peer that is not read from: it may be gone without anybody noticing, for as long as nothing is sent
/// to it either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watch {
    No,
    Armed {
        cancelled: bool,
    },
    /// It said what there is to say. A peer that has ended would complete it again at once.
    Done,
}

impl Connection {
    /// A connection that is there: accepted.
    pub(crate) fn accepted(
        handle: Handle,
        descriptor: Descriptor,
        service: Box<dyn Service>,
        now: Time,
    ) -> Connection {
        let mut connection = Connection::new(handle, service, Stage::Open, now);
        connection.descriptor = Some(descriptor);
        connection.agenda.add(Change::Open);
        connection
    }

    fn new(handle: Handle, service: Box<dyn Service>, stage: Stage, now: Time) -> Connection {
        Connection {
            handle,
            service: Some(service),
            stage,
            descriptor: None,
            receive: Receive::Idle,
            fills_buffers: false,
            sending: Sending::Idle,
            shut: Shut::No,
            watch: Watch::No,
            agenda: Agenda::new(),
            is_hungry: false,
            peer_ended: false,
            carry: Carry::default(),
            outgoing: Outgoing::default(),
            timer: None,
            deadline: None,
            patience: Patience::new(),
            ages: Ages::new(now),
            is_old: false,
            is_in_inner_frame: false,
            facts: None,
            opening: None,
        }
    }

    /// Tells the service that the connection is there: the first event of an accepted connection.
    pub(crate) fn handle_accept(&mut self, env: &mut Env<'_>) {
        self.drive(env);
    }

    /// A step of the multishot receive: some bytes, the peer's end, or why there are none.
    pub(crate) fn handle_receive(
        &mut self,
        outcome: Outcome,
        more: bool,
        received: Option<Received<'_>>,
        env: &mut Env<'_>,
    ) {
        if !more {
            self.receive = Receive::Idle;
        }
        match outcome {
            Outcome::Count(0) => self.handle_end(env),
            Outcome::Count(n) => {
                self.ages.touch(env.desk.now);
                self.fills_buffers |= n >= env.limits.receive_buffer_len;
                for piece in received.into_iter().flatten() {
                    self.handle_piece(piece, env);
                }
            }
            Outcome::NoBuffers => {
                self.receive = Receive::Starved;
                env.starved.push_back(self.handle);
            }
            Outcome::Retry | Outcome::Cancelled => {}
            Outcome::PeerGone(errno) => self.end(Reason::PeerGone(errno), env),
            Outcome::Failed(errno) => self.end(Reason::Failed(errno), env),
        }
        self.settle(env);
    }

    /// The end of the one receive into a private buffer.
    pub(crate) fn handle_receive_once(&mut self, outcome: Outcome, env: &mut Env<'_>) {
        let Receive::Once(buffer) = std::mem::replace(&mut self.receive, Receive::Idle) else { return };
        match outcome {
            Outcome::Count(0) => self.handle_end(env),
            Outcome::Count(n) if n > ONCE_LEN => self.end(Reason::Failed(libc::EPROTO), env),
            Outcome::Count(n) if self.stage == Stage::Open => {
                self.ages.touch(env.desk.now);
                self.carry.append(env.sends.bytes(buffer, 0, n));
                self.agenda.input_arrived(self.carry.len());
            }
            Outcome::Count(n) => self.discard(u64::from(n)),
            Outcome::NoBuffers | Outcome::Retry | Outcome::Cancelled => {}
            Outcome::PeerGone(errno) => self.end(Reason::PeerGone(errno), env),
            Outcome::Failed(errno) => self.end(Reason::Failed(errno), env),
        }
        env.sends.release(buffer);
        self.drive(env);
    }

    fn handle_piece(&mut self, mut piece: Piece<'_>, env: &mut Env<'_>) {
        match self.stage {
            Stage::Open => self.drive_piece(&mut piece, env),
            _ => self.discard(piece.len() as u64),
        }
    }

    fn handle_end(&mut self, env: &mut Env<'_>) {
        self.peer_ended = true;
        if self.stage == Stage::Open {
            self.agenda.add(Change::End);
            self.drive(env);
        }
    }

    /// The service is to be woken.
    pub(crate) fn handle_wake(&mut self, env: &mut Env<'_>) {
        self.agenda.add(Change::Wake);
        self.drive(env);
    }

    /// The server is to stop.
    pub(crate) fn handle_drain(&mut self, env: &mut Env<'_>) {
        self.agenda.add(Change::Drain);
        self.drive(env);
    }

    /// The answer to something the service asked for; given back if there is nobody to take it.
    pub(crate) fn handle_answer(&mut self, ticket: Ticket, answer: Answer, env: &mut Env<'_>) {
        if self.service.is_none() {
            return;
        }
        self.agenda.add_answer(ticket, answer);
        self.drive(env);
    }

    /// A send buffer is free again, for which this connection had waited.
    pub(crate) fn handle_memory(&mut self, env: &mut Env<'_>) {
        self.is_hungry = false;
        self.drive(env);
    }

    /// What is to be submitted next; to be asked until it is `None`.
    pub(crate) fn poll_submission(
        &mut self,
        now: Time,
        memory: &mut Memory,
        limits: &Limits,
    ) -> Option<(Kind, Submission)> {
        match self.stage {
            Stage::Opening => self.poll_opening(memory, limits),
            Stage::Ending(ending) => self.poll_ending(ending, memory, limits),
            _ => self
                .poll_receive(limits)
                .or_else(|| self.poll_send(now, memory, limits))
                .or_else(|| self.poll_shutdown())
                .or_else(|| self.poll_watch(limits)),
        }
    }

    fn poll_receive(&mut self, limits: &Limits) -> Option<(Kind, Submission)> {
        let wants = self.wants_input(limits);
        let from = self.descriptor?;
        let Abilities { bundle, budget, .. } = limits.abilities;
        match self.receive {
            Receive::Idle if wants => {
                self.receive = Receive::Armed { cancelled: false };
                // To look for several buffers costs every receive a little, and gains only where one is not enough. A
                // receive without a budget is not armed again, so there is nothing to learn from the last one.
                let bundle = bundle && (std::mem::take(&mut self.fills_buffers) || !budget);
                let budget = if budget { limits.receive_budget } else { 0 };
                Some((Kind::Receive, Submission::Receive { from, budget, bundle }))
            }
            // Without a budget the receive does not end by itself; what it brings until then is carried.
            Receive::Armed { cancelled: false }
                if !wants && !budget && self.carry.len() >= limits.receive_budget as usize =>
            {
                self.receive = Receive::Armed { cancelled: true };
                Some((Kind::Cancel, Submission::Cancel { target: self.token(Kind::Receive) }))
            }
            _ => None,
        }
    }

    fn poll_watch(&mut self, limits: &Limits) -> Option<(Kind, Submission)> {
        let is_blind = self.stage == Stage::Open && self.receive == Receive::Idle && !self.peer_ended;
        if !is_blind || self.watch != Watch::No || self.wants_input(limits) {
            return None;
        }
        let descriptor = self.descriptor?;
        self.watch = Watch::Armed { cancelled: false };
        Some((Kind::PeerWatch, Submission::WatchPeer { descriptor }))
    }

    /// The watch over the peer saw something.
    pub(crate) fn handle_watch(&mut self, outcome: Outcome, env: &mut Env<'_>) {
        self.watch = Watch::Done;
        if let Outcome::Count(seen) = outcome
            && seen & libc::POLLERR as u32 != 0
            && self.stage == Stage::Open
        {
            self.end(Reason::PeerGone(libc::ECONNRESET), env);
        }
    }

    fn wants_input(&self, limits: &Limits) -> bool {
        if self.peer_ended {
            return false;
        }
        match self.stage {
            Stage::Open => self.agenda.waits_for_input() && self.carry.len() < limits.input_limit,
            Stage::Finishing { discarded, .. } | Stage::Lingering { discarded } => {
                discarded < limits.linger_limit
            }
            Stage::Opening | Stage::Ending(_) => false,
        }
    }

    /// Takes a private buffer for one receive, when this starved connection's turn has come. `None` if it does not
    /// want to receive any more.
    pub(crate) fn receive_once(
        &mut self,
        buffer: BufferIndex,
        limits: &Limits,
    ) -> Option<(Kind, Submission)> {
        let from = self.descriptor.filter(|_| self.is_starved())?;
        if !self.wants_input(limits) {
            self.receive = Receive::Idle;
            return None;
        }
        self.receive = Receive::Once(buffer);
        Some((Kind::ReceiveOnce, Submission::ReceiveOnce { from, into: buffer }))
    }

    pub(crate) fn is_starved(&self) -> bool {
        self.receive == Receive::Starved
    }

    fn token(&self, kind: Kind) -> Token {
        Token::new(kind, self.handle.generation, self.handle.slot)
    }

    /// Bytes this connection holds beyond its slot: unread input, and output not sent.
    pub(crate) fn held_bytes(&self) -> (usize, usize) {
        (self.carry.len(), self.outgoing.len())
    }

    fn scope_in<'a>(&'a mut self, env: &'a mut Env<'_>) -> Scope<'a> {
        Connection::scope(self.handle, self.descriptor, &mut self.facts, env.desk, env.ring)
    }

    fn scope<'a>(
        handle: Handle,
        descriptor: Option<Descriptor>,
        facts: &'a mut Option<Box<Facts>>,
        desk: &'a mut Desk,
        ring: &'a mut dyn Ring,
    ) -> Scope<'a> {
        Scope { desk, ring, facts, handle, descriptor }
    }
}
