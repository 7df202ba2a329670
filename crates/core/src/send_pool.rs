#![allow(unsafe_code)]
//! The send pool: memory that answers are written into, and that the kernel sends from.
//!
//! # Who owns what
//!
//! One slab per worker, addressed by index, taken from in chunks as it is needed and up to a bound. A buffer is
//! free, or held by one connection's output. While a send is in flight the kernel reads a range that was filled
//! before; the output goes on filling *behind* it, so nobody writes what the kernel reads. A buffer is released
//! by its output, after the final completion of the last send that names it. A starved connection may take one as
//! the private buffer of a single receive; then the kernel writes its front until that receive completed, and
//! nobody looks at it before.
//!
//! # Obligations
//!
//! Rust code reaches the memory only through `&mut SendPool`, so there is never more than one slice of it. The
//! kernel reaches it through addresses given out by [`SendPool::address`], for ranges below what is filled.

use crate::region::Region;

/// Buffers per chunk: the step in which the pool grows.
const CHUNK: u32 = 64;

/// Neighbouring buffers begin this much off from each other in the cache: a turn fills the front of many.
const COLOUR: usize = 192;

/// The number of a buffer in the pool.
pub(crate) type BufferIndex = u32;

/// Send memory: buffers of one size, by index.
#[derive(Debug)]
pub(crate) struct SendPool {
    chunks: Vec<Region>,
    /// The last one released is the first one taken: it is still in the cache.
    free: Vec<BufferIndex>,
    buffer_len: u32,
    limit: u32,
    made: u32,
}

impl SendPool {
    /// A pool of at most `limit` buffers of `buffer_len` bytes; it begins empty.
    pub(crate) fn new(limit: u32, buffer_len: u32) -> SendPool {
        SendPool { chunks: Vec::new(), free: Vec::new(), buffer_len, limit, made: 0 }
    }

    pub(crate) fn buffer_len(&self) -> usize {
        self.buffer_len as usize
    }

    /// How many buffers are held.
    pub(crate) fn held(&self) -> usize {
        self.made as usize - self.free.len()
    }

    /// Whether somebody holds this buffer: for rings that play the kernel and check what they are given.
    pub(crate) fn is_held(&self, index: BufferIndex) -> bool {
        index < self.made && !self.free.contains(&index)
    }

    /// Whether [`take`](Self::take) would find a buffer.
    pub(crate) fn has_free(&self) -> bool {
        !self.free.is_empty() || self.made < self.limit
    }

    /// A buffer; `None` when as many as the bound allows are held.
    pub(crate) fn take(&mut self) -> Option<BufferIndex> {
        if self.free.is_empty() {
            self.grow();
        }
        self.free.pop()
    }

    /// Takes a buffer back that no operation names any more.
    pub(crate) fn release(&mut self, index: BufferIndex) {
        debug_assert!(!self.free.contains(&index), "send buffer {index} released twice");
        self.free.push(index);
    }

    /// The memory of a buffer from `from` on.
    pub(crate) fn bytes_mut(&mut self, index: BufferIndex, from: u32) -> &mut [u8] {
        let (chunk, at) = self.place(index, from);
        let len = (self.buffer_len - from) as usize;
        // SAFETY: `&mut self` makes this the only slice of the pool; the kernel reads ranges below `from` only,
        // because `from` is where the buffer's holder goes on filling.
        unsafe { self.chunks[chunk].part_mut(at, len) }
    }

    /// Filled bytes of a buffer, to read.
    pub(crate) fn bytes(&self, index: BufferIndex, from: u32, to: u32) -> &[u8] {
        let (chunk, at) = self.place(index, from);
        // SAFETY: writing takes `&mut self`, and the kernel only reads send memory.
        unsafe { self.chunks[chunk].part(at, (to - from) as usize) }
    }

    /// The address of byte `from` of a buffer, for the kernel to read from.
    pub(crate) fn address(&self, index: BufferIndex, from: u32) -> *const u8 {
        let (chunk, at) = self.place(index, from);
        self.chunks[chunk].address(at)
    }

    fn place(&self, index: BufferIndex, from: u32) -> (usize, usize) {
        assert!(from <= self.buffer_len && index < self.made, "a place within the pool");
        ((index / CHUNK) as usize, (index % CHUNK) as usize * self.stride() + from as usize)
    }

    fn stride(&self) -> usize {
        (self.buffer_len as usize).next_multiple_of(64) + COLOUR
    }

    #[cold]
    fn grow(&mut self) {
        let more = CHUNK.min(self.limit - self.made);
        if more == 0 {
            return;
        }
        self.chunks.push(Region::new(CHUNK as usize * self.stride(), 64));
        self.free.extend((self.made..self.made + more).rev());
        self.made += more;
    }
}
