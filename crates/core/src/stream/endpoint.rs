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
use std::task::{Context as TaskContext, Poll, Waker as StdWaker};

use super::pipe::{Pipe, State};
use super::{Ending, Stream};
use crate::desk::InnerFrame;
use crate::guard::let_go;
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
    /// The stream is somebody else's. Counted while it is open and has one.
    Elsewhere(Option<Held>),
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
        let stream = Stream::new(Rc::clone(&pipe));
        (Endpoint { pipe, handler: Handler::Elsewhere(None) }, stream)
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
        if matches!(self.handler, Handler::Elsewhere(_) | Handler::Done) {
            return;
        }
        let waker = self.pipe.state().own.get_or_insert_with(|| cx.waker().into()).clone();
        let mut handling = match std::mem::replace(&mut self.handler, Handler::Done) {
            Handler::Unbegun(handle) => handle(Stream::new(Rc::clone(&self.pipe))),
            Handler::Running(handling) => handling,
            Handler::Elsewhere(_) | Handler::Done => return,
        };
        let call = InCall::begin(&self.pipe);
        let ending = handling.as_mut().poll(&mut TaskContext::from_waker(&waker));
        if ending.is_pending() {
            self.handler = Handler::Running(handling);
            return drop(call);
        }
        // Its stream may live on in a task.
        drop(handling);
        drop(call);
        if let Poll::Ready(Ending::Failed(error)) = ending {
            tracing::debug!("a handler failed: {error}");
            self.pipe.state().aborted = true;
        }
    }

    /// The connection is over.
    fn close(&mut self, reason: Reason) {
        let mut wakers = Vec::new();
        let held = {
            let mut state = self.pipe.state();
            state.over = Some(reason);
            (state.name, state.is_reading) = (None, false);
            state.unsent = 0;
            state.settle_waiters(&mut wakers);
            state.outbox.clear(&self.pipe.local)
        };
        drop(held);
        wakers.drain(..).for_each(StdWaker::wake);
        // Its stream finds the connection gone; what it does then is its own affair, and takes its time.
        if let Handler::Running(handling) = std::mem::replace(&mut self.handler, Handler::Done) {
            let Some(left) = self.pipe.local.leave() else {
                tracing::debug!("a handler was dropped when its connection was over: too many others go on");
                return let_go(handling);
            };
            let work: Work = Box::pin(async move {
                let _left = left;
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
                if let Handler::Elsewhere(held) = &mut self.handler {
                    // The last call was before it, and nobody calls again.
                    self.pipe.state().is_draining |= self.pipe.local.is_last_call();
                    *held = Some(Held::new(&self.pipe.local));
                }
                true
            }
            Event::Drain => {
                // Whoever has connected out may be about to answer a client: that goes on until no client is left.
                let is_ours = matches!(self.handler, Handler::Elsewhere(_));
                self.pipe.state().is_draining |= !is_ours || self.pipe.local.is_last_call();
                false
            }
            Event::Wake | Event::Timer | Event::Answer(..) => true,
            Event::Input | Event::Room | Event::End => false,
        };
        self.run(polls, cx);
        let mut state = self.pipe.state();
        let went_on = std::mem::take(&mut state.went_on);
        state.told = state.reading();
        if state.told.is_in_frame {
            cx.control.note_inner_frame(InnerFrame { went_on });
        }
        let flow = state.next(cx);
        if let (Handler::Elsewhere(held), Flow::Finish | Flow::Abort) = (&mut self.handler, &flow) {
            *held = None;
        }
        flow
    }
}

/// An open connection whose stream is not its own handler's: a server that drains does not wait for it.
struct Held(Rc<Local>);

impl Held {
    fn new(local: &Rc<Local>) -> Held {
        local.count_held(true);
        Held(Rc::clone(local))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.count_held(false);
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

    /// Looks up the addresses that were asked for.
    fn look_up(&mut self, cx: &mut Context<'_>) {
        let Some(addresses) = self.addresses.as_deref_mut() else { return };
        if std::mem::take(&mut addresses.peer.is_wanted) {
            addresses.peer.known = Some(cx.peer_addr());
        }
        if std::mem::take(&mut addresses.local.is_wanted) {
            addresses.local.known = Some(cx.local_addr());
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
        // Who waits for nothing is not cut for want of it, nor sent more than the connection had asked for.
        let wants_input =
            self.is_reading && self.has_place() && !(cx.input.is_ended() && cx.input.is_empty());
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
