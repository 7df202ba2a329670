//! Wakers and the mailbox: how other threads reach a worker.
//!
//! A wake carries no data. Whoever wakes puts a letter into the worker's mailbox and, if no kick is on its way
//! already, kicks the ring awake; the worker's request path never looks at any of it. The order on both sides is what
//! makes a wake impossible to lose: the waker puts the letter in *before* it looks at the flag, the worker clears the
//! flag *before* it takes the letters out.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use crate::desk::Handle;
use crate::local::Local;
use crate::server::Question;
use crate::task::TaskId;

/// Gets a ring out of its wait, from any thread.
pub(crate) trait Kick: Send + Sync {
    fn kick(&self);
}

/// Gets the host of a worker to call it: by the waker that the host left here. A worker that is called looks into its
/// mailbox, so a kick that finds no waker yet is not lost.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bell(Arc<Mutex<Option<std::task::Waker>>>);

impl Bell {
    /// The host is gone.
    pub(crate) fn take_down(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(crate) fn set(&self, waker: &std::task::Waker) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *known {
            Some(known) => known.clone_from(waker),
            None => *known = Some(waker.clone()),
        }
    }
}

impl Kick for Bell {
    fn kick(&self) {
        // Not under the lock: what a waker does is not ours to know.
        let waker = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        waker.into_iter().for_each(std::task::Waker::wake);
    }
}
/// Who is woken: the service of a connection, or a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wakee {
    Connection(Handle),
    Task(TaskId),
}

/// Something to be done on a worker's thread.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// What other threads want of a worker.
#[derive(Default)]
pub(crate) struct Letters {
    /// Connections and tasks to wake, each once.
    pub(crate) wakes: BTreeSet<Wakee>,
    /// What is to be done there: tasks to spawn.
    pub(crate) jobs: Vec<Job>,
    /// Stop accepting and tell every service to finish.
    pub(crate) drain: bool,
    /// With it: another process has the listeners too.
    pub(crate) shared: bool,
    /// With it: another process serves the listeners from now on, and is told when this one accepts no more.
    pub(crate) heir: Option<Arc<OwnedFd>>,
    /// Close everything and end.
    pub(crate) stop: bool,
    /// Who wants to know what was counted.
    pub(crate) questions: Vec<Question>,
    /// Who wants to know that the worker is there.
    pub(crate) roll_calls: Vec<mpsc::Sender<()>>,
    /// Who wants the listeners too: another descriptor of each.
    pub(crate) listeners: Vec<mpsc::Sender<io::Result<OwnedFd>>>,
    /// Look at the queues of the listeners, even if nobody says that somebody came.
    pub(crate) look_again: bool,
}

/// A worker's mailbox.
pub(crate) struct Mailbox {
    letters: Mutex<Letters>,
    /// A kick is on its way that the worker has not answered yet.
    kicked: AtomicBool,
    /// The worker has ended: nobody looks any more, so letters are thrown away by whoever puts them in.
    closed: AtomicBool,
    kick: Box<dyn Kick>,
    /// The worker was told to drain or to stop: for whoever wants to know whether new clients are welcome.
    is_draining: AtomicBool,
}

impl Mailbox {
    pub(crate) fn new(kick: Box<dyn Kick>) -> Mailbox {
        Mailbox {
            letters: Mutex::default(),
            kicked: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            kick,
            is_draining: AtomicBool::new(false),
        }
    }

    /// Has the worker stop: when what was begun is finished, or now.
    pub(crate) fn end(&self, write: impl FnOnce(&mut Letters)) {
        // First, so that nobody is told to come who then finds nobody.
        self.is_draining.store(true, Ordering::Relaxed);
        self.post(write);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Puts something in, and gets the worker to look.
    pub(crate) fn post(&self, write: impl FnOnce(&mut Letters)) {
        write(&mut self.letters.lock().unwrap_or_else(PoisonError::into_inner));
        if !self.kicked.swap(true, Ordering::AcqRel) {
            self.kick.kick();
        }
        if self.closed.load(Ordering::Acquire) {
            self.collect();
        }
    }

    /// The worker has ended. A letter is either thrown away here, or put in after the lock was released here, and
    /// then whoever puts it in sees the flag.
    pub(crate) fn close(&self) -> Letters {
        self.closed.store(true, Ordering::Release);
        self.collect()
    }

    /// Whether a letter waits that the worker was kicked for: what one looks at that is kicked by a [`Bell`].
    pub(crate) fn is_kicked(&self) -> bool {
        self.kicked.load(Ordering::Acquire)
    }

    /// Takes everything out: what the worker does when it was kicked.
    pub(crate) fn collect(&self) -> Letters {
        self.kicked.store(false, Ordering::Release);
        // The store above must not sink below the lock's release, and it cannot: unlocking is a release.
        std::mem::take(&mut self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("kicked", &self.kicked).finish_non_exhaustive()
    }
}

/// Brings [`Event::Wake`](crate::Event::Wake) to one connection, from any thread.
///
/// Any number of wakes before the service is called are one event. Waking a connection that is over does nothing.
/// Converts into a [`std::task::Waker`]. On the worker's own thread, while that has its turn, a wake takes no lock and
/// no system call.
#[derive(Debug, Clone)]
pub struct Waker {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) wakee: Wakee,
}

impl Waker {
    /// Wakes the connection.
    pub fn wake(&self) {
        if !Local::wake_here(&self.mailbox, self.wakee) {
            self.mailbox.post(|letters| {
                letters.wakes.insert(self.wakee);
            });
        }
    }
}

impl std::task::Wake for Waker {
    fn wake(self: Arc<Self>) {
        Waker::wake(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        Waker::wake(self);
    }
}

impl From<Waker> for std::task::Waker {
    fn from(waker: Waker) -> std::task::Waker {
        std::task::Waker::from(Arc::new(waker))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, AtomicU64};

    use super::*;
    use crate::token::Generation;

    /// Counts kicks, as an eventfd does.
    #[derive(Default)]
    struct Kicks(AtomicU64);

    impl Kick for Arc<Kicks> {
        fn kick(&self) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Letters come in pairs, the second while the first is being collected. Then nothing comes until both are there,
    /// so that no later kick brings a letter along that was lost.
    #[test]
    fn no_letter_is_lost_between_threads() {
        const PAIRS: u32 = if cfg!(miri) { 20 } else { 50_000 };
        let kicks = Arc::new(Kicks::default());
        let mailbox = Mailbox::new(Box::new(Arc::clone(&kicks)));
        let (posted, received, lost) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for pair in 0..PAIRS {
                    for slot in [2 * pair, 2 * pair + 1] {
                        mailbox.post(|letters| {
                            let handle = Handle { slot, generation: Generation::default() };
                            letters.wakes.insert(Wakee::Connection(handle));
                        });
                        (0..pair % 200).for_each(|_| std::hint::spin_loop());
                    }
                    posted.store(2 * pair + 2, Ordering::Release);
                    while received.load(Ordering::Acquire) < 2 * pair + 2 {
                        if lost.load(Ordering::Acquire) {
                            return;
                        }
                        std::thread::yield_now();
                    }
                }
            });
            while received.load(Ordering::Acquire) < 2 * PAIRS {
                // Both letters of a pair are there, so whatever is to kick for them has kicked.
                let are_there = posted.load(Ordering::Acquire) > received.load(Ordering::Acquire);
                if kicks.0.swap(0, Ordering::AcqRel) > 0 {
                    received.fetch_add(mailbox.collect().wakes.len() as u32, Ordering::AcqRel);
                } else if are_there {
                    return lost.store(true, Ordering::Release);
                } else {
                    std::thread::yield_now();
                }
            }
        });
        assert!(!lost.into_inner(), "a letter waits, and nobody was kicked");
    }
}
