//! Seeing: what a worker tells of itself when it is asked.

use crate::counters::Counters;
use crate::ring::Ring;

use super::Worker;

impl<R: Ring> Worker<R> {
    /// What was counted, with the figures of this moment.
    pub(super) fn counters(&self) -> Counters {
        let mut counters = self.counters + self.desk.counters;
        counters.connections = u64::from(self.live);
        for connection in self.slots.iter().filter_map(|slot| slot.connection.as_ref()) {
            let (carried, unsent) = connection.held_bytes();
            counters.carried_bytes += carried as u64;
            counters.unsent_bytes += unsent as u64;
        }
        counters.buffers_given = self.memory.buffers.home_again();
        counters.kept_buffers = u64::from(self.memory.buffers.kept());
        counters.send_buffers = self.memory.sends.held() as u64;
        counters
    }
}
