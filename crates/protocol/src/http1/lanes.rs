//! Lanes are sixteen bytes that are asked one question at once, which is one instruction for all of them.
//!
//! Nearly all bytes of a head are ordinary. The questions here find the first that is not; whoever asks looks at that
//! one by itself.

use wide::u8x16;

const LANES: usize = 16;

/// Where from `at` on the first byte is that `question` names; `None` if there is none.
#[inline(always)]
pub(super) fn find(bytes: &[u8], mut at: usize, question: impl Fn(u8x16) -> u8x16) -> Option<usize> {
    while let Some(lanes) = bytes.get(at..)?.first_chunk() {
        let named = question(u8x16::new(*lanes)).to_bitmask();
        if named != 0 {
            return Some(at + named.trailing_zeros() as usize);
        }
        at += LANES;
    }
    find_in_rest(bytes, at, question)
}

/// The same for the last bytes, which are fewer than there are lanes: those before them are looked at once more.
#[inline(always)]
fn find_in_rest(bytes: &[u8], at: usize, question: impl Fn(u8x16) -> u8x16) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let (lanes, known) = match bytes.last_chunk() {
        Some(lanes) => (*lanes, LANES - rest.len()),
        None => (padded(rest), 0),
    };
    let named = question(u8x16::new(lanes)).to_bitmask() >> known;
    let lane = named.trailing_zeros() as usize;
    (lane < rest.len()).then_some(at + lane)
}

#[inline]
fn padded(few: &[u8]) -> [u8; LANES] {
    let mut lanes = [0; LANES];
    lanes[..few.len()].copy_from_slice(few);
    lanes
}

/// Lanes from `first` to `last`.
#[inline(always)]
fn within(lanes: u8x16, first: u8, last: u8) -> u8x16 {
    let above_first = lanes - u8x16::splat(first);
    above_first.simd_eq(above_first.min(u8x16::splat(last - first)))
}

#[inline(always)]
fn letters(lanes: u8x16) -> u8x16 {
    within(lanes | u8x16::splat(0x20), b'a', b'z')
}

/// No letter and no hyphen: nearly all names of fields are made of these.
#[inline(always)]
pub(super) fn unlike_names(lanes: u8x16) -> u8x16 {
    !(letters(lanes) | lanes.simd_eq(u8x16::splat(b'-')))
}

/// No letter, digit, `-`, `.` or `/`: most paths are made of these.
#[inline(always)]
pub(super) fn unlike_paths(lanes: u8x16) -> u8x16 {
    !(letters(lanes) | within(lanes, b'-', b'9'))
}

/// No letter, digit, `-` or `.`: most hosts are made of these.
#[inline(always)]
pub(super) fn unlike_hosts(lanes: u8x16) -> u8x16 {
    !(letters(lanes) | within(lanes, b'0', b'9') | within(lanes, b'-', b'.'))
}

/// A control, and tab is one: where a value can end, and where it cannot go on.
#[inline(always)]
pub(super) fn controls(lanes: u8x16) -> u8x16 {
    within(lanes, 0, 0x1f) | lanes.simd_eq(u8x16::splat(0x7f))
}

/// A control or a space: where a part of the start line ends.
#[inline(always)]
pub(super) fn controls_and_spaces(lanes: u8x16) -> u8x16 {
    within(lanes, 0, b' ') | lanes.simd_eq(u8x16::splat(0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question, and which bytes it names.
    type Known = (fn(u8x16) -> u8x16, fn(u8) -> bool);

    const QUESTIONS: [Known; 5] = [
        (unlike_names, |byte| !byte.is_ascii_alphabetic() && byte != b'-'),
        (unlike_paths, |byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'.' | b'/')),
        (unlike_hosts, |byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'.')),
        (controls, |byte| byte.is_ascii_control()),
        (controls_and_spaces, |byte| byte.is_ascii_control() || byte == b' '),
    ];

    #[test]
    fn the_first_byte_that_is_named_is_found_wherever_it_is() {
        for (question, is_named) in QUESTIONS {
            // Miri takes long about each.
            for len in (0..=40).step_by(if cfg!(miri) { 13 } else { 1 }) {
                for at in 0..=len {
                    for byte in (0..=u8::MAX).step_by(if cfg!(miri) { 31 } else { 1 }) {
                        let mut bytes = [b'a'; 41];
                        let found = find(&bytes[..len], at, question);
                        assert_eq!(found, None);
                        // Whatever comes behind the first does not matter.
                        bytes[at..].fill(byte);
                        let expected = (is_named(byte) && at < len).then_some(at);
                        for from in 0..=at {
                            assert_eq!(find(&bytes[..len], from, question), expected, "{byte}: {from}, {at}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_lane_says_nothing_of_another() {
        for (question, is_named) in QUESTIONS {
            let pairs = (0..=u16::MAX).step_by(if cfg!(miri) { 1009 } else { 1 });
            for (first, second) in pairs.map(|pair| ((pair >> 8) as u8, pair as u8)) {
                let expected = [first, second].iter().position(|&byte| is_named(byte));
                assert_eq!(find(&[first, second], 0, question), expected, "{first} {second}");
            }
        }
    }
}
