//! What all HTTP connections of a worker share.

use std::cell::{Cell, Ref, RefCell};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arrayvec::ArrayString;
use campanile_core::{Control, Time};
use campanile_protocol::http1::{FieldBlock, FieldLine};
use httpdate::HttpDate;

use super::budget::Budget;

const SERVER: FieldLine = FieldLine::from_static("Server: campanile\r\n");

/// The fields that are in every answer: Server and Date.
pub(super) type Standing = FieldBlock<64>;

/// Kept by the worker: see [`Control::shared`].
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// The turn that last asked for it, and the second that it had.
    asked: Cell<Option<Time>>,
    second: Cell<Option<u64>>,
    standing: RefCell<Standing>,
    pub(super) budget: Arc<Budget>,
}

impl Shared {
    /// Written once a second, so that Date is live (RFC 9110, section 6.6.1). The calendar is looked at once a turn.
    #[inline]
    pub(super) fn standing(&self, control: &Control<'_>) -> Ref<'_, Standing> {
        let now = Some(control.now());
        if self.asked.replace(now) != now {
            self.renew(control.wall());
        }
        self.standing.borrow()
    }

    fn renew(&self, wall: SystemTime) {
        let second = wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.second.replace(Some(second)) != Some(second) {
            self.standing.replace(standing(second));
        }
    }
}

#[cold]
fn standing(second: u64) -> Standing {
    // Without the allocator, so that no request is the one that needs it.
    let mut date = ArrayString::<32>::new();
    let written = write!(date, "{}", HttpDate::from(SystemTime::UNIX_EPOCH + Duration::from_secs(second)));
    let mut standing = Standing::new();
    // 56 bytes: they fit, and are checked.
    let _ = standing.line(SERVER).and_then(|standing| standing.field("Date", date.as_bytes()));
    debug_assert!(written.is_ok());
    standing
}
