//! `campanile-protocol` is framing without I/O: it finds frames in bytes and writes frames as bytes.
//!
//! Nothing here knows a socket, a clock or a runtime. A [`Codec`] is shown all the bytes that were received and not
//! yet consumed; it answers with a frame *borrowed from those bytes* and with how many of them the frame took. The
//! caller consumes. An [`Encoder`] writes into a bounded [`Sink`] that refuses whole what it cannot take.
//!
//! ```text
//!   received, not yet consumed                      after consume(consumed)
//!   +-----------+-----------+------+                +-----------+------+
//!   |  frame 1  |  frame 2  | fra  |      ->        |  frame 2  | fra  |
//!   +-----------+-----------+------+                +-----------+------+
//!   '- consumed -'                                   the next call begins here
//! ```
//!
//! The loop on top of any codec is the same:
//!
//! ```
//! use campanile_protocol::{Codec, Decoded, Lines};
//!
//! let mut codec = Lines::new(1024);
//! let mut input: &[u8] = b"one\r\ntwo\nthr";
//! let mut lines = Vec::new();
//! while let Decoded::Frame { frame, consumed } = codec.decode(input)? {
//!     lines.push(frame);
//!     input = &input[consumed..];
//! }
//! assert_eq!(lines, [b"one", b"two"]);
//! assert_eq!(input, b"thr"); // kept until more arrives
//! # Ok::<(), campanile_protocol::LineError>(())
//! ```
//!
//! - [`Lines`]: text lines, LF or CRLF.
//! - [`LengthDelimited`]: frames behind a length field.
//! - [`http1`]: HTTP/1.1 as of RFC 9112, strict.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(feature = "alloc", test))]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod codec;
pub mod http1;
mod length_delimited;
mod lines;
mod sink;
mod work;

pub use codec::{Codec, Decoded, EncodeError, Encoder};
pub use length_delimited::{ByteOrder, FrameError, LengthDelimited, LengthWidth};
pub use lines::{LineEncodeError, LineError, Lines, Terminator};
#[cfg(any(feature = "alloc", test))]
pub use sink::VecSink;
pub use sink::{Full, Sink, SliceSink};

#[cfg(test)]
mod every_split;
