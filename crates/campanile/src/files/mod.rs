//! Files over HTTP: what is decided between a request and the bytes of a file, and the handler that does it.
//!
//! What is decided needs no I/O. In the order in which a request meets them:
//!
//! ```text
//!   path        the path of the request -> a path beneath the root, or 400 or 404
//!   coding      Accept-Encoding and the variants there are -> which of them
//!   validators  what the kernel knows of it -> ETag and Last-Modified
//!   conditional If-Match and its kin -> go on, 304 or 412
//!   range       Range and If-Range -> the whole, one part, several parts, or 416
//!   multipart   several parts -> the heads between them, and the length of it all
//!   media       the name -> Content-Type
//!   listing     the entries of a directory -> HTML
//! ```
//!
//! On top of it: `handler` looks into the `cache` of files and answers at once, or else has the request
//! [served](serving) by operations of the ring; `sending` passes on the bytes of a large one.
//!
//! Fields are asked for by name, of a function such as `|name| head.values(name)`; nobody else's type is needed.
//!
//! The known crates were looked at and not taken for these fields. `headers` is made for `http::HeaderMap`, drops
//! ranges that are no ranges instead of ignoring the field, and refuses a suffix longer than the file, which RFC 9110
//! 14.1.2 serves whole. `http-range-header` makes up to a hundred ranges in a vector, for a single one too, and takes
//! out-of-order overlaps for errors instead of joining them. `httpdate`, `mime_guess` and `percent-encoding` are used.

mod asked;
mod cache;
mod coding;
mod conditional;
mod date;
mod directory;
mod etag;
mod found;
mod handler;
mod listing;
mod media;
mod multipart;
mod parts;
mod path;
mod plan;
mod range;
mod sending;
mod serving;
mod validators;

pub use cache::MEMORY;
pub use handler::Files;
