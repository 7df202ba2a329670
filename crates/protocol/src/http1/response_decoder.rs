//! The response decoder finds response heads in the bytes of a connection, for clients and proxies.

use httparse::Status;

use super::error::{RequestError, ResponseError};
use super::facts::Facts;
use super::grammar::is_value;
use super::head::{BodyLength, Field, FieldSlot, Method, Version};
use super::limits::Limits;
use super::scan::Flaw;
use super::watch::{HeadWatch, follows_crlf};
use crate::codec::Decoded;

/// Finds response heads, by the rules of [`Codec`](crate::Codec), with slots lent for the fields; as strict as
/// [`RequestDecoder`](super::RequestDecoder), whose [`Limits`] it shares.
///
/// ```
/// use campanile_protocol::Decoded;
/// use campanile_protocol::http1::{BodyLength, Limits, Method, ResponseDecoder, field_slots};
///
/// let mut decoder = ResponseDecoder::new(Limits::default());
/// let mut slots = field_slots::<32>();
/// let input = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
/// let Decoded::Frame { frame: head, consumed } = decoder.decode(input, &mut slots)? else { panic!() };
/// assert_eq!(head.status(), 200);
/// assert_eq!(head.body_after(Method::Get), BodyLength::Length(5));
/// assert_eq!(head.body_after(Method::Head), BodyLength::Empty);
/// assert_eq!(&input[consumed..], b"hello");
/// # Ok::<(), campanile_protocol::http1::ResponseError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ResponseDecoder {
    watch: HeadWatch,
}

/// The head of a response, final or interim.
///
/// `'a` is the input, `'h` the slots that hold the fields.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'h, 'a> {
    version: Version,
    status: u16,
    reason: &'a str,
    fields: &'h [Field<'a>],
    framing: BodyLength,
    keep_alive: bool,
}

impl ResponseDecoder {
    /// A decoder at the start of a response.
    pub fn new(limits: Limits) -> Self {
        ResponseDecoder { watch: HeadWatch::new(limits) }
    }

    /// Looks for one head at the start of `input`, which is everything not yet consumed.
    ///
    /// A head whose [`status`](ResponseHead::status) is less than 200 is an interim one: the next head follows (RFC
    /// 9110 15.2).
    ///
    /// # Errors
    /// The first thing that is wrong with the head; the connection cannot be read further.
    pub fn decode<'h, 'a>(
        &mut self,
        input: &'a [u8],
        slots: &'h mut [FieldSlot<'a>],
    ) -> Result<Decoded<ResponseHead<'h, 'a>>, ResponseError> {
        let (window, max_fields) = (self.watch.window(input), slots.len());
        if matches!(window, [b'\r' | b'\n', ..]) {
            return Err(ResponseError::StatusLine);
        }
        if self.watch.is_waiting(window, max_fields, check_status_line)? {
            return Ok(Decoded::More { at_least: 1 });
        }
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut response, window, slots);
        let Ok(Status::Complete(length)) = parsed else {
            self.watch.begin(window, max_fields, check_status_line)?;
            return Ok(Decoded::More { at_least: 1 });
        };
        let head = &window[..length];
        self.watch.check_lengths(head, max_fields, check_status_line)?;
        let status_line = (response.version, response.code, response.reason);
        match read_head(head, status_line, response.headers) {
            Ok(frame) => {
                self.watch.reset();
                Ok(Decoded::Frame { frame, consumed: head.len() })
            }
            Err(error) => Err(self.watch.explain(head, max_fields, check_status_line, error)),
        }
    }

    /// The same when no byte will follow; `None` when nothing is left.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), and [`RequestError::Truncated`].
    pub fn decode_end<'h, 'a>(
        &mut self,
        input: &'a [u8],
        slots: &'h mut [FieldSlot<'a>],
    ) -> Result<Option<(ResponseHead<'h, 'a>, usize)>, ResponseError> {
        match self.decode(input, slots)? {
            Decoded::Frame { frame, consumed } => Ok(Some((frame, consumed))),
            Decoded::More { .. } if input.is_empty() => Ok(None),
            Decoded::More { .. } => Err(ResponseError::Head(RequestError::Truncated)),
        }
    }
}

impl<'h, 'a> ResponseHead<'h, 'a> {
    /// The version the server speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The status code, from 100 to 999 (RFC 9110 15).
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase; it means nothing, and is empty if it is not ASCII.
    pub fn reason(&self) -> &'a str {
        self.reason
    }

    /// The field lines in the order they came in.
    pub fn fields(&self) -> &'h [Field<'a>] {
        self.fields
    }

    /// The value of the first field called `name`, in any case.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// How the end of the body is found, in the answer to a request with this method (RFC 9112 6.3).
    pub fn body_after(&self, method: Method<'_>) -> BodyLength {
        match (method, self.status) {
            (Method::Head, _) | (_, 100..200 | 204 | 304) | (Method::Connect, 200..300) => BodyLength::Empty,
            _ => self.framing,
        }
    }

    /// Whether the server lets the connection persist (RFC 9112 9.3), if the body has an end of its own.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }
}

/// What the tokenizer found in the status line.
type StatusLine<'a> = (Option<u8>, Option<u16>, Option<&'a str>);

fn read_head<'h, 'a>(
    head: &'a [u8],
    status_line: StatusLine<'a>,
    fields: &'h [Field<'a>],
) -> Result<ResponseHead<'h, 'a>, ResponseError> {
    let (Some(minor), Some(status @ 100..), Some(reason)) = status_line else {
        return Err(ResponseError::StatusLine);
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    if !head.ends_with(b"\r\n\r\n") || !fields.iter().all(|field| follows_crlf(head, field.name)) {
        return Err(ResponseError::Head(RequestError::BareLf));
    }
    let mut facts = Facts::default();
    fields.iter().try_for_each(|field| facts.note(field)).map_err(ResponseError::Head)?;
    let framing = match facts.body(version).map_err(ResponseError::Head)? {
        BodyLength::Empty => BodyLength::UntilClose,
        framing => framing,
    };
    Ok(ResponseHead { version, status, reason, fields, framing, keep_alive: facts.persists(version) })
}

/// RFC 9112 4, for lines that arrive apart from the rest of their head. The space before an empty reason may be
/// missing.
fn check_status_line(line: &[u8]) -> Result<(), ResponseError> {
    let (version, rest) = line.split_at_checked(8).ok_or(ResponseError::StatusLine)?;
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => {}
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(ResponseError::Version),
        _ => return Err(ResponseError::StatusLine),
    }
    match rest {
        [b' ', b'1'..=b'9', b'0'..=b'9', b'0'..=b'9'] => Ok(()),
        [b' ', b'1'..=b'9', b'0'..=b'9', b'0'..=b'9', b' ', reason @ ..] if is_value(reason) => Ok(()),
        _ => Err(ResponseError::StatusLine),
    }
}

impl From<Flaw> for ResponseError {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::StartLine => ResponseError::StatusLine,
            flaw => ResponseError::Head(flaw.into()),
        }
    }
}
