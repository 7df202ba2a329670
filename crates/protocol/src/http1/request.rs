//! The request decoder finds request heads in the bytes of a connection.

use httparse::Status;

use super::error::RequestError;
use super::facts::Facts;
use super::grammar::{is_token, is_visible};
use super::head::{Field, FieldSlot, Method, RequestHead, Version};
use super::limits::Limits;
use super::scan::Flaw;
use super::target::Target;
use super::watch::{HeadWatch, follows_crlf};
use crate::codec::Decoded;

/// Longer methods are answered 501; the longest that is registered has 17 bytes.
const MAX_METHOD: usize = 32;

/// Finds request heads, by the rules of [`Codec`](crate::Codec), with slots lent for the fields.
///
/// A head that is whole in the input is found in one pass that copies and allocates nothing. A head that arrives in
/// pieces is searched for its end as it arrives, and only then read: each byte is looked at a fixed number of times.
///
/// ```
/// use campanile_protocol::Decoded;
/// use campanile_protocol::http1::{BodyLength, Limits, Method, RequestDecoder, field_slots};
///
/// let mut decoder = RequestDecoder::new(Limits::default());
/// let mut slots = field_slots::<32>();
/// let input = b"GET /hello?x=1 HTTP/1.1\r\nHost: example.com\r\n\r\nGET ...";
/// let Decoded::Frame { frame: head, consumed } = decoder.decode(input, &mut slots)? else { panic!() };
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

    /// Looks for one head at the start of `input`, which is everything not yet consumed.
    ///
    /// Empty lines before the request line are skipped (RFC 9112 2.2) and counted as part of the head. What `consumed`
    /// leaves is the body, to be read by a [`BodyDecoder`](super::BodyDecoder).
    ///
    /// # Errors
    /// The first thing that is wrong with the head; the connection cannot be read further.
    #[inline]
    pub fn decode<'h, 'a>(
        &mut self,
        input: &'a [u8],
        slots: &'h mut [FieldSlot<'a>],
    ) -> Result<Decoded<RequestHead<'h, 'a>>, RequestError> {
        let (window, max_fields) = (self.watch.window(input), slots.len());
        if self.watch.is_waiting(window, max_fields, check_request_line)? {
            return Ok(Decoded::More { at_least: 1 });
        }
        let start = skip_empty_lines(window);
        let mut request = httparse::Request::new(&mut []);
        // What the tokenizer refuses is named by the watch, once its line is complete.
        let Ok(Status::Complete(length)) = request.parse_with_uninit_headers(&window[start..], slots) else {
            self.watch.begin(window, max_fields, check_request_line)?;
            return Ok(Decoded::More { at_least: 1 });
        };
        let head = &window[..start + length];
        self.watch.check_lengths(head, max_fields, check_request_line)?;
        let request_line = (request.method, request.path, request.version);
        match read_head(&head[start..], request_line, request.headers) {
            Ok(frame) => {
                self.watch.reset();
                Ok(Decoded::Frame { frame, consumed: head.len() })
            }
            Err(error) => Err(self.watch.explain(head, max_fields, check_request_line, error)),
        }
    }

    /// The same when no byte will follow; `None` when nothing is left but empty lines.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), and [`RequestError::Truncated`].
    pub fn decode_end<'h, 'a>(
        &mut self,
        input: &'a [u8],
        slots: &'h mut [FieldSlot<'a>],
    ) -> Result<Option<(RequestHead<'h, 'a>, usize)>, RequestError> {
        match self.decode(input, slots)? {
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

/// What the tokenizer found in the request line.
type RequestLine<'a> = (Option<&'a str>, Option<&'a str>, Option<u8>);

/// Checks on a tokenized head what the tokenizer lets through, and reads what its fields say, in one pass.
#[inline]
fn read_head<'h, 'a>(
    head: &'a [u8],
    request_line: RequestLine<'a>,
    fields: &'h [Field<'a>],
) -> Result<RequestHead<'h, 'a>, RequestError> {
    let (Some(method), Some(target), Some(minor)) = request_line else {
        return Err(RequestError::RequestLine);
    };
    if head[0] == b'\n' || !head.ends_with(b"\r\n\r\n") {
        return Err(RequestError::BareLf);
    }
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let method = read_method(method)?;
    let target = Target::parse(method, target)?;
    let mut facts = Facts::default();
    for field in fields {
        if !follows_crlf(head, field.name) {
            return Err(RequestError::BareLf);
        }
        facts.note_request(field)?;
    }
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
}

#[inline]
fn read_method(method: &str) -> Result<Method<'_>, RequestError> {
    if method.len() > MAX_METHOD {
        return Err(RequestError::MethodTooLong);
    }
    Ok(Method::of(method))
}

/// RFC 9112 3: `method SP request-target SP HTTP-version`, for lines that arrive apart from the rest of their head.
fn check_request_line(line: &[u8]) -> Result<(), RequestError> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(RequestError::RequestLine);
    };
    let method = core::str::from_utf8(method).ok().filter(|method| is_token(method.as_bytes()));
    let method = read_method(method.ok_or(RequestError::Method)?)?;
    let target = core::str::from_utf8(target).ok().filter(|target| is_visible(target.as_bytes()));
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => {}
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => return Err(RequestError::Version),
        _ => return Err(RequestError::RequestLine),
    }
    Target::parse(method, target.ok_or(RequestError::Target)?).map(|_| ())
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
