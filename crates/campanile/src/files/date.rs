//! A date of HTTP: whole seconds, within the years that its text has room for.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrayvec::ArrayString;

/// The text of a date, as it is sent.
pub(crate) type DateText = ArrayString<29>;

/// The last second of the year 9999.
const LAST: u64 = 253_402_300_799;

/// Whole seconds since 1970 (RFC 9110 5.6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Date(u64);

impl Date {
    /// The second that `time` is in; one before 1970 or after 9999 is moved to the nearest that can be written.
    pub(crate) fn of(time: SystemTime) -> Date {
        Date(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).min(LAST))
    }

    /// What Last-Modified says of a file changed at `modified`, in a response whose Date is `now`: never later than
    /// that (RFC 9110 8.8.2.1).
    pub(crate) fn last_modified(modified: SystemTime, now: SystemTime) -> Date {
        Date::of(modified).min(Date::of(now))
    }

    /// Reads any of the three forms (RFC 9110 5.6.7); `None` for what is none of them.
    pub(crate) fn parse(value: &[u8]) -> Option<Date> {
        let text = std::str::from_utf8(value).ok()?;
        httpdate::parse_http_date(text).ok().map(Date::of)
    }

    /// IMF-fixdate, the form to send (RFC 9110 5.6.7).
    pub(crate) fn text(self) -> DateText {
        let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(self.0));
        let mut text = DateText::new();
        // It has 29 bytes, always.
        let _ = write!(text, "{date}");
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(nanos: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(nanos)
    }

    #[test]
    fn the_three_forms_are_one_date() {
        let forms: [&[u8]; 3] = [
            b"Sun, 06 Nov 1994 08:49:37 GMT",
            b"Sunday, 06-Nov-94 08:49:37 GMT",
            b"Sun Nov  6 08:49:37 1994",
        ];
        for form in forms {
            assert_eq!(Date::parse(form), Some(Date(784_111_777)));
        }
        assert_eq!(Date(784_111_777).text().as_bytes(), forms[0]);
    }

    #[test]
    fn what_is_no_date_is_none() {
        let none: [&[u8]; 7] = [
            b"",
            b"yesterday",
            b"784111777",
            b"\"etag\"",
            b"Sun, 31 Feb 1994 08:49:37 GMT",
            b"Sun, 06 Nov 1994 08:49:37 CET",
            b"\xff",
        ];
        for value in none {
            assert_eq!(Date::parse(value), None, "{value:?}");
        }
    }

    #[test]
    fn last_modified_is_in_whole_seconds_and_never_after_the_response() {
        let now = at(10_000_000_000);
        assert_eq!(Date::last_modified(at(9_999_999_999), now), Date(9));
        assert_eq!(Date::last_modified(at(10_999_999_999), now), Date(10));
        assert_eq!(Date::last_modified(at(77_000_000_000), now), Date(10));
    }

    #[test]
    fn times_that_cannot_be_written_are_moved() {
        assert_eq!(Date::of(UNIX_EPOCH - Duration::from_secs(5)), Date(0));
        let late = UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(Date::of(late).text().as_str(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    proptest! {
        #[test]
        fn a_date_is_read_as_it_was_written(seconds in 0..=LAST) {
            prop_assert_eq!(Date::parse(Date(seconds).text().as_bytes()), Some(Date(seconds)));
        }

        #[test]
        fn no_bytes_upset_the_parser(value: Vec<u8>) {
            let _ = Date::parse(&value);
        }
    }
}
