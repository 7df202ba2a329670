//! Streaming: bodies of answers that come piece by piece, from streams and from bodies of the crate `http-body`.

use std::fmt;
use std::task::{Context, Poll};

use bytes::Buf;
use campanile_core::Bytes;
use futures_core::Stream;

use super::body::Body;
use super::driver::{Driver, Part, Polled};
use super::link::Feed;
use crate::http::error::Error;
use crate::http::exchange::{Exchange, Next};
use crate::http::into_response::IntoBody;
use crate::http::response::{Answered, Head};

/// A stream as the body of an answer: see [`pieces`].
pub struct Pieces<S> {
    stream: S,
    length: Option<u64>,
}

/// A [`Stream`] of pieces as the body of an answer.
///
/// The next piece is asked for when the client has taken most of those before it, so a client that does not read stops
/// the stream. An error cuts the answer, and the client sees that it is incomplete. To HEAD the stream is dropped.
///
/// ```
/// use campanile::http;
///
/// // Sends the body back while it comes, and says how long it will be.
/// let echo = http::wait(async |request| {
///     let length = request.body_length();
///     let body = http::pieces(request.into_body());
///     match length {
///         http::BodyLength::Length(length) => body.sized(length),
///         _ => body,
///     }
/// });
/// # fn is_a_service(_: impl campanile::Service) {}
/// # is_a_service(http::service(echo));
/// ```
pub fn pieces<S, E>(stream: S) -> Pieces<S>
where
    S: Stream<Item = Result<Bytes, E>> + 'static,
    E: Into<Error>,
{
    Pieces { stream, length: None }
}

impl<S> Pieces<S> {
    /// Says how many bytes it has; an answer that turns out to be of another length is cut. Without it the answer is
    /// chunked (RFC 9112, section 7.1).
    #[must_use]
    pub fn sized(self, length: u64) -> Pieces<S> {
        Pieces { length: Some(length), ..self }
    }
}

impl<S, E> IntoBody for Pieces<S>
where
    S: Stream<Item = Result<Bytes, E>> + 'static,
    E: Into<Error>,
{
    fn end(self, head: Head<'_, '_>) -> Result<Answered, Error> {
        let mut stream = Box::pin(self.stream);
        let next = move |cx: &mut Context<'_>| {
            stream.as_mut().poll_next(cx).map(|piece| match piece {
                Some(Ok(bytes)) => Ok(Piece::Data(bytes)),
                Some(Err(error)) => Err(error.into()),
                None => Ok(Piece::End),
            })
        };
        begin(head, self.length, next)
    }
}

/// The body of a request is passed on while it comes.
impl IntoBody for Body {
    fn end(mut self, head: Head<'_, '_>) -> Result<Answered, Error> {
        begin(head, self.remaining(), move |cx| {
            self.poll_piece(cx).map(|piece| piece.map_or(Ok(Piece::End), |piece| piece.map(Piece::Data)))
        })
    }
}

/// A body of the crate `http-body` as that of an answer: see [`frames`].
pub struct Frames<B>(B);

/// A [`Body`](http_body::Body) of the crate `http-body` as that of an answer, with its trailers; like [`pieces`], and
/// with its length if it knows that. A response of another framework becomes one of ours by
/// `response.map(http::frames)`.
pub fn frames<B>(body: B) -> Frames<B>
where
    B: http_body::Body + 'static,
    B::Error: Into<Error>,
{
    Frames(body)
}

impl<B> IntoBody for Frames<B>
where
    B: http_body::Body + 'static,
    B::Error: Into<Error>,
{
    fn end(self, head: Head<'_, '_>) -> Result<Answered, Error> {
        let length = self.0.size_hint().exact();
        let mut body = Box::pin(self.0);
        begin(head, length, move |cx| {
            body.as_mut().poll_frame(cx).map(|frame| {
                let Some(frame) = frame else { return Ok(Piece::End) };
                let frame = frame.map_err(Into::into)?;
                Ok(match frame.into_data() {
                    Ok(mut data) => Piece::Data(data.copy_to_bytes(data.remaining())),
                    Err(frame) => frame.into_trailers().map_or(Piece::Data(Bytes::new()), Piece::Trailers),
                })
            })
        })
    }
}

/// What comes next of a body.
enum Piece {
    Data(Bytes),
    Trailers(::http::HeaderMap),
    End,
}

/// Begins the answer; its body is polled by `next`.
fn begin<N>(head: Head<'_, '_>, length: Option<u64>, next: N) -> Result<Answered, Error>
where
    N: FnMut(&mut Context<'_>) -> Poll<Result<Piece, Error>> + 'static,
{
    let feed = head.feed.cloned();
    let begun = match length {
        Some(length) => head.begin_sized(length),
        None => head.begin_stream(),
    };
    Ok(begun?.then(Driver::new(Sending(next), feed)))
}

/// A body that is sent.
struct Sending<N>(N);

/// Pieces that are sent in one call: one that is never out of them, and whose client takes all, is not alone.
const IN_ONE_CALL: usize = 64;

impl<N> Part for Sending<N>
where
    N: FnMut(&mut Context<'_>) -> Poll<Result<Piece, Error>>,
{
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<'_, '_>,
        _: Option<&Feed>,
    ) -> Result<Polled, Error> {
        for _ in 0..IN_ONE_CALL {
            if !exchange.takes_piece() {
                return Ok(Polled::Room);
            }
            match (self.0)(cx) {
                Poll::Pending => return Ok(Polled::Pending),
                Poll::Ready(Ok(Piece::Data(bytes))) => exchange.send(bytes)?,
                Poll::Ready(Ok(Piece::Trailers(fields))) => {
                    let fields: Vec<_> =
                        fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
                    return Ok(Polled::Over(exchange.finish(&fields)?));
                }
                Poll::Ready(Ok(Piece::End)) => return Ok(Polled::Over(Next::Done)),
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        cx.waker().wake_by_ref();
        Ok(Polled::Pending)
    }
}

impl<S> fmt::Debug for Pieces<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").field("length", &self.length).finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for Frames<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").finish_non_exhaustive()
    }
}
