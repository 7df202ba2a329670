//! The body decoder passes a body on in pieces, as its head framed it.

use super::chunk::ChunkLine;
use super::error::BodyError;
use super::head::BodyLength;
use super::limits::{Limits, MAX_FIELDS};
use super::scan::{Flaw, HeadScan, ScanLimits};
use super::trailers::Trailers;
use crate::codec::{Codec, Decoded};
use crate::work;

/// Reads one body: pieces of data, then its end.
///
/// A piece is whatever has arrived, borrowed; chunks may be cut anywhere. What must be whole to be understood, a chunk
/// line or the trailers, stays in the input until it is, within [`Limits`].
///
/// After [`BodyPart::End`] the next head begins: the decoder has done its work, and takes no byte any more.
///
/// ```
/// use campanile_protocol::http1::{BodyDecoder, BodyLength, BodyPart, Limits};
/// use campanile_protocol::{Codec, Decoded};
///
/// let mut body = BodyDecoder::new(BodyLength::Chunked, &Limits::default());
/// let mut input = &b"5\r\nhello\r\n0\r\nDigest: x\r\n\r\nGET /"[..];
///
/// let Decoded::Frame { frame: BodyPart::Data(data), consumed } = body.decode(input)? else { panic!() };
/// assert_eq!(data, b"hello");
/// input = &input[consumed..];
///
/// let Decoded::Frame { frame: BodyPart::End(trailers), consumed } = body.decode(input)? else { panic!() };
/// assert_eq!(trailers.field("digest"), Some(&b"x"[..]));
/// assert_eq!(&input[consumed..], b"GET /");
/// # Ok::<(), campanile_protocol::http1::BodyError>(())
/// ```
#[derive(Debug, Clone)]
pub struct BodyDecoder {
    state: State,
    /// Bytes at the start of the input that are understood and not yet consumed.
    understood: usize,
    max_extension: usize,
    max_trailers: usize,
}

#[derive(Debug, Clone)]
enum State {
    Fixed { remaining: u64 },
    UntilClose,
    ChunkLine(ChunkLine),
    ChunkData { remaining: u64 },
    ChunkCr,
    ChunkLf,
    Trailers { start: usize, scan: HeadScan },
    Done,
}

/// A part of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyPart<'a> {
    /// Bytes of the body, never none.
    Data(&'a [u8]),
    /// The body is complete; its trailers, which only a chunked one can have.
    End(Trailers<'a>),
}

impl BodyDecoder {
    /// A decoder at the first byte of a body.
    pub fn new(length: BodyLength, limits: &Limits) -> Self {
        let state = match length {
            BodyLength::Empty => State::Fixed { remaining: 0 },
            BodyLength::Length(remaining) => State::Fixed { remaining },
            BodyLength::Chunked => State::ChunkLine(ChunkLine::new()),
            BodyLength::UntilClose => State::UntilClose,
        };
        let Limits { chunk_extension, trailers, .. } = *limits;
        BodyDecoder { state, understood: 0, max_extension: chunk_extension, max_trailers: trailers }
    }

    /// Whether [`BodyPart::End`] was returned.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Bytes of data still to come, if the head said so.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Fixed { remaining } => Some(remaining),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Bytes of data that are known to come: the rest of a body whose length the head said, or of a chunk.
    pub fn announced(&self) -> u64 {
        match self.state {
            State::Fixed { remaining } | State::ChunkData { remaining } => remaining,
            _ => 0,
        }
    }

    /// Understands what it can of a chunked body from `at` on, up to the next part.
    fn decode_chunked<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<BodyPart<'a>>, BodyError> {
        let mut at = self.understood.min(input.len());
        while at < input.len() {
            match &mut self.state {
                State::ChunkLine(line) => {
                    work::note(1);
                    let size = line.push(input[at], self.max_extension)?;
                    at += 1;
                    match size {
                        None => {}
                        Some(0) => {
                            self.state = State::Trailers { start: at, scan: HeadScan::of_fields(at) };
                        }
                        Some(remaining) => self.state = State::ChunkData { remaining },
                    }
                }
                State::ChunkData { .. } => return Ok(self.take_chunk_data(input, at)),
                State::ChunkCr if input[at] == b'\r' => {
                    self.state = State::ChunkLf;
                    at += 1;
                }
                State::ChunkLf if input[at] == b'\n' => {
                    self.state = State::ChunkLine(ChunkLine::new());
                    at += 1;
                }
                State::ChunkCr | State::ChunkLf => return Err(BodyError::ChunkEnd),
                State::Trailers { .. } => return self.decode_trailers(input),
                State::Fixed { .. } | State::UntilClose | State::Done => break,
            }
        }
        self.understood = at;
        Ok(Decoded::More { at_least: 1 })
    }

    fn take_chunk_data<'a>(&mut self, input: &'a [u8], at: usize) -> Decoded<BodyPart<'a>> {
        let State::ChunkData { remaining } = self.state else { return Decoded::More { at_least: 1 } };
        let data = take(&input[at..], remaining);
        let mut consumed = at + data.len();
        self.understood = 0;
        self.state = match remaining - data.len() as u64 {
            0 if input[consumed..].starts_with(b"\r\n") => {
                consumed += 2;
                State::ChunkLine(ChunkLine::new())
            }
            0 => State::ChunkCr,
            remaining => State::ChunkData { remaining },
        };
        Decoded::Frame { frame: BodyPart::Data(data), consumed }
    }

    fn decode_trailers<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<BodyPart<'a>>, BodyError> {
        let State::Trailers { start, scan } = &mut self.state else {
            return Ok(Decoded::More { at_least: 1 });
        };
        let limit = start.saturating_add(self.max_trailers);
        let window = &input[..input.len().min(limit)];
        let limits = ScanLimits { start_line: 0, field_line: self.max_trailers, fields: MAX_FIELDS };
        let Some(end) = scan.advance(window, limits, |_| Ok::<(), BodyError>(()))? else {
            if window.len() == limit {
                return Err(BodyError::TrailersTooLong);
            }
            self.understood = input.len();
            return Ok(Decoded::More { at_least: 1 });
        };
        let trailers = Trailers::new(input.get(*start..end - 2).unwrap_or_default());
        self.state = State::Done;
        self.understood = 0;
        Ok(Decoded::Frame { frame: BodyPart::End(trailers), consumed: end })
    }

    fn end(&mut self) -> BodyPart<'static> {
        self.state = State::Done;
        BodyPart::End(Trailers::default())
    }
}

impl Codec for BodyDecoder {
    type Frame<'a> = BodyPart<'a>;
    type Error = BodyError;

    #[inline]
    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<BodyPart<'a>>, BodyError> {
        match &mut self.state {
            State::Fixed { remaining: 0 } => Ok(Decoded::Frame { frame: self.end(), consumed: 0 }),
            State::Fixed { remaining } if !input.is_empty() => {
                let data = take(input, *remaining);
                *remaining -= data.len() as u64;
                Ok(Decoded::Frame { frame: BodyPart::Data(data), consumed: data.len() })
            }
            State::UntilClose if !input.is_empty() => {
                Ok(Decoded::Frame { frame: BodyPart::Data(input), consumed: input.len() })
            }
            State::Fixed { .. } | State::UntilClose | State::Done => Ok(Decoded::More { at_least: 1 }),
            _ => self.decode_chunked(input),
        }
    }

    fn decode_end<'a>(&mut self, input: &'a [u8]) -> Result<Option<(BodyPart<'a>, usize)>, BodyError> {
        if self.is_done() {
            return Ok(None);
        }
        match self.decode(input)? {
            Decoded::Frame { frame, consumed } => Ok(Some((frame, consumed))),
            Decoded::More { .. } if matches!(self.state, State::UntilClose) => Ok(Some((self.end(), 0))),
            Decoded::More { .. } => Err(BodyError::Truncated),
        }
    }
}

/// The first bytes of `input`, at most `length`.
#[inline]
fn take(input: &[u8], length: u64) -> &[u8] {
    &input[..usize::try_from(length).unwrap_or(usize::MAX).min(input.len())]
}

impl From<Flaw> for BodyError {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::FieldTooLong | Flaw::TooManyFields => BodyError::TrailersTooLong,
            _ => BodyError::Trailer,
        }
    }
}
