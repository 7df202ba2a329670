//! The backlog: operations that did not fit into the submission queue, in the order they came.
//!
//! A full queue delays an operation and never loses one: a lost cancellation would keep a dead connection's memory for
//! good. Order is kept too, since a cancellation must not overtake what it cancels.

use std::collections::VecDeque;

/// The submission queue of some ring: a bounded number of places.
pub(crate) trait Places<E> {
    /// Puts an entry into the queue; gives it back if there is no place.
    fn push(&mut self, entry: E) -> Result<(), E>;

    /// Hands what is in the queue to the kernel, without waiting. It may take none of it: then all stays.
    fn hand_over(&mut self);
}

/// What waits for a place in the queue.
#[derive(Debug)]
pub(crate) struct Backlog<E>(VecDeque<E>);

impl<E> Default for Backlog<E> {
    fn default() -> Self {
        Backlog(VecDeque::new())
    }
}

impl<E> Backlog<E> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Queues `entry` behind everything queued before; to make place, the kernel is given what is in the queue.
    pub(crate) fn submit(&mut self, entry: E, places: &mut impl Places<E>) {
        let entry = if self.is_empty() { places.push(entry) } else { Err(entry) };
        if let Err(entry) = entry {
            self.0.push_back(entry);
            // If the kernel takes nothing now, the next `wait` hands it over.
            places.hand_over();
            self.advance(places);
        }
    }

    /// Moves what waits into the queue, as far as there is place.
    pub(crate) fn advance(&mut self, places: &mut impl Places<E>) {
        while let Some(entry) = self.0.pop_front() {
            if let Err(entry) = places.push(entry) {
                return self.0.push_front(entry);
            }
        }
    }
}
