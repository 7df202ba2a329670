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
    body: Patience,
}

/// How long the body is still waited for.
#[derive(Debug)]
struct Patience {
    /// Since when it is waited for, if it is.
    since: Option<Time>,
    /// For how long from then on, until more comes; and in all.
    left: Duration,
    total: Duration,
}

impl Patience {
    fn new(config: &Config) -> Patience {
        Patience { since: None, left: config.body_timeout, total: config.body_total.unwrap_or(Duration::MAX) }
    }

    fn wait(&mut self, now: Time) {
        self.since.get_or_insert(now);
    }

    fn stop(&mut self, now: Time) {
        if let Some(since) = self.since.take() {
            let waited = now.since(since);
            self.left = self.left.saturating_sub(waited);
            self.total = self.total.saturating_sub(waited);
        }
    }

    fn gain(&mut self, bytes: usize, config: &Config) {
        let nanos = (bytes as u64).saturating_mul(1_000_000_000).checked_div(config.body_rate.into());
        // Without a rate any byte is enough.
        let gained = nanos.map_or(config.body_timeout, Duration::from_nanos);
        self.left = self.left.saturating_add(gained).min(config.body_timeout);
    }

    fn over_at(&self) -> Option<Time> {
        Some(self.since? + self.left.min(self.total))
    }
}

impl Timers {
    pub(super) fn new(own: Option<Time>, config: &Config) -> Timers {
        Timers { own, body: Patience::new(config) }
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
        self.body.stop(cx.now());
        self.body.gain(bytes, config);
    }

    /// Whether the body was waited for too long. While the answer is on its way to a client that may read it before it
    /// sends on, the body is not late.
    pub(super) fn is_body_late(&mut self, config: &Config, cx: &Context<'_>) -> bool {
        let is_late = self.body.over_at().is_some_and(|at| at <= cx.now());
        if is_late && cx.output.unsent() > 0 {
            self.body = Patience { since: None, left: config.body_timeout, ..self.body };
            return false;
        }
        is_late
    }

    /// Sets the connection's timer to whichever time comes first.
    pub(super) fn leave(&mut self, waits_for_body: bool, cx: &mut Context<'_>) {
        self.own = cx.timer();
        match waits_for_body {
            true => self.body.wait(cx.now()),
            false => self.body.stop(cx.now()),
        }
        set([self.own, self.body.over_at()].into_iter().flatten().min(), cx);
    }
}

fn set(at: Option<Time>, cx: &mut Context<'_>) {
    match at {
        Some(at) => cx.set_timer(at),
        None => cx.clear_timer(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> Time {
        Time::from_start(Duration::from_secs(second))
    }

    /// When a client is cut whose body comes at `rate`, a step every `step` seconds, for a day; and between two steps
    /// nobody reads for `pause` seconds.
    fn cut_at(config: &Config, rate: u32, step: u64, pause: u64) -> Option<u64> {
        let (mut body, mut now) = (Patience::new(config), 0);
        while now < 24 * 60 * 60 {
            body.wait(second(now));
            let over_at = body.over_at().expect("it is waited for").since_start().as_secs();
            now += step;
            if over_at <= now {
                return Some(over_at);
            }
            body.stop(second(now));
            body.gain(rate as usize * step as usize, config);
            now += pause;
        }
        None
    }

    #[test]
    fn twice_the_rate_is_enough_and_half_of_it_is_not() {
        let config = Config { body_total: None, ..Config::default() };
        let (rate, limit) = (config.body_rate, config.body_timeout.as_secs());
        for step in [1, 10, limit - 1] {
            for pause in [0, 1000] {
                assert_eq!(cut_at(&config, 2 * rate, step, pause), None, "every {step} s, {pause} s between");
            }
            let cut = cut_at(&config, rate / 2, step, 0).expect("it is cut");
            assert!((limit..=2 * limit).contains(&cut), "every {step} s: after {cut} s");
        }
        let cut = cut_at(&config, 1, 1, 0).expect("a byte a second is cut");
        assert!((limit..=limit + 1).contains(&cut), "after {cut} s");
        let any = Config { body_rate: 0, ..config };
        assert_eq!(cut_at(&any, 1, limit - 1, 0), None, "without a rate a byte is enough");
        assert_eq!(cut_at(&any, 1, limit, 0), Some(limit));
    }

    #[test]
    fn all_of_a_body_is_waited_for_so_long_and_no_longer() {
        let config = Config { body_total: Some(Duration::from_secs(100)), ..Config::default() };
        assert_eq!(cut_at(&config, 1_000_000, 10, 0), Some(100));
        // Of eleven seconds the client is waited for in one.
        assert_eq!(cut_at(&config, 1_000_000, 1, 10), Some(99 * 11 + 1));
    }
}
