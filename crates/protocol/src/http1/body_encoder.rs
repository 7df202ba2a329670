//! The body encoder writes the body of a response as its head framed it, and holds it to the length promised.

use super::digits::Digits;
use super::error::WriteError;
use super::exchange::Exchange;
use super::field_line;
use super::response::write_fields;
use super::trailers::is_allowed;
use crate::sink::Sink;

/// The longest frame around a piece: 16 hexadecimal digits and two CRLF.
const CHUNK_OVERHEAD: usize = 20;

/// Writes one body, piece by piece, then its end; made by [`ResponseWriter`](super::ResponseWriter).
///
/// ```
/// use campanile_protocol::http1::{Exchange, ResponseWriter};
///
/// let mut out = Vec::new();
/// let mut body = ResponseWriter::begin(&mut out, Exchange::refused(), 200)?.stream()?;
/// out.clear();
/// body.write(b"hello", &mut out)?;
/// body.finish(&[], &mut out)?;
/// assert_eq!(out, b"5\r\nhello\r\n0\r\n\r\n");
/// # Ok::<(), campanile_protocol::http1::WriteError>(())
/// ```
#[derive(Debug, Clone)]
pub struct BodyEncoder {
    framing: Framing,
    exchange: Exchange,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Bytes still owed.
    Length(u64),
    Chunked,
    UntilClose,
    /// The response has no body, whatever is written: to HEAD, or by its status.
    Suppressed,
    Done,
}

impl BodyEncoder {
    pub(super) fn new(framing: Framing, exchange: Exchange) -> Self {
        BodyEncoder { framing, exchange }
    }

    /// Whether what is written goes nowhere, and need not be produced: the request was HEAD.
    pub fn is_suppressed(&self) -> bool {
        self.framing == Framing::Suppressed
    }

    /// Whether the connection persists when the body is complete.
    pub fn keep_alive(&self) -> bool {
        self.exchange.keep_alive()
    }

    /// Bytes still owed, if the length was promised.
    pub fn remaining(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(remaining) => Some(remaining),
            Framing::Suppressed | Framing::Done => Some(0),
            Framing::Chunked | Framing::UntilClose => None,
        }
    }

    /// The longest piece that [`write`](Self::write) takes when the sink has `room` bytes.
    pub fn longest_piece(&self, room: usize) -> usize {
        match self.framing {
            Framing::Length(remaining) => usize::try_from(remaining).unwrap_or(usize::MAX).min(room),
            Framing::Chunked => room.saturating_sub(CHUNK_OVERHEAD),
            Framing::UntilClose => room,
            Framing::Suppressed => usize::MAX,
            Framing::Done => 0,
        }
    }

    /// Writes a piece of the body, whole or not at all; an empty piece is nothing.
    ///
    /// # Errors
    /// [`WriteError::Overrun`] if it is more than was promised; [`WriteError::Full`]. Nothing was written.
    #[inline]
    pub fn write<S: Sink + ?Sized>(&mut self, data: &[u8], sink: &mut S) -> Result<(), WriteError> {
        if data.is_empty() {
            return Ok(());
        }
        match self.framing {
            Framing::Length(_) | Framing::Done => {
                let after = self.after(data.len() as u64)?;
                sink.write(data)?;
                self.framing = after;
            }
            Framing::Chunked => {
                let size = Digits::hexadecimal(data.len() as u64);
                sink.write_pieces(&[size.as_bytes(), b"\r\n", data, b"\r\n"])?;
            }
            Framing::UntilClose => sink.write(data)?,
            Framing::Suppressed => {}
        }
        Ok(())
    }

    /// Writes what stands before a piece of `length` bytes that goes out by another way than this sink, such as a file;
    /// [`end_piece`](Self::end_piece) follows it. A suppressed body must not be sent.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn begin_piece<S: Sink + ?Sized>(&mut self, length: u64, sink: &mut S) -> Result<(), WriteError> {
        if length == 0 {
            return Ok(());
        }
        self.framing = self.after(length)?;
        if self.framing == Framing::Chunked {
            sink.write_pieces(&[Digits::hexadecimal(length).as_bytes(), b"\r\n"])?;
        }
        Ok(())
    }

    /// `length` bytes of a body whose length was promised were not sent after all, and will be written again.
    pub fn take_back(&mut self, length: u64) {
        if let Framing::Length(remaining) = &mut self.framing {
            *remaining += length;
        }
    }

    /// Writes what stands after a piece of more than no bytes that went out by another way.
    ///
    /// # Errors
    /// [`WriteError::Full`]: nothing was written.
    pub fn end_piece<S: Sink + ?Sized>(&mut self, sink: &mut S) -> Result<(), WriteError> {
        if self.framing == Framing::Chunked {
            sink.write(b"\r\n")?;
        }
        Ok(())
    }

    /// Writes the end of the body, with trailers if it is chunked; elsewhere they are dropped (RFC 9110 6.5.1).
    ///
    /// # Errors
    /// [`WriteError::Short`] if less than was promised was written: the connection must be aborted, or the client takes
    /// what follows for the rest. [`WriteError::FieldName`], [`FieldValue`](WriteError::FieldValue) or
    /// [`FramingField`](WriteError::FramingField) for a field that is no trailer; [`WriteError::Full`]. Nothing was
    /// written.
    pub fn finish<S: Sink + ?Sized>(
        &mut self,
        trailers: &[(&str, &[u8])],
        sink: &mut S,
    ) -> Result<Exchange, WriteError> {
        match self.framing {
            Framing::Length(missing) if missing > 0 => return Err(WriteError::Short { missing }),
            Framing::Chunked => write_last_chunk(trailers, sink)?,
            _ => {}
        }
        self.framing = Framing::Done;
        Ok(self.exchange)
    }

    /// The framing when `length` more bytes are written.
    fn after(&self, length: u64) -> Result<Framing, WriteError> {
        match self.framing {
            Framing::Length(remaining) => {
                Ok(Framing::Length(remaining.checked_sub(length).ok_or(WriteError::Overrun)?))
            }
            Framing::Done => Err(WriteError::Overrun),
            framing => Ok(framing),
        }
    }
}

fn write_last_chunk<S: Sink + ?Sized>(trailers: &[(&str, &[u8])], sink: &mut S) -> Result<(), WriteError> {
    if trailers.is_empty() {
        return Ok(sink.write(b"0\r\n\r\n")?);
    }
    for (name, value) in trailers {
        field_line::check(name, value)?;
        if !is_allowed(name) {
            return Err(WriteError::FramingField);
        }
    }
    let mark = sink.len();
    let written = sink.write(b"0\r\n").map_err(WriteError::from).and_then(|()| write_fields(sink, trailers));
    if written.is_err() {
        sink.truncate(mark);
    }
    written
}
