//! The join handle: what came of a task.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker as StdWaker};

use pin_project_lite::pin_project;

use super::TaskId;
use crate::guard::{Panic, guard, let_go};
use crate::local::{Local, replace_waker};

/// What came of a task that was [spawned](crate::spawn), once it is over. Dropping it lets the task run on.
pub struct JoinHandle<T> {
    join: Rc<RefCell<Join<T>>>,
    local: Rc<Local>,
    task: Option<TaskId>,
}

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinError {
    /// It panicked.
    Panicked(Panic),
    /// It was dropped before it was done: by [`JoinHandle::abort`], or because the server stopped.
    Cancelled,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panicked(panic) => write!(f, "the task panicked: {panic}"),
            JoinError::Cancelled => f.write_str("the task was cancelled"),
        }
    }
}

impl std::error::Error for JoinError {}

pub(super) struct Join<T> {
    result: Option<Result<T, JoinError>>,
    waker: Option<StdWaker>,
}

/// Whoever brings the result; dropped without one, it was cancelled.
struct Bringer<T>(Rc<RefCell<Join<T>>>);

impl<T> Bringer<T> {
    fn bring(&self, result: Result<T, JoinError>) {
        let mut join = self.0.borrow_mut();
        if join.result.is_some() {
            return;
        }
        join.result = Some(result);
        let waker = join.waker.take();
        drop(join);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for Bringer<T> {
    fn drop(&mut self) {
        // Once the result was taken nobody looks any more.
        if Rc::strong_count(&self.0) > 1 {
            self.bring(Err(JoinError::Cancelled));
        }
    }
}

pin_project! {
    /// A future whose result goes to its join handle.
    pub(super) struct Joined<F: Future> {
        #[pin]
        future: F,
        bringer: Option<Bringer<F::Output>>,
    }
}

type Shared<T> = Rc<RefCell<Join<T>>>;

pub(super) fn joined<F: Future>(future: F) -> (Joined<F>, Shared<F::Output>) {
    let join = Rc::new(RefCell::new(Join { result: None, waker: None }));
    (Joined { future, bringer: Some(Bringer(Rc::clone(&join))) }, join)
}

impl<F: Future> Future for Joined<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let result = match guard(|| this.future.poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(panic) => {
                if let Some(local) = Local::current() {
                    local.tasks.count_panic();
                }
                tracing::error!("a task panicked: {panic}");
                Err(JoinError::Panicked(panic))
            }
        };
        if let Some(bringer) = this.bringer.take() {
            bringer.bring(result);
            // If nobody wants the result, this drops it.
            let_go(bringer);
        }
        Poll::Ready(())
    }
}

impl<T> JoinHandle<T> {
    pub(super) fn new(join: Shared<T>, local: Rc<Local>, task: Option<TaskId>) -> JoinHandle<T> {
        JoinHandle { join, local, task }
    }

    /// Drops the task, if it is not done yet.
    pub fn abort(&self) {
        if let Some(task) = self.task {
            self.local.tasks.cancel(task);
        }
    }

    /// Whether the task is over.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        // Whoever brings the result is gone when it is brought, or will not be.
        Rc::strong_count(&self.join) == 1
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut join = self.join.borrow_mut();
        if let Some(result) = join.result.take() {
            return Poll::Ready(result);
        }
        let before = replace_waker(&mut join.waker, cx.waker());
        drop(join);
        drop(before);
        Poll::Pending
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("is_finished", &self.is_finished()).finish_non_exhaustive()
    }
}
