//! The awaiter: the service of a simulated life that does with a future what the storer does by events, drops it
//! somewhere in the middle, and begins anew.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, Waker};

use bytes::Bytes;

use crate::fs::{self, OpenFile};
use crate::ring::simulated::faults::Recovery;
use crate::ring::simulated::random::Random;
use crate::service::{Context, Event, Flow, Service};
use crate::task::spawn;

use super::ledger::{ClientId, Ledger, first_foreign, keyed_range};
use super::services::perishable;
use super::town::store_path;

/// How often its future is dropped at most.
const MOST_DROPS: usize = 3;

/// A future is dropped before its next poll once it was polled less often than this.
const MOST_POLLS: usize = 12;

type Work = Pin<Box<dyn Future<Output = io::Result<Vec<u8>>>>>;

pub(super) struct Awaiter {
    id: ClientId,
    ledger: Ledger,
    random: Random,
    waker: Option<Waker>,
    taken: usize,
    work: Option<Work>,
    attempts: usize,
    /// Of this attempt, the polls that are left before it is dropped.
    polls: usize,
    answer: Option<Bytes>,
}

impl Awaiter {
    pub(super) fn new(id: ClientId, ledger: &Ledger, random: Random) -> Awaiter {
        Awaiter {
            id,
            ledger: ledger.clone(),
            random,
            waker: None,
            taken: 0,
            work: None,
            attempts: 0,
            polls: 0,
            answer: None,
        }
    }

    /// A file of its own for each attempt: what was dropped in the middle may go on.
    fn begin(&mut self) {
        let path = format!("{}.{}", store_path(self.id), self.attempts);
        let random = Random::new(self.random.next());
        self.work = Some(Box::pin(store(self.id, self.taken, path, self.ledger.clone(), random)));
        self.attempts += 1;
        self.polls = match self.attempts {
            ..=MOST_DROPS => self.random.below(MOST_POLLS),
            _ => usize::MAX,
        };
    }

    fn poll(&mut self) -> Poll<io::Result<Vec<u8>>> {
        let Some(waker) = &self.waker else { return Poll::Pending };
        let waker = waker.clone();
        loop {
            if self.work.is_none() {
                self.begin();
            }
            let Some(work) = &mut self.work else { return Poll::Pending };
            if self.polls > 0 {
                self.polls = self.polls.saturating_sub(1);
                return work.as_mut().poll(&mut TaskContext::from_waker(&waker));
            }
            self.ledger.saw(Recovery::FutureDropped);
            self.work = None;
        }
    }
}

impl Service for Awaiter {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        if matches!(event, Event::Closed(_)) {
            return Flow::Wait;
        }
        let bytes = cx.input.consume_all();
        let foreign = first_foreign(self.id, self.taken, bytes);
        self.ledger.check(foreign.is_none(), || format!("client {}: stored a foreign byte", self.id));
        self.taken += bytes.len();
        if !cx.input.is_ended() {
            return Flow::More(1);
        }
        self.waker.get_or_insert_with(|| cx.waker().into());
        if self.answer.is_none() {
            match self.poll() {
                Poll::Pending => return Flow::Wait,
                Poll::Ready(Ok(bytes)) => self.answer = Some(bytes.into()),
                Poll::Ready(Err(_)) => {
                    self.ledger.excuse(self.id, "the file could not be written");
                    return Flow::Abort;
                }
            }
        }
        match self.answer.take().map(|answer| cx.output.send(answer)) {
            Some(Err(answer)) => {
                self.answer = Some(answer);
                Flow::Room
            }
            _ => Flow::Finish,
        }
    }
}

/// Writes the first bytes of a client to a file, some of them by tasks, syncs them, and reads them back.
async fn store(
    id: ClientId,
    len: usize,
    path: String,
    ledger: Ledger,
    mut random: Random,
) -> io::Result<Vec<u8>> {
    let open = OpenFile::at(&path).read(true).write(true).create_new(true);
    let file = open.open().await?;
    let mut tasks = Vec::new();
    let mut at = 0;
    let written = loop {
        if at == len {
            break Ok(());
        }
        let n = random.between(1, len - at);
        let bytes = perishable(keyed_range(id, at..at + n));
        if tasks.len() < 2 && random.chance(512) {
            let (file, at) = (file.clone(), at as u64);
            tasks.push(spawn(async move { file.write_at(at, bytes).await }));
        } else if let Err(error) = file.write_at(at as u64, bytes).await {
            break Err(error);
        }
        at += n;
    };
    let told = |result: io::Result<()>| {
        let interrupted = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        // What is interrupted time and again is given up, and that has no other reason.
        if result.as_ref().is_err_and(|error| !interrupted(error)) {
            ledger.file_failed(path.clone());
        }
        result
    };
    told(written)?;
    for task in tasks {
        told(task.await.map_err(io::Error::other)?)?;
    }
    told(if random.chance(512) { file.sync_data().await } else { file.sync_all().await })?;
    ledger.synced(id, path.clone(), len);
    let stat = file.stat().await?;
    ledger.check(stat.len == len as u64, || format!("{path}: {} of {len} bytes", stat.len));
    // By another name, as a file that is to appear at once and complete.
    let place = format!("{path}.whole");
    fs::rename(&path, &place).await?;
    let gone = fs::read(&path).await;
    ledger.check(gone.is_err(), || format!("{path}: still there"));
    let whole = fs::read(&place).await?;
    drop(file);
    fs::remove_file(&place).await?;
    Ok(whole)
}
