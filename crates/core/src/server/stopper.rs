//! The stopper: what other threads and signal handlers hold of a server.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::wake::Mailbox;

use super::successor::Estate;

/// Stops a server from anywhere, asks how it is, and hands it over to another process. Harmless when it has ended.
#[derive(Clone)]
pub struct Stopper {
    pub(super) mailboxes: Vec<Arc<Mailbox>>,
    pub(super) estate: Arc<Estate>,
}

impl Stopper {
    /// As [`ServerHandle::stop`](crate::ServerHandle::stop).
    pub fn stop(&self) {
        self.estate.stop();
        self.mailboxes.iter().for_each(|mailbox| mailbox.end(|letters| letters.stop = true));
    }

    /// As [`ServerHandle::drain`](crate::ServerHandle::drain).
    pub fn drain(&self) {
        self.mailboxes.iter().for_each(|mailbox| {
            mailbox.end(|letters| (letters.drain, letters.shared) = (true, self.estate.is_shared()));
        });
    }

    /// Whether it was told to drain or to stop, from that moment on: new clients are better sent elsewhere.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.mailboxes.iter().any(|mailbox| mailbox.is_draining())
    }

    /// Whether every worker answers within that time, or has ended. One that does not is stuck in a service. It costs
    /// each worker a wake-up: for a watchdog every few seconds, not for every request.
    #[must_use]
    pub fn answers(&self, within: Duration) -> bool {
        let (reply, answers) = mpsc::channel();
        for mailbox in &self.mailboxes {
            mailbox.post(|letters| letters.roll_calls.push(reply.clone()));
        }
        drop(reply);
        let until = Instant::now() + within;
        loop {
            // Nobody is left to answer once each has, or has thrown the question away.
            match answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(()) => {}
                Err(error) => return error == mpsc::RecvTimeoutError::Disconnected,
            }
        }
    }

    /// Another descriptor of every listener of every worker, of each that they share only one.
    pub(super) fn listeners(&self, within: Duration) -> io::Result<Vec<OwnedFd>> {
        let (reply, listeners) = mpsc::channel();
        for mailbox in &self.mailboxes {
            mailbox.post(|letters| letters.listeners.push(reply.clone()));
        }
        drop(reply);
        let until = Instant::now() + within;
        let (mut all, mut known) = (Vec::new(), Vec::new());
        loop {
            match listeners.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(listener) => {
                    let listener = listener?;
                    let socket = rustix::fs::fstat(&listener)?.st_ino;
                    if !known.contains(&socket) {
                        known.push(socket);
                        all.push(listener);
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return Ok(all),
                Err(mpsc::RecvTimeoutError::Timeout) => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopper").field("workers", &self.mailboxes.len()).finish_non_exhaustive()
    }
}
