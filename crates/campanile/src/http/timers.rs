//! Timers: the two times of an exchange, for which its connection has one timer.

use std::time::Duration;

use campanile_core::{Context, Time};

#[derive(Debug, Default)]
pub(super) struct Timers {
    /// What the responder asked for.
    own: Option<Time>,
    /// When the body that is waited for must have made progress.
    body: Option<Time>,
}

impl Timers {
    pub(super) fn new(own: Option<Time>) -> Timers {
        Timers { own, body: None }
    }

    /// Puts the responder's time in the place of the connection's. Says whether it has come, if the connection's has.
    pub(super) fn enter(&mut self, has_come: bool, cx: &mut Context<'_>) -> bool {
        let is_own = has_come && self.own.is_some_and(|at| at <= cx.now());
        self.own = self.own.filter(|_| !is_own);
        set(self.own, cx);
        is_own
    }

    /// The body has made progress, or is not what is waited for.
    pub(super) fn clear_body(&mut self) {
        self.body = None;
    }

    /// Whether the body has made no progress for too long. While the answer is on its way to a client that may read
    /// it before it sends on, the body is not late.
    pub(super) fn is_body_late(&mut self, cx: &Context<'_>) -> bool {
        let is_late = self.body.is_some_and(|at| at <= cx.now());
        if is_late && cx.output.unsent() > 0 {
            self.body = None;
        }
        is_late && self.body.is_some()
    }

    /// Sets the connection's timer to whichever time comes first.
    pub(super) fn leave(&mut self, waits_for_body: bool, timeout: Duration, cx: &mut Context<'_>) {
        self.own = cx.timer();
        self.body = waits_for_body.then(|| self.body.unwrap_or_else(|| cx.now() + timeout));
        set([self.own, self.body].into_iter().flatten().min(), cx);
    }
}

fn set(at: Option<Time>, cx: &mut Context<'_>) {
    match at {
        Some(at) => cx.set_timer(at),
        None => cx.clear_timer(),
    }
}
