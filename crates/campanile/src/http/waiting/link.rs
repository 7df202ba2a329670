//! The link: the way of a request's body from its connection to whoever reads it.
//!
//! The reader asks for a piece, or for the whole, and waits; the connection, whenever it is called, moves what is there
//! into the link and wakes the reader. So a future never borrows the connection, and dropping it at any moment loses
//! nothing: what was moved stays in the link for the next who asks.

use std::cell::RefCell;
use std::task::Waker;

use campanile_core::Bytes;

use super::lease::Lease;
use crate::http::BodyLength;
use crate::http::collect::{Gathered, Gathering};
use crate::http::error::Error;
use crate::http::exchange::Exchange;
use crate::http::response::too_long;

#[derive(Debug, Default)]
pub(super) struct Link(RefCell<State>);

#[derive(Debug, Default)]
struct State {
    /// Somebody reads, or may come to read: there is something to clear up afterwards.
    is_used: bool,
    demand: Option<Demand>,
    piece: Option<Bytes>,
    gathering: Gathering,
    failure: Option<Error>,
    trailers: Vec<(String, Vec<u8>)>,
    /// All of the body was moved here.
    is_complete: bool,
    /// The connection gives nothing more.
    is_over: bool,
    /// Somebody can still read.
    is_read: bool,
    reader: Option<Waker>,
    /// Calls those who give, while they are not just calling the reader.
    giver: Option<Waker>,
    /// How many there are who give: one hands it on to the next.
    givers: u8,
}

/// What a reader waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Demand {
    Piece,
    /// All of it, up to so many bytes.
    Whole(usize),
}

/// What the link has for a reader.
pub(super) enum Given {
    Piece(Bytes),
    /// The body is complete, and all of it was read.
    End,
    Failed(Error),
    /// Nothing yet.
    NotYet,
}

/// What came of giving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gave {
    /// Nobody waits, or there is no memory for what is here.
    Nothing,
    /// The reader has what it waits for.
    Something,
    /// What it waits for has not come.
    NotYet,
}

impl Link {
    /// A request has begun, with a body like this.
    pub(super) fn begin(&self, body: BodyLength) {
        let mut state = self.0.borrow_mut();
        (state.is_complete, state.is_read, state.is_over) = (body.is_empty(), true, false);
    }

    /// Nobody is left.
    pub(super) fn end(&self) {
        let mut state = self.0.borrow_mut();
        if state.is_used {
            let state_left = std::mem::take(&mut *state);
            drop(state);
            drop(state_left);
        }
    }

    /// The reader is gone, and with it what was here for it.
    pub(super) fn leave(&self) {
        let mut state = self.0.borrow_mut();
        state.is_read = false;
        if !state.is_used {
            return;
        }
        state.demand = None;
        let left = (state.piece.take(), std::mem::take(&mut state.gathering));
        drop(state);
        drop(left);
    }

    /// The reader waits no more; what was gathered for it is the next piece, and holds up nobody else's gathering.
    pub(super) fn withdraw(&self) {
        let mut state = self.0.borrow_mut();
        if state.demand.take().is_some()
            && let Some(gathered) = state.gathering.take()
        {
            state.piece = Some(gathered);
        }
    }

    /// Whether the rest of a body may still be read.
    pub(super) fn may_be_read(&self) -> bool {
        let state = self.0.borrow();
        state.is_read && !state.is_complete
    }

    /// The connection gives nothing more.
    pub(super) fn close(&self) {
        let mut state = self.0.borrow_mut();
        state.is_over = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// What there is, or a place in which the reader waits.
    pub(super) fn take(&self, demand: Demand, waker: &Waker) -> Given {
        let mut state = self.0.borrow_mut();
        if let Some(failure) = state.failure.take() {
            return Given::Failed(failure);
        }
        let found = match demand {
            Demand::Piece => state.piece.take(),
            Demand::Whole(_) if state.is_complete => state.piece.take(),
            Demand::Whole(_) => None,
        };
        match (found, demand) {
            (Some(whole), Demand::Whole(limit)) if whole.len() > limit => Given::Failed(too_long()),
            (Some(piece), _) => Given::Piece(piece),
            _ if state.is_complete => Given::End,
            _ if state.is_over => Given::Failed(over()),
            _ => {
                (state.is_used, state.demand) = (true, Some(demand));
                if !state.reader.as_ref().is_some_and(|reader| reader.will_wake(waker)) {
                    state.reader = Some(waker.clone());
                }
                let giver = state.giver.clone();
                drop(state);
                if let Some(giver) = giver {
                    giver.wake();
                }
                Given::NotYet
            }
        }
    }

    /// The trailers of a body that is complete.
    pub(super) fn trailers(&self) -> Vec<(String, Vec<u8>)> {
        self.0.borrow().trailers.clone()
    }

    pub(super) fn is_complete(&self) -> bool {
        let state = self.0.borrow();
        state.is_complete && state.piece.is_none()
    }
}

impl State {
    fn give(&mut self, is_timer: bool, exchange: &mut Exchange<'_, '_>) -> Gave {
        match self.demand {
            None => return Gave::Nothing,
            Some(Demand::Piece) if !exchange.body().is_empty() => {
                self.piece = Some(exchange.keep(exchange.body().len()));
            }
            Some(Demand::Piece) if !exchange.is_complete() => return Gave::NotYet,
            Some(Demand::Piece) => {}
            Some(Demand::Whole(limit)) => match self.gather(limit, is_timer, exchange) {
                Ok(Gathered::NotYet) => return Gave::NotYet,
                Ok(Gathered::Paused) => return Gave::Nothing,
                Ok(Gathered::Whole(whole)) => self.piece = Some(whole),
                Err(error) => {
                    self.failure = Some(error);
                    self.gathering = Gathering::default();
                }
            },
        }
        self.demand = None;
        if exchange.is_complete() {
            self.is_complete = true;
            self.trailers = exchange.trailers().to_vec();
        }
        Gave::Something
    }

    fn gather(
        &mut self,
        limit: usize,
        is_timer: bool,
        exchange: &mut Exchange<'_, '_>,
    ) -> Result<Gathered, Error> {
        let State { gathering, piece, .. } = self;
        let announced = exchange.incoming.remaining().unwrap_or(0);
        if announced > limit as u64 || exchange.incoming.is_longer_than(limit as u64) {
            return Err(too_long().closing());
        }
        gathering.go_on(limit, piece, is_timer, exchange)
    }
}

/// The connection's end of the link.
#[derive(Debug)]
pub(in crate::http) struct Feed(Lease);

impl Feed {
    pub(super) fn new(lease: Lease) -> Feed {
        let mut state = lease.link.0.borrow_mut();
        (state.is_used, state.givers) = (true, state.givers + 1);
        drop(state);
        Feed(lease)
    }

    /// Gives the reader what it waits for, if it is here. `own` is woken by nobody here: it is about to be called.
    pub(super) fn give(&self, is_timer: bool, own: &Waker, exchange: &mut Exchange<'_, '_>) -> Gave {
        let mut state = self.0.link.0.borrow_mut();
        let gave = state.give(is_timer, exchange);
        let reader = if gave == Gave::Something { state.reader.take() } else { None };
        drop(state);
        if let Some(reader) = reader.filter(|reader| !reader.will_wake(own)) {
            reader.wake();
        }
        gave
    }

    /// From now on `giver` is called when the reader asks for something; nobody is, while the giver calls the reader.
    pub(super) fn set_giver(&self, giver: Option<&Waker>) {
        self.0.link.0.borrow_mut().giver = giver.cloned();
    }

    pub(super) fn may_be_read(&self) -> bool {
        self.0.link.may_be_read()
    }
}

impl Clone for Feed {
    fn clone(&self) -> Feed {
        Feed::new(self.0.clone())
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut state = self.0.link.0.borrow_mut();
        state.givers -= 1;
        let is_last = state.givers == 0;
        drop(state);
        if is_last {
            self.0.link.close();
        }
    }
}

fn over() -> Error {
    Error::new(500, "the request is over, and the rest of its body is gone")
}
