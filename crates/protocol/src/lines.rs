//! Lines: text frames that end in LF or CRLF.

use core::error::Error;
use core::fmt;

use memchr::{memchr, memchr2};

use crate::codec::{Codec, Decoded, EncodeError, Encoder};
use crate::sink::Sink;
use crate::work;

/// A codec of lines with a bound on their length.
///
/// A frame is the line without its terminator, as bytes. LF and CRLF both end a line when reading; a CR elsewhere is
/// part of it. At the end of input the last line needs no terminator.
///
/// ```
/// use campanile_protocol::{Codec, Decoded, Encoder, Lines};
///
/// let mut codec = Lines::new(80);
/// assert_eq!(codec.decode(b"ping\r\npong")?, Decoded::Frame { frame: &b"ping"[..], consumed: 6 });
/// assert_eq!(codec.decode(b"pong")?, Decoded::More { at_least: 1 });
/// assert_eq!(codec.decode_end(b"pong")?, Some((&b"pong"[..], 4)));
///
/// let mut out = Vec::new();
/// codec.encode(b"ping", &mut out).unwrap();
/// assert_eq!(out, b"ping\n");
/// # Ok::<(), campanile_protocol::LineError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Lines {
    max_length: usize,
    terminator: Terminator,
    /// The first bytes of the input that are known to hold no LF.
    scanned: usize,
}

/// What [`Lines`] writes after a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Terminator {
    /// `\n`
    #[default]
    Lf,
    /// `\r\n`
    CrLf,
}

impl Terminator {
    /// The bytes that are written.
    pub const fn as_bytes(self) -> &'static [u8] {
        match self {
            Terminator::Lf => b"\n",
            Terminator::CrLf => b"\r\n",
        }
    }
}

impl Lines {
    /// Lines of at most `max_length` bytes, not counting the terminator; written with LF.
    pub const fn new(max_length: usize) -> Self {
        Lines { max_length, terminator: Terminator::Lf, scanned: 0 }
    }

    /// The same lines, written with `terminator`.
    #[must_use]
    pub const fn with_terminator(mut self, terminator: Terminator) -> Self {
        self.terminator = terminator;
        self
    }

    /// The longest line in bytes, not counting the terminator.
    pub const fn max_length(&self) -> usize {
        self.max_length
    }

    fn too_long(&self) -> LineError {
        LineError::TooLong { max_length: self.max_length }
    }
}

impl Codec for Lines {
    type Frame<'a> = &'a [u8];
    type Error = LineError;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<&'a [u8]>, LineError> {
        // The longest line that is allowed, with CRLF.
        let window = &input[..input.len().min(self.max_length.saturating_add(2))];
        let start = self.scanned.min(window.len());
        let Some(newline) = memchr(b'\n', &window[start..]) else {
            work::note(window.len() - start);
            // One byte over is still open: it may be the CR of the terminator.
            let open = window.len() <= self.max_length
                || (window.len() == self.max_length + 1 && window.last() == Some(&b'\r'));
            if !open {
                return Err(self.too_long());
            }
            self.scanned = window.len();
            return Ok(Decoded::More { at_least: 1 });
        };
        work::note(newline + 1);
        let end = start + newline;
        let frame = window[..end].strip_suffix(b"\r").unwrap_or(&window[..end]);
        if frame.len() > self.max_length {
            return Err(self.too_long());
        }
        self.scanned = 0;
        Ok(Decoded::Frame { frame, consumed: end + 1 })
    }

    fn decode_end<'a>(&mut self, input: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, LineError> {
        if let Some(found) = self.decode(input)?.into_frame() {
            return Ok(Some(found));
        }
        self.scanned = 0;
        if input.len() > self.max_length {
            return Err(self.too_long());
        }
        Ok((!input.is_empty()).then_some((input, input.len())))
    }
}

impl Encoder<&[u8]> for Lines {
    type Error = LineEncodeError;

    fn encode<S: Sink + ?Sized>(
        &mut self,
        line: &[u8],
        sink: &mut S,
    ) -> Result<(), EncodeError<LineEncodeError>> {
        if line.len() > self.max_length {
            return Err(EncodeError::Invalid(LineEncodeError::TooLong { max_length: self.max_length }));
        }
        if memchr2(b'\n', b'\r', line).is_some() {
            return Err(EncodeError::Invalid(LineEncodeError::ContainsNewline));
        }
        Ok(sink.write_pieces(&[line, self.terminator.as_bytes()])?)
    }
}

impl<const N: usize> Encoder<&[u8; N]> for Lines {
    type Error = LineEncodeError;

    fn encode<S: Sink + ?Sized>(
        &mut self,
        line: &[u8; N],
        sink: &mut S,
    ) -> Result<(), EncodeError<LineEncodeError>> {
        self.encode(&line[..], sink)
    }
}

impl Encoder<&str> for Lines {
    type Error = LineEncodeError;

    fn encode<S: Sink + ?Sized>(
        &mut self,
        line: &str,
        sink: &mut S,
    ) -> Result<(), EncodeError<LineEncodeError>> {
        self.encode(line.as_bytes(), sink)
    }
}

/// Why the input is no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LineError {
    /// The line is longer than allowed, with or without a terminator to come.
    TooLong {
        /// The longest line allowed, in bytes.
        max_length: usize,
    },
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineError::TooLong { max_length } => write!(f, "line is longer than {max_length} bytes"),
        }
    }
}

impl Error for LineError {}

/// Why a line cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LineEncodeError {
    /// It is longer than the codec allows, and so the other side may refuse it.
    TooLong {
        /// The longest line allowed, in bytes.
        max_length: usize,
    },
    /// It contains LF or CR, and would be read as something else than this one line.
    ContainsNewline,
}

impl fmt::Display for LineEncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineEncodeError::TooLong { max_length } => {
                write!(f, "line to write is longer than {max_length} bytes")
            }
            LineEncodeError::ContainsNewline => f.write_str("line to write contains CR or LF"),
        }
    }
}

impl Error for LineEncodeError {}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::sink::SliceSink;

    const TOO_LONG: LineError = LineError::TooLong { max_length: 4 };

    fn frame(frame: &[u8], consumed: usize) -> Result<Decoded<&[u8]>, LineError> {
        Ok(Decoded::Frame { frame, consumed })
    }

    #[test]
    fn the_bound_holds_to_the_byte() {
        let more = Ok(Decoded::More { at_least: 1 });
        for (input, decoded) in [
            (&b"abcd\n"[..], frame(b"abcd", 5)),
            (b"abcd\r\n", frame(b"abcd", 6)),
            (b"abc\r\r\n", frame(b"abc\r", 6)),
            (b"abcd", more),
            (b"abcd\r", more),
            (b"abcde", Err(TOO_LONG)),
            (b"abcde\n", Err(TOO_LONG)),
            (b"abcd\rx", Err(TOO_LONG)),
            (b"abcd\r\r", Err(TOO_LONG)),
            (b"abcdefgh", Err(TOO_LONG)),
            (b"\n", frame(b"", 1)),
            (b"\r\n", frame(b"", 2)),
            (b"", more),
        ] {
            assert_eq!(Lines::new(4).decode(input), decoded, "{}", input.escape_ascii());
        }
    }

    #[test]
    fn the_last_line_needs_no_terminator() {
        let mut codec = Lines::new(4);
        assert_eq!(codec.decode_end(b"a\nb"), Ok(Some((&b"a"[..], 2))));
        assert_eq!(codec.decode_end(b"b"), Ok(Some((&b"b"[..], 1))));
        assert_eq!(codec.decode_end(b""), Ok(None));
        assert_eq!(codec.decode_end(b"abc\r"), Ok(Some((&b"abc\r"[..], 4))));
        assert_eq!(codec.decode_end(b"abcd\r"), Err(TOO_LONG));
    }

    #[test]
    fn lines_that_would_be_read_as_others_are_not_written() {
        let mut codec = Lines::new(4).with_terminator(Terminator::CrLf);
        let mut out = Vec::new();
        for line in ["a\nb", "a\rb", "a\n", "\r"] {
            let refused = EncodeError::Invalid(LineEncodeError::ContainsNewline);
            assert_eq!(codec.encode(line, &mut out), Err(refused), "{line:?}");
        }
        let refused = EncodeError::Invalid(LineEncodeError::TooLong { max_length: 4 });
        assert_eq!(codec.encode("abcde", &mut out), Err(refused));
        assert!(out.is_empty());
        codec.encode("abcd", &mut out).unwrap();
        assert_eq!(out, b"abcd\r\n");

        let mut memory = [0; 5];
        let mut sink = SliceSink::new(&mut memory);
        assert!(matches!(codec.encode("abcd", &mut sink), Err(EncodeError::Full(_))));
        assert!(sink.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(lines in prop::collection::vec("[^\r\n]{0,40}", 0..20), crlf in any::<bool>()) {
            let terminator = if crlf { Terminator::CrLf } else { Terminator::Lf };
            let mut codec = Lines::new(160).with_terminator(terminator);
            let mut out = Vec::new();
            for line in &lines {
                codec.encode(&line[..], &mut out).unwrap();
            }
            let mut input = &out[..];
            for line in &lines {
                let (frame, consumed) = codec.decode(input).unwrap().into_frame().unwrap();
                prop_assert_eq!(frame, line.as_bytes());
                input = &input[consumed..];
            }
            prop_assert!(input.is_empty());
        }
    }
}
