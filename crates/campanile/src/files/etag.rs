//! An entity tag names one state of a file, in one coding.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrayvec::ArrayString;

use super::coding::Coding;

/// The text of a tag of ours: `W/`, quotes, two numbers of 64 bits, and a coding.
pub(crate) type TagText = ArrayString<48>;

/// A file changed this recently may change again and look the same: within the same tick of the file system's clock,
/// which is that of the kernel, 10 ms at the slowest (CONFIG_HZ=100); or because it is still being changed, for
/// write(2) notes the time before it copies the bytes, and can be held up in between. Apache takes a second as well.
pub(crate) const FRESH: Duration = Duration::from_secs(1);

/// The tag of a file, as the value of ETag (RFC 9110 8.8.3): when it was last changed, its length, and the coding.
///
/// The inode is not in it: a copy of the same tree on another machine has other inodes, and clients that are sent to
/// one machine and then to another would load everything again. Nor is a hash of the content, which would have to be
/// read.
///
/// Each coding has a tag of its own, since its bytes are others (RFC 9110 8.8.3.3).
///
/// A strong tag promises that the bytes are the same, and they may not all be written yet. So the tag of a
/// file that was changed less than a second before `now`, or after it, is weak (RFC 9110 8.8.1): the
/// client caches it all the same, but does not join parts of it.
pub(crate) fn tag_of_file(modified: SystemTime, len: u64, coding: Coding, now: SystemTime) -> TagText {
    let nanos = modified.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
    let is_fresh = now.duration_since(modified).map_or(true, |age| age < FRESH);
    let weak = if is_fresh { "W/" } else { "" };
    let (dash, coding) = if coding == Coding::Identity { ("", "") } else { ("-", coding.as_str()) };
    let mut text = TagText::new();
    // The longest has 42 bytes.
    let _ = write!(text, "{weak}\"{nanos:x}-{len:x}{dash}{coding}\"");
    text
}

/// A tag, wherever it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntityTag<'a> {
    /// What stands between the quotes.
    opaque: &'a [u8],
    is_weak: bool,
}

impl<'a> EntityTag<'a> {
    /// Reads a value that is one tag and nothing else (RFC 9110 8.8.3).
    pub(crate) fn parse(value: &'a [u8]) -> Option<EntityTag<'a>> {
        EntityTag::split(value).filter(|(_, rest)| rest.is_empty()).map(|(tag, _)| tag)
    }

    /// Reads the tag that `value` begins with, and returns what follows it.
    ///
    /// `W/` is in upper case, and a backslash is an ordinary character, unlike in a quoted string.
    fn split(value: &'a [u8]) -> Option<(EntityTag<'a>, &'a [u8])> {
        let (is_weak, quoted) = match value.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, value),
        };
        let text = quoted.strip_prefix(b"\"")?;
        let end = text.iter().position(|&byte| matches!(byte, b'"' | 0..=0x20 | 0x7f))?;
        let (opaque, rest) = text.split_at(end);
        Some((EntityTag { opaque, is_weak }, rest.strip_prefix(b"\"")?))
    }

    /// Strong comparison: the same, and neither is weak (RFC 9110 8.8.3.2).
    pub(crate) fn is_strongly(self, other: EntityTag<'_>) -> bool {
        !self.is_weak && !other.is_weak && self.opaque == other.opaque
    }

    /// Weak comparison: the same, but for weakness (RFC 9110 8.8.3.2).
    pub(crate) fn is_weakly(self, other: EntityTag<'_>) -> bool {
        self.opaque == other.opaque
    }
}

/// What If-Match or If-None-Match names (RFC 9110 13.1.1, 13.1.2).
#[derive(Debug, Clone, Copy)]
pub(crate) enum TagList<I> {
    /// `*`: any state, as long as there is one.
    Any,
    /// These, of all fields of the name.
    Tags(I),
}

impl<'a, I: Iterator<Item = &'a [u8]> + Clone> TagList<I> {
    /// Reads the values of all fields of the name; `None` if there are none.
    ///
    /// `*` stands alone; among others it is no tag.
    pub(crate) fn of(values: I) -> Option<TagList<I>> {
        let mut some = values.clone();
        match (some.next()?, some.next()) {
            (first, None) if first.trim_ascii() == b"*" => Some(TagList::Any),
            _ => Some(TagList::Tags(values)),
        }
    }

    /// Whether one of them names the current state.
    ///
    /// What follows a list's first fault does not count: then If-Match fails and If-None-Match sends the file, which
    /// errs on the safe side both times.
    pub(crate) fn has(self, mut is_current: impl FnMut(EntityTag<'a>) -> bool) -> bool {
        match self {
            TagList::Any => true,
            TagList::Tags(mut values) => values.any(|value| tags(value).any(&mut is_current)),
        }
    }
}

/// The tags of one value, up to the first fault. Empty elements are passed over (RFC 9110 5.6.1.2).
fn tags(value: &[u8]) -> impl Iterator<Item = EntityTag<'_>> {
    let mut rest = value;
    std::iter::from_fn(move || {
        while let [b' ' | b'\t' | b',', after @ ..] = rest {
            rest = after;
        }
        let (tag, after) = EntityTag::split(rest)?;
        rest = after.trim_ascii_start();
        (rest.is_empty() || rest.starts_with(b",")).then_some(tag)
    })
    .fuse()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(nanos: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(nanos)
    }

    fn tag(text: &str) -> EntityTag<'_> {
        EntityTag::parse(text.as_bytes()).unwrap()
    }

    fn names(values: &[&str], text: &str) -> Option<bool> {
        let values = values.iter().map(|value| value.as_bytes());
        TagList::of(values).map(|list| list.has(|listed| listed.is_weakly(tag(text))))
    }

    #[test]
    fn a_tag_is_time_length_and_coding() {
        let later = at(10_000_000_000);
        assert_eq!(tag_of_file(at(0x1234), 0xab, Coding::Identity, later).as_str(), "\"1234-ab\"");
        assert_eq!(tag_of_file(at(0x1234), 0xab, Coding::Brotli, later).as_str(), "\"1234-ab-br\"");
        assert_eq!(tag_of_file(at(0x1234), 0xab, Coding::Zstd, later).as_str(), "\"1234-ab-zstd\"");
        let longest = UNIX_EPOCH + Duration::from_secs(u64::MAX >> 2);
        let text = tag_of_file(longest, u64::MAX, Coding::Zstd, later);
        assert_eq!(text.as_str(), "W/\"ffffffffffffffff-ffffffffffffffff-zstd\"");
    }

    #[test]
    fn a_tag_is_weak_while_the_file_may_change_unnoticed() {
        let modified = at(5_000_000_000);
        let is_weak = |now| tag_of_file(modified, 1, Coding::Identity, at(now)).starts_with("W/");
        assert!(is_weak(5_000_000_000));
        assert!(is_weak(5_999_999_999));
        assert!(is_weak(4_000_000_000));
        assert!(!is_weak(6_000_000_000));
    }

    #[test]
    fn comparisons_are_those_of_the_table() {
        // RFC 9110 8.8.3.2, table 3.
        let rows = [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
        ];
        for (one, other, strong, weak) in rows {
            assert_eq!(tag(one).is_strongly(tag(other)), strong, "{one} {other}");
            assert_eq!(tag(other).is_strongly(tag(one)), strong, "{one} {other}");
            assert_eq!(tag(one).is_weakly(tag(other)), weak, "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_tag_is_none() {
        for value in
            ["", "\"", "a", "\"a", "a\"", "w/\"a\"", "W/a", "W/", "\"a\"b", "\"a b\"", "\"a\",\"b\"", "*"]
        {
            assert_eq!(EntityTag::parse(value.as_bytes()), None, "{value}");
        }
        assert_eq!(tag("\"\"").opaque, b"");
        assert_eq!(tag("\"a\\\"").opaque, b"a\\");
        assert_eq!(EntityTag::parse(b"\"\xff\"").map(|tag| tag.opaque), Some(&b"\xff"[..]));
    }

    #[test]
    fn lists_are_joined_and_commas_in_quotes_divide_nothing() {
        assert_eq!(names(&[], "\"a\""), None);
        assert_eq!(names(&["*"], "\"a\""), Some(true));
        assert_eq!(names(&[" * "], "\"a\""), Some(true));
        assert_eq!(names(&["\"a\""], "\"a\""), Some(true));
        assert_eq!(names(&["\"x\", W/\"a\""], "\"a\""), Some(true));
        assert_eq!(names(&["\"x\"", "\"y\",\"a\""], "\"a\""), Some(true));
        assert_eq!(names(&[", ,\"x\" ,,\t\"a\","], "\"a\""), Some(true));
        assert_eq!(names(&["\"a,b\""], "\"a,b\""), Some(true));
        assert_eq!(names(&["\"x,\"a\",y\""], "\"a\""), Some(false));
        assert_eq!(names(&["\"x\\\",\"a\""], "\"a\""), Some(true));
        assert_eq!(names(&[""], "\"a\""), Some(false));
    }

    #[test]
    fn faults_match_nothing() {
        for value in
            ["a", "x, \"a\"", "\"x\" \"a\"", "\"x\"\"a\"", "\"a", "*, \"b\"", "\"b\", *", "'a'", "\"a\"b"]
        {
            assert_eq!(names(&[value], "\"a\""), Some(false), "{value}");
        }
        assert_eq!(names(&["*", "*"], "\"a\""), Some(false));
    }

    fn opaque() -> impl Strategy<Value = String> {
        "[!#-~]{0,6}"
    }

    proptest! {
        #[test]
        fn a_list_holds_what_was_put_in(
            opaques in proptest::collection::vec((opaque(), any::<bool>()), 1..6),
            sought in opaque(),
        ) {
            let text = |(opaque, is_weak): &(String, bool)| {
                format!("{}\"{opaque}\"", if *is_weak { "W/" } else { "" })
            };
            let list: Vec<String> = opaques.iter().map(text).collect();
            let value = list.join(", ");
            let expected: Vec<&[u8]> = opaques.iter().map(|(opaque, _)| opaque.as_bytes()).collect();
            let found: Vec<&[u8]> = tags(value.as_bytes()).map(|tag| tag.opaque).collect();
            prop_assert_eq!(&found, &expected);
            let quoted = format!("\"{sought}\"");
            prop_assert_eq!(names(&[&value], &quoted), Some(expected.contains(&sought.as_bytes())));
        }

        #[test]
        fn states_that_differ_have_tags_that_differ(
            one in (0u64..4, 0u64..4, 0usize..4), other in (0u64..4, 0u64..4, 0usize..4),
        ) {
            let codings = [Coding::Identity, Coding::Gzip, Coding::Zstd, Coding::Brotli];
            let text = |(nanos, len, coding): (u64, u64, usize)| {
                tag_of_file(at(nanos), len, codings[coding], at(9_000_000_000))
            };
            prop_assert_eq!(text(one) == text(other), one == other);
            prop_assert!(EntityTag::parse(text(one).as_bytes()).is_some_and(|tag| !tag.is_weak));
        }

        #[test]
        fn no_bytes_upset_the_parser(value: Vec<u8>) {
            let _ = tags(&value).count();
        }
    }
}
