//! A head is the start line and the fields of a request, borrowed from the input.

use super::exchange::Exchange;
use super::fields::Fields;
use super::target::Target;

/// The version of a message; there are two (RFC 9112 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

impl Version {
    /// The version as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }
}

/// A request method (RFC 9110 9, RFC 5789): case matters, `get` is an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method<'a> {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// CONNECT
    Connect,
    /// OPTIONS
    Options,
    /// TRACE
    Trace,
    /// PATCH
    Patch,
    /// Any other token.
    Extension(&'a str),
}

impl<'a> Method<'a> {
    /// The method of this name, which is taken as it is: one that is no token is refused where it would be written.
    ///
    /// ```
    /// use campanile_protocol::http1::Method;
    ///
    /// assert_eq!(Method::of("GET"), Method::Get);
    /// assert_eq!(Method::of("PURGE"), Method::Extension("PURGE"));
    /// ```
    #[inline]
    pub fn of(name: &'a str) -> Self {
        match name {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            "CONNECT" => Method::Connect,
            "OPTIONS" => Method::Options,
            "TRACE" => Method::Trace,
            "PATCH" => Method::Patch,
            _ => Method::Extension(name),
        }
    }

    /// The method that a request line begins with.
    #[inline]
    pub(super) fn of_token(token: &'a [u8]) -> Self {
        match token {
            b"GET" => Method::Get,
            _ => Method::of(core::str::from_utf8(token).unwrap_or_default()),
        }
    }

    /// The method as it stands on the wire.
    pub const fn as_str(self) -> &'a str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Connect => "CONNECT",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
            Method::Extension(name) => name,
        }
    }
}

/// How the end of a body is found (RFC 9112 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body.
    Empty,
    /// The body has this many bytes.
    Length(u64),
    /// The body is chunked (RFC 9112 7.1).
    Chunked,
    /// The body ends with the connection; only in responses.
    UntilClose,
}

impl BodyLength {
    /// Whether there is certainly no byte of a body.
    pub const fn is_empty(self) -> bool {
        matches!(self, BodyLength::Empty | BodyLength::Length(0))
    }
}

/// The head of a request: valid by every rule of RFC 9112 that a server must enforce.
///
/// `'a` is the input.
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    pub(super) method: Method<'a>,
    pub(super) target: Target<'a>,
    pub(super) version: Version,
    pub(super) fields: Fields<'a>,
    pub(super) host: Option<&'a [u8]>,
    pub(super) body: BodyLength,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    pub(super) wants_upgrade: bool,
}

impl<'a> RequestHead<'a> {
    /// The method.
    pub fn method(&self) -> Method<'a> {
        self.method
    }

    /// What is asked for.
    pub fn target(&self) -> Target<'a> {
        self.target
    }

    /// The path of the target; see [`Target::path`].
    pub fn path(&self) -> &'a str {
        self.target.path()
    }

    /// The version the client speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The field lines in the order they came in.
    pub fn fields(&self) -> Fields<'a> {
        self.fields
    }

    /// The value of the first field called `name`, in any case.
    pub fn field(&self, name: &str) -> Option<&'a [u8]> {
        self.values(name).next()
    }

    /// The values of all fields called `name`, in any case.
    pub fn values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + Clone + use<'n, 'a> {
        self.fields.values(name)
    }

    /// Host and perhaps port that the request is for: those of the target if it has some, else those of the Host field
    /// (RFC 9112 3.2.2). Only an HTTP/1.0 request can be without.
    pub fn host(&self) -> Option<&'a str> {
        let named = || self.host.and_then(|host| core::str::from_utf8(host).ok());
        self.target.authority().or_else(named)
    }

    /// How the end of the body is found.
    pub fn body(&self) -> BodyLength {
        self.body
    }

    /// Whether the client lets the connection persist (RFC 9112 9.3).
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// The protocols the client would rather speak, if it asked properly: HTTP/1.1, `Connection: upgrade` and an
    /// Upgrade field (RFC 9110 7.8).
    pub fn upgrade(&self) -> Option<&'a [u8]> {
        if self.wants_upgrade { self.field("upgrade") } else { None }
    }

    /// What the response must know of this request; it can outlive the input.
    pub fn exchange(&self) -> Exchange {
        Exchange {
            version: self.version,
            keep_alive: self.keep_alive,
            is_head: self.method == Method::Head,
            is_connect: self.method == Method::Connect,
        }
    }
}
