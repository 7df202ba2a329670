//! What was found: an open file, what the kernel knows of it, and perhaps its bytes.

use std::cell::Cell;

use campanile_core::{Bytes, File, FileStat, Time};

use super::coding::Coding;

/// A file as it is at this moment.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: File,
    pub(super) stat: FileStat,
    pub(super) coding: Coding,
    pub(super) content_type: &'static str,
    /// All of it, if it is short.
    pub(super) bytes: Option<Bytes>,
    /// When its path was last seen to lead to it.
    pub(super) seen: Cell<Time>,
}

/// Whether a file is still what it was. Its number tells it from another one, its times and its length from what it was
/// before; one that is linked nowhere was removed or replaced.
pub(super) fn is_unchanged(before: &FileStat, now: &FileStat) -> bool {
    now.links > 0 && before == now
}
