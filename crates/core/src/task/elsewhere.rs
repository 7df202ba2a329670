//! Elsewhere: tasks on other workers, from any thread.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_channel::oneshot;

use super::{JoinError, spawn};
use crate::local::Local;
use crate::wake::Mailbox;

/// A worker, to [spawn](Self::spawn) tasks on from any thread: see [`this_worker`],
/// [`ServerHandle::workers`](crate::ServerHandle::workers) and [`Monitor::workers`](crate::Monitor::workers).
#[derive(Clone)]
pub struct WorkerHandle {
    mailbox: Arc<Mailbox>,
}

/// What came of a task on another worker, once it is over. Dropping it lets the task run on.
///
/// It is a future for any executor, and [`wait`](Self::wait) is for threads without one.
pub struct RemoteHandle<T> {
    result: oneshot::Receiver<Result<T, JoinError>>,
}

/// The worker on whose thread this is called.
///
/// # Panics
/// Outside of a worker.
#[track_caller]
#[must_use]
pub fn this_worker() -> WorkerHandle {
    WorkerHandle { mailbox: Arc::clone(Local::expect("this_worker").mailbox()) }
}

impl WorkerHandle {
    pub(crate) fn new(mailbox: Arc<Mailbox>) -> WorkerHandle {
        WorkerHandle { mailbox }
    }

    /// Whether this is called on the thread of that worker: what is to be done there can be done at once.
    #[must_use]
    pub fn is_here(&self) -> bool {
        Local::current().is_some_and(|local| Arc::ptr_eq(local.mailbox(), &self.mailbox))
    }

    /// Runs an async function as a task of that worker, as [`spawn`] does. The function is sent there, and what it
    /// returns is sent back; the future that it makes stays there, and need not be `Send`.
    ///
    /// What is sent waits in that worker's mailbox, which has no bound: who sends much waits for the answers.
    ///
    /// ```no_run
    /// use campanile_core::this_worker;
    ///
    /// # async fn example() {
    /// let here = this_worker();
    /// std::thread::spawn(move || {
    ///     let answer = here.spawn(async || 6 * 7).wait();
    ///     assert_eq!(answer, Ok(42));
    /// });
    /// # }
    /// ```
    pub fn spawn<F, T>(&self, run: F) -> RemoteHandle<T>
    where
        F: AsyncFnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (tell, result) = oneshot::channel();
        let job = Box::new(move || {
            drop(spawn(async move {
                let result = spawn(async move { run().await }).await;
                // Whoever wanted to know may have gone.
                let _ = tell.send(result);
            }));
        });
        // Once the worker has ended the letter is thrown away, and with it what would have told.
        self.mailbox.post(|letters| letters.jobs.push(job));
        RemoteHandle { result }
    }
}

impl<T> RemoteHandle<T> {
    /// Waits for it, and blocks the thread meanwhile: not for a worker's own.
    ///
    /// # Errors
    /// When the task panicked, or its worker has ended.
    pub fn wait(self) -> Result<T, JoinError> {
        struct Unpark(std::thread::Thread);
        impl std::task::Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Arc::new(Unpark(std::thread::current())).into();
        let mut this = self;
        loop {
            match Pin::new(&mut this).poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(result) => return result,
                Poll::Pending => std::thread::park(),
            }
        }
    }
}

impl<T> Future for RemoteHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.result).poll(cx).map(|result| result.unwrap_or(Err(JoinError::Cancelled)))
    }
}

impl fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerHandle").finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for RemoteHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteHandle").finish_non_exhaustive()
    }
}
