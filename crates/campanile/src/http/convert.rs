//! Conversions: requests and responses as the types of the `http` crate.
//!
//! ```
//! use campanile::http::{self, Error, Request, Response};
//!
//! /// Written for the types of the `http` crate, and nothing else.
//! fn greet(request: &::http::Request<()>) -> Result<::http::Response<String>, ::http::Error> {
//!     ::http::Response::builder().header("X-Greeting", "yes").body(format!("hello, {}\n", request.uri().path()))
//! }
//!
//! let service = || http::service(|request, response| {
//!     let request = ::http::Request::try_from(request)?;
//!     response.send(greet(&request)?)
//! });
//! # fn is_a_service(_: impl campanile::Service) {}
//! # is_a_service(service());
//! ```

use campanile_core::Bytes;
use campanile_protocol::http1::{Field, Method, Target, Version};

use super::error::Error;
use super::request::Request;
use super::response::{Answered, Head, Response};

/// The method as one of the `http` crate.
///
/// # Errors
/// When it is none there: an extension of other characters than those of a token (RFC 9110, section 9.1), which no
/// request has.
pub fn method(method: Method<'_>) -> Result<::http::Method, ::http::method::InvalidMethod> {
    Ok(match method {
        Method::Get => ::http::Method::GET,
        Method::Head => ::http::Method::HEAD,
        Method::Post => ::http::Method::POST,
        Method::Put => ::http::Method::PUT,
        Method::Delete => ::http::Method::DELETE,
        Method::Connect => ::http::Method::CONNECT,
        Method::Options => ::http::Method::OPTIONS,
        Method::Trace => ::http::Method::TRACE,
        Method::Patch => ::http::Method::PATCH,
        other => ::http::Method::from_bytes(other.as_str().as_bytes())?,
    })
}

/// A method of the `http` crate as one of ours.
#[must_use]
pub fn method_of(method: &::http::Method) -> Method<'_> {
    Method::of(method.as_str())
}

/// The version as one of the `http` crate.
#[must_use]
pub fn version(version: Version) -> ::http::Version {
    match version {
        Version::Http10 => ::http::Version::HTTP_10,
        Version::Http11 => ::http::Version::HTTP_11,
    }
}

/// A version of the `http` crate as one of ours; `None` for those that are not spoken here.
#[must_use]
pub fn version_of(version: ::http::Version) -> Option<Version> {
    match version {
        ::http::Version::HTTP_10 => Some(Version::Http10),
        ::http::Version::HTTP_11 => Some(Version::Http11),
        _ => None,
    }
}

/// Method, target, version and all fields in their order, copied. The body is read as ever: it is not in here.
///
/// # Errors
/// 400 when the target is no URI as the `http` crate understands it.
impl TryFrom<&Request<'_>> for ::http::Request<()> {
    type Error = Error;

    fn try_from(request: &Request<'_>) -> Result<::http::Request<()>, Error> {
        let fields = request.fields();
        head(request.method(), request.target(), request.version(), fields)
    }
}

/// A head of these parts, without a body.
pub(super) fn head<'a>(
    of: Method<'_>,
    target: Target<'_>,
    spoken: Version,
    fields: impl ExactSizeIterator<Item = Field<'a>>,
) -> Result<::http::Request<()>, Error> {
    let bad = |what| move || Error::new(400, what);
    let uri = ::http::Uri::try_from(target.as_str());
    let mut converted = ::http::Request::new(());
    *converted.method_mut() = method(of).ok().ok_or_else(bad("the method is not valid"))?;
    *converted.uri_mut() = uri.ok().ok_or_else(bad("the target is not a valid URI"))?;
    *converted.version_mut() = version(spoken);
    let converted_fields = converted.headers_mut();
    converted_fields.reserve(fields.len());
    for field in fields {
        let name = ::http::HeaderName::try_from(field.name).ok();
        let value = ::http::HeaderValue::from_bytes(field.value).ok();
        let (name, value) = name.zip(value).ok_or_else(bad("a field is not valid"))?;
        converted_fields.append(name, value);
    }
    Ok(converted)
}

impl Response<'_, '_> {
    /// Answers with a response of the `http` crate: its status, its fields and its body, which is sent from where it
    /// is if it is long.
    ///
    /// How the body is framed is not the response's to say: Content-Length, Transfer-Encoding and Connection are
    /// left out, and so are Server and Date, which every response has already. But `Connection: close` ends the
    /// connection. The version and the extensions are not looked at.
    ///
    /// # Errors
    /// When the status is not from 200 to 599, or is one that has no body and there is one.
    pub fn send<B: Into<Bytes>>(self, response: ::http::Response<B>) -> Result<Answered, Error> {
        let (parts, body) = response.into_parts();
        self.parts(&parts).bytes(body.into())
    }
}

impl<'r, 'o> Response<'r, 'o> {
    /// Begins with status and fields of a response of the `http` crate.
    pub(super) fn parts(self, parts: &::http::response::Parts) -> Head<'r, 'o> {
        use ::http::header::{CONNECTION, CONTENT_LENGTH, DATE, SERVER, TRANSFER_ENCODING};

        let mut head = self.status(parts.status.as_u16());
        for (name, value) in &parts.headers {
            if name == CONNECTION {
                let mut options = value.as_bytes().split(|&byte| byte == b',');
                if options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close")) {
                    head = head.close();
                }
            } else if ![CONTENT_LENGTH, TRANSFER_ENCODING, SERVER, DATE].contains(name) {
                head = head.field(name.as_str(), value);
            }
        }
        head
    }
}
