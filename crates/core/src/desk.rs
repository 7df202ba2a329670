//! The desk: what a worker keeps at hand for its services while it calls them.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::counters::Counters;
use crate::errand::{Request, Ticket};
use crate::operation::Descriptor;
use crate::time::Time;
use crate::token::Generation;
use crate::wake::{Mailbox, Waker};

/// The name of a connection within its worker: see [`Control::handle`](crate::Control::handle) and
/// [`Control::wake`](crate::Control::wake). Checked whenever it is used: naming one that is over is harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle {
    pub(crate) slot: u32,
    pub(crate) generation: Generation,
}

/// An inner service has seen the beginning of a frame, and waits for the rest of it: its layer has consumed what the
/// connection sees, so nothing there tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InnerFrame {
    /// It has consumed some of its input in this call, so the frame is another one.
    pub(crate) went_on: bool,
}

/// What services reach of their worker, and what they leave there for it to do.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) now: Time,
    /// The calendar time at `Time::ZERO`, as of the last look at that clock.
    epoch: SystemTime,
    /// Room promised to services, in bytes.
    pub(crate) room: usize,
    pub(crate) local: Rc<Local>,
    pub(crate) requests: VecDeque<(Handle, Ticket, Request)>,
    mailbox: Arc<Mailbox>,
    tickets: u64,
    /// What is counted while services are called; the worker counts the rest.
    pub(crate) counters: Counters,
    /// What a layer tells of its inner service, within one call.
    pub(crate) inner_frame: Option<InnerFrame>,
    /// What services of this worker share, by type.
    shared: Vec<(TypeId, Rc<dyn Any>)>,
}

impl Desk {
    pub(crate) fn new(mailbox: Arc<Mailbox>, room: usize) -> Desk {
        Desk {
            now: Time::ZERO,
            epoch: SystemTime::UNIX_EPOCH,
            room,
            local: Rc::default(),
            requests: VecDeque::new(),
            mailbox,
            tickets: 0,
            counters: Counters::default(),
            inner_frame: None,
            shared: Vec::new(),
        }
    }

    pub(crate) fn set_wall(&mut self, wall: SystemTime) {
        self.epoch = wall.checked_sub(self.now.since_start()).unwrap_or(SystemTime::UNIX_EPOCH);
    }

    pub(crate) fn wall(&self) -> SystemTime {
        self.epoch + self.now.since_start().min(Duration::from_secs(1 << 40))
    }

    pub(crate) fn waker(&self, handle: Handle) -> Waker {
        Waker { mailbox: Arc::clone(&self.mailbox), handle }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.mailbox.is_draining()
    }

    pub(crate) fn shared<T: Any + Default>(&mut self) -> Rc<T> {
        let known = self.shared.iter().find_map(|(id, value)| {
            (*id == TypeId::of::<T>()).then(|| Rc::clone(value).downcast().ok()).flatten()
        });
        known.unwrap_or_else(|| {
            let value = Rc::new(T::default());
            self.shared.push((TypeId::of::<T>(), Rc::clone(&value) as Rc<dyn Any>));
            value
        })
    }

    /// Takes away what services shared.
    pub(crate) fn take_shared(&mut self) -> impl Sized + use<> {
        std::mem::take(&mut self.shared)
    }

    pub(crate) fn ask(&mut self, handle: Handle, request: Request) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.requests.push_back((handle, ticket, request));
        ticket
    }
}

/// What things that live on a worker's thread leave for it without a context at hand: channels wake, files close.
#[derive(Debug, Default)]
pub(crate) struct Local {
    wakes: RefCell<Vec<Handle>>,
    closes: RefCell<Vec<Descriptor>>,
}

impl Local {
    pub(crate) fn wake(&self, handle: Handle) {
        let mut wakes = self.wakes.borrow_mut();
        if wakes.last() != Some(&handle) {
            wakes.push(handle);
        }
    }

    pub(crate) fn close(&self, descriptor: Descriptor) {
        self.closes.borrow_mut().push(descriptor);
    }

    pub(crate) fn has_wakes(&self) -> bool {
        !self.wakes.borrow().is_empty()
    }

    /// Trades the wakes that came in for an empty list.
    pub(crate) fn swap_wakes(&self, empty: &mut Vec<Handle>) {
        std::mem::swap(&mut *self.wakes.borrow_mut(), empty);
    }

    pub(crate) fn has_closes(&self) -> bool {
        !self.closes.borrow().is_empty()
    }

    pub(crate) fn next_close(&self) -> Option<Descriptor> {
        self.closes.borrow_mut().pop()
    }
}
