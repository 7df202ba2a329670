//! The service: one HTTP connection, request after request.
//!
//! ```text
//!            ┌────────────── head complete ─────────────┐
//!            │                                          ▼
//!   Idle ────┤◄── answered, body read ── Skipping ◄── handler ──► Exchanging
//!            │                               ▲                        │
//!            └───────────────────────────────┴──────── done ──────────┘
//! ```

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use campanile_core::{Context, Event, Flow, Service, Time, Timeout};
use campanile_protocol::http1::{BodyError, Exchange as Facts, RequestDecoder, RequestHead};
use campanile_protocol::{Codec, Decoded};

use super::Handler;
use super::active::{Active, Ended};
use super::body::{Discarded, Incoming, Rest};
use super::config::{Config, standard};
use super::error::{self, Error};
use super::first::{First, write_error};
use super::log::{self, Record};
use super::request::Request;
use super::response::{Answered, How, Response};
use super::shared::Shared;
use super::timers::Timers;

/// A service that answers each request by `handle`.
///
/// ```
/// use campanile::http;
///
/// let hello = || http::service(|request, response| match request.path() {
///     "/" => response.text(200, "Hello, World!"),
///     _ => response.text(404, "not here"),
/// });
/// # fn is_a_service(_: impl campanile::Service) {}
/// # is_a_service(hello());
/// ```
pub fn service<F>(handle: F) -> Http<F>
where
    F: Fn(&Request<'_>, Response<'_, '_>) -> Result<Answered, Error>,
{
    Http::new(handle)
}

/// A handler of requests as a service: see [`service`].
pub struct Http<H> {
    handler: H,
    config: Arc<Config>,
    decoder: RequestDecoder,
    shared: Option<Rc<Shared>>,
    stage: Stage,
    /// When the connection became idle, or the head began.
    since: Time,
    /// Requests so far.
    requests: u32,
    /// A part of a head is there.
    is_in_head: bool,
    /// The server is to stop: the next answer is the last, and says so.
    is_draining: bool,
}

/// What the connection is doing.
enum Stage {
    /// It waits for a head.
    Idle,
    /// A request is being answered piece by piece.
    Exchanging(Box<Active>),
    /// A request was answered, and its body is not read to its end.
    Skipping(Box<Rest>),
}

impl<H: Handler> Http<H> {
    /// A handler as a service.
    pub fn new(handler: H) -> Http<H> {
        let config = standard();
        Http {
            handler,
            decoder: RequestDecoder::new(config.limits),
            config,
            shared: None,
            stage: Stage::Idle,
            since: Time::ZERO,
            requests: 0,
            is_in_head: false,
            is_draining: false,
        }
    }

    /// With other bounds.
    #[must_use]
    pub fn config(mut self, config: impl Into<Arc<Config>>) -> Http<H> {
        self.config = config.into();
        self.decoder = RequestDecoder::new(self.config.limits);
        self
    }

    /// Goes on for as long as it can.
    fn serve(&mut self, mut event: Option<Event>, cx: &mut Context<'_>) -> Flow {
        let before = self.requests;
        loop {
            let flow = match &mut self.stage {
                Stage::Idle if self.requests.wrapping_sub(before) >= self.config.pipeline_turn.get() => {
                    // Others have their turn, and then this one again.
                    let this = cx.handle();
                    cx.wake(this);
                    Some(Flow::Wait)
                }
                Stage::Idle => self.read_head(cx),
                Stage::Exchanging(_) => self.go_on(event.take(), cx),
                Stage::Skipping(_) => self.skip(cx),
            };
            if let Some(flow) = flow {
                return flow;
            }
        }
    }

    /// Looks for a head, and has it answered. `None` when the stage changed, or another head may follow.
    fn read_head(&mut self, cx: &mut Context<'_>) -> Option<Flow> {
        if cx.input.is_empty() {
            return Some(if cx.input.is_ended() { Flow::Finish } else { self.wait_for(1, cx) });
        }
        // Whoever answers can write and hand over as much as a small answer takes, and one large piece.
        if cx.output.room() < cx.promised_room() || !cx.output.can_send() {
            return Some(Flow::Room);
        }
        // Looked at where it is: a head is too large to be moved for nothing.
        match &self.decoder.decode(&cx.input) {
            Ok(Decoded::More { .. }) if cx.input.is_ended() => Some(Flow::Finish),
            Ok(Decoded::More { at_least }) => {
                if !std::mem::replace(&mut self.is_in_head, true) {
                    self.since = cx.now();
                }
                Some(self.wait_for(*at_least, cx))
            }
            Ok(Decoded::Frame { frame: head, consumed }) => {
                self.is_in_head = false;
                self.since = cx.control.now();
                cx.control.count_request();
                let Some(shared) = self.shared.as_deref() else { return Some(Flow::Abort) };
                let (config, handler) = (&*self.config, &self.handler);
                let rest = cx.input.len() - consumed;
                let incoming = |head: &RequestHead<'_>| {
                    Incoming::new(head.body(), &config.limits, head.expects_continue() && rest == 0)
                };
                let persists = head.keep_alive();
                let timer = cx.timer();
                self.requests = self.requests.wrapping_add(1);
                let is_last = config.requests_per_connection.is_some_and(|most| self.requests >= most.get());
                let is_last = is_last || self.is_draining;
                let facts = if is_last { head.exchange().closing() } else { head.exchange() };
                let record = config.access_log.then(|| Record::new(head, &mut cx.control));
                let first = First { head, rest, facts, config, shared };
                let unsent = cx.output.unsent();
                let answered = first.answer(handler, &mut cx.output, &mut cx.control);
                let incoming = (!head.body().is_empty() || !matches!(answered, How::Whole { .. }))
                    .then(|| incoming(head));
                cx.input.consume(*consumed);
                match (answered, incoming) {
                    (How::Whole { keep_alive, status }, None) => {
                        log::answered(status, record, cx);
                        (!keep_alive).then(|| close(persists))
                    }
                    (How::Whole { keep_alive, status }, Some(incoming)) => {
                        let after = self.after(incoming, keep_alive, persists, cx);
                        let (status, flow) = after.map_or_else(
                            |error| {
                                // What came with the head is no request: whatever was answered is not.
                                let error = error::of_body(error);
                                cx.output.truncate(unsent);
                                self.refuse(&error, facts, cx);
                                (error.status(), Some(Flow::Finish))
                            },
                            |flow| (status, flow),
                        );
                        log::answered(status, record, cx);
                        flow
                    }
                    (How::Later { begun, responder }, incoming) => {
                        // From now on the timer is the responder's, and tells it nothing that it did not ask for.
                        if cx.timer() == timer {
                            cx.clear_timer();
                        }
                        let timers = Timers::new(cx.timer(), config);
                        let active =
                            Active::new(responder, begun, facts, incoming?, persists, record, timers);
                        self.stage = Stage::Exchanging(Box::new(active));
                        None
                    }
                }
            }
            Err(error) => {
                let facts = Facts::refused_to(&cx.input);
                self.refuse_head(&error::of_head(*error), facts, cx);
                Some(Flow::Finish)
            }
        }
    }

    /// Answers to what is no request.
    fn refuse_head(&self, error: &Error, facts: Facts, cx: &mut Context<'_>) {
        let record = self.config.access_log.then(|| Record::unread(&mut cx.control));
        cx.count_request();
        log::answered(error.status(), record, cx);
        self.refuse(error, facts, cx);
    }

    /// Answers with an error that is the framework's own.
    fn refuse(&self, error: &Error, facts: Facts, cx: &mut Context<'_>) {
        if let Some(shared) = self.shared.as_deref() {
            write_error(error, facts, false, shared, &mut cx.output, &mut cx.control);
        }
    }

    /// Goes on with a request that is being answered.
    fn go_on(&mut self, event: Option<Event>, cx: &mut Context<'_>) -> Option<Flow> {
        let (Stage::Exchanging(active), Some(shared)) = (&mut self.stage, self.shared.as_deref()) else {
            return Some(Flow::Abort);
        };
        let ended = active.run(event, cx, &self.config, shared);
        let (keep_alive, status) = match ended {
            Ended::NotYet(flow) => return Some(flow),
            Ended::Cut(flow) => {
                self.cut(cx);
                return Some(flow);
            }
            // One that was begun before the server was to stop did not say that it is the last, so it is not.
            Ended::Answered { keep_alive, status } => (keep_alive, status),
        };
        let Stage::Exchanging(active) = std::mem::replace(&mut self.stage, Stage::Idle) else { return None };
        let Active { incoming, persists, record, .. } = *active;
        log::answered(status, record, cx);
        cx.clear_timer();
        self.since = cx.now();
        self.after(incoming, keep_alive, persists, cx).unwrap_or(Some(Flow::Finish))
    }

    /// The answer in progress will not be completed.
    fn cut(&mut self, cx: &mut Context<'_>) {
        if let Stage::Exchanging(active) = std::mem::replace(&mut self.stage, Stage::Idle) {
            log::cut(active.record, cx);
        }
    }

    /// A request was answered; what becomes of the rest of its body.
    ///
    /// # Errors
    /// When what is here of it is no body.
    fn after(
        &mut self,
        incoming: Incoming,
        keep_alive: bool,
        persists: bool,
        cx: &mut Context<'_>,
    ) -> Result<Option<Flow>, BodyError> {
        if incoming.is_complete() || incoming.remaining() == Some(0) {
            return Ok((!keep_alive).then(|| close(persists)));
        }
        let (here, limit) = (cx.input.len(), self.config.discard_limit);
        if !keep_alive || incoming.leaves_too_much(here, limit) {
            return Ok(Some(Flow::Finish));
        }
        let mut rest = Rest::new(incoming, limit.saturating_add(here as u64));
        let discarded = rest.discard(&mut cx.input);
        if matches!(discarded, Discarded::NotYet(_)) {
            self.stage = Stage::Skipping(Box::new(rest));
        }
        self.go_on_after(discarded, cx)
    }

    /// Reads on to the end of a body that nobody wants.
    fn skip(&mut self, cx: &mut Context<'_>) -> Option<Flow> {
        let Stage::Skipping(rest) = &mut self.stage else { return Some(Flow::Abort) };
        let discarded = rest.discard(&mut cx.input);
        if !matches!(discarded, Discarded::NotYet(_)) {
            self.stage = Stage::Idle;
            self.since = cx.now();
        }
        self.go_on_after(discarded, cx).unwrap_or(Some(Flow::Finish))
    }

    fn go_on_after(&mut self, discarded: Discarded, cx: &mut Context<'_>) -> Result<Option<Flow>, BodyError> {
        match discarded {
            Discarded::Whole => Ok(None),
            Discarded::TooMuch => Ok(Some(Flow::Finish)),
            Discarded::Invalid(error) => Err(error),
            Discarded::NotYet(at_least) => Ok(Some(self.wait_for(at_least, cx))),
        }
    }

    /// Waits for a head, for more of it, or for the rest of a body, but not for ever.
    fn wait_for(&mut self, at_least: usize, cx: &mut Context<'_>) -> Flow {
        // The timer is left where it is if it comes before: most requests come before it, and cost it nothing.
        let deadline = self.deadline(cx);
        if cx.timer().is_none_or(|at| at > deadline) {
            cx.set_timer(deadline);
        }
        Flow::More(at_least)
    }

    fn deadline(&self, cx: &Context<'_>) -> Time {
        let waits_for_next = matches!(self.stage, Stage::Idle) && cx.input.is_empty();
        self.since
            + match (self.is_in_head, self.is_draining && waits_for_next) {
                (_, true) => self.config.drain_grace,
                (true, false) => self.config.header_timeout,
                (false, false) => self.config.idle_timeout,
            }
    }

    /// The timer of a connection on which no request is being answered.
    fn handle_timer(&mut self, cx: &mut Context<'_>) -> Flow {
        // Whose answers are still on their way, or whose requests wait for room for them, is not idle.
        let is_read = !self.is_in_head && matches!(self.stage, Stage::Idle);
        if is_read && (cx.output.unsent() > 0 || !cx.input.is_empty()) {
            self.since = cx.now();
        }
        if cx.now() < self.deadline(cx) {
            return self.serve(None, cx);
        }
        match (&self.stage, self.is_in_head) {
            // Nobody was late: the server, or this connection, is to end.
            (Stage::Idle, _) if self.is_draining && cx.input.is_empty() => {}
            (Stage::Idle, true) => cx.count_timeout(Timeout::Head),
            (Stage::Idle, false) => cx.count_timeout(Timeout::Idle),
            (Stage::Skipping(_) | Stage::Exchanging(_), _) => cx.count_timeout(Timeout::Body),
        }
        if self.is_in_head && !cx.input.is_empty() {
            let error = Error::new(408, "the head of the request took too long").closing();
            self.refuse_head(&error, Facts::refused_to(&cx.input), cx);
        }
        Flow::Finish
    }
}

/// How a connection ends after an answer. A client that did not say it was the last may be sending the next request,
/// and closing at once could cost it the answer (RFC 9112, section 9.6).
fn close(persists: bool) -> Flow {
    if persists { Flow::Finish } else { Flow::Close }
}

impl<H: Handler> Service for Http<H> {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        match event {
            Event::Open => {
                self.shared = Some(cx.shared());
                (self.since, self.is_in_head) = (cx.now(), true);
                self.serve(None, cx)
            }
            Event::Closed(_) => {
                let Stage::Exchanging(active) = &self.stage else { return Flow::Wait };
                let looks_whole = active.ends_with_connection();
                self.cut(cx);
                if looks_whole { Flow::Abort } else { Flow::Wait }
            }
            Event::Timer if !matches!(self.stage, Stage::Exchanging(_)) => self.handle_timer(cx),
            event => {
                if matches!(event, Event::Drain) {
                    self.is_draining = true;
                    match &mut self.stage {
                        Stage::Exchanging(active) => active.drain(),
                        // The grace begins now.
                        Stage::Idle if cx.input.is_empty() => self.since = cx.now(),
                        Stage::Idle | Stage::Skipping(_) => {}
                    }
                }
                self.serve(Some(event), cx)
            }
        }
    }
}

impl<H> fmt::Debug for Http<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("decoder", &self.decoder).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        type Handler = fn(&Request<'_>, Response<'_, '_>) -> Result<Answered, Error>;
        let size = size_of::<Http<Handler>>();
        assert!(size <= 200, "{size} bytes");
    }
}
