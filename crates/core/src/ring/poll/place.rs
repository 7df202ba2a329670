//! Places: what the ring over epoll knows of each descriptor, and what waits there.
//!
//! A descriptor's number is used again at once, so a place counts how often that happened: what epoll says is about the
//! generation that was registered, and what is stale is dropped.
//!
//! Readiness is remembered. Epoll is edge-triggered: it says once that something came, and nothing more until more
//! comes; so a place *may* be tried until a call says that it would block. A fresh place may be tried at once.

use std::os::fd::RawFd;

use rustix::event::epoll::{EventData, EventFlags};

use crate::operation::Submission;
use crate::token::Token;

/// What a place is registered for from the beginning: input, its end, and what is urgent.
pub(super) const INPUT: EventFlags =
    EventFlags::ET.union(EventFlags::IN).union(EventFlags::RDHUP).union(EventFlags::PRI);

/// What says that the peer is gone, or the connection broken.
const TROUBLE: EventFlags = EventFlags::ERR.union(EventFlags::HUP);

/// An operation that gives output and waits for room, and how many bytes it has moved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    pub(super) token: Token,
    pub(super) submission: Submission,
    pub(super) done: u32,
}

/// An operation that takes input and waits for it: as little as can be, for every idle connection has one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taker {
    pub(super) token: Token,
    pub(super) what: What,
    /// Bytes received so far.
    pub(super) done: u32,
}

/// What an operation takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Connections {
        multishot: bool,
    },
    /// No budget if zero.
    Bytes {
        budget: u32,
    },
    /// Datagrams, one after another.
    Datagrams,
    /// Nothing: it only tells that there is something.
    Notice,
}

/// What is known of one descriptor.
#[derive(Debug)]
pub(super) struct Place {
    generation: u32,
    /// What epoll was asked for; nothing if it does not know the descriptor.
    pub(super) asked: EventFlags,
    /// Whether a call may bring something, or take something.
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// There is more than bytes to come: an end, an error, something urgent. Then a call that brings less than it could
    /// does not say that nothing is left.
    more_than_bytes: bool,
    /// Of what the socket has, one call brings a part only, though there is room for more: with Unix sockets, up to
    /// where something else than bytes was sent along (unix(7)).
    pub(super) in_parts: bool,
    /// Of `TROUBLE`, what was seen.
    pub(super) trouble: EventFlags,
    /// An error that a send met when some of it had gone out, and that the kernel tells once only.
    pub(super) untold: Option<i32>,
    /// In the queue of those that may be tried.
    pub(super) queued: bool,
    /// A send, a connect or a wait for room waits: see `PollRing::givers`.
    pub(super) gives: bool,
    pub(super) taker: Option<Taker>,
}

const _: () = assert!(size_of::<Place>() <= 56, "there is one for every connection");

impl Place {
    pub(super) fn new(generation: u32) -> Place {
        Place {
            generation,
            asked: EventFlags::empty(),
            readable: true,
            writable: true,
            more_than_bytes: false,
            in_parts: false,
            trouble: EventFlags::empty(),
            untold: None,
            queued: false,
            gives: false,
            taker: None,
        }
    }

    /// The next life of this place: another descriptor of the same number.
    pub(super) fn next(&self) -> Place {
        Place::new(self.generation.wrapping_add(1))
    }

    /// Whether nothing was ever asked of it.
    pub(super) fn is_fresh(&self) -> bool {
        self.asked.is_empty() && self.taker.is_none() && !self.gives
    }

    /// The name of this life of the place.
    pub(super) fn key(&self, fd: RawFd) -> Key {
        Key { fd, generation: self.generation }
    }

    /// Takes note of what epoll says.
    pub(super) fn note(&mut self, said: EventFlags) {
        let beyond = TROUBLE | EventFlags::RDHUP | EventFlags::PRI;
        self.readable |= said.intersects(EventFlags::IN | beyond);
        self.writable |= said.intersects(EventFlags::OUT | TROUBLE);
        self.more_than_bytes |= said.intersects(beyond);
        self.trouble |= said & TROUBLE;
    }

    /// A call brought `n` bytes where there was room for `room`: less than that means that nothing is left (epoll(7)),
    /// but for what follows the bytes, or lies between them.
    pub(super) fn brought(&mut self, n: u32, room: u32) {
        if n < room && !self.more_than_bytes && !self.in_parts {
            self.readable = false;
        }
    }

    /// A call would have had to wait for input.
    pub(super) fn is_drained(&mut self) {
        self.readable = false;
        self.more_than_bytes = false;
    }

    /// It is connected now, and what was said before was said of something else.
    pub(super) fn is_connected(&mut self) {
        (self.readable, self.writable) = (true, true);
        self.trouble = EventFlags::empty();
    }
}

/// One life of a place: as an event names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) fd: RawFd,
    pub(super) generation: u32,
}

impl Key {
    pub(super) fn data(self) -> EventData {
        EventData::new_u64(u64::from(self.generation) << 32 | u64::from(self.fd as u32))
    }

    pub(super) fn from_data(data: EventData) -> Key {
        let data = data.u64();
        Key { fd: data as u32 as RawFd, generation: (data >> 32) as u32 }
    }
}
