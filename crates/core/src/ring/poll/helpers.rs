//! The helpers: threads that do for the ring over epoll what may wait long for a disk, so that its worker goes on.
//!
//! They are there from the first such operation on, as many as are of use at a time and [`MOST`] at most, and end with
//! the ring. What they have done is told through an event descriptor that epoll watches.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::operation::Submission;
use crate::ring::plain::{self, EventKick};
use crate::token::Token;
use crate::wake::Kick;

/// The most threads of a ring. A disk that is written to by more at a time is hardly faster for it.
const MOST: usize = 4;

type Job = (Token, Submission);

/// What came of a job.
pub(super) type Done = (Token, io::Result<u32>);

/// The threads of one ring.
#[derive(Debug)]
pub(super) struct Helpers {
    /// Hung up when the ring is gone.
    jobs: Option<Sender<Job>>,
    queue: Arc<Mutex<Receiver<Job>>>,
    board: Arc<Board>,
    threads: Vec<JoinHandle<()>>,
    /// Jobs given to threads whose end was not taken note of yet.
    given: usize,
}

/// Where threads write down what they have done.
#[derive(Debug)]
struct Board {
    done: Mutex<Vec<Done>>,
    news: EventKick,
}

impl Helpers {
    /// No threads yet.
    ///
    /// # Errors
    /// When there is no descriptor for their news.
    pub(super) fn new() -> io::Result<Helpers> {
        let board = Arc::new(Board { done: Mutex::default(), news: EventKick::new()? });
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        Ok(Helpers { jobs: Some(jobs), queue, board, threads: Vec::new(), given: 0 })
    }

    /// The descriptor that can be read when there is news.
    pub(super) fn news(&self) -> BorrowedFd<'_> {
        self.board.news.descriptor()
    }

    /// Has a thread do it; `Err` if there is none to be had, and it is to be done here and now.
    pub(super) fn give(&mut self, job: Job) -> Result<(), Job> {
        if self.given >= self.threads.len() && self.threads.len() < MOST {
            self.threads.extend(self.begin_thread());
        }
        let Some(jobs) = self.jobs.as_ref().filter(|_| !self.threads.is_empty()) else { return Err(job) };
        jobs.send(job).map_err(|unsent| unsent.0)?;
        self.given += 1;
        Ok(())
    }

    /// What was done since the last time.
    pub(super) fn take(&mut self) -> Vec<Done> {
        // First, so that what is written down from now on is news again.
        self.board.news.clear();
        let done = std::mem::take(&mut *self.board.done.lock().unwrap_or_else(PoisonError::into_inner));
        self.given -= done.len();
        done
    }

    fn begin_thread(&self) -> io::Result<JoinHandle<()>> {
        let (queue, board) = (Arc::clone(&self.queue), Arc::clone(&self.board));
        thread::Builder::new().name("campanile-disk".into()).spawn(move || {
            loop {
                // Whoever waits holds the lock, and the others wait for that.
                let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok((token, submission)) = job else { return };
                let done = plain::to_disk(submission).unwrap_or(Err(io::ErrorKind::InvalidInput.into()));
                board.done.lock().unwrap_or_else(PoisonError::into_inner).push((token, done));
                board.news.kick();
            }
        })
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.jobs = None;
        // A disk that does not answer is not waited for; its worker then leaks what is named by the operation.
        if self.given == 0 {
            for thread in self.threads.drain(..) {
                // It does nothing that panics.
                let _ = thread.join();
            }
        }
    }
}
