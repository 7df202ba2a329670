//! Waiting: sleeping in the ring until something completes, or looking for it for a while before.

use std::io;
use std::time::Duration;

use crate::operation::Completion;
use crate::ring::Ring;

use super::Worker;

impl<R: Ring> Worker<R> {
    /// Hands over what is queued, and waits no longer than `timeout` for something to do.
    pub(super) fn wait(&mut self, timeout: Option<Duration>, batch: &mut Vec<Completion>) -> io::Result<()> {
        let spin = self.config.spin;
        if spin.is_zero() || timeout == Some(Duration::ZERO) || !self.ring.tells() {
            return self.ring.wait(timeout, &self.memory, batch);
        }
        self.spin(timeout.map_or(spin, |timeout| timeout.min(spin)), batch)?;
        if !batch.is_empty() {
            return Ok(());
        }
        let left = timeout.map(|timeout| timeout.saturating_sub(spin));
        self.ring.wait(left, &self.memory, batch)
    }

    /// Looks for something to do for so long, without sleeping.
    fn spin(&mut self, length: Duration, batch: &mut Vec<Completion>) -> io::Result<()> {
        let until = self.clock.now() + length;
        self.ring.wait(Some(Duration::ZERO), &self.memory, batch)?;
        while batch.is_empty() && self.clock.now() < until {
            if self.ring.has_work() {
                self.ring.wait(Some(Duration::ZERO), &self.memory, batch)?;
            } else {
                std::hint::spin_loop();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::late::{Late, worker_on};
    use super::*;
    use crate::config::Config;

    const NOT_AT_ALL: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn who_spins_finds_what_completes_meanwhile_without_sleeping() {
        let ring = Late { looks: Cell::new(Some(100)), ..Late::default() };
        // Longer than any machine takes for a hundred looks.
        let mut worker = worker_on(ring, &Config { spin: Duration::from_secs(60), ..Config::default() });
        assert!(worker.turn().expect("a ring that works"));
        assert_eq!(worker.counters.completions, 1);
        assert_eq!(worker.ring.waits, [NOT_AT_ALL; 2], "one to hand over, one to fetch what is there");
    }

    #[test]
    fn who_has_spun_in_vain_sleeps() {
        let spin = Duration::from_millis(1);
        let mut worker = worker_on(Late::default(), &Config { spin, ..Config::default() });
        assert!(worker.turn().expect("a ring that works"));
        assert_eq!(worker.ring.waits, [NOT_AT_ALL, None]);
        let mut batch = Vec::new();
        worker.wait(Some(spin * 3), &mut batch).expect("a ring that works");
        assert_eq!(worker.ring.waits[2..], [NOT_AT_ALL, Some(spin * 2)]);
        worker.wait(NOT_AT_ALL, &mut batch).expect("a ring that works");
        assert_eq!(worker.ring.waits[4..], [NOT_AT_ALL]);
    }

    #[test]
    fn who_does_not_spin_sleeps_at_once() {
        let mut worker = worker_on(Late::default(), &Config::default());
        assert!(worker.turn().expect("a ring that works"));
        assert_eq!(worker.ring.waits, [None]);
    }

    #[test]
    fn nobody_looks_where_nothing_can_be_seen() {
        let ring = Late { is_mute: true, ..Late::default() };
        let mut worker = worker_on(ring, &Config { spin: Duration::from_secs(1), ..Config::default() });
        assert!(worker.turn().expect("a ring that works"));
        assert_eq!(worker.ring.waits, [None]);
    }
}
