//! The owned head: a copy of a request's head, in memory that is used again.

use crate::http::request::Request;
use crate::http::{BodyLength, Field, Method, Version};
use campanile_protocol::http1::{Target, TargetLayout};

/// A part of the text or of the values.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: u32,
    end: u32,
}

/// All that a head says, in two pieces of memory.
#[derive(Debug, Default)]
pub(super) struct OwnedHead {
    facts: Option<Facts>,
    /// The target first, then the method, names of fields, parameters.
    text: String,
    values: Vec<u8>,
    /// Names in the text, and values.
    fields: Vec<(Span, Span)>,
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
}

impl OwnedHead {
    /// Puts the head of `request` in the place of what is here. A head is far shorter than 4 GiB.
    pub(super) fn copy(&mut self, request: &Request<'_>) {
        let OwnedHead { text, values, fields, params, .. } = self;
        text.clear();
        values.clear();
        fields.clear();
        params.clear();
        let target = request.target();
        text.push_str(target.as_str());
        let target_end = text.len();
        let method = put(text, request.method().as_str());
        fields.extend(request.fields().map(|field| {
            let start = values.len() as u32;
            values.extend_from_slice(field.value);
            (put(text, field.name), Span { start, end: values.len() as u32 })
        }));
        params.extend(request.params().map(|(name, value)| (put(text, name), put(text, value))));
        let mounted = request.path().len() - request.path_below().len();
        let (version, body, target) = (request.version(), request.body(), target.layout());
        self.facts = Some(Facts { target, target_end, method, mounted, version, body });
    }

    /// Bytes that it takes.
    pub(super) fn len(&self) -> usize {
        let spans = self.fields.capacity() + self.params.capacity();
        self.text.capacity() + self.values.capacity() + spans * size_of::<(Span, Span)>()
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

    pub(super) fn fields(&self) -> impl ExactSizeIterator<Item = Field<'_>> + Clone {
        self.fields.iter().map(|&(name, value)| Field {
            name: self.text(name),
            value: &self.values[value.start as usize..value.end as usize],
        })
    }

    pub(super) fn param(&self, name: &str) -> Option<&str> {
        let found = self.params.iter().find(|(known, _)| self.text(*known) == name);
        found.map(|&(_, value)| self.text(value))
    }

    fn text(&self, span: Span) -> &str {
        &self.text[span.start as usize..span.end as usize]
    }

    fn facts(&self) -> &Facts {
        self.facts.as_ref().expect("it is filled before it is lent")
    }
}

fn put(text: &mut String, part: &str) -> Span {
    let start = text.len() as u32;
    text.push_str(part);
    Span { start, end: text.len() as u32 }
}
