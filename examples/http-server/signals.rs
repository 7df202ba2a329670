//! The signals: how the server is told to stop, to open its log anew, and to go on as another process.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use campanile::{HandOverError, Stopper};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::logs::Reopener;
use crate::manager;

/// How long a successor may take until it is ready.
const WITHIN: Duration = Duration::from_secs(30);

/// The attempt to hand over that is under way, or was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempt(Arc<Mutex<Option<JoinHandle<()>>>>);

impl Attempt {
    /// Starts it on a thread of its own, so that the other signals are heeded meanwhile.
    fn start(&self, stopper: &Stopper, program: &Path) {
        let mut attempt = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at under the lock: whoever waits for the end of the attempt has told the server to stop before.
        if stopper.is_draining() || attempt.as_ref().is_some_and(|attempt| !attempt.is_finished()) {
            return tracing::warn!("it is being stopped, or handed over already");
        }
        let (stopper, program) = (stopper.clone(), program.to_owned());
        *attempt = Some(thread::spawn(move || manager::reloading(|| hand_over(&stopper, &program))));
    }

    /// Waits until it is settled: the other process has taken over, or there is none. For a server that has ended.
    pub(crate) fn settle(&self) {
        let attempt = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if attempt.is_some_and(|attempt| attempt.join().is_err()) {
            tracing::error!("the thread that hands over has panicked");
        }
    }
}

/// Catches them from now on; they wait until somebody heeds them.
pub(crate) fn catch() -> io::Result<Signals> {
    Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR2])
}

/// Does what they say. The first Ctrl-C or SIGTERM stops the server when what was begun is finished, the second at
/// once; SIGHUP opens the access log anew; SIGUSR2 starts another process that takes over. The
/// attempt at that is for whoever waits for the server to settle.
pub(crate) fn heed(
    mut signals: Signals,
    stopper: Stopper,
    mut access_log: Option<Reopener>,
    successor: Option<PathBuf>,
) -> io::Result<Attempt> {
    let successor = successor.or_else(|| std::env::args_os().next().map(PathBuf::from)).unwrap_or_default();
    let attempt = Attempt::default();
    let attempts = attempt.clone();
    let heed = move || {
        let mut was_told = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => manager::reloading(|| access_log.iter_mut().for_each(Reopener::reopen)),
                SIGUSR2 => attempts.start(&stopper, &successor),
                _ if std::mem::replace(&mut was_told, true) => {
                    tracing::info!("stopping at once");
                    stopper.stop();
                }
                _ => {
                    tracing::info!("stopping when what was begun is finished; another signal stops at once");
                    stopper.drain();
                    manager::stopping();
                }
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(heed)?;
    Ok(attempt)
}

/// Starts the successor and leaves everything to it; if it does not get ready, this process goes on.
fn hand_over(stopper: &Stopper, program: &Path) {
    tracing::info!("starting {} to take over", program.display());
    let mut command = Command::new(program);
    // The watchdog is for whoever is the main process.
    command.args(std::env::args_os().skip(1)).env_remove("WATCHDOG_PID");
    match stopper.start_successor(command, WITHIN) {
        Err(stopped @ HandOverError::Stopped { .. }) => tracing::warn!("{stopped}"),
        Err(error) => tracing::error!("{error}; this process goes on"),
        Ok(successor) => {
            tracing::info!("process {} takes over", successor.id());
            manager::main_process_is(successor.id());
            stopper.hand_over(successor);
        }
    }
}
