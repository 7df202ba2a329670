//! The owned request: what a handler that waits is given, to keep for as long as it likes.

use std::borrow::Cow;
use std::fmt;

use campanile_protocol::http1::Target;

use super::body::Body;
use super::head::OwnedHead;
use super::lease::Lease;
use crate::http::convert;
use crate::http::error::Error;
use crate::http::{BodyLength, Fields, Method, Version};

/// A request with its body, for a handler that [waits](super::wait).
///
/// It is a copy of the head, since that is gone from the receive memory while a handler waits. The memory of the copy
/// is the worker's, and used again when the request and its body are dropped.
///
/// All of it is what [`Request`](crate::http::Request) has, by the same names.
pub struct OwnedRequest {
    body: Body,
}

impl OwnedRequest {
    pub(super) fn new(lease: Lease) -> OwnedRequest {
        OwnedRequest { body: Body::new(lease) }
    }

    fn head(&self) -> &OwnedHead {
        &self.body.lease().head
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> Method<'_> {
        self.head().method()
    }

    /// What is asked for.
    #[must_use]
    pub fn target(&self) -> Target<'_> {
        self.head().target()
    }

    /// The path of the target, as it was sent.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target().path()
    }

    /// The path beneath the place where the handler was mounted, as it was sent; the whole path if it was not mounted.
    #[must_use]
    pub fn path_below(&self) -> &str {
        self.head().path_below()
    }

    /// What follows the `?` of the target, as it was sent.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target().query()
    }

    /// The part of the path that matched `{name}` in the pattern of the [`Router`](crate::http::Router), as it was
    /// sent: percent-encoded.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        self.head().param(name)
    }

    /// The same, decoded: without its percent-encoding. `None` also if that is no UTF-8.
    #[must_use]
    pub fn decoded_param(&self, name: &str) -> Option<Cow<'_, str>> {
        percent_encoding::percent_decode_str(self.param(name)?).decode_utf8().ok()
    }

    /// The version the client speaks.
    #[must_use]
    pub fn version(&self) -> Version {
        self.head().version()
    }

    /// Host and perhaps port that the request is for; only an HTTP/1.0 request can be without.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.head().host()
    }

    /// The field lines in the order they came in.
    pub fn fields(&self) -> Fields<'_> {
        self.head().fields()
    }

    /// The value of the first field called `name`, in any case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// The values of all fields called `name`, in any case.
    pub fn values<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a, 'n> {
        self.fields().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }

    /// The value of the first field called `name`, in any case, if it is text of printable ASCII characters.
    #[must_use]
    pub fn text_field(&self, name: &str) -> Option<&str> {
        let value = self.field(name).filter(|value| value.is_ascii());
        value.and_then(|value| std::str::from_utf8(value).ok())
    }

    /// How the end of the body is found.
    #[must_use]
    pub fn body_length(&self) -> BodyLength {
        self.head().body()
    }

    /// The body, to read it.
    pub fn body(&mut self) -> &mut Body {
        &mut self.body
    }

    /// The body alone.
    #[must_use]
    pub fn into_body(self) -> Body {
        self.body
    }
}

/// Method, target, version and all fields in their order, copied, with the body.
///
/// # Errors
/// 400 when the target is no URI as the `http` crate understands it.
impl TryFrom<OwnedRequest> for ::http::Request<Body> {
    type Error = Error;

    fn try_from(request: OwnedRequest) -> Result<::http::Request<Body>, Error> {
        let (method, version) = (request.method(), request.version());
        let head = convert::head(method, request.target(), version, request.fields())?;
        let (parts, ()) = head.into_parts();
        Ok(::http::Request::from_parts(parts, request.into_body()))
    }
}

impl fmt::Debug for OwnedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedRequest")
            .field("method", &self.method())
            .field("target", &self.target())
            .finish_non_exhaustive()
    }
}
