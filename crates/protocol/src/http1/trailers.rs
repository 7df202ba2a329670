//! Trailers are the fields that follow a chunked body.

use super::fields::Field;
use super::grammar::trim;

/// The trailer section of a body, borrowed from the input; empty for most bodies.
///
/// Trailers are never merged into the fields of the head (RFC 9110 6.5.1), and those that would decide framing,
/// routing, trust or the meaning of the content are not shown at all (RFC 9110 6.5.1, 6.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trailers<'a> {
    /// Field lines that were checked, each with its CRLF.
    lines: &'a [u8],
}

/// Families of fields that decide trust, routing or conditions, by how their names begin.
const FAMILIES: &[&str] = &[
    "access-control-",
    "cf-",
    "if-",
    "proxy-",
    "sec-",
    "x-forwarded",
    "x-http-method",
    "x-method-override",
    "x-original-",
    "x-real-ip",
    "x-rewrite-",
];

/// Fields that mean something only if they come before the content.
const FORBIDDEN: &[&str] = &[
    "accept",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "clear-site-data",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "priority",
    "proxy",
    "range",
    "referer",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
];

impl<'a> Trailers<'a> {
    pub(super) fn new(lines: &'a [u8]) -> Self {
        Trailers { lines }
    }

    /// The trailer fields in the order they came in.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        self.lines.split(|&byte| byte == b'\n').filter_map(read_line).filter(|field| is_allowed(field.name))
    }

    /// The value of the first trailer field called `name`, in any case.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.fields().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }
}

fn read_line(line: &[u8]) -> Option<Field<'_>> {
    let line = line.strip_suffix(b"\r")?;
    let (name, value) = line.split_at(memchr::memchr(b':', line)?);
    Some(Field { name: core::str::from_utf8(name).ok()?, value: trim(&value[1..]) })
}

/// Whether a field of this name may be a trailer.
pub(super) fn is_allowed(name: &str) -> bool {
    let name = name.as_bytes();
    let begins = |family: &&str| name.get(..family.len()).is_some_and(|start| is_read_as(start, family));
    !FAMILIES.iter().any(begins) && !FORBIDDEN.iter().any(|forbidden| is_read_as(name, forbidden))
}

/// Whether `name` is `known`, in any case, to those too who take `_` for `-` as CGI does (RFC 3875 4.1.18).
fn is_read_as(name: &[u8], known: &str) -> bool {
    let same = |(a, b): (u8, u8)| a.eq_ignore_ascii_case(&b) || (a == b'_' && b == b'-');
    name.len() == known.len() && name.iter().copied().zip(known.bytes()).all(same)
}
