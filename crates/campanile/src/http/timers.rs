//! Timers: the times of an exchange, for which its connection has one timer.
//!
//! Its responder may ask for one. The other is for the body: it runs only while the client is waited for, and whatever
//! comes gives time back, but never more than there was in the beginning.

use std::time::Duration;

use campanile_core::{Context, Time};

use super::config::Config;

#[derive(Debug)]
pub(super) struct Timers {
    /// What the responder asked for.
    own: Option<Time>,
    /// Since when the body is waited for, if it is.
    waits_since: Option<Time>,
    /// How long it may be waited for before that: until more comes, and in all.
    patience: Duration,
    total: Duration,
}

impl Timers {
    pub(super) fn new(own: Option<Time>, config: &Config) -> Timers {
        let total = config.body_total.unwrap_or(Duration::MAX);
        Timers { own, waits_since: None, patience: config.body_timeout, total }
    }

    /// Puts the responder's time in the place of the connection's. Says whether it has come, if the connection's has.
    pub(super) fn enter(&mut self, has_come: bool, cx: &mut Context<'_>) -> bool {
        let is_own = has_come && self.own.is_some_and(|at| at <= cx.now());
        self.own = self.own.filter(|_| !is_own);
        set(self.own, cx);
        is_own
    }

    /// So many bytes of the body have come.
    pub(super) fn body_came(&mut self, bytes: usize, config: &Config, cx: &Context<'_>) {
        self.stop(cx.now());
        let nanos = (bytes as u64).saturating_mul(1_000_000_000).checked_div(config.body_rate.into());
        // Without a rate any byte is enough.
        let gained = nanos.map_or(config.body_timeout, Duration::from_nanos);
        self.patience = self.patience.saturating_add(gained).min(config.body_timeout);
    }

    /// Whether the body was waited for too long. While the answer is on its way to a client that may read it before it
    /// sends on, the body is not late.
    pub(super) fn is_body_late(&mut self, config: &Config, cx: &Context<'_>) -> bool {
        let is_late = self.body_due().is_some_and(|at| at <= cx.now());
        if is_late && cx.output.unsent() > 0 {
            (self.waits_since, self.patience) = (None, config.body_timeout);
            return false;
        }
        is_late
    }

    /// Sets the connection's timer to whichever time comes first.
    pub(super) fn leave(&mut self, waits_for_body: bool, cx: &mut Context<'_>) {
        self.own = cx.timer();
        if waits_for_body {
            self.waits_since.get_or_insert(cx.now());
        } else {
            self.stop(cx.now());
        }
        set([self.own, self.body_due()].into_iter().flatten().min(), cx);
    }

    /// The body is not waited for any more.
    fn stop(&mut self, now: Time) {
        if let Some(since) = self.waits_since.take() {
            let waited = now.since(since);
            self.patience = self.patience.saturating_sub(waited);
            self.total = self.total.saturating_sub(waited);
        }
    }

    fn body_due(&self) -> Option<Time> {
        Some(self.waits_since? + self.patience.min(self.total))
    }
}

fn set(at: Option<Time>, cx: &mut Context<'_>) {
    match at {
        Some(at) => cx.set_timer(at),
        None => cx.clear_timer(),
    }
}
