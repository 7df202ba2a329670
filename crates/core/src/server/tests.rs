//! Waiting for a server whose workers are played by threads that do nothing.

use super::*;
use crate::wake::Kick;

struct Nobody;

impl Kick for Nobody {
    fn kick(&self) {}
}

#[test]
fn whoever_waits_hears_of_any_worker_that_ends() {
    let (tell, ended) = mpsc::channel();
    let running = [false, true].into_iter().enumerate().map(|(id, breaks)| {
        let mailbox = Arc::new(Mailbox::new(Box::new(Nobody)));
        let (inside, end) = (Arc::clone(&mailbox), End { id: WorkerId(id), tell: tell.clone() });
        let thread = std::thread::spawn(move || {
            let _end = end;
            if breaks {
                return Err(io::Error::from_raw_os_error(libc::EBADF));
            }
            while !inside.collect().stop {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        });
        Running { mailbox, thread: Some(thread) }
    });
    let handle = ServerHandle {
        addresses: Vec::new(),
        unix_paths: Vec::new(),
        running: running.collect(),
        ended: Mutex::new(ended),
        notices: Vec::new(),
        capabilities: Capabilities::of_poll(),
    };
    assert!(matches!(handle.wait(), Err(ServeError::RingBroke(_))));
}
