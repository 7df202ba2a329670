//! The access log: what is told of each request when its answer is written, and the count of them.

use std::time::SystemTime;

use campanile_core::{Control, Time, Verdict};
use campanile_protocol::http1::RequestHead;

/// What the log has in place of a status when the answer was not completed, as nginx writes it.
const CUT: u16 = 499;

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
    pub(super) fn new(head: &RequestHead<'_>, control: &mut Control<'_>) -> Record {
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

    fn tell(self, status: u16, now: Time) {
        let Record { peer, method, target, version, begun, at } = self;
        let micros = now.since_start().saturating_sub(begun.since_start()).as_micros() as u64;
        let date = httpdate::fmt_http_date(at);
        tracing::info!(target: "campanile::access", %peer, %date, %method, %target, version, status, micros);
    }
}

/// A request was answered: that is counted, and told to the log if that wants it.
#[inline]
pub(super) fn answered(status: u16, record: Option<Record>, control: &mut Control<'_>) {
    control.count_answer(match status {
        ..300 => Verdict::Success,
        300..400 => Verdict::Redirect,
        400..500 => Verdict::ClientError,
        500.. => Verdict::ServerError,
    });
    if let Some(record) = record {
        record.tell(status, control.now());
    }
}

/// A request whose answer will not be completed.
#[cold]
pub(super) fn cut(record: Option<Record>, control: &mut Control<'_>) {
    control.count_answer(Verdict::Cut);
    if let Some(record) = record {
        record.tell(CUT, control.now());
    }
}

fn peer(control: &mut Control<'_>) -> String {
    control.peer_addr().map_or_else(|_| "-".into(), |peer| peer.to_string())
}
