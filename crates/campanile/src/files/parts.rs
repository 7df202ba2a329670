//! Parts: several ranges of a file that is in memory, sent from where they are, with heads between them.

use campanile_core::{Bytes, Event};

use crate::http::{Error, Exchange, Next, Responder};

use super::multipart::Multipart;

/// Writes the body of a multipart answer a piece at a time, and no further than the client takes it.
pub(super) struct Parts {
    multipart: Multipart,
    /// The whole file.
    bytes: Bytes,
    /// Heads that were written.
    heads: usize,
    /// What stands behind the last head.
    part: Option<Bytes>,
}

impl Parts {
    pub(super) fn new(multipart: Multipart, bytes: Bytes) -> Parts {
        Parts { multipart, bytes, heads: 0, part: None }
    }
}

impl Responder for Parts {
    fn respond(&mut self, _: Event, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        if !exchange.can_lend() {
            return Ok(Next::Room);
        }
        if let Some(part) = self.part.take() {
            exchange.send(part)?;
            return Ok(Next::Room);
        }
        let mut head = Vec::new();
        let Some(range) = self.multipart.ranges().get(self.heads) else {
            self.multipart.write_end(&mut head)?;
            exchange.write(head)?;
            return Ok(Next::Done);
        };
        self.multipart.write_head(self.heads, &mut head)?;
        self.part = Some(self.bytes.slice(range.first as usize..range.last as usize + 1));
        self.heads += 1;
        exchange.write(head)?;
        Ok(Next::Room)
    }
}
