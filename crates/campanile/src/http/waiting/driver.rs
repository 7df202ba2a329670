//! The driver: a responder that polls something, and moves the body of the request to it.

use std::task::{Context, Poll, Waker};

use campanile_core::Event;

use super::boxes::Boxed;
use super::link::{Feed, Gave};
use crate::http::error::Error;
use crate::http::exchange::{Exchange, Next, Responder};
use crate::http::into_response::IntoResponse;

/// What is polled: a handler, or the body of its answer.
pub(super) trait Part {
    /// Goes on as far as it can.
    ///
    /// # Errors
    /// As those of a responder.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<'_, '_>,
        feed: Option<&Feed>,
    ) -> Result<Polled, Error>;
}

/// What polling came to.
pub(super) enum Polled {
    /// The answer is complete, or somebody else goes on.
    Over(Next),
    /// It waits for room.
    Room,
    /// It waits for what wakes it.
    Pending,
}

pub(super) struct Driver<P> {
    part: P,
    feed: Option<Feed>,
    /// Made when it is first called, which those that never wait are not.
    waker: Option<Waker>,
}

impl<P: Part> Driver<P> {
    pub(super) fn new(part: P, feed: Option<Feed>) -> Driver<P> {
        Driver { part, feed, waker: None }
    }
}

impl<P: Part> Responder for Driver<P> {
    fn respond(&mut self, event: Event, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        let Driver { part, feed, waker } = self;
        let waker = &*waker.get_or_insert_with(|| exchange.control().waker().into());
        let mut cx = Context::from_waker(waker);
        let is_timer = matches!(event, Event::Timer);
        if let Some(feed) = feed {
            feed.give(is_timer, waker, exchange);
            feed.set_giver(None);
        }
        loop {
            let waits_for_room = match part.poll(&mut cx, exchange, feed.as_ref())? {
                Polled::Over(next) => return Ok(next),
                Polled::Room => true,
                Polled::Pending => false,
            };
            // What was asked for just now may be here already.
            let gave = feed.as_ref().map_or(Gave::Nothing, |feed| feed.give(false, waker, exchange));
            let waits_for_body = match gave {
                Gave::Something => continue,
                Gave::NotYet => true,
                Gave::Nothing => false,
            };
            if let Some(feed) = feed {
                feed.set_giver(Some(waker));
            }
            return Ok(match (waits_for_body, waits_for_room) {
                (true, true) => Next::BodyOrRoom,
                (true, false) => Next::Body,
                (false, true) => Next::Room,
                (false, false) => Next::Wait,
            });
        }
    }

    fn reads_body(&self) -> bool {
        self.feed.as_ref().is_some_and(Feed::may_be_read)
    }
}

/// A handler, and then what it answered.
pub(super) enum Handling<F: Future> {
    Running(Boxed<F>),
    Answering(Option<F::Output>),
}

impl<F: Future<Output: IntoResponse>> Part for Handling<F> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange<'_, '_>,
        feed: Option<&Feed>,
    ) -> Result<Polled, Error> {
        if let Handling::Running(future) = self {
            let Poll::Ready(answer) = future.poll(cx) else { return Ok(Polled::Pending) };
            *self = Handling::Answering(Some(answer));
        }
        let Handling::Answering(answer) = self else { return Ok(Polled::Pending) };
        // An answer that is made of the body comes after the invitation to send that.
        exchange.reads_body = feed.is_some_and(Feed::may_be_read);
        if exchange.reads_body && !exchange.invite() {
            return Ok(Polled::Room);
        }
        let Some(answer) = answer.take() else { return Ok(Polled::Pending) };
        exchange.answer_fed(feed, |response| answer.into_response(response)).map(Polled::Over)
    }
}
