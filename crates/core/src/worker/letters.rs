//! Letters: doing what other threads want of a worker.

use crate::guard::guard;
use crate::operation::Completion;
use crate::ring::Ring;

use super::Worker;

impl<R: Ring> Worker<R> {
    /// A kick has come, by the ring.
    pub(super) fn kicked(&mut self, completion: &Completion) {
        self.ring.kicked(completion, &self.memory);
        self.read_letters();
    }

    /// Takes everything out of the mailbox, and does it.
    pub(super) fn read_letters(&mut self) {
        let letters = self.mailbox.collect();
        for wakee in letters.wakes {
            self.wake(wakee);
        }
        for job in letters.jobs {
            if let Err(panic) = guard(job) {
                self.desk.counters.panicked += 1;
                tracing::error!("what another thread wanted done panicked: {panic}");
            }
        }
        for question in letters.questions {
            question.answer(&self.counters());
        }
        for reply in letters.roll_calls {
            // Whoever asked may have gone.
            let _ = reply.send(());
        }
        self.lend_listeners(&letters.listeners);
        if letters.look_again {
            self.look_again();
        }
        if letters.drain {
            self.drain(letters.heir, letters.shared);
        }
        if letters.stop {
            self.stop();
        }
    }
}
