//! Collect: a responder that reads the whole body before it is answered.

use campanile_core::{Bytes, Event, Time};

use super::budget::Account;
use super::error::Error;
use super::exchange::{Exchange, Next, Responder};
use super::response::{Answered, Response, too_long};

/// Reads a body of at most `limit` bytes into memory that is charged to the worker's budget.
pub(super) struct Collect<F> {
    limit: usize,
    account: Option<Account>,
    /// When it gives up waiting for memory.
    patience: Option<Time>,
    answer: Option<F>,
}

impl<F> Collect<F>
where
    F: FnOnce(Bytes, Response<'_, '_>) -> Result<Answered, Error> + 'static,
{
    pub(super) fn new(limit: usize, answer: F) -> Collect<F> {
        Collect { limit, account: None, patience: None, answer: Some(answer) }
    }

    /// Whether there was memory for the piece that is here.
    fn append(&mut self, exchange: &mut Exchange<'_, '_>) -> bool {
        let Exchange { cx, incoming, config, shared, .. } = exchange;
        let account = self.account.get_or_insert_with(|| shared.budget.open());
        let known = incoming.remaining().map(|remaining| account.len().saturating_add(remaining as usize));
        let longest = known.unwrap_or(self.limit).min(self.limit);
        let ready = incoming.ready();
        let is_taken = account.append(&cx.input[..ready], longest, config.body_memory, || cx.control.waker());
        if is_taken {
            exchange.consume_all();
        }
        is_taken
    }

    fn answer(&mut self, body: Bytes, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        match self.answer.take() {
            Some(answer) => exchange.answer(|response| answer(body, response)),
            None => Ok(Next::Done),
        }
    }
}

impl<F> Responder for Collect<F>
where
    F: FnOnce(Bytes, Response<'_, '_>) -> Result<Answered, Error> + 'static,
{
    fn respond(&mut self, event: Event, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        let now = exchange.control().now();
        if matches!(event, Event::Timer) && exchange.control().timer().is_none() {
            return Err(Error::new(503, "too many bodies at once, try again").retry_after(1).closing());
        }
        exchange.incoming.limit(self.limit as u64);
        let ready = exchange.body().len();
        let held = self.account.as_ref().map_or(0, Account::len);
        if held + ready > self.limit {
            return Err(too_long().closing());
        }
        if ready > 0 && held == 0 && exchange.is_last_piece() {
            // All of it came at once. It is answered before anything else is read, and needs no memory.
            let body = exchange.keep(ready);
            return self.answer(body, exchange);
        }
        if ready > 0 && !self.append(exchange) {
            let patience = *self.patience.get_or_insert(now + exchange.config.body_wait);
            exchange.control().set_timer(patience);
            return Ok(Next::Wait);
        }
        self.patience = None;
        exchange.control().clear_timer();
        if !exchange.is_complete() {
            return Ok(Next::Body);
        }
        let body = self.account.take().map_or_else(Bytes::new, Account::into_bytes);
        self.answer(body, exchange)
    }
}
