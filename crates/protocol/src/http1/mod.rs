//! HTTP/1.1 messages: RFC 9112 framing, strict, without I/O.
//!
//! A server reads a request with two decoders in turn, and writes its answer with a writer:
//!
//! ```text
//!   RequestDecoder -> RequestHead -> BodyDecoder -> BodyPart::Data ... BodyPart::End -> RequestDecoder ...
//!                         '- exchange() -> ResponseWriter -> BodyEncoder
//! ```
//!
//! The whole of a server's side, for a connection whose bytes are in `input`:
//!
//! ```
//! use campanile_protocol::http1::{
//!     BodyDecoder, BodyPart, Exchange, Limits, RequestDecoder, RequestError, ResponseWriter, WriteError,
//! };
//! use campanile_protocol::{Codec, Decoded};
//!
//! /// Answers the request that `input` begins with, and returns the bytes it took; 0 if it is not whole.
//! fn answer(heads: &mut RequestDecoder, input: &[u8], out: &mut Vec<u8>) -> Result<usize, RequestError> {
//!     let Decoded::Frame { frame: head, consumed } = heads.decode(input)? else { return Ok(0) };
//!     let mut taken = consumed;
//!     let mut body = BodyDecoder::new(head.body(), heads.limits());
//!     let mut size = 0;
//!     while !body.is_done() {
//!         // A server would keep `body` and go on when more has arrived, and answer its errors.
//!         let Ok(Decoded::Frame { frame, consumed }) = body.decode(&input[taken..]) else { return Ok(0) };
//!         taken += consumed;
//!         if let BodyPart::Data(data) = frame {
//!             size += data.len();
//!         }
//!     }
//!     let text = format!("{} has {size} bytes\n", head.path());
//!     respond(out, head.exchange(), 200, &text).expect("a Vec has room");
//!     Ok(taken)
//! }
//!
//! fn respond(out: &mut Vec<u8>, exchange: Exchange, status: u16, text: &str) -> Result<Exchange, WriteError> {
//!     let mut response = ResponseWriter::begin(out, exchange, status)?;
//!     response.field("Content-Type", b"text/plain")?;
//!     response.body(text.as_bytes())
//! }
//!
//! let mut heads = RequestDecoder::new(Limits::default());
//! let mut input = &b"PUT /a HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n\r\nhelloGET /\r\n\r\n"[..];
//! let mut out = Vec::new();
//! input = &input[answer(&mut heads, input, &mut out)?..];
//! assert!(out.ends_with(b"/a has 5 bytes\n"));
//!
//! let error = answer(&mut heads, input, &mut out).unwrap_err();
//! respond(&mut out, Exchange::refused(), error.status(), &error.to_string()).unwrap();
//! assert!(out.ends_with(b"request line is not method, target and version, one space between"));
//! # Ok::<(), RequestError>(())
//! ```
//!
//! A client, or a proxy, writes the request with a [`RequestWriter`] and reads the answer with a [`ResponseDecoder`]
//! and the same [`BodyDecoder`].
//!
//! # What is accepted, and what is refused
//!
//! Where the RFCs leave a choice, or real senders and the RFCs differ, this is what is done. All of it is tested.
//!
//! | case | choice | RFC |
//! |---|---|---|
//! | LF without CR; empty lines before a request | 400; skipped, within [`Limits::head`] | 9112 2.2 (MAY; SHOULD) |
//! | HTTP/1.2, 0.9 with a version, 2.0, ...; what is no `HTTP/d.d` | 505; 400 | 9112 2.3, 9110 15.6.6 |
//! | more than one space, or a tab, in the request line | 400 | 9112 3 (MAY be lenient) |
//! | a method of more than 32 bytes; any other token | 501; [`Method::Extension`], case matters | 9112 3, 9110 9.1 |
//! | a target with a fragment, a control, a byte above 0x7f or a broken escape | 400 | 9112 3.2, 3986 2.1 |
//! | `%00`, `%0d`, `%0a` in a path; in a query | 400; accepted, forms send them | beyond 3986 |
//! | one of `[]^\|` in a target; one of ``{}\`` and backtick in a query | accepted, browsers send them | beyond 3986 |
//! | an absolute form that is not `http` or `https`, or has userinfo or no host | 400 | 9110 4.2.1, 4.2.4 |
//! | an absolute form and a Host that differs | the target wins | 9112 3.2.2 |
//! | an absolute form of `https` | accepted: see [`Target::is_https`] | 9110 7.4 |
//! | CONNECT to no port, port 0, or one above 65535 | 400 | 9110 9.3.6 |
//! | Host twice, even if equal; empty; with userinfo, comma, path or a zone; IPvFuture | 400 | 9112 3.2, 9110 4.2.1 |
//! | an HTTP/1.0 request without Host; with a Host that is none | accepted; 400 | 9112 3.2 |
//! | obsolete folding, white space before a field or before its colon | 400 | 9112 2.2, 5.1, 5.2 |
//! | a control other than tab in a value; bytes above 0x7f | 400; accepted | 9110 5.5 |
//! | Content-Length twice or as a list, even if equal | 400 | 9110 8.6 (MAY), 9112 6.3 |
//! | Content-Length with leading zeros: octal to some | 400 | stricter than 9110 8.6 |
//! | Content-Length and Transfer-Encoding; Transfer-Encoding in HTTP/1.0 | 400 | 9112 6.1, 6.3 |
//! | `chunked` twice, quoted, with parameters, not at the end; empty elements beside it | 400 | 9112 6.1, 7 |
//! | another transfer coding, `identity` too | 501 | 9112 6.1 |
//! | `Content_Length`, `Transfer_Encoding` | 400 | beyond: 3875 4.1.18 reads them as the real ones |
//! | a chunk size of more than 16 digits; white space behind it, but before `;` | 400; accepted | 9112 7.1, 7.1.1 |
//! | trailers that decide framing, routing or trust | read and not shown | 9110 6.5.1 |
//! | TRACE with content | 400 | 9110 9.3.8 |
//! | Expect in HTTP/1.0; one that is not `100-continue` | ignored; 417 | 9110 10.1.1 |
//! | `Connection: close` beside `keep-alive` | closes | 9112 9.3 |
//!
//! A whole head is cut and judged in one pass, sixteen bytes at a time. What is not whole, or has a flaw, goes to a
//! slower walk over its lines, which says what is wrong. A head that the walk alone would take is refused; and what is
//! taken, `tests/differential.rs` holds against other parsers.

mod body;
mod body_encoder;
mod chunk;
mod digits;
mod error;
mod exchange;
mod facts;
mod field_block;
mod field_line;
mod fields;
mod grammar;
mod head;
mod lanes;
mod limits;
mod request;
mod request_writer;
mod response;
mod response_decoder;
mod scan;
mod status;
mod target;
mod tokens;
mod trailers;
mod watch;

pub use body::{BodyDecoder, BodyPart};
pub use body_encoder::BodyEncoder;
pub use error::{BodyError, RequestError, ResponseError, WriteError};
pub use exchange::Exchange;
pub use field_block::FieldBlock;
pub use field_line::FieldLine;
pub use fields::{Field, Fields};
pub use head::{BodyLength, Method, RequestHead, Version};
pub use limits::{Limits, MAX_FIELDS};
pub use request::RequestDecoder;
pub use request_writer::RequestWriter;
pub use response::{ResponseWriter, write_continue, write_interim, write_switching_protocols};
pub use response_decoder::{ResponseDecoder, ResponseHead};
pub use status::reason;
pub use target::{Target, TargetForm, TargetLayout};
pub use trailers::Trailers;

#[cfg(test)]
mod body_tests;
#[cfg(test)]
mod framing_tests;
#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod response_tests;
#[cfg(test)]
mod round_trip_tests;
