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
use campanile_protocol::http1::{Method, Version};

use super::error::Error;
use super::request::Request;
use super::response::{Answered, Response};

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
        let bad = |what| move || Error::new(400, what);
        let uri = ::http::Uri::try_from(request.target().as_str());
        let mut converted = ::http::Request::new(());
        *converted.method_mut() = method(request.method()).ok().ok_or_else(bad("the method is not valid"))?;
        *converted.uri_mut() = uri.ok().ok_or_else(bad("the target is not a valid URI"))?;
        *converted.version_mut() = version(request.version());
        let fields = converted.headers_mut();
        fields.reserve(request.fields().len());
        for field in request.fields() {
            let name = ::http::HeaderName::try_from(field.name).ok();
            let value = ::http::HeaderValue::from_bytes(field.value).ok();
            let (name, value) = name.zip(value).ok_or_else(bad("a field is not valid"))?;
            fields.append(name, value);
        }
        Ok(converted)
    }
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
        use ::http::header::{CONNECTION, CONTENT_LENGTH, DATE, SERVER, TRANSFER_ENCODING};

        let (parts, body) = response.into_parts();
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
        head.bytes(body.into())
    }
}
