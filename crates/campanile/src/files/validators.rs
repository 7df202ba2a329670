//! The validators of a file: what ETag and Last-Modified say of its current state.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::coding::Coding;
use super::date::Date;
use super::etag::{EntityTag, TagText, tag_of_file};

/// A file changed before this says nothing of when it was changed.
const TIMELESS: Duration = Duration::from_secs(24 * 60 * 60);

/// What a response says of the state it sends, and what conditions are held against (RFC 9110 8.8).
///
/// A 304 has them too, as it has Date, Vary, Cache-Control, Expires and Content-Location if a 200 would (RFC 9110
/// 15.4.5).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Validators {
    /// The value of ETag, if there is to be one.
    pub(crate) etag: Option<TagText>,
    /// The value of Last-Modified, if there is to be one.
    pub(crate) last_modified: Option<Date>,
    /// The Date of the response.
    pub(crate) now: Date,
}

impl Validators {
    /// The validators of a file that is sent as it is, in this coding, at this time.
    ///
    /// Of a variant that was compressed beforehand, time and length are those of the compressed file.
    ///
    /// A file of the first day of 1970 has none: whoever packed it threw the times away, as the Nix store does, so that
    /// the next release has the same time, perhaps the same length, and other bytes.
    pub(crate) fn of_file(modified: SystemTime, len: u64, coding: Coding, now: SystemTime) -> Validators {
        let is_timeless = modified < UNIX_EPOCH + TIMELESS;
        Validators {
            etag: (!is_timeless).then(|| tag_of_file(modified, len, coding, now)),
            last_modified: (!is_timeless).then(|| Date::last_modified(modified, now)),
            now: Date::of(now),
        }
    }

    /// The tag, to compare.
    pub(crate) fn tag(&self) -> Option<EntityTag<'_>> {
        EntityTag::parse(self.etag.as_ref()?.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_time_has_no_validators() {
        let now = UNIX_EPOCH + TIMELESS * 100;
        let of = |modified| Validators::of_file(modified, 5, Coding::Identity, now);
        let timeless = of(UNIX_EPOCH + Duration::from_secs(1));
        assert!(timeless.tag().is_none() && timeless.last_modified.is_none());
        let file = of(UNIX_EPOCH + TIMELESS);
        assert!(file.tag().is_some());
        assert_eq!(file.last_modified, Some(Date::of(UNIX_EPOCH + TIMELESS)));
    }
}
