//! A request that is being answered piece by piece, and the rule by which its responder is called.

use campanile_core::{Context, Event, Flow};
use campanile_protocol::http1::Exchange as Facts;

use super::body::Incoming;
use super::config::Config;
use super::error::{self, Error};
use super::exchange::{Answer, Exchange, Next, Responder};
use super::log::Record;
use super::outlet::{Outlet, hand_over};
use super::response::{Begun, How};
use super::service::write_error;
use super::shared::Shared;

pub(super) struct Active {
    responder: Box<dyn Responder>,
    pub(super) incoming: Incoming,
    answer: Answer,
    waits: Waits,
    /// The responder was not called yet.
    is_new: bool,
    /// The responder was told that the body is complete.
    told_end: bool,
    pub(super) record: Option<Record>,
}

/// What a responder waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Waits {
    body: bool,
    room: bool,
}

/// How an exchange ended, if it did.
pub(super) enum Ended {
    /// It waits for something.
    NotYet(Flow),
    /// The answer is complete.
    Answered { keep_alive: bool, status: u16 },
    /// The answer will never be complete, and the client must see that.
    Cut(Flow),
}

impl Active {
    pub(super) fn new(
        responder: Box<dyn Responder>,
        begun: Option<Begun>,
        facts: Facts,
        incoming: Incoming,
        record: Option<Record>,
    ) -> Active {
        let answer = match begun {
            Some(Begun { encoder, status }) => Answer::Begun { encoder, status },
            None => Answer::Unbegun(facts),
        };
        Active { responder, incoming, answer, waits: Waits::default(), is_new: true, told_end: false, record }
    }

    /// Calls the responder for as long as it gets on.
    pub(super) fn run(
        &mut self,
        event: Option<Event>,
        cx: &mut Context<'_>,
        config: &Config,
        shared: &Shared,
    ) -> Ended {
        // What the connection is told of input and room is looked up; all else is the responder's.
        let mut has_changed = true;
        let mut told = match event {
            _ if std::mem::take(&mut self.is_new) => Some(Event::Open),
            Some(Event::Open | Event::Input | Event::Room | Event::End) | None => None,
            Some(event) => Some(event),
        };
        loop {
            if let Answer::Begun { encoder, status } = &self.answer
                && encoder.is_suppressed()
            {
                return Ended::Answered { keep_alive: encoder.keep_alive(), status: *status };
            }
            if self.waits.body {
                if !self.incoming.invite(&cx.input, &mut cx.output) {
                    return Ended::NotYet(Flow::Room);
                }
                match self.incoming.advance(&mut cx.input) {
                    Ok(is_new) => has_changed |= is_new,
                    Err(error) => return self.fail(&error::of_body(error), cx, shared),
                }
            }
            let Some(event) = told.take().or_else(|| self.next_event(has_changed, cx)) else {
                return self.rest(cx);
            };
            let before = (cx.input.consumed(), cx.output.unsent());
            let mut exchange =
                Exchange { cx, incoming: &mut self.incoming, answer: &mut self.answer, config, shared };
            let next = self.responder.respond(event, &mut exchange);
            has_changed = (cx.input.consumed(), cx.output.unsent()) != before;
            self.waits = match next {
                Ok(Next::Body) => Waits { body: true, room: false },
                Ok(Next::Room) => Waits { body: false, room: true },
                Ok(Next::BodyOrRoom) => Waits { body: true, room: true },
                Ok(Next::Wait) => Waits::default(),
                Ok(Next::Done) => return self.done(cx, shared),
                Ok(Next::Become(responder)) => {
                    self.responder = responder;
                    told = Some(Event::Open);
                    Waits::default()
                }
                Err(error) => {
                    error.report();
                    return self.fail(&error, cx, shared);
                }
            };
        }
    }

    fn next_event(&mut self, has_changed: bool, cx: &Context<'_>) -> Option<Event> {
        let Waits { body, room } = self.waits;
        if body && self.incoming.is_complete() && !self.told_end {
            self.told_end = true;
            return Some(Event::End);
        }
        if !has_changed {
            return None;
        }
        if body && self.incoming.ready() > 0 {
            return Some(Event::Input);
        }
        let has_room = cx.output.room() >= cx.promised_room() && cx.output.can_send();
        (room && has_room).then_some(Event::Room)
    }

    /// Nothing can be done now.
    fn rest(&self, cx: &Context<'_>) -> Ended {
        let Waits { body, room } = self.waits;
        let body = body && !self.incoming.is_complete();
        if room && !body && cx.output.unsent() == 0 {
            tracing::error!("a responder waits for room, wrote nothing, and has all the room there is");
            return Ended::Cut(Flow::Abort);
        }
        Ended::NotYet(match (body, room) {
            (true, true) => Flow::MoreOrRoom(self.incoming.at_least()),
            (true, false) => Flow::More(self.incoming.at_least()),
            (false, true) => Flow::Room,
            (false, false) => Flow::Wait,
        })
    }

    /// The responder says that the answer is complete.
    fn done(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Ended {
        let (encoder, status) = match &mut self.answer {
            Answer::Whole { keep_alive, status } => {
                return Ended::Answered { keep_alive: *keep_alive, status: *status };
            }
            Answer::Unbegun(_) => {
                tracing::error!("a responder was done, and had not answered");
                return self.fail(&Error::new(500, "internal server error"), cx, shared);
            }
            Answer::Begun { encoder, status } => (encoder, *status),
        };
        let mut spilled = Vec::new();
        let finished = encoder.finish(&[], &mut Outlet::new(&mut cx.output, &mut spilled));
        let handed_over = hand_over(&mut cx.output, spilled, None);
        match (finished, handed_over) {
            (Ok(facts), Ok(())) => Ended::Answered { keep_alive: facts.keep_alive(), status },
            (Err(error), _) => {
                tracing::error!("a responder was done too early: {error}");
                Ended::Cut(Flow::Abort)
            }
            (Ok(_), Err(_)) => Ended::Cut(Flow::Abort),
        }
    }

    /// The exchange cannot go on.
    fn fail(&mut self, error: &Error, cx: &mut Context<'_>, shared: &Shared) -> Ended {
        match &self.answer {
            Answer::Unbegun(facts) => {
                let standing = shared.standing(cx.wall());
                match write_error(error, *facts, standing, &mut cx.output, &mut cx.control) {
                    How::Whole { keep_alive, status } => Ended::Answered { keep_alive, status },
                    How::Later { .. } => Ended::Cut(Flow::Abort),
                }
            }
            Answer::Whole { keep_alive: _, status } => Ended::Answered { keep_alive: false, status: *status },
            // A body that ends with the connection would look complete.
            Answer::Begun { encoder, .. } if encoder.remaining().is_none() && !encoder.keep_alive() => {
                Ended::Cut(Flow::Abort)
            }
            Answer::Begun { .. } => Ended::Cut(Flow::Finish),
        }
    }
}
