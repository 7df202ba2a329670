//! A request that is being answered piece by piece, and the rule by which its responder is called.

use campanile_core::{Context, Event, Flow, Timeout, guard};
use campanile_protocol::http1::Exchange as Facts;

use super::body::Incoming;
use super::config::Config;
use super::error::{self, Error};
use super::exchange::{Answer, Closure, Exchange, Next, Responder, has_room};
use super::first::write_error;
use super::log::Record;
use super::outlet::{Outlet, hand_over};
use super::response::{Begun, How, too_long};
use super::shared::Shared;
use super::timers::Timers;

pub(super) struct Active {
    responder: Box<dyn Responder>,
    pub(super) incoming: Incoming,
    answer: Answer,
    waits: Waits,
    timers: Timers,
    /// The responder was not called yet.
    is_new: bool,
    /// The responder was told that the body is complete.
    told_end: bool,
    /// Whether the client goes on after this request, as far as it said.
    pub(super) persists: bool,
    pub(super) record: Option<Record>,
}

/// Bytes that end a body in chunked coding.
const LAST_CHUNK: usize = 5;

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
        persists: bool,
        record: Option<Record>,
        timers: Timers,
    ) -> Active {
        let answer = match begun {
            Some(Begun { encoder, status }) => Answer::Begun { encoder, status },
            None => Answer::Unbegun(facts),
        };
        let waits = Waits::default();
        Active { responder, incoming, answer, waits, timers, is_new: true, told_end: false, persists, record }
    }

    /// The server is to stop: an answer that was not begun says that it is the last.
    pub(super) fn drain(&mut self) {
        if let Answer::Unbegun(facts) = &mut self.answer {
            *facts = facts.closing();
        }
    }

    /// Whether the end of the connection is the end of the answer, so that a cut would look complete.
    pub(super) fn ends_with_connection(&self) -> bool {
        let Answer::Begun { encoder, .. } = &self.answer else { return false };
        encoder.remaining().is_none() && !encoder.keep_alive()
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
        let is_own_time = self.timers.enter(matches!(event, Some(Event::Timer)), cx);
        let mut told = match event {
            _ if std::mem::take(&mut self.is_new) => Some(Event::Open),
            Some(Event::Open | Event::Input | Event::Room | Event::End) | None => None,
            Some(Event::Timer) if !is_own_time => None,
            Some(event) => Some(event),
        };
        loop {
            if let Answer::Begun { encoder, status } = &self.answer
                && encoder.is_suppressed()
            {
                return Ended::Answered { keep_alive: encoder.keep_alive(), status: *status };
            }
            if told.is_none() && self.waits.body {
                let is_unbegun = matches!(self.answer, Answer::Unbegun(_));
                if !self.incoming.invite(is_unbegun, &cx.input, &mut cx.output) {
                    self.timers.leave(false, cx);
                    return Ended::NotYet(Flow::Room);
                }
                match self.incoming.advance(&mut cx.input) {
                    Ok(_) if self.incoming.is_too_long() => {
                        return self.fail(&too_long().closing(), cx, config, shared);
                    }
                    Ok(true) => {
                        self.timers.body_came(self.incoming.ready(), config, cx);
                        has_changed = true;
                    }
                    Ok(false) if self.timers.is_body_late(config, cx) => {
                        cx.count_timeout(Timeout::Body);
                        let error = Error::new(408, "the body of the request took too long").closing();
                        return self.fail(&error, cx, config, shared);
                    }
                    Ok(false) => {}
                    Err(error) => return self.fail(&error::of_body(error), cx, config, shared),
                }
            }
            let Some(event) = told.take().or_else(|| self.next_event(has_changed, cx)) else {
                return self.rest(cx, config, shared);
            };
            let before = (cx.input.consumed(), cx.output.unsent());
            let (is_first, waited_for_room) = (matches!(event, Event::Open), self.waits.room);
            let (incoming, answer) = (&mut self.incoming, &mut self.answer);
            let next = guard(|| {
                let reads_body = self.responder.reads_body();
                let mut exchange = Exchange { cx, incoming, answer, reads_body, config, shared };
                self.responder.respond(event, &mut exchange)
            });
            let next = next.unwrap_or_else(|panic| {
                cx.report_panic(&panic);
                if matches!(self.answer, Answer::Unbegun(_)) {
                    // It may have been in the middle of writing the head.
                    cx.output.truncate(before.1);
                }
                Err(error::of_panic())
            });
            has_changed = (cx.input.consumed(), cx.output.unsent()) != before;
            self.waits = match next {
                Ok(Next::Body) => Waits { body: true, room: false },
                Ok(Next::Room) => Waits { body: false, room: true },
                Ok(Next::BodyOrRoom) => Waits { body: true, room: true },
                Ok(Next::Wait) => Waits::default(),
                Ok(Next::Done) => match self.done(cx, config, shared) {
                    Some(ended) => return ended,
                    None => Waits { body: false, room: true },
                },
                Ok(Next::Become(responder)) => {
                    let before = std::mem::replace(&mut self.responder, responder);
                    if let Err(panic) = guard(|| drop(before)) {
                        cx.report_panic(&panic);
                    }
                    self.told_end = false;
                    told = Some(Event::Open);
                    Waits::default()
                }
                Err(error) => {
                    error.report();
                    return self.fail(&error, cx, config, shared);
                }
            };
            // What was there before it waited for it is new to it all the same.
            has_changed |= is_first || (self.waits.room && !waited_for_room);
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
        (room && has_room(cx) && !cx.output.awaits_peer()).then_some(Event::Room)
    }

    /// Nothing can be done now.
    fn rest(&mut self, cx: &mut Context<'_>, config: &Config, shared: &Shared) -> Ended {
        let Waits { body, room } = self.waits;
        // While a piece is left the next is not read, or whoever does not read the answer goes on being read from.
        let reads = body && self.incoming.ready() == 0 && !self.incoming.is_complete();
        let room_comes = room && (cx.output.unsent() > 0 || !has_room(cx) || cx.output.awaits_peer());
        if (body || room) && !reads && !room_comes {
            let what = match (body, self.incoming.ready()) {
                (false, _) => "room, wrote nothing, and has all the room there is",
                (true, 0) => "the body, which is complete",
                (true, _) => "the body, and leaves the piece that is here",
            };
            tracing::error!("a responder waits for {what}");
            return self.fail(&Error::new(500, "internal server error"), cx, config, shared);
        }
        let body = reads;
        self.timers.leave(body, cx);
        Ended::NotYet(match (body, room) {
            (true, true) => Flow::MoreOrRoom(self.incoming.at_least()),
            (true, false) => Flow::More(self.incoming.at_least()),
            (false, true) => Flow::Room,
            (false, false) => Flow::Wait,
        })
    }

    /// The responder says that the answer is complete.
    /// `None` if there is no room for its end.
    fn done(&mut self, cx: &mut Context<'_>, config: &Config, shared: &Shared) -> Option<Ended> {
        let (encoder, status) = match &mut self.answer {
            Answer::Whole { keep_alive, status } => {
                return Some(Ended::Answered { keep_alive: *keep_alive, status: *status });
            }
            Answer::Unbegun(_) => {
                tracing::error!("a responder was done, and had not answered");
                return Some(self.fail(&Error::new(500, "internal server error"), cx, config, shared));
            }
            Answer::Begun { encoder, status } => (encoder, *status),
        };
        if cx.output.room() < LAST_CHUNK && !cx.output.can_send() {
            self.responder = Box::new(Closure(|_: &mut Exchange<'_, '_>| Ok(Next::Done)));
            return None;
        }
        let mut spilled = Vec::new();
        let finished = encoder.finish(&[], &mut Outlet::new(&mut cx.output, &mut spilled));
        let handed_over = hand_over(&mut cx.output, spilled, None);
        Some(match (finished, handed_over) {
            (Ok(facts), Ok(())) => Ended::Answered { keep_alive: facts.keep_alive(), status },
            (Err(error), _) => {
                tracing::error!("a responder was done too early: {error}");
                Ended::Cut(Flow::Abort)
            }
            (Ok(_), Err(_)) => Ended::Cut(Flow::Abort),
        })
    }

    /// The exchange cannot go on.
    fn fail(&mut self, error: &Error, cx: &mut Context<'_>, config: &Config, shared: &Shared) -> Ended {
        match &self.answer {
            Answer::Unbegun(facts) => {
                let leaves_too_much = self.incoming.leaves_too_much(cx.input.len(), config.discard_limit);
                let (output, control) = (&mut cx.output, &mut cx.control);
                match write_error(error, *facts, leaves_too_much, shared, output, control) {
                    How::Whole { keep_alive, status } => Ended::Answered { keep_alive, status },
                    How::Later { .. } => Ended::Cut(Flow::Abort),
                }
            }
            Answer::Whole { keep_alive: _, status } => Ended::Answered { keep_alive: false, status: *status },
            Answer::Begun { .. } if self.ends_with_connection() => Ended::Cut(Flow::Abort),
            Answer::Begun { .. } => Ended::Cut(Flow::Finish),
        }
    }
}
