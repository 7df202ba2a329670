//! Seeing: what a worker tells of itself when it is asked.

use crate::counters::Counters;
use crate::guard::Panic;
use crate::operation::{Descriptor, Memory};
use crate::ring::Ring;

use super::Worker;

impl<R: Ring> Worker<R> {
    /// What was counted, with the figures of this moment. Looks at every slot: not for the request path.
    pub(super) fn counters(&self) -> Counters {
        let (mut carried_bytes, mut unsent_bytes) = (0, 0);
        for connection in self.slots.iter().filter_map(|slot| slot.connection.as_ref()) {
            let (carried, unsent) = connection.held_bytes();
            carried_bytes += carried as u64;
            unsent_bytes += unsent as u64;
        }
        let Memory { buffers, sends, files, .. } = &*self.memory;
        Counters {
            connections: u64::from(self.live),
            connections_limit: u64::from(self.config.max_connections),
            slots: self.slots.len() as u64,
            carried_bytes,
            unsent_bytes,
            buffers_given: buffers.home_again(),
            kept_buffers: u64::from(buffers.kept()),
            receive_buffers: u64::from(buffers.count()),
            send_buffers: sends.held() as u64,
            send_buffers_limit: u64::from(self.config.send_buffers),
            file_buffers: files.out() as u64,
            waiting: self.waiting.len() as u64,
            starved: self.starved.len() as u64,
            hungry: self.hungry.len() as u64,
            errands_waiting: self.desk.local.requests() as u64,
            errands_running: self.errands.running() as u64,
            reads_waiting: self.errands.reads_waiting() as u64,
            timers: self.timers.len() as u64,
            tasks: self.desk.local.tasks.live(),
            sleeps: self.desk.local.sleeps.len() as u64,
            udp_sockets: self.datagrams.open() as u64,
            backlog: self.ring.backlog() as u64,
            in_flight: self.ring.in_flight(),
            ..self.counters
                + self.desk.counters
                + Counters { panicked: self.desk.local.tasks.panicked(), ..Counters::default() }
        }
    }

    /// Notes whether there is a place for another connection, and tells when that has changed.
    pub(super) fn note_pause(&mut self) {
        let is_full = self.is_full();
        if std::mem::replace(&mut self.is_paused, is_full) == is_full {
            return;
        }
        self.counters.accepts_paused += u64::from(is_full);
        let what = if is_full { "paused: as many connections as there may be" } else { "resumed" };
        tracing::debug!("accepting is {what} ({} of {})", self.live, self.config.max_connections);
    }

    /// Closes a connection for which no service could be made.
    #[cold]
    pub(super) fn turn_away(&mut self, socket: Descriptor, panic: &Panic) {
        self.desk.counters.panicked += 1;
        tracing::error!("no service could be made for a connection, which is closed: {panic}");
        self.close_stray(socket);
    }
}
