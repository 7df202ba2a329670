//! The counter, over which datagrams go between a socket's worker and its futures: those that came and were not taken,
//! and those that are to be sent.
//!
//! Both sides are of one thread. Whoever changes something that the other has to know of says so: futures put the
//! socket's slot onto the worker's list ([`Local::touch`]), and the worker wakes one future for each thing that it
//! brings. A future that was woken and leaves without having taken it wakes the next, so that no news is lost with it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker as StdWaker};

use bytes::Bytes;

use crate::local::{Local, replace_waker};

/// How much may lie on a counter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) unread: usize,
    pub(crate) unread_bytes: usize,
    pub(crate) unsent: usize,
}

/// What a socket's worker and its futures share.
pub(crate) struct Counter {
    /// The socket's, in its worker's table.
    slot: u32,
    local: Rc<Local>,
    local_addr: SocketAddr,
    limits: Limits,
    state: RefCell<State>,
    next_waiter: Cell<u64>,
}

#[derive(Default)]
struct State {
    inbox: VecDeque<io::Result<(Bytes, SocketAddr)>>,
    inbox_bytes: usize,
    /// As much is unread as may be: nothing is received until half of it was taken.
    is_full: bool,
    /// An error lies in the inbox. Nothing is received before it was told, since the next one may be the same.
    has_error: bool,
    outbox: VecDeque<Letter>,
    /// What becomes of each datagram that was put into the outbox, until somebody has been told.
    sends: Vec<Send>,
    free: Vec<u32>,
    readers: Vec<Waiter>,
    writers: Vec<Waiter>,
    /// Nobody has the socket any more.
    is_left: bool,
    /// The worker has closed it.
    is_over: bool,
}

/// A datagram on its way out.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) bytes: Bytes,
    pub(crate) to: Option<SocketAddr>,
    /// By which its sender is told what came of it.
    pub(crate) receipt: u32,
}

#[derive(Debug)]
enum Send {
    Free,
    /// With who is to be woken when it is done.
    UnderWay(Option<StdWaker>),
    /// The same, and nobody wants to know.
    Abandoned,
    Done(io::Result<()>),
}

struct Waiter {
    number: u64,
    waker: Option<StdWaker>,
}

/// A future's place among those that wait for the same.
pub(crate) struct Place<'a> {
    counter: &'a Counter,
    number: u64,
    of: fn(&mut State) -> &mut Vec<Waiter>,
    /// Whether there is something for the next of them.
    has_more: fn(&State, &Limits) -> bool,
}

/// Of one datagram that is under way.
pub(crate) struct Receipt<'a> {
    counter: &'a Counter,
    number: u32,
}

/// What a socket wants of its worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wants {
    pub(crate) receive: bool,
    /// To be closed, once all is sent.
    pub(crate) close: bool,
}

/// The futures' side.
impl Counter {
    pub(crate) fn new(slot: u32, local: Rc<Local>, local_addr: SocketAddr, limits: Limits) -> Counter {
        Counter { slot, local, local_addr, limits, state: RefCell::default(), next_waiter: Cell::new(0) }
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    pub(super) fn readers(&self) -> Place<'_> {
        self.place(|state| &mut state.readers, |state, _| !state.inbox.is_empty())
    }

    pub(super) fn writers(&self) -> Place<'_> {
        self.place(|state| &mut state.writers, |state, limits| state.under_way() < limits.unsent)
    }

    fn place(
        &self,
        of: fn(&mut State) -> &mut Vec<Waiter>,
        has_more: fn(&State, &Limits) -> bool,
    ) -> Place<'_> {
        self.next_waiter.set(self.next_waiter.get() + 1);
        Place { counter: self, number: self.next_waiter.get(), of, has_more }
    }

    /// Takes what came first.
    pub(super) fn poll_take(
        &self,
        place: &Place<'_>,
        cx: &Context<'_>,
    ) -> Poll<io::Result<(Bytes, SocketAddr)>> {
        let mut state = self.state.borrow_mut();
        let Some(next) = state.inbox.pop_front() else {
            if state.is_over {
                return Poll::Ready(Err(is_over()));
            }
            drop(state);
            place.wait(cx);
            return Poll::Pending;
        };
        match &next {
            Ok((bytes, _)) => state.inbox_bytes -= bytes.len(),
            Err(_) => state.has_error = false,
        }
        let Limits { unread, unread_bytes, .. } = self.limits;
        let has_room = state.inbox.len() <= unread / 2 && state.inbox_bytes <= unread_bytes / 2;
        let goes_on = state.is_full && has_room || next.is_err();
        state.is_full &= !has_room;
        drop(state);
        if goes_on {
            self.local.touch(self.slot);
        }
        Poll::Ready(next)
    }

    /// Puts a letter into the outbox, when there is a place for it.
    pub(super) fn poll_put(
        &self,
        place: &Place<'_>,
        letter: &mut Option<(Bytes, Option<SocketAddr>)>,
        cx: &Context<'_>,
    ) -> Poll<io::Result<Receipt<'_>>> {
        let mut state = self.state.borrow_mut();
        if state.is_over {
            return Poll::Ready(Err(is_over()));
        }
        if state.under_way() >= self.limits.unsent {
            drop(state);
            place.wait(cx);
            return Poll::Pending;
        }
        let Some((bytes, to)) = letter.take() else { return Poll::Pending };
        let receipt = state.free.pop().unwrap_or_else(|| {
            state.sends.push(Send::Free);
            state.sends.len() as u32 - 1
        });
        state.sends[receipt as usize] = Send::UnderWay(None);
        state.outbox.push_back(Letter { bytes, to, receipt });
        drop(state);
        self.local.touch(self.slot);
        Poll::Ready(Ok(Receipt { counter: self, number: receipt }))
    }

    pub(super) fn poll_sent(&self, receipt: &Receipt<'_>, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.borrow_mut();
        match &mut state.sends[receipt.number as usize] {
            Send::Done(result) => Poll::Ready(std::mem::replace(result, Ok(()))),
            Send::UnderWay(waker) => {
                let before = replace_waker(waker, cx.waker());
                drop(state);
                drop(before);
                Poll::Pending
            }
            // Not while there is a receipt.
            Send::Free | Send::Abandoned => Poll::Pending,
        }
    }

    /// Nobody has the socket any more.
    pub(super) fn leave(&self) {
        let mut state = self.state.borrow_mut();
        state.is_left = true;
        let unread = std::mem::take(&mut state.inbox);
        drop(state);
        drop(unread);
        self.local.touch(self.slot);
    }
}

/// The worker's side.
impl Counter {
    pub(crate) fn wants(&self) -> Wants {
        let state = self.state.borrow();
        let close = state.is_left || state.is_over;
        Wants { receive: !close && !state.is_full && !state.has_error, close }
    }

    /// A datagram has come, or an error.
    pub(crate) fn deliver(&self, came: io::Result<(Bytes, SocketAddr)>) {
        let mut state = self.state.borrow_mut();
        if state.is_left {
            return;
        }
        match &came {
            Ok((bytes, _)) => state.inbox_bytes += bytes.len(),
            Err(_) => state.has_error = true,
        }
        state.inbox.push_back(came);
        let Limits { unread, unread_bytes, .. } = self.limits;
        state.is_full |= state.inbox.len() >= unread || state.inbox_bytes >= unread_bytes;
        wake_first(state, |state| &mut state.readers);
    }

    pub(crate) fn next_letter(&self) -> Option<Letter> {
        self.state.borrow_mut().outbox.pop_front()
    }

    /// A datagram was sent, or not.
    pub(crate) fn sent(&self, receipt: u32, result: io::Result<()>) {
        let mut state = self.state.borrow_mut();
        match std::mem::replace(&mut state.sends[receipt as usize], Send::Done(result)) {
            Send::UnderWay(waker) => {
                drop(state);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            _ => self.free(state, receipt),
        }
    }

    /// A place for a datagram is free.
    fn free(&self, mut state: std::cell::RefMut<'_, State>, receipt: u32) {
        state.sends[receipt as usize] = Send::Free;
        state.free.push(receipt);
        wake_first(state, |state| &mut state.writers);
    }

    /// The worker closes the socket: everybody is told so who waits, or asks.
    pub(crate) fn end(&self) {
        let mut state = self.state.borrow_mut();
        state.is_over = true;
        let wakers: Vec<StdWaker> = {
            let State { readers, writers, .. } = &mut *state;
            readers.iter_mut().chain(writers).filter_map(|waiter| waiter.waker.take()).collect()
        };
        drop(state);
        wakers.into_iter().for_each(StdWaker::wake);
    }
}

impl State {
    fn under_way(&self) -> usize {
        self.sends.len() - self.free.len()
    }
}

/// Wakes the first who waits and has not been woken.
fn wake_first(mut state: std::cell::RefMut<'_, State>, of: fn(&mut State) -> &mut Vec<Waiter>) {
    let waker = of(&mut state).iter_mut().find_map(|waiter| waiter.waker.take());
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Place<'_> {
    /// Has this future woken when there is something for it.
    fn wait(&self, cx: &Context<'_>) {
        let mut state = self.counter.state.borrow_mut();
        let waiters = (self.of)(&mut state);
        let before = match waiters.iter_mut().find(|waiter| waiter.number == self.number) {
            Some(waiter) => replace_waker(&mut waiter.waker, cx.waker()),
            None => {
                waiters.push(Waiter { number: self.number, waker: Some(cx.waker().clone()) });
                None
            }
        };
        drop(state);
        drop(before);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.counter.state.borrow_mut();
        let waiters = (self.of)(&mut state);
        let at = waiters.iter().position(|waiter| waiter.number == self.number);
        let left = at.map(|at| waiters.remove(at));
        if (self.has_more)(&state, &self.counter.limits) {
            wake_first(state, self.of);
        } else {
            drop(state);
        }
        drop(left);
    }
}

impl Drop for Receipt<'_> {
    fn drop(&mut self) {
        let mut state = self.counter.state.borrow_mut();
        let send = &mut state.sends[self.number as usize];
        if let Send::Done(_) = send {
            return self.counter.free(state, self.number);
        }
        let before = std::mem::replace(send, Send::Abandoned);
        drop(state);
        drop(before);
    }
}

fn is_over() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the server has stopped, and closed this socket")
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counter").field("slot", &self.slot).finish_non_exhaustive()
    }
}
