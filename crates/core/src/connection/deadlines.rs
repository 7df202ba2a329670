//! Deadlines: how long a connection may be idle, leave a frame unfinished, and be there at all; and the one moment at
//! which it next wants to be looked at.
//!
//! None of them costs a request anything on the timer wheel. What moves one away, a byte received above all, only notes
//! when that was; the wheel fires where it was set before, and then the deadline is worked out anew.

use crate::agenda::Change;
use crate::service::Reason;
use crate::time::{Millis, Time};

use super::{Connection, Env, Limits, Receive, Stage};

/// What the deadlines are counted from.
#[derive(Debug)]
pub(super) struct Ages {
    /// When something was received or sent last.
    active: Millis,
    /// When the frame that has begun is to be complete.
    frame_due: Millis,
    /// When the connection began; or when its service was told that it is too old.
    since: Millis,
}

impl Ages {
    pub(super) fn new(now: Time) -> Ages {
        let now = Millis::at(now);
        Ages { active: now, frame_due: Millis::NEVER, since: now }
    }

    /// Something was received or sent.
    pub(super) fn touch(&mut self, now: Time) {
        self.active = Millis::at(now);
    }

    /// Some of the input was consumed: what is left of it is another frame.
    pub(super) fn frame_went_on(&mut self) {
        self.frame_due = Millis::NEVER;
    }

    fn idle_due(&self, limits: &Limits) -> Millis {
        self.active + limits.idle_timeout
    }
}

impl Connection {
    fn age_due(&self, limits: &Limits) -> Millis {
        self.ages.since + if self.is_old { limits.lifetime_grace } else { limits.lifetime }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next to be called, in milliseconds.
    pub(crate) fn poll_timeout(&self, limits: &Limits) -> Option<u64> {
        let own = [self.timer, self.deadline].into_iter().flatten().min().map_or(Millis::NEVER, Millis::at);
        let ages = match self.stage {
            Stage::Open => self.ages.idle_due(limits).min(self.ages.frame_due).min(self.age_due(limits)),
            Stage::Finishing { .. } | Stage::Lingering { .. } => self.age_due(limits),
            Stage::Opening | Stage::Ending(_) => Millis::NEVER,
        };
        Some(own.min(ages)).filter(|&due| due != Millis::NEVER).map(|Millis(due)| due)
    }

    /// Time went by: some deadline is reached, or none.
    pub(crate) fn handle_timeout(&mut self, env: &mut Env<'_>) {
        let now = env.desk.now;
        if self.deadline.is_some_and(|at| at <= now) {
            self.deadline = None;
            self.deadline_reached(env);
        }
        if self.timer.is_some_and(|at| at <= now) {
            self.timer = None;
            self.agenda.add(Change::Timer);
        }
        self.check_ages(Millis(now.millis()), env);
        self.drive(env);
    }

    fn check_ages(&mut self, now: Millis, env: &mut Env<'_>) {
        if matches!(self.stage, Stage::Opening | Stage::Ending(_)) {
            return;
        }
        if self.age_due(env.limits) <= now {
            if self.is_old {
                return self.end(Reason::TooOld, env);
            }
            (self.is_old, self.ages.since) = (true, Millis::at(env.desk.now));
            self.agenda.add(Change::Drain);
        }
        if self.stage != Stage::Open {
            return;
        }
        let is_waited_for = self.is_peer_waited_for();
        if self.ages.frame_due <= now {
            if is_waited_for {
                return self.end(Reason::Incomplete, env);
            }
            // Begun anew when the service is next at rest.
            self.ages.frame_went_on();
        }
        if self.ages.idle_due(env.limits) <= now {
            if is_waited_for {
                return self.end(Reason::Idle, env);
            }
            self.ages.touch(env.desk.now);
        }
    }

    /// Whether it is the peer that lets everybody wait: not one to whom something is on its way, nor us for want of
    /// memory, nor the service.
    fn is_peer_waited_for(&self) -> bool {
        let lacks_memory = self.is_hungry || matches!(self.receive, Receive::Starved | Receive::Once(_));
        self.agenda.waits_for_input() && !lacks_memory && self.is_all_sent()
    }

    /// The service is at rest: a frame has begun if it waits for more than it has seen. One that began before keeps its
    /// time, however much of it has come since.
    pub(super) fn mind_the_frame(&mut self, env: &Env<'_>) {
        let is_begun = !self.carry.is_empty() || self.is_in_inner_frame;
        if !is_begun || !self.agenda.waits_for_the_rest() {
            self.ages.frame_due = Millis::NEVER;
        } else if self.ages.frame_due == Millis::NEVER {
            self.ages.frame_due = Millis::at(env.desk.now) + env.limits.frame_timeout;
        }
    }
}
