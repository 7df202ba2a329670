//! Facts are what the fields of a head say about its framing and its connection, read in one pass.

use super::error::RequestError;
use super::grammar::{decimal, elements, is_host, is_token, trim};
use super::head::{BodyLength, Field, Version};

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
}

impl<'a> Facts<'a> {
    /// Takes note of one field of a request. Nearly all are told apart by their length and first letter alone.
    #[inline]
    pub(super) fn note_request(&mut self, field: &Field<'a>) -> Result<(), RequestError> {
        let name = field.name.as_bytes();
        match (name.len(), name[0] | 0x20) {
            (4, b'h') if name.eq_ignore_ascii_case(b"host") => self.note_host(field.value),
            (6, b'e') if name.eq_ignore_ascii_case(b"expect") => {
                self.note_expectation(field.value);
                Ok(())
            }
            _ => self.note(field),
        }
    }

    /// Takes note of one field of any message.
    #[inline]
    pub(super) fn note(&mut self, field: &Field<'a>) -> Result<(), RequestError> {
        let name = field.name.as_bytes();
        match (name.len(), name[0] | 0x20) {
            (10, b'c') if name.eq_ignore_ascii_case(b"connection") => {
                self.note_connection(field.value);
                Ok(())
            }
            (14, b'c') if name.eq_ignore_ascii_case(b"content-length") => self.note_length(field.value),
            (17, b't') if name.eq_ignore_ascii_case(b"transfer-encoding") => self.note_encoding(field.value),
            (14, b'c') if name.eq_ignore_ascii_case(b"content_length") => Err(RequestError::LookAlike),
            (17, b't') if name.eq_ignore_ascii_case(b"transfer_encoding") => Err(RequestError::LookAlike),
            _ => Ok(()),
        }
    }

    fn note_host(&mut self, value: &'a [u8]) -> Result<(), RequestError> {
        if self.host.replace(value).is_some() {
            return Err(RequestError::HostRepeated);
        }
        if is_host(value) { Ok(()) } else { Err(RequestError::Host) }
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

    fn note_length(&mut self, value: &[u8]) -> Result<(), RequestError> {
        if self.length.is_some() || value.contains(&b',') {
            return Err(RequestError::ContentLengthRepeated);
        }
        // Leading zeros are digits to the RFC, and octal to some: two readings of one length.
        let ambiguous = matches!(value, [b'0', _, ..]);
        let length = decimal(value).filter(|_| !ambiguous).ok_or(RequestError::ContentLength)?;
        self.length = Some(length);
        Ok(())
    }

    fn note_encoding(&mut self, value: &[u8]) -> Result<(), RequestError> {
        self.has_encoding = true;
        for coding in elements(value) {
            // Nothing may follow `chunked`, be it itself or another coding.
            if self.chunked {
                return Err(RequestError::TransferEncoding);
            }
            let mut parts = coding.splitn(2, |&byte| byte == b';');
            let name = trim(parts.next().unwrap_or_default());
            let parameters = parts.next();
            if name.eq_ignore_ascii_case(b"chunked") && parameters.is_none() {
                self.chunked = true;
            } else if is_token(name) && !name.eq_ignore_ascii_case(b"chunked") {
                self.foreign_coding = true;
            } else {
                return Err(RequestError::TransferEncoding);
            }
        }
        Ok(())
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
