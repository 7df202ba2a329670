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

/// Buffers for file reads, made when first needed, up to a bound.
#[derive(Debug)]
pub(crate) struct FilePool {
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

impl FilePool {
    /// A pool of at most `limit` buffers of `buffer_len` bytes; it begins empty.
    pub(crate) fn new(limit: u32, buffer_len: u32) -> FilePool {
        FilePool { buffers: Vec::new(), free: Vec::new(), home: Arc::default(), buffer_len, limit }
    }

    pub(crate) fn buffer_len(&self) -> u32 {
        self.buffer_len
    }

    /// Says whom to wake when a buffer comes home that somebody waits for.
    pub(crate) fn tell(&self, worker: &Arc<Mailbox>) {
        // Set once, when the worker is made.
        let _ = self.home.worker.set(Arc::downgrade(worker));
    }

    /// A buffer; `None` when all that the bound allows are read into or lent out.
    pub(crate) fn take(&mut self) -> Option<BufferIndex> {
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
    pub(crate) fn release(&mut self, index: BufferIndex) {
        self.free.push(index);
    }

    /// Lends out the first `len` bytes of a buffer whose read is complete.
    pub(crate) fn lend(&self, index: BufferIndex, len: u32) -> Bytes {
        let region = Arc::clone(&self.buffers[index as usize]);
        Bytes::from_owner(Loan { home: Arc::clone(&self.home), region, index, len: len.min(self.buffer_len) })
    }

    /// The address of a buffer, for the kernel to read a file into.
    pub(crate) fn address(&self, index: BufferIndex) -> *mut u8 {
        self.buffers[index as usize].address(0)
    }

    /// Memory of a buffer that a read names, for rings that play the kernel.
    pub(crate) fn fill_as_kernel(&self, index: BufferIndex, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
        // SAFETY: a read names the buffer, so only the kernel touches it, and the kernel is the caller.
        fill(unsafe { self.buffers[index as usize].part_mut(0, self.buffer_len as usize) })
    }

    /// Buffers that are read into or lent out.
    #[cfg(test)]
    pub(crate) fn out(&self) -> usize {
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
