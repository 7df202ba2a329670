//! The end of a worker's thread: told however it comes.

use std::sync::mpsc;

use super::{Monitor, WorkerId};

/// Tells that a worker's thread has come to its end, by itself or by a panic, when it is dropped. One that was not told
/// to end takes all others with it: a part of a server is worse than none, for its clients cannot tell.
pub(super) struct End {
    pub(super) id: WorkerId,
    pub(super) is_well: bool,
    pub(super) tell: mpsc::Sender<WorkerId>,
    pub(super) all: Monitor,
}

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("worker {} panicked, and the server stops", self.id.index());
        }
        if !self.is_well {
            self.all.stop_all();
        }
        // Whoever waited may have gone.
        let _ = self.tell.send(self.id);
    }
}
