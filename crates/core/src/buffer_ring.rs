#![allow(unsafe_code)]
//! The buffer ring: receive memory that the kernel fills, and that comes home when it was read.
//!
//! # Who owns what
//!
//! All buffers lie in one [`Region`]. Each has exactly one owner, written down in `owners`:
//!
//! ```text
//!            recycle: entry written, tail published once a batch
//!      +----------------------------------------------------------+
//!      v                                                          |
//!   Kernel  --- a completion names it: take() --->  Worker  ------+  the piece was dropped
//!                                                     |           |
//!                                                     | keep()    |
//!                                                     v           |
//!                                                    Kept  -------+  the last Bytes was dropped,
//!                                                                    on any thread, in any order
//! ```
//!
//! `recycle` is the only line that gives a buffer to the kernel, and `take` the only one that takes one from it.
//! A completion that names a buffer the kernel does not have is refused, whatever the build.
//!
//! A bundle fills several buffers that follow one another *in the ring*, not by number: buffers come home in any
//! order. So `at` remembers which buffer was put at which position, and `position` where each buffer was put.
//!
//! # Obligations
//!
//! * Memory of a `Kernel` buffer is not touched here. Memory of a `Worker` buffer is touched only through its one
//!   [`Piece`]. Memory of a `Kept` buffer is only read, through the `Bytes` that were made of it, and never in a
//!   range that a living piece still shows.
//! * The region lives until the last `Bytes` is gone (it is counted) and until the ring has drained (`Memory`).
//! * Entries are written field by field: the `resv` of entry 0 *is* the tail that the kernel reads.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use bytes::Bytes;

use crate::region::Region;

/// The number of the one group of buffers that a worker registers.
pub(crate) const GROUP: u16 = 0;

/// Neighbouring buffers begin this much off from each other in the cache, since all of them are used by turns.
const COLOUR: usize = 192;

/// An entry of the ring, as the kernel reads it (`struct io_uring_buf`).
#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    address: u64,
    len: u32,
    id: u16,
    /// In entry 0: the tail.
    resv: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Kernel,
    Worker,
    Kept,
}

/// The memory of the buffers, and the letter box through which kept buffers come home.
#[derive(Debug)]
struct Home {
    memory: Region,
    returned: Mutex<Vec<u16>>,
    /// Whether `returned` may hold something: looked at once a turn, and only while buffers are kept.
    any: AtomicBool,
}

/// Receive memory, shared with the kernel as a ring of provided buffers (`io_uring_register_buf_ring(3)`).
#[derive(Debug)]
pub(crate) struct BufferRing {
    entries: Region,
    home: Arc<Home>,
    count: u16,
    buffer_len: u32,
    /// Counts all entries ever written, and wraps: only its low bits are a position.
    tail: Cell<u16>,
    published: Cell<u16>,
    owners: Box<[Cell<Owner>]>,
    /// Position in the ring -> buffer put there last.
    at: Box<[Cell<u16>]>,
    /// Buffer -> position it was put at last.
    position: Box<[Cell<u16>]>,
    /// Buffer -> how many `Bytes` hold it.
    keeps: Box<[Cell<u16>]>,
    kept: Cell<u16>,
    kept_limit: u16,
    /// Taken from `Home::returned`; a field to keep its capacity.
    coming_home: RefCell<Vec<u16>>,
    home_again: Cell<u64>,
}

/// A completion named a buffer that the kernel does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotTheKernels;

impl BufferRing {
    /// A ring of `count` buffers (a power of two, at most 32,768) of `buffer_len` bytes, all with the kernel once
    /// [`publish`](Self::publish) was called.
    pub(crate) fn new(count: u16, buffer_len: u32) -> BufferRing {
        assert!(count.is_power_of_two() && count <= 1 << 15, "the kernel's rule for a buffer ring");
        let n = usize::from(count);
        let cells = |_| Cell::new(0);
        let ring = BufferRing {
            entries: Region::new(n * size_of::<Entry>(), 4096),
            home: Arc::new(Home {
                memory: Region::new(n * stride(buffer_len), 64),
                returned: Mutex::default(),
                any: AtomicBool::new(false),
            }),
            count,
            buffer_len,
            tail: Cell::new(0),
            published: Cell::new(0),
            owners: (0..n).map(|_| Cell::new(Owner::Worker)).collect(),
            at: (0..n).map(cells).collect(),
            position: (0..n).map(cells).collect(),
            keeps: (0..n).map(cells).collect(),
            kept: Cell::new(0),
            kept_limit: count / 2,
            coming_home: RefCell::default(),
            home_again: Cell::new(0),
        };
        (0..count).for_each(|id| ring.recycle(id));
        ring.publish();
        ring
    }

    /// The address of the ring's entries, to register.
    pub(crate) fn entries_address(&self) -> u64 {
        self.entries.address(0).expose_provenance() as u64
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// How many buffers came home since the ring was made, counting the first time each was given to the kernel: the
    /// steps of the tail, unwrapped.
    pub(crate) fn home_again(&self) -> u64 {
        self.home_again.get()
    }

    /// Bytes of memory this ring takes when every page of it was touched.
    pub(crate) fn footprint(count: u16, buffer_len: u32) -> usize {
        usize::from(count) * (stride(buffer_len) + size_of::<Entry>() + 8)
    }

    /// What a completion says the kernel filled: `len` bytes in buffer `id`, and, if they are more than one buffer
    /// holds, in those that follow it in the ring.
    pub(crate) fn take(&self, id: u16, len: u32) -> Result<Received<'_>, NotTheKernels> {
        let buffers = len.div_ceil(self.buffer_len).max(1);
        if usize::from(id) >= self.owners.len() || buffers > u32::from(self.count) {
            return Err(NotTheKernels);
        }
        let first = self.position[usize::from(id)].get();
        let ids = (0..buffers as u16).map(|i| self.id_at(first.wrapping_add(i)));
        if ids.clone().any(|id| self.owners[usize::from(id)].get() != Owner::Kernel) {
            return Err(NotTheKernels);
        }
        ids.for_each(|id| self.owners[usize::from(id)].set(Owner::Worker));
        Ok(Received { ring: self, next: first, buffers: buffers as u16, left: len })
    }

    /// Shows the kernel what was recycled since the last call: once a batch.
    pub(crate) fn publish(&self) {
        if self.published.get() == self.tail.get() {
            return;
        }
        self.published.set(self.tail.get());
        self.tail_cell().store(self.tail.get(), Ordering::Release);
    }

    /// Takes home what was kept and is not any more. Cheap while nothing is kept.
    pub(crate) fn welcome_home(&self) {
        if self.kept.get() == 0 || !self.home.any.swap(false, Ordering::Acquire) {
            return;
        }
        let mut coming = self.coming_home.borrow_mut();
        std::mem::swap(&mut *coming, &mut *self.home.returned.lock().unwrap_or_else(PoisonError::into_inner));
        for id in coming.drain(..) {
            let keeps = &self.keeps[usize::from(id)];
            keeps.set(keeps.get() - 1);
            // A piece that still shows the rest of the buffer brings it home itself.
            if keeps.get() == 0 && self.owners[usize::from(id)].get() == Owner::Kept {
                self.kept.set(self.kept.get() - 1);
                self.recycle(id);
            }
        }
    }

    /// How many buffers services hold on to.
    pub(crate) fn kept(&self) -> u16 {
        self.kept.get()
    }

    fn recycle(&self, id: u16) {
        let owner = self.owners[usize::from(id)].replace(Owner::Kernel);
        assert!(owner != Owner::Kernel, "buffer {id} came home twice");
        let position = self.tail.get() & (self.count - 1);
        self.at[usize::from(position)].set(id);
        self.position[usize::from(id)].set(position);
        let address = self.address(id).expose_provenance() as u64;
        let entry = self.entries.address(usize::from(position) * size_of::<Entry>()).cast::<Entry>();
        #[allow(clippy::multiple_unsafe_ops_per_block)] // three fields of one entry, for one reason
        // SAFETY: `entry` is within the ring's region and aligned; the kernel does not read a position between
        // its head and our published tail plus `count`, since there are only `count` buffers. `resv` is left
        // alone: in entry 0 it is the tail.
        unsafe {
            (&raw mut (*entry).address).write(address);
            (&raw mut (*entry).len).write(self.buffer_len);
            (&raw mut (*entry).id).write(id);
        }
        self.tail.set(self.tail.get().wrapping_add(1));
        self.home_again.set(self.home_again.get() + 1);
    }

    fn id_at(&self, position: u16) -> u16 {
        self.at[usize::from(position & (self.count - 1))].get()
    }

    fn address(&self, id: u16) -> *mut u8 {
        self.home.memory.address(usize::from(id) * stride(self.buffer_len))
    }

    fn tail_cell(&self) -> &AtomicU16 {
        let tail = self.entries.address(std::mem::offset_of!(Entry, resv)).cast::<u16>();
        // SAFETY: within the region and aligned; only ever used as an atomic, by us and by the kernel.
        unsafe { AtomicU16::from_ptr(tail) }
    }
}

/// The kernel's half of the ring, for rings that play the kernel.
impl BufferRing {
    /// What the kernel's side would take next: the buffer at `head`, if one is published there.
    pub(crate) fn peek_as_kernel(&self, head: u16) -> Option<(u16, u32)> {
        if head == self.tail_cell().load(Ordering::Acquire) {
            return None;
        }
        let entry =
            self.entries.address(usize::from(head & (self.count - 1)) * size_of::<Entry>()).cast::<Entry>();
        #[allow(clippy::multiple_unsafe_ops_per_block)] // two fields of one entry, for one reason
        // SAFETY: within the region, aligned, and published, so written before.
        let (id, len) = unsafe { ((&raw const (*entry).id).read(), (&raw const (*entry).len).read()) };
        Some((id, len))
    }

    /// Memory of a buffer that the kernel's side has, to fill.
    pub(crate) fn fill_as_kernel(&self, id: u16, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
        assert!(self.owners[usize::from(id)].get() == Owner::Kernel, "the kernel fills its own buffers only");
        let at = usize::from(id) * stride(self.buffer_len);
        // SAFETY: the buffer is the kernel's, so no piece and no `Bytes` shows it, and the kernel is the caller.
        fill(unsafe { self.home.memory.part_mut(at, self.buffer_len as usize) })
    }
}

fn stride(buffer_len: u32) -> usize {
    (buffer_len as usize).next_multiple_of(64) + COLOUR
}

/// What one completion received: one piece, or several if the kernel filled a bundle. What is not looked at goes
/// home on drop.
#[derive(Debug)]
pub(crate) struct Received<'ring> {
    ring: &'ring BufferRing,
    next: u16,
    buffers: u16,
    left: u32,
}

impl<'ring> Iterator for Received<'ring> {
    type Item = Piece<'ring>;

    fn next(&mut self) -> Option<Piece<'ring>> {
        if self.buffers == 0 {
            return None;
        }
        let id = self.ring.id_at(self.next);
        let len = self.left.min(self.ring.buffer_len);
        self.next = self.next.wrapping_add(1);
        self.buffers -= 1;
        self.left -= len;
        Some(Piece { ring: self.ring, id, len, kept: Cell::new(0) })
    }
}

impl Drop for Received<'_> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

/// The bytes in one buffer. The buffer goes home on drop, unless some of it is kept.
#[derive(Debug)]
pub(crate) struct Piece<'ring> {
    ring: &'ring BufferRing,
    id: u16,
    len: u32,
    /// Some `Bytes` show what lies before this.
    kept: Cell<usize>,
}

impl<'ring> Piece<'ring> {
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// How many of the first bytes were kept, and what lies before them.
    pub(crate) fn kept(&self) -> usize {
        self.kept.get()
    }

    /// The bytes from `from` on, to read and to edit in place, and the right to keep some of them.
    ///
    /// What was kept is before `from`: whoever keeps bytes consumes them, and comes back with a larger `from`.
    pub(crate) fn open(&mut self, from: usize) -> (&mut [u8], Keeper<'_>) {
        assert!(self.kept.get() <= from && from <= self.len(), "within the piece, and behind what was kept");
        let at = usize::from(self.id) * stride(self.ring.buffer_len) + from;
        // SAFETY: the buffer is the worker's and this, borrowed mutably, is its one piece; what is kept of it lies
        // before `from`, which is checked.
        let bytes = unsafe { self.ring.home.memory.part_mut(at, self.len as usize - from) };
        (bytes, Keeper { ring: self.ring, kept: &self.kept, id: self.id, from, at })
    }
}

impl Drop for Piece<'_> {
    fn drop(&mut self) {
        let id = usize::from(self.id);
        if self.ring.keeps[id].get() > 0 {
            self.ring.owners[id].set(Owner::Kept);
            self.ring.kept.set(self.ring.kept.get() + 1);
            return;
        }
        if cfg!(debug_assertions) {
            // Whoever still looks at a buffer that went home is to see it.
            let at = id * stride(self.ring.buffer_len);
            // SAFETY: the buffer is the worker's, and its one piece is being dropped.
            unsafe { self.ring.home.memory.part_mut(at, self.len as usize) }.fill(0xdb);
        }
        self.ring.recycle(self.id);
    }
}

/// The right to turn bytes of one piece into counted [`Bytes`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keeper<'ring> {
    ring: &'ring BufferRing,
    /// The piece's.
    kept: &'ring Cell<usize>,
    id: u16,
    /// Where the input begins, in the piece.
    from: usize,
    /// Where the input begins, in the memory of all buffers.
    at: usize,
}

impl Keeper<'_> {
    /// `range` of the input as `Bytes`, without a copy; `None` when services hold half of the ring already.
    ///
    /// # Safety
    /// Nobody writes the range any more: the caller gives up its mutable view of it, for good.
    pub(crate) unsafe fn keep(&self, range: Range<usize>) -> Option<Bytes> {
        let keeps = &self.ring.keeps[usize::from(self.id)];
        if self.ring.kept.get() >= self.ring.kept_limit && keeps.get() == 0 {
            return None;
        }
        keeps.set(keeps.get().checked_add(1)?);
        self.kept.set(self.kept.get().max(self.from + range.end));
        let at = self.at + range.start;
        Some(Bytes::from_owner(Kept { home: Arc::clone(&self.ring.home), id: self.id, at, len: range.len() }))
    }
}

/// Part of a buffer that somebody holds on to; on drop it writes home.
struct Kept {
    home: Arc<Home>,
    id: u16,
    at: usize,
    len: usize,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: counted in `keeps`, so the buffer does not go to the kernel; by `Keeper::keep`'s contract nobody
        // writes this range.
        unsafe { self.home.memory.part(self.at, self.len) }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.home.returned.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
        self.home.any.store(true, Ordering::Release);
    }
}
