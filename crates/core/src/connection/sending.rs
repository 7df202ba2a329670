//! Sending: one send in flight, all that was written in a turn in it.

use crate::flight::FlightIndex;
use crate::operation::{Memory, Outcome, Submission};
use crate::output::Front;
use crate::service::Reason;
use crate::time::Time;
use crate::token::Kind;

use super::{Connection, Env, Limits, Stage};

/// The sending half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sending {
    Idle,
    /// `cancelled` once the kernel was told to give up.
    InFlight {
        load: Load,
        cancelled: bool,
    },
    /// The send was found stalled: it is to be cancelled, and its count read.
    Stalled {
        load: Load,
    },
}

/// What a send in flight took along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    /// The scatter list of a gathering send.
    list: Option<FlightIndex>,
    /// The kernel cannot have sent more than that.
    len: usize,
}

impl Connection {
    /// The end of the send in flight.
    pub(crate) fn handle_send(
        &mut self,
        outcome: Outcome,
        memory_flights: &mut crate::flight::Flights,
        env: &mut Env<'_>,
    ) {
        let (load, cancelled) = match std::mem::replace(&mut self.sending, Sending::Idle) {
            Sending::Idle => return,
            Sending::InFlight { load, cancelled } => (load, cancelled),
            Sending::Stalled { load } => (load, false),
        };
        if let Some(list) = load.list {
            memory_flights.land(list);
        }
        if matches!(self.stage, Stage::Ending(_)) {
            return self.outgoing.discard(env.sends);
        }
        self.deadline = None;
        match outcome {
            Outcome::Count(0) | Outcome::Cancelled if cancelled => self.end(Reason::Stalled, env),
            Outcome::Count(n) if n as usize > load.len => self.end(Reason::Failed(libc::EPROTO), env),
            Outcome::Count(n) => {
                self.outgoing.sent(n as usize, env.sends);
                self.agenda.room_came();
            }
            // Nothing went out, and nothing says that it never will: send it again.
            Outcome::Retry | Outcome::NoBuffers | Outcome::Cancelled => {}
            Outcome::PeerGone(errno) => self.end(Reason::PeerGone(errno), env),
            Outcome::Failed(errno) => self.end(Reason::Failed(errno), env),
        }
        self.drive(env);
    }

    pub(super) fn poll_send(
        &mut self,
        now: Time,
        memory: &mut Memory,
        limits: &Limits,
    ) -> Option<(Kind, Submission)> {
        let to = self.descriptor?;
        match self.sending {
            Sending::Idle => {}
            Sending::InFlight { .. } => return None,
            Sending::Stalled { load } => {
                self.sending = Sending::InFlight { load, cancelled: true };
                return Some((Kind::Cancel, Submission::Cancel { target: self.token(Kind::Send) }));
            }
        }
        let mut list = None;
        let (submission, len) = match self.outgoing.front() {
            Front::Nothing => return None,
            Front::Range { buffer, start, end } => {
                (Submission::Send { to, buffer, start, end }, (end - start) as usize)
            }
            Front::Held(bytes) => {
                let address = bytes.as_ptr().expose_provenance();
                (Submission::SendHeld { to, address, len: bytes.len() as u32 }, bytes.len())
            }
            Front::Several { len } => {
                let ranges = self.outgoing.ranges(&memory.sends);
                let index = memory.flights.launch_gather(ranges);
                list = Some(index);
                (Submission::Gather { to, list: index }, len)
            }
        };
        self.sending = Sending::InFlight { load: Load { list, len }, cancelled: false };
        self.deadline = Some(now + limits.send_stall);
        Some((Kind::Send, submission))
    }

    /// The send in flight has said nothing for a whole stall time. A send that waits for all of it posts no
    /// completion however much was taken, so it is cancelled and its count read: progress resumes it, none closes.
    pub(super) fn send_stalled(&mut self) {
        if let Sending::InFlight { load, cancelled: false } = self.sending {
            self.sending = Sending::Stalled { load };
        }
    }
}
