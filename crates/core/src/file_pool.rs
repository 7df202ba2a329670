#![allow(unsafe_code)]
//! The file pool: memory that files are read into, and that goes out as counted `Bytes`.
//!
//! # Who owns what
//!
//! A buffer is free; or named by one read in flight, when only the kernel touches it; or lent out as [`Bytes`], when
//! it is only read. The last `Bytes` to go, on whatever thread, writes the buffer's number into the letter box,
//! and the worker takes it home. A buffer whose read failed goes home at once.
//!
//! # Obligations
//!
//! A region outlives its reads (`Memory` outlives the ring) and its loans (they count it).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;

use crate::region::Region;
use crate::send_pool::BufferIndex;
use crate::wake::Mailbox;

/// How many small buffers one of full length is cut into.
const PARTS: u32 = 16;

/// Of a buffer's number: it is a small one.
const SMALL: BufferIndex = 1 << 31;

/// Buffers for file reads: half of the memory in full length, half of it in small parts. Short reads take small ones
/// only, so however many of those wait or are slow to come home, long reads go on; and a long read takes a small one
/// rather than wait.
#[derive(Debug)]
pub(crate) struct FilePool {
    long: Shelf,
    small: Shelf,
}

impl FilePool {
    /// A pool with the memory of `limit` buffers of `buffer_len` bytes; it begins empty.
    pub(crate) fn new(limit: u32, buffer_len: u32) -> FilePool {
        // A lone buffer cannot be shared out.
        let cut = if buffer_len < PARTS { 0 } else { limit / 2 };
        FilePool {
            long: Shelf::new(limit - cut, buffer_len),
            small: Shelf::new(cut.saturating_mul(PARTS).min(SMALL - 1), buffer_len / PARTS),
        }
    }

    /// Whether a read of so many bytes takes small buffers only.
    pub(crate) fn is_short(&self, len: usize) -> bool {
        self.small.limit > 0 && len <= self.small.buffer_len as usize
    }

    /// Says whom to wake when a buffer comes home that somebody waits for.
    pub(crate) fn tell(&self, worker: &Arc<Mailbox>) {
        for shelf in [&self.long, &self.small] {
            // Set once, when the worker is made.
            let _ = shelf.home.worker.set(Arc::downgrade(worker));
        }
    }

    /// A buffer of full length; `None` when all that the bound allows are read into or lent out.
    pub(crate) fn take_long(&mut self) -> Option<BufferIndex> {
        self.long.take()
    }

    /// A small buffer; `None` as above.
    pub(crate) fn take_small(&mut self) -> Option<BufferIndex> {
        self.small.take().map(|index| index | SMALL)
    }

    /// The length of this buffer in bytes.
    pub(crate) fn len_of(&self, index: BufferIndex) -> u32 {
        self.shelf(index).0.buffer_len
    }

    /// Takes a buffer back that nothing was read into.
    pub(crate) fn release(&mut self, index: BufferIndex) {
        let shelf = if index & SMALL == 0 { &mut self.long } else { &mut self.small };
        shelf.release(index & !SMALL);
    }

    /// Lends out the first `len` bytes of a buffer whose read is complete.
    pub(crate) fn lend(&self, index: BufferIndex, len: u32) -> Bytes {
        let (shelf, index) = self.shelf(index);
        shelf.lend(index, len)
    }

    /// The address of a buffer, for the kernel to read a file into.
    pub(crate) fn address(&self, index: BufferIndex) -> *mut u8 {
        let (shelf, index) = self.shelf(index);
        shelf.buffers[index as usize].address(0)
    }

    /// Memory of a buffer that a read names, for rings that play the kernel.
    pub(crate) fn fill_as_kernel(&self, index: BufferIndex, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let (shelf, index) = self.shelf(index);
        // SAFETY: a read names the buffer, so only the kernel touches it, and the kernel is the caller.
        fill(unsafe { shelf.buffers[index as usize].part_mut(0, shelf.buffer_len as usize) })
    }

    /// Buffers that are read into or lent out.
    pub(crate) fn out(&self) -> usize {
        self.long.out() + self.small.out()
    }

    fn shelf(&self, index: BufferIndex) -> (&Shelf, BufferIndex) {
        if index & SMALL == 0 { (&self.long, index) } else { (&self.small, index & !SMALL) }
    }
}

/// Buffers of one length, made when first needed, up to a bound.
#[derive(Debug)]
struct Shelf {
    buffers: Vec<Arc<Region>>,
    free: Vec<BufferIndex>,
    home: Arc<LetterBox>,
    buffer_len: u32,
    limit: u32,
}

#[derive(Debug, Default)]
struct LetterBox {
    returned: Mutex<Vec<BufferIndex>>,
    any: AtomicBool,
    /// A read waits: whoever brings a buffer home wakes the worker.
    wanted: AtomicBool,
    worker: OnceLock<Weak<Mailbox>>,
}

impl Shelf {
    /// At most `limit` buffers of `buffer_len` bytes; it begins empty.
    fn new(limit: u32, buffer_len: u32) -> Shelf {
        Shelf { buffers: Vec::new(), free: Vec::new(), home: Arc::default(), buffer_len, limit }
    }

    /// A buffer; `None` when all that the bound allows are read into or lent out.
    fn take(&mut self) -> Option<BufferIndex> {
        self.welcome_home();
        if let Some(index) = self.free.pop() {
            return Some(index);
        }
        if self.buffers.len() as u32 == self.limit {
            self.home.wanted.store(true, Ordering::SeqCst);
            // One may have come home just before.
            self.welcome_home();
            return self.free.pop();
        }
        self.buffers.push(Arc::new(Region::new(self.buffer_len as usize, 4096)));
        Some(self.buffers.len() as BufferIndex - 1)
    }

    /// Takes a buffer back that nothing was read into.
    fn release(&mut self, index: BufferIndex) {
        self.free.push(index);
    }

    /// Lends out the first `len` bytes of a buffer whose read is complete.
    fn lend(&self, index: BufferIndex, len: u32) -> Bytes {
        let region = Arc::clone(&self.buffers[index as usize]);
        Bytes::from_owner(Loan { home: Arc::clone(&self.home), region, index, len: len.min(self.buffer_len) })
    }

    fn out(&self) -> usize {
        let returned = self.home.returned.lock().unwrap_or_else(PoisonError::into_inner);
        self.buffers.len() - self.free.len() - returned.len()
    }

    fn welcome_home(&mut self) {
        if self.home.any.swap(false, Ordering::SeqCst) {
            let mut returned = self.home.returned.lock().unwrap_or_else(PoisonError::into_inner);
            self.free.append(&mut returned);
        }
    }
}

struct Loan {
    home: Arc<LetterBox>,
    region: Arc<Region>,
    index: BufferIndex,
    len: u32,
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: lent out, so no read names it until it is dropped and taken home.
        unsafe { self.region.part(0, self.len as usize) }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.home.returned.lock().unwrap_or_else(PoisonError::into_inner).push(self.index);
        self.home.any.store(true, Ordering::SeqCst);
        if self.home.wanted.swap(false, Ordering::SeqCst)
            && let Some(worker) = self.home.worker.get().and_then(Weak::upgrade)
        {
            worker.post(|_| {});
        }
    }
}
