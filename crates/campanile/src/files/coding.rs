//! A coding is how the bytes of a representation are compressed, and which of them a client takes.

use campanile_protocol::http1::FieldLine;

/// Goes into every response to a request whose answer depends on Accept-Encoding: wherever variants are looked for,
/// even if none was found, and into a 304 too (RFC 9110 12.5.5, 15.4.5). Else a cache hands one client's variant to
/// another.
pub(crate) const VARY: FieldLine = FieldLine::from_static("Vary: Accept-Encoding\r\n");

/// A content coding (RFC 9110 8.4.1), the least wanted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Coding {
    /// As it is.
    Identity,
    /// RFC 1952
    Gzip,
    /// RFC 8878
    Zstd,
    /// RFC 7932
    Brotli,
}

impl Coding {
    /// All of them, the most wanted first.
    pub(crate) const ALL: [Coding; 4] = [Coding::Brotli, Coding::Zstd, Coding::Gzip, Coding::Identity];

    /// Its name, as the value of Content-Encoding; that of identity is not sent (RFC 9110 8.4).
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Gzip => "gzip",
            Coding::Zstd => "zstd",
            Coding::Brotli => "br",
        }
    }

    /// The value of Content-Encoding, if there is to be one.
    pub(crate) fn name(self) -> Option<&'static str> {
        (self != Coding::Identity).then(|| self.as_str())
    }

    /// What the name of a file compressed beforehand ends with, behind the name of the file itself.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Coding::Identity => "",
            Coding::Gzip => ".gz",
            Coding::Zstd => ".zst",
            Coding::Brotli => ".br",
        }
    }

    /// RFC 9110 8.4.1: in any case, and x-gzip is gzip.
    fn of(name: &[u8]) -> Option<Coding> {
        let is = |coding: &Coding| name.eq_ignore_ascii_case(coding.as_str().as_bytes());
        let found = Coding::ALL.into_iter().find(is);
        found.or_else(|| name.eq_ignore_ascii_case(b"x-gzip").then_some(Coding::Gzip))
    }
}

/// How much a client wants each coding, in thousandths; 0 is not at all (RFC 9110 12.4.2, 12.5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// By `Coding as usize`.
    weights: [u16; 4],
}

impl Accepted {
    /// Reads the values of all Accept-Encoding fields (RFC 9110 12.5.3).
    ///
    /// Without the field anything would do, and identity is sent, for nobody said that they can decompress. Identity is
    /// acceptable, if least of all, unless it or `*` has weight 0. An element with a fault is passed over; of several
    /// for one coding the last counts.
    pub(crate) fn of<'v>(values: impl Iterator<Item = &'v [u8]>) -> Accepted {
        let mut named = [None; 4];
        let mut others = None;
        for element in values.flat_map(|value| value.split(|&byte| byte == b',')) {
            let Some((name, weight)) = weighted(element) else { continue };
            if name == b"*" {
                others = Some(weight);
            } else if let Some(coding) = Coding::of(name) {
                named[coding as usize] = Some(weight);
            }
        }
        let mut weights = named.map(|weight| weight.or(others).unwrap_or(0));
        if named[Coding::Identity as usize].or(others).is_none() {
            // The least there is; at the same weight the others come first.
            weights[Coding::Identity as usize] = 1;
        }
        Accepted { weights }
    }

    /// Whether the client takes this coding at all: what is not taken need not be looked for.
    pub(crate) fn takes(self, coding: Coding) -> bool {
        self.weights[coding as usize] > 0
    }

    /// The codings that the client takes, the best first: by weight, and at the same weight the one that compresses
    /// best.
    ///
    /// The first for which there is a variant is the one to send. If there is none, identity is not acceptable either,
    /// and the answer is 406 (RFC 9110 12.5.3, 15.5.7).
    pub(crate) fn in_order(self) -> impl Iterator<Item = Coding> {
        let mut order = Coding::ALL;
        // The sort is stable, and `ALL` has the better first.
        order.sort_by_key(|coding| std::cmp::Reverse(self.weights[*coding as usize]));
        order.into_iter().filter(move |coding| self.takes(*coding))
    }

    /// The order in a number: clients for which it is the same get the same variant.
    pub(crate) fn order(self) -> u16 {
        self.in_order().fold(0, |order, coding| order * 5 + 1 + coding as u16)
    }

    #[cfg(test)]
    /// The best of `available`.
    pub(crate) fn best(self, available: impl Fn(Coding) -> bool) -> Option<Coding> {
        self.in_order().find(|coding| available(*coding))
    }
}

/// An element and its weight: `name`, or `name;q=0.5` with optional spaces; `None` if it has a fault.
fn weighted(element: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = element.splitn(2, |&byte| byte == b';').map(<[u8]>::trim_ascii);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let Some(parameter) = parts.next() else {
        return Some((name, 1000));
    };
    let value = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    Some((name, thousandths(value)?))
}

/// RFC 9110 12.4.2: `0` or `1`, and at most three decimals, which are zeros behind a 1.
fn thousandths(value: &[u8]) -> Option<u16> {
    let (first, decimals) = value.split_first()?;
    let decimals = match decimals {
        [] => decimals,
        [b'.', decimals @ ..] if decimals.len() <= 3 => decimals,
        _ => return None,
    };
    let mut thousandths = 0;
    for (digit, scale) in decimals.iter().zip([100, 10, 1]) {
        thousandths += digit.is_ascii_digit().then(|| u16::from(digit - b'0') * scale)?;
    }
    match (first, thousandths) {
        (b'0', thousandths) => Some(thousandths),
        (b'1', 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Coding::{Brotli, Gzip, Identity, Zstd};
    use super::*;

    fn order(values: &[&str]) -> Vec<Coding> {
        Accepted::of(values.iter().map(|value| value.as_bytes())).in_order().collect()
    }

    #[test]
    fn the_best_coding_comes_first() {
        let rows: [(&[&str], &[Coding]); 20] = [
            (&[], &[Identity]),
            (&[""], &[Identity]),
            (&["gzip, deflate, br, zstd"], &[Brotli, Zstd, Gzip, Identity]),
            (&["zstd", "gzip"], &[Zstd, Gzip, Identity]),
            (&["gzip;q=1.0, br;q=0.9"], &[Gzip, Brotli, Identity]),
            (&["gzip;q=0.5, br;q=0.501"], &[Brotli, Gzip, Identity]),
            (&["gzip;q=0.001"], &[Gzip, Identity]),
            (&["gzip;q=0.5, identity"], &[Identity, Gzip]),
            (&["gzip;q=0, br"], &[Brotli, Identity]),
            (&["*"], &[Brotli, Zstd, Gzip, Identity]),
            (&["*;q=0.5, gzip"], &[Gzip, Brotli, Zstd, Identity]),
            (&["*;q=0"], &[]),
            (&["*;q=0, gzip"], &[Gzip]),
            (&["identity;q=0"], &[]),
            (&["identity;q=0, gzip"], &[Gzip]),
            (&["identity;q=0.5, *;q=0"], &[Identity]),
            (&["X-GZIP , Br ; Q=0.3"], &[Gzip, Brotli, Identity]),
            (&[",, gzip ;q=0.2 ,"], &[Gzip, Identity]),
            (&["gzip, gzip;q=0"], &[Identity]),
            (&["deflate, compress, dcb"], &[Identity]),
        ];
        for (values, expected) in rows {
            assert_eq!(order(values), expected, "{values:?}");
        }
    }

    #[test]
    fn elements_with_a_fault_are_passed_over() {
        let faults = [
            "q=2",
            "q=1.001",
            "q=1.5",
            "q=0.1234",
            "q=.5",
            "q=-1",
            "q=a",
            "q=",
            "q",
            "",
            "x=1",
            "q=0,5x",
            "q=0.5;x=1",
            "q = 1",
            "q=0.+1",
            "q=01",
        ];
        for fault in faults {
            assert_eq!(order(&[&format!("br;{fault}, gzip")]), [Gzip, Identity], "{fault}");
        }
        assert_eq!(order(&["gz ip, br"]), [Brotli, Identity]);
    }

    #[test]
    fn the_best_is_among_those_there_are() {
        let accepted = Accepted::of([&b"br, gzip;q=0.5, identity;q=0"[..]].into_iter());
        assert_eq!(accepted.best(|_| true), Some(Brotli));
        assert_eq!(accepted.best(|coding| coding == Gzip || coding == Identity), Some(Gzip));
        assert_eq!(accepted.best(|coding| coding == Identity), None);
        assert!(accepted.takes(Gzip) && !accepted.takes(Zstd));
    }

    #[test]
    fn a_file_has_the_suffix_of_its_coding() {
        assert_eq!(Coding::ALL.map(Coding::suffix), [".br", ".zst", ".gz", ""]);
    }

    proptest! {
        #[test]
        fn what_is_sent_has_the_highest_weight(
            weights in proptest::collection::vec((0usize..5, 0u16..=1000), 0..8),
            available: [bool; 4],
        ) {
            let names = ["identity", "gzip", "zstd", "br", "*"];
            let element = |(name, weight): &(usize, u16)| {
                format!("{};q={}.{:03}", names[*name], weight / 1000, weight % 1000)
            };
            let value = weights.iter().map(element).collect::<Vec<_>>().join(", ");
            let last = |index: usize| weights.iter().rev().find(|(name, _)| *name == index).map(|(_, weight)| *weight);
            let weight = |coding: Coding| match last(coding as usize).or(last(4)) {
                Some(weight) => f64::from(weight),
                None if coding == Identity => 0.5,
                None => 0.0,
            };
            let candidates = Coding::ALL.into_iter().filter(|coding| available[*coding as usize]);
            let acceptable = candidates.filter(|coding| weight(*coding) > 0.0);
            let expected = acceptable.max_by(|a, b| weight(*a).total_cmp(&weight(*b)).then(a.cmp(b)));
            let found = Accepted::of([value.as_bytes()].into_iter()).best(|coding| available[coding as usize]);
            prop_assert_eq!(found, expected, "{}", value);
        }

        #[test]
        fn no_bytes_upset_the_parser(value: Vec<u8>) {
            let accepted = Accepted::of([&value[..]].into_iter());
            prop_assert!(accepted.in_order().count() <= 4);
        }
    }
}
