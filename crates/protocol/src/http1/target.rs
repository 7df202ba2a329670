//! A target is what a request asks for, in one of four forms.

use super::error::RequestError;
use super::grammar::{is_host, path_end, split_host};
use super::head::Method;

/// A request target (RFC 9112 3.2), valid for the method it came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    raw: &'a str,
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
    /// The target again, over a copy of its text. Over any other text its parts are empty or wrong.
    pub fn over(self, raw: &str) -> Target<'_> {
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

    #[inline]
    pub(super) fn parse(method: Method<'_>, raw: &'a str) -> Result<Self, RequestError> {
        match raw.as_bytes() {
            [b'/', ..] if method != Method::Connect => {
                let path_end = path_end(raw.as_bytes()).ok_or(RequestError::Target)?;
                Ok(Target { raw, form: TargetForm::Origin, authority: 0, path: 0, path_end })
            }
            _ => Self::parse_rare(method, raw).ok_or(RequestError::Target),
        }
    }

    #[cold]
    fn parse_rare(method: Method<'_>, raw: &'a str) -> Option<Self> {
        let end = raw.len();
        if method == Method::Connect {
            let (_, port) = split_host(raw.as_bytes())?;
            let target = Target { raw, form: TargetForm::Authority, authority: 0, path: end, path_end: end };
            // RFC 9110 9.3.6: an empty or invalid port is refused; nobody listens on port zero.
            return port.iter().any(|&digit| digit != b'0').then_some(target);
        }
        if raw == "*" {
            let target = Target { raw, form: TargetForm::Asterisk, authority: 0, path: 0, path_end: end };
            return (method == Method::Options).then_some(target);
        }
        let is_scheme =
            |scheme: &&str| raw.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        let authority = ["http://", "https://"].into_iter().find(is_scheme)?.len();
        let rest = &raw[authority..];
        let path = authority + rest.find(['/', '?']).unwrap_or(rest.len());
        let path_end = path + path_end(&raw.as_bytes()[path..])?;
        let target = Target { raw, form: TargetForm::Absolute, authority, path, path_end };
        is_host(&raw.as_bytes()[authority..path]).then_some(target)
    }

    /// The target as it was sent.
    pub fn as_str(&self) -> &'a str {
        self.raw
    }

    /// Its form.
    pub fn form(&self) -> TargetForm {
        self.form
    }

    /// Host and perhaps port, of an absolute or authority form.
    pub fn authority(&self) -> Option<&'a str> {
        match self.form {
            TargetForm::Absolute | TargetForm::Authority => self.raw.get(self.authority..self.path),
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
        let path = self.raw.get(self.path..self.path_end).unwrap_or_default();
        if path.is_empty() && self.form == TargetForm::Absolute { "/" } else { path }
    }

    /// What follows the first `?`, if there is one.
    #[inline]
    pub fn query(&self) -> Option<&'a str> {
        self.raw.get(self.path_end + 1..)
    }
}
