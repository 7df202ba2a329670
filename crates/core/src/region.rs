#![allow(unsafe_code)]
//! A region: one block of memory whose address never changes, which the worker shares with the kernel.
//!
//! # Who owns what
//!
//! A region belongs to the table that made it ([`BufferRing`](crate::buffer_ring::BufferRing),
//! [`SendPool`](crate::send_pool::SendPool)). That table divides it into buffers and knows for each one
//! whether the kernel or the worker has it. The region itself knows nothing of that; it only promises:
//!
//! * the memory is there, zeroed, at one address, from `new` until the region is dropped;
//! * nobody makes a reference to the whole of it, so parts that the kernel writes are never aliased.
//!
//! # Obligations
//!
//! Whoever calls [`Region::part`] or [`Region::part_mut`] has to know that the kernel does not write that part
//! and that no other reference to it is alive (for `part`: none that writes). Whoever drops a region has to know
//! that no operation naming its memory is still with the kernel: see `Memory`.
//!
//! Zeroed memory of this size comes straight from the operating system, which hands out pages when they are
//! first touched: a large pool that is hardly used costs hardly anything.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// A zeroed block of memory at a fixed address.
pub(crate) struct Region {
    base: NonNull<u8>,
    layout: Layout,
    /// From `base` to the first aligned byte.
    skip: usize,
    len: usize,
}

// SAFETY: a region is plain memory; which thread may touch which part is the affair of its table.
unsafe impl Send for Region {}
// SAFETY: `&Region` gives out memory only through unsafe methods, whose callers answer for exclusion.
unsafe impl Sync for Region {}

impl Region {
    /// Memory of `len` bytes, zeroed, aligned to `align`, which is a power of two.
    pub(crate) fn new(len: usize, align: usize) -> Region {
        // Over-aligned zeroed memory is cleared by hand in the allocator, which touches every page; so take more
        // and align by hand.
        let layout = Layout::from_size_align(len + align, 16).expect("a region is far below isize::MAX");
        // SAFETY: the layout's size is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        let skip = base.as_ptr().align_offset(align);
        Region { base, layout, skip, len }
    }

    /// The address of byte `at`, for the kernel.
    pub(crate) fn address(&self, at: usize) -> *mut u8 {
        assert!(at <= self.len, "address within the region");
        // SAFETY: `skip + at` is at most `layout.size()`, checked above and in `new`.
        unsafe { self.base.as_ptr().add(self.skip + at) }
    }

    /// A part of the region, to read.
    ///
    /// # Safety
    /// Nobody writes the part while the slice lives.
    pub(crate) unsafe fn part(&self, at: usize, len: usize) -> &[u8] {
        assert!(len <= self.len && at <= self.len - len, "part within the region");
        // SAFETY: in bounds (checked), initialized (zeroed at birth), not written by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.address(at), len) }
    }

    /// A part of the region, to write.
    ///
    /// # Safety
    /// Nobody else reads or writes the part while the slice lives.
    #[allow(clippy::mut_from_ref)] // exclusion is by part, which the borrow of the whole cannot express
    pub(crate) unsafe fn part_mut(&self, at: usize, len: usize) -> &mut [u8] {
        assert!(len <= self.len && at <= self.len - len, "part within the region");
        // SAFETY: in bounds (checked), initialized (zeroed at birth), exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.address(at), len) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

impl std::fmt::Debug for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Region").field("len", &self.len).finish_non_exhaustive()
    }
}
