//! The endpoint: the service on a connection whose bytes are a stream's.
//!
//! It is called by the one rule like any service, and moves bytes between the connection and the pipe. The handler of
//! an accepted connection is a future that it polls itself, so that no turn passes between a request and its answer. A
//! handler that is not done when the connection is over goes on as a task of the worker: what follows after an error
//! is still run.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Waker as StdWaker};

use super::pipe::{Pipe, State};
use super::{Ending, Stream};
use crate::desk::InnerFrame;
use crate::local::Local;
use crate::service::{Context, Event, Flow, Reason, Service};
use crate::task::Work;

/// What a handler is polled as.
pub(crate) type Handling = Pin<Box<dyn Future<Output = Ending>>>;

/// Makes the future that handles a connection.
pub(crate) type Handle = Box<dyn FnOnce(Stream) -> Handling>;

pub(crate) struct Endpoint {
    pipe: Rc<Pipe>,
    handler: Handler,
}

enum Handler {
    /// The stream is somebody else's.
    Elsewhere,
    Unbegun(Handle),
    Running(Handling),
    Done,
}

impl Endpoint {
    /// The endpoint of a connection that `handle` handles.
    pub(crate) fn handled(handle: Handle) -> Endpoint {
        let local = Local::expect("a handler of streams");
        Endpoint { pipe: Pipe::new(local), handler: Handler::Unbegun(handle) }
    }

    /// The endpoint of a connection, and its stream for whoever wants it.
    pub(crate) fn connected(local: Rc<Local>) -> (Endpoint, Stream) {
        let pipe = Pipe::new(local);
        pipe.state().hears_drain = false;
        let stream = Stream::new(Rc::clone(&pipe));
        (Endpoint { pipe, handler: Handler::Elsewhere }, stream)
    }

    /// Moves bytes and polls the handler for as long as that gets anywhere.
    fn run(&mut self, mut polls: bool, cx: &mut Context<'_>) {
        let mut wakers = Vec::new();
        loop {
            let mut state = self.pipe.state();
            state.take_input(cx, &self.pipe.local);
            polls |= state.settle_waiters(&mut wakers);
            drop(state);
            wakers.drain(..).for_each(StdWaker::wake);
            if polls {
                self.poll(cx);
            }
            let mut state = self.pipe.state();
            state.flush(cx, &self.pipe.local);
            state.look_up(cx);
            polls = state.settle_waiters(&mut wakers);
            let takes_more = !cx.input.is_empty() && state.has_place();
            drop(state);
            wakers.drain(..).for_each(StdWaker::wake);
            if !polls && !takes_more {
                return;
            }
        }
    }

    /// Polls the handler, if there is one.
    fn poll(&mut self, cx: &Context<'_>) {
        if matches!(self.handler, Handler::Elsewhere | Handler::Done) {
            return;
        }
        let waker = self.pipe.state().own.get_or_insert_with(|| cx.waker().into()).clone();
        let mut handling = match std::mem::replace(&mut self.handler, Handler::Done) {
            Handler::Unbegun(handle) => handle(Stream::new(Rc::clone(&self.pipe))),
            Handler::Running(handling) => handling,
            Handler::Elsewhere | Handler::Done => return,
        };
        let call = InCall::begin(&self.pipe);
        let ending = handling.as_mut().poll(&mut TaskContext::from_waker(&waker));
        if ending.is_pending() {
            self.handler = Handler::Running(handling);
            return drop(call);
        }
        drop(handling);
        drop(call);
        if let std::task::Poll::Ready(Ending::Failed(error)) = ending {
            tracing::debug!("a handler failed: {error}");
            self.pipe.state().aborted = true;
        }
        let mut state = self.pipe.state();
        (state.reader_gone, state.writer_gone) = (true, true);
    }

    /// The connection is over.
    fn close(&mut self, reason: Reason) {
        let mut wakers = Vec::new();
        let held = {
            let mut state = self.pipe.state();
            state.over = Some(reason);
            state.name = None;
            state.unsent = 0;
            state.settle_waiters(&mut wakers);
            state.outbox.clear(&self.pipe.local)
        };
        drop(held);
        wakers.drain(..).for_each(StdWaker::wake);
        // Its stream finds the connection gone; what it does then is its own affair, and takes its time.
        if let Handler::Running(handling) = std::mem::replace(&mut self.handler, Handler::Done) {
            let work: Work = Box::pin(async move {
                if let Ending::Failed(error) = handling.await {
                    tracing::debug!("a handler failed: {error}");
                }
            });
            crate::task::spawn_on(&self.pipe.local, work);
        }
    }
}

impl Service for Endpoint {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        let polls = match event {
            Event::Closed(reason) => {
                self.close(reason);
                return Flow::Wait;
            }
            Event::Open => {
                self.pipe.state().name = Some(cx.handle());
                true
            }
            Event::Drain => {
                self.pipe.state().is_draining = true;
                false
            }
            Event::Wake | Event::Timer | Event::Answer(..) => true,
            Event::Input | Event::Room | Event::End => false,
        };
        self.run(polls, cx);
        let mut state = self.pipe.state();
        let went_on = std::mem::take(&mut state.went_on);
        if state.is_in_frame && state.reader.waits() {
            cx.control.note_inner_frame(InnerFrame { went_on });
        }
        state.next(cx)
    }
}

/// The endpoint is being called, and looks at everything before it returns.
struct InCall<'a>(&'a Pipe);

impl<'a> InCall<'a> {
    fn begin(pipe: &'a Pipe) -> InCall<'a> {
        pipe.state().is_in_call = true;
        InCall(pipe)
    }
}

impl Drop for InCall<'_> {
    fn drop(&mut self) {
        self.0.state().is_in_call = false;
    }
}

impl State {
    fn has_place(&self) -> bool {
        self.inbox.len() < self.limit && !self.reader_gone
    }

    /// Copies input into the inbox, as far as that has a place.
    fn take_input(&mut self, cx: &mut Context<'_>, local: &Local) {
        if self.has_place() && !cx.input.is_empty() {
            let n = cx.input.len().min(self.limit - self.inbox.len());
            self.inbox.append_to_spare(cx.input.consume(n), local);
        }
        self.ended |= cx.input.is_ended() && cx.input.is_empty();
    }

    /// Moves the outbox into the output, as far as there is room.
    fn flush(&mut self, cx: &mut Context<'_>, local: &Local) {
        self.outbox.flush(&mut cx.output, local);
        if self.writer_gone && !self.reader_gone && self.outbox.is_empty() {
            cx.output.end();
        }
        self.unsent = cx.output.unsent();
    }

    /// Looks up an address that was asked for.
    fn look_up(&mut self, cx: &mut Context<'_>) {
        if let Some(addresses) = self.addresses.as_deref_mut()
            && let Some(side) = addresses.wanted.take()
        {
            addresses.known = Some(match side {
                crate::ring::Side::Peer => cx.peer_addr(),
                crate::ring::Side::Local => cx.local_addr(),
            });
        }
    }

    /// What the connection is to wait for.
    fn next(&mut self, cx: &Context<'_>) -> Flow {
        if self.aborted {
            return Flow::Abort;
        }
        if self.reader_gone && self.writer_gone && self.outbox.is_empty() {
            return Flow::Finish;
        }
        let wants_input = self.has_place() && !(cx.input.is_ended() && cx.input.is_empty());
        let waits_for_room =
            !self.outbox.is_empty() || (self.is_flushed_for && self.writer.waits() && self.unsent > 0);
        match (wants_input, waits_for_room) {
            (true, true) => Flow::MoreOrRoom(1),
            (true, false) => Flow::More(1),
            (false, true) => Flow::Room,
            (false, false) => Flow::Wait,
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}
