//! The reply: a connection's output as the sink that codecs write into.

use campanile_core::{Bytes, Output};
use campanile_protocol::{Full, Sink};

/// What is written here is sent to the peer, together with all other replies of the turn.
///
/// It is a [`Sink`], so encoders and response writers write into it; a write that does not fit is refused whole. One
/// that is longer than the room there can ever be ([`Config::send_buffer_len`](crate::Config)) is copied once and
/// handed over as [`Bytes`], within [`Config::held_limit`](crate::Config).
#[derive(Debug)]
pub struct Reply<'o, 'a> {
    output: &'o mut Output<'a>,
}

impl<'o, 'a> Reply<'o, 'a> {
    /// The sink over an output.
    pub fn new(output: &'o mut Output<'a>) -> Reply<'o, 'a> {
        Reply { output }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// [`Full`] when there is no room for them; nothing was written.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Full> {
        Sink::write(self, bytes.as_ref())
    }

    /// Writes all of `line`, and LF.
    ///
    /// # Errors
    /// [`Full`] when there is no room for both; nothing was written.
    pub fn write_line(&mut self, line: impl AsRef<[u8]>) -> Result<(), Full> {
        self.write_pieces(&[line.as_ref(), b"\n"])
    }

    /// Hands large bytes over without a copy; they are sent behind what was written before.
    ///
    /// # Errors
    /// [`Full`] when the connection holds as much as [`Config::held_limit`](crate::Config) allows.
    pub fn send(&mut self, bytes: Bytes) -> Result<(), Full> {
        self.output.send(bytes).map_err(|bytes| Full { needed: bytes.len(), room: 0 })
    }

    /// Whether bytes of any length can be handed over, or written, now. For who makes a long answer, and would have to
    /// make it again.
    #[must_use]
    pub fn can_send(&self) -> bool {
        self.output.can_send()
    }

    /// Whether `len` bytes could not be written even if nothing else were: then they are handed over.
    fn is_too_long(&self, len: usize) -> bool {
        len > self.output.longest()
    }
}

impl Sink for Reply<'_, '_> {
    #[inline]
    fn room(&self) -> usize {
        self.output.room()
    }

    #[inline]
    fn len(&self) -> usize {
        self.output.unsent()
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let full = Full { needed: bytes.len(), room: self.output.room() };
        if self.is_too_long(bytes.len()) {
            return if self.can_send() { self.send(Bytes::copy_from_slice(bytes)) } else { Err(full) };
        }
        self.output.write(bytes).map_err(|_| full)
    }

    #[inline]
    fn write_pieces(&mut self, pieces: &[&[u8]]) -> Result<(), Full> {
        let needed = pieces.iter().fold(0usize, |sum, piece| sum.saturating_add(piece.len()));
        let room = self.output.room();
        if self.is_too_long(needed) {
            return if self.can_send() {
                self.send(pieces.concat().into())
            } else {
                Err(Full { needed, room })
            };
        }
        if needed > room {
            return Err(Full { needed, room });
        }
        pieces.iter().try_for_each(|piece| Sink::write(self, piece))
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        self.output.truncate(len);
    }
}
