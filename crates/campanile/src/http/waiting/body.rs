//! The body of a request, for whoever waits for it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use campanile_core::Bytes;
use futures_core::Stream;
use http_body::{Frame, SizeHint};

use super::lease::Lease;
use super::link::{Demand, Given};
use crate::http::BodyLength;
use crate::http::error::Error;

/// The body of a request, read piece by piece or as a whole.
///
/// Nothing is read that nobody waits for, so a client that sends faster than its body is read is held up. A client that
/// waits to be told to send it (`100 Continue`) is told when it is first waited for.
///
/// Every future here may be dropped at any moment, by a timeout for instance: what it would have returned is returned
/// by the next. A body that is invalid, or too late ([`Config::body_timeout`](crate::http::Config)), ends the request,
/// and with it the handler, as everywhere. It can be given to another task of the worker; once the request is over,
/// whoever reads on gets an error.
///
/// It is a [`Stream`] of `io::Result<Bytes>`, and a [`Body`](http_body::Body) of the crate `http-body`. As the body of
/// an answer it is passed on while it comes.
#[derive(Debug)]
pub struct Body {
    lease: Lease,
    /// Bytes that were not returned yet, if the head said how many there are.
    remaining: Option<u64>,
    /// An error was returned, or the trailers: nothing follows.
    has_ended: bool,
}

impl Body {
    pub(super) fn new(lease: Lease) -> Body {
        let remaining = match lease.head.body() {
            BodyLength::Empty => Some(0),
            BodyLength::Length(length) => Some(length),
            BodyLength::Chunked | BodyLength::UntilClose => None,
        };
        Body { lease, remaining, has_ended: false }
    }

    /// Waits for the next piece, whatever its length; `None` is the end of the body.
    ///
    /// # Errors
    /// When the request is over.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        let waiting = Waiting(self);
        poll_fn(|cx| waiting.0.poll_piece(cx)).await
    }

    /// Waits for the rest of the body, of at most `limit` bytes. It is charged to the same budget of the worker as what
    /// [`Response::collect`](crate::http::Response::collect) reads ([`Config::body_memory`](crate::http::Config)).
    ///
    /// # Errors
    /// 413 when it is longer, 503 when there was no memory for it for [`Config::body_wait`](crate::http::Config), and
    /// when the request is over. They are to be returned by the handler: what was read is gone.
    pub async fn collect(&mut self, limit: usize) -> Result<Bytes, Error> {
        let waiting = Waiting(self);
        poll_fn(|cx| waiting.0.poll_whole(limit, cx)).await
    }

    /// Whether all of the body was returned.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.lease.link.is_complete()
    }

    /// How many bytes are still to be returned, if the head said so.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        self.remaining
    }

    /// The trailer fields, when the body is [complete](Self::is_complete); most have none. They are never fields of the
    /// request (RFC 9110, section 6.5.1).
    #[must_use]
    pub fn trailers(&self) -> Vec<(String, Vec<u8>)> {
        self.lease.link.trailers()
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(super) fn poll_piece(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        match self.lease.link.take(Demand::Piece, cx.waker()) {
            Given::Piece(piece) => {
                self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(piece.len() as u64));
                Poll::Ready(Some(Ok(piece)))
            }
            Given::End => Poll::Ready(None),
            Given::Failed(error) => {
                self.has_ended = true;
                Poll::Ready(Some(Err(error)))
            }
            Given::NotYet => Poll::Pending,
        }
    }

    fn poll_whole(&mut self, limit: usize, cx: &Context<'_>) -> Poll<Result<Bytes, Error>> {
        Poll::Ready(match self.lease.link.take(Demand::Whole(limit), cx.waker()) {
            Given::Piece(whole) => {
                self.remaining = Some(0);
                Ok(whole)
            }
            Given::End => Ok(Bytes::new()),
            Given::Failed(error) => Err(error),
            Given::NotYet => return Poll::Pending,
        })
    }
}

/// A future that waits for the body: when it is dropped nothing more is read for it.
struct Waiting<'a>(&'a mut Body);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lease.link.withdraw();
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.lease.link.leave();
    }
}

fn io_error(error: &Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, error.to_string())
}

impl Stream for Body {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        self.poll_piece(cx).map_err(|error| io_error(&error))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.poll_piece(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(piece)) => Poll::Ready(Some(piece.map(Frame::data).map_err(|e| io_error(&e)))),
            Poll::Ready(None) => {
                let had_ended = std::mem::replace(&mut self.has_ended, true);
                let mut fields = ::http::HeaderMap::new();
                for (name, value) in self.trailers() {
                    let name = ::http::HeaderName::try_from(name).ok();
                    let value = ::http::HeaderValue::try_from(value).ok();
                    if let Some((name, value)) = name.zip(value) {
                        fields.append(name, value);
                    }
                }
                let is_told = had_ended || fields.is_empty();
                Poll::Ready((!is_told).then(|| Ok(Frame::trailers(fields))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || (self.is_complete() && self.trailers().is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
