//! The response writer writes the head of a response, and so decides how its body is framed.

use super::body_encoder::{BodyEncoder, Framing};
use super::digits::Digits;
use super::error::WriteError;
use super::exchange::Exchange;
use super::field_block::FieldBlock;
use super::field_line::{self, FieldLine};
use super::head::Version;
use super::status::{common_line, reason};
use crate::sink::Sink;

/// Writes one response into a sink: the status line at once, fields as they come, then the end of the head.
///
/// Content-Length, Transfer-Encoding and Connection are the writer's: it frames the body as the request allows. A
/// writer that is dropped before the end of the head takes back all it wrote, so that a sink never holds half a
/// response.
///
/// ```
/// use campanile_protocol::http1::{Exchange, ResponseWriter};
///
/// let mut out = Vec::new();
/// let mut response = ResponseWriter::begin(&mut out, Exchange::refused(), 200)?;
/// response.field("Content-Type", b"text/plain")?;
/// assert!(response.field("X", b"a\r\nSet-Cookie: b").is_err()); // cannot split the response
/// let exchange = response.body(b"hello")?;
///
/// let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";
/// assert_eq!(out, [&head[..], b"hello"].concat());
/// assert!(!exchange.keep_alive());
/// # Ok::<(), campanile_protocol::http1::WriteError>(())
/// ```
#[derive(Debug)]
pub struct ResponseWriter<'s, S: Sink + ?Sized> {
    sink: &'s mut S,
    /// The length of the sink before this response.
    mark: usize,
    exchange: Exchange,
    status: u16,
    is_complete: bool,
}

impl<'s, S: Sink + ?Sized> ResponseWriter<'s, S> {
    /// Writes the status line of a final response. The version is always ours, HTTP/1.1 (RFC 9110 6.2).
    ///
    /// # Errors
    /// [`WriteError::Status`] if `status` is not from 200 to 599; [`WriteError::Full`].
    #[inline]
    pub fn begin(sink: &'s mut S, exchange: Exchange, status: u16) -> Result<Self, WriteError> {
        if !(200..600).contains(&status) {
            return Err(WriteError::Status);
        }
        let mark = sink.len();
        match common_line(status) {
            Some(line) => sink.write(line)?,
            None => write_status_line(sink, status)?,
        }
        Ok(ResponseWriter { sink, mark, exchange, status, is_complete: false })
    }

    /// Writes a field.
    ///
    /// # Errors
    /// [`WriteError::FieldName`], [`FieldValue`](WriteError::FieldValue) or
    /// [`FramingField`](WriteError::FramingField) if the field is not for writing; [`WriteError::Full`]. Nothing was
    /// written, and the response can go on.
    #[inline]
    pub fn field(&mut self, name: &str, value: &[u8]) -> Result<&mut Self, WriteError> {
        field_line::check(name, value)?;
        self.sink.write_pieces(&[name.as_bytes(), b": ", value, b"\r\n"])?;
        Ok(self)
    }

    /// Writes a field that was checked before: one copy.
    ///
    /// # Errors
    /// [`WriteError::Full`]: nothing was written.
    #[inline]
    pub fn line(&mut self, line: FieldLine) -> Result<&mut Self, WriteError> {
        self.sink.write(line.as_bytes())?;
        Ok(self)
    }

    /// Writes fields that were checked before: one copy.
    ///
    /// # Errors
    /// [`WriteError::Full`]: nothing was written.
    #[inline]
    pub fn block<const N: usize>(&mut self, block: &FieldBlock<N>) -> Result<&mut Self, WriteError> {
        self.sink.write(block.as_bytes())?;
        Ok(self)
    }

    /// Closes the connection after this response.
    pub fn close(&mut self) -> &mut Self {
        self.exchange = self.exchange.closing();
        self
    }

    /// Ends the response with this body, and says whether the connection persists.
    ///
    /// To HEAD only the length of the body is sent.
    ///
    /// # Errors
    /// [`WriteError::BodyNotAllowed`] if `body` is not empty where the status forbids one (204, 205, 304, or 2xx to
    /// CONNECT); [`WriteError::Full`]. The response is taken back.
    #[inline]
    pub fn body(mut self, body: &[u8]) -> Result<Exchange, WriteError> {
        self.check_content(body.is_empty())?;
        if self.has_no_length() {
            return self.end_without_length();
        }
        let length = Digits::decimal(body.len() as u64);
        let body = if self.exchange.is_head { b"" } else { body };
        let end = self.end_of_head();
        self.sink.write_pieces(&[b"Content-Length: ", length.as_bytes(), end, body])?;
        self.is_complete = true;
        Ok(self.exchange)
    }

    /// Ends the head; a body of exactly `length` bytes follows, by the encoder that is returned.
    ///
    /// # Errors
    /// As [`body`](Self::body).
    pub fn length(mut self, length: u64) -> Result<BodyEncoder, WriteError> {
        self.check_content(length == 0)?;
        if self.has_no_length() {
            let exchange = self.end_without_length()?;
            return Ok(BodyEncoder::new(Framing::Suppressed, exchange));
        }
        let framing = if self.exchange.is_head { Framing::Suppressed } else { Framing::Length(length) };
        let digits = Digits::decimal(length);
        let end = self.end_of_head();
        self.sink.write_pieces(&[b"Content-Length: ", digits.as_bytes(), end])?;
        self.is_complete = true;
        Ok(BodyEncoder::new(framing, self.exchange))
    }

    /// Ends the head; a body of unknown length follows, by the encoder that is returned: chunked, or to an HTTP/1.0
    /// client up to the close of the connection (RFC 9112 6.1, 6.3).
    ///
    /// # Errors
    /// As [`body`](Self::body); a status that forbids a body forbids this too.
    pub fn stream(mut self) -> Result<BodyEncoder, WriteError> {
        self.check_content(false)?;
        let (field, framing): (&[u8], _) = match self.exchange.version {
            Version::Http11 => (b"Transfer-Encoding: chunked", Framing::Chunked),
            Version::Http10 => (b"", Framing::UntilClose),
        };
        if framing == Framing::UntilClose {
            self.close();
        }
        let framing = if self.exchange.is_head { Framing::Suppressed } else { framing };
        let end = self.end_of_head();
        let end = if field.is_empty() { &end[2..] } else { end };
        self.sink.write_pieces(&[field, end])?;
        self.is_complete = true;
        Ok(BodyEncoder::new(framing, self.exchange))
    }

    fn end_without_length(mut self) -> Result<Exchange, WriteError> {
        self.sink.write(&self.end_of_head()[2..])?;
        self.is_complete = true;
        Ok(self.exchange)
    }

    /// RFC 9110 15.3.5, 15.3.6, 15.4.5, 9.3.6: these statuses have no content.
    #[inline]
    fn check_content(&self, is_empty: bool) -> Result<(), WriteError> {
        let is_allowed = is_empty || !(self.has_no_length() || self.status == 205);
        if is_allowed { Ok(()) } else { Err(WriteError::BodyNotAllowed) }
    }

    /// RFC 9112 6.3, RFC 9110 8.6: these end with their head, whatever their fields say.
    #[inline]
    fn has_no_length(&self) -> bool {
        matches!(self.status, 204 | 304) || (self.exchange.is_connect && self.status < 300)
    }

    /// The CRLF of the line before, what the client must be told of the connection (RFC 9112 9.3, 9.6), and the empty
    /// line: one piece, since most answers have nothing to tell.
    #[inline]
    fn end_of_head(&self) -> &'static [u8] {
        match (self.exchange.version, self.exchange.keep_alive) {
            (Version::Http11, true) => b"\r\n\r\n",
            (Version::Http10, true) => b"\r\nConnection: keep-alive\r\n\r\n",
            (_, false) => b"\r\nConnection: close\r\n\r\n",
        }
    }
}

impl<S: Sink + ?Sized> Drop for ResponseWriter<'_, S> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_complete {
            self.sink.truncate(self.mark);
        }
    }
}

#[cold]
fn write_status_line<S: Sink + ?Sized>(sink: &mut S, status: u16) -> Result<(), WriteError> {
    let code = Digits::decimal(u64::from(status));
    Ok(sink.write_pieces(&[b"HTTP/1.1 ", code.as_bytes(), b" ", reason(status).as_bytes(), b"\r\n"])?)
}

/// Writes `100 Continue`, for a client that [expects](super::RequestHead::expects_continue) it (RFC 9110 15.2.1).
///
/// # Errors
/// [`WriteError::Full`]: nothing was written.
pub fn write_continue<S: Sink + ?Sized>(sink: &mut S) -> Result<(), WriteError> {
    Ok(sink.write(b"HTTP/1.1 100 Continue\r\n\r\n")?)
}

/// Writes a whole interim response, such as 103 (RFC 9110 15.2, RFC 8297); never to HTTP/1.0 clients.
///
/// # Errors
/// [`WriteError::Status`] if `status` is not from 100 to 199, or is 101; [`WriteError::FieldName`] and
/// [`FieldValue`](WriteError::FieldValue); [`WriteError::Full`]. Nothing was written.
pub fn write_interim<S: Sink + ?Sized>(
    sink: &mut S,
    status: u16,
    fields: &[(&str, &[u8])],
) -> Result<(), WriteError> {
    if !(100..200).contains(&status) || status == 101 {
        return Err(WriteError::Status);
    }
    fields.iter().try_for_each(|(name, value)| field_line::check(name, value))?;
    write_head(sink, |sink| {
        write_status_line(sink, status)?;
        write_fields(sink, fields)
    })
}

/// Writes `101 Switching Protocols`: what follows the request and this response is `protocol` (RFC 9110 15.2.2).
///
/// # Errors
/// [`WriteError::FieldName`] and [`FieldValue`](WriteError::FieldValue); [`WriteError::Full`]. Nothing was written.
pub fn write_switching_protocols<S: Sink + ?Sized>(
    sink: &mut S,
    protocol: &[u8],
    fields: &[(&str, &[u8])],
) -> Result<(), WriteError> {
    field_line::check("Upgrade", protocol)?;
    fields.iter().try_for_each(|(name, value)| field_line::check(name, value))?;
    write_head(sink, |sink| {
        let start = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: ";
        sink.write_pieces(&[start, protocol, b"\r\n"])?;
        write_fields(sink, fields)
    })
}

/// Writes all that `write` writes, or nothing.
fn write_head<S: Sink + ?Sized>(
    sink: &mut S,
    write: impl FnOnce(&mut S) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let mark = sink.len();
    let written = write(sink);
    if written.is_err() {
        sink.truncate(mark);
    }
    written
}

/// Writes fields and the empty line that ends them.
pub(super) fn write_fields<S: Sink + ?Sized>(
    sink: &mut S,
    fields: &[(&str, &[u8])],
) -> Result<(), WriteError> {
    for (name, value) in fields {
        sink.write_pieces(&[name.as_bytes(), b": ", value, b"\r\n"])?;
    }
    Ok(sink.write(b"\r\n")?)
}
