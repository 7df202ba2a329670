//! The request: a head as a handler sees it, borrowed from the memory it was received in.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use campanile_protocol::http1::RequestHead;

/// A request whose head is complete. Its body, if it has one, is read through the [`Response`](super::Response).
///
/// Method, target, fields and host are those of [`RequestHead`].
#[derive(Clone, Copy)]
pub struct Request<'a> {
    head: &'a RequestHead<'a>,
    params: Option<&'a matchit::Params<'a, 'a>>,
    /// Bytes at the start of the path that whoever mounted the handler has taken.
    mounted: usize,
}

impl<'a> Request<'a> {
    /// The request with this head.
    pub fn new(head: &'a RequestHead<'a>) -> Request<'a> {
        Request { head, params: None, mounted: 0 }
    }

    /// The part of the path that matched `{name}` in the pattern of the [`Router`](super::Router), as it was sent:
    /// percent-encoded.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&'a str> {
        self.params?.get(name)
    }

    /// The same, decoded: without its percent-encoding. `None` also if that is no UTF-8.
    #[must_use]
    pub fn decoded_param(&self, name: &str) -> Option<Cow<'a, str>> {
        percent_encoding::percent_decode_str(self.param(name)?).decode_utf8().ok()
    }

    /// The path beneath the place where the handler was mounted, as it was sent; the whole path if it was not mounted.
    #[must_use]
    pub fn path_below(&self) -> &'a str {
        self.head.path().get(self.mounted..).unwrap_or("")
    }

    /// What follows the `?` of the target, as it was sent.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        self.head.target().query()
    }

    /// The value of the first field called `name`, in any case, if it is text of printable ASCII characters.
    #[must_use]
    pub fn text_field(&self, name: &str) -> Option<&'a str> {
        self.head
            .field(name)
            .filter(|value| value.is_ascii())
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The head.
    #[must_use]
    pub fn head(&self) -> &'a RequestHead<'a> {
        self.head
    }

    /// All that matched in the pattern of the router.
    pub(super) fn params(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.params.into_iter().flat_map(matchit::Params::iter)
    }

    /// Bytes of the path that are not [below](Self::path_below) the place where the handler is mounted.
    pub(super) fn mounted(&self) -> usize {
        self.mounted
    }

    pub(super) fn with_params<'b>(self, params: &'b matchit::Params<'b, 'b>) -> Request<'b>
    where
        'a: 'b,
    {
        Request { head: self.head, params: Some(params), mounted: self.mounted }
    }

    pub(super) fn mounted_at(self, mounted: usize) -> Request<'a> {
        Request { mounted, ..self }
    }
}

impl<'a> Deref for Request<'a> {
    type Target = RequestHead<'a>;

    fn deref(&self) -> &RequestHead<'a> {
        self.head
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method())
            .field("target", &self.target())
            .finish_non_exhaustive()
    }
}
