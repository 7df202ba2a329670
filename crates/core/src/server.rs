//! The server: listeners, workers, and the handle by which they are stopped.

mod end;
mod fitting;
mod hosted;
mod inherited;
mod monitor;
mod ring;
mod serving;
mod stopper;
mod successor;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use crate::address::Address;
use crate::config::Config;
use crate::error::ServeError;
use crate::guard::Panic;
use crate::listener;
use crate::operation::Memory;
use crate::refusal::Surroundings;
use crate::ring::Ring;
use crate::ring::probe::Capabilities;
use crate::time::SystemClock;
use crate::wake::Mailbox;
use crate::worker::{Factory, Listening, Worker, memory_for};

use end::End;
pub(crate) use fitting::table_len;
use fitting::{cores, fit};
pub use hosted::Hosted;
pub(crate) use monitor::Question;
pub use monitor::{Monitor, Survey};

pub use inherited::{InheritError, Inherited};
use inherited::{Listeners, Share};
pub use stopper::Stopper;
use successor::Estate;
pub use successor::{HandOverError, Successor};

use serving::Beside;
pub use serving::Serves;

use ring::{Chosen, Opening, Wanted, open_poll, open_uring};
pub use ring::{Feature, RingKind, UnknownName};

/// A server to be: what it listens on, and with how many workers.
///
/// ```no_run
/// use campanile_core::{Flow, Input, Output, Server};
///
/// # fn main() -> Result<(), campanile_core::ServeError> {
/// Server::new()
///     .listen("127.0.0.1:7000")
///     .serve(|| |input: &mut Input<'_>, output: &mut Output<'_>| {
///         let n = input.len().min(output.room());
///         output.write(input.consume(n)).expect("no longer than the room");
///         Flow::More(1)
///     })?
///     .wait()
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Server {
    addresses: Vec<Address>,
    inherited: Inherited,
    mistake: Option<ServeError>,
    workers: Option<usize>,
    pin: bool,
    ring: Option<RingKind>,
    without: Vec<Feature>,
    config: Config,
    monitor: Monitor,
    /// Its one worker is on the thread that starts it.
    hosted: bool,
    beside: Beside,
}

/// Makes a worker's factory of services, on that worker's thread.
type MakeFactory = Arc<dyn Fn(WorkerId) -> Factory + Send + Sync>;

/// The number of a worker: from zero, below the number of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(usize);

impl WorkerId {
    /// The number.
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

impl std::fmt::Display for WorkerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a listener, in the order of the calls of [`Server::listen`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(usize);

impl ListenerId {
    /// The number.
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

impl Server {
    /// A server that listens nowhere yet, with one worker per core it may use.
    #[must_use]
    pub fn new() -> Server {
        Server::default()
    }

    /// Listens on a TCP or Unix address too: `127.0.0.1:8080`, `[::]:8080`, `unix:/run/app.sock`. Port 0 takes any free
    /// port; [`ServerHandle::addresses`] tells which.
    ///
    /// Names are not looked up: `localhost:8080` is no address. A text that is none is reported when the server is
    /// started.
    #[must_use]
    pub fn listen<A: TryInto<Address>>(mut self, address: A) -> Server
    where
        ServeError: From<A::Error>,
    {
        match address.try_into() {
            Ok(address) => self.addresses.push(address),
            Err(error) => self.mistake = self.mistake.or(Some(error.into())),
        }
        self
    }

    /// Serves these sockets, which listen already: those of [`Inherited::from_env`], mostly.
    ///
    /// An address of [`listen`](Self::listen) that one of them has is served through it, and not opened (port 0 is any
    /// port they have); the other addresses are opened as ever. Those with an address that was not named are served
    /// too, as listeners behind those that were. Whatever the number of workers, each socket is served by some worker.
    /// TCP_NODELAY, the backlog and the other options of sockets in [`Config`] are set on them.
    #[must_use]
    pub fn inherit(mut self, inherited: Inherited) -> Server {
        self.inherited.extend(inherited);
        self
    }

    /// With so many workers, each a thread with a ring of its own, at least one; `None` for one per core.
    #[must_use]
    pub fn workers(mut self, workers: impl Into<Option<usize>>) -> Server {
        self.workers = workers.into().map(|workers| workers.max(1));
        self
    }

    /// Keeps each worker on a core of its own (sched_setaffinity(2)), by turns if they are more than the cores. Off by
    /// default.
    #[must_use]
    pub fn pin(mut self, pin: bool) -> Server {
        self.pin = pin;
        self
    }

    /// On this ring. If it is not said, the environment variable `CAMPANILE_RING` says it (`auto`, `uring` or `poll`),
    /// and otherwise it is [`RingKind::Auto`].
    #[must_use]
    pub fn ring(mut self, ring: RingKind) -> Server {
        self.ring = Some(ring);
        self
    }

    /// Without these features, even where the kernel has them: to see what an older kernel would do, or to get around
    /// one that has them broken. The environment variable `CAMPANILE_WITHOUT` adds to them: `bundle,budget`.
    #[must_use]
    pub fn without(mut self, features: impl IntoIterator<Item = Feature>) -> Server {
        self.without.extend(features);
        self
    }

    /// With these bounds.
    #[must_use]
    pub fn config(mut self, config: Config) -> Server {
        self.config = config;
        self
    }

    /// What asks the workers of this server, once it is started: for its own services to have.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    fn start(self, make: &MakeFactory) -> Result<ServerHandle, ServeError> {
        let all = self.monitor.clone();
        self.launch(|start, tell| {
            let end = End { id: start.id, is_well: false, tell: tell.clone(), all: all.clone() };
            start_worker(start, Arc::clone(make), end)
        })
    }

    /// Starts with workers that `launch` starts.
    fn launch(
        mut self,
        mut launch: impl FnMut(Start, &TellEnd) -> Launched,
    ) -> Result<ServerHandle, ServeError> {
        if let Some(mistake) = self.mistake.take() {
            return Err(mistake);
        }
        let line = self.inherited.line.take();
        let mut shared = std::mem::take(&mut self.inherited).settle(&mut self.addresses);
        if self.addresses.is_empty() && self.beside.is_empty() {
            return Err(ServeError::NoAddress);
        }
        let wanted = Wanted::new(self.ring, &self.without)?;
        let surroundings = Surroundings::read();
        let chosen = wanted.choose(&self.config, &surroundings)?;
        let ours: Vec<bool> = shared.iter().map(|listeners| listeners.sockets.is_empty()).collect();
        let mut started = self.launch_on(chosen, &surroundings, &mut shared, &mut launch);
        // What was found out on one small ring need not hold for one per worker.
        if let Err(ServeError::Ring(refusal)) = &started
            && let Some(instead) = wanted.instead(refusal)
        {
            let opened = shared.iter_mut().zip(ours).filter(|(_, ours)| *ours);
            opened.for_each(|(listeners, _)| listeners.sockets.clear());
            started = self.launch_on(instead, &surroundings, &mut shared, &mut launch);
        }
        started.map(|mut handle| {
            handle.line = line;
            handle
        })
    }

    fn launch_on(
        &self,
        chosen: Chosen,
        surroundings: &Surroundings,
        shared: &mut [Listeners],
        launch: &mut dyn FnMut(Start, &TellEnd) -> Launched,
    ) -> Result<ServerHandle, ServeError> {
        let cores = cores();
        let workers = self.workers.unwrap_or(cores.len());
        let Chosen { capabilities, notice } = chosen;
        let (config, fitted) = fit(self.config.clone().checked()?, workers, &capabilities, surroundings);
        let notices = notice.into_iter().chain(fitted).collect();
        probe(&self.addresses, shared)?;

        let (tell_end, ended) = mpsc::channel();
        let mut handle = ServerHandle {
            estate: Arc::new(Estate::inherited(&self.addresses, shared)),
            addresses: self.addresses.clone(),
            line: None,
            running: Vec::new(),
            ended: Mutex::new(ended),
            notices,
            capabilities: capabilities.clone(),
            monitor: self.monitor.clone(),
        };
        handle.open_shared(shared, &config)?;
        for worker in 0..workers {
            // The first finds the ports that were left to the kernel, the others share them.
            let start = Start {
                id: WorkerId(worker),
                core: self.pin.then(|| cores[worker % cores.len()]),
                addresses: handle.addresses.clone(),
                shares: shared.iter().map(|listeners| listeners.share(worker, workers)).collect(),
                config: config.clone(),
                capabilities: capabilities.clone(),
                surroundings: surroundings.clone(),
                beside: self.beside.clone(),
                hosted: self.hosted,
            };
            // An error drops the handle, which stops those that run.
            let (running, addresses, notices) = launch(start, &tell_end)?;
            handle.running.push(running);
            handle.addresses = addresses;
            for notice in notices {
                if !handle.notices.contains(&notice) {
                    handle.notices.push(notice);
                }
            }
        }
        let mailboxes = handle.running.iter().map(|running| Arc::clone(&running.mailbox)).collect();
        handle.monitor.begin(mailboxes, handle.capabilities.ring);
        for notice in &handle.notices {
            tracing::warn!("{notice}");
        }
        tracing::info!("{}", handle.headline());
        Ok(handle)
    }
}

/// What a worker is made of, on its own thread.
struct Start {
    id: WorkerId,
    core: Option<usize>,
    addresses: Vec<Address>,
    /// What it has of the listeners that are there already.
    shares: io::Result<Vec<Share>>,
    config: Config,
    capabilities: Capabilities,
    surroundings: Surroundings,
    /// The thread is somebody else's.
    hosted: bool,
    beside: Beside,
}

/// A worker that runs.
#[derive(Debug)]
struct Running {
    mailbox: Arc<Mailbox>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// What a worker's thread has to tell: what it is reached by, where it listens, and what could not be as asked.
type Started<T> = (T, Vec<Address>, Vec<String>);

/// What came of starting a worker.
type Launched = Result<Started<Running>, ServeError>;

/// Tells which worker has ended.
type TellEnd = mpsc::Sender<WorkerId>;

fn start_worker(start: Start, make: MakeFactory, end: End) -> Launched {
    let (report, started) = mpsc::channel();
    let name = format!("campanile-{}", start.id.0);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        let mut end = end;
        let _span = tracing::info_span!("worker", id = start.id.0).entered();
        match start.capabilities.ring {
            RingKind::Poll => work(start, &make, open_poll, &report, &mut end),
            RingKind::Uring | RingKind::Auto => work(start, &make, open_uring, &report, &mut end),
        }
    });
    let thread = thread.map_err(ServeError::Thread)?;
    let started: Result<Result<Started<Arc<Mailbox>>, ServeError>, _> = started.recv();
    if let Ok(Ok((mailbox, addresses, notices))) = started {
        return Ok((Running { mailbox, thread: Some(thread) }, addresses, notices));
    }
    match (thread.join(), started) {
        (Err(thrown), _) => Err(ServeError::WorkerPanicked(Panic::of(thrown))),
        (Ok(_), Ok(Err(error))) => Err(error),
        (Ok(ended), _) => Err(ServeError::Thread(ended.err().unwrap_or(io::ErrorKind::Other.into()))),
    }
}

/// What a worker's thread does: makes the worker, tells that it is there, and runs it.
fn work<R: Ring>(
    start: Start,
    make: &MakeFactory,
    open: impl FnOnce(&Opening<'_>) -> Result<(R, Option<String>), ServeError>,
    report: &mpsc::Sender<Result<Started<Arc<Mailbox>>, ServeError>>,
    end: &mut End,
) -> io::Result<()> {
    let id = start.id;
    let employ =
        |ring, memory, config| Worker::new(ring, memory, config, Box::new(SystemClock::new()), || make(id));
    match prepare(start, open, employ) {
        Ok((mut worker, addresses, notices)) => {
            let _ = report.send(Ok((Arc::clone(worker.mailbox()), addresses, notices)));
            tracing::debug!("the worker runs");
            let ran = worker.run();
            end.is_well = ran.is_ok();
            match &ran {
                Ok(()) => tracing::debug!("the worker has ended"),
                Err(error) => tracing::error!("the worker's ring broke, and the server stops: {error}"),
            }
            ran
        }
        Err(error) => {
            let _ = report.send(Err(error));
            Ok(())
        }
    }
}

/// Makes the worker, on its own thread: ring, memory, listeners, and by `employ` what joins them.
fn prepare<R: Ring>(
    start: Start,
    open: impl FnOnce(&Opening<'_>) -> Result<(R, Option<String>), ServeError>,
    employ: impl FnOnce(R, Memory, Config) -> io::Result<Worker<R>>,
) -> Result<Started<Worker<R>>, ServeError> {
    if let Some(core) = start.core {
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        rustix::thread::sched_setaffinity(None, &set).map_err(|error| ServeError::Thread(error.into()))?;
    }
    let config = start.config;
    let mut memory = memory_for(&config);
    let (mut ring, notice) = open(&Opening {
        config: &config,
        capabilities: &start.capabilities,
        surroundings: &start.surroundings,
        memory: &memory,
        hosted: start.hosted,
    })?;
    let (listeners, addresses) =
        open_listeners(&start.addresses, start.shares, &config, &mut ring, &mut memory)?;
    let queue = listener::queue_len(&config);
    let beside = start.beside;
    let mut worker = employ(ring, memory, config).map_err(ServeError::RingBroke)?;
    for (number, listener, ours) in listeners {
        worker.listen(Listening::owned(number, listener, queue, ours));
    }
    beside.spawn(start.id, worker.local());
    Ok((worker, addresses, notice.into_iter().collect()))
}

/// A worker's listeners, each with the number of its address and whether nobody has it afterwards; and the addresses
/// that they have.
type Opened = (Vec<(usize, OwnedFd, bool)>, Vec<Address>);

fn open_listeners(
    addresses: &[Address],
    shares: io::Result<Vec<Share>>,
    config: &Config,
    ring: &mut dyn Ring,
    memory: &mut Memory,
) -> Result<Opened, ServeError> {
    let mut listeners = Vec::new();
    let mut bound = Vec::new();
    for ((number, address), share) in addresses.iter().enumerate().zip(shares.map_err(ServeError::Thread)?) {
        let ours = share.ours;
        let opened = share.open(address, config, ring, memory)?;
        let real = opened.first().map_or(Ok(address.clone()), listener::bound_address);
        bound.push(real.map_err(|error| ServeError::Listen { address: address.clone(), error })?);
        listeners.extend(opened.into_iter().map(|listener| (number, listener, ours)));
    }
    Ok((listeners, bound))
}

/// Checks that nobody has an address that is to be opened.
fn probe(addresses: &[Address], shared: &[Listeners]) -> Result<(), ServeError> {
    let opened = addresses.iter().zip(shared).filter(|(_, listeners)| listeners.sockets.is_empty());
    opened.map(|(address, _)| address).try_for_each(listener::probe)
}

/// A server that runs. Dropping it stops it, as [`stop`](Self::stop) does, and waits until it has ended.
///
/// A signal such as SIGTERM ends the process at once, unless something heeds it: a [`Stopper`] is for the thread that
/// does, as in `examples/http-server/signals.rs`.
#[derive(Debug)]
#[must_use = "dropping it stops the server: call `wait`"]
pub struct ServerHandle {
    addresses: Vec<Address>,
    estate: Arc<Estate>,
    /// To the process that waits until this one is ready.
    line: Option<UnixStream>,
    running: Vec<Running>,
    /// Which worker has ended, as they do.
    ended: Mutex<mpsc::Receiver<WorkerId>>,
    notices: Vec<String>,
    capabilities: Capabilities,
    monitor: Monitor,
}

impl ServerHandle {
    /// The addresses it listens on, in the order of the calls of [`Server::listen`], with the ports the kernel chose.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// What could not be as configured, and what was done instead; mostly nothing.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// What the kernel can do, as it was found by trying.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Which ring it runs on: [`RingKind::Uring`] or [`RingKind::Poll`].
    #[must_use]
    pub fn ring(&self) -> RingKind {
        self.capabilities.ring
    }

    /// A sentence on what runs where, and what is not as asked.
    #[must_use]
    pub fn summary(&self) -> String {
        self.notices.iter().fold(self.headline(), |summary, notice| format!("{summary}\nnote: {notice}"))
    }

    fn headline(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(Address::to_string).collect();
        let addresses = if addresses.is_empty() { "nothing".to_owned() } else { addresses.join(", ") };
        let workers = self.running.len();
        let s = if workers == 1 { "" } else { "s" };
        format!("listening on {} with {workers} worker{s} on {}", addresses, self.ring())
    }

    /// Something that stops this server, for a signal handler or another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        let mailboxes = self.running.iter().map(|running| Arc::clone(&running.mailbox)).collect();
        Stopper { mailboxes, estate: Arc::clone(&self.estate) }
    }

    /// Closes everything now: services are told [`Reason::ServerStopped`](crate::Reason), and nothing more is sent.
    /// Does not wait for it; [`wait`](Self::wait) does.
    pub fn stop(&self) {
        self.stopper().stop();
    }

    /// Whether it was told to drain or to stop: see [`Stopper::is_draining`].
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.stopper().is_draining()
    }

    /// Stops accepting and tells every service to finish ([`Event::Drain`](crate::Event)); what is not finished after
    /// [`Config::drain_time`] is closed. A client that keeps its end open after the service finished is waited for as
    /// long as [`Config::linger_time`]. Does not wait for it; [`wait`](Self::wait) does.
    pub fn drain(&self) {
        self.stopper().drain();
    }

    /// Says that this server is ready to the process that it takes over from, if there is one; that one goes then
    /// ([`Stopper::start_successor`]). [`wait`](Self::wait) says it too.
    pub fn ready(&mut self) {
        if let Some(line) = self.line.take() {
            self.estate.come_into();
            successor::take_over(line, self.stopper().mailboxes);
        }
    }

    /// Waits until the server has ended, because it was stopped or because it broke.
    ///
    /// # Errors
    /// When a worker ended by itself; the others are stopped then.
    pub fn wait(mut self) -> Result<(), ServeError> {
        self.ready();
        self.join()
    }

    fn join(&mut self) -> Result<(), ServeError> {
        let mut result = Ok(());
        while self.running.iter().any(|running| running.thread.is_some()) {
            // Whoever ends first is heard first: the others are not to run on without it.
            let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(WorkerId(at)) = ended else { break };
            let Some(thread) = self.running.get_mut(at).and_then(|running| running.thread.take()) else {
                continue;
            };
            let ended = match thread.join() {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(ServeError::RingBroke(error)),
                Err(thrown) => Err(ServeError::WorkerPanicked(Panic::of(thrown))),
            };
            if ended.is_err() {
                self.stop();
            }
            result = result.and(ended);
        }
        for path in self.estate.take_paths() {
            // Ours, and nobody listens on it any more.
            let _ = std::fs::remove_file(path);
        }
        result
    }

    /// Prepares the listeners that are there already, and opens the others that workers share: the Unix ones.
    fn open_shared(&self, shared: &mut [Listeners], config: &Config) -> Result<(), ServeError> {
        for (address, listeners) in self.addresses.iter().zip(shared) {
            for listener in &listeners.sockets {
                listener::prepare_inherited(listener, address, config)?;
            }
            if let (Some(path), true) = (address.path(), listeners.sockets.is_empty()) {
                listeners.sockets.push(listener::open_unix(path, config)?);
                self.estate.opened(path.into());
            }
        }
        Ok(())
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.stop();
        // Whoever drops a handle does not want to know how it ended.
        let _ = self.join();
    }
}
