//! The response decoder finds response heads in the bytes of a connection, for clients and proxies.

use super::error::{RequestError, ResponseError};
use super::facts::Facts;
use super::fields::Fields;
use super::grammar::is_value;
use super::head::{BodyLength, Method, Version};
use super::limits::Limits;
use super::scan::Flaw;
use super::tokens;
use super::watch::HeadWatch;
use crate::codec::{Codec, Decoded};

/// Finds response heads, as strictly as [`RequestDecoder`](super::RequestDecoder), whose [`Limits`] it shares.
///
/// ```
/// use campanile_protocol::http1::{BodyLength, Limits, Method, ResponseDecoder};
/// use campanile_protocol::{Codec, Decoded};
///
/// let mut decoder = ResponseDecoder::new(Limits::default());
/// let input = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
/// let Decoded::Frame { frame: head, consumed } = decoder.decode(input)? else { panic!() };
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
/// `'a` is the input.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    version: Version,
    status: u16,
    reason: &'a str,
    fields: Fields<'a>,
    framing: BodyLength,
    keep_alive: bool,
}

impl ResponseDecoder {
    /// A decoder at the start of a response.
    pub fn new(limits: Limits) -> Self {
        ResponseDecoder { watch: HeadWatch::new(limits) }
    }
}

impl Codec for ResponseDecoder {
    type Frame<'a> = ResponseHead<'a>;
    type Error = ResponseError;

    /// Looks for one head at the start of `input`, which is everything not yet consumed.
    ///
    /// A head whose [`status`](ResponseHead::status) is less than 200 is an interim one: the next head follows (RFC
    /// 9110 15.2).
    ///
    /// # Errors
    /// The first thing that is wrong with the head; the connection cannot be read further.
    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<ResponseHead<'a>>, ResponseError> {
        let window = self.watch.window(input);
        if matches!(window, [b'\r' | b'\n', ..]) {
            return Err(ResponseError::StatusLine);
        }
        if self.watch.is_waiting(window, check_status_line)? {
            return Ok(Decoded::More { at_least: 1 });
        }
        let Some((read, length)) = read_head(window, self.watch.limits.fields) else {
            self.watch.begin(window, check_status_line)?;
            return Ok(Decoded::More { at_least: 1 });
        };
        let head = &window[..length];
        self.watch.check_lengths(head, check_status_line)?;
        match read {
            Ok(frame) => {
                self.watch.reset();
                Ok(Decoded::Frame { frame, consumed: head.len() })
            }
            Err(error) => Err(self.watch.explain(head, check_status_line, ResponseError::Head(error))),
        }
    }

    /// The same when no byte will follow; `None` when nothing is left.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), and [`RequestError::Truncated`].
    fn decode_end<'a>(
        &mut self,
        input: &'a [u8],
    ) -> Result<Option<(ResponseHead<'a>, usize)>, ResponseError> {
        match self.decode(input)? {
            Decoded::Frame { frame, consumed } => Ok(Some((frame, consumed))),
            Decoded::More { .. } if input.is_empty() => Ok(None),
            Decoded::More { .. } => Err(ResponseError::Head(RequestError::Truncated)),
        }
    }
}

impl<'a> ResponseHead<'a> {
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
    pub fn fields(&self) -> Fields<'a> {
        self.fields
    }

    /// The value of the first field called `name`, in any case.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.fields.values(name).next()
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

/// As for requests: what is wrong with a head as a whole, or `None` if it is not whole or one of its lines has a flaw.
fn read_head(head: &[u8], most_fields: usize) -> Option<(Result<ResponseHead<'_>, RequestError>, usize)> {
    let (line, lines) = tokens::value(head)?;
    check_status_line(line).ok()?;
    let version = if line.starts_with(b"HTTP/1.0") { Version::Http10 } else { Version::Http11 };
    let status = line[9..12].iter().fold(0, |status, digit| 10 * status + u16::from(digit - b'0'));
    let reason = line.get(13..).filter(|reason| reason.is_ascii()).unwrap_or_default();
    let reason = core::str::from_utf8(reason).unwrap_or_default();
    let mut facts = Facts::default();
    let (fields, body) = Fields::read(lines, most_fields, |line| facts.note(line))?;
    let judge = || {
        facts.check()?;
        let framing = match facts.body(version)? {
            BodyLength::Empty => BodyLength::UntilClose,
            framing => framing,
        };
        let keep_alive = facts.persists(version);
        Ok(ResponseHead { version, status, reason, fields, framing, keep_alive })
    };
    Some((judge(), head.len() - body.len()))
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
