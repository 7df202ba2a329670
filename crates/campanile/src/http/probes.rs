//! The probes: handlers by which whoever sends a server its clients learns whether it lives, and wants more of them.

use campanile_protocol::http1::FieldLine;

use super::error::Error;
use super::request::Request;
use super::response::{Answered, Response};

/// What is true now only (RFC 9111, section 5.2.2.5).
pub(super) const NO_STORE: FieldLine = FieldLine::from_static("Cache-Control: no-store\r\n");
const TEXT: FieldLine = FieldLine::from_static("Content-Type: text/plain; charset=utf-8\r\n");

/// Answers 200 for as long as the worker answers at all: whether the process is to be left alone.
///
/// ```
/// use campanile::http;
///
/// let router = http::Router::new().get("/healthz", http::health).get("/readyz", http::readiness);
/// ```
///
/// # Errors
/// None.
pub fn health(_: &Request<'_>, response: Response<'_, '_>) -> Result<Answered, Error> {
    response.status(200).line(TEXT).line(NO_STORE).body("ok\n")
}

/// Answers 200 while the server takes clients, and 503 as soon as it drains: whether it is to be sent more of them.
///
/// # Errors
/// None.
pub fn readiness(_: &Request<'_>, mut response: Response<'_, '_>) -> Result<Answered, Error> {
    let (status, text) =
        if response.control().is_draining() { (503, "draining\n") } else { (200, "ready\n") };
    response.status(status).line(TEXT).line(NO_STORE).body(text)
}
