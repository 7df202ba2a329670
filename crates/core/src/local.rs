//! `Local`: what everything that runs on a worker's thread reaches without a context at hand.
//!
//! Channels wake, files close, futures sleep, spawn and ask for operations: all of them hold a [`Local`], and the
//! worker looks into it once a turn. Futures are made by plain functions, so a thread knows whose turn it is
//! ([`Local::current`]): that is the one thing that is looked up rather than handed down, and nothing of a
//! connection's own path does.
//!
//! Nothing of the user's is called, and nothing of it dropped, while a part of this is borrowed: a waker, a future and
//! an answer may all come back here.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker as StdWaker};

use crate::config::Config;
use crate::desk::Handle;
use crate::errand::{Answer, Asker, Request, Ticket};
use crate::guard::{guard, let_go};
use crate::operation::Descriptor;
use crate::ring;
use crate::task::{Sleeps, Tasks};
use crate::time::Time;
use crate::wake::{Mailbox, Wakee};

thread_local! {
    /// The worker whose turn it is.
    static CURRENT: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

/// Memory that streams have emptied, for others to fill: so many pieces are kept, each no longer than this.
const SPARES: usize = 64;
const SPARE_LEN: usize = 64 * 1024;

/// What a worker's thread shares.
pub(crate) struct Local {
    now: Cell<Time>,
    mailbox: Arc<Mailbox>,
    wakes: RefCell<Vec<Wakee>>,
    /// Slots of datagram sockets that have something for the worker to do.
    touched: RefCell<Vec<u32>>,
    closes: RefCell<Vec<Descriptor>>,
    requests: RefCell<VecDeque<(Asker, Ticket, Request)>>,
    tickets: Cell<u64>,
    answers: RefCell<Answers>,
    spares: RefCell<Vec<Vec<u8>>>,
    pub(crate) tasks: Tasks,
    pub(crate) sleeps: Sleeps,
    /// Bytes that a stream holds for each direction.
    stream_buffer: usize,
    /// Handlers that go on without their connections, and how many there may be.
    left: Cell<u32>,
    left_limit: u32,
    /// Open connections whose streams are no handler's of theirs, for which a drain does not wait.
    held: Cell<u32>,
    /// The server drains, and no connections but these are left.
    is_last_call: Cell<bool>,
    /// The worker is hosted, and nobody looks in here before it is called.
    is_unattended: Cell<bool>,
    /// The worker was hosted, and is gone: nobody looks in here any more.
    is_over: Cell<bool>,
}

/// Slots in which futures wait for the answers to what they asked for.
#[derive(Debug, Default)]
struct Answers {
    slots: Vec<Option<Awaited>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Awaited {
    /// Tells an answer to this question from one to whoever had the slot before.
    ticket: Ticket,
    answer: Option<Answer>,
    waker: Option<StdWaker>,
    /// What is being opened for it, and is given up with it.
    opening: Option<Handle>,
}

/// The length of a turn, for this thread. Dropping it restores what was before.
pub(crate) struct Entered(Option<Rc<Local>>);

impl Drop for Entered {
    fn drop(&mut self) {
        // At the end of the thread nobody looks any more.
        let _ = CURRENT.try_with(|current| current.replace(self.0.take()));
    }
}

/// The place of a handler that goes on without its connection.
pub(crate) struct Left(Rc<Local>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.left.set(self.0.left.get() - 1);
    }
}

impl Local {
    pub(crate) fn new(mailbox: Arc<Mailbox>, config: &Config) -> Local {
        Local {
            now: Cell::new(Time::ZERO),
            mailbox,
            wakes: RefCell::default(),
            touched: RefCell::default(),
            closes: RefCell::default(),
            requests: RefCell::default(),
            tickets: Cell::new(0),
            answers: RefCell::default(),
            spares: RefCell::default(),
            tasks: Tasks::default(),
            sleeps: Sleeps::default(),
            stream_buffer: config.stream_buffer,
            left: Cell::new(0),
            left_limit: config.handlers_left,
            held: Cell::new(0),
            is_last_call: Cell::new(false),
            is_unattended: Cell::new(false),
            is_over: Cell::new(false),
        }
    }

    /// Makes this the worker whose turn it is.
    pub(crate) fn enter(self: &Rc<Self>) -> Entered {
        Entered(CURRENT.with(|current| current.replace(Some(Rc::clone(self)))))
    }

    /// Calls what is to find this worker as if it were in a turn of it.
    pub(crate) fn as_in_turn<T>(self: &Rc<Self>, call: impl FnOnce() -> T) -> T {
        let _turn = self.enter();
        call()
    }

    /// The worker whose turn it is on this thread.
    pub(crate) fn current() -> Option<Rc<Local>> {
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    /// The same, for what makes sense nowhere else.
    ///
    /// # Panics
    /// Outside of a worker.
    #[track_caller]
    pub(crate) fn expect(what: &str) -> Rc<Local> {
        let Some(local) = Local::current() else {
            panic!(
                "{what} is for what runs on a worker: a service, an async handler, or a task that was spawned there"
            );
        };
        local
    }

    /// Wakes without a lock, if this is the thread of that mailbox's worker and its turn. Says whether it was.
    pub(crate) fn wake_here(mailbox: &Arc<Mailbox>, wakee: Wakee) -> bool {
        let wake = |current: &RefCell<Option<Rc<Local>>>| {
            let current = current.borrow();
            let local = current.as_ref().filter(|local| Arc::ptr_eq(&local.mailbox, mailbox));
            local.is_some_and(|local| {
                local.wake(wakee);
                true
            })
        };
        CURRENT.try_with(wake).unwrap_or(false)
    }

    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// The time of this turn.
    pub(crate) fn now(&self) -> Time {
        self.now.get()
    }

    pub(crate) fn set_now(&self, now: Time) {
        self.now.set(now);
    }

    /// From now on nobody looks in here, until something is left.
    pub(crate) fn set_unattended(&self, is_unattended: bool) {
        self.is_unattended.set(is_unattended);
    }

    /// Something was left: by a future of the host's, if it is nobody's turn.
    pub(crate) fn stir(&self) {
        if self.is_unattended.replace(false) {
            self.mailbox.post(|_| {});
        }
    }

    pub(crate) fn wake(&self, wakee: Wakee) {
        self.stir();
        if let Wakee::Task(task) = wakee {
            return self.tasks.queue(task);
        }
        let mut wakes = self.wakes.borrow_mut();
        if wakes.last() != Some(&wakee) {
            wakes.push(wakee);
        }
    }

    pub(crate) fn close(&self, descriptor: Descriptor) {
        if self.is_over.get() {
            return ring::close(descriptor);
        }
        self.closes.borrow_mut().push(descriptor);
        self.stir();
    }

    /// Whether there is anything to do that needs no completion.
    pub(crate) fn has_work(&self) -> bool {
        !self.wakes.borrow().is_empty()
            || !self.closes.borrow().is_empty()
            || self.has_touched()
            || !self.requests.borrow().is_empty()
            || self.tasks.has_queued()
    }

    pub(crate) fn has_wakes(&self) -> bool {
        !self.wakes.borrow().is_empty()
    }

    /// Trades the wakes that came in for an empty list.
    pub(crate) fn swap_wakes(&self, empty: &mut Vec<Wakee>) {
        std::mem::swap(&mut *self.wakes.borrow_mut(), empty);
    }

    /// Has the worker look at a datagram socket.
    pub(crate) fn touch(&self, slot: u32) {
        self.stir();
        let mut touched = self.touched.borrow_mut();
        if touched.last() != Some(&slot) {
            touched.push(slot);
        }
    }

    pub(crate) fn has_touched(&self) -> bool {
        !self.touched.borrow().is_empty()
    }

    /// Trades the slots that were touched for an empty list.
    pub(crate) fn swap_touched(&self, empty: &mut Vec<u32>) {
        std::mem::swap(&mut *self.touched.borrow_mut(), empty);
    }

    pub(crate) fn next_close(&self) -> Option<Descriptor> {
        self.closes.borrow_mut().pop()
    }

    /// How many requests wait for the worker.
    pub(crate) fn requests(&self) -> usize {
        self.requests.borrow().len()
    }

    pub(crate) fn next_request(&self) -> Option<(Asker, Ticket, Request)> {
        self.requests.borrow_mut().pop_front()
    }

    /// Leaves a request for the worker.
    pub(crate) fn ask(&self, asker: Asker, request: Request) -> Ticket {
        let ticket = self.next_ticket();
        self.put_request(asker, ticket, request);
        ticket
    }

    /// Leaves what goes on under a ticket that is known.
    pub(crate) fn put_request(&self, asker: Asker, ticket: Ticket, request: Request) {
        if self.is_over.get() {
            return self.refuse(asker, ticket, request);
        }
        self.requests.borrow_mut().push_back((asker, ticket, request));
        self.stir();
    }

    fn next_ticket(&self) -> Ticket {
        self.tickets.set(self.tickets.get() + 1);
        Ticket(self.tickets.get())
    }

    /// Leaves a request whose answer a future waits for, in the slot that is returned.
    pub(crate) fn ask_and_wait(&self, request: Request) -> (u32, Ticket) {
        let ticket = self.next_ticket();
        let awaited = Awaited { ticket, answer: None, waker: None, opening: None };
        let mut answers = self.answers.borrow_mut();
        let slot = match answers.free.pop() {
            Some(slot) => {
                answers.slots[slot as usize] = Some(awaited);
                slot
            }
            None => {
                answers.slots.push(Some(awaited));
                answers.slots.len() as u32 - 1
            }
        };
        drop(answers);
        self.put_request(Asker::Future(slot), ticket, request);
        (slot, ticket)
    }

    /// Whether a future still waits for the answer.
    pub(crate) fn is_awaited(&self, slot: u32, ticket: Ticket) -> bool {
        let answers = self.answers.borrow();
        answers
            .slots
            .get(slot as usize)
            .is_some_and(|slot| slot.as_ref().is_some_and(|awaited| awaited.ticket == ticket))
    }

    /// Puts the answer into its slot. If nobody waits for it, it is dropped, which closes a file and frees memory.
    pub(crate) fn answer(&self, slot: u32, ticket: Ticket, answer: Answer) {
        let mut answers = self.answers.borrow_mut();
        let awaited = answers.slots.get_mut(slot as usize).and_then(Option::as_mut);
        let Some(awaited) = awaited.filter(|awaited| awaited.ticket == ticket) else {
            drop(answers);
            return drop(answer);
        };
        awaited.answer = Some(answer);
        let waker = awaited.waker.take();
        drop(answers);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the answer out, and frees the slot; or has `waker` called when it comes.
    pub(crate) fn poll_answer(&self, slot: u32, ticket: Ticket, waker: &StdWaker) -> Poll<Answer> {
        let mut answers = self.answers.borrow_mut();
        let awaited = answers.slots.get_mut(slot as usize).and_then(Option::as_mut);
        let Some(awaited) = awaited.filter(|awaited| awaited.ticket == ticket) else { return Poll::Pending };
        let Some(answer) = awaited.answer.take() else {
            let before = replace_waker(&mut awaited.waker, waker);
            drop(answers);
            drop(before);
            return Poll::Pending;
        };
        let freed = answers.slots[slot as usize].take();
        answers.free.push(slot);
        drop(answers);
        drop(freed);
        Poll::Ready(answer)
    }

    /// How many answers are waited for.
    #[cfg(test)]
    pub(crate) fn awaited(&self) -> usize {
        let answers = self.answers.borrow();
        answers.slots.len() - answers.free.len()
    }

    /// A connection is being opened for whoever waits there.
    pub(crate) fn note_opening(&self, slot: u32, ticket: Ticket, name: Handle) {
        let mut answers = self.answers.borrow_mut();
        let awaited = answers.slots.get_mut(slot as usize).and_then(Option::as_mut);
        if let Some(awaited) = awaited.filter(|awaited| awaited.ticket == ticket) {
            awaited.opening = Some(name);
        }
    }

    /// Nobody waits any more.
    pub(crate) fn abandon(&self, slot: u32, ticket: Ticket) {
        if !self.is_awaited(slot, ticket) {
            return;
        }
        let mut answers = self.answers.borrow_mut();
        let freed = answers.slots[slot as usize].take();
        answers.free.push(slot);
        drop(answers);
        if let Some(Awaited { answer: None, opening: Some(name), .. }) = &freed {
            self.put_request(Asker::Connection(*name), ticket, Request::GiveUp);
        }
        drop(freed);
    }

    pub(crate) fn count_held(&self, more: bool) {
        let held = self.held.get();
        self.held.set(if more { held + 1 } else { held - 1 });
    }

    /// Open connections whose streams are no handler's of theirs.
    pub(crate) fn held(&self) -> u32 {
        self.held.get()
    }

    pub(crate) fn is_last_call(&self) -> bool {
        self.is_last_call.get()
    }

    /// From now on these streams end as well; false if that was said before.
    pub(crate) fn call_last(&self) -> bool {
        !self.is_last_call.replace(true)
    }

    /// Drops what nobody will do any more. A future of the host's that waits for it is told so.
    pub(crate) fn forget_requests(&self) {
        while let Some((asker, ticket, request)) = self.next_request() {
            self.refuse(asker, ticket, request);
        }
    }

    /// Drops what will not be done, and tells who waits for it.
    pub(crate) fn refuse(&self, asker: Asker, ticket: Ticket, request: Request) {
        let refusal = request.refusal();
        let_go(request);
        if let (Asker::Future(slot), Some(refusal)) = (asker, refusal)
            && let Err(panic) = guard(|| self.answer(slot, ticket, refusal))
        {
            tracing::error!("a waker panicked: {panic}");
        }
    }

    /// The worker is gone, and its host is not. What futures there still have is closed when it is dropped, and who
    /// asks for something is refused.
    pub(crate) fn end(&self) {
        self.is_over.set(true);
        self.forget_requests();
        while let Some(descriptor) = self.next_close() {
            ring::close(descriptor);
        }
    }

    /// Empty memory to fill, without an allocation if somebody has emptied some.
    pub(crate) fn take_spare(&self) -> Vec<u8> {
        self.spares.borrow_mut().pop().unwrap_or_default()
    }

    pub(crate) fn give_spare(&self, mut spare: Vec<u8>) {
        let mut spares = self.spares.borrow_mut();
        if spare.capacity() > 0 && spare.capacity() <= SPARE_LEN && spares.len() < SPARES {
            spare.clear();
            spares.push(spare);
        }
    }

    /// A place for a handler whose connection is over, if there is one; it is free again when this is dropped.
    pub(crate) fn leave(self: &Rc<Self>) -> Option<Left> {
        let left = self.left.get();
        (left < self.left_limit).then(|| {
            self.left.set(left + 1);
            Left(Rc::clone(self))
        })
    }

    pub(crate) fn stream_buffer(&self) -> usize {
        self.stream_buffer
    }
}

/// Puts a waker in place of the one before, which is returned to be dropped elsewhere; the same one is left.
pub(crate) fn replace_waker(place: &mut Option<StdWaker>, waker: &StdWaker) -> Option<StdWaker> {
    match place {
        Some(before) if before.will_wake(waker) => None,
        _ => place.replace(waker.clone()),
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local")
            .field("now", &self.now.get())
            .field("requests", &self.requests())
            .finish_non_exhaustive()
    }
}
