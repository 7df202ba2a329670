//! The request decoder finds request heads in the bytes of a connection.

use super::error::RequestError;
use super::facts::Facts;
use super::fields::Fields;
use super::grammar::{is_token, is_visible};
use super::head::{Method, RequestHead, Version};
use super::limits::Limits;
use super::scan::Flaw;
use super::target::Target;
use super::tokens::{self, MAX_METHOD};
use super::watch::HeadWatch;
use crate::codec::{Codec, Decoded};

/// Finds request heads.
///
/// A head that is whole in the input is found in one pass that copies and allocates nothing. A head that arrives in
/// pieces is searched for its end as it arrives, and only then read: each byte is looked at a fixed number of times.
///
/// ```
/// use campanile_protocol::http1::{BodyLength, Limits, Method, RequestDecoder};
/// use campanile_protocol::{Codec, Decoded};
///
/// let mut decoder = RequestDecoder::new(Limits::default());
/// let input = b"GET /hello?x=1 HTTP/1.1\r\nHost: example.com\r\n\r\nGET ...";
/// let Decoded::Frame { frame: head, consumed } = decoder.decode(input)? else { panic!() };
/// assert_eq!(head.method(), Method::Get);
/// assert_eq!(head.path(), "/hello");
/// assert_eq!(head.field("HOST"), Some(&b"example.com"[..]));
/// assert_eq!(head.body(), BodyLength::Empty);
/// assert!(head.keep_alive());
/// assert_eq!(&input[consumed..], b"GET ...");
/// # Ok::<(), campanile_protocol::http1::RequestError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RequestDecoder {
    watch: HeadWatch,
}

impl RequestDecoder {
    /// A decoder at the start of a request.
    pub fn new(limits: Limits) -> Self {
        RequestDecoder { watch: HeadWatch::new(limits) }
    }

    /// The limits it enforces.
    pub fn limits(&self) -> &Limits {
        &self.watch.limits
    }
}

impl Codec for RequestDecoder {
    type Frame<'a> = RequestHead<'a>;
    type Error = RequestError;

    /// Looks for one head at the start of `input`, which is everything not yet consumed.
    ///
    /// Empty lines before the request line are skipped (RFC 9112 2.2) and counted as part of the head. What `consumed`
    /// leaves is the body, to be read by a [`BodyDecoder`](super::BodyDecoder).
    ///
    /// # Errors
    /// The first thing that is wrong with the head; the connection cannot be read further.
    #[inline]
    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<RequestHead<'a>>, RequestError> {
        let window = self.watch.window(input);
        if self.watch.is_waiting(window, check_request_line)? {
            return Ok(Decoded::More { at_least: 1 });
        }
        let start = skip_empty_lines(window);
        let Some((read, length)) = read_head(&window[start..], self.watch.limits.fields) else {
            self.watch.begin(window, check_request_line)?;
            return Ok(Decoded::More { at_least: 1 });
        };
        let head = &window[..start + length];
        self.watch.check_lengths(head, check_request_line)?;
        match read {
            Ok(frame) => {
                self.watch.reset();
                Ok(Decoded::Frame { frame, consumed: head.len() })
            }
            Err(error) => Err(self.watch.explain(head, check_request_line, error)),
        }
    }

    /// The same when no byte will follow; `None` when nothing is left but empty lines.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), and [`RequestError::Truncated`].
    fn decode_end<'a>(&mut self, input: &'a [u8]) -> Result<Option<(RequestHead<'a>, usize)>, RequestError> {
        match self.decode(input)? {
            Decoded::Frame { frame, consumed } => Ok(Some((frame, consumed))),
            Decoded::More { .. } if skip_empty_lines(input) == input.len() => Ok(None),
            Decoded::More { .. } => Err(RequestError::Truncated),
        }
    }
}

/// The bytes of whole empty lines that `input` begins with (RFC 9112 2.2).
#[inline]
fn skip_empty_lines(input: &[u8]) -> usize {
    let mut start = 0;
    while input[start..].starts_with(b"\r\n") {
        start += 2;
    }
    start
}

/// Reads a head and what its fields say in one pass, and says how long it is; or what is wrong with it as a whole.
/// `None` if it is not whole, or one of its lines has a flaw.
#[inline]
fn read_head(head: &[u8], most_fields: usize) -> Option<(Result<RequestHead<'_>, RequestError>, usize)> {
    let (method, target, version, lines) = tokens::request_line(head)?;
    let mut facts = Facts::default();
    let (fields, body) = Fields::read(lines, most_fields, |line| facts.note_request(line))?;
    let judge = || {
        facts.check()?;
        if facts.host.is_none() && version == Version::Http11 {
            return Err(RequestError::HostMissing);
        }
        let body = facts.body(version)?;
        if method == Method::Trace && !body.is_empty() {
            return Err(RequestError::TraceBody);
        }
        Ok(RequestHead {
            method,
            target,
            version,
            fields,
            host: facts.host,
            body,
            keep_alive: facts.persists(version),
            expects_continue: facts.continuation(version)? && !body.is_empty(),
            wants_upgrade: facts.upgrade && version == Version::Http11,
        })
    };
    Some((judge(), head.len() - body.len()))
}

/// RFC 9112 3: `method SP request-target SP HTTP-version`, for lines that arrive apart from the rest of their head.
fn check_request_line(line: &[u8]) -> Result<(), RequestError> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(RequestError::RequestLine);
    };
    if !is_token(method) {
        return Err(RequestError::Method);
    }
    if method.len() > MAX_METHOD {
        return Err(RequestError::MethodTooLong);
    }
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => {}
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(RequestError::Version),
        _ => return Err(RequestError::RequestLine),
    }
    let target = Some(target).filter(|target| is_visible(target)).ok_or(RequestError::Target)?;
    Target::parse(Method::of_token(method), target).map(|_| ())
}

impl From<Flaw> for RequestError {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::BareLf => RequestError::BareLf,
            Flaw::StartLine => RequestError::RequestLine,
            Flaw::StartLineTooLong => RequestError::TargetTooLong,
            Flaw::Folded => RequestError::Folded,
            Flaw::FieldName => RequestError::FieldName,
            Flaw::FieldValue => RequestError::FieldValue,
            Flaw::FieldTooLong => RequestError::FieldTooLong,
            Flaw::TooManyFields => RequestError::TooManyFields,
            Flaw::HeadTooLong => RequestError::HeadTooLong,
        }
    }
}
