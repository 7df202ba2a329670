//! Closing: how a connection ends without cutting what the peer has not read yet, and when its slot is free.
//!
//! Closing a socket with unread input, or while more arrives, makes the kernel reset the connection, and the peer
//! loses what it had not read (measured: of 4 MB accepted by send, 128 KB arrived). So unless nothing more is due, the
//! sending side is shut down first, and what still comes is read and discarded, up to a bound and a deadline
//! (RFC 9112, section 9.6).

use crate::flight::Flight;
use crate::guard::guard;
use crate::input::Input;
use crate::operation::{Half, Memory, Outcome, Submission};
use crate::service::{Context, Event, Flow, Reason};
use crate::token::Kind;

use super::sending::Sending;
use super::{Connection, Env, Limits, Receive, Stage, Watch};

/// The last stage: what was asked of the kernel, and what it has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ending {
    /// Make the kernel reset the connection rather than end it.
    pub(super) reset: bool,
    option_in_flight: Option<u32>,
    close: Close,
}

/// Whether our sending side is shut down. It is done by a thread of the kernel's, so nothing is closed, and no slot
/// used again, while it is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shut {
    No,
    InFlight,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Close {
    #[default]
    NotYet,
    InFlight,
    Done,
}

impl Connection {
    /// The service has finished; what it wrote is still to be sent.
    pub(super) fn finish(&mut self, linger: bool, env: &mut Env<'_>) {
        if self.outgoing.has_untold() {
            // It does not know that bytes are missing, and the peer would take what it got for the whole.
            return self.abort(env);
        }
        self.outgoing.keep_lent();
        self.outgoing.unpark();
        let linger = linger || !self.carry.is_empty();
        self.stage = Stage::Finishing { linger, discarded: 0 };
        self.timer = None;
    }

    /// Input came that nobody will read: the peer may be sending, so its connection is not to be reset.
    pub(super) fn discard(&mut self, len: u64) {
        match &mut self.stage {
            Stage::Finishing { linger, discarded } => {
                *linger |= len > 0;
                *discarded += len;
            }
            Stage::Lingering { discarded } => *discarded += len,
            Stage::Opening | Stage::Open | Stage::Ending(_) => {}
        }
    }

    /// Moves on to the next stage of closing, if this one is over.
    pub(super) fn settle(&mut self, env: &mut Env<'_>) {
        match self.stage {
            Stage::Opening | Stage::Open | Stage::Ending(_) => return,
            Stage::Finishing { linger, discarded } => {
                self.carry.clear();
                if !self.outgoing.is_empty() || self.sending != Sending::Idle {
                    return;
                }
                if linger && !self.peer_ended {
                    self.stage = Stage::Lingering { discarded };
                    self.deadline = Some(env.desk.now + env.limits.linger_time);
                    return;
                }
            }
            Stage::Lingering { discarded } => {
                if self.shut != Shut::Done || (!self.peer_ended && discarded < env.limits.linger_limit) {
                    return;
                }
            }
        }
        self.end(Reason::Finished, env);
    }

    /// Our sending side is shut down when everything is sent, and either the service has said that it writes no more,
    /// or the connection lingers.
    pub(super) fn poll_shutdown(&mut self) -> Option<(Kind, Submission)> {
        let due = match self.stage {
            Stage::Open => self.outgoing.is_ended(),
            Stage::Lingering { .. } => true,
            _ => false,
        };
        let descriptor = self.descriptor.filter(|_| due && self.is_all_sent() && self.shut == Shut::No)?;
        self.shut = Shut::InFlight;
        Some((Kind::Shutdown, Submission::Shutdown { descriptor, half: Half::Write }))
    }

    pub(super) fn is_all_sent(&self) -> bool {
        self.outgoing.is_empty() && self.sending == Sending::Idle
    }

    pub(crate) fn handle_shutdown(&mut self, outcome: Outcome, env: &mut Env<'_>) {
        self.shut = Shut::Done;
        if let (Stage::Lingering { .. }, false) = (self.stage, matches!(outcome, Outcome::Count(_))) {
            self.end(Reason::Finished, env);
        }
        self.settle(env);
    }

    /// Closes at once; the peer sees a reset.
    pub(crate) fn abort(&mut self, env: &mut Env<'_>) {
        self.end_with(Reason::Aborted, true, env);
    }

    /// The kernel said something about this connection that cannot be.
    pub(crate) fn handle_nonsense(&mut self, more: bool, env: &mut Env<'_>) {
        if !more && matches!(self.receive, Receive::Armed { .. }) {
            self.receive = Receive::Idle;
        }
        self.end(Reason::Failed(libc::EPROTO), env);
    }

    /// Closes because the server stops. If something is unsent the peer sees a reset: it is not to take what it got for
    /// the whole.
    pub(crate) fn stop(&mut self, env: &mut Env<'_>) {
        let is_cut = !self.outgoing.is_empty() || self.sending != Sending::Idle;
        self.end_with(Reason::ServerStopped, is_cut, env);
    }

    pub(super) fn end(&mut self, reason: Reason, env: &mut Env<'_>) {
        let reset =
            matches!(reason, Reason::Panicked | Reason::Stalled | Reason::InputLimit | Reason::Failed(_));
        // Nor is a peer to take the part that it got for the whole.
        let is_cut = reason.timeout().is_some() && !self.is_all_sent();
        let reset = reset || is_cut;
        if let Some(timeout) = reason.timeout()
            && !matches!(self.stage, Stage::Ending(_))
        {
            self.scope_in(env).report_timeout(timeout);
        }
        self.end_with(reason, reset, env);
    }

    /// Begins the last stage: the service is told and dropped, and nothing is done any more but to cancel and close.
    fn end_with(&mut self, reason: Reason, reset: bool, env: &mut Env<'_>) {
        if matches!(self.stage, Stage::Ending(_)) {
            return;
        }
        self.stage = Stage::Ending(Ending { reset, ..Ending::default() });
        self.timer = None;
        self.deadline = None;
        self.carry.clear();
        self.agenda.clear();
        if self.sending == Sending::Idle {
            self.outgoing.discard(env.sends);
        }
        if let Some(opening) = &mut self.opening {
            opening.give_up(reason);
        }
        let is_cut = self.tell_closed(reason, env) && reason == Reason::ServerStopped;
        if let (true, Stage::Ending(ending)) = (is_cut, &mut self.stage) {
            ending.reset = true;
        }
        let facts = self.facts.take();
        if let Err(panic) = guard(|| drop(facts)) {
            self.report(&panic, env);
        }
    }

    /// The last event; says whether the service was in the middle of what must not look complete.
    fn tell_closed(&mut self, reason: Reason, env: &mut Env<'_>) -> bool {
        let Some(mut service) = self.service.take() else { return false };
        let mut nothing = crate::output::Collected::new(0, 0);
        let mut timer = None;
        let scope = Connection::scope(self.handle, self.descriptor, &mut self.facts, env.desk, env.ring);
        // Not ended: a peer that is gone never said that it had sent all.
        let mut cx = Context::new(Input::new(&mut [], false), nothing.output(), &mut timer, scope);
        // Whatever it throws, this connection is over already. Whether it may be asked or not, it is dropped.
        let told = guard(|| service.handle(Event::Closed(reason), &mut cx));
        drop(cx);
        let is_cut = matches!(told, Ok(Flow::Abort));
        let (flow, thrown) = told.map_or_else(|panic| (None, Some(panic)), |flow| (Some(flow), None));
        // What it said may be a service as well.
        let dropped = [guard(|| drop(flow)), guard(|| drop(service))].into_iter().filter_map(Result::err);
        for panic in thrown.into_iter().chain(dropped) {
            self.report(&panic, env);
        }
        is_cut
    }

    pub(super) fn poll_ending(
        &mut self,
        mut ending: Ending,
        memory: &mut Memory,
        limits: &Limits,
    ) -> Option<(Kind, Submission)> {
        let next = self.next_of_ending(&mut ending, memory, limits);
        self.stage = Stage::Ending(ending);
        next
    }

    fn next_of_ending(
        &mut self,
        ending: &mut Ending,
        memory: &mut Memory,
        limits: &Limits,
    ) -> Option<(Kind, Submission)> {
        if let Receive::Armed { cancelled: false } = self.receive {
            self.receive = Receive::Armed { cancelled: true };
            return Some((Kind::Cancel, Submission::Cancel { target: self.token(Kind::Receive) }));
        }
        if let Sending::InFlight { load, cancelled: false } | Sending::Overdue { load } = self.sending {
            self.sending = Sending::InFlight { load, cancelled: true };
            return Some((Kind::Cancel, Submission::Cancel { target: self.token(Kind::Send) }));
        }
        if let Sending::Waiting { cancelled: false } = self.sending {
            self.sending = Sending::Waiting { cancelled: true };
            return Some((Kind::Cancel, Submission::Cancel { target: self.token(Kind::RoomWatch) }));
        }
        if let Watch::Armed { cancelled: false } = self.watch {
            self.watch = Watch::Armed { cancelled: true };
            return Some((Kind::Cancel, Submission::Cancel { target: self.token(Kind::PeerWatch) }));
        }
        if let Some(cancel) = self.cancel_opening() {
            return Some(cancel);
        }
        let descriptor = self.descriptor?;
        if self.shut == Shut::InFlight || ending.close != Close::NotYet || self.is_opening() {
            return None;
        }
        if ending.reset && limits.abilities.set_option {
            ending.reset = false;
            // Lingering for no time at all: close(2) then resets instead of ending (socket(7), SO_LINGER).
            let value = memory.flights.launch(Flight::OptionValue([1, 0]));
            ending.option_in_flight = Some(value);
            let (level, name) = (libc::SOL_SOCKET, libc::SO_LINGER);
            return Some((Kind::Option, Submission::SetOption { descriptor, level, name, value, len: 8 }));
        }
        ending.close = Close::InFlight;
        Some((Kind::Close, Submission::Close { descriptor }))
    }

    pub(crate) fn handle_close(&mut self) {
        if let Stage::Ending(ending) = &mut self.stage {
            ending.close = Close::Done;
        }
    }

    /// The option that makes closing a reset is set, or is not; closing goes on either way.
    pub(super) fn ending_option(&mut self) -> Option<u32> {
        match &mut self.stage {
            Stage::Ending(ending) => ending.option_in_flight.take(),
            _ => None,
        }
    }

    /// Some deadline of the connection's own is reached.
    pub(super) fn deadline_reached(&mut self, env: &mut Env<'_>) {
        match self.stage {
            Stage::Opening => self.opening_timed_out(),
            Stage::Open | Stage::Finishing { .. } => self.send_overdue(env),
            Stage::Lingering { .. } => self.end(Reason::Finished, env),
            Stage::Ending(_) => {}
        }
    }

    /// Whether every operation ever submitted for this connection has completed for good: only then is its slot free.
    pub(crate) fn is_over(&self) -> bool {
        let Stage::Ending(ending) = self.stage else { return false };
        let closed = ending.close == Close::Done || (self.descriptor.is_none() && !self.is_opening());
        closed
            && self.shut != Shut::InFlight
            && ending.option_in_flight.is_none()
            && self.sending == Sending::Idle
            && !matches!(self.watch, Watch::Armed { .. })
            && !matches!(self.receive, Receive::Armed { .. } | Receive::Once(_))
    }
}
