//! The access log: what is told of each request when its answer is written.

use std::time::SystemTime;

use campanile_core::{Control, Time};
use campanile_protocol::http1::RequestHead;

/// What of a request is kept for its line in the log. Made only if somebody wants it.
pub(super) struct Record {
    peer: String,
    method: String,
    target: String,
    version: &'static str,
    begun: Time,
    at: SystemTime,
}

impl Record {
    pub(super) fn new(head: &RequestHead<'_, '_>, control: &mut Control<'_>) -> Record {
        Record {
            peer: peer(control),
            method: head.method().as_str().into(),
            target: head.target().as_str().into(),
            version: head.version().as_str(),
            begun: control.now(),
            at: control.wall(),
        }
    }

    /// Of a head that nobody could read.
    pub(super) fn unread(control: &mut Control<'_>) -> Record {
        Record {
            peer: peer(control),
            method: "-".into(),
            target: "-".into(),
            version: "-",
            begun: control.now(),
            at: control.wall(),
        }
    }

    pub(super) fn tell(self, status: u16, now: Time) {
        let Record { peer, method, target, version, begun, at } = self;
        let micros = now.since_start().saturating_sub(begun.since_start()).as_micros() as u64;
        let date = httpdate::fmt_http_date(at);
        tracing::info!(target: "campanile::access", %peer, %date, %method, %target, version, status, micros);
    }
}

fn peer(control: &mut Control<'_>) -> String {
    control.peer_addr().map_or_else(|_| "-".into(), |peer| peer.to_string())
}
