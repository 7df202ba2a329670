//! A bounded channel between two services of one worker.
//!
//! A relay has two connections: what one receives, the other sends. A channel carries the bytes from one to the other
//! without a lock or a copy, and carries the two ways a stream can end, which are not the same: [`Sender::end`] says
//! that all was sent, [`Sender::abort`] that the rest will never come. Either side that has to wait is woken
//! ([`Event::Wake`](crate::Event::Wake)): the reader by data or the end, the writer by room. That one side gives up or
//! leaves wakes the other even if it does not wait, once it has looked into the channel.
//!
//! The two directions of a relay are two channels, and end separately.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;

use crate::desk::Handle;
use crate::local::Local;
use crate::service::Context;
use crate::wake::Wakee;

/// A channel that holds `capacity` bytes.
pub(crate) fn channel(local: &Rc<Local>, capacity: usize) -> (Sender, Receiver) {
    let channel = Rc::new(RefCell::new(Channel {
        queue: VecDeque::new(),
        len: 0,
        capacity,
        sender: State::Open,
        receiver_gone: false,
        reader: Side::default(),
        writer: Side::default(),
        taken: false,
        local: Rc::clone(local),
    }));
    (Sender(Rc::clone(&channel)), Receiver(channel))
}

#[derive(Debug)]
struct Channel {
    queue: VecDeque<Bytes>,
    len: usize,
    capacity: usize,
    sender: State,
    receiver_gone: bool,
    reader: Side,
    writer: Side,
    /// Something was taken out, and the writer was not told yet: it may be put back.
    taken: bool,
    local: Rc<Local>,
}

/// Who is at one end: the connection that last looked into the channel from there.
#[derive(Debug, Default)]
struct Side {
    who: Option<Handle>,
    /// It found nothing to do.
    waits: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Aborted,
}

impl Side {
    fn looks(&mut self, cx: &Context<'_>, waits: bool) {
        *self = Side { who: Some(cx.handle()), waits };
    }

    /// There is something to do.
    fn wake_if_waiting(&mut self, local: &Local) {
        if self.waits {
            self.wake(local);
        }
    }

    fn wake(&mut self, local: &Local) {
        self.waits = false;
        if let Some(who) = self.who {
            local.wake(Wakee::Connection(who));
        }
    }
}

/// The sending half. Dropping it without [`end`](Self::end) is an [`abort`](Self::abort).
#[derive(Debug)]
pub struct Sender(Rc<RefCell<Channel>>);

/// The receiving half. Dropping it tells the sender that nobody reads any more.
#[derive(Debug)]
pub struct Receiver(Rc<RefCell<Channel>>);

/// What a [`Sender`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// So many bytes may be sent.
    Free(usize),
    /// None now; the service is woken when there is room again.
    Full,
    /// The receiver is gone, and nothing will be read.
    Gone,
}

/// What a [`Receiver`] finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The next bytes.
    Data(Bytes),
    /// Nothing now; the service is woken when there is.
    Empty,
    /// All was received that was sent.
    Ended,
    /// The sender gave up: what was not received is lost.
    Aborted,
}

/// How far bytes were passed on between a channel and the connection of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// All there is now, and more may come.
    All,
    /// Not all, for want of room on the other side.
    Part,
    /// All there will ever be.
    Ended,
    /// The other end of the channel is gone.
    Gone,
}

impl Sender {
    /// Sends the unread input, as much as there is room for, and [ends](Self::end) with it.
    ///
    /// After [`Passed::All`] it is time to wait for input, after [`Passed::Part`] the service is woken when there is
    /// room.
    pub fn send_input(&mut self, cx: &mut Context<'_>) -> Passed {
        if self.0.borrow().sender == State::Ended {
            return Passed::Ended;
        }
        loop {
            match self.room(cx) {
                Room::Gone => return Passed::Gone,
                _ if cx.input.is_empty() && cx.input.is_ended() => {
                    self.end();
                    return Passed::Ended;
                }
                _ if cx.input.is_empty() => return Passed::All,
                Room::Full => return Passed::Part,
                Room::Free(room) => {
                    let bytes = cx.input.keep(room.min(cx.input.len()));
                    self.send(bytes).expect("there is room, and somebody to receive");
                }
            }
        }
    }

    /// How much may be sent. When that is nothing, the service of `cx` is woken once there is room.
    pub fn room(&self, cx: &Context<'_>) -> Room {
        let mut channel = self.0.borrow_mut();
        let free = channel.capacity.saturating_sub(channel.len);
        channel.writer.looks(cx, free == 0);
        match free {
            _ if channel.receiver_gone => Room::Gone,
            0 => Room::Full,
            free => Room::Free(free),
        }
    }

    /// Sends `bytes`, which may be more than there is room for, once; then the channel is full.
    ///
    /// # Errors
    /// Gives them back when the channel is full, or when the receiver is gone.
    pub fn send(&mut self, bytes: Bytes) -> Result<(), Bytes> {
        let channel = &mut *self.0.borrow_mut();
        if channel.receiver_gone || channel.sender != State::Open || channel.len >= channel.capacity {
            return Err(bytes);
        }
        if !bytes.is_empty() {
            channel.len += bytes.len();
            channel.queue.push_back(bytes);
            channel.reader.wake_if_waiting(&channel.local);
        }
        Ok(())
    }

    /// Says that all was sent.
    pub fn end(&mut self) {
        self.leave(State::Ended);
    }

    /// Says that the rest will never come. What is still in the channel is dropped.
    pub fn abort(&mut self) {
        self.leave(State::Aborted);
    }

    fn leave(&mut self, state: State) {
        let channel = &mut *self.0.borrow_mut();
        if channel.sender != State::Open {
            return;
        }
        channel.sender = state;
        match state {
            // Also a reader that is busy with what came before: there is no use in it any more.
            State::Aborted => channel.reader.wake(&channel.local),
            _ => channel.reader.wake_if_waiting(&channel.local),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.leave(State::Aborted);
    }
}

impl Receiver {
    /// Takes what comes next. When that is nothing, the service of `cx` is woken once there is something.
    ///
    /// A sender that waits for room is woken by the call after the one that made it: to receive until there is nothing,
    /// or until something is [put back](Self::put_back), is the way to use it.
    pub fn receive(&mut self, cx: &Context<'_>) -> Received {
        let channel = &mut *self.0.borrow_mut();
        channel.reader.looks(cx, false);
        if std::mem::take(&mut channel.taken) {
            channel.writer.wake_if_waiting(&channel.local);
        }
        if channel.sender == State::Aborted {
            channel.queue.clear();
            channel.len = 0;
            return Received::Aborted;
        }
        let Some(bytes) = channel.queue.pop_front() else {
            if channel.sender == State::Ended {
                return Received::Ended;
            }
            channel.reader.waits = true;
            return Received::Empty;
        };
        channel.len -= bytes.len();
        channel.taken = true;
        Received::Data(bytes)
    }

    /// Hands what there is over to the output, as much as it takes, and [ends](crate::Output::end) it with the channel.
    ///
    /// After [`Passed::All`] the service is woken when there is more, after [`Passed::Part`] it is time to wait for
    /// room.
    pub fn write_output(&mut self, cx: &mut Context<'_>) -> Passed {
        loop {
            match self.receive(cx) {
                Received::Data(bytes) => {
                    if let Err(refused) = cx.output.send(bytes) {
                        self.put_back(refused);
                        return Passed::Part;
                    }
                }
                Received::Empty => return Passed::All,
                Received::Ended => {
                    cx.output.end();
                    return Passed::Ended;
                }
                Received::Aborted => return Passed::Gone,
            }
        }
    }

    /// Puts bytes back that could not be passed on; they come next.
    pub fn put_back(&mut self, bytes: Bytes) {
        let mut channel = self.0.borrow_mut();
        channel.len += bytes.len();
        channel.queue.push_front(bytes);
        // Nothing was taken after all. Two sides that wake each other by such a try would never rest.
        channel.taken = false;
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let channel = &mut *self.0.borrow_mut();
        channel.receiver_gone = true;
        channel.queue.clear();
        channel.len = 0;
        // Also a writer that has nothing to send now: what it would send has nowhere to go.
        channel.writer.wake(&channel.local);
    }
}
