//! The character classes of HTTP, as one table.

use super::lanes::{controls, find, unlike_names};

const TOKEN: u8 = 1 << 0;
const VALUE: u8 = 1 << 1;
const PATH: u8 = 1 << 2;
const QUERY: u8 = 1 << 3;
const HOST: u8 = 1 << 4;
const METHOD_AND_TARGET: u8 = 1 << 5;

/// For each byte the classes it belongs to.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = classes_of(byte as u8);
        byte += 1;
    }
    classes
};

const fn classes_of(byte: u8) -> u8 {
    let alphanumeric = byte.is_ascii_alphanumeric();
    let visible = byte > b' ' && byte < 0x7f;
    let mut classes = 0;
    // RFC 9110 5.6.2: tchar.
    if alphanumeric
        || matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.')
        || matches!(byte, b'^' | b'_' | b'`' | b'|' | b'~')
    {
        classes |= TOKEN;
    }
    // RFC 9110 5.5: field-vchar and the white space between.
    if visible || byte >= 0x80 || matches!(byte, b' ' | b'\t') {
        classes |= VALUE;
    }
    if visible {
        classes |= METHOD_AND_TARGET;
    }
    // RFC 3986 names fewer, but browsers send these unescaped (WHATWG URL, percent-encode sets). The percent sign is
    // checked apart.
    if visible && !matches!(byte, b'"' | b'#' | b'<' | b'>' | b'%') {
        classes |= QUERY;
        if !matches!(byte, b'\\' | b'`' | b'{' | b'}' | b'?') {
            classes |= PATH;
        }
    }
    // RFC 3986 3.2.2: reg-name, less the comma (two hosts in one field) and less the percent sign (checked apart).
    if alphanumeric
        || matches!(byte, b'-' | b'.' | b'_' | b'~')
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=')
    {
        classes |= HOST;
    }
    classes
}

#[inline]
const fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// How many bytes from the start of `bytes` belong to `class`.
///
/// Eight at a time: nearly all bytes do belong, and a branch for each would cost more than its look-up.
#[inline]
fn span(bytes: &[u8], class: u8) -> usize {
    let (eights, _) = bytes.as_chunks::<8>();
    let common = |eight: &[u8; 8]| eight.iter().fold(class, |common, &byte| common & CLASSES[byte as usize]);
    let start = 8 * eights.iter().take_while(|eight| common(eight) != 0).count();
    start + bytes[start..].iter().take_while(|&&byte| is(byte, class)).count()
}

/// RFC 9110 5.6.2: `token`, which is never empty.
#[inline]
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && (find(bytes, 0, unlike_names).is_none() || span(bytes, TOKEN) == bytes.len())
}

#[inline]
pub(super) const fn is_token_byte(byte: u8) -> bool {
    is(byte, TOKEN)
}

/// RFC 9110 5.5: bytes that a field value can hold: no CR, LF, NUL or other control.
#[inline]
pub(super) fn is_value(bytes: &[u8]) -> bool {
    find(bytes, 0, controls).is_none_or(|at| bytes[at..].iter().all(|&byte| is_value_byte(byte)))
}

#[inline]
pub(super) const fn is_value_byte(byte: u8) -> bool {
    is(byte, VALUE)
}

/// Visible ASCII, the least that a request target is made of.
pub(super) fn is_visible(bytes: &[u8]) -> bool {
    span(bytes, METHOD_AND_TARGET) == bytes.len()
}

/// Where the path ends in a path and perhaps a query, as RFC 9112 3.2.1 has them: no fragment, no control, no byte
/// above 0x7f; or `None` if they are not valid.
///
/// An escape is `%` and two hexadecimal digits (RFC 3986 2.1). In the path it is not that of NUL, CR or LF: nothing
/// good hides there. In the query these are what forms send for a line break.
#[inline]
pub(super) fn path_end(bytes: &[u8]) -> Option<usize> {
    let mut end = 0;
    loop {
        end += span(&bytes[end..], PATH);
        match &bytes[end..] {
            [] => return Some(end),
            [b'?', query @ ..] => return is_query(query).then_some(end),
            [b'%', b'0', b'0' | b'a' | b'A' | b'd' | b'D', ..] => return None,
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => end += 3,
            _ => return None,
        }
    }
}

/// RFC 3986 3.4, and what browsers send besides.
#[inline]
fn is_query(bytes: &[u8]) -> bool {
    let mut end = 0;
    loop {
        end += span(&bytes[end..], QUERY);
        match &bytes[end..] {
            [] => return true,
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => end += 3,
            _ => return false,
        }
    }
}

/// `uri-host [ ":" port ]` of RFC 9110 7.2, with a host that is not empty, and no userinfo.
pub(super) fn is_host(bytes: &[u8]) -> bool {
    split_host(bytes).is_some()
}

/// A host and its port, which is empty when there is none; or `None` if it is no authority without userinfo.
pub(super) fn split_host(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = match bytes {
        [b'[', address @ ..] => {
            let end = memchr::memchr(b']', address)?;
            let address = core::str::from_utf8(&address[..end]).ok()?;
            address.parse::<core::net::Ipv6Addr>().ok()?;
            end + 2
        }
        _ => span_of_name(bytes)?,
    };
    let (host, port) = bytes.split_at(end);
    match port {
        _ if host.is_empty() => None,
        [] => Some((host, port)),
        [b':', port @ ..] if is_port(port) => Some((host, port)),
        _ => None,
    }
}

/// How many bytes of a registered name or IPv4 address `bytes` begins with.
fn span_of_name(bytes: &[u8]) -> Option<usize> {
    let mut end = 0;
    loop {
        end += span(&bytes[end..], HOST);
        match &bytes[end..] {
            // An escaped control is none of a name.
            [b'%', b'0' | b'1', ..] | [b'%', b'7', b'f' | b'F', ..] => return None,
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => end += 3,
            [b'%', ..] => return None,
            _ => return Some(end),
        }
    }
}

/// RFC 3986 3.2.3 has any digits, or none; TCP has 16 bits, and five digits suffice for them.
#[inline]
fn is_port(bytes: &[u8]) -> bool {
    bytes.len() <= 5
        && bytes.iter().all(u8::is_ascii_digit)
        && bytes.iter().fold(0, |port, digit| port * 10 + u32::from(digit - b'0')) <= 0xffff
}

/// Digits and nothing else, within 64 bits.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// `value` without the spaces and tabs around it (RFC 9110 5.6.3: OWS).
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The elements of a comma-separated list without the white space around them, empty ones too (RFC 9110 5.6.1).
///
/// A comma inside a quoted string divides nothing.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value
        .split(move |&byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ => {}
            }
            byte == b',' && !quoted
        })
        .map(trim)
}
