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
//!     BodyDecoder, BodyPart, Exchange, Limits, RequestDecoder, RequestError, ResponseWriter, WriteError, field_slots,
//! };
//! use campanile_protocol::{Codec, Decoded};
//!
//! /// Answers the request that `input` begins with, and returns the bytes it took; 0 if it is not whole.
//! fn answer(heads: &mut RequestDecoder, input: &[u8], out: &mut Vec<u8>) -> Result<usize, RequestError> {
//!     let mut slots = field_slots::<64>();
//!     let Decoded::Frame { frame: head, consumed } = heads.decode(input, &mut slots)? else { return Ok(0) };
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
//! The tokenizer is httparse; what it lets through and RFC 9112 forbids is checked on top, in the pass over the fields
//! that is made anyway.

mod body;
mod body_encoder;
mod chunk;
mod digits;
mod error;
mod exchange;
mod facts;
mod field_line;
mod grammar;
mod head;
mod limits;
mod request;
mod request_writer;
mod response;
mod response_decoder;
mod scan;
mod status;
mod target;
mod trailers;
mod watch;

pub use body::{BodyDecoder, BodyPart};
pub use body_encoder::BodyEncoder;
pub use error::{BodyError, RequestError, ResponseError, WriteError};
pub use exchange::Exchange;
pub use field_line::FieldLine;
pub use head::{BodyLength, Field, FieldSlot, MAX_FIELDS, Method, RequestHead, Version, field_slots};
pub use limits::Limits;
pub use request::RequestDecoder;
pub use request_writer::RequestWriter;
pub use response::{ResponseWriter, write_continue, write_interim, write_switching_protocols};
pub use response_decoder::{ResponseDecoder, ResponseHead};
pub use status::reason;
pub use target::{Target, TargetForm};
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
