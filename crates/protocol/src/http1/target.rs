//! A target is what a request asks for, in one of four forms.

use core::fmt;
use core::ops::Range;

use super::error::RequestError;
use super::grammar::{is_host, path_end, split_host};
use super::head::Method;

/// A request target (RFC 9112 3.2), valid for the method it came with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// ASCII, since it is valid.
    raw: &'a [u8],
    form: TargetForm,
    /// Where in `raw` the authority begins, where the path does, and where that ends.
    authority: usize,
    path: usize,
    path_end: usize,
}

/// The forms of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query` (RFC 9112 3.2.1)
    Origin,
    /// `http://host/path?query` (RFC 9112 3.2.2)
    Absolute,
    /// `host:port`, of CONNECT only (RFC 9112 3.2.3)
    Authority,
    /// `*`, of OPTIONS only (RFC 9112 3.2.4)
    Asterisk,
}

/// Where the parts of a [`Target`] are, without its text: for who keeps a copy of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetLayout {
    form: TargetForm,
    authority: usize,
    path: usize,
    path_end: usize,
}

impl TargetLayout {
    /// The target again, over a copy of its [bytes](Target::as_bytes). Over any others its parts are empty or wrong.
    pub fn over(self, raw: &[u8]) -> Target<'_> {
        let TargetLayout { form, authority, path, path_end } = self;
        Target { raw, form, authority, path, path_end }
    }
}

impl<'a> Target<'a> {
    /// Where its parts are.
    pub fn layout(&self) -> TargetLayout {
        let Target { raw: _, form, authority, path, path_end } = *self;
        TargetLayout { form, authority, path, path_end }
    }

    /// A path that was checked, and is all there is.
    #[inline]
    pub(super) const fn of_path(raw: &'a [u8]) -> Self {
        Target { raw, form: TargetForm::Origin, authority: 0, path: 0, path_end: raw.len() }
    }

    #[inline]
    pub(super) fn parse(method: Method<'_>, raw: &'a [u8]) -> Result<Self, RequestError> {
        match raw {
            [b'/', ..] if method != Method::Connect => {
                let path_end = path_end(raw).ok_or(RequestError::Target)?;
                Ok(Target { path_end, ..Target::of_path(raw) })
            }
            _ => Self::parse_rare(method, raw).ok_or(RequestError::Target),
        }
    }

    #[cold]
    fn parse_rare(method: Method<'_>, raw: &'a [u8]) -> Option<Self> {
        let end = raw.len();
        if method == Method::Connect {
            let (_, port) = split_host(raw)?;
            let target = Target { raw, form: TargetForm::Authority, authority: 0, path: end, path_end: end };
            // RFC 9110 9.3.6: an empty or invalid port is refused; nobody listens on port zero.
            return port.iter().any(|&digit| digit != b'0').then_some(target);
        }
        if raw == b"*" {
            let target = Target { raw, form: TargetForm::Asterisk, authority: 0, path: 0, path_end: end };
            return (method == Method::Options).then_some(target);
        }
        let is_scheme =
            |scheme: &&[u8]| raw.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        let authority = [&b"http://"[..], b"https://"].into_iter().find(is_scheme)?.len();
        let rest = &raw[authority..];
        let path = authority + rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let path_end = path + path_end(&raw[path..])?;
        let target = Target { raw, form: TargetForm::Absolute, authority, path, path_end };
        is_host(&raw[authority..path]).then_some(target)
    }

    /// The target as it was sent.
    pub fn as_str(&self) -> &'a str {
        self.part(0..self.raw.len())
    }

    /// The same as bytes, which are ASCII.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }

    /// Its form.
    pub fn form(&self) -> TargetForm {
        self.form
    }

    /// Host and perhaps port, of an absolute or authority form.
    pub fn authority(&self) -> Option<&'a str> {
        match self.form {
            TargetForm::Absolute | TargetForm::Authority => Some(self.part(self.authority..self.path)),
            TargetForm::Origin | TargetForm::Asterisk => None,
        }
    }

    /// Whether this is an absolute form of `https`. A server that did not get it over TLS, nor from a gateway it
    /// trusts, must refuse it (RFC 9110 7.4: 421).
    pub fn is_https(&self) -> bool {
        self.form == TargetForm::Absolute && self.authority == "https://".len()
    }

    /// The path, escapes as they were sent: begins with `/`, except that it is `*` in the asterisk form and empty in
    /// the authority form.
    #[inline]
    pub fn path(&self) -> &'a str {
        let path = self.part(self.path..self.path_end);
        if path.is_empty() && self.form == TargetForm::Absolute { "/" } else { path }
    }

    /// What follows the first `?`, if there is one.
    #[inline]
    pub fn query(&self) -> Option<&'a str> {
        (self.path_end < self.raw.len()).then(|| self.part(self.path_end + 1..self.raw.len()))
    }

    #[inline]
    fn part(&self, range: Range<usize>) -> &'a str {
        self.raw.get(range).and_then(|part| core::str::from_utf8(part).ok()).unwrap_or_default()
    }
}

impl fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { form, .. } = self;
        write!(f, "{form:?}({:?})", self.as_str())
    }
}
