//! The task: a future that runs on a worker by itself.
//!
//! Tasks live in slots of their worker and are polled once a turn, those that were woken, in the order of their wakes.
//! A future that one of them waits for waits on a slot of the worker too: a [`Sleep`] on its timer wheel, an errand on
//! the slot of its answer, a [`Stream`](crate::Stream) on memory between it and its connection; never on an operation
//! of the kernel's. So dropping one is always safe, at any moment.
//!
//! While a task is polled its future is taken out of the slot, so that it may spawn, wake and cancel as it likes.

mod asking;
mod elsewhere;
mod join;
mod sleep;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker as StdWaker};

use crate::guard::let_go;
use crate::local::Local;
use crate::token::Generation;
use crate::wake::{Wakee, Waker};

pub(crate) use asking::Asking;
pub use elsewhere::{RemoteHandle, WorkerHandle, this_worker};
pub use join::{JoinError, JoinHandle};
pub(crate) use sleep::Sleeps;
pub use sleep::{Elapsed, Interval, Sleep, TimeLimited, interval, now, sleep, sleep_until, timeout};

/// A task's future, as its worker sees it. What comes of it goes to its [`JoinHandle`].
pub(crate) type Work = Pin<Box<dyn Future<Output = ()>>>;

/// The name of a task within its worker: the generation tells it from whoever had its slot before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TaskId {
    slot: u32,
    generation: Generation,
}

/// The tasks of a worker.
#[derive(Default)]
pub(crate) struct Tasks {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    queue: RefCell<VecDeque<TaskId>>,
    live: Cell<u64>,
    panicked: Cell<u64>,
    /// The worker has ended: what is spawned now is dropped.
    closed: Cell<bool>,
}

#[derive(Default)]
struct Slot {
    generation: Generation,
    /// `None` while it is polled, and in a slot that is free.
    work: Option<Work>,
    waker: Option<StdWaker>,
    is_queued: bool,
    is_free: bool,
}

/// Runs `future` on this worker, beside everything else that runs there, from its next turn on.
///
/// It runs on whether or not anybody waits for its [`JoinHandle`]. When the server stops it is dropped wherever it is;
/// while the server [drains](crate::ServerHandle::drain) it goes on, but nobody waits for it. A panic in it is counted
/// and logged, and costs nobody else anything.
///
/// ```no_run
/// # async fn example() {
/// let answer = campanile_core::spawn(async { 6 * 7 });
/// assert_eq!(answer.await.expect("it does not panic"), 42);
/// # }
/// ```
///
/// # Panics
/// Outside of a worker.
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    spawn_on(&Local::expect("spawn"), future)
}

/// Lets everything else of this worker that is ready have its turn first: for a loop that always finds more to do.
///
/// A read that finds bytes, or a write that finds room, does not wait; so a handler whose client sends without a pause
/// goes on for as long as that lasts.
pub async fn yield_now() {
    let mut has_yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

pub(crate) fn spawn_on<F>(local: &Rc<Local>, future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
{
    let (work, join) = join::joined(future);
    let task = local.tasks.add(local, Box::pin(work));
    JoinHandle::new(join, Rc::clone(local), task)
}

impl Tasks {
    /// Adds a task, which is polled in the next turn. `None`, and dropped, once the worker has ended.
    pub(crate) fn add(&self, local: &Local, work: Work) -> Option<TaskId> {
        if self.closed.get() {
            let_go(work);
            return None;
        }
        let slot = self.free.borrow_mut().pop();
        let mut slots = self.slots.borrow_mut();
        let slot = slot.unwrap_or_else(|| {
            slots.push(Slot::default());
            slots.len() as u32 - 1
        });
        let place = &mut slots[slot as usize];
        let task = TaskId { slot, generation: place.generation };
        let waker = Waker { mailbox: local.mailbox().clone(), wakee: Wakee::Task(task) };
        (place.work, place.waker, place.is_free) = (Some(work), Some(waker.into()), false);
        drop(slots);
        self.live.set(self.live.get() + 1);
        self.queue(task);
        Some(task)
    }

    /// Has a task polled in this turn, or in the next if they are being polled.
    pub(crate) fn queue(&self, task: TaskId) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(task.slot as usize) else { return };
        if slot.generation == task.generation
            && !slot.is_free
            && !std::mem::replace(&mut slot.is_queued, true)
        {
            self.queue.borrow_mut().push_back(task);
        }
    }

    pub(crate) fn has_queued(&self) -> bool {
        !self.queue.borrow().is_empty()
    }

    /// One of them has panicked.
    fn count_panic(&self) {
        self.panicked.set(self.panicked.get() + 1);
    }

    /// How many have panicked.
    pub(crate) fn panicked(&self) -> u64 {
        self.panicked.get()
    }

    /// How many there are.
    pub(crate) fn live(&self) -> u64 {
        self.live.get()
    }

    /// Polls those that were woken; whoever is woken meanwhile has its turn in the next one.
    pub(crate) fn poll(&self) {
        let queued = self.queue.borrow().len();
        for _ in 0..queued {
            let next = self.queue.borrow_mut().pop_front();
            let Some(task) = next else { break };
            self.poll_one(task);
        }
    }

    fn poll_one(&self, task: TaskId) {
        let taken = {
            let mut slots = self.slots.borrow_mut();
            let slot = &mut slots[task.slot as usize];
            if slot.generation != task.generation {
                return;
            }
            slot.is_queued = false;
            slot.work.take().zip(slot.waker.clone())
        };
        let Some((mut work, waker)) = taken else { return };
        // A panic in it is caught further in, and is its end.
        if work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.free(task);
            return let_go(work);
        }
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[task.slot as usize];
        if slot.generation == task.generation {
            slot.work = Some(work);
        } else {
            // It was cancelled while it ran.
            drop(slots);
            let_go(work);
        }
    }

    /// Drops a task, wherever it is. While it is polled it is dropped after that.
    pub(crate) fn cancel(&self, task: TaskId) {
        let is_there = self
            .slots
            .borrow()
            .get(task.slot as usize)
            .is_some_and(|slot| slot.generation == task.generation && !slot.is_free);
        if is_there {
            let work = self.slots.borrow_mut()[task.slot as usize].work.take();
            self.free(task);
            let_go(work);
        }
    }

    fn free(&self, task: TaskId) {
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[task.slot as usize];
        if slot.generation != task.generation {
            return;
        }
        let waker = slot.waker.take();
        *slot = Slot { generation: slot.generation.next(), is_free: true, ..Slot::default() };
        drop(slots);
        drop(waker);
        self.free.borrow_mut().push(task.slot);
        self.live.set(self.live.get() - 1);
    }

    /// Drops all of them; from now on nobody is taken in.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        let count = self.slots.borrow().len();
        for slot in 0..count {
            let task = {
                let slots = self.slots.borrow();
                let place = &slots[slot];
                (!place.is_free).then_some(TaskId { slot: slot as u32, generation: place.generation })
            };
            if let Some(task) = task {
                self.cancel(task);
            }
        }
        self.queue.borrow_mut().clear();
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("live", &self.live.get()).finish_non_exhaustive()
    }
}
