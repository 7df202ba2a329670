//! The cache: small files in memory, for one worker.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use campanile_core::Control;
use quick_cache::unsync::Cache as Bounded;
use quick_cache::{Equivalent, Weighter};

use super::found::{Found, is_unchanged};

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
    /// The file, if it is in memory and was not changed. `recheck` after its path was last followed it is to be
    /// followed again.
    pub(super) fn fresh(
        &self,
        place: Place,
        path: &[u8],
        recheck: Duration,
        control: &Control<'_>,
    ) -> Option<Rc<Found>> {
        let files = self.files.borrow();
        let found = files.get(&(place, path))?;
        let is_recent = control.now() < found.seen.get() + recheck;
        let is_same =
            || matches!(control.stat_now(&found.file), Some(Ok(stat)) if is_unchanged(&found.stat, &stat));
        (is_recent && is_same()).then(|| Rc::clone(found))
    }

    /// What is kept for a path, though it may be out of date.
    pub(super) fn stale(&self, place: Place, path: &[u8]) -> Option<Rc<Found>> {
        self.files.borrow().get(&(place, path)).map(Rc::clone)
    }

    pub(super) fn keep(&self, place: Place, path: &[u8], found: Rc<Found>) {
        self.files.borrow_mut().insert(Key { place, path: path.into() }, found);
    }
}

impl Default for Cache {
    fn default() -> Cache {
        Cache { files: RefCell::new(Bounded::with_weighter(MAX_FILES, MAX_BYTES, Weight)) }
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
