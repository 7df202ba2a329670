//! The ledger: what services wrote down, for the peers to be compared with.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::Waker as StdWaker;
use std::time::Duration;

use crate::ring::simulated::faults::Recovery;
use crate::ring::simulated::random::mix;
use crate::service::Reason;
use crate::time::Time;

/// The number of a client; its bytes are keyed by it.
pub(super) type ClientId = usize;

/// What a service was told of the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Drain,
    Closed(Reason),
}

/// One book for all services and peers of a life.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger(Rc<RefCell<Book>>);

#[derive(Debug, Default)]
struct Book {
    closed: Vec<(ClientId, Reason)>,
    excuses: Vec<(ClientId, &'static str)>,
    violations: Vec<String>,
    services: usize,
    seen: Vec<Recovery>,
    /// Who was told of room after bytes had been given back, since the peers looked last.
    readers: Vec<ClientId>,
    /// Of which files so many bytes were said to be on the disk, since the peers looked last.
    synced: Vec<(ClientId, String, usize)>,
    /// Which files could not be written, synced or read.
    failed: Vec<String>,
    frame_timeout: Duration,
    /// Connections whose time was over before it was known whose they are.
    unnamed: usize,
    /// What services were told of the end of their connections since the peers looked last: of closing, or of age.
    ends: Vec<(ClientId, Told)>,
    /// Wakers that other threads hold, and when these are going to use them.
    wakers: Arc<Mutex<Vec<(Time, StdWaker)>>>,
}

impl Ledger {
    pub(super) fn closed(&self, client: ClientId, reason: Reason) {
        let mut book = self.0.borrow_mut();
        book.closed.push((client, reason));
        book.ends.push((client, Told::Closed(reason)));
    }

    pub(super) fn set_frame_timeout(&self, timeout: Option<Duration>) {
        self.0.borrow_mut().frame_timeout = timeout.unwrap_or(Duration::MAX);
    }

    pub(super) fn frame_timeout(&self) -> Duration {
        self.0.borrow().frame_timeout
    }

    pub(super) fn closed_unnamed(&self) {
        self.0.borrow_mut().unnamed += 1;
    }

    /// Whether there is a connection that ended unnamed, and nobody has missed yet.
    pub(super) fn take_unnamed(&self) -> bool {
        let unnamed = &mut self.0.borrow_mut().unnamed;
        let before = *unnamed;
        *unnamed = before.saturating_sub(1);
        before > 0
    }

    pub(super) fn drained(&self, client: ClientId) {
        self.0.borrow_mut().ends.push((client, Told::Drain));
    }

    pub(super) fn take_ends(&self) -> Vec<(ClientId, Told)> {
        std::mem::take(&mut self.0.borrow_mut().ends)
    }

    /// Why a connection is over, as its services were told.
    pub(super) fn reasons(&self, client: ClientId) -> Vec<Reason> {
        self.0.borrow().closed.iter().filter(|(id, _)| *id == client).map(|(_, reason)| *reason).collect()
    }

    /// A service could not do its work, for a reason that is not the worker's fault.
    pub(super) fn excuse(&self, client: ClientId, why: &'static str) {
        self.0.borrow_mut().excuses.push((client, why));
    }

    pub(super) fn is_excused(&self, client: ClientId) -> bool {
        self.0.borrow().excuses.iter().any(|(id, _)| *id == client)
    }

    pub(super) fn violated(&self, rule: String) {
        self.0.borrow_mut().violations.push(rule);
    }

    pub(super) fn check(&self, holds: bool, rule: impl FnOnce() -> String) {
        if !holds {
            self.violated(rule());
        }
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.0.borrow().violations.clone()
    }

    /// What a service saw its worker do.
    pub(super) fn saw(&self, recovery: Recovery) {
        self.0.borrow_mut().seen.push(recovery);
    }

    pub(super) fn seen(&self) -> Vec<Recovery> {
        self.0.borrow().seen.clone()
    }

    /// A service was told that its client takes bytes again.
    pub(super) fn reads_again(&self, client: ClientId) {
        self.0.borrow_mut().readers.push(client);
    }

    pub(super) fn take_readers(&self) -> Vec<ClientId> {
        std::mem::take(&mut self.0.borrow_mut().readers)
    }

    /// A service was told that so many bytes of its file are on the disk.
    pub(super) fn synced(&self, client: ClientId, path: String, bytes: usize) {
        self.0.borrow_mut().synced.push((client, path, bytes));
    }

    pub(super) fn take_synced(&self) -> Vec<(ClientId, String, usize)> {
        std::mem::take(&mut self.0.borrow_mut().synced)
    }

    /// A service was told of an error of its file.
    pub(super) fn file_failed(&self, path: String) {
        self.0.borrow_mut().failed.push(path);
    }

    pub(super) fn take_failed(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().failed)
    }

    pub(super) fn service_born(&self) {
        self.0.borrow_mut().services += 1;
    }

    pub(super) fn service_died(&self) {
        self.0.borrow_mut().services -= 1;
    }

    pub(super) fn services(&self) -> usize {
        self.0.borrow().services
    }

    pub(super) fn wake_at(&self, at: Time, waker: impl Into<StdWaker>) {
        self.0.borrow().wakers.lock().expect("one thread").push((at, waker.into()));
    }

    /// Wakes whoever is due, and says when the next is.
    pub(super) fn wake_due(&self, now: Time) -> Option<Time> {
        let wakers = Arc::clone(&self.0.borrow().wakers);
        let mut wakers = wakers.lock().expect("one thread");
        wakers.extract_if(.., |(at, _)| *at <= now).for_each(|(_, waker)| waker.wake());
        wakers.iter().map(|(at, _)| *at).min()
    }
}

/// Byte `at` of the stream of client `id`: nobody else's.
pub(super) fn keyed(id: ClientId, at: usize) -> u8 {
    word(id, at / 8)[at % 8]
}

fn word(id: ClientId, index: usize) -> [u8; 8] {
    mix(((id as u64) << 32 ^ index as u64).wrapping_add(0x5eed)).to_le_bytes()
}

pub(super) fn keyed_range(id: ClientId, range: Range<usize>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(range.len() + 16);
    (range.start / 8..range.end.div_ceil(8)).for_each(|index| bytes.extend(word(id, index)));
    bytes.drain(..range.start % 8);
    bytes.truncate(range.len());
    bytes
}

/// Where `bytes`, which ought to be those from `at` on, are not.
pub(super) fn first_foreign(id: ClientId, at: usize, bytes: &[u8]) -> Option<usize> {
    let expected = keyed_range(id, at..at + bytes.len());
    if expected == bytes {
        return None;
    }
    bytes.iter().zip(expected).position(|(&byte, expected)| byte != expected)
}
