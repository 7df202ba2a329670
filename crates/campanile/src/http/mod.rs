//! HTTP/1.1: handlers of requests, as a service.
//!
//! A [`Handler`] is called when the head of a request is complete, and answers by its [`Response`]: at once, or by
//! going on as an [`Exchange`] that is told of pieces of the body and of room for the answer. Keep-alive, pipelining,
//! HEAD, Date, `Expect: 100-continue` and the framing of bodies are taken care of (RFC 9110, RFC 9112).
//!
//! | to | see |
//! |---|---|
//! | answer at once | [`Response::text`], [`Response::status`] |
//! | read a whole body first | [`Response::collect`] |
//! | write a long answer piece by piece | [`Head::stream`], [`Head::sized`] |
//! | wait: for time, for another server, for a body | [`wait`], [`OwnedRequest`], [`IntoResponse`] |
//! | stream by async code | [`Body`], [`stream`](fn@stream), [`pieces`], [`frames`] |
//! | ask another server | [`Client`], whose [`Content`] is passed on as the body of an answer |
//! | answer while the body comes, ask the worker for files or connections | [`Response::run`], [`Responder`] |
//! | be watched: metrics for Prometheus, whether it lives, whether it is ready | `Metrics`, [`health`], [`readiness`] |
//! | use the types of the `http` crate | [`convert`], [`Response::send`] |
//! | fail | return an [`Error`], or any error by `?` |

use std::rc::Rc;
use std::sync::Arc;

mod active;
mod body;
mod budget;
mod client;
mod collect;
mod config;
pub mod convert;
mod error;
mod exchange;
mod first;
mod into_response;
mod log;
#[cfg(feature = "metrics")]
mod metrics;
mod outlet;
mod probes;
mod request;
mod response;
mod router;
mod serve;
mod service;
mod shared;
mod timers;
mod waiting;

pub use crate::files::{Files, MEMORY as FILES_MEMORY};
/// The `http` crate: requests, answers, fields and statuses as the ecosystem has them.
#[doc(no_inline)]
pub use ::http as types;
pub use campanile_protocol::http1::{
    BodyLength, Field, FieldLine, Fields, Limits, MAX_FIELDS, Method, RequestHead, Version, WriteError,
};
pub use client::{Client, ClientConfig, ClientError, Content, Payload};
pub use config::Config;
pub use error::Error;
pub use exchange::{Exchange, Next, Responder};
pub use into_response::{IntoBody, IntoResponse, respond};
#[cfg(feature = "metrics")]
pub use metrics::Metrics;
pub use probes::{health, readiness};
pub use request::Request;
pub use response::{Answered, Begun, Head, Response};
pub use router::Router;
pub use serve::{host, serve};
pub use service::{Http, service};
pub use waiting::{
    Body, BodyWriter, Frames, OwnedRequest, Pieces, Written, frames, pieces, stream, wait, wait_with,
};

/// Answers requests.
///
/// Closures are handlers. One handler answers all connections of a worker, so it takes `&self`, and what it keeps can
/// be in a [`Cell`](std::cell::Cell): it never leaves its worker.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler of HTTP requests",
    note = "implement `http::Handler`, or pass a closure `|request, response| ...` that returns \
            `Result<http::Answered, http::Error>`",
    note = "an async closure or function is handed over as `http::wait(async |request| ...)`",
    note = "a closure that is stored in a variable first needs its types written out: \
            `|request: &Request<'_>, response: Response<'_, '_>|`"
)]
pub trait Handler {
    /// Answers one request, whose head is complete, or says who will.
    ///
    /// # Errors
    /// An error is answered with its status; what was written is taken back.
    fn handle(&self, request: &Request<'_>, response: Response<'_, '_>) -> Result<Answered, Error>;
}

impl<F> Handler for F
where
    F: Fn(&Request<'_>, Response<'_, '_>) -> Result<Answered, Error>,
{
    fn handle(&self, request: &Request<'_>, response: Response<'_, '_>) -> Result<Answered, Error> {
        self(request, response)
    }
}

impl<H: Handler + ?Sized> Handler for Rc<H> {
    fn handle(&self, request: &Request<'_>, response: Response<'_, '_>) -> Result<Answered, Error> {
        (**self).handle(request, response)
    }
}

impl<H: Handler + ?Sized> Handler for Arc<H> {
    fn handle(&self, request: &Request<'_>, response: Response<'_, '_>) -> Result<Answered, Error> {
        (**self).handle(request, response)
    }
}

/// A closure as a handler: the compiler infers the types of its arguments here.
pub fn handler<F>(handle: F) -> F
where
    F: Fn(&Request<'_>, Response<'_, '_>) -> Result<Answered, Error>,
{
    handle
}
