//! The pipe: the memory between a stream and its connection.
//!
//! ```text
//!   connection ── Endpoint::take_input ──► inbox  ── Stream::poll_fill ──► the stream's own unread bytes ──► handler
//!   connection ◄── Endpoint::flush ─────── outbox ◄── Stream::poll_write ───────────────────────────────── handler
//! ```
//!
//! Either box has a bound; whoever finds one full or empty leaves a waiter there and is woken by the other side.
//! Nothing of the user's is called while the state is borrowed.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::task::Waker as StdWaker;

use bytes::Bytes;

use crate::address::Address;
use crate::carry::Carry;
use crate::desk::Handle;
use crate::local::Local;
use crate::output::Output;
use crate::ring::Side;
use crate::service::Reason;
use crate::wake::Wakee;

#[derive(Debug)]
pub(super) struct Pipe {
    state: RefCell<State>,
    pub(super) local: Rc<Local>,
}

#[derive(Debug)]
pub(super) struct State {
    /// The connection, while it is there.
    pub(super) name: Option<Handle>,
    /// The endpoint is being called: it looks at everything before it returns, and is not woken.
    pub(super) is_in_call: bool,
    /// What wakes the handler that the endpoint polls.
    pub(super) own: Option<StdWaker>,
    pub(super) inbox: Carry,
    pub(super) outbox: Outbox,
    /// No input will follow.
    pub(super) ended: bool,
    /// Why the connection is over.
    pub(super) over: Option<Reason>,
    /// The server drains: whoever waits for input between two frames is told that it has ended.
    pub(super) is_draining: bool,
    /// They are not: what the peer sends is somebody else's, and is at its end when the peer says so.
    pub(super) ignores_drain: bool,
    pub(super) reader: Waiter,
    pub(super) writer: Waiter,
    /// Somebody waits for input, so that it is the peer who is waited for.
    pub(super) is_reading: bool,
    /// The reader has seen the beginning of something.
    pub(super) is_in_frame: bool,
    /// Something was consumed, so that what is waited for now is another frame.
    pub(super) went_on: bool,
    /// What the connection was told of that.
    pub(super) told: Reading,
    /// Nobody reads, or writes, any more.
    pub(super) reader_gone: bool,
    pub(super) writer_gone: bool,
    /// The connection is to be reset.
    pub(super) aborted: bool,
    /// Somebody waits until all is sent.
    pub(super) is_flushed_for: bool,
    /// Bytes in the connection's output, when the endpoint was called last.
    pub(super) unsent: usize,
    pub(super) addresses: Option<Box<Addresses>>,
    /// The bound of either box, in bytes.
    pub(super) limit: usize,
}

/// What a connection has to know of the reader: it is read from only while somebody waits, and its deadlines run only
/// then.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) waits: bool,
    pub(super) is_in_frame: bool,
}

/// Who waits at one side.
#[derive(Debug, Default)]
pub(super) enum Waiter {
    #[default]
    Nobody,
    /// What the endpoint polls itself.
    Own,
    Other(StdWaker),
}

impl Waiter {
    pub(super) fn waits(&self) -> bool {
        !matches!(self, Waiter::Nobody)
    }
}

/// Addresses that were asked for, by whichever future.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    pub(super) peer: Asked,
    pub(super) local: Asked,
}

/// One of them. It stays the same, so it is looked up once.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) is_wanted: bool,
    /// An error goes to one of those who asked, and the others ask again.
    pub(super) known: Option<io::Result<Address>>,
    pub(super) waiters: Vec<Waiter>,
}

impl Addresses {
    pub(super) fn of(&mut self, side: Side) -> &mut Asked {
        match side {
            Side::Peer => &mut self.peer,
            Side::Local => &mut self.local,
        }
    }
}

impl Asked {
    /// The address, if it was looked up.
    pub(super) fn get(&mut self) -> Option<io::Result<Address>> {
        match &self.known {
            Some(Ok(known)) => Some(Ok(known.clone())),
            _ => self.known.take(),
        }
    }
}

/// What was written and is not in the connection's output yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    handed_over: VecDeque<Bytes>,
    /// Bytes that were copied, behind those that were handed over.
    copied: Carry,
    len: usize,
}

/// `Bytes` up to this length are copied behind what was written before.
const COPY_BELOW: usize = 4096;

impl Outbox {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn write(&mut self, bytes: &[u8], local: &Local) {
        self.copied.append_to_spare(bytes, local);
        self.len += bytes.len();
    }

    pub(super) fn send(&mut self, bytes: Bytes, local: &Local) {
        if bytes.len() <= COPY_BELOW {
            return self.write(&bytes, local);
        }
        self.len += bytes.len();
        if !self.copied.is_empty() {
            self.handed_over.push_back(Bytes::copy_from_slice(self.copied.unread()));
            self.copied.clear_to_spare(local);
        }
        self.handed_over.push_back(bytes);
    }

    /// Moves as much as there is room for into the output.
    pub(super) fn flush(&mut self, output: &mut Output<'_>, local: &Local) {
        while let Some(bytes) = self.handed_over.pop_front() {
            let len = bytes.len();
            if let Err(bytes) = output.send(bytes) {
                self.handed_over.push_front(bytes);
                return;
            }
            self.len -= len;
        }
        let n = self.copied.len().min(output.room());
        if n > 0 && output.write(&self.copied.unread()[..n]).is_ok() {
            self.copied.consume_to_spare(n, local);
            self.len -= n;
        }
    }

    pub(super) fn clear(&mut self, local: &Local) -> VecDeque<Bytes> {
        self.copied.clear_to_spare(local);
        self.len = 0;
        std::mem::take(&mut self.handed_over)
    }
}

impl Pipe {
    pub(super) fn new(local: Rc<Local>) -> Rc<Pipe> {
        let state = State {
            name: None,
            is_in_call: false,
            own: None,
            inbox: Carry::default(),
            outbox: Outbox::default(),
            ended: false,
            over: None,
            is_draining: false,
            ignores_drain: false,
            reader: Waiter::Nobody,
            writer: Waiter::Nobody,
            is_reading: false,
            is_in_frame: false,
            went_on: false,
            told: Reading::default(),
            reader_gone: false,
            writer_gone: false,
            aborted: false,
            is_flushed_for: false,
            unsent: 0,
            addresses: None,
            limit: local.stream_buffer(),
        };
        Rc::new(Pipe { state: RefCell::new(state), local })
    }

    pub(super) fn state(&self) -> RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// Has the endpoint look at what changed, if it does not anyway.
    pub(super) fn nudge(&self, state: &State) {
        if let (Some(name), false) = (state.name, state.is_in_call) {
            self.local.wake(Wakee::Connection(name));
        }
    }
}

impl State {
    /// Who waits with this waker: the handler that the endpoint polls, or somebody else.
    pub(super) fn waiter(&self, waker: &StdWaker) -> Waiter {
        match &self.own {
            Some(own) if own.will_wake(waker) => Waiter::Own,
            _ => Waiter::Other(waker.clone()),
        }
    }

    /// Whether the handler that the endpoint polls is to be polled for what changed. Whoever else is to be woken is
    /// added to `wakers`.
    pub(super) fn settle_waiters(&mut self, wakers: &mut Vec<StdWaker>) -> bool {
        let is_over = self.over.is_some();
        let can_read =
            !self.inbox.is_empty() || self.ended || is_over || (self.is_told_of_drain() && !self.is_in_frame);
        let is_sent = self.outbox.is_empty() && self.unsent == 0;
        let can_write = is_over || if self.is_flushed_for { is_sent } else { self.outbox.len() < self.limit };
        let mut is_own = false;
        let mut wake = |waiter: &mut Waiter| match std::mem::take(waiter) {
            Waiter::Nobody => {}
            Waiter::Own => is_own = true,
            Waiter::Other(waker) => wakers.push(waker),
        };
        if can_read {
            wake(&mut self.reader);
        }
        if can_write {
            wake(&mut self.writer);
        }
        for asked in
            self.addresses.iter_mut().flat_map(|addresses| [&mut addresses.peer, &mut addresses.local])
        {
            if asked.known.is_some() || is_over {
                asked.waiters.iter_mut().for_each(&mut wake);
                asked.waiters.clear();
            }
        }
        is_own
    }

    /// Whether a reader with nothing unread is told that its peer has ended.
    pub(super) fn is_told_of_drain(&self) -> bool {
        self.is_draining && !self.ignores_drain
    }

    /// How things stand with the reader.
    pub(super) fn reading(&self) -> Reading {
        Reading { waits: self.is_reading, is_in_frame: self.is_reading && self.is_in_frame }
    }

    /// Whether the connection is to hear of the reader: what it was told is no longer so, or the frame is another.
    pub(super) fn is_news(&self) -> bool {
        self.reading() != self.told || (self.is_reading && self.is_in_frame && self.went_on)
    }

    /// What there is to say to whoever reads or writes when the connection is over.
    pub(super) fn error(&self) -> io::Error {
        match self.over {
            Some(Reason::PeerGone(errno) | Reason::Failed(errno)) => io::Error::from_raw_os_error(errno),
            Some(reason @ (Reason::Stalled | Reason::TooSlow | Reason::Idle | Reason::Incomplete)) => {
                io::Error::new(io::ErrorKind::TimedOut, reason.to_string())
            }
            Some(reason) => io::Error::new(io::ErrorKind::ConnectionAborted, reason.to_string()),
            None => io::ErrorKind::BrokenPipe.into(),
        }
    }

    /// Whether the end of input was the peer's own, rather than that of the connection.
    pub(super) fn ended_well(&self) -> bool {
        self.ended || matches!(self.over, Some(Reason::Finished))
    }
}
