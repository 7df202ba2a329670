//! A field block is fields that were checked once, and are written into every answer as one copy.

use super::error::WriteError;
use super::field_line::{self, FieldLine};
use crate::sink::Full;

/// Whole field lines, known to be valid, in memory of their own: what a server writes into each of its answers.
///
/// It holds up to `N` bytes and never allocates. A server makes a new one when the second changes:
///
/// ```
/// use campanile_protocol::http1::{Exchange, FieldBlock, FieldLine, ResponseWriter};
///
/// const SERVER: FieldLine = FieldLine::from_static("Server: campanile\r\n");
///
/// let mut block = FieldBlock::<128>::new();
/// block.line(SERVER)?.field("Date", b"Thu, 01 Jan 1970 00:00:00 GMT")?;
///
/// let mut out = Vec::new();
/// let mut response = ResponseWriter::begin(&mut out, Exchange::refused(), 204)?;
/// response.block(&block)?;
/// response.body(b"")?;
/// assert!(out.starts_with(b"HTTP/1.1 204 No Content\r\nServer: campanile\r\nDate: Thu"));
/// # Ok::<(), campanile_protocol::http1::WriteError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct FieldBlock<const N: usize> {
    memory: [u8; N],
    len: usize,
}

impl<const N: usize> FieldBlock<N> {
    /// A block without fields.
    pub const fn new() -> Self {
        FieldBlock { memory: [0; N], len: 0 }
    }

    /// Adds a field.
    ///
    /// # Errors
    /// [`WriteError::FieldName`], [`FieldValue`](WriteError::FieldValue) or
    /// [`FramingField`](WriteError::FramingField) if the field is not for writing (RFC 9110 5.1, 5.5; RFC 9112 6, 9.6);
    /// [`WriteError::Full`] when the line does not fit. The block is as it was.
    pub fn field(&mut self, name: &str, value: &[u8]) -> Result<&mut Self, WriteError> {
        field_line::check(name, value)?;
        self.push(&[name.as_bytes(), b": ", value, b"\r\n"])
    }

    /// Adds a field that was checked before.
    ///
    /// # Errors
    /// [`WriteError::Full`] when the line does not fit. The block is as it was.
    pub fn line(&mut self, line: FieldLine) -> Result<&mut Self, WriteError> {
        self.push(&[line.as_bytes()])
    }

    /// Removes all fields.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The lines as they are written, each with its CRLF.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.memory[..self.len]
    }

    fn push(&mut self, pieces: &[&[u8]]) -> Result<&mut Self, WriteError> {
        let (needed, room) = (pieces.iter().map(|piece| piece.len()).sum(), N - self.len);
        if needed > room {
            return Err(WriteError::Full(Full { needed, room }));
        }
        for piece in pieces {
            self.memory[self.len..][..piece.len()].copy_from_slice(piece);
            self.len += piece.len();
        }
        Ok(self)
    }
}

impl<const N: usize> Default for FieldBlock<N> {
    fn default() -> Self {
        FieldBlock::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_whole_lines_that_can_neither_split_nor_frame() {
        let mut block = FieldBlock::<24>::new();
        for (name, value, error) in [
            ("", &b"x"[..], WriteError::FieldName),
            ("A b", b"x", WriteError::FieldName),
            ("A", b"x\r\nB: c", WriteError::FieldValue),
            ("A", b"x\ny", WriteError::FieldValue),
            ("A", b"\0", WriteError::FieldValue),
            ("content-length", b"1", WriteError::FramingField),
            ("Transfer-Encoding", b"chunked", WriteError::FramingField),
            ("Connection", b"close", WriteError::FramingField),
            ("A", b"01234567890123456789", WriteError::Full(Full { needed: 25, room: 24 })),
        ] {
            assert_eq!(block.field(name, value).err(), Some(error), "{name}");
            assert_eq!(block.as_bytes(), b"");
        }
        block.field("A", b"1").unwrap().line(FieldLine::from_static("B: 2\r\n")).unwrap();
        block.field("C", b"12345").unwrap();
        assert_eq!(block.as_bytes(), b"A: 1\r\nB: 2\r\nC: 12345\r\n");
        assert_eq!(block.field("D", b"").err(), Some(WriteError::Full(Full { needed: 5, room: 2 })));
        assert_eq!(block.as_bytes().len(), 22);
        block.clear();
        assert_eq!(block.field("D", b"").unwrap().as_bytes(), b"D: \r\n");
    }
}
