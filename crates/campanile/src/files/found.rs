//! What was found: an open file, what the kernel knows of it, and perhaps its bytes.

use std::cell::Cell;
use std::time::SystemTime;

use campanile_core::{Bytes, Control, File, FileStat, Time};
use campanile_protocol::http1::{FieldBlock, FieldLine};

use crate::http::Error;

use super::coding::{Coding, VARY};
use super::etag::FRESH;
use super::handler::Settings;
use super::media::NOSNIFF;
use super::validators::Validators;

const ACCEPT_RANGES: FieldLine = FieldLine::from_static("Accept-Ranges: bytes\r\n");

/// A file as it is at this moment.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: File,
    pub(super) stat: FileStat,
    pub(super) content_type: &'static str,
    pub(super) validators: Validators,
    /// What every answer with it says of it, but for its type: three lines that are always the same, and three that
    /// take up to 126 bytes together.
    pub(super) fields: FieldBlock<224>,
    /// It was changed so recently that it may change again, and look as it did before.
    pub(super) is_fresh: bool,
    /// All of it, if it is short.
    pub(super) bytes: Option<Bytes>,
    /// When its path was last seen to lead to it.
    pub(super) seen: Cell<Time>,
    /// When it is let go of, if nobody asks for it before.
    pub(super) due: Cell<Time>,
}

impl Found {
    /// A file whose path was just followed, and that was asked for `stat` before it was read.
    pub(super) fn new(
        file: File,
        stat: FileStat,
        (coding, content_type): (Coding, &'static str),
        settings: &Settings,
        control: &Control<'_>,
    ) -> Result<Found, Error> {
        let now = control.wall();
        let validators = Validators::of_file(stat.modified, stat.len, coding, now);
        let mut fields = FieldBlock::new();
        fields.line(ACCEPT_RANGES)?.line(NOSNIFF)?;
        if settings.precompressed {
            fields.line(VARY)?;
        }
        if let Some(etag) = &validators.etag {
            fields.field("ETag", etag.as_bytes())?;
        }
        if let Some(date) = validators.last_modified {
            fields.field("Last-Modified", date.text().as_bytes())?;
        }
        if let Some(name) = coding.name() {
            fields.field("Content-Encoding", name.as_bytes())?;
        }
        let is_fresh = is_fresh(stat.changed.max(stat.modified), now);
        let (seen, due) = (Cell::new(control.now()), Cell::new(control.now() + settings.idle));
        Ok(Found { file, stat, content_type, validators, fields, is_fresh, bytes: None, seen, due })
    }
}

/// Whether a file is still what it was. Its number tells it from another one, its times and its length from what it was
/// before; one that is linked nowhere was removed or replaced.
pub(super) fn is_unchanged(before: &FileStat, now: &FileStat) -> bool {
    now.links > 0 && before == now
}

/// Whether the bytes of a file are still what they were, whatever became of its names.
pub(super) fn has_same_bytes(before: &FileStat, now: &FileStat) -> bool {
    (before.len, before.modified) == (now.len, now.modified)
}

/// Whether a file changed at that time may change again within the same tick of its file system's clock.
fn is_fresh(changed: SystemTime, now: SystemTime) -> bool {
    now.duration_since(changed).map_or(true, |age| age < FRESH)
}
