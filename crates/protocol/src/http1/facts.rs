//! Facts are what the fields of a head say about its framing and its connection, read in one pass.

use super::error::RequestError;
use super::grammar::{decimal, elements, is_host, is_token, trim};
use super::head::{BodyLength, Version};
use super::lanes::{find, unlike_hosts};
use super::tokens::Line;

/// What was noted of the fields seen so far.
#[derive(Debug, Default)]
pub(super) struct Facts<'a> {
    pub(super) host: Option<&'a [u8]>,
    length: Option<u64>,
    has_encoding: bool,
    chunked: bool,
    foreign_coding: bool,
    close: bool,
    keep_alive: bool,
    pub(super) upgrade: bool,
    expects_continue: bool,
    expects_other: bool,
    /// The first field that says what it must not.
    flaw: Option<RequestError>,
}

impl<'a> Facts<'a> {
    /// Takes note of one field of a request.
    #[inline]
    pub(super) fn note_request(&mut self, line: Line<'a>) {
        match line.name.len() {
            4 if is(line.name, b"Host") => self.note_host(line),
            6 if is(line.name, b"Expect") => self.note_expectation(line.value),
            _ => self.note(line),
        }
    }

    /// Takes note of one field of any message.
    #[inline]
    pub(super) fn note(&mut self, line: Line<'a>) {
        let Line { name, value, .. } = line;
        match name.len() {
            10 if is(name, b"Connection") => self.note_connection(value),
            14 if is(name, b"Content-Length") => self.note_length(value),
            17 if is(name, b"Transfer-Encoding") => self.note_encoding(value),
            14 if is(name, b"Content_Length") => self.refuse(RequestError::LookAlike),
            17 if is(name, b"Transfer_Encoding") => self.refuse(RequestError::LookAlike),
            _ => {}
        }
    }

    /// What was wrong first, if anything was.
    #[inline]
    pub(super) fn check(&self) -> Result<(), RequestError> {
        self.flaw.map_or(Ok(()), Err)
    }

    #[cold]
    fn refuse(&mut self, flaw: RequestError) {
        self.flaw.get_or_insert(flaw);
    }

    #[inline]
    fn note_host(&mut self, line: Line<'a>) {
        if self.host.replace(line.value).is_some() {
            self.refuse(RequestError::HostRepeated);
        }
        // Most are a plain name, in front of a CR.
        let is_plain = !line.value.is_empty() && find(line.rest, 0, unlike_hosts) == Some(line.value.len());
        if !is_plain && !is_host(line.value) {
            self.refuse(RequestError::Host);
        }
    }

    fn note_expectation(&mut self, value: &[u8]) {
        for expectation in elements(value) {
            if expectation.eq_ignore_ascii_case(b"100-continue") {
                self.expects_continue = true;
            } else if !expectation.is_empty() {
                self.expects_other = true;
            }
        }
    }

    #[inline]
    fn note_connection(&mut self, value: &[u8]) {
        // What nearly every client sends, without the walk over a list.
        if value == b"keep-alive" {
            self.keep_alive = true;
            return;
        }
        // Options are tokens (RFC 9110 7.6.1), so every comma divides: no quotation mark hides a `close`.
        for option in value.split(|&byte| byte == b',').map(trim) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            }
        }
    }

    fn note_length(&mut self, value: &[u8]) {
        if self.length.is_some() || value.contains(&b',') {
            return self.refuse(RequestError::ContentLengthRepeated);
        }
        // Leading zeros are digits to the RFC, and octal to some: two readings of one length.
        let ambiguous = matches!(value, [b'0', _, ..]);
        self.length = decimal(value).filter(|_| !ambiguous);
        if self.length.is_none() {
            self.refuse(RequestError::ContentLength);
        }
    }

    fn note_encoding(&mut self, value: &[u8]) {
        self.has_encoding = true;
        for coding in elements(value) {
            // Nothing may follow `chunked`, be it itself or another coding.
            if self.chunked {
                return self.refuse(RequestError::TransferEncoding);
            }
            let mut parts = coding.splitn(2, |&byte| byte == b';');
            let name = trim(parts.next().unwrap_or_default());
            let parameters = parts.next();
            if name.eq_ignore_ascii_case(b"chunked") && parameters.is_none() {
                self.chunked = true;
            } else if is_token(name) && !name.eq_ignore_ascii_case(b"chunked") {
                self.foreign_coding = true;
            } else {
                return self.refuse(RequestError::TransferEncoding);
            }
        }
    }

    /// RFC 9112 6.3 for a message of `version` that has a body only if its fields say so.
    #[inline]
    pub(super) fn body(&self, version: Version) -> Result<BodyLength, RequestError> {
        if !self.has_encoding {
            return Ok(self.length.map_or(BodyLength::Empty, BodyLength::Length));
        }
        if version == Version::Http10 {
            return Err(RequestError::EncodingOnOldVersion);
        }
        if self.length.is_some() {
            return Err(RequestError::LengthAndEncoding);
        }
        if self.foreign_coding {
            return Err(RequestError::TransferCoding);
        }
        Ok(BodyLength::Chunked)
    }

    /// RFC 9112 9.3.
    #[inline]
    pub(super) fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    /// RFC 9110 10.1.1: expectations of HTTP/1.0 clients are ignored.
    #[inline]
    pub(super) fn continuation(&self, version: Version) -> Result<bool, RequestError> {
        if version == Version::Http10 {
            return Ok(false);
        }
        if self.expects_other { Err(RequestError::Expectation) } else { Ok(self.expects_continue) }
    }
}

/// Whether `name` is `known`, in any case; soonest if it is written just so.
#[inline(always)]
fn is(name: &[u8], known: &[u8]) -> bool {
    name == known || name.eq_ignore_ascii_case(known)
}
