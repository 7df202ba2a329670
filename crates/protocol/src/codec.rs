//! A codec turns bytes into frames and frames into bytes.

use core::error::Error;
use core::fmt;

use crate::sink::{Full, Sink};

/// Finds frames in the bytes of a stream.
///
/// The caller holds the bytes. It shows all of those that are not yet consumed, and consumes what a frame took:
///
/// ```text
/// loop {
///     match codec.decode(input)? {
///         Decoded::Frame { frame, consumed } => { handle(frame); input.consume(consumed) }
///         Decoded::More { at_least } => return, // read, then call again with the same bytes and the new ones
///     }
/// }
/// ```
///
/// What an implementation promises:
/// - a frame borrows from the input, it is not a copy;
/// - `consumed` is at most `input.len()`;
/// - after [`Decoded::More`] the next call is given the same bytes, extended. No byte is looked at twice, so a frame
///   that arrives one byte at a time costs time in proportion to its length;
/// - after an error the stream has lost its frames: the connection ends. Further calls return an error, or look
///   for a frame as if nothing had been scanned, but never panic.
pub trait Codec {
    /// One frame, borrowed from the input it was found in.
    type Frame<'a>;
    /// Why the bytes can never become a frame.
    type Error: Error + 'static;

    /// Looks for one frame at the start of `input`, which is everything not yet consumed.
    ///
    /// # Errors
    /// The bytes are no frame, whatever follows them.
    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<Self::Frame<'a>>, Self::Error>;

    /// Looks for one frame at the start of `input` when no byte will follow.
    ///
    /// Returns the frame and the bytes it took, or `None` when nothing is left. Called until it returns `None`.
    ///
    /// # Errors
    /// The bytes are no frame, or only the beginning of one.
    fn decode_end<'a>(&mut self, input: &'a [u8]) -> Result<Option<(Self::Frame<'a>, usize)>, Self::Error>;
}

/// What [`Codec::decode`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<F> {
    /// A whole frame.
    Frame {
        /// The frame, borrowed from the input.
        frame: F,
        /// Bytes from the start of the input that the frame took, for the caller to consume.
        consumed: usize,
    },
    /// The beginning of a frame, or nothing.
    More {
        /// Bytes that must arrive, at the least, before a frame can be whole; 1 or more.
        at_least: usize,
    },
}

impl<F> Decoded<F> {
    /// The frame as something else; what was consumed stays.
    pub fn map<G>(self, f: impl FnOnce(F) -> G) -> Decoded<G> {
        match self {
            Decoded::Frame { frame, consumed } => Decoded::Frame { frame: f(frame), consumed },
            Decoded::More { at_least } => Decoded::More { at_least },
        }
    }

    /// The frame and the bytes it took, if there is one.
    pub fn into_frame(self) -> Option<(F, usize)> {
        match self {
            Decoded::Frame { frame, consumed } => Some((frame, consumed)),
            Decoded::More { .. } => None,
        }
    }
}

/// Writes items of one kind as bytes.
pub trait Encoder<Item> {
    /// Why an item can never be written.
    type Error: Error + 'static;

    /// Writes `item` into `sink`, whole or not at all.
    ///
    /// # Errors
    /// [`EncodeError::Full`] when the sink has no room now: nothing was written, and the same item can be written
    /// when there is room. [`EncodeError::Invalid`] when the item cannot be a frame of this codec.
    fn encode<S: Sink + ?Sized>(&mut self, item: Item, sink: &mut S) -> Result<(), EncodeError<Self::Error>>;
}

/// Why an item was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodeError<E> {
    /// The sink has no room for it now; with room it can be written.
    Full(Full),
    /// The item cannot be written by this codec.
    Invalid(E),
}

impl<E> From<Full> for EncodeError<E> {
    fn from(full: Full) -> Self {
        EncodeError::Full(full)
    }
}

impl<E: fmt::Display> fmt::Display for EncodeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::Full(full) => full.fmt(f),
            EncodeError::Invalid(error) => error.fmt(f),
        }
    }
}

impl<E: Error> Error for EncodeError<E> {}
