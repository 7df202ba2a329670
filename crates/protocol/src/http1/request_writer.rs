//! The request writer writes the head of a request, for clients and proxies.

use super::body_encoder::{BodyEncoder, Framing};
use super::digits::Digits;
use super::error::WriteError;
use super::exchange::Exchange;
use super::field_line::{self, FieldLine};
use super::grammar::{is_host, is_token};
use super::head::{Method, Version};
use super::target::Target;
use crate::sink::Sink;

/// Writes one HTTP/1.1 request into a sink, by the same rules as [`ResponseWriter`](super::ResponseWriter).
///
/// Host, Content-Length, Transfer-Encoding and Connection are the writer's. A writer that is dropped before the end
/// of the head takes back all it wrote.
///
/// ```
/// use campanile_protocol::http1::{Method, RequestWriter};
///
/// let mut out = Vec::new();
/// let mut request = RequestWriter::begin(&mut out, Method::Put, "/a?b", "example.com:80")?;
/// request.field("Accept", b"*/*")?;
/// request.body(b"hello")?;
/// assert_eq!(out, b"PUT /a?b HTTP/1.1\r\nHost: example.com:80\r\nAccept: */*\r\nContent-Length: 5\r\n\r\nhello");
/// # Ok::<(), campanile_protocol::http1::WriteError>(())
/// ```
#[derive(Debug)]
pub struct RequestWriter<'s, S: Sink + ?Sized> {
    sink: &'s mut S,
    /// The length of the sink before this request.
    mark: usize,
    /// Whether the method means something with a body, and so is sent with a length even if there is none.
    has_content: bool,
    keep_alive: bool,
    is_complete: bool,
}

impl<'s, S: Sink + ?Sized> RequestWriter<'s, S> {
    /// Writes the request line and Host, a host with an optional port (RFC 9112 3, 3.2).
    ///
    /// # Errors
    /// [`WriteError::RequestLine`] if the method is no token, the target not valid for it, or the host no host;
    /// [`WriteError::Full`]. Nothing was written.
    pub fn begin(sink: &'s mut S, method: Method<'_>, target: &str, host: &str) -> Result<Self, WriteError> {
        let method = Method::of(method.as_str());
        let name = method.as_str().as_bytes();
        if !is_token(name) || Target::parse(method, target.as_bytes()).is_err() || !is_host(host.as_bytes()) {
            return Err(WriteError::RequestLine);
        }
        let mark = sink.len();
        let target = target.as_bytes();
        sink.write_pieces(&[name, b" ", target, b" HTTP/1.1\r\nHost: ", host.as_bytes(), b"\r\n"])?;
        let has_content = matches!(method, Method::Post | Method::Put | Method::Patch);
        Ok(RequestWriter { sink, mark, has_content, keep_alive: true, is_complete: false })
    }

    /// Writes a field.
    ///
    /// # Errors
    /// [`WriteError::FieldName`], [`FieldValue`](WriteError::FieldValue) or
    /// [`FramingField`](WriteError::FramingField) if the field is not for writing; [`WriteError::Full`]. Nothing was
    /// written, and the request can go on.
    pub fn field(&mut self, name: &str, value: &[u8]) -> Result<&mut Self, WriteError> {
        field_line::check(name, value)?;
        if name.eq_ignore_ascii_case("host") {
            return Err(WriteError::FramingField);
        }
        self.sink.write_pieces(&[name.as_bytes(), b": ", value, b"\r\n"])?;
        Ok(self)
    }

    /// Writes a field that was checked before: one copy. It must not be Host.
    ///
    /// # Errors
    /// [`WriteError::Full`]: nothing was written.
    pub fn line(&mut self, line: FieldLine) -> Result<&mut Self, WriteError> {
        self.sink.write(line.as_bytes())?;
        Ok(self)
    }

    /// Tells the server to close the connection after its response (RFC 9112 9.6).
    pub fn close(&mut self) -> &mut Self {
        self.keep_alive = false;
        self
    }

    /// Ends the request with this body. An empty one is no body, but POST, PUT and PATCH say so (RFC 9110 8.6).
    ///
    /// # Errors
    /// [`WriteError::Full`]: the request is taken back.
    pub fn body(self, body: &[u8]) -> Result<(), WriteError> {
        if body.is_empty() && !self.has_content {
            return self.end(&[b"\r\n"]).map(|_| ());
        }
        let length = Digits::decimal(body.len() as u64);
        self.end(&[b"Content-Length: ", length.as_bytes(), b"\r\n\r\n", body]).map(|_| ())
    }

    /// Ends the head; a body of exactly `length` bytes follows, by the encoder that is returned.
    ///
    /// # Errors
    /// [`WriteError::Full`]: the request is taken back.
    pub fn length(self, length: u64) -> Result<BodyEncoder, WriteError> {
        let digits = Digits::decimal(length);
        let exchange = self.end(&[b"Content-Length: ", digits.as_bytes(), b"\r\n\r\n"])?;
        Ok(BodyEncoder::new(Framing::Length(length), exchange))
    }

    /// Ends the head; a chunked body of unknown length follows, by the encoder that is returned. The server must be
    /// known to speak HTTP/1.1 (RFC 9112 6.1).
    ///
    /// # Errors
    /// [`WriteError::Full`]: the request is taken back.
    pub fn stream(self) -> Result<BodyEncoder, WriteError> {
        let exchange = self.end(&[b"Transfer-Encoding: chunked\r\n\r\n"])?;
        Ok(BodyEncoder::new(Framing::Chunked, exchange))
    }

    fn end(mut self, pieces: &[&[u8]]) -> Result<Exchange, WriteError> {
        if !self.keep_alive {
            self.sink.write(b"Connection: close\r\n")?;
        }
        self.sink.write_pieces(pieces)?;
        self.is_complete = true;
        let keep_alive = self.keep_alive;
        Ok(Exchange { version: Version::Http11, keep_alive, is_head: false, is_connect: false })
    }
}

impl<S: Sink + ?Sized> Drop for RequestWriter<'_, S> {
    fn drop(&mut self) {
        if !self.is_complete {
            self.sink.truncate(self.mark);
        }
    }
}
