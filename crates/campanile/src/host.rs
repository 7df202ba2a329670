//! Hosting: a worker inside of a tokio runtime, on the same thread, so that services wait for whatever tokio has.
//!
//! [`Server::host`](crate::Server::host) or [`http::host`](crate::http::host) makes the worker, and [`run`] drives it
//! as a future among others of a current-thread runtime. It costs a connection what it costs on a worker of its own:
//! sockets stay with the worker's ring, and only that ring's announcements go through tokio.
//!
//! ```
//! use std::time::Duration;
//!
//! use campanile::{Server, Stream, host};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let late = async |mut stream: Stream| {
//!     tokio::time::sleep(Duration::from_millis(5)).await;
//!     stream.write(b"hello, at last\n").await
//! };
//! let server = Server::new().listen("127.0.0.1:0").host(late)?;
//! let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # let (address, stopper) = (server.addresses()[0].tcp().unwrap(), server.stopper());
//! # let client = std::thread::spawn(move || {
//! #     let mut stream = std::net::TcpStream::connect(address).unwrap();
//! #     let said = std::io::read_to_string(&mut stream).unwrap();
//! #     stopper.stop();
//! #     said
//! # });
//! runtime.block_on(host::run(server))?;
//! # assert_eq!(client.join().unwrap(), "hello, at last\n");
//! # Ok(())
//! # }
//! ```
//!
//! # Who calls whom
//!
//! The ring signals an event descriptor when something completes, and tokio's reactor watches that. A handler that is
//! woken from outside of its worker's turn, by a task or a timer of tokio's, has the future polled that [`run`] is. In
//! a poll the worker turns until there is nothing left to do, which hands over all that it has to submit, or until
//! others are to have their turn. A worker that has still more to do then does not simply wake itself: it lets the
//! runtime park and be woken by its reactor, because that is where tokio sees timers and sockets, and tokio-uring
//! submits.
//!
//! Handlers are polled in the worker's turn, where [`sleep`](crate::sleep), [`spawn`](crate::spawn) and the like are at
//! hand beside tokio's. A task of tokio's is not: there they panic, but a [`Stream`](crate::Stream) may go there.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use campanile_core::{Hosted, ServeError, Turned};
use rustix::event::{EventfdFlags, eventfd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep};

/// Runs a hosted server until it was stopped, or has drained. Dropping the future stops it: all its connections are
/// closed then, and the kernel has let go of their memory.
///
/// It is for the thread that the server was made on: a current-thread runtime's, by `block_on` or in a
/// [`LocalSet`](tokio::task::LocalSet). The runtime has to have its I/O and its timers enabled.
///
/// # Errors
/// When tokio cannot watch the worker's descriptor, or the worker's ring breaks.
///
/// # Panics
/// Outside of a runtime, or in one without I/O or timers.
pub async fn run(server: Hosted) -> Result<(), ServeError> {
    Run::new(server).map_err(ServeError::Epoll)?.await
}

/// A hosted server, and what of tokio's has it called.
struct Run {
    server: Hosted,
    /// Readable when the worker's ring has something to tell.
    announced: AsyncFd<OwnedFd>,
    /// Readable when the worker wants to be called again at once.
    again: AsyncFd<OwnedFd>,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires, if it is awaited: in time for the worker, and perhaps before.
    due: Option<Instant>,
}

impl Run {
    fn new(mut server: Hosted) -> io::Result<Run> {
        server.ready();
        let announced = server.as_fd().try_clone_to_owned()?;
        let again = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Run {
            server,
            announced: watch(announced)?,
            again: watch(again)?,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            due: None,
        })
    }

    /// Has the worker called after this time. A timer that fires before that is left alone: moving it costs more than
    /// to look once too often.
    fn call_in(&mut self, time: Duration, cx: &mut Context<'_>) {
        let at = Instant::now() + time;
        if self.due.is_some_and(|due| due <= at) {
            return;
        }
        self.timer.as_mut().reset(at);
        self.due = Some(at);
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

impl Future for Run {
    type Output = Result<(), ServeError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        // All before the turn: what comes later has this called again.
        this.server.set_waker(cx.waker());
        for watched in [&this.announced, &this.again] {
            if let Poll::Ready(Err(error)) = heard(watched, cx) {
                return Poll::Ready(Err(ServeError::Epoll(error)));
            }
        }
        if this.due.is_some() && this.timer.as_mut().poll(cx).is_ready() {
            this.due = None;
        }
        match this.server.turn()? {
            Turned::Ended => return Poll::Ready(Ok(())),
            Turned::Again => {
                // It fails only when the counter is full, and then it is readable anyway.
                let _ = rustix::io::write(this.again.get_ref(), &1u64.to_ne_bytes());
            }
            Turned::Idle(Some(time)) => this.call_in(time, cx),
            Turned::Idle(None) => {}
        }
        Poll::Pending
    }
}

// What is deprecated is unsound for a type that names now one descriptor and now another, which an `OwnedFd` does not.
// What replaces it is unsafe to call for any type, and newer than the tokio of most programs.
#[allow(deprecated)]
fn watch(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

/// Takes note of what tokio's reactor has heard of a descriptor, until it has heard no more; then it is awaited.
/// Nothing is read: tokio is told of every signal anew (EPOLLET).
fn heard(watched: &AsyncFd<OwnedFd>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    loop {
        ready!(watched.poll_read_ready(cx))?.clear_ready();
    }
}
