//! A field line is a field that was checked once, and is written many times.

use super::error::WriteError;
use super::grammar::{is_token, is_value};

/// A whole field line, known to be valid: `Name: value` and CRLF.
///
/// ```
/// use campanile_protocol::http1::FieldLine;
///
/// const TEXT: FieldLine = FieldLine::from_static("Content-Type: text/plain\r\n");
/// ```
///
/// A line that would split a response does not compile:
///
/// ```compile_fail
/// # use campanile_protocol::http1::FieldLine;
/// const SPLIT: FieldLine = FieldLine::from_static("A: b\r\n\r\n");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldLine {
    line: &'static str,
}

impl FieldLine {
    /// Checks the line; in a `const`, when the program is compiled.
    ///
    /// # Panics
    /// If `line` is not a token, a colon, a value and CRLF; or if the field is one of those that the writer writes
    /// itself.
    pub const fn from_static(line: &'static str) -> Self {
        let bytes = line.as_bytes();
        let end = bytes.len().saturating_sub(2);
        assert!(
            bytes.len() > 3 && bytes[end] == b'\r' && bytes[end + 1] == b'\n',
            "field line must end in CRLF"
        );
        let mut colon = 0;
        while bytes[colon] != b':' {
            assert!(super::grammar::is_token_byte(bytes[colon]), "field name must be a token");
            colon += 1;
        }
        assert!(colon > 0, "field name must not be empty");
        let (name, mut value) = bytes.split_at(colon);
        while let [first, rest @ ..] = value {
            assert!(
                rest.len() < 2 || super::grammar::is_value_byte(*first),
                "field value must hold no control"
            );
            value = rest;
        }
        assert!(
            !is_framing(name),
            "Content-Length, Transfer-Encoding and Connection are written by the writer"
        );
        FieldLine { line }
    }

    #[inline]
    pub(super) fn as_bytes(self) -> &'static [u8] {
        self.line.as_bytes()
    }
}

/// Checks a field before it is written.
#[inline]
pub(super) fn check(name: &str, value: &[u8]) -> Result<(), WriteError> {
    if !is_token(name.as_bytes()) {
        return Err(WriteError::FieldName);
    }
    if !is_value(value) {
        return Err(WriteError::FieldValue);
    }
    if is_framing(name.as_bytes()) { Err(WriteError::FramingField) } else { Ok(()) }
}

/// Whether the writer alone writes this field.
const fn is_framing(name: &[u8]) -> bool {
    match name.len() {
        10 => name.eq_ignore_ascii_case(b"connection"),
        14 => name.eq_ignore_ascii_case(b"content-length"),
        17 => name.eq_ignore_ascii_case(b"transfer-encoding"),
        _ => false,
    }
}
