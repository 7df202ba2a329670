//! The successor: another process that goes on with this one's listening sockets, so that a restart refuses nobody.
//!
//! The sockets are the same ones in both processes, with the same queues. The old process goes on until the new one
//! says that it is ready; then it stops accepting and drains, and what waits in the queues is the new one's. Between
//! the two is a line: the new one says a word on it when it is ready, and the old one hangs up when it accepts no more.
//! Then the new one looks into the queues once, for a cancelled accept may have swallowed the news of a connection.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::address::Address;
use crate::listener;
use crate::wake::Mailbox;

use super::inherited::{HANDED_OVER, Listeners, set_inheritable, to_hand_over};
use super::stopper::Stopper;

/// The word by which a process says that it is ready.
const READY: u8 = b'R';

/// How often whoever waits for the other process looks whether this one is to stop.
const GLANCE: Duration = Duration::from_millis(50);

/// What of a server outlives its workers.
#[derive(Debug, Default)]
pub(super) struct Estate {
    /// Sockets that have a name.
    names: Vec<(Address, String)>,
    /// Where sockets are that live on when this server ends: the service manager's.
    others: Vec<Address>,
    /// The files of Unix sockets that are to be removed at the end: not once somebody else listens on them.
    paths: Mutex<Vec<PathBuf>>,
    /// Those that the process before this one removes for as long as this one is not ready.
    inherited: Mutex<Vec<PathBuf>>,
    /// Processes that have the listening sockets too: these are not to be made of no use, then.
    heirs: AtomicUsize,
    /// Nothing is waited for any more.
    stops: AtomicBool,
}

impl Estate {
    /// What comes with sockets that were there before.
    pub(super) fn inherited(addresses: &[Address], shared: &[Listeners]) -> Estate {
        let each = || addresses.iter().zip(shared);
        let named = each().filter(|(_, listeners)| !listeners.name.is_empty());
        let there = || each().filter(|(_, listeners)| !listeners.sockets.is_empty());
        let removed = there().filter(|(_, listeners)| listeners.ours);
        let others = there().filter(|(_, listeners)| !listeners.ours);
        Estate {
            others: others.map(|(address, _)| address.clone()).collect(),
            names: named.map(|(address, listeners)| (address.clone(), listeners.name.clone())).collect(),
            paths: Mutex::default(),
            heirs: AtomicUsize::new(0),
            inherited: Mutex::new(
                removed.filter_map(|(address, _)| address.path().map(Into::into)).collect(),
            ),
            stops: AtomicBool::new(false),
        }
    }

    /// The server is to stop at once.
    pub(super) fn stop(&self) {
        self.stops.store(true, Ordering::Relaxed);
    }

    /// There is a new file to be removed.
    pub(super) fn opened(&self, path: PathBuf) {
        locked(&self.paths).push(path);
    }

    /// The process before this one goes: what it had to remove is to be removed here.
    pub(super) fn come_into(&self) {
        locked(&self.paths).append(&mut locked(&self.inherited));
    }

    /// Takes the files that are to be removed.
    pub(super) fn take_paths(&self) -> Vec<PathBuf> {
        std::mem::take(&mut locked(&self.paths))
    }

    /// Whether another process has the listening sockets.
    pub(super) fn is_shared(&self) -> bool {
        self.heirs.load(Ordering::Acquire) > 0
    }

    fn is_ours(&self, address: &Address) -> bool {
        !self.others.contains(address)
    }
}

fn locked(paths: &Mutex<Vec<PathBuf>>) -> MutexGuard<'_, Vec<PathBuf>> {
    paths.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process that serves this server's listening sockets too, and is ready: see [`Stopper::start_successor`].
#[derive(Debug)]
pub struct Successor {
    child: Child,
    estate: Arc<Estate>,
    line: UnixStream,
}

impl Successor {
    /// The number of its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Does without it.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.estate.heirs.fetch_sub(1, Ordering::AcqRel);
        Ok(())
    }
}

/// Why another process does not take over; this one goes on as before, unless it is to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandOverError {
    /// The workers did not tell their sockets, or these could not be passed on.
    #[error("the listening sockets cannot be passed on: {0}")]
    Sockets(io::Error),
    /// It could not be started.
    #[error("{program} cannot be started: {error}")]
    Start {
        /// The program.
        program: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// It ended before it was ready.
    #[error("{program} ended before it was ready ({status}); what it said is above")]
    Ended {
        /// The program.
        program: String,
        /// How.
        status: ExitStatus,
    },
    /// It was not ready in time, and was killed.
    #[error(
        "{program} was not ready within {within:?}, and was killed: it has to give Inherited::from_env() to a server \
         and to wait for that, or to call ServerHandle::ready"
    )]
    Late {
        /// The program.
        program: String,
        /// The time it had.
        within: Duration,
    },
    /// This server was told to drain or to stop meanwhile; so the other one was stopped too, or not even started.
    #[error("{program} is not to take over any more: the server that it was started for is to stop")]
    Stopped {
        /// The program.
        program: String,
    },
}

impl Stopper {
    /// Starts `command` with the listening sockets of this server, and waits until it says that it is ready
    /// ([`ServerHandle::ready`](crate::ServerHandle::ready)); it gets them from
    /// [`Inherited::from_env`](crate::Inherited::from_env). From then on both serve, and
    /// [`hand_over`](Self::hand_over) ends this one.
    ///
    /// Not one connection is refused or reset on the way. The command is run as it is: what it is to inherit besides
    /// (arguments, standard streams) is the caller's to say. Meant for a thread that may wait. Other processes that are
    /// started from here in the same moment get the descriptors too, and do not know of them.
    ///
    /// # Errors
    /// When it does not get ready `within` that time: this server then goes on, and the process is not left behind. And
    /// when this server is told to drain or to stop meanwhile: then the process gets a SIGTERM, and is waited for; it
    /// is killed if that takes longer than `within`, or once this server is to [`stop`](Self::stop).
    pub fn start_successor(
        &self,
        mut command: Command,
        within: Duration,
    ) -> Result<Successor, HandOverError> {
        let program = command.get_program().display().to_string();
        let listeners = self.listeners(within).map_err(HandOverError::Sockets)?;
        if self.is_draining() {
            return Err(HandOverError::Stopped { program });
        }
        let (line, far) = UnixStream::pair().map_err(HandOverError::Sockets)?;
        self.pass_on(&listeners, &far, &mut command).map_err(HandOverError::Sockets)?;
        self.estate.heirs.fetch_add(1, Ordering::AcqRel);
        let started = command.spawn();
        // They are the other's now, and are not to be kept open here.
        drop((listeners, far));
        let mut child = started.map_err(|error| {
            self.estate.heirs.fetch_sub(1, Ordering::AcqRel);
            HandOverError::Start { program: program.clone(), error }
        })?;
        let heard = self.hear(&line, within);
        // Ready or not, it may have clients already.
        if self.is_draining() && matches!(heard, Ok(Some(READY)) | Err(_)) {
            self.end(&mut child, within);
            self.estate.heirs.fetch_sub(1, Ordering::AcqRel);
            return Err(HandOverError::Stopped { program });
        }
        if let Ok(Some(READY)) = heard {
            return Ok(Successor { child, estate: Arc::clone(&self.estate), line });
        }
        // Whoever has hung up may still have to say why. But it may live on: nothing of it is to stay.
        let is_late = heard.is_err();
        let ended = (!is_late).then(|| ends(&mut child)).flatten().or_else(|| {
            let _ = child.kill();
            let ended = child.wait();
            if is_late { None } else { ended.ok() }
        });
        self.estate.heirs.fetch_sub(1, Ordering::AcqRel);
        Err(match ended {
            Some(status) => HandOverError::Ended { program, status },
            None => HandOverError::Late { program, within },
        })
    }

    /// The word of the process at the other end of the line; an error when the time is over, or this server is to end.
    fn hear(&self, line: &UnixStream, within: Duration) -> io::Result<Option<u8>> {
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            line.set_read_timeout(Some(left.clamp(Duration::from_millis(1), GLANCE)))?;
            match read_one(line) {
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock
                        && !self.is_draining()
                        && Instant::now() < until => {}
                heard => return heard,
            }
        }
    }

    /// Has a process end that is not wanted any more, and waits for that.
    fn end(&self, child: &mut Child, within: Duration) {
        let until = Instant::now() + within;
        // It cannot fail but for a process that has ended.
        let _ = kill_process(Pid::from_child(child), Signal::TERM);
        while matches!(child.try_wait(), Ok(None))
            && !self.estate.stops.load(Ordering::Relaxed)
            && Instant::now() < until
        {
            std::thread::sleep(GLANCE);
        }
        // Nothing, if it has ended.
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Leaves the listening sockets to `successor` and drains, as [`drain`](Self::drain) does: who waits in their
    /// queues is the successor's, and so are the files of Unix sockets.
    pub fn hand_over(&self, successor: Successor) {
        self.estate.take_paths();
        let line = Arc::new(OwnedFd::from(successor.line));
        for mailbox in &self.mailboxes {
            mailbox.end(|letters| {
                letters.drain = true;
                letters.heir = Some(Arc::clone(&line));
            });
        }
    }

    /// Lets the next process that is started have these descriptors, and says so in its environment.
    fn pass_on(&self, listeners: &[OwnedFd], far: &UnixStream, command: &mut Command) -> io::Result<()> {
        let mut sockets = Vec::new();
        for listener in listeners {
            let address = listener::bound_address(listener)?;
            let name = self.estate.names.iter().find(|(known, _)| *known == address);
            let name = name.map(|(_, name)| name.clone()).unwrap_or_default();
            sockets.push((listener.as_raw_fd(), name, self.estate.is_ours(&address)));
            set_inheritable(listener, true)?;
        }
        set_inheritable(far, true)?;
        command.env(HANDED_OVER, to_hand_over(far.as_raw_fd(), sockets.into_iter()));
        // They were meant for this process.
        ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].iter().for_each(|name| {
            command.env_remove(name);
        });
        Ok(())
    }
}

/// How a process ended that has a second to.
fn ends(child: &mut Child) -> Option<ExitStatus> {
    (0..100).find_map(|_| {
        let ended = child.try_wait().ok().flatten();
        if ended.is_none() {
            std::thread::sleep(Duration::from_millis(10));
        }
        ended
    })
}

/// One byte; `None` at the end.
fn read_one(mut line: &UnixStream) -> io::Result<Option<u8>> {
    let mut word = [0];
    loop {
        match line.read(&mut word) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(word[0])),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Says to the process before this one that it may go, and has the workers look into the queues when it has gone.
pub(super) fn take_over(mut line: UnixStream, mailboxes: Vec<Arc<Mailbox>>) {
    if line.write_all(&[READY]).is_err() {
        // It is gone already, and so are its accepts.
        return look_again(&mailboxes);
    }
    let wait = move || {
        while let Ok(Some(_)) = read_one(&line) {}
        look_again(&mailboxes);
    };
    if let Err(error) = std::thread::Builder::new().name("predecessor".into()).spawn(wait) {
        tracing::warn!("nobody waits for the end of the process before this one: {error}");
    }
}

fn look_again(mailboxes: &[Arc<Mailbox>]) {
    mailboxes.iter().for_each(|mailbox| mailbox.post(|letters| letters.look_again = true));
}
