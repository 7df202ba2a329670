//! What can be wrong with a message, and the status that answers it.

use core::error::Error;
use core::fmt;

use crate::sink::Full;

/// Why bytes are no request that may be served.
///
/// After any of these nothing more can be read from the connection: answer with [`status`](RequestError::status) and
/// `Connection: close`, then close (RFC 9112 9.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// The request line is not `method SP target SP version CRLF` (RFC 9112 3). 400.
    RequestLine,
    /// The method is no token (RFC 9112 3.1). 400.
    Method,
    /// The method is longer than any that is implemented (RFC 9112 3). 501.
    MethodTooLong,
    /// The target is none of the four forms, or not the one for its method (RFC 9112 3.2). 400.
    Target,
    /// The request line is longer than [`Limits::request_line`](super::Limits) (RFC 9112 3). 414.
    TargetTooLong,
    /// The version is neither HTTP/1.0 nor HTTP/1.1 (RFC 9110 15.6.6). 505.
    Version,
    /// A line ends in LF without CR (RFC 9112 2.2). 400.
    BareLf,
    /// A line begins with white space: obsolete folding, or white space before the first field (RFC 9112 2.2, 5.2).
    /// 400.
    Folded,
    /// A field name is no token, is empty, or is followed by white space before the colon (RFC 9112 5.1). 400.
    FieldName,
    /// A field value holds a control character: bare CR, NUL, ... (RFC 9110 5.5). 400.
    FieldValue,
    /// A field line is longer than [`Limits::field_line`](super::Limits) (RFC 6585 5). 431.
    FieldTooLong,
    /// There are more fields than [`Limits::fields`](super::Limits) (RFC 6585 5). 431.
    TooManyFields,
    /// The head is longer than [`Limits::head`](super::Limits) (RFC 6585 5). 431.
    HeadTooLong,
    /// HTTP/1.1 without Host (RFC 9112 3.2). 400.
    HostMissing,
    /// More than one Host, even if equal (RFC 9112 3.2). 400.
    HostRepeated,
    /// Host is not `uri-host [":" port]`, or is empty (RFC 9110 7.2, 4.2.1). 400.
    Host,
    /// Content-Length is not digits without leading zeros within 64 bits (RFC 9112 6.3). 400.
    ContentLength,
    /// More than one Content-Length, as fields or as a list (RFC 9112 6.3 lets equal ones be refused). 400.
    ContentLengthRepeated,
    /// Transfer-Encoding is empty, has `chunked` twice or not at the end, or is no list of codings (RFC 9112 6.1). 400.
    TransferEncoding,
    /// Transfer-Encoding names a coding other than `chunked` (RFC 9112 6.1). 501.
    TransferCoding,
    /// Transfer-Encoding and Content-Length in one message (RFC 9112 6.1, 6.3). 400.
    LengthAndEncoding,
    /// Transfer-Encoding in HTTP/1.0 (RFC 9112 6.1). 400.
    EncodingOnOldVersion,
    /// A field name that some read as one that decides framing: `Content_Length`, `Transfer_Encoding`. 400.
    LookAlike,
    /// TRACE with a body (RFC 9110 9.3.8). 400.
    TraceBody,
    /// An expectation other than `100-continue` (RFC 9110 10.1.1). 417.
    Expectation,
    /// The input ended inside a head (RFC 9112 8). 400.
    Truncated,
}

impl RequestError {
    /// The status code to answer with.
    pub const fn status(self) -> u16 {
        match self {
            RequestError::TargetTooLong => 414,
            RequestError::Expectation => 417,
            RequestError::FieldTooLong | RequestError::TooManyFields | RequestError::HeadTooLong => 431,
            RequestError::TransferCoding | RequestError::MethodTooLong => 501,
            RequestError::Version => 505,
            _ => 400,
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RequestError::RequestLine => "request line is not method, target and version, one space between",
            RequestError::Method => "method is not a token",
            RequestError::MethodTooLong => "method is longer than any known one",
            RequestError::Target => "request target is not valid for this method",
            RequestError::TargetTooLong => "request line is too long",
            RequestError::Version => "version is neither HTTP/1.0 nor HTTP/1.1",
            RequestError::BareLf => "a line ends in LF without CR",
            RequestError::Folded => "a line begins with white space",
            RequestError::FieldName => "field name is not a token followed by a colon",
            RequestError::FieldValue => "field value holds a control character",
            RequestError::FieldTooLong => "field line is too long",
            RequestError::TooManyFields => "too many fields",
            RequestError::HeadTooLong => "request head is too long",
            RequestError::HostMissing => "Host is missing",
            RequestError::HostRepeated => "more than one Host",
            RequestError::Host => "Host is not a host with an optional port",
            RequestError::ContentLength => "Content-Length is not a decimal number",
            RequestError::ContentLengthRepeated => "more than one Content-Length",
            RequestError::TransferEncoding => "Transfer-Encoding does not end in a single chunked",
            RequestError::TransferCoding => "transfer coding is not implemented",
            RequestError::LengthAndEncoding => "Transfer-Encoding and Content-Length together",
            RequestError::EncodingOnOldVersion => "Transfer-Encoding in an HTTP/1.0 message",
            RequestError::LookAlike => "field name imitates one that decides framing",
            RequestError::TraceBody => "TRACE with a body",
            RequestError::Expectation => "expectation is not 100-continue",
            RequestError::Truncated => "input ended inside a request head",
        })
    }
}

impl Error for RequestError {}

/// Why bytes are no response that may be used.
///
/// After any of these nothing more can be read from the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResponseError {
    /// The status line is not `version SP three digits SP reason CRLF` (RFC 9112 4).
    StatusLine,
    /// The version is neither HTTP/1.0 nor HTTP/1.1 (RFC 9112 2.3).
    Version,
    /// A line of the head breaks the rules that requests obey too; the error names it.
    Head(RequestError),
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ResponseError::StatusLine => "status line is not version, status and reason",
            ResponseError::Version => "version is neither HTTP/1.0 nor HTTP/1.1",
            ResponseError::Head(error) => return write!(f, "in a response: {error}"),
        })
    }
}

impl Error for ResponseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ResponseError::Head(error) => Some(error),
            ResponseError::StatusLine | ResponseError::Version => None,
        }
    }
}

/// Why bytes are not the body that the head announced.
///
/// After any of these the connection cannot be read further (RFC 9112 6.3, 7.1, 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// A chunk size is not 1 to 16 hexadecimal digits (RFC 9112 7.1). 400.
    ChunkSize,
    /// A chunk extension breaks the grammar (RFC 9112 7.1.1). 400.
    ChunkExtension,
    /// The extensions of one chunk are longer than [`Limits::chunk_extension`](super::Limits). 400.
    ChunkExtensionTooLong,
    /// A chunk's size line or data is not followed by CRLF (RFC 9112 7.1). 400.
    ChunkEnd,
    /// A trailer line is no field line, or does not end in CRLF (RFC 9112 7.1.2). 400.
    Trailer,
    /// The trailers are more or longer than [`Limits::trailers`](super::Limits) allows. 431.
    TrailersTooLong,
    /// The input ended inside the body (RFC 9112 8). 400.
    Truncated,
}

impl BodyError {
    /// The status code to answer with, if no answer has begun.
    pub const fn status(self) -> u16 {
        match self {
            BodyError::TrailersTooLong => 431,
            _ => 400,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BodyError::ChunkSize => "chunk size is not a hexadecimal number of up to 16 digits",
            BodyError::ChunkExtension => "chunk extension breaks the grammar",
            BodyError::ChunkExtensionTooLong => "chunk extensions are too long",
            BodyError::ChunkEnd => "chunk does not end in CRLF",
            BodyError::Trailer => "trailer is not a field line",
            BodyError::TrailersTooLong => "trailers are too long",
            BodyError::Truncated => "input ended inside a body",
        })
    }
}

impl Error for BodyError {}

/// Why a response was not written; what was refused left nothing in the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// The sink has no room now: write again when there is.
    Full(Full),
    /// The status does not belong here (RFC 9110 15).
    Status,
    /// The method, the target or the host cannot stand in a request (RFC 9112 3).
    RequestLine,
    /// The field name is no token (RFC 9110 5.1).
    FieldName,
    /// The field value holds CR, LF, NUL or another control character (RFC 9110 5.5).
    FieldValue,
    /// The field decides framing and is not the caller's to write; or it may not be a trailer (RFC 9110 6.5.1).
    FramingField,
    /// The status has no body (RFC 9110 6.4.1).
    BodyNotAllowed,
    /// The body is longer than was promised.
    Overrun,
    /// A piece of the body was written before the head, or after the end.
    NotBegun,
    /// A head was written after the head.
    Begun,
    /// The body ended before the length that was promised: abort the connection.
    Short {
        /// Bytes that are missing.
        missing: u64,
    },
}

impl From<Full> for WriteError {
    fn from(full: Full) -> Self {
        WriteError::Full(full)
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WriteError::Full(full) => return full.fmt(f),
            WriteError::Short { missing } => {
                return write!(f, "body ended {missing} bytes short of the length promised");
            }
            WriteError::RequestLine => "method, target or host cannot stand in a request",
            WriteError::Status => "status does not belong here",
            WriteError::FieldName => "field name is not a token",
            WriteError::FieldValue => "field value holds a control character",
            WriteError::FramingField => "field is not the caller's to write here",
            WriteError::BodyNotAllowed => "status has no body",
            WriteError::Overrun => "body is longer than the length promised",
            WriteError::NotBegun => "the message was not begun, or is complete",
            WriteError::Begun => "the message was begun already",
        })
    }
}

impl Error for WriteError {}
