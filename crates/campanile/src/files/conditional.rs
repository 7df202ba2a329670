//! The conditions of a request: whether the client wants what there is.

use campanile_protocol::http1::Method;

use super::date::Date;
use super::etag::TagList;
use super::validators::Validators;

/// What comes of a request's conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answer as if there were none; a Range is looked at next.
    Proceed,
    /// 304: the client has it.
    NotModified,
    /// 412: it is not what the client takes it for.
    PreconditionFailed,
}

/// Evaluates the conditions in the order of RFC 9110 13.2.2; `values` are those of all fields of a name.
///
/// To be asked only of a request that would be answered with 2xx otherwise (RFC 9110 13.2.1): what is not there is a
/// 404, whatever the conditions. Methods that select no representation have no conditions.
pub(crate) fn evaluate<'v, V>(
    method: Method<'_>,
    values: impl Fn(&'static str) -> V,
    current: &Validators,
) -> Verdict
where
    V: Iterator<Item = &'v [u8]> + Clone,
{
    if matches!(method, Method::Connect | Method::Options | Method::Trace) {
        return Verdict::Proceed;
    }
    // Steps 1 and 2: to lose no update. If-Unmodified-Since counts only without If-Match, even one that holds.
    let is_as_expected = match TagList::of(values("If-Match")) {
        Some(list) => list.has(|listed| current.tag().is_some_and(|tag| tag.is_strongly(listed))),
        None => is_unmodified(values("If-Unmodified-Since"), current).unwrap_or(true),
    };
    if !is_as_expected {
        return Verdict::PreconditionFailed;
    }
    // Steps 3 and 4: to send nothing twice. If-Modified-Since counts only without If-None-Match.
    let is_safe = matches!(method, Method::Get | Method::Head);
    let is_known = match TagList::of(values("If-None-Match")) {
        Some(list) => list.has(|listed| current.tag().is_some_and(|tag| tag.is_weakly(listed))),
        None => is_safe && is_unmodified(values("If-Modified-Since"), current).unwrap_or(false),
    };
    match (is_known, is_safe) {
        (false, _) => Verdict::Proceed,
        (true, true) => Verdict::NotModified,
        (true, false) => Verdict::PreconditionFailed,
    }
}

/// Whether the file was not changed after the date of a field; `None` if the field is to be ignored, since it is no
/// date, is there twice, or nobody knows when the file was changed (RFC 9110 13.1.3, 13.1.4).
fn is_unmodified<'v>(mut values: impl Iterator<Item = &'v [u8]>, current: &Validators) -> Option<bool> {
    let date = Date::parse(values.next()?.trim_ascii())?;
    let last_modified = current.last_modified?;
    if values.next().is_some() { None } else { Some(last_modified <= date) }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::super::coding::Coding;
    use super::*;

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    /// Of the file below.
    const TAG: &str = "\"ae1b981da166f00-5\"";

    /// Changed half a second after `SAME`.
    fn file() -> Validators {
        let modified = UNIX_EPOCH + Duration::from_millis(784_111_777_500);
        Validators::of_file(modified, 5, Coding::Identity, modified + Duration::from_secs(100))
    }

    fn verdict(method: &str, fields: &[(&str, &str)]) -> Verdict {
        verdict_on(&file(), method, fields)
    }

    fn verdict_on(current: &Validators, method: &str, fields: &[(&str, &str)]) -> Verdict {
        let values = |name: &'static str| {
            fields.iter().filter(move |(field, _)| *field == name).map(|(_, value)| value.as_bytes())
        };
        evaluate(Method::of(method), values, current)
    }

    use Verdict::{NotModified, PreconditionFailed, Proceed};

    #[test]
    fn the_tag_of_these_tests_is_that_of_the_file() {
        let nanos = 784_111_777_500_000_000u64;
        assert_eq!(file().etag.unwrap().as_str(), format!("\"{nanos:x}-5\""));
        assert_eq!(file().etag.unwrap().as_str(), TAG);
    }

    #[test]
    fn each_condition_by_itself() {
        let weak = format!("W/{TAG}");
        let rows = [
            ("If-Match", TAG, Proceed, Proceed),
            ("If-Match", "*", Proceed, Proceed),
            ("If-Match", "\"x\"", PreconditionFailed, PreconditionFailed),
            ("If-Match", &weak, PreconditionFailed, PreconditionFailed),
            ("If-Match", "nonsense", PreconditionFailed, PreconditionFailed),
            ("If-None-Match", TAG, NotModified, PreconditionFailed),
            ("If-None-Match", &weak, NotModified, PreconditionFailed),
            ("If-None-Match", "*", NotModified, PreconditionFailed),
            ("If-None-Match", "\"x\"", Proceed, Proceed),
            ("If-None-Match", "nonsense", Proceed, Proceed),
            ("If-Unmodified-Since", BEFORE, PreconditionFailed, PreconditionFailed),
            ("If-Unmodified-Since", SAME, Proceed, Proceed),
            ("If-Unmodified-Since", AFTER, Proceed, Proceed),
            ("If-Unmodified-Since", "nonsense", Proceed, Proceed),
            ("If-Modified-Since", BEFORE, Proceed, Proceed),
            ("If-Modified-Since", SAME, NotModified, Proceed),
            ("If-Modified-Since", AFTER, NotModified, Proceed),
            ("If-Modified-Since", "nonsense", Proceed, Proceed),
        ];
        for (name, value, safe, other) in rows {
            assert_eq!(verdict("GET", &[(name, value)]), safe, "GET {name}: {value}");
            assert_eq!(verdict("HEAD", &[(name, value)]), safe, "HEAD {name}: {value}");
            assert_eq!(verdict("PUT", &[(name, value)]), other, "PUT {name}: {value}");
            assert_eq!(verdict("OPTIONS", &[(name, value)]), Proceed, "OPTIONS {name}: {value}");
        }
        assert_eq!(verdict("GET", &[]), Proceed);
    }

    #[test]
    fn tags_outrank_dates() {
        assert_eq!(verdict("GET", &[("If-Match", TAG), ("If-Unmodified-Since", BEFORE)]), Proceed);
        assert_eq!(verdict("GET", &[("If-None-Match", "\"x\""), ("If-Modified-Since", AFTER)]), Proceed);
        assert_eq!(verdict("GET", &[("If-None-Match", ""), ("If-Modified-Since", AFTER)]), Proceed);
    }

    #[test]
    fn lost_updates_outrank_caches() {
        let failed = [("If-None-Match", TAG), ("If-Match", "\"x\"")];
        assert_eq!(verdict("GET", &failed), PreconditionFailed);
        assert_eq!(verdict("GET", &[("If-None-Match", TAG), ("If-Match", TAG)]), NotModified);
        let dates = [("If-Unmodified-Since", BEFORE), ("If-Modified-Since", AFTER)];
        assert_eq!(verdict("GET", &dates), PreconditionFailed);
    }

    #[test]
    fn repeated_lists_are_joined_and_repeated_dates_ignored() {
        assert_eq!(verdict("GET", &[("If-None-Match", "\"x\""), ("If-None-Match", TAG)]), NotModified);
        assert_eq!(verdict("GET", &[("If-Modified-Since", SAME), ("If-Modified-Since", SAME)]), Proceed);
        let twice = [("If-Unmodified-Since", BEFORE), ("If-Unmodified-Since", BEFORE)];
        assert_eq!(verdict("GET", &twice), Proceed);
    }

    #[test]
    fn without_validators_only_any_state_matches() {
        let none = Validators { etag: None, last_modified: None, ..file() };
        let rows = [
            ("If-Match", TAG, PreconditionFailed),
            ("If-Match", "*", Proceed),
            ("If-None-Match", TAG, Proceed),
            ("If-None-Match", "*", NotModified),
            ("If-Unmodified-Since", BEFORE, Proceed),
            ("If-Modified-Since", AFTER, Proceed),
        ];
        for (name, value, expected) in rows {
            assert_eq!(verdict_on(&none, "GET", &[(name, value)]), expected, "{name}: {value}");
        }
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_the_specification(
            matches in proptest::option::of(any::<bool>()),
            unmodified in proptest::option::of(any::<bool>()),
            none_match in proptest::option::of(any::<bool>()),
            modified in proptest::option::of(any::<bool>()),
            is_get: bool,
        ) {
            // Each is: absent, false, or true, as RFC 9110 13.1 says of it.
            let mut fields = Vec::new();
            let mut put = |name, held: Option<bool>, when_true, when_false| {
                fields.extend(held.map(|held| (name, if held { when_true } else { when_false })));
            };
            put("If-Match", matches, TAG, "\"x\"");
            put("If-Unmodified-Since", unmodified, SAME, BEFORE);
            put("If-None-Match", none_match, "\"x\"", TAG);
            put("If-Modified-Since", modified, BEFORE, SAME);
            let expected = match (matches, unmodified, none_match, modified) {
                (Some(false), ..) | (None, Some(false), ..) => PreconditionFailed,
                (_, _, Some(false), _) => if is_get { NotModified } else { PreconditionFailed },
                (_, _, None, Some(false)) if is_get => NotModified,
                _ => Proceed,
            };
            prop_assert_eq!(verdict(if is_get { "GET" } else { "DELETE" }, &fields), expected);
        }
    }
}
