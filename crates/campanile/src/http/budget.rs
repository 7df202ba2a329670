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
    /// The oldest first: a body that has got some of its memory comes before those that have got none.
    waiting: VecDeque<(u64, Waker)>,
}

/// Memory for one body, charged until it is dropped, wherever that is.
#[derive(Debug)]
pub(super) struct Account {
    budget: Arc<Budget>,
    name: u64,
    bytes: Vec<u8>,
    charged: usize,
    /// It is in the queue.
    is_waiting: bool,
}

impl Budget {
    pub(super) fn open(self: &Arc<Budget>) -> Account {
        let mut books = self.books();
        books.names += 1;
        Account {
            budget: Arc::clone(self),
            name: books.names,
            bytes: Vec::new(),
            charged: 0,
            is_waiting: false,
        }
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
        let place = self.waiting.binary_search_by_key(&name, |(waiting, _)| *waiting);
        let is_next = self.waiting.front().is_none_or(|(first, _)| *first >= name);
        let fits = is_next && self.charged.saturating_add(amount) <= limit;
        let may_exceed = self.privileged.map_or(is_next, |privileged| privileged == name);
        if !fits && !may_exceed {
            if let Err(place) = place {
                self.waiting.insert(place, (name, waker()));
            }
            return false;
        }
        if !fits {
            self.privileged = Some(name);
        }
        self.charged += amount;
        if let Ok(place) = place {
            self.waiting.remove(place);
            self.wake_next();
        }
        true
    }

    /// Somebody takes no more: it waits no longer, and the next may go beyond the limit.
    fn release(&mut self, name: u64, is_waiting: bool) {
        if is_waiting && let Ok(place) = self.waiting.binary_search_by_key(&name, |(waiting, _)| *waiting) {
            self.waiting.remove(place);
        }
        self.privileged = self.privileged.filter(|&privileged| privileged != name);
        self.wake_next();
    }

    /// Somebody left: what it had is free, and the next may have it.
    fn leave(&mut self, name: u64, charged: usize, is_waiting: bool) {
        self.charged -= charged;
        self.release(name, is_waiting);
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
            self.is_waiting = !self.budget.books().charge(self.name, amount, limit, waker);
            if self.is_waiting {
                return false;
            }
            self.charged = capacity;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        true
    }

    /// The bytes, which are complete; charged until their last clone is dropped. They keep nobody from being completed,
    /// or a client that does not read what is made of them would stop all others.
    pub(super) fn into_bytes(mut self) -> Bytes {
        self.budget.books().release(self.name, std::mem::take(&mut self.is_waiting));
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
        self.budget.books().leave(self.name, self.charged, self.is_waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A waker that wakes nobody in particular: these tests ask again by themselves.
    fn waker() -> Waker {
        let (tell, wakers) = std::sync::mpsc::channel();
        let server = campanile_core::Server::new()
            .listen("127.0.0.1:0")
            .workers(1)
            .serve(move || {
                let tell = tell.clone();
                campanile_core::on_open(move |cx: &mut campanile_core::Context<'_>| {
                    tell.send(cx.waker()).expect("the test waits");
                    |_: &mut campanile_core::Input<'_>, _: &mut campanile_core::Output<'_>| {
                        campanile_core::Flow::More(1)
                    }
                })
            })
            .expect("a server");
        let address = server.addresses()[0].tcp().expect("a TCP listener");
        let _client = std::net::TcpStream::connect(address).expect("the server listens");
        wakers.recv().expect("the service opens")
    }

    #[test]
    fn memory_goes_to_who_waits_in_order_and_one_may_exceed_it() {
        let (budget, waker) = (Arc::new(Budget::default()), waker());
        let take =
            |account: &mut Account, n: usize| account.append(&vec![0; n], usize::MAX, 100, || waker.clone());
        let mut accounts: Vec<Account> = (0..5).map(|_| budget.open()).collect();
        let [a, b, c, d, _] = &mut accounts[..] else { panic!("five") };
        assert!(take(a, 60) && take(b, 40));
        assert_eq!(budget.charged(), 100);
        assert!(take(c, 50), "one goes beyond");
        assert!(take(c, 500), "as far as it needs to");
        assert!(!take(a, 1) && !take(b, 1), "and no other");
        assert!(!take(d, 10), "whoever comes later waits behind them");
        accounts.remove(2);
        assert_eq!(budget.charged(), 100);
        let [a, b, d, e] = &mut accounts[..] else { panic!("four") };
        assert!(!take(e, 1), "a newcomer does not overtake who waits, not even to exceed");
        assert!(!take(b, 1) && !take(d, 10));
        assert!(take(a, 1), "the first of those who wait exceeds");
        accounts.remove(0);
        let [b, d, e] = &mut accounts[..] else { panic!("three") };
        assert!(!take(d, 10), "b is next");
        assert!(take(b, 1) && take(d, 10) && take(e, 1));
        assert_eq!(budget.charged(), 80 + 10 + 1);
        accounts.clear();
        assert_eq!(budget.charged(), 0);
        let books = budget.books();
        assert!(books.waiting.is_empty() && books.privileged.is_none());
    }

    #[test]
    fn bytes_are_charged_until_the_last_clone_is_gone_and_never_more_than_the_longest() {
        let (budget, waker) = (Arc::new(Budget::default()), waker());
        let mut account = budget.open();
        for n in 1..=10 {
            assert!(account.append(&[7; 100], 1000, 1000, || waker.clone()), "piece {n}");
        }
        assert_eq!((account.len(), budget.charged()), (1000, 1000));
        assert_eq!(account.bytes.capacity(), 1000);
        let bytes = account.into_bytes();
        let clone = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(budget.charged(), 1000);
        std::thread::spawn(move || drop(clone)).join().expect("it only drops");
        assert_eq!(budget.charged(), 0);
    }
}
