//! The first look at a request: its head is complete, and the handler answers it, or says who will.

use campanile_core::{Control, Output, guard};
use campanile_protocol::http1::{BodyLength, Exchange as Facts, RequestHead};

use super::Handler;
use super::config::Config;
use super::error::{self, Error};
use super::outlet::{Outlet, hand_over};
use super::request::Request;
use super::response::{Answered, How, Response};
use super::shared::Shared;

/// A request whose head is complete, and whose handler is to be called.
pub(super) struct First<'a> {
    pub(super) head: &'a RequestHead<'a>,
    /// Bytes that came behind the head.
    pub(super) rest: usize,
    pub(super) facts: Facts,
    pub(super) config: &'a Config,
    pub(super) shared: &'a Shared,
}

impl First<'_> {
    pub(super) fn answer<'o>(
        &self,
        handler: &impl Handler,
        output: &mut Output<'o>,
        control: &mut Control<'o>,
    ) -> How {
        // An answer that is whole now is the last if the body is more than anybody will discard, or if the client waits
        // to be told to send it and nobody can say whether it will (RFC 9110, section 10.1.1).
        let (head, facts, rest) = (self.head, self.facts, self.rest as u64);
        let leaves_too_much = match head.body() {
            BodyLength::Length(len) => len.saturating_sub(rest) > self.config.discard_limit,
            _ => false,
        };
        let is_withheld = head.expects_continue() && rest == 0 && !head.body().is_empty();
        let leaves_too_much = leaves_too_much || is_withheld;
        let begins_last = leaves_too_much;
        let shared = self.shared;
        let (unsent, mut spilled, mut behind) = (output.unsent(), Vec::new(), None);
        let mut outlet = Outlet::new(output, &mut spilled);
        let (outlet, behind_it, body) = (&mut outlet, &mut behind, head.body());
        let response = Response {
            outlet,
            behind: behind_it,
            control,
            facts,
            body,
            leaves_too_much,
            begins_last,
            shared,
            feed: None,
        };
        // No TLS was spoken here, so nobody can vouch for it (RFC 9110, section 7.4).
        let answered = if head.target().is_https() {
            Err(Error::new(421, "this is not a connection for https"))
        } else {
            guard(|| handler.handle(&Request::new(head), response)).unwrap_or_else(|panic| {
                control.report_panic(&panic);
                Err(error::of_panic())
            })
        };
        let answered = answered.and_then(|Answered(how)| {
            hand_over(output, spilled, behind)?;
            Ok(how)
        });
        answered.unwrap_or_else(|error| {
            error.report();
            output.truncate(unsent);
            write_error(&error, facts, leaves_too_much, shared, output, control)
        })
    }
}

/// Writes an error as an answer.
pub(super) fn write_error<'o>(
    error: &Error,
    facts: Facts,
    leaves_too_much: bool,
    shared: &Shared,
    output: &mut Output<'o>,
    control: &mut Control<'o>,
) -> How {
    let (mut spilled, mut behind) = (Vec::new(), None);
    let mut outlet = Outlet::new(output, &mut spilled);
    let (outlet, behind_it, body) = (&mut outlet, &mut behind, BodyLength::Empty);
    let begins_last = leaves_too_much;
    let response = Response {
        outlet,
        behind: behind_it,
        control,
        facts,
        body,
        leaves_too_much,
        begins_last,
        shared,
        feed: None,
    };
    let answered = response.error(error);
    match answered {
        Ok(Answered(how)) if hand_over(output, spilled, behind).is_ok() => how,
        // Status and text were checked, so this is a connection that takes nothing more.
        _ => How::Whole { keep_alive: false, status: error.status() },
    }
}
