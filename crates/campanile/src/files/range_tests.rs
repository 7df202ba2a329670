//! Tests of ranges: syntax, joining, and what If-Range holds back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use super::super::coding::Coding;
use super::*;

const MODIFIED: u64 = 784_111_777;
const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn file(age: u64) -> Validators {
    Validators::of_file(at(MODIFIED), 100, Coding::Identity, at(MODIFIED + age))
}

fn answer(method: &str, fields: &[(&str, &str)], current: &Validators, len: u64) -> Selection {
    let values = |name: &'static str| {
        fields.iter().filter(move |(field, _)| *field == name).map(|(_, value)| value.as_bytes())
    };
    select(Method::of(method), values, current, len, DEFAULT_MAX_RANGES)
}

fn of_range(value: &str, len: u64) -> Selection {
    answer("GET", &[("Range", value)], &file(100), len)
}

fn one(first: u64, last: u64) -> Selection {
    Selection::One(ByteRange { first, last })
}

fn many(ranges: &[(u64, u64)]) -> Selection {
    Selection::Many(ranges.iter().map(|&(first, last)| ByteRange { first, last }).collect())
}

#[test]
fn one_range() {
    let rows = [
        ("bytes=0-0", one(0, 0)),
        ("bytes=0-499", one(0, 99)),
        ("bytes=5-9", one(5, 9)),
        ("bytes=99-", one(99, 99)),
        ("bytes=0-", one(0, 99)),
        ("bytes=-1", one(99, 99)),
        ("bytes=-100", one(0, 99)),
        ("bytes=-500", one(0, 99)),
        ("BYTES=5-9", one(5, 9)),
        (" bytes=5-9\t", one(5, 9)),
        ("bytes= ,, 5-9 ,", one(5, 9)),
        ("bytes=007-0000000000000000000000000000000000009", one(7, 9)),
        ("bytes=5-99999999999999999999999999999999999999", one(5, 99)),
        ("bytes=-99999999999999999999999999999999999999", one(0, 99)),
        ("bytes=5-9,100-", one(5, 9)),
        ("bytes=-0,5-9", one(5, 9)),
    ];
    for (value, selection) in rows {
        assert_eq!(of_range(value, 100), selection, "{value}");
    }
}

#[test]
fn what_is_no_range_of_bytes_is_ignored() {
    let values = [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-",
        "bytes=5",
        "bytes=9-5",
        "bytes 5-9",
        "bytes =5-9",
        "items=5-9",
        "bytes=5 -9",
        "bytes=5- 9",
        "bytes=+5-9",
        "bytes=--5",
        "bytes=5-9-",
        "bytes=5-9;6-7",
        "bytes=0-1,9-5",
        "bytes=0-1,x",
        "bytes=0x1-",
        "bytes=100-,9-5",
    ];
    for value in values {
        assert_eq!(of_range(value, 100), Selection::Whole, "{value}");
    }
}

#[test]
fn what_lies_beyond_the_end_is_unsatisfiable() {
    for value in
        ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=18446744073709551615-", "bytes=100-,200-,-0"]
    {
        assert_eq!(of_range(value, 100), Selection::Unsatisfiable, "{value}");
    }
    assert_eq!(unsatisfied_range(100).as_str(), "bytes */100");
}

#[test]
fn an_empty_file_has_no_ranges() {
    for value in ["bytes=0-", "bytes=-5", "bytes=7-9"] {
        assert_eq!(of_range(value, 0), Selection::Whole, "{value}");
    }
}

#[test]
fn several_ranges_keep_their_order_and_are_joined() {
    assert_eq!(of_range("bytes=0-1,4-5", 100), many(&[(0, 1), (4, 5)]));
    assert_eq!(of_range("bytes=50-59, 0-9, -1", 100), many(&[(50, 59), (0, 9), (99, 99)]));
    assert_eq!(of_range("bytes=0-4,5-9", 100), one(0, 9));
    assert_eq!(of_range("bytes=5-9,0-7", 100), one(0, 9));
    assert_eq!(of_range("bytes=0-9,2-3", 100), one(0, 9));
    assert_eq!(of_range("bytes=0-,5-,-7", 100), one(0, 99));
    assert_eq!(of_range("bytes=20-29,50-59,25-35", 100), many(&[(20, 35), (50, 59)]));
    assert_eq!(of_range("bytes=50-59,25-35,40-49", 100), many(&[(40, 59), (25, 35)]));
    assert_eq!(of_range("bytes=0-1,200-,4-5", 100), many(&[(0, 1), (4, 5)]));
}

#[test]
fn too_many_ranges_get_the_whole() {
    let ranges = |count: usize| {
        let specs: Vec<String> = (0..count).map(|at| format!("{}-{}", at * 3, at * 3)).collect();
        format!("bytes={}", specs.join(","))
    };
    let Selection::Many(found) = of_range(&ranges(DEFAULT_MAX_RANGES), 1000) else {
        panic!("as many as are allowed");
    };
    assert_eq!(found.len(), DEFAULT_MAX_RANGES);
    assert_eq!(of_range(&ranges(DEFAULT_MAX_RANGES + 1), 1000), Selection::Whole);
    // Those that cannot be satisfied, and those that would be joined, count too.
    let beyond = format!("bytes={}", ["2000-"; DEFAULT_MAX_RANGES + 1].join(","));
    assert_eq!(of_range(&beyond, 1000), Selection::Whole);
    let same = format!("bytes={}", ["0-"; DEFAULT_MAX_RANGES + 1].join(","));
    assert_eq!(of_range(&same, 1000), Selection::Whole);
}

#[test]
fn only_get_has_ranges_and_only_one_field() {
    for method in ["HEAD", "PUT", "POST", "get"] {
        assert_eq!(answer(method, &[("Range", "bytes=0-1")], &file(9), 100), Selection::Whole, "{method}");
    }
    let twice = [("Range", "bytes=0-1"), ("Range", "bytes=0-1")];
    assert_eq!(answer("GET", &twice, &file(9), 100), Selection::Whole);
    assert_eq!(answer("GET", &[], &file(9), 100), Selection::Whole);
}

#[test]
fn if_range_holds_for_the_current_state_only() {
    let ask = |condition: &str, age| {
        let fields = [("Range", "bytes=0-1"), ("If-Range", condition)];
        answer("GET", &fields, &file(age), 100) == one(0, 1)
    };
    let etag = file(100).etag.unwrap();
    assert!(ask(&etag, 100));
    assert!(ask(&format!(" {etag} "), 100));
    assert!(!ask("\"x\"", 100));
    assert!(!ask("*", 100));
    assert!(!ask("", 100));
    assert!(!ask(&format!("W/{etag}"), 100));
    assert!(!ask(&format!("{etag}, \"x\""), 100));
    assert!(ask(SAME, 1));
    assert!(!ask(AFTER, 100), "a later date is not the same date");
    assert!(!ask(SAME, 0), "within the second of the change a date is weak");
    let fresh = file(0).etag.unwrap();
    assert!(!ask(&fresh, 0), "within the second of the change a tag is weak");
    let fields = [("Range", "bytes=0-1"), ("If-Range", &etag), ("If-Range", &etag)];
    assert_eq!(answer("GET", &fields, &file(100), 100), Selection::Whole);
}

#[test]
fn without_validators_if_range_never_holds() {
    let none = Validators { etag: None, last_modified: None, ..file(100) };
    let etag = file(100).etag.unwrap();
    for condition in [SAME, &etag] {
        let fields = [("Range", "bytes=0-1"), ("If-Range", condition)];
        assert_eq!(answer("GET", &fields, &none, 100), Selection::Whole, "{condition}");
    }
    assert_eq!(answer("GET", &[("Range", "bytes=0-1")], &none, 100), one(0, 1));
}

#[test]
fn without_a_range_if_range_says_nothing() {
    let etag = file(100).etag.unwrap();
    assert_eq!(answer("GET", &[("If-Range", &etag)], &file(100), 100), Selection::Whole);
    let fields = [("Range", "bytes=500-"), ("If-Range", "\"x\"")];
    assert_eq!(answer("GET", &fields, &file(100), 100), Selection::Whole);
}

#[test]
fn content_range_has_room_for_the_longest() {
    let range = ByteRange { first: u64::MAX - 1, last: u64::MAX - 1 };
    let text = "bytes 18446744073709551614-18446744073709551614/18446744073709551615";
    assert_eq!(range.content_range(u64::MAX).as_str(), text);
    assert_eq!(of_range("bytes=-1,0-3", u64::MAX), many(&[(u64::MAX - 1, u64::MAX - 1), (0, 3)]));
}

fn spec() -> impl Strategy<Value = String> {
    prop_oneof![
        (0u64..40, 0u64..10).prop_map(|(first, more)| format!("{first}-{}", first + more)),
        (0u64..40).prop_map(|first| format!("{first}-")),
        (0u64..40).prop_map(|suffix| format!("-{suffix}")),
    ]
}

/// Whether the byte at `offset` is asked for.
fn asks_for(spec: &str, offset: u64, len: u64) -> bool {
    let (first, last) = spec.split_once('-').unwrap();
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) => (first..=last).contains(&offset),
        (Ok(first), Err(_)) => first <= offset,
        (Err(_), suffix) => len - offset <= suffix.unwrap(),
    }
}

proptest! {
    #[test]
    fn exactly_the_bytes_asked_for_are_selected_once(
        specs in proptest::collection::vec(spec(), 1..=DEFAULT_MAX_RANGES),
        len in 1u64..40,
    ) {
        let ranges = match of_range(&format!("bytes={}", specs.join(", ")), len) {
            Selection::Unsatisfiable => Vec::new(),
            Selection::One(range) => vec![range],
            Selection::Many(ranges) => {
                prop_assert!(ranges.len() > 1);
                ranges
            }
            Selection::Whole => panic!("a valid Range was ignored"),
        };
        for offset in 0..len {
            let wanted = specs.iter().any(|spec| asks_for(spec, offset, len));
            let sent = ranges.iter().filter(|range| (range.first..=range.last).contains(&offset)).count();
            prop_assert_eq!(sent, usize::from(wanted), "byte {}", offset);
        }
        for range in &ranges {
            prop_assert!(range.first <= range.last && range.last < len);
            let touches = |other: &ByteRange| other.last + 1 == range.first;
            prop_assert!(!ranges.iter().any(touches));
        }
        // In the order in which the first byte of any part of each was asked for.
        let place = |range: &ByteRange| {
            specs.iter().position(|spec| (range.first..=range.last).any(|offset| asks_for(spec, offset, len)))
        };
        prop_assert!(ranges.is_sorted_by_key(place));
    }

    #[test]
    fn no_text_upsets_the_parser(value in "bytes=[0-9,\\- a]{0,20}", len: u64) {
        match of_range(&value, len) {
            Selection::One(range) => prop_assert!(range.last < len),
            Selection::Many(ranges) => prop_assert!(ranges.iter().all(|range| range.last < len)),
            Selection::Whole | Selection::Unsatisfiable => {}
        }
    }

    #[test]
    fn no_bytes_upset_the_parser(value: Vec<u8>) {
        let _ = of_value(&value, 100, DEFAULT_MAX_RANGES);
    }
}
