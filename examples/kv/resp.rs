//! RESP: the requests of Redis' protocol, version 2, as frames, and its answers.
//!
//! A request is an array of bulk strings, or a line of words ("inline", for who types). See
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>. It is read strictly: lengths are digits, and every
//! line ends in CRLF; an inline one may do without CR.

use std::fmt;

use campanile::{Codec, Decoded, Full, Sink};

/// The longest request that is a line, in bytes.
const MAX_INLINE: usize = 4096;

/// Digits of a length, at most.
const MAX_DIGITS: usize = 10;

/// Bytes of the shortest argument, `$0\r\n\r\n`.
const LEAST_ARGUMENT: usize = 6;

/// The codec of requests. What it has seen of one it does not look at again, but for the length of the argument that is
/// yet to come.
#[derive(Debug)]
pub(crate) struct Requests {
    /// The longest request, in bytes.
    max_len: usize,
    /// Bytes of the request that were looked at.
    seen: usize,
    /// Arguments to come, once it is known how many.
    left: Option<usize>,
    /// Where the first argument begins, and how many there are.
    first: usize,
    count: usize,
}

impl Requests {
    pub(crate) fn new(max_len: usize) -> Requests {
        Requests { max_len, seen: 0, left: None, first: 0, count: 0 }
    }

    fn array<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<Request<'a>>, RespError> {
        let mut left = match self.left {
            Some(left) => left,
            None => {
                let most = self.max_len / LEAST_ARGUMENT;
                let Some((count, len)) = length(input, most, RespError::Array)? else {
                    return Ok(Decoded::More { at_least: 1 });
                };
                (self.seen, self.first, self.count) = (len, len, count);
                count
            }
        };
        while left > 0 {
            self.left = Some(left);
            let Some((len, digits)) = self.bulk(&input[self.seen..])? else {
                return Ok(Decoded::More { at_least: 1 });
            };
            let end = self.seen + digits + len + 2;
            if end > self.max_len {
                return Err(RespError::TooLong { max_len: self.max_len });
            }
            let Some(argument) = input.get(..end) else {
                return Ok(Decoded::More { at_least: end - input.len() });
            };
            if !argument.ends_with(b"\r\n") {
                return Err(RespError::Bulk);
            }
            self.seen = end;
            left -= 1;
        }
        let consumed = std::mem::take(&mut self.seen);
        self.left = None;
        let frame = Request { rest: &input[self.first..consumed], left: self.count, kind: Kind::Array };
        Ok(Decoded::Frame { frame, consumed })
    }

    /// The length of the argument that `rest` begins with, and how many bytes it is written in.
    fn bulk(&self, rest: &[u8]) -> Result<Option<(usize, usize)>, RespError> {
        match rest.first() {
            Some(b'$') => length(rest, self.max_len, RespError::Bulk),
            Some(_) => Err(RespError::Dollar),
            None => Ok(None),
        }
    }

    fn inline<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<Request<'a>>, RespError> {
        let window = &input[..input.len().min(MAX_INLINE)];
        let Some(newline) = window[self.seen..].iter().position(|&byte| byte == b'\n') else {
            self.seen = window.len();
            return if window.len() < MAX_INLINE {
                Ok(Decoded::More { at_least: 1 })
            } else {
                Err(RespError::Inline)
            };
        };
        let end = std::mem::take(&mut self.seen) + newline;
        let rest = window[..end].trim_ascii();
        let left = words(rest).count();
        Ok(Decoded::Frame { frame: Request { rest, left, kind: Kind::Inline }, consumed: end + 1 })
    }
}

impl Codec for Requests {
    type Frame<'a> = Request<'a>;
    type Error = RespError;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<Request<'a>>, RespError> {
        let found = match input.first() {
            Some(b'*') => self.array(input),
            Some(_) => self.inline(input),
            None => Ok(Decoded::More { at_least: 1 }),
        };
        if found.is_err() {
            *self = Requests::new(self.max_len);
        }
        found
    }

    fn decode_end<'a>(&mut self, input: &'a [u8]) -> Result<Option<(Request<'a>, usize)>, RespError> {
        match self.decode(input)? {
            Decoded::Frame { frame, consumed } => Ok(Some((frame, consumed))),
            Decoded::More { .. } if input.is_empty() => Ok(None),
            Decoded::More { .. } => Err(RespError::Cut),
        }
    }
}

/// The number in a line such as `$12\r\n`, at most `most`, and how long the line is; `None` while it is not whole.
fn length(line: &[u8], most: usize, wrong: RespError) -> Result<Option<(usize, usize)>, RespError> {
    let mut number = 0;
    for (at, byte) in line.iter().enumerate().skip(1) {
        match byte {
            b'0'..=b'9' if at <= MAX_DIGITS => number = number * 10 + usize::from(byte - b'0'),
            b'\r' if at > 1 => {
                return match line.get(at + 1) {
                    Some(b'\n') if number <= most => Ok(Some((number, at + 2))),
                    Some(_) => Err(wrong),
                    None => Ok(None),
                };
            }
            _ => return Err(wrong),
        }
    }
    Ok(None)
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// A request: its arguments, the first of which names the command. They are borrowed from the input, and found a second
/// time as they are asked for, so that a request needs no list of them.
#[derive(Debug, Clone)]
pub(crate) struct Request<'a> {
    /// Arguments to come, which are known to be whole.
    rest: &'a [u8],
    left: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Array,
    Inline,
}

impl<'a> Request<'a> {
    /// The arguments, two at a time.
    pub(crate) fn pairs(mut self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        std::iter::from_fn(move || self.next().zip(self.next()))
    }
}

impl<'a> Iterator for Request<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        match self.kind {
            Kind::Array => {
                let (len, digits) = length(self.rest, usize::MAX, RespError::Bulk).ok().flatten()?;
                let argument = &self.rest[digits..digits + len];
                self.rest = &self.rest[digits + len + 2..];
                Some(argument)
            }
            Kind::Inline => {
                let word = words(self.rest).next()?;
                self.rest = self.rest[word.len()..].trim_ascii_start();
                Some(word)
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Request<'_> {}

/// Why the input is no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RespError {
    /// The number of arguments is no number, or too large.
    Array,
    /// The length of an argument is no number, or too large, or not that of the argument.
    Bulk,
    /// An argument does not begin with `$`.
    Dollar,
    /// A line is too long.
    Inline,
    /// All arguments together are too long.
    TooLong { max_len: usize },
    /// The end came in the middle.
    Cut,
}

impl fmt::Display for RespError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RespError::Array => f.write_str("invalid multibulk length"),
            RespError::Bulk => f.write_str("invalid bulk length"),
            RespError::Dollar => f.write_str("expected '$'"),
            RespError::Inline => write!(f, "too big inline request: more than {MAX_INLINE} bytes"),
            RespError::TooLong { max_len } => {
                write!(f, "too big request: more than {max_len} bytes (--max-request)")
            }
            RespError::Cut => f.write_str("the end in the middle of a request"),
        }
    }
}

impl std::error::Error for RespError {}

/// Writes a word that says how it went, `+OK`.
pub(crate) fn simple(sink: &mut impl Sink, word: &str) -> Result<(), Full> {
    sink.write_pieces(&[b"+", word.as_bytes(), b"\r\n"])
}

/// Writes an error: a word in capitals, and what there is to say. It is a line, whatever it quotes.
pub(crate) fn error(sink: &mut impl Sink, message: &str) -> Result<(), Full> {
    let message = message.replace(|c: char| c.is_control(), " ");
    sink.write_pieces(&[b"-", message.as_bytes(), b"\r\n"])
}

/// Writes a number.
pub(crate) fn integer(sink: &mut impl Sink, number: i64) -> Result<(), Full> {
    sink.write_pieces(&[b":", itoa::Buffer::new().format(number).as_bytes(), b"\r\n"])
}

/// Writes bytes, or that there are none.
pub(crate) fn bulk(sink: &mut impl Sink, bytes: Option<&[u8]>) -> Result<(), Full> {
    let Some(bytes) = bytes else { return sink.write(b"$-1\r\n") };
    sink.write_pieces(&[b"$", itoa::Buffer::new().format(bytes.len()).as_bytes(), b"\r\n", bytes, b"\r\n"])
}

/// Writes how many values follow as an array.
pub(crate) fn array(sink: &mut impl Sink, len: usize) -> Result<(), Full> {
    sink.write_pieces(&[b"*", itoa::Buffer::new().format(len).as_bytes(), b"\r\n"])
}
