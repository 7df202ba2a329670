//! Length-delimited frames: a length field, then that many bytes.

use core::error::Error;
use core::fmt;

use crate::codec::{Codec, Decoded, EncodeError, Encoder};
use crate::sink::Sink;

/// A codec of frames behind a length field.
///
/// The length counts the bytes after the field. A frame is those bytes, borrowed; it may be empty.
///
/// ```
/// use campanile_protocol::{ByteOrder, Codec, Decoded, Encoder, LengthDelimited, LengthWidth};
///
/// let mut codec = LengthDelimited::new(LengthWidth::Two, ByteOrder::BigEndian, 1024);
/// assert_eq!(codec.decode(b"\0\x05hel")?, Decoded::More { at_least: 2 });
/// assert_eq!(codec.decode(b"\0\x05hello...")?, Decoded::Frame { frame: &b"hello"[..], consumed: 7 });
///
/// let mut out = Vec::new();
/// codec.encode(&b"hello"[..], &mut out).unwrap();
/// assert_eq!(out, b"\0\x05hello");
/// # Ok::<(), campanile_protocol::FrameError>(())
/// ```
#[derive(Debug, Clone)]
pub struct LengthDelimited {
    width: LengthWidth,
    order: ByteOrder,
    max_length: usize,
}

/// How many bytes a length field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LengthWidth {
    /// One byte: frames of up to 255 bytes.
    One,
    /// Two bytes: frames of up to 64 KiB less one.
    Two,
    /// Four bytes: frames of up to 4 GiB less one.
    Four,
    /// Eight bytes.
    Eight,
}

impl LengthWidth {
    /// The width in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            LengthWidth::One => 1,
            LengthWidth::Two => 2,
            LengthWidth::Four => 4,
            LengthWidth::Eight => 8,
        }
    }

    /// The greatest length the field can hold.
    const fn max_length(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }
}

/// The order of the bytes of a length field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ByteOrder {
    /// Most significant byte first: network order.
    #[default]
    BigEndian,
    /// Least significant byte first.
    LittleEndian,
}

impl LengthDelimited {
    /// Frames of at most `max_length` bytes, the length field not counted.
    pub const fn new(width: LengthWidth, order: ByteOrder, max_length: usize) -> Self {
        // No frame can be longer than memory; so that field and frame together never overflow.
        let memory = isize::MAX as usize - 8;
        let max_length = if max_length > memory { memory } else { max_length };
        LengthDelimited { width, order, max_length }
    }

    /// The longest frame in bytes, the length field not counted.
    pub const fn max_length(&self) -> usize {
        self.max_length
    }

    fn read_length(&self, field: &[u8]) -> u64 {
        let append = |length: u64, byte: &u8| length << 8 | u64::from(*byte);
        match self.order {
            ByteOrder::BigEndian => field.iter().fold(0, append),
            ByteOrder::LittleEndian => field.iter().rev().fold(0, append),
        }
    }
}

impl Codec for LengthDelimited {
    type Frame<'a> = &'a [u8];
    type Error = FrameError;

    fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<&'a [u8]>, FrameError> {
        let width = self.width.bytes();
        let Some((field, rest)) = input.split_at_checked(width) else {
            return Ok(Decoded::More { at_least: width - input.len() });
        };
        let announced = self.read_length(field);
        let length = usize::try_from(announced).unwrap_or(usize::MAX);
        if length > self.max_length {
            return Err(FrameError::TooLong { length: announced, max_length: self.max_length });
        }
        Ok(match rest.get(..length) {
            Some(frame) => Decoded::Frame { frame, consumed: width + length },
            None => Decoded::More { at_least: length - rest.len() },
        })
    }

    fn decode_end<'a>(&mut self, input: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, FrameError> {
        match self.decode(input)? {
            Decoded::Frame { frame, consumed } => Ok(Some((frame, consumed))),
            Decoded::More { .. } if input.is_empty() => Ok(None),
            Decoded::More { at_least } => Err(FrameError::Truncated { missing: at_least }),
        }
    }
}

impl Encoder<&[u8]> for LengthDelimited {
    type Error = FrameError;

    fn encode<S: Sink + ?Sized>(
        &mut self,
        frame: &[u8],
        sink: &mut S,
    ) -> Result<(), EncodeError<FrameError>> {
        let length = frame.len() as u64;
        if frame.len() > self.max_length || length > self.width.max_length() {
            let field = usize::try_from(self.width.max_length()).unwrap_or(usize::MAX);
            let max_length = self.max_length.min(field);
            return Err(EncodeError::Invalid(FrameError::TooLong { length, max_length }));
        }
        let width = self.width.bytes();
        let (big, little) = (length.to_be_bytes(), length.to_le_bytes());
        let field = match self.order {
            ByteOrder::BigEndian => &big[8 - width..],
            ByteOrder::LittleEndian => &little[..width],
        };
        Ok(sink.write_pieces(&[field, frame])?)
    }
}

/// Why bytes are no frame, or a frame cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// The length is more than is allowed, or more than the length field can hold.
    TooLong {
        /// The length of the frame, in bytes.
        length: u64,
        /// The longest frame allowed, in bytes.
        max_length: usize,
    },
    /// The input ended inside a frame.
    Truncated {
        /// Bytes that would have had to follow, at the least.
        missing: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong { length, max_length } => {
                write!(f, "frame of {length} bytes is longer than {max_length} bytes")
            }
            FrameError::Truncated { missing } => {
                write!(f, "input ended inside a frame, at least {missing} bytes short")
            }
        }
    }
}

impl Error for FrameError {}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::sink::SliceSink;

    const WIDTHS: [LengthWidth; 4] =
        [LengthWidth::One, LengthWidth::Two, LengthWidth::Four, LengthWidth::Eight];
    const ORDERS: [ByteOrder; 2] = [ByteOrder::BigEndian, ByteOrder::LittleEndian];

    #[test]
    fn more_says_exactly_what_is_missing() {
        let mut codec = LengthDelimited::new(LengthWidth::Four, ByteOrder::LittleEndian, 300);
        for (input, at_least) in [
            (&b""[..], 4),
            (b"\x05\0", 2),
            (b"\x05\0\0\0", 5),
            (b"\x05\0\0\0hell", 1),
            (b"\x2c\x01\0\0", 300),
        ] {
            assert_eq!(codec.decode(input), Ok(Decoded::More { at_least }));
        }
    }

    #[test]
    fn frames_beyond_the_bound_are_refused_at_their_length() {
        for width in WIDTHS {
            for order in ORDERS {
                let mut codec = LengthDelimited::new(width, order, 4);
                let mut field = [0; 8];
                let least = if order == ByteOrder::BigEndian { width.bytes() - 1 } else { 0 };
                field[least] = 5;
                let refused = FrameError::TooLong { length: 5, max_length: 4 };
                assert_eq!(codec.decode(&field[..width.bytes()]), Err(refused));
                let written = codec.encode(&[0; 5][..], &mut Vec::new());
                assert_eq!(written, Err(EncodeError::Invalid(refused)));
            }
        }
        let mut codec = LengthDelimited::new(LengthWidth::Eight, ByteOrder::BigEndian, usize::MAX);
        let refused = codec.decode(&[0xff; 8]);
        assert!(matches!(refused, Err(FrameError::TooLong { length: u64::MAX, .. })));
        let mut codec = LengthDelimited::new(LengthWidth::One, ByteOrder::BigEndian, 1000);
        let refused = EncodeError::Invalid(FrameError::TooLong { length: 256, max_length: 255 });
        assert_eq!(codec.encode(&[0; 256][..], &mut Vec::new()), Err(refused));
    }

    #[test]
    fn the_end_of_input_inside_a_frame_is_an_error() {
        let mut codec = LengthDelimited::new(LengthWidth::Two, ByteOrder::BigEndian, 300);
        assert_eq!(codec.decode_end(b""), Ok(None));
        assert_eq!(codec.decode_end(b"\0\x01a"), Ok(Some((&b"a"[..], 3))));
        assert_eq!(codec.decode_end(b"\0"), Err(FrameError::Truncated { missing: 1 }));
        assert_eq!(codec.decode_end(b"\0\x05he"), Err(FrameError::Truncated { missing: 3 }));
    }

    #[test]
    fn a_frame_without_room_leaves_nothing() {
        let mut codec = LengthDelimited::new(LengthWidth::Two, ByteOrder::BigEndian, 300);
        let mut memory = [0; 4];
        let mut sink = SliceSink::new(&mut memory);
        assert!(matches!(codec.encode(&b"abc"[..], &mut sink), Err(EncodeError::Full(_))));
        assert!(sink.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..256), 0..8),
            width in prop::sample::select(&WIDTHS[..]),
            order in prop::sample::select(&ORDERS[..]),
        ) {
            let mut codec = LengthDelimited::new(width, order, 255);
            let mut out = Vec::new();
            for frame in &frames {
                codec.encode(&frame[..], &mut out).unwrap();
            }
            let mut input = &out[..];
            for expected in &frames {
                let (frame, consumed) = codec.decode(input).unwrap().into_frame().unwrap();
                prop_assert_eq!(frame, &expected[..]);
                input = &input[consumed..];
            }
            prop_assert!(input.is_empty());
        }
    }
}
