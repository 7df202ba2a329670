//! Limits bound what one message may make the receiver hold.

/// Fields that a head, or the trailers of a body, may have if nobody says otherwise.
pub const MAX_FIELDS: usize = 100;

/// Bounds on the parts of a message that must be held whole until they are complete; in bytes if not said
/// otherwise.
///
/// Bodies have no bound here: they pass in pieces.
///
/// ```
/// use campanile_protocol::http1::Limits;
///
/// let limits = Limits { head: 8 * 1024, ..Limits::default() };
/// assert_eq!(limits.request_line, 8 * 1024);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The start line, without CRLF: 414 beyond. RFC 9112 3 recommends 8000 at the least. Default 8 KiB.
    pub request_line: usize,
    /// One field line, without CRLF: 431 beyond. Default 8 KiB.
    pub field_line: usize,
    /// Field lines of a head, as a count: 431 beyond. Default 100.
    pub fields: usize,
    /// The whole head, with the empty line that ends it and any before it: 431 beyond. Default 16 KiB.
    pub head: usize,
    /// The extensions of one chunk, from the end of its size to CRLF. Default 256.
    pub chunk_extension: usize,
    /// The whole trailer section of a chunked body. Default 8 KiB.
    pub trailers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            request_line: 8 * 1024,
            field_line: 8 * 1024,
            fields: MAX_FIELDS,
            head: 16 * 1024,
            chunk_extension: 256,
            trailers: 8 * 1024,
        }
    }
}
