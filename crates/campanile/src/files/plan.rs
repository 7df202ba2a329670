//! The plan: what of a file is answered, and the head of that answer.

use std::time::SystemTime;

use campanile_protocol::http1::Method;

use crate::http::{Answered, Begun, Error, Head, Response};

use super::conditional::{Verdict, evaluate};
use super::date::Date;
use super::found::Found;
use super::handler::Settings;
use super::multipart::Multipart;
use super::parts::Parts;
use super::range::{ByteRange, DEFAULT_MAX_RANGES, Selection, select, unsatisfied_range};
use super::sending::Sending;
use super::validators::Validators;

/// Bodies up to this length are copied behind their head.
const COPIED: usize = 4096;

/// Decided by the request's conditions and ranges.
pub(super) struct Plan {
    pub(super) what: What,
}

pub(super) enum What {
    NotModified,
    PreconditionFailed,
    Unsatisfiable,
    Whole,
    One(ByteRange),
    Many(Multipart),
}

impl Plan {
    pub(super) fn make<'v, V>(
        method: Method<'_>,
        values: impl Fn(&'static str) -> V,
        found: &Found,
        now: SystemTime,
    ) -> Plan
    where
        V: Iterator<Item = &'v [u8]> + Clone,
    {
        let Found { stat, content_type, .. } = found;
        let validators = Validators { now: Date::of(now), ..found.validators };
        let what = match evaluate(method, &values, &validators) {
            Verdict::NotModified => What::NotModified,
            Verdict::PreconditionFailed => What::PreconditionFailed,
            Verdict::Proceed => match select(method, &values, &validators, stat.len, DEFAULT_MAX_RANGES) {
                Selection::Whole => What::Whole,
                Selection::One(range) => What::One(range),
                Selection::Many(ranges) => {
                    What::Many(Multipart::new(ranges, stat.len, content_type, fastrand::u128(..)))
                }
                Selection::Unsatisfiable => What::Unsatisfiable,
            },
        };
        Plan { what }
    }

    /// The whole answer, if the file is in memory or has no part in it; else its head, and who sends the rest.
    pub(super) fn answer(
        self,
        found: &Found,
        settings: &Settings,
        response: Response<'_, '_>,
    ) -> Result<Answered, Error> {
        let range = match self.what {
            What::Many(_) => {
                let begun = self.begin(found, settings, response)?;
                let What::Many(multipart) = self.what else { unreachable!("looked at just now") };
                return Ok(match &found.bytes {
                    Some(all) => begun.then(Parts::new(multipart, all.clone())),
                    None => begun.then(Sending::parts(found, multipart)),
                });
            }
            What::NotModified | What::PreconditionFailed | What::Unsatisfiable => {
                return self.head(found, settings, response).empty();
            }
            What::Whole => 0..found.stat.len,
            What::One(range) => range.first..range.last + 1,
        };
        let Some(all) = &found.bytes else {
            return Ok(self.begin(found, settings, response)?.then(Sending::part(found, range)));
        };
        let head = self.head(found, settings, response);
        let range = range.start as usize..range.end as usize;
        match range.len() {
            // Copied anyway, so that it need not be counted who has it.
            ..=COPIED => head.body(&all[range]),
            _ => head.bytes(all.slice(range)),
        }
    }

    /// The head of an answer whose body comes piece by piece.
    fn begin(&self, found: &Found, settings: &Settings, response: Response<'_, '_>) -> Result<Begun, Error> {
        let len = match &self.what {
            What::One(range) => range.len(),
            What::Many(multipart) => {
                multipart.content_length().ok_or_else(|| Error::new(500, "the parts are too long"))?
            }
            _ => found.stat.len,
        };
        self.head(found, settings, response).begin_sized(len)
    }

    fn head<'r, 'o>(&self, found: &Found, settings: &Settings, response: Response<'r, 'o>) -> Head<'r, 'o> {
        let Found { stat, content_type, .. } = found;
        let head = match &self.what {
            What::NotModified => response.status(304),
            What::PreconditionFailed => return response.status(412),
            What::Unsatisfiable => {
                return response.status(416).field("Content-Range", unsatisfied_range(stat.len).as_bytes());
            }
            What::Whole => response.status(200).field("Content-Type", content_type),
            What::One(range) => response
                .status(206)
                .field("Content-Type", content_type)
                .field("Content-Range", range.content_range(stat.len).as_bytes()),
            What::Many(multipart) => {
                response.status(206).field("Content-Type", multipart.content_type().as_bytes())
            }
        };
        let head = head.block(&found.fields);
        match &settings.cache_control {
            Some(value) => head.field("Cache-Control", value),
            None => head,
        }
    }
}
