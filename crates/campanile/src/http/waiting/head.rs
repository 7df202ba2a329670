//! The owned head: a copy of a request's head, in memory that is used again.

use crate::http::request::Request;
use crate::http::{BodyLength, Fields, Method, Version};
use campanile_protocol::http1::{Target, TargetLayout};

/// A part of the text.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: u32,
    end: u32,
}

/// All that a head says, in two pieces of memory.
#[derive(Debug, Default)]
pub(super) struct OwnedHead {
    facts: Option<Facts>,
    /// The target first, then the method, parameters.
    text: Vec<u8>,
    /// The field lines as they came.
    lines: Vec<u8>,
    /// Names and values, both in the text.
    params: Vec<(Span, Span)>,
}

#[derive(Debug, Clone, Copy)]
struct Facts {
    target: TargetLayout,
    target_end: usize,
    method: Span,
    /// Bytes of the path that are not below the place where the handler is mounted.
    mounted: usize,
    version: Version,
    body: BodyLength,
    fields: usize,
}

impl OwnedHead {
    /// Puts the head of `request` in the place of what is here. A head is far shorter than 4 GiB.
    pub(super) fn copy(&mut self, request: &Request<'_>) {
        let OwnedHead { text, lines, params, .. } = self;
        text.clear();
        lines.clear();
        params.clear();
        let (target, fields) = (request.target(), request.fields());
        text.extend_from_slice(target.as_bytes());
        let target_end = text.len();
        let method = put(text, request.method().as_str());
        lines.extend_from_slice(fields.lines());
        params.extend(request.params().map(|(name, value)| (put(text, name), put(text, value))));
        let (version, body, target) = (request.version(), request.body(), target.layout());
        let (mounted, fields) = (request.mounted(), fields.len());
        self.facts = Some(Facts { target, target_end, method, mounted, version, body, fields });
    }

    /// Bytes that it takes.
    pub(super) fn len(&self) -> usize {
        let spans = self.params.capacity() * size_of::<(Span, Span)>();
        self.text.capacity() + self.lines.capacity() + spans
    }

    pub(super) fn method(&self) -> Method<'_> {
        Method::of(self.text(self.facts().method))
    }

    pub(super) fn target(&self) -> Target<'_> {
        self.facts().target.over(&self.text[..self.facts().target_end])
    }

    pub(super) fn path_below(&self) -> &str {
        self.target().path().get(self.facts().mounted..).unwrap_or("")
    }

    pub(super) fn version(&self) -> Version {
        self.facts().version
    }

    pub(super) fn body(&self) -> BodyLength {
        self.facts().body
    }

    pub(super) fn host(&self) -> Option<&str> {
        // There is one such field at most, or the request was refused (RFC 9112, section 3.2).
        let field = || self.fields().find(|field| field.name.eq_ignore_ascii_case("host"));
        let named = || field().and_then(|field| std::str::from_utf8(field.value).ok());
        self.target().authority().or_else(named)
    }

    pub(super) fn fields(&self) -> Fields<'_> {
        Fields::over(&self.lines, self.facts().fields)
    }

    pub(super) fn param(&self, name: &str) -> Option<&str> {
        let found = self.params.iter().find(|(known, _)| self.text(*known) == name);
        found.map(|&(_, value)| self.text(value))
    }

    fn text(&self, span: Span) -> &str {
        std::str::from_utf8(&self.text[span.start as usize..span.end as usize]).unwrap_or_default()
    }

    fn facts(&self) -> &Facts {
        self.facts.as_ref().expect("it is filled before it is lent")
    }
}

fn put(text: &mut Vec<u8>, part: &str) -> Span {
    let start = text.len() as u32;
    text.extend_from_slice(part.as_bytes());
    Span { start, end: text.len() as u32 }
}
