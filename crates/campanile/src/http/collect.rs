//! Collect: a whole body, read into memory of the worker's budget before it is answered.

use campanile_core::{Bytes, Event, Time};

use super::budget::Account;
use super::error::Error;
use super::exchange::{Exchange, Next, Responder};
use super::response::{Answered, Response, too_long};

/// Memory for one body, which is charged to the worker's budget, and the time for which it waits for that.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    account: Option<Account>,
    /// When it gives up waiting for memory.
    patience: Option<Time>,
}

/// How far a body is gathered.
pub(super) enum Gathered {
    Whole(Bytes),
    /// The rest has not come yet.
    NotYet,
    /// There is no memory for the piece that is here.
    Paused,
}

impl Gathering {
    /// Takes what was `kept` of the body before, if anything, and the piece that is here. The exchange's timer is used
    /// meanwhile; `has_come` says that its time has come.
    ///
    /// # Errors
    /// 413 when the body is longer than `limit`, and 503 when there was no memory for it for too long.
    pub(super) fn go_on(
        &mut self,
        limit: usize,
        kept: &mut Option<Bytes>,
        has_come: bool,
        exchange: &mut Exchange<'_, '_>,
    ) -> Result<Gathered, Error> {
        let now = exchange.control().now();
        if has_come && exchange.control().timer().is_none() {
            return Err(Error::new(503, "too many bodies at once, try again").retry_after(1).closing());
        }
        let (ready, held) = (exchange.body().len(), self.len() + kept.as_ref().map_or(0, Bytes::len));
        if held + ready > limit {
            return Err(too_long().closing());
        }
        if ready > 0 && held == 0 && exchange.is_last_piece() {
            // All of it came at once. It is answered before anything else is read, and needs no memory.
            return Ok(Gathered::Whole(exchange.keep(ready)));
        }
        if !self.append(limit, kept, exchange) {
            let patience = *self.patience.get_or_insert(now + exchange.config.body_wait);
            exchange.control().set_timer(patience);
            return Ok(Gathered::Paused);
        }
        self.patience = None;
        exchange.control().clear_timer();
        if !exchange.is_complete() {
            return Ok(Gathered::NotYet);
        }
        Ok(Gathered::Whole(self.take().unwrap_or_default()))
    }

    /// What was gathered so far, if that is anything. It waits for no more.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.patience = None;
        self.account.take().map(Account::into_bytes).filter(|bytes| !bytes.is_empty())
    }

    fn len(&self) -> usize {
        self.account.as_ref().map_or(0, Account::len)
    }

    /// Whether there was memory for what is here.
    fn append(&mut self, limit: usize, kept: &mut Option<Bytes>, exchange: &mut Exchange<'_, '_>) -> bool {
        let Exchange { cx, incoming, config, shared, .. } = exchange;
        let (ready, before) = (incoming.ready(), kept.as_ref().map_or(0, Bytes::len));
        if ready + before == 0 {
            return true;
        }
        let account = self.account.get_or_insert_with(|| shared.budget.open());
        let known = incoming.remaining().map(|remaining| remaining as usize);
        let known = known.map(|remaining| remaining.saturating_add(account.len() + before));
        let longest = known.unwrap_or(limit).min(limit);
        let mut append =
            |piece: &[u8]| account.append(piece, longest, config.body_memory, || cx.control.waker());
        if let Some(piece) = kept {
            if !append(piece) {
                return false;
            }
            *kept = None;
        }
        let is_taken = append(&cx.input[..ready]);
        if is_taken {
            exchange.consume_all();
        }
        is_taken
    }
}

/// A responder that gathers a body of at most `limit` bytes, and has it answered.
pub(super) struct Collect<F> {
    limit: usize,
    gathering: Gathering,
    answer: Option<F>,
}

impl<F> Collect<F>
where
    F: FnOnce(Bytes, Response<'_, '_>) -> Result<Answered, Error> + 'static,
{
    pub(super) fn new(limit: usize, answer: F) -> Collect<F> {
        Collect { limit, gathering: Gathering::default(), answer: Some(answer) }
    }
}

impl<F> Responder for Collect<F>
where
    F: FnOnce(Bytes, Response<'_, '_>) -> Result<Answered, Error> + 'static,
{
    fn respond(&mut self, event: Event, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        exchange.incoming.limit(self.limit as u64);
        match self.gathering.go_on(self.limit, &mut None, matches!(event, Event::Timer), exchange)? {
            Gathered::NotYet => Ok(Next::Body),
            Gathered::Paused => Ok(Next::Wait),
            Gathered::Whole(body) => match self.answer.take() {
                Some(answer) => exchange.answer(|response| answer(body, response)),
                None => Ok(Next::Done),
            },
        }
    }
}
