//! The cache: what was found, for one worker: small files in memory, and longer ones open.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use campanile_core::{Control, JoinHandle, Time, now, sleep_until, spawn};
use quick_cache::unsync::Cache as Bounded;
use quick_cache::{Equivalent, Weighter};

use super::found::{Found, is_unchanged};
use super::handler::Settings;

/// Files, each with an open descriptor.
const MAX_FILES: usize = 1024;
/// Bytes of all of them, and of their paths.
const MAX_BYTES: u64 = MEMORY as u64;

/// The most memory that each worker takes for small files that it keeps, in bytes; larger ones are read into the file
/// buffers of [`Config`](crate::Config).
pub const MEMORY: usize = 16 * 1024 * 1024;

/// Shared by all connections of a worker.
pub(super) struct Cache {
    files: RefCell<Bounded<Key, Rc<Found>, Weight>>,
    /// The task that lets go of what nobody asks for, and when it will do so next.
    sweeper: RefCell<Option<(Time, JoinHandle<()>)>>,
}

/// What a file was found for: by which handler, at which path beneath its root, and for which codings.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    place: Place,
    path: Box<[u8]>,
}

/// All of a key but the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// The id of the handler's settings.
    pub(super) files: u64,
    pub(super) accepted: u16,
    pub(super) is_directory: bool,
}

#[derive(Clone)]
struct Weight;

impl Cache {
    /// The file, if it is kept and was not changed. [`Files::recheck`](super::Files::recheck) after its path was last
    /// followed it is to be followed again.
    pub(super) fn fresh(
        &self,
        place: Place,
        path: &[u8],
        settings: &Settings,
        control: &Control<'_>,
    ) -> Option<Rc<Found>> {
        let files = self.files.borrow();
        let found = files.get(&(place, path))?;
        let now = control.now();
        let is_recent = now < found.seen.get() + settings.recheck;
        let is_same =
            || matches!(control.stat_now(&found.file), Some(Ok(stat)) if is_unchanged(&found.stat, &stat));
        (is_recent && is_same()).then(|| {
            found.due.set(now + settings.idle);
            Rc::clone(found)
        })
    }

    /// What is kept for a path, though it may be out of date.
    pub(super) fn stale(&self, place: Place, path: &[u8]) -> Option<Rc<Found>> {
        self.files.borrow().get(&(place, path)).map(Rc::clone)
    }

    pub(super) fn keep(self: &Rc<Self>, place: Place, path: &[u8], found: Rc<Found>) {
        let due = found.due.get();
        self.files.borrow_mut().insert(Key { place, path: path.into() }, found);
        let mut sweeper = self.sweeper.borrow_mut();
        // Handlers keep files for longer or shorter: what is due sooner than anything before is not waited out.
        if sweeper.as_ref().is_none_or(|(next, _)| due < *next) {
            let task = spawn(sweep(Rc::downgrade(self), due));
            if let Some((_, before)) = sweeper.replace((due, task)) {
                before.abort();
            }
        }
    }

    /// Lets go of what is due, and says when the next will be.
    fn let_go(&self, now: Time) -> Option<Time> {
        let next: Cell<Option<Time>> = Cell::new(None);
        self.files.borrow_mut().retain(|_, found| {
            let due = found.due.get();
            if due > now {
                next.set(Some(next.get().map_or(due, |at| at.min(due))));
            }
            due > now
        });
        let mut sweeper = self.sweeper.borrow_mut();
        match (next.get(), &mut *sweeper) {
            (Some(due), Some((next, _))) => *next = due,
            _ => *sweeper = None,
        }
        next.get()
    }
}

/// Lets go of what nobody asks for any more, for as long as something is kept.
async fn sweep(cache: Weak<Cache>, first: Time) {
    let mut next = Some(first);
    while let Some(at) = next {
        sleep_until(at).await;
        next = cache.upgrade().and_then(|cache| cache.let_go(now()));
    }
}

impl Default for Cache {
    fn default() -> Cache {
        let files = RefCell::new(Bounded::with_weighter(MAX_FILES, MAX_BYTES, Weight));
        Cache { files, sweeper: RefCell::new(None) }
    }
}

impl Weighter<Key, Rc<Found>> for Weight {
    /// No file counts for less than its share, so that there are never more than so many.
    fn weight(&self, key: &Key, found: &Rc<Found>) -> u64 {
        let len = found.bytes.as_ref().map_or(0, campanile_core::Bytes::len) + key.path.len();
        (len as u64).max(MAX_BYTES / MAX_FILES as u64)
    }
}

impl Equivalent<Key> for (Place, &[u8]) {
    fn equivalent(&self, key: &Key) -> bool {
        self.0 == key.place && *self.1 == *key.path
    }
}
