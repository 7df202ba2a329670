//! Serving: what a server runs on its connections, and beside them.

use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use super::{ListenerId, MakeFactory, Server, ServerHandle, WorkerId};
use crate::error::ServeError;
use crate::local::Local;
use crate::service::Service;
use crate::stream::endpoint::{Endpoint, Handle};
use crate::stream::{Ending, Outcome, Stream};
use crate::task::Work;

/// Makes what runs beside the connections of a worker, on its thread.
type MakeTask = Arc<dyn Fn(WorkerId) -> Work + Send + Sync>;

/// What each worker runs beside its connections.
#[derive(Clone, Default)]
pub(super) struct Beside(Vec<MakeTask>);

impl Beside {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Spawns all of it on a worker.
    pub(super) fn spawn(&self, worker: WorkerId, local: &Rc<Local>) {
        let _turn = local.enter();
        for task in &self.0 {
            drop(crate::task::spawn_on(local, task(worker)));
        }
    }
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Beside").field(&self.0.len()).finish()
    }
}

/// What is run on each connection: a function that makes a [`Service`], or an async function that is given the
/// [`Stream`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be run on connections",
    label = "neither makes services nor handles streams",
    note = "pass a function that makes a `Service`, `|| |input: &mut Input<'_>, output: &mut Output<'_>| ...`",
    note = "or an async one of a stream, `async |mut stream: Stream| {{ ... }}`, with the type written out"
)]
pub trait Serves<Kind> {
    #[doc(hidden)]
    fn service(self: &Arc<Self>) -> Box<dyn Service>;
}

/// Tells functions that make services from others.
#[doc(hidden)]
pub struct ByService<S>(PhantomData<S>);

/// Tells async functions from others.
#[doc(hidden)]
pub struct ByStream<T, R>(PhantomData<(T, R)>);

impl<S> fmt::Debug for ByService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByService")
    }
}

impl<T, R> fmt::Debug for ByStream<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByStream")
    }
}

impl<F, S> Serves<ByService<S>> for F
where
    F: Fn() -> S + 'static,
    S: Service + 'static,
{
    fn service(self: &Arc<Self>) -> Box<dyn Service> {
        Box::new(self())
    }
}

impl<F, T, R> Serves<ByStream<T, R>> for F
where
    F: AsyncFn(T) -> R + 'static,
    T: From<Stream> + 'static,
    R: Outcome + 'static,
{
    fn service(self: &Arc<Self>) -> Box<dyn Service> {
        let this = Arc::clone(self);
        handled(Box::new(move |stream| Box::pin(async move { Ending::of(this(stream.into()).await) })))
    }
}

fn handled(handle: Handle) -> Box<dyn Service> {
    Box::new(Endpoint::handled(handle))
}

impl Server {
    /// Runs an async function on each worker when that starts, beside its connections: health checks, clocks, sockets
    /// for datagrams. It is a task as of [`spawn`](crate::spawn), and is dropped when the server stops.
    #[must_use]
    pub fn on_start<F>(mut self, run: F) -> Server
    where
        F: AsyncFn(WorkerId) + Send + Sync + 'static,
    {
        let run = Arc::new(run);
        self.beside.0.push(Arc::new(move |worker| {
            let run = Arc::clone(&run);
            Box::pin(async move { run(worker).await })
        }));
        self
    }

    /// Starts, and returns when it listens: every connection is run by `serve`, on the worker that accepted it: by the
    /// service that it makes, or by the future that it returns.
    ///
    /// ```no_run
    /// use campanile_core::{Server, Stream};
    ///
    /// let echo = async |mut stream: Stream| -> std::io::Result<()> {
    ///     while stream.fill(1).await? > 0 {
    ///         let bytes = stream.take(usize::MAX);
    ///         stream.send(bytes).await?;
    ///     }
    ///     Ok(())
    /// };
    /// Server::new().listen("127.0.0.1:7000").serve(echo)?.wait()
    /// # ; Ok::<(), campanile_core::ServeError>(())
    /// ```
    ///
    /// # Errors
    /// When an address cannot be listened on, or the kernel refuses a ring; nothing is left running then.
    pub fn serve<F, Kind>(self, serve: F) -> Result<ServerHandle, ServeError>
    where
        F: Serves<Kind> + Send + Sync + 'static,
    {
        let serve = Arc::new(serve);
        let factory: MakeFactory = Arc::new(move |_| {
            let serve = Arc::clone(&serve);
            Box::new(move |_| serve.service())
        });
        self.start(&factory)
    }

    /// Starts: `state` is called once on each worker's thread, and what it returns is that worker's own; `make` makes
    /// the service of each of its connections from it. So state per core needs no lock and need not be `Send`. It may
    /// [spawn](crate::spawn) what looks after it.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub fn serve_with<T: 'static, S: Service + 'static>(
        self,
        state: impl Fn(WorkerId) -> T + Send + Sync + 'static,
        make: impl Fn(&mut T, ListenerId) -> S + Send + Sync + 'static,
    ) -> Result<ServerHandle, ServeError> {
        let make = Arc::new(make);
        let factory: MakeFactory = Arc::new(move |worker| {
            let make = Arc::clone(&make);
            let mut state = state(worker);
            Box::new(move |listener| Box::new(make(&mut state, ListenerId(listener))))
        });
        self.start(&factory)
    }

    /// The same for an async handler, which shares the state of its worker with those of other connections, and with
    /// the tasks that `state` may [`spawn`](crate::spawn). Two connections of one client may be on different workers,
    /// and see different states then.
    ///
    /// ```no_run
    /// use std::cell::Cell;
    /// use std::rc::Rc;
    ///
    /// use campanile_core::{Server, Stream};
    ///
    /// let count = async |visits: Rc<Cell<u64>>, mut stream: Stream| {
    ///     visits.set(visits.get() + 1);
    ///     stream.write(format!("{} of this worker\n", visits.get()).as_bytes()).await
    /// };
    /// Server::new().listen("127.0.0.1:7000").handle_with(|_| Rc::new(Cell::new(0)), count)?.wait()
    /// # ; Ok::<(), campanile_core::ServeError>(())
    /// ```
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub fn handle_with<T: 'static, S, R>(
        self,
        state: impl Fn(WorkerId) -> Rc<T> + Send + Sync + 'static,
        handle: impl AsyncFn(Rc<T>, S) -> R + Send + Sync + 'static,
    ) -> Result<ServerHandle, ServeError>
    where
        S: From<Stream> + 'static,
        R: Outcome + 'static,
    {
        let handle = Arc::new(handle);
        let factory: MakeFactory = Arc::new(move |worker| {
            let (handle, state) = (Arc::clone(&handle), state(worker));
            Box::new(move |_| {
                let (handle, state) = (Arc::clone(&handle), Rc::clone(&state));
                handled(Box::new(move |stream| {
                    Box::pin(async move { Ending::of(handle(state, stream.into()).await) })
                }))
            })
        });
        self.start(&factory)
    }

    /// Starts a server that need not listen anywhere: it runs what [`on_start`](Self::on_start) says, and what is
    /// [spawned on its workers](ServerHandle::workers), until it is stopped.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub fn run(self) -> Result<ServerHandle, ServeError> {
        self.on_start(async |_| {}).serve(async |_: Stream| {})
    }
}
