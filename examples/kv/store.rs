//! The store: keys, values, and when they expire.

use std::collections::BTreeSet;
use std::rc::Rc;

use campanile::Time;
use indexmap::IndexMap;

type Key = Rc<[u8]>;

/// Bytes that a key costs beside itself and its value: its place in the table and in the index, the counts of its `Rc`,
/// and what the allocator adds to both. Tables grow by doubling, so it may be less, too.
const OVERHEAD: usize = 128;

/// The same for the place of its deadline.
const DEADLINE_OVERHEAD: usize = 64;

/// All there is.
///
/// Entries have a position, which makes SCAN and throwing away cheap: see [`scan`](Store::scan).
#[derive(Debug)]
pub(crate) struct Store {
    entries: IndexMap<Key, Entry>,
    /// Whatever expires, the first first. The keys are those of the entries.
    deadlines: BTreeSet<(Time, Key)>,
    /// The time: what expires then, or before, is not there any more.
    now: Time,
    /// Bytes that all of it takes, and the most that it may.
    used: usize,
    max: usize,
}

#[derive(Debug)]
struct Entry {
    value: Box<[u8]>,
    expires: Option<Time>,
}

/// When a value that is set expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expiry {
    Never,
    At(Time),
    /// As what was there before.
    Keep,
}

/// There is not enough memory left for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfMemory;

impl Store {
    pub(crate) fn new(max: usize) -> Store {
        Store { entries: IndexMap::new(), deadlines: BTreeSet::new(), now: Time::ZERO, used: 0, max }
    }

    /// Tells it the time.
    pub(crate) fn set_time(&mut self, now: Time) {
        self.now = now;
    }

    pub(crate) fn time(&self) -> Time {
        self.now
    }

    /// How many there are, those included that have expired and were not found out yet.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of them expire.
    pub(crate) fn expiring(&self) -> usize {
        self.deadlines.len()
    }

    /// Bytes that all of it takes, and the most that it may.
    pub(crate) fn memory(&self) -> (usize, usize) {
        (self.used, self.max)
    }

    /// Where a key is; one that has expired is thrown away.
    fn find(&mut self, key: &[u8]) -> Option<usize> {
        let at = self.entries.get_index_of(key)?;
        if self.entries[at].has_expired(self.now) {
            self.remove_at(at);
            return None;
        }
        Some(at)
    }

    pub(crate) fn get(&mut self, key: &[u8]) -> Option<&[u8]> {
        let at = self.find(key)?;
        Some(&self.entries[at].value)
    }

    /// Sets a value.
    ///
    /// # Errors
    /// When it would take more memory than there may be: then nothing has changed. A value that is not longer than the
    /// one before always fits.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8], expiry: Expiry) -> Result<(), OutOfMemory> {
        let Some(at) = self.find(key) else {
            let deadline = if let Expiry::At(_) = expiry { DEADLINE_OVERHEAD } else { 0 };
            self.allot(key.len() + value.len() + OVERHEAD + deadline)?;
            let key = Key::from(key);
            let expires = if let Expiry::At(time) = expiry { Some(time) } else { None };
            self.deadlines.extend(expires.map(|time| (time, Rc::clone(&key))));
            self.entries.insert(key, Entry { value: value.into(), expires });
            return Ok(());
        };
        let entry = &mut self.entries[at];
        if entry.value.len() == value.len() {
            entry.value.copy_from_slice(value);
        } else {
            let before = entry.value.len();
            self.allot(value.len().saturating_sub(before))?;
            self.used -= before.saturating_sub(value.len());
            self.entries[at].value = value.into();
        }
        match expiry {
            Expiry::Keep => {}
            Expiry::Never => self.set_deadline(at, None),
            Expiry::At(time) => self.set_deadline(at, Some(time)),
        }
        Ok(())
    }

    /// Whether these values could be set, all of them.
    ///
    /// # Errors
    /// When there might not be enough memory: keys that come twice, or are not there and do not expire, count for more
    /// than they are.
    pub(crate) fn check<'a>(
        &mut self,
        pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<(), OutOfMemory> {
        let cost = pairs.into_iter().map(|(key, value)| match self.find(key) {
            Some(at) => value.len().saturating_sub(self.entries[at].value.len()),
            None => key.len() + value.len() + OVERHEAD + DEADLINE_OVERHEAD,
        });
        let cost: usize = cost.sum();
        if cost > 0 && self.used.saturating_add(cost) > self.max { Err(OutOfMemory) } else { Ok(()) }
    }

    fn allot(&mut self, bytes: usize) -> Result<(), OutOfMemory> {
        let used = self.used.saturating_add(bytes);
        if bytes > 0 && used > self.max {
            return Err(OutOfMemory);
        }
        self.used = used;
        Ok(())
    }

    /// Removes a key, and says whether it was there.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        let found = self.find(key);
        found.map(|at| self.remove_at(at)).is_some()
    }

    /// Has a key expire, or not; says whether it is there.
    pub(crate) fn expire(&mut self, key: &[u8], at: Option<Time>) -> bool {
        let found = self.find(key);
        found.map(|index| self.set_deadline(index, at)).is_some()
    }

    /// When a key expires, if it does; `None` if it is not there.
    pub(crate) fn deadline(&mut self, key: &[u8]) -> Option<Option<Time>> {
        let at = self.find(key)?;
        Some(self.entries[at].expires)
    }

    /// A deadline is no value: it is counted, and never refused.
    fn set_deadline(&mut self, at: usize, expires: Option<Time>) {
        let before = std::mem::replace(&mut self.entries[at].expires, expires);
        if before == expires {
            return;
        }
        if let (Some(time), Some((key, _))) = (before, self.entries.get_index(at)) {
            self.deadlines.remove(&(time, Rc::clone(key)));
            self.used -= DEADLINE_OVERHEAD;
        }
        if let (Some(time), Some((key, _))) = (expires, self.entries.get_index(at)) {
            self.deadlines.insert((time, Rc::clone(key)));
            self.used += DEADLINE_OVERHEAD;
        }
    }

    fn remove_at(&mut self, at: usize) {
        self.set_deadline(at, None);
        if let Some((key, entry)) = self.entries.swap_remove_index(at) {
            self.used -= key.len() + entry.value.len() + OVERHEAD;
        }
    }

    /// Removes all.
    pub(crate) fn clear(&mut self) {
        *self = Store { now: self.now, ..Store::new(self.max) };
    }

    /// Throws away what has expired, `most` of it at most.
    pub(crate) fn sweep(&mut self, most: usize) {
        for _ in 0..most {
            let Some((time, key)) = self.deadlines.first() else { return };
            if *time > self.now {
                return;
            }
            let key = Rc::clone(key);
            self.remove(&key);
        }
    }

    /// All keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let live = self.entries.iter().filter(|(_, entry)| !entry.has_expired(self.now));
        live.map(|(key, _)| &key[..])
    }

    /// Up to `count` keys before `cursor`, and the cursor for those before them; zero is the end, and at the beginning
    /// means all.
    ///
    /// The walk goes backwards, because what is removed meanwhile has its place taken by the last entry, which was seen
    /// already. So whatever is there all the time is seen, and possibly twice.
    pub(crate) fn scan(&self, cursor: usize, count: usize) -> (usize, impl Iterator<Item = &[u8]>) {
        let end = if cursor == 0 { self.entries.len() } else { cursor.min(self.entries.len()) };
        let start = end.saturating_sub(count.max(1));
        let entries = self.entries.get_range(start..end).into_iter().flatten();
        let live = entries.filter(|(_, entry)| !entry.has_expired(self.now));
        (start, live.map(|(key, _)| &key[..]))
    }
}

impl Entry {
    fn has_expired(&self, now: Time) -> bool {
        self.expires.is_some_and(|time| time <= now)
    }
}
