//! The service manager: what systemd is told (sd_notify(3)). Without one nobody listens, and nothing is done. Once
//! another process is the main one, this one says nothing more: it would be taken for the other's word
//! (`NotifyAccess=all`).

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use campanile::Stopper;
use sd_notify::NotifyState::{MainPid, Ready, Reloading, Stopping, Watchdog};
use sd_notify::{NotifyState, notify};

/// Another process is the main one. Locked while something is said, so that nothing is said after the last word.
static IS_OVER: Mutex<bool> = Mutex::new(false);

/// The server is ready; and from now on, if there is a watchdog, that all its workers answer (`WatchdogSec=`).
pub(crate) fn ready(stopper: Stopper) -> io::Result<()> {
    tell(&[Ready]);
    if let Some(period) = sd_notify::watchdog_enabled() {
        thread::Builder::new().name("watchdog".into()).spawn(move || watch(&stopper, period))?;
    }
    Ok(())
}

/// It does not take new clients any more.
pub(crate) fn stopping() {
    tell(&[Stopping]);
}

/// It is busy with `reload`, and goes on then (`Type=notify-reload`).
pub(crate) fn reloading(reload: impl FnOnce()) {
    // The time tells this from earlier ones. Without it the manager would wait for one.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[Reloading, now]);
    }
    reload();
    tell(&[Ready]);
}

/// Another process is the one to look after: said by this one, for the manager does not listen to the other yet
/// (`NotifyAccess=main`).
pub(crate) fn main_process_is(id: u32) {
    let mut is_over = is_over();
    tell_now(&[Ready, MainPid(id)]);
    *is_over = true;
}

/// Says that all is well twice in each period, for as long as every worker answers and this is the main process.
fn watch(stopper: &Stopper, period: Duration) {
    while !*is_over() {
        if stopper.answers(period / 4) {
            tell(&[Watchdog]);
        } else {
            tracing::error!("a worker does not answer: the watchdog is not told that all is well");
        }
        thread::sleep(period / 2);
    }
}

fn is_over() -> MutexGuard<'static, bool> {
    IS_OVER.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tell(what: &[NotifyState<'_>]) {
    let is_over = is_over();
    if !*is_over {
        tell_now(what);
    }
}

fn tell_now(what: &[NotifyState<'_>]) {
    if let Err(error) = notify(what) {
        tracing::warn!("the service manager cannot be told: {error}");
    }
}
