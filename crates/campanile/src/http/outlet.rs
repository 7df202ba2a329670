//! The outlet: where one answer is written, which never lacks room.

use campanile_core::{Bytes, Output};
use campanile_protocol::{Full, Sink};

/// The output, and memory for what does not fit into it. An answer that was begun is never refused for want of room:
/// its rest is collected, and handed over when it is complete.
#[derive(Debug)]
pub(super) struct Outlet<'r, 'o> {
    output: &'r mut Output<'o>,
    /// Once something is here all that is written goes here.
    spilled: &'r mut Vec<u8>,
}

impl<'r, 'o> Outlet<'r, 'o> {
    pub(super) fn new(output: &'r mut Output<'o>, spilled: &'r mut Vec<u8>) -> Outlet<'r, 'o> {
        Outlet { output, spilled }
    }
}

/// Hands over what did not fit, and what is to be sent behind it: both at once, since two could be one too many.
///
/// # Errors
/// When the connection takes no more; then nothing of it was sent.
#[inline]
pub(super) fn hand_over(
    output: &mut Output<'_>,
    spilled: Vec<u8>,
    behind: Option<Bytes>,
) -> Result<(), Full> {
    if spilled.is_empty() && behind.is_none() {
        return Ok(());
    }
    send(output, spilled, behind.unwrap_or_default())
}

#[cold]
fn send(output: &mut Output<'_>, mut spilled: Vec<u8>, behind: Bytes) -> Result<(), Full> {
    let bytes = if spilled.is_empty() {
        behind
    } else {
        spilled.extend_from_slice(&behind);
        spilled.into()
    };
    output.send(bytes).map_err(|bytes| Full { needed: bytes.len(), room: 0 })
}

impl Sink for Outlet<'_, '_> {
    #[inline]
    fn room(&self) -> usize {
        isize::MAX as usize
    }

    #[inline]
    fn len(&self) -> usize {
        self.output.unsent() + self.spilled.len()
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if self.spilled.is_empty() && self.output.write(bytes).is_ok() {
            return Ok(());
        }
        self.spilled.extend_from_slice(bytes);
        Ok(())
    }

    /// In one place if they fit there all.
    #[inline]
    fn write_pieces(&mut self, pieces: &[&[u8]]) -> Result<(), Full> {
        let needed = pieces.iter().map(|piece| piece.len()).sum();
        if !self.spilled.is_empty() || needed > self.output.room() {
            return pieces.iter().try_for_each(|piece| self.write(piece));
        }
        let mut spare = self.output.spare();
        for piece in pieces {
            let (place, rest) = spare.split_at_mut(piece.len());
            place.copy_from_slice(piece);
            spare = rest;
        }
        self.output.advance(needed);
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        let kept = len.saturating_sub(self.output.unsent());
        self.spilled.truncate(kept);
        self.output.truncate(len);
    }
}
