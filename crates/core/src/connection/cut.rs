//! A connection that is cut before its time, in words for the log.

use std::fmt;

use crate::address::Address;
use crate::ring::Side;

use super::{Connection, Env, Stage};

/// Who is cut, and in the middle of what.
pub(crate) struct Cut {
    peer: Option<Address>,
    doing: &'static str,
    unread: usize,
    unsent: usize,
}

impl Connection {
    /// Whether something is lost when it is closed now: its service goes on, or what it wrote is not sent.
    pub(crate) fn is_unfinished(&self) -> bool {
        !matches!(self.stage, Stage::Lingering { .. } | Stage::Ending(_))
    }

    pub(crate) fn describe(&mut self, env: &mut Env<'_>) -> Cut {
        let (unread, unsent) = self.held_bytes();
        let doing = match self.stage {
            Stage::Opening => "being opened",
            Stage::Open => "open",
            Stage::Finishing { .. } => "being finished",
            Stage::Lingering { .. } | Stage::Ending(_) => "being closed",
        };
        let mut scope = Connection::scope(self.handle, self.descriptor, &mut self.facts, env.desk, env.ring);
        Cut { peer: scope.address(Side::Peer).ok(), doing, unread, unsent }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.peer {
            Some(peer) => peer.fmt(f)?,
            None => f.write_str("a peer that is gone")?,
        }
        let Cut { doing, unread, unsent, .. } = self;
        write!(f, ", {doing}, {unread} bytes unread, {unsent} bytes unsent")
    }
}
