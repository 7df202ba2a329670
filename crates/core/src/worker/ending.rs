//! Ending: a worker that drains, then stops, and who is cut when its time is over.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::connection::Connection;
use crate::operation::Submission;
use crate::ring::Ring;
use crate::token::{Generation, Kind, Token};

use super::{State, Worker, find};

/// How long a worker that ends waits for the kernel to let go of its memory.
const LET_GO: Duration = Duration::from_secs(5);

/// How long those who have begun to connect may take to get into the queue: longer than most round trips.
const HANDSHAKE: Duration = Duration::from_millis(100);

/// Connections that are told of one by one when they are cut; of those beyond only their number is told.
const TOLD: usize = 16;

impl<R: Ring> Worker<R> {
    /// Stops accepting and tells every service; closes what is left when the time is over. With an heir the listeners
    /// live on in another process, and so does who waits in their queues; with `shared` listeners nobody knows yet
    /// whether they will.
    pub(super) fn drain(&mut self, heir: Option<Arc<OwnedFd>>, shared: bool) {
        if self.state != State::Running {
            return;
        }
        tracing::debug!("draining {} connections", self.live);
        let until = self.desk.now + self.config.drain_time;
        let handed_over = heir.is_some();
        let closing_at = (!handed_over && !shared && self.admit_no_more()).then(|| self.desk.now + HANDSHAKE);
        self.state = State::Draining { until, closing_at, handed_over };
        self.heir = heir;
        self.undrained = self.names();
        if closing_at.is_none() {
            self.stop_accepting();
        }
    }

    /// Closes everything.
    pub(super) fn stop(&mut self) {
        if matches!(self.state, State::Stopping { .. }) {
            return;
        }
        self.state = State::Stopping { until: self.desk.now + LET_GO };
        self.stop_accepting();
        // First, so that they ask for nothing more.
        self.desk.local.tasks.close();
        self.stop_datagrams();
        for name in self.names() {
            self.with_connection(name, Connection::stop);
        }
        self.unwatch_if_quiet();
    }

    /// Whether to go on; false when everything is closed and the ring has let go of all memory.
    pub(super) fn end_if_due(&mut self) -> std::io::Result<bool> {
        if let State::Draining { closing_at, .. } = &mut self.state
            && closing_at.is_some_and(|at| self.desk.now >= at)
        {
            *closing_at = None;
            self.stop_accepting();
        }
        if let State::Draining { until, .. } = self.state {
            let is_done = self.live == 0 && !self.is_accepting();
            let are_held = self.live == self.desk.local.held() && self.waiting.is_empty();
            if !is_done && !self.is_accepting() && are_held && self.desk.local.call_last() {
                self.undrained = self.names();
            }
            if !is_done && self.desk.now >= until {
                self.tell_who_is_cut();
            }
            if is_done || self.desk.now >= until {
                self.stop();
            }
        }
        let State::Stopping { until } = self.state else { return Ok(true) };
        self.unwatch_if_quiet();
        Ok(self.ring.in_flight() > 0 && self.desk.now < until)
    }

    /// The time to drain is over: says whose connections are closed all the same, and where in the middle they are.
    fn tell_who_is_cut(&mut self) {
        let (mut cut, mut waited) = (0, 0);
        for name in self.names() {
            let token = Token::new(Kind::Wake, name.generation, name.slot);
            let parts = self.parts();
            let mut env = parts.env;
            let Some((connection, _)) = find(parts.slots, token) else { continue };
            if !connection.is_unfinished() {
                waited += 1;
                continue;
            }
            cut += 1;
            if cut <= TOLD {
                tracing::warn!("cut: {}", connection.describe(&mut env));
            }
        }
        self.counters.cut_off += cut as u64;
        let time = self.config.drain_time;
        tracing::warn!(
            "the time to drain ({time:?}) is over: {cut} connections were cut{}, and {waited} closed whose clients \
             had all and did not close them",
            if cut > TOLD { " (not all are named)" } else { "" },
        );
    }

    /// The watch for wake-ups is the last to go: once nothing else is in flight, it is cancelled. Just before goes what
    /// services shared: files may be among it.
    fn unwatch_if_quiet(&mut self) {
        if self.live > 0 || self.desk.local.requests() > 0 {
            return;
        }
        self.let_go_of_state();
        if !self.is_hosted && self.ring.in_flight() == 1 {
            let wake = Token::new(Kind::Wake, Generation::default(), 0);
            self.submit(Kind::Cancel, 0, Submission::Cancel { target: wake });
        }
    }
}
