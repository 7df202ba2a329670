//! The signals: how the server is told to stop, to open its log anew, and to go on as another process.

use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use campanile::Stopper;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::logs::Reopener;
use crate::manager;

/// How long a successor may take until it is ready.
const WITHIN: Duration = Duration::from_secs(30);

/// Catches them from now on; they wait until somebody heeds them.
pub(crate) fn catch() -> io::Result<Signals> {
    Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR2])
}

/// Does what they say. The first Ctrl-C or SIGTERM stops the server when what was begun is finished, the second at
/// once; SIGHUP opens the access log anew; SIGUSR2 starts another process that takes over.
pub(crate) fn heed(
    mut signals: Signals,
    stopper: Stopper,
    mut access_log: Option<Reopener>,
    successor: Option<PathBuf>,
) -> io::Result<()> {
    let successor = successor.or_else(|| std::env::args_os().next().map(PathBuf::from)).unwrap_or_default();
    let is_under_way = Arc::new(AtomicBool::new(false));
    let heed = move || {
        let mut was_told = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => manager::reloading(|| access_log.iter_mut().for_each(Reopener::reopen)),
                SIGUSR2 if stopper.is_draining() || is_under_way.swap(true, Ordering::Relaxed) => {
                    tracing::warn!("it is being stopped, or handed over already");
                }
                SIGUSR2 => {
                    let (stopper, program) = (stopper.clone(), successor.clone());
                    let is_under_way = Arc::clone(&is_under_way);
                    // On a thread of its own, so that the other signals are heeded meanwhile.
                    thread::spawn(move || {
                        manager::reloading(|| hand_over(&stopper, &program));
                        is_under_way.store(false, Ordering::Relaxed);
                    });
                }
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
    Ok(())
}

/// Starts the successor and leaves everything to it; if it does not get ready, this process goes on.
fn hand_over(stopper: &Stopper, program: &PathBuf) {
    tracing::info!("starting {} to take over", program.display());
    let mut command = Command::new(program);
    // The watchdog is for whoever is the main process.
    command.args(std::env::args_os().skip(1)).env_remove("WATCHDOG_PID");
    match stopper.start_successor(command, WITHIN) {
        Err(error) => tracing::error!("{error}; this process goes on"),
        Ok(successor) if stopper.is_draining() => {
            tracing::warn!("this server is to stop, and so is process {}", successor.id());
            if let Err(error) = successor.kill() {
                tracing::error!("it cannot be killed: {error}");
            }
        }
        Ok(successor) => {
            tracing::info!("process {} takes over", successor.id());
            manager::main_process_is(successor.id());
            stopper.hand_over(successor);
        }
    }
}
