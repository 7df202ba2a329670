//! Trailers are the fields that follow a chunked body.

use super::grammar::trim;
use super::head::Field;

/// The trailer section of a body, borrowed from the input; empty for most bodies.
///
/// Trailers are never merged into the fields of the head (RFC 9110 6.5.1), and those that would decide framing,
/// routing, trust or the meaning of the content are not shown at all (RFC 9110 6.5.1, 6.5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trailers<'a> {
    /// Field lines that were checked, each with its CRLF.
    lines: &'a [u8],
}

/// Fields that mean something only if they come before the content.
const FORBIDDEN: [&str; 28] = [
    "accept",
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "expires",
    "forwarded",
    "host",
    "keep-alive",
    "location",
    "max-forwards",
    "origin",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
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
    let forwarding = name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("x-"))
        && name.to_ascii_lowercase().starts_with("x-forwarded");
    let conditional = name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("if-"));
    !forwarding && !conditional && !FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden))
}
