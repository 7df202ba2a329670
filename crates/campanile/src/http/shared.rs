//! What all HTTP connections of a worker share.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::budget::Budget;

/// Kept by the worker: see [`Control::shared`](crate::Control::shared).
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) dates: Dates,
    pub(super) budget: Arc<Budget>,
}

/// The Date of a worker's answers, written once a second (RFC 9110, section 6.6.1).
#[derive(Debug, Default)]
pub(super) struct Dates {
    second: Cell<Option<u64>>,
    text: Cell<[u8; 29]>,
}

impl Dates {
    pub(super) fn at(&self, now: SystemTime) -> [u8; 29] {
        let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.second.replace(Some(second)) != Some(second) {
            let mut text = [b' '; 29];
            let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
            for (to, from) in text.iter_mut().zip(date.bytes()) {
                *to = from;
            }
            self.text.set(text);
        }
        self.text.get()
    }
}
