//! The desk: what a worker keeps at hand for its services while it calls them.

use std::any::{Any, TypeId};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::config::Config;
use crate::counters::Counters;
use crate::errand::{Asker, Request, Ticket};
use crate::local::Local;
use crate::time::Time;
use crate::token::Generation;
use crate::wake::{Mailbox, Wakee, Waker};

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
    mailbox: Arc<Mailbox>,
    /// What is counted while services are called; the worker counts the rest.
    pub(crate) counters: Counters,
    /// What a layer tells of its inner service, within one call.
    pub(crate) inner_frame: Option<InnerFrame>,
    /// What services of this worker share, by type.
    shared: Vec<(TypeId, Rc<dyn Any>)>,
}

impl Desk {
    pub(crate) fn new(mailbox: Arc<Mailbox>, config: &Config) -> Desk {
        Desk {
            now: Time::ZERO,
            epoch: SystemTime::UNIX_EPOCH,
            room: config.room as usize,
            local: Rc::new(Local::new(Arc::clone(&mailbox), config)),
            mailbox,
            counters: Counters::default(),
            inner_frame: None,
            shared: Vec::new(),
        }
    }

    /// Moves the time on; it never goes back.
    pub(crate) fn set_now(&mut self, now: Time) {
        self.now = now.max(self.now);
        self.local.set_now(self.now);
    }

    pub(crate) fn set_wall(&mut self, wall: SystemTime) {
        self.epoch = wall.checked_sub(self.now.since_start()).unwrap_or(SystemTime::UNIX_EPOCH);
    }

    pub(crate) fn wall(&self) -> SystemTime {
        self.epoch + self.now.since_start().min(Duration::from_secs(1 << 40))
    }

    pub(crate) fn waker(&self, handle: Handle) -> Waker {
        Waker { mailbox: Arc::clone(&self.mailbox), wakee: Wakee::Connection(handle) }
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
        self.local.ask(Asker::Connection(handle), request)
    }
}
