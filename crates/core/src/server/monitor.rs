//! The monitor: asks all workers of a server what they counted, from wherever one is, and waits for none of them.
//!
//! A question is a letter to each worker. It is answered between two turns, from memory that is that worker's own; so
//! nothing is locked or counted across threads while nobody asks.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant, SystemTime};

use crate::counters::Counters;
use crate::task::WorkerHandle;
use crate::wake::{Mailbox, Waker};

use super::{RingKind, ServerHandle};

/// How long [`ServerHandle::counters`] waits for workers that are stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the workers of a server what they counted.
///
/// Clones ask the same server. There is one before the server is started ([`Server::monitor`](crate::Server::monitor)),
/// so that its own services can have it; until then nobody answers.
#[derive(Clone, Default)]
pub struct Monitor {
    started: Arc<OnceLock<Started>>,
}

struct Started {
    mailboxes: Vec<Arc<Mailbox>>,
    ring: RingKind,
    at: SystemTime,
}

/// What was asked of all workers, and what they have answered so far.
#[derive(Debug)]
pub struct Survey {
    sheet: Arc<Sheet>,
}

#[derive(Debug)]
struct Sheet {
    answers: Mutex<Answers>,
    asker: Asker,
}

#[derive(Debug)]
struct Answers {
    /// How many are still asked: one that has ended is not.
    left: usize,
    by_worker: Vec<Option<Counters>>,
}

#[derive(Debug)]
enum Asker {
    Service(Waker),
    Thread(Thread),
}

/// The question to one worker. Dropping it without an answer says that there will be none.
#[derive(Debug)]
pub(crate) struct Question {
    sheet: Arc<Sheet>,
    worker: usize,
}

impl Monitor {
    /// Asks all workers. `waker` is woken once all have answered; a worker that is stuck never does, so whoever waits
    /// for that sets a timer as well.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use campanile_core::{Context, Event, Flow, Monitor, Survey};
    ///
    /// /// Tells how many connections there are in all, without holding up its worker.
    /// fn census(monitor: Monitor) -> impl campanile_core::Service {
    ///     struct Census(Monitor, Option<Survey>);
    ///     impl campanile_core::Service for Census {
    ///         fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
    ///             let survey = self.1.get_or_insert_with(|| self.0.ask(cx.waker()));
    ///             if let Event::Open = event {
    ///                 cx.set_timer_in(Duration::from_secs(1));
    ///             }
    ///             if !survey.is_complete() && !matches!(event, Event::Timer) {
    ///                 return Flow::Wait;
    ///             }
    ///             let connections: u64 = survey.answers().iter().flatten().map(|counted| counted.connections).sum();
    ///             let _ = cx.output.write(format!("{connections}\n").as_bytes());
    ///             Flow::Finish
    ///         }
    ///     }
    ///     Census(monitor, None)
    /// }
    /// # let _ = census(Monitor::default());
    /// ```
    #[must_use]
    pub fn ask(&self, waker: Waker) -> Survey {
        self.ask_for(Asker::Service(waker))
    }

    /// When the server was started; `None` before.
    #[must_use]
    pub fn started_at(&self) -> Option<SystemTime> {
        self.started.get().map(|started| started.at)
    }

    /// What the workers run on; `None` before the server is started.
    #[must_use]
    pub fn ring(&self) -> Option<RingKind> {
        self.started.get().map(|started| started.ring)
    }

    /// The workers, to spawn tasks on; none before the server is started.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerHandle> {
        self.mailboxes().iter().map(|mailbox| WorkerHandle::new(Arc::clone(mailbox))).collect()
    }

    /// The server runs: these are its workers.
    pub(super) fn begin(&self, mailboxes: Vec<Arc<Mailbox>>, ring: RingKind) {
        // Each server is started once, with a monitor of its own.
        let _ = self.started.set(Started { mailboxes, ring, at: SystemTime::now() });
    }

    /// A worker has died, and the others are not to go on without it.
    pub(super) fn stop_all(&self) {
        self.mailboxes().iter().for_each(|mailbox| mailbox.end(|letters| letters.stop = true));
    }

    fn ask_for(&self, asker: Asker) -> Survey {
        let mailboxes = self.mailboxes();
        let answers = Answers { left: mailboxes.len(), by_worker: vec![None; mailboxes.len()] };
        let sheet = Arc::new(Sheet { answers: Mutex::new(answers), asker });
        for (worker, mailbox) in mailboxes.iter().enumerate() {
            let question = Question { sheet: Arc::clone(&sheet), worker };
            mailbox.post(|letters| letters.questions.push(question));
        }
        Survey { sheet }
    }

    fn mailboxes(&self) -> &[Arc<Mailbox>] {
        self.started.get().map_or(&[], |started| &started.mailboxes)
    }
}

impl Survey {
    /// Whether every worker that runs has answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.sheet.lock(|answers| answers.left == 0)
    }

    /// What each worker answered so far, by its number; `None` for one that has not, or has ended.
    #[must_use]
    pub fn answers(&self) -> Vec<Option<Counters>> {
        self.sheet.lock(|answers| answers.by_worker.clone())
    }
}

impl Sheet {
    fn lock<T>(&self, look: impl FnOnce(&mut Answers) -> T) -> T {
        look(&mut self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Question {
    pub(crate) fn answer(self, counters: &Counters) {
        self.sheet.lock(|answers| answers.by_worker[self.worker] = Some(*counters));
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let left = self.sheet.lock(|answers| {
            answers.left -= 1;
            answers.left
        });
        match &self.sheet.asker {
            _ if left > 0 => {}
            Asker::Service(waker) => waker.wake(),
            Asker::Thread(thread) => thread.unpark(),
        }
    }
}

impl ServerHandle {
    /// Its workers, to spawn tasks on.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerHandle> {
        self.monitor.workers()
    }

    /// What each worker has counted so far; nothing for one that has ended. Waits for the answers: a service asks by a
    /// [`monitor`](Self::monitor) instead.
    #[must_use]
    pub fn counters(&self) -> Vec<Counters> {
        let asked = Instant::now();
        let survey = self.monitor.ask_for(Asker::Thread(std::thread::current()));
        while !survey.is_complete() && asked.elapsed() < PATIENCE {
            std::thread::park_timeout(PATIENCE.saturating_sub(asked.elapsed()));
        }
        survey.answers().into_iter().flatten().collect()
    }

    /// Asks the same of the workers without waiting, for services.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("workers", &self.mailboxes().len()).finish()
    }
}
