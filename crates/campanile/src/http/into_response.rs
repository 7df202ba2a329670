//! Answers: what a handler that waits may return, and the bodies that may be in it.

use std::borrow::Cow;

use campanile_core::Bytes;
use campanile_protocol::http1::FieldLine;

use super::error::Error;
use super::response::{Answered, Head, Response, TEXT};
use super::waiting::{Body, Frames, Pieces, Written};

/// What is an answer: it is written into the [`Response`] that the connection has for it, so it costs no memory beyond
/// its own.
///
/// | is an answer | and means |
/// |---|---|
/// | `&str`, `String`, `Bytes`, `Vec<u8>`, [`Body`], `pieces`, `frames`, `stream`: any [body](IntoBody) | 200 with it |
/// | a status: `u16`, [`StatusCode`](::http::StatusCode) | that, without a body |
/// | `(status, body)`, `(status, fields, body)` | that; fields are pairs, in an array for instance, or a `&HeaderMap` |
/// | [`http::Response`](::http::Response) of a body | that: see [`Response::send`] |
/// | `Result<_, E>` of an answer and of what turns into an [`Error`] by `?` | either |
/// | [`respond`] of a closure | what the closure does with the [`Response`] |
///
/// Texts have `Content-Type: text/plain; charset=utf-8`, unless the fields say otherwise.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no answer to an HTTP request",
    label = "cannot be sent as an answer",
    note = "return a text, `Bytes`, a status, `(status, body)`, `(status, fields, body)`, an `http::Response`, a \
            `Result` of these with any error, or `campanile::http::respond(|response| ...)`",
    note = "a stream is handed over as `http::pieces(stream)`, a body of the crate `http-body` as `http::frames(body)`"
)]
pub trait IntoResponse {
    /// Answers.
    ///
    /// # Errors
    /// An error is answered with its status; what was written is taken back.
    fn into_response(self, response: Response<'_, '_>) -> Result<Answered, Error>;
}

/// What can be the body of an answer.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no body of an HTTP answer",
    note = "a body is a text, bytes, `http::Body`, `http::stream(async |writer| ...)`, `http::pieces(stream)` or \
            `http::frames(body)`"
)]
pub trait IntoBody: Sized {
    /// The field Content-Type that it has if nobody says otherwise.
    const CONTENT_TYPE: Option<FieldLine> = None;

    /// Ends the response with this body.
    ///
    /// # Errors
    /// The first mistake that was made in the head, and that the status is one without a body.
    fn end(self, head: Head<'_, '_>) -> Result<Answered, Error>;
}

/// What is longer is sent from where it is, and not copied.
const COPIED: usize = 4096;

impl IntoBody for () {
    fn end(self, head: Head<'_, '_>) -> Result<Answered, Error> {
        head.empty()
    }
}

impl IntoBody for &str {
    const CONTENT_TYPE: Option<FieldLine> = Some(TEXT);

    fn end(self, head: Head<'_, '_>) -> Result<Answered, Error> {
        head.body(self)
    }
}

impl IntoBody for String {
    const CONTENT_TYPE: Option<FieldLine> = Some(TEXT);

    fn end(self, head: Head<'_, '_>) -> Result<Answered, Error> {
        self.into_bytes().end(head)
    }
}

impl IntoBody for Cow<'static, str> {
    const CONTENT_TYPE: Option<FieldLine> = Some(TEXT);

    fn end(self, head: Head<'_, '_>) -> Result<Answered, Error> {
        match self {
            Cow::Borrowed(text) => text.end(head),
            Cow::Owned(text) => text.end(head),
        }
    }
}

impl IntoBody for Vec<u8> {
    fn end(self, head: Head<'_, '_>) -> Result<Answered, Error> {
        if self.len() <= COPIED { head.body(self) } else { head.bytes(self.into()) }
    }
}

impl IntoBody for &[u8] {
    fn end(self, head: Head<'_, '_>) -> Result<Answered, Error> {
        head.body(self)
    }
}

impl IntoBody for Bytes {
    fn end(self, head: Head<'_, '_>) -> Result<Answered, Error> {
        head.bytes(self)
    }
}

/// Every body is an answer: 200.
macro_rules! bodies {
    ($([$($param:tt)?] $body:ty),* $(,)?) => {$(
        impl<$($param)?> IntoResponse for $body
        where
            $body: IntoBody,
        {
            fn into_response(self, response: Response<'_, '_>) -> Result<Answered, Error> {
                (200, self).into_response(response)
            }
        }
    )*};
}

bodies!([] (), ['a] &'a str, [] String, [] Cow<'static, str>, [] Vec<u8>, ['a] &'a [u8], [] Bytes, [] Body);
bodies!([S] Pieces<S>, [B] Frames<B>, [F] Written<F>);

/// A status alone, before a body, and before fields and a body.
macro_rules! statuses {
    ($($status:ty),*) => {$(
        impl IntoResponse for $status {
            fn into_response(self, response: Response<'_, '_>) -> Result<Answered, Error> {
                response.status(self.into()).empty()
            }
        }

        impl<B: IntoBody> IntoResponse for ($status, B) {
            fn into_response(self, response: Response<'_, '_>) -> Result<Answered, Error> {
                let (status, body) = self;
                typed(response.status(status.into()), B::CONTENT_TYPE, body)
            }
        }

        impl<I, N, V, B> IntoResponse for ($status, I, B)
        where
            I: IntoIterator<Item = (N, V)>,
            N: AsRef<str>,
            V: AsRef<[u8]>,
            B: IntoBody,
        {
            fn into_response(self, response: Response<'_, '_>) -> Result<Answered, Error> {
                let (status, fields, body) = self;
                let (mut head, mut kind) = (response.status(status.into()), B::CONTENT_TYPE);
                for (name, value) in fields {
                    kind = kind.filter(|_| !name.as_ref().eq_ignore_ascii_case("content-type"));
                    head = head.field(name.as_ref(), value);
                }
                typed(head, kind, body)
            }
        }
    )*};
}

statuses!(u16, ::http::StatusCode);

fn typed(head: Head<'_, '_>, kind: Option<FieldLine>, body: impl IntoBody) -> Result<Answered, Error> {
    body.end(match kind {
        Some(kind) => head.line(kind),
        None => head,
    })
}

impl<B: IntoBody> IntoResponse for ::http::Response<B> {
    fn into_response(self, response: Response<'_, '_>) -> Result<Answered, Error> {
        let (parts, body) = self.into_parts();
        body.end(response.parts(&parts))
    }
}

impl<T: IntoResponse, E: Into<Error>> IntoResponse for Result<T, E> {
    fn into_response(self, response: Response<'_, '_>) -> Result<Answered, Error> {
        self.map_err(Into::into)?.into_response(response)
    }
}

impl<F> IntoResponse for F
where
    F: FnOnce(Response<'_, '_>) -> Result<Answered, Error>,
{
    fn into_response(self, response: Response<'_, '_>) -> Result<Answered, Error> {
        self(response)
    }
}

/// A closure over the [`Response`] as an answer, for all that a response can do.
///
/// ```
/// use campanile::http;
///
/// let gone = http::wait(async |_| http::respond(|response| response.status(410).close().empty()));
/// # fn is_a_service(_: impl campanile::Service) {}
/// # is_a_service(http::service(gone));
/// ```
pub fn respond<F>(answer: F) -> F
where
    F: FnOnce(Response<'_, '_>) -> Result<Answered, Error>,
{
    answer
}
