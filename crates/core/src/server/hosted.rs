//! A hosted server: one worker on a thread that is somebody else's, a runtime's mostly.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Waker;

use crate::address::Address;
use crate::error::ServeError;
use crate::ring::Ring;
use crate::ring::probe::Capabilities;
use crate::service::Service;
use crate::time::SystemClock;
use crate::wake::Bell;
use crate::worker::{Factory, Hosting, Turned, Worker};

use super::ring::{Opening, RingKind, open_poll, open_uring};
use super::{ListenerId, Monitor, Running, Server, ServerHandle, Serves, Start, Started, Stopper, prepare};

/// A server whose one worker is on this thread, and turns when it is told to: for a runtime that waits for other things
/// too, and whose tasks and services want to reach each other without a lock.
///
/// `campanile::host::run` drives one inside tokio; this is what it is made of, for other runtimes and loops. Whoever
/// hosts has its own epoll watch the [descriptor](AsFd) for input, and calls [`turn`](Self::turn) when that tells of
/// some, and as the last call said. Edge-triggered is enough, and nothing is to be read of the descriptor.
///
/// ```
/// use campanile_core::{Flow, Input, Output, Server, Turned};
/// use rustix::event::{PollFd, PollFlags, Timespec, poll};
///
/// let echo = |input: &mut Input<'_>, output: &mut Output<'_>| {
///     let n = input.len().min(output.room());
///     output.write(input.consume(n)).expect("no longer than the room");
///     Flow::More(1)
/// };
/// let mut server = Server::new().listen("127.0.0.1:0").host(move || echo)?;
/// # server.stop();
/// loop {
///     let wait = match server.turn()? {
///         Turned::Again => Some(Timespec { tv_sec: 0, tv_nsec: 0 }),
///         Turned::Idle(time) => time.map(|time| time.try_into().expect("no longer than a day")),
///         Turned::Ended => break,
///     };
///     // Here other things of this thread would have their turn.
///     poll(&mut [PollFd::new(&server, PollFlags::IN)], wait.as_ref()).expect("a descriptor that is open");
/// }
/// # Ok::<(), campanile_core::ServeError>(())
/// ```
///
/// Dropping it closes everything, as [`stop`](Self::stop) does, and waits for the kernel to let go of its memory: some
/// milliseconds at most, as a rule.
#[must_use = "dropping it closes everything: it is to be turned"]
pub struct Hosted {
    /// Before the handle, for the addresses are free only when it has ended.
    worker: Box<dyn Hosting>,
    announcer: OwnedFd,
    bell: Bell,
    /// The waker that the bell has.
    waker: Option<Waker>,
    handle: ServerHandle,
}

impl Server {
    /// Listens, with one worker that is on this thread and turns when it is told to. Every connection is run by
    /// `serve`, as with [`Server::serve`]: by the service that it makes, or by the future that it returns. It is never
    /// on another thread, so what it has and shares needs no lock and need not be `Send`.
    ///
    /// The number of [`workers`](Self::workers) and [`pin`](Self::pin) do not matter: the thread is the caller's.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub fn host<F: Serves<Kind> + 'static, Kind>(self, serve: F) -> Result<Hosted, ServeError> {
        let serve = Arc::new(serve);
        self.host_by(Box::new(move |_| serve.service()))
    }

    /// The same for services that differ by listener.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub fn host_with<S: Service + 'static>(
        self,
        mut make: impl FnMut(ListenerId) -> S + 'static,
    ) -> Result<Hosted, ServeError> {
        self.host_by(Box::new(move |listener| Box::new(make(ListenerId(listener)))))
    }

    fn host_by(mut self, factory: Factory) -> Result<Hosted, ServeError> {
        (self.workers, self.pin, self.hosted) = (Some(1), false, true);
        let bell = Bell::default();
        let (mut factory, mut employed) = (Some(factory), None);
        let handle = self.launch(|start, _| {
            let (worker, addresses, notices) = match start.capabilities.ring {
                RingKind::Poll => employ(start, &bell, &mut factory, open_poll)?,
                RingKind::Uring | RingKind::Auto => employ(start, &bell, &mut factory, open_uring)?,
            };
            let mailbox = Arc::clone(worker.mailbox());
            employed = Some(worker);
            Ok((Running { mailbox, thread: None }, addresses, notices))
        })?;
        let mut worker = employed.expect("one worker was started");
        let announcer = worker.announce().map_err(ServeError::RingBroke)?;
        Ok(Hosted { worker, announcer, bell, waker: None, handle })
    }
}

fn employ<R: Ring + 'static>(
    start: Start,
    bell: &Bell,
    factory: &mut Option<Factory>,
    open: impl FnOnce(&Opening<'_>) -> Result<(R, Option<String>), ServeError>,
) -> Result<Started<Box<dyn Hosting>>, ServeError> {
    let (worker, addresses, notices) = prepare(start, open, |ring, memory, config| {
        let factory = factory.take().expect("once the ring is there nothing is tried again");
        let clock = Box::new(SystemClock::new());
        Ok(Worker::hosted(bell.clone(), ring, memory, config, clock, factory))
    })?;
    Ok((Box::new(worker), addresses, notices))
}

impl Hosted {
    /// Leaves the waker that is to have [`turn`](Self::turn) called: when another thread, or something else on this
    /// one, wants something of a connection or of the server. To be called before `turn`; each replaces the one before.
    pub fn set_waker(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            self.bell.set(waker);
            self.waker = Some(waker.clone());
        }
    }

    /// Does what there is to do, up to a bound, hands over to the kernel what came of it, and says when to go on. Never
    /// waits. May be called at any time.
    ///
    /// # Errors
    /// When the ring breaks; then the server is to be dropped.
    pub fn turn(&mut self) -> Result<Turned, ServeError> {
        self.worker.turn().map_err(ServeError::RingBroke)
    }

    /// The addresses it listens on: see [`ServerHandle::addresses`].
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        self.handle.addresses()
    }

    /// What could not be as configured: see [`ServerHandle::notices`].
    #[must_use]
    pub fn notices(&self) -> &[String] {
        self.handle.notices()
    }

    /// What the kernel can do, as it was found by trying.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        self.handle.capabilities()
    }

    /// Which ring it runs on: [`RingKind::Uring`] or [`RingKind::Poll`].
    #[must_use]
    pub fn ring(&self) -> RingKind {
        self.handle.ring()
    }

    /// A sentence on what runs where, and what is not as asked.
    #[must_use]
    pub fn summary(&self) -> String {
        self.handle.summary()
    }

    /// Something that stops this server from elsewhere.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.handle.stopper()
    }

    /// Asks the worker what it counted. It answers in its next turn, so nobody is to wait for that on this thread.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        self.handle.monitor()
    }

    /// Has it close everything in its next turns: see [`ServerHandle::stop`].
    pub fn stop(&self) {
        self.handle.stop();
    }

    /// Has it finish what was begun, and end: see [`ServerHandle::drain`].
    pub fn drain(&self) {
        self.handle.drain();
    }

    /// Whether it was told to drain or to stop: see [`Stopper::is_draining`].
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.handle.is_draining()
    }

    /// Says that this server is ready to the process that it takes over from: see [`ServerHandle::ready`].
    pub fn ready(&mut self) {
        self.handle.ready();
    }
}

/// What epoll is to watch for input.
impl AsFd for Hosted {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.announcer.as_fd()
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        // Wakers that live on would keep the host's task in memory.
        self.bell.take_down();
    }
}

impl fmt::Debug for Hosted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosted").field("handle", &self.handle).finish_non_exhaustive()
    }
}
