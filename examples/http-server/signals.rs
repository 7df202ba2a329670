//! The signals: the first stops the server when what was begun is finished, the second at once.

use std::io;
use std::thread;

use campanile::Stopper;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Lets Ctrl-C and SIGTERM stop the server.
pub(crate) fn stop_by(stopper: Stopper) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let wait = move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            tracing::info!("stopping when what was begun is finished; another signal stops at once");
            stopper.drain();
        }
        if signals.next().is_some() {
            tracing::info!("stopping at once");
            stopper.stop();
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}
