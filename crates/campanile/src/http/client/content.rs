//! The content: the body of an answer, read while it comes.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue};
use campanile_core::{Bytes, Sleep, sleep};
use campanile_protocol::http1::{BodyDecoder, BodyPart, Trailers};
use campanile_protocol::{Codec, Decoded};
use futures_core::Stream;
use http_body::{Frame, SizeHint};

use super::error::ClientError;
use super::sending::Sending;
use crate::http::error::Error;
use crate::http::into_response::IntoBody;
use crate::http::response::{Answered, Head};
use crate::http::waiting::{frames, pieces};
use crate::pool::Pooled;

/// The body of an answer that a [`Client`](super::Client) got.
///
/// Nothing is read that nobody waits for, so a server that sends faster than its answer is read is held up. While it is
/// read the rest of the request's body is sent, if the answer began before its end. Its connection goes back to the
/// pool with the last byte; dropped before that, it is closed.
///
/// It is a [`Stream`] of `io::Result<Bytes>`, and a [`Body`](http_body::Body) of the crate `http-body`. As the body of
/// an answer of ours it is passed on while it comes.
pub struct Content {
    /// There until all is read.
    connection: Option<Box<Connection>>,
    trailers: HeaderMap,
    has_told_trailers: bool,
    remaining: Option<u64>,
    pub(super) absent: Option<Absent>,
}

/// A body that is not sent, since the request or the status has none.
#[derive(Debug, Clone, Copy)]
pub(super) enum Absent {
    /// To HEAD: this long it would be, if that was said (RFC 9110, section 9.3.2).
    Head(Option<u64>),
    /// 204 or 304.
    Status,
}

/// What the body comes by.
pub(super) struct Connection {
    pub(super) pooled: Pooled,
    pub(super) decoder: BodyDecoder,
    pub(super) sending: Option<Sending>,
    /// Whether another request may follow.
    pub(super) keeps_alive: bool,
    /// How long to wait for more, and until when.
    pub(super) patience: Duration,
    pub(super) alarm: Option<Sleep>,
}

/// What came next.
enum Next {
    Data(Bytes),
    End(HeaderMap),
}

impl Content {
    pub(super) fn new(connection: Connection, absent: Option<Absent>) -> Content {
        let remaining = connection.decoder.remaining();
        let mut content = Content {
            connection: Some(Box::new(connection)),
            trailers: HeaderMap::new(),
            has_told_trailers: false,
            remaining,
            absent,
        };
        content.complete_if_empty();
        content
    }

    /// Waits for the next piece, whatever its length; `None` is the end.
    ///
    /// # Errors
    /// When there is less than was announced, or nothing comes for too long.
    pub async fn next(&mut self) -> Option<Result<Bytes, ClientError>> {
        poll_fn(|cx| self.poll_piece(cx)).await
    }

    /// Waits for the rest, of at most `limit` bytes.
    ///
    /// # Errors
    /// When it is longer; else as [`next`](Self::next).
    pub async fn collect(&mut self, limit: usize) -> Result<Bytes, ClientError> {
        let mut collected = Vec::new();
        while let Some(piece) = self.next().await.transpose()? {
            if piece.len() > limit - collected.len() {
                self.connection = None;
                return Err(ClientError::TooLong { limit });
            }
            if collected.is_empty() && self.is_complete() {
                return Ok(piece);
            }
            collected.extend_from_slice(&piece);
        }
        Ok(collected.into())
    }

    /// Whether all of it was returned.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.connection.is_none()
    }

    /// How many bytes are still to be returned, if the head said so.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        self.remaining
    }

    /// The trailer fields, when it is [complete](Self::is_complete); most have none.
    #[must_use]
    pub fn trailers(&self) -> &HeaderMap {
        &self.trailers
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ClientError>>> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
        match connection.poll_next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Next::Data(data))) => {
                self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(data.len() as u64));
                // With its last byte the connection is free, whether or not anybody asks for the end.
                self.complete_if_empty();
                Poll::Ready(Some(Ok(data)))
            }
            Poll::Ready(Ok(Next::End(trailers))) => {
                self.complete(trailers);
                Poll::Ready(None)
            }
            Poll::Ready(Err(error)) => {
                // What was sent of the request is not to look complete.
                if let Some(connection) = self.connection.take() {
                    connection.pooled.into_stream().abort();
                }
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    /// Looks whether the end is here already.
    fn complete_if_empty(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        if let Ok(Decoded::Frame { frame: BodyPart::End(trailers), consumed }) =
            connection.decoder.clone().decode(connection.pooled.unread())
        {
            let trailers = owned(trailers);
            connection.pooled.consume(consumed);
            self.complete(trailers);
        }
    }

    fn complete(&mut self, trailers: HeaderMap) {
        self.trailers = trailers;
        self.remaining = Some(0);
        let Some(connection) = self.connection.take() else { return };
        if connection.keeps_alive && connection.sending.is_none() {
            connection.pooled.put_back();
        }
    }
}

impl Connection {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Next, ClientError>> {
        let mut went_on = false;
        self.poll_sending(&mut went_on, cx)?;
        let is_ended = loop {
            let unread = self.pooled.unread();
            match self.decoder.decode(unread).map_err(ClientError::Body)? {
                Decoded::Frame { frame, consumed } => {
                    let next = Next::of(frame);
                    self.pooled.consume(consumed);
                    self.alarm = None;
                    return Poll::Ready(Ok(next));
                }
                Decoded::More { at_least } => {
                    let wanted = unread.len() + at_least.max(1);
                    match self.pooled.poll_fill(cx, wanted) {
                        Poll::Pending => break false,
                        Poll::Ready(Ok(filled)) if filled >= wanted => {}
                        Poll::Ready(Ok(_)) => break true,
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    }
                }
            }
        };
        if is_ended {
            let last = self.decoder.decode_end(self.pooled.unread()).map_err(ClientError::Body)?;
            let next = last.map_or(Next::End(HeaderMap::new()), |(frame, _)| Next::of(frame));
            self.keeps_alive = false;
            return Poll::Ready(Ok(next));
        }
        if went_on || self.sending.as_ref().is_some_and(|sending| sending.waits_for_payload) {
            self.alarm = None;
        }
        let alarm = self.alarm.get_or_insert_with(|| sleep(self.patience));
        Pin::new(alarm)
            .poll(cx)
            .map(|()| Err(ClientError::TimedOut { what: "more of the body", after: self.patience }))
    }

    /// Sends what is left of the request. That the server takes no more of it is for its answer to explain.
    fn poll_sending(&mut self, went_on: &mut bool, cx: &mut Context<'_>) -> Result<(), ClientError> {
        let Some(sending) = &mut self.sending else { return Ok(()) };
        match sending.poll(&mut self.pooled, went_on, cx) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(ClientError::Io(_))) => self.keeps_alive = false,
            Poll::Ready(Err(error)) => return Err(error),
        }
        self.sending = None;
        Ok(())
    }
}

impl Next {
    fn of(part: BodyPart<'_>) -> Next {
        match part {
            BodyPart::Data(data) => Next::Data(Bytes::copy_from_slice(data)),
            BodyPart::End(trailers) => Next::End(owned(trailers)),
        }
    }
}

fn owned(trailers: Trailers<'_>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for field in trailers.fields() {
        let name = HeaderName::try_from(field.name).ok();
        if let Some((name, value)) = name.zip(HeaderValue::from_bytes(field.value).ok()) {
            fields.append(name, value);
        }
    }
    fields
}

impl Stream for Content {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.poll_piece(cx).map_err(Into::into)
    }
}

impl http_body::Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.poll_piece(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(piece)) => Poll::Ready(Some(piece.map(Frame::data).map_err(Into::into))),
            Poll::Ready(None) => {
                let has_told = std::mem::replace(&mut self.has_told_trailers, true);
                let is_told = has_told || self.trailers.is_empty();
                Poll::Ready((!is_told).then(|| Ok(Frame::trailers(self.trailers.clone()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_complete() && (self.has_told_trailers || self.trailers.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The answer of another server is passed on while it comes, with its trailers. One to HEAD says how long it would be.
impl IntoBody for Content {
    fn end(self, head: Head<'_, '_>) -> Result<Answered, Error> {
        match self.absent {
            Some(Absent::Status) => head.empty(),
            Some(Absent::Head(Some(length))) => pieces(self).sized(length).end(head),
            Some(Absent::Head(None)) => pieces(self).end(head),
            None => frames(self).end(head),
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("remaining", &self.remaining)
            .field("is_complete", &self.is_complete())
            .finish_non_exhaustive()
    }
}
