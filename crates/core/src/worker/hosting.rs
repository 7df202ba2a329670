//! Hosting: a worker on a thread that waits elsewhere, for many things, of which the worker's are one.
//!
//! The host calls [`Hosting::turn`], which never waits, and is told when to call again: when the descriptor that the
//! ring announces its completions by is readable, when the worker's [`Bell`] rings, or after some time.
//!
//! **No completion is overlooked.** While the worker turns, the ring is hushed, or each of its own sends would call it
//! again for nothing. When nothing is left to do it is hushed no more, and *then* the worker looks once more: what came
//! before that look is found by it, what comes after is announced.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::operation::Memory;
use crate::ring::Ring;
use crate::time::Clock;
use crate::wake::{Bell, Mailbox};

use super::{Factory, Worker};

/// Turns in one call, after which others on the thread have theirs.
const TURNS: u32 = 8;

/// How a hosted worker is to go on: see [`Hosted::turn`](crate::Hosted::turn).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Turned {
    /// There is more to do: it is to be called again, once others on this thread had their turn.
    Again,
    /// It is to be called when its descriptor is readable, when it is woken, or after this time; `None` if no timer
    /// runs.
    Idle(Option<Duration>),
    /// It has ended, and is not to be called any more.
    Ended,
}

/// A worker as its host sees it, whatever ring it is on.
pub(crate) trait Hosting {
    fn mailbox(&self) -> &Arc<Mailbox>;

    /// What epoll is to watch for input.
    ///
    /// # Errors
    /// When the kernel has no descriptor for it.
    fn announce(&mut self) -> io::Result<OwnedFd>;

    /// Does what there is to do, up to a bound, and hands over what came of it.
    ///
    /// # Errors
    /// When the ring breaks.
    fn turn(&mut self) -> io::Result<Turned>;
}

impl<R: Ring> Worker<R> {
    /// A worker on somebody else's thread, who is told by `bell` to call it.
    pub(crate) fn hosted(
        bell: Bell,
        ring: R,
        memory: Memory,
        config: Config,
        clock: Box<dyn Clock>,
        factory: Factory,
    ) -> Worker<R> {
        let mut worker = Worker::kicked_by(Box::new(bell), ring, memory, config, clock, || factory);
        worker.is_hosted = true;
        worker
    }

    /// Whether another turn now would do nothing, for all that is known.
    fn is_quiet(&self) -> bool {
        !self.ring.has_work() && !self.mailbox.is_kicked() && self.timeout() != Some(Duration::ZERO)
    }
}

impl<R: Ring> Hosting for Worker<R> {
    fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    fn announce(&mut self) -> io::Result<OwnedFd> {
        self.ring.announce()
    }

    fn turn(&mut self) -> io::Result<Turned> {
        self.desk.local.set_unattended(false);
        let mut hushed = true;
        self.ring.hush(hushed);
        for _ in 0..TURNS {
            if !self.turn_within(Some(Duration::ZERO))? {
                return Ok(Turned::Ended);
            }
            let quiet = self.is_quiet();
            if quiet && !hushed {
                self.desk.local.set_unattended(true);
                let timeout = self.timeout().into_iter().chain(self.ring.patience()).min();
                return Ok(Turned::Idle(timeout));
            }
            if quiet == hushed {
                hushed = !quiet;
                self.ring.hush(hushed);
            }
        }
        self.ring.hand_over();
        Ok(Turned::Again)
    }
}

#[cfg(test)]
mod tests {
    use super::super::late::{Late, worker_on};
    use super::*;

    #[test]
    fn what_completes_before_it_is_announced_again_is_found() {
        let ring = Late { times: 3, ..Late::default() };
        let mut worker = worker_on(ring, &Config::default());
        for found in 1..=3 {
            assert_eq!(Hosting::turn(&mut worker).expect("a ring that works"), Turned::Idle(None));
            assert_eq!((worker.counters.completions, worker.ring.announces), (found, true));
        }
        assert_eq!(Hosting::turn(&mut worker).expect("a ring that works"), Turned::Idle(None));
        assert_eq!(worker.counters.completions, 3);
        let slept = worker.ring.waits.iter().any(|wait| *wait != Some(Duration::ZERO));
        assert!(!slept, "it is not this thread's to wait");
    }
}
