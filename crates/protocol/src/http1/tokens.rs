//! Tokens are what a head is cut into: its start line and its fields, each byte looked at once.
//!
//! Only what is whole and without a flaw is cut. For everything else the answer is `None`, and the [scan](super::scan)
//! says what it is: the beginning of a head, or what is wrong with it.

use super::grammar::{is_token_byte, is_value_byte};
use super::head::{Method, Version};
use super::lanes::{controls, controls_and_spaces, find, unlike_names, unlike_paths};
use super::target::Target;

/// A field line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    /// A token.
    pub(super) name: &'a [u8],
    /// The value without the white space around it.
    pub(super) value: &'a [u8],
    /// All that is here from the value on.
    pub(super) rest: &'a [u8],
}

/// Longer methods are answered 501; the longest that is registered has 17 bytes.
pub(super) const MAX_METHOD: usize = 32;

/// The request line that `head` begins with (RFC 9112 3), and the lines behind it.
#[inline]
pub(super) fn request_line(head: &[u8]) -> Option<(Method<'_>, Target<'_>, Version, &[u8])> {
    let (method, rest) = token(head, b' ').filter(|(method, _)| method.len() <= MAX_METHOD)?;
    let method = Method::of_token(method);
    let (target, rest) = match rest.split_at_checked(find(rest, 0, unlike_paths)?)? {
        (path @ [b'/', ..], rest @ [b' ', ..]) if method != Method::Connect => (Target::of_path(path), rest),
        _ => {
            let (target, rest) = rest.split_at_checked(find(rest, 0, controls_and_spaces)?)?;
            (Target::parse(method, target).ok()?, rest)
        }
    };
    let (version, lines) = match rest.strip_prefix(b" HTTP/1.1\r\n") {
        Some(lines) => (Version::Http11, lines),
        None => (Version::Http10, rest.strip_prefix(b" HTTP/1.0\r\n")?),
    };
    Some((method, target, version, lines))
}

/// Cuts off the field line that `lines` begin with (RFC 9112 5), which is not the empty one.
#[inline(always)]
pub(super) fn field(lines: &[u8]) -> Option<(Line<'_>, &[u8])> {
    let (name, rest) = token(lines, b':')?;
    // Nearly always one space in front, and none behind.
    let mut rest = rest.strip_prefix(b" ").unwrap_or(rest);
    while let [b' ' | b'\t', value @ ..] = rest {
        rest = value;
    }
    let (mut value, next) = value(rest)?;
    while let [inner @ .., b' ' | b'\t'] = value {
        value = inner;
    }
    Some((Line { name, value, rest }, next))
}

/// The token that `bytes` begin with (RFC 9110 5.6.2), and what stands behind its `end`.
#[inline(always)]
fn token(bytes: &[u8], end: u8) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        at = find(bytes, at, unlike_names)?;
        match bytes.split_at_checked(at)? {
            (token @ [_, ..], [byte, rest @ ..]) if *byte == end => return Some((token, rest)),
            // What is not usual is gone over by the byte, with what is behind it: so it costs its length.
            (_, rest @ [byte, ..]) if is_token_byte(*byte) => at += run(rest, is_token_byte),
            _ => return None,
        }
    }
}

/// How many bytes that are like this stand in front.
fn run(bytes: &[u8], is_like_this: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|&&byte| is_like_this(byte)).count()
}

/// The bytes of a value, or of a reason, that `bytes` begin with (RFC 9110 5.5), and what stands behind its CRLF.
#[inline(always)]
pub(super) fn value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        at = find(bytes, at, controls)?;
        match bytes.split_at_checked(at)? {
            (value, [b'\r', b'\n', rest @ ..]) => return Some((value, rest)),
            (_, rest @ [b'\t', ..]) => at += run(rest, is_value_byte),
            _ => return None,
        }
    }
}
