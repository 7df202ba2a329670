//! Waiting for a server whose workers are played by threads that do nothing.

use std::time::Duration;

use super::*;
use crate::wake::Kick;

struct Nobody;

impl Kick for Nobody {
    fn kick(&self) {}
}

/// How a worker that nobody told to end comes to its end.
fn waits_for(last_words: fn() -> io::Result<()>) -> ServeError {
    let (tell, ended) = mpsc::channel();
    let monitor = Monitor::default();
    let running = [None, Some(last_words)].into_iter().enumerate().map(|(id, last_words)| {
        let mailbox = Arc::new(Mailbox::new(Box::new(Nobody)));
        let inside = Arc::clone(&mailbox);
        let (tell, all) = (tell.clone(), monitor.clone());
        let thread = std::thread::spawn(move || {
            let mut end = End { id: WorkerId(id), is_well: false, tell, all };
            if let Some(last_words) = last_words {
                return last_words();
            }
            while !inside.collect().stop {
                std::thread::sleep(Duration::from_millis(1));
            }
            end.is_well = true;
            Ok(())
        });
        Running { mailbox, thread: Some(thread) }
    });
    let handle = ServerHandle {
        addresses: Vec::new(),
        estate: Arc::default(),
        line: None,
        running: running.collect(),
        ended: Mutex::new(ended),
        notices: Vec::new(),
        capabilities: Capabilities::of_poll(),
        monitor,
    };
    handle.wait().expect_err("a worker has died")
}

#[test]
fn whoever_waits_hears_of_any_worker_that_ends() {
    let error = waits_for(|| Err(io::Error::from_raw_os_error(libc::EBADF)));
    assert!(
        matches!(&error, ServeError::RingBroke(why) if why.raw_os_error() == Some(libc::EBADF)),
        "{error}"
    );
    let error = waits_for(|| std::panic::resume_unwind(Box::new("a bug of ours")));
    assert_eq!(error.to_string(), "a worker panicked: a bug of ours");
}

#[test]
fn a_worker_that_dies_takes_the_others_with_it_though_nobody_waits() {
    let mailbox = Arc::new(Mailbox::new(Box::new(Nobody)));
    let all = Monitor::default();
    all.begin(vec![Arc::clone(&mailbox)], RingKind::Uring);
    let (tell, ended) = mpsc::channel();
    let end = |is_well| drop(End { id: WorkerId(1), is_well, tell: tell.clone(), all: all.clone() });
    end(true);
    assert!(!mailbox.collect().stop, "it was told to end");
    end(false);
    assert!(mailbox.collect().stop);
    assert_eq!(ended.try_iter().count(), 2);
}
