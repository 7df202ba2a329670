//! The payload: the body of a request that is sent.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use campanile_core::Bytes;
use futures_core::Stream;
use http_body::{Body, Frame};

use crate::http::Body as RequestBody;

use super::content::Content;

pub(super) type Cause = Box<dyn Error + Send + Sync>;
type Streamed = Pin<Box<dyn Body<Data = Bytes, Error = Cause>>>;

/// The body of a request that a [`Client`](super::Client) sends: nothing, bytes, or what comes piece by piece.
///
/// A text, bytes, the [body](crate::http::Body) of a request that is handled and the [content](Content) of another
/// answer become one by themselves. A request whose payload is streamed is never sent twice.
pub struct Payload(pub(super) Kind);

pub(super) enum Kind {
    Bytes(Bytes),
    Streamed(Streamed),
}

impl Payload {
    /// No body.
    #[must_use]
    pub fn empty() -> Payload {
        Payload(Kind::Bytes(Bytes::new()))
    }

    /// A [`Body`] of the crate `http-body`: chunked, or with a length if it knows that, and with its trailers.
    pub fn frames<B>(body: B) -> Payload
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<Cause>,
    {
        Payload(Kind::Streamed(Box::pin(Boxing { body: Box::pin(body) })))
    }

    /// A [`Stream`] of pieces; chunked (RFC 9112, section 7.1).
    pub fn pieces<S, E>(stream: S) -> Payload
    where
        S: Stream<Item = Result<Bytes, E>> + 'static,
        E: Into<Cause> + 'static,
    {
        Payload::frames(Pieces(Box::pin(stream)))
    }
}

/// A body whose errors are all of one type.
struct Boxing<B> {
    body: Pin<Box<B>>,
}

impl<B> Body for Boxing<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Cause>,
{
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        self.body.as_mut().poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

struct Pieces<S>(Pin<Box<S>>);

impl<S, E> Body for Pieces<S>
where
    S: Stream<Item = Result<Bytes, E>>,
{
    type Data = Bytes;
    type Error = E;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        self.0.as_mut().poll_next(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

impl From<()> for Payload {
    fn from((): ()) -> Payload {
        Payload::empty()
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Payload {
        Payload(Kind::Bytes(bytes))
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Payload {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Payload {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Payload {
        Bytes::from_static(text.as_bytes()).into()
    }
}

/// The body of a request is passed on while it comes; one that is known to be empty is none.
impl From<RequestBody> for Payload {
    fn from(body: RequestBody) -> Payload {
        if body.remaining() == Some(0) { Payload::empty() } else { Payload::frames(body) }
    }
}

impl From<Content> for Payload {
    fn from(content: Content) -> Payload {
        Payload::frames(content)
    }
}

impl From<Infallible> for Payload {
    fn from(never: Infallible) -> Payload {
        match never {}
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Bytes(bytes) => write!(f, "Payload({} bytes)", bytes.len()),
            Kind::Streamed(_) => f.write_str("Payload(streamed)"),
        }
    }
}
