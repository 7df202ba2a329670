//! A range is a part of a file that a request asks for.

use std::fmt::Write;

use arrayvec::ArrayString;
use campanile_protocol::http1::Method;

use super::date::Date;
use super::etag::EntityTag;
use super::validators::Validators;

/// The text of Content-Range: the unit, three numbers of 64 bits, and what stands between them.
pub(crate) type ContentRange = ArrayString<68>;

/// The ranges that a request may ask for before it gets the whole instead.
///
/// Viewers of documents ask for a handful. Hundreds of overlapping ones once brought servers down (CVE-2011-3192).
pub(crate) const DEFAULT_MAX_RANGES: usize = 16;

/// Bytes of a file, from the first to the last, both within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteRange {
    /// The offset of its first byte.
    pub(crate) first: u64,
    /// The offset of its last byte; not less than `first`.
    pub(crate) last: u64,
}

/// What of a file is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selection {
    /// All of it, by a 200.
    Whole,
    /// One range, by a 206 with Content-Range.
    One(ByteRange),
    /// Two or more that neither overlap nor touch, by a 206 of `multipart/byteranges`.
    Many(Vec<ByteRange>),
    /// None of it, by a 416 whose Content-Range says the length.
    Unsatisfiable,
}

impl ByteRange {
    /// Its length in bytes; at least 1.
    pub(crate) fn len(self) -> u64 {
        self.last - self.first + 1
    }

    /// The value of Content-Range for this part of a file of `len` bytes (RFC 9110 14.4).
    pub(crate) fn content_range(self, len: u64) -> ContentRange {
        let mut text = ContentRange::new();
        // The longest has 68 bytes.
        let _ = write!(text, "bytes {}-{}/{len}", self.first, self.last);
        text
    }
}

/// The value of Content-Range in a 416 (RFC 9110 14.4, 15.5.17).
pub(crate) fn unsatisfied_range(len: u64) -> ContentRange {
    let mut text = ContentRange::new();
    let _ = write!(text, "bytes */{len}");
    text
}

/// Selects what of a file of `len` bytes to send; `values` are those of all fields of a name.
///
/// To be asked after the conditions, and only where a 200 would be sent otherwise (RFC 9110 13.2.2, 14.2). The whole is
/// sent, since a server may always ignore Range (RFC 9110 14.2):
///
/// - to any method but GET;
/// - if If-Range does not hold;
/// - if Range is there twice, is of another unit than bytes, or has any fault;
/// - if it has more than `max_ranges` ranges, those counted that cannot be satisfied;
/// - if the file is empty: no Content-Range can say that, and some clients send Range with everything.
///
/// Ranges that overlap or touch are joined, so that no byte is sent twice (RFC 9110 14.2, 15.3.7.2); the others stay in
/// the order they were asked for.
pub(crate) fn select<'v, V>(
    method: Method<'_>,
    values: impl Fn(&'static str) -> V,
    current: &Validators,
    len: u64,
    max_ranges: usize,
) -> Selection
where
    V: Iterator<Item = &'v [u8]>,
{
    if method != Method::Get || len == 0 {
        return Selection::Whole;
    }
    let Some(range) = only(values("Range")) else {
        return Selection::Whole;
    };
    if !may_be_partial(values("If-Range"), current) {
        return Selection::Whole;
    }
    of_value(range, len, max_ranges).unwrap_or(Selection::Whole)
}

/// Whether If-Range, if it is there, names the current state (RFC 9110 13.1.5).
///
/// A tag has to be strong, and a date the very one of Last-Modified, which has to lie a second before the response:
/// else the file may have changed twice within it (RFC 9110 8.8.2.2).
fn may_be_partial<'v>(mut values: impl Iterator<Item = &'v [u8]>, current: &Validators) -> bool {
    let Some(value) = values.next() else {
        return true;
    };
    let value = value.trim_ascii();
    let holds = match EntityTag::parse(value) {
        Some(named) => current.tag().is_some_and(|tag| tag.is_strongly(named)),
        None => current.last_modified.is_some_and(|last_modified| {
            Date::parse(value) == Some(last_modified) && last_modified < current.now
        }),
    };
    holds && values.next().is_none()
}

/// `None` if the field is to be ignored.
fn of_value(value: &[u8], len: u64, max_ranges: usize) -> Option<Selection> {
    let specs = specs(value.trim_ascii())?;
    // First without memory: the ranges are few, and nearly always one.
    let (mut count, mut satisfiable, mut first) = (0usize, 0usize, None);
    for spec in specs.clone() {
        let range = Spec::parse(spec)?.within(len);
        count += 1;
        if count > max_ranges {
            return None;
        }
        satisfiable += usize::from(range.is_some());
        first = first.or(range);
    }
    match (first, satisfiable) {
        _ if count == 0 => None,
        (None, _) => Some(Selection::Unsatisfiable),
        (Some(range), 1) => Some(Selection::One(range)),
        _ => {
            let ranges = specs.filter_map(|spec| Spec::parse(spec)?.within(len)).collect();
            let ranges = joined(ranges);
            Some(if let [range] = ranges[..] { Selection::One(range) } else { Selection::Many(ranges) })
        }
    }
}

/// The elements of `bytes=...` that are not empty (RFC 9110 5.6.1.2, 14.1.1); `None` for another unit.
fn specs(value: &[u8]) -> Option<impl Iterator<Item = &[u8]> + Clone> {
    let (unit, set) = value.split_at_checked(6)?;
    let specs = set.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|spec| !spec.is_empty());
    unit.eq_ignore_ascii_case(b"bytes=").then_some(specs)
}

/// A range as it was asked for, of whatever length the file may be (RFC 9110 14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    /// `first-last`, or `first-`.
    From(u64, u64),
    /// `-length`: the last bytes.
    Suffix(u64),
}

impl Spec {
    fn parse(spec: &[u8]) -> Option<Spec> {
        let dash = spec.iter().position(|&byte| byte == b'-')?;
        match (&spec[..dash], &spec[dash + 1..]) {
            (b"", suffix) => number(suffix).map(Spec::Suffix),
            (first, b"") => number(first).map(|first| Spec::From(first, u64::MAX)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Spec::From(first, last))
            }
        }
    }

    /// What of it lies in a file of `len` bytes, if anything does.
    fn within(self, len: u64) -> Option<ByteRange> {
        let end = len.checked_sub(1)?;
        match self {
            Spec::From(first, last) => (first <= end).then_some(ByteRange { first, last: last.min(end) }),
            Spec::Suffix(0) => None,
            Spec::Suffix(suffix) => Some(ByteRange { first: len.saturating_sub(suffix), last: end }),
        }
    }
}

/// Digits and nothing else; what is beyond 64 bits is beyond any file.
fn number(digits: &[u8]) -> Option<u64> {
    let value = |value: u64, digit: &u8| value.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| digits.iter().fold(0, value))
}

/// Joins what overlaps or touches; a joined range stands where the first of its parts was asked for.
fn joined(ranges: Vec<ByteRange>) -> Vec<ByteRange> {
    let mut places: Vec<(usize, ByteRange)> = ranges.into_iter().enumerate().collect();
    places.sort_unstable_by_key(|(_, range)| range.first);
    places.dedup_by(|(later_place, later), (place, range)| {
        // Both are within the file, whose length is at most u64::MAX, so that the last offset is less.
        let is_joined = later.first <= range.last + 1;
        if is_joined {
            range.last = range.last.max(later.last);
            *place = (*place).min(*later_place);
        }
        is_joined
    });
    places.sort_unstable_by_key(|(place, _)| *place);
    places.into_iter().map(|(_, range)| range).collect()
}

/// The value of a field that is there once.
fn only<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Option<&'v [u8]> {
    let value = values.next()?;
    if values.next().is_some() { None } else { Some(value) }
}

#[cfg(test)]
#[path = "range_tests.rs"]
mod tests;
