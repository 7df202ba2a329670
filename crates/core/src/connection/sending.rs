//! Sending: one send in flight, all that was written in a turn in it.
//!
//! A send that waits for all of it posts no completion however much was taken. So at two moments it is cancelled and
//! its count read. When what is lent is due back: whatever is not sent by then is given back, and if nothing else is
//! left to send, a poll waits until the socket takes bytes again. And when the stall time is over: if the peer has
//! taken nothing in it, the connection is closed. Only progress begins that time anew: not that a send is tried again,
//! nor that nothing is left to send but what was given back.
//!
//! Progress is measured. Every byte that the kernel took gives the peer back the time that a byte takes at
//! [`Config::send_rate`](crate::Config), and never more than the stall time is ahead: see [`Patience`].

use std::time::Duration;

use crate::agenda::Change;
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
    /// The send is overdue: it is to be cancelled, and its count read.
    Overdue {
        load: Load,
    },
    /// What was lent is given back; a poll tells when the socket takes bytes again.
    Waiting {
        cancelled: bool,
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

/// For how long the peer may still take nothing, while something is unsent. In nanoseconds, which are half as long as a
/// [`Time`] and last for five centuries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// When it is over, and [`FOREVER`] before it has begun. While it rests: what is left of it.
    over_at: u64,
    /// Nothing can be taken, since the service is to write again what was given back.
    rests: bool,
    /// What was taken last gave back less time than had gone by.
    is_behind: bool,
}

const FOREVER: u64 = u64::MAX;

fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(FOREVER)
}

impl Patience {
    pub(super) fn new() -> Patience {
        Patience { over_at: FOREVER, rests: false, is_behind: false }
    }

    /// Something is unsent: says when patience is over.
    fn begin(&mut self, now: Time, limits: &Limits) -> Time {
        let now = nanos(now.since_start());
        if std::mem::take(&mut self.rests) {
            self.over_at = self.over_at.saturating_add(now);
        } else if self.over_at == FOREVER {
            self.over_at = now.saturating_add(nanos(limits.send_stall));
        }
        self.over_at()
    }

    fn over_at(&self) -> Time {
        Time::from_start(Duration::from_nanos(self.over_at))
    }

    fn is_over(&self, now: Time) -> bool {
        !self.rests && self.over_at() <= now
    }

    /// The peer took `n` bytes.
    fn gain(&mut self, n: usize, now: Time, limits: &Limits) {
        let gained = (n as u64).saturating_mul(1_000_000_000).checked_div(limits.send_rate.into());
        // Without a rate any byte is enough.
        let Some(gained) = gained else { return *self = Patience::new() };
        let full = nanos(now.since_start()).saturating_add(nanos(limits.send_stall));
        let at = self.over_at.saturating_add(gained);
        (self.is_behind, self.over_at) = (at < full, at.min(full));
    }

    /// Nothing is unsent, but what was given back will be again.
    fn rest(&mut self, now: Time, limits: &Limits) {
        if limits.send_rate == 0 {
            *self = Patience::new();
        } else if !std::mem::replace(&mut self.rests, true) {
            self.over_at = self.over_at.saturating_sub(nanos(now.since_start()));
        }
    }

    fn reason(&self) -> Reason {
        if self.is_behind { Reason::TooSlow } else { Reason::Stalled }
    }
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
            Sending::InFlight { load, cancelled } => (load, cancelled),
            Sending::Overdue { load } => (load, false),
            other @ (Sending::Idle | Sending::Waiting { .. }) => return self.sending = other,
        };
        if let Some(list) = load.list {
            memory_flights.land(list);
        }
        if matches!(self.stage, Stage::Ending(_)) {
            return self.outgoing.discard(env.sends);
        }
        self.deadline = None;
        let now = env.desk.now;
        let stalled = cancelled && self.patience.is_over(now);
        match outcome {
            Outcome::Count(0) | Outcome::Cancelled | Outcome::Retry if stalled => {
                self.end(self.patience.reason(), env);
            }
            Outcome::Count(n) if n as usize > load.len => self.end(Reason::Failed(libc::EPROTO), env),
            Outcome::Count(n) => {
                self.outgoing.sent(n as usize, env.sends);
                if n > 0 {
                    self.ages.touch(now);
                    self.patience.gain(n as usize, now, env.limits);
                }
                if self.outgoing.is_empty() {
                    self.patience = Patience::new();
                } else if stalled && self.patience.is_over(now) {
                    return self.end(self.patience.reason(), env);
                }
                // A send that was cancelled short says nothing of what the socket takes now.
                let is_short = cancelled && (n as usize) < load.len;
                if !is_short || !(self.give_back(env) || self.outgoing.is_parked()) {
                    self.room_came();
                }
            }
            // Nothing went out, and nothing says that it never will: send it again, unless it was lent.
            Outcome::Retry | Outcome::NoBuffers | Outcome::Cancelled => {
                if cancelled {
                    self.give_back(env);
                }
            }
            Outcome::PeerGone(errno) => self.end(Reason::PeerGone(errno), env),
            Outcome::Failed(errno) => self.end(Reason::Failed(errno), env),
        }
        self.drive(env);
    }

    /// Gives back what is lent, and says whether that was anything. The service is told when the socket takes bytes
    /// again, not before.
    fn give_back(&mut self, env: &mut Env<'_>) -> bool {
        let returned = self.outgoing.give_back(env.sends);
        if returned > 0 {
            env.desk.counters.returned += returned as u64;
            self.agenda.add(Change::Room);
        }
        returned > 0
    }

    /// The socket takes bytes.
    fn room_came(&mut self) {
        self.outgoing.unpark();
        self.agenda.room_came();
    }

    /// The poll has seen that the socket takes bytes again, or that it is broken.
    pub(crate) fn handle_room_watch(&mut self, outcome: Outcome, env: &mut Env<'_>) {
        if !matches!(self.sending, Sending::Waiting { .. }) {
            return;
        }
        self.sending = Sending::Idle;
        if matches!(self.stage, Stage::Ending(_)) {
            return self.outgoing.discard(env.sends);
        }
        self.deadline = None;
        match outcome {
            Outcome::Count(seen) if seen & libc::POLLERR as u32 != 0 => {
                self.end(Reason::PeerGone(libc::ECONNRESET), env);
            }
            Outcome::Count(_) => {
                self.patience.rest(env.desk.now, env.limits);
                self.room_came();
            }
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
            Sending::Idle if self.outgoing.is_parked() && self.outgoing.is_empty() => {
                self.sending = Sending::Waiting { cancelled: false };
                self.deadline = Some(self.patience.begin(now, limits));
                return Some((Kind::RoomWatch, Submission::WatchRoom { descriptor: to }));
            }
            Sending::Idle => {}
            Sending::InFlight { cancelled, .. } => {
                // Lent while it is in flight.
                if !cancelled && self.outgoing.lends() {
                    self.deadline = self.deadline.map(|at| at.min(now + limits.lend_time));
                }
                return None;
            }
            Sending::Overdue { load } => {
                self.sending = Sending::InFlight { load, cancelled: true };
                return Some((Kind::Cancel, Submission::Cancel { target: self.token(Kind::Send) }));
            }
            // The service has finished: what it had lent is nobody's any more.
            Sending::Waiting { cancelled: false } if self.stage != Stage::Open => {
                self.sending = Sending::Waiting { cancelled: true };
                return Some((Kind::Cancel, Submission::Cancel { target: self.token(Kind::RoomWatch) }));
            }
            Sending::Waiting { .. } => return None,
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
        let over_at = self.patience.begin(now, limits);
        let lent = self.outgoing.lends();
        self.deadline = Some(if lent { over_at.min(now + limits.lend_time) } else { over_at });
        Some((Kind::Send, submission))
    }

    /// The send in flight has said nothing until what is lent is due back, or for a whole stall time; or so long was
    /// waited for room.
    pub(super) fn send_overdue(&mut self, env: &mut Env<'_>) {
        let stalled = self.patience.is_over(env.desk.now);
        match self.sending {
            // What was lent is not any more.
            Sending::InFlight { cancelled: false, .. } if !stalled && !self.outgoing.lends() => {
                self.deadline = Some(self.patience.over_at());
            }
            Sending::InFlight { load, cancelled: false } => self.sending = Sending::Overdue { load },
            Sending::Waiting { .. } => self.end(self.patience.reason(), env),
            _ => {}
        }
    }
}
