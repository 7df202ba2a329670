//! The budget: how much memory the collected bodies of a worker may take together.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use campanile_core::{Bytes, Waker};

/// What is charged, and who waits for a share. One per worker; behind a lock, since a body can be given to another
/// thread and dropped there.
#[derive(Debug, Default)]
pub(super) struct Budget {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    charged: usize,
    names: u64,
    /// The one that may go beyond the limit: so there is always one that can be completed, and not all wait for each
    /// other.
    privileged: Option<u64>,
    waiting: VecDeque<(u64, Waker)>,
}

/// Memory for one body, charged until it is dropped, wherever that is.
#[derive(Debug)]
pub(super) struct Account {
    budget: Arc<Budget>,
    name: u64,
    bytes: Vec<u8>,
    charged: usize,
}

impl Budget {
    pub(super) fn open(self: &Arc<Budget>) -> Account {
        let mut books = self.books();
        books.names += 1;
        Account { budget: Arc::clone(self), name: books.names, bytes: Vec::new(), charged: 0 }
    }

    /// Bytes that are charged now.
    #[cfg(test)]
    pub(super) fn charged(&self) -> usize {
        self.books().charged
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing that can panic is done while it is held.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Whether `name` may take `amount` more; if not, it waits in the queue, and `waker` is called when it is its turn.
    fn charge(&mut self, name: u64, amount: usize, limit: usize, waker: impl FnOnce() -> Waker) -> bool {
        let place = self.waiting.iter().position(|(waiting, _)| *waiting == name);
        let is_next = place.map_or(self.waiting.is_empty(), |place| place == 0);
        let fits = is_next && self.charged.saturating_add(amount) <= limit;
        let may_exceed = self.privileged.map_or(is_next, |privileged| privileged == name);
        if !fits && !may_exceed {
            if place.is_none() {
                self.waiting.push_back((name, waker()));
            }
            return false;
        }
        if !fits {
            self.privileged = Some(name);
        }
        self.charged += amount;
        if let Some(place) = place {
            self.waiting.remove(place);
            self.wake_next();
        }
        true
    }

    /// Somebody left: what it had is free, and the next may have it.
    fn leave(&mut self, name: u64, charged: usize) {
        self.charged -= charged;
        self.privileged = self.privileged.filter(|&privileged| privileged != name);
        self.waiting.retain(|(waiting, _)| *waiting != name);
        self.wake_next();
    }

    fn wake_next(&self) {
        if let Some((_, waker)) = self.waiting.front() {
            waker.wake();
        }
    }
}

impl Account {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends `piece`, if the budget has the memory; else `waker` is called when it is worth another try. No more than
    /// `longest` bytes are ever put in.
    pub(super) fn append(
        &mut self,
        piece: &[u8],
        longest: usize,
        limit: usize,
        waker: impl FnOnce() -> Waker,
    ) -> bool {
        let needed = self.bytes.len() + piece.len();
        if needed > self.charged {
            // Doubled, so that a long body is not moved for each of its pieces.
            let capacity = needed.max((2 * self.charged).min(longest));
            let amount = capacity - self.charged;
            if !self.budget.books().charge(self.name, amount, limit, waker) {
                return false;
            }
            self.charged = capacity;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        true
    }

    /// The bytes, charged until their last clone is dropped.
    pub(super) fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Account {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.bytes = Vec::new();
        self.budget.books().leave(self.name, self.charged);
    }
}
