//! The async services of a simulated life: handlers that drop what they wait for at whatever moment, and go on.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Poll, Waker as StdWaker};
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use futures::stream::FuturesUnordered;
use futures::{SinkExt, StreamExt};

use crate::errand::{Answer, Connect, Request};
use crate::fs::{File, OpenFile};
use crate::local::Local;
use crate::ring::simulated::faults::Recovery;
use crate::ring::simulated::random::Random;
use crate::stream::endpoint::{Endpoint, Handle};
use crate::stream::{Ending, ReadHalf, Stream, WriteHalf};
use crate::task::Asking;
use crate::{connect, sleep, spawn, timeout};

use super::ledger::{ClientId, Ledger, first_foreign};
use super::services::perishable;
use super::town::{FIRST_PORT, Kind, answer_to, file_path};

pub(super) fn service_of(kind: Kind, id: ClientId, ledger: &Ledger, random: Random) -> Endpoint {
    ledger.service_born();
    let handler = Handler { id, ledger: ledger.clone(), random, at: 0 };
    let handle: Handle =
        Box::new(move |stream| Box::pin(async move { Ending::of(handler.handle(kind, stream).await) }));
    Endpoint::handled(handle)
}

/// Counted among the services until it is dropped: whatever became of its connection.
struct Handler {
    id: ClientId,
    ledger: Ledger,
    random: Random,
    at: usize,
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.ledger.service_died();
    }
}

impl Handler {
    /// Another one of the same client's.
    fn fork(&mut self) -> Handler {
        self.ledger.service_born();
        let random = Random::new(self.random.next());
        Handler { id: self.id, ledger: self.ledger.clone(), random, at: self.at }
    }

    async fn handle(mut self, kind: Kind, stream: Stream) -> io::Result<()> {
        let done = match kind {
            Kind::StreamFramed => self.framed(stream).await,
            Kind::StreamRelay => self.relay(stream).await,
            Kind::StreamFile => self.file(stream).await,
            _ => match self.random.below(4) {
                0 => self.echo(stream).await,
                1 => {
                    let mut other = self.fork();
                    drop(spawn(async move { other.echo(stream).await }));
                    return Ok(());
                }
                2 => {
                    // By wakers that are not the connection's own.
                    let mut set: FuturesUnordered<_> = [self.echo(stream)].into_iter().collect();
                    set.next().await.expect("there is one")
                }
                _ => self.split(stream).await,
            },
        };
        if done.is_err() {
            // What comes after an error is still run, on a connection or after it.
            sleep(Duration::from_millis(1)).await;
            self.ledger.saw(Recovery::WentOn);
        }
        done
    }

    fn check(&mut self, bytes: &[u8]) {
        if let Some(i) = first_foreign(self.id, self.at, bytes) {
            let (id, at) = (self.id, self.at + i);
            self.ledger.violated(format!("client {id}: foreign byte {:#x} at {at}", bytes[i]));
        }
        self.at += bytes.len();
    }

    /// Waits, loses patience after some polls, does something else, and waits for the same again.
    async fn wait<T>(&mut self, dropped: Recovery, mut make: impl AsyncFnMut() -> T) -> T {
        while self.random.chance(300) {
            let mut patience = *self.random.pick(&[0, 0, 1, 2]);
            let done = {
                let mut future = pin!(make());
                poll_fn(|cx| match future.as_mut().poll(cx) {
                    Poll::Ready(value) => Poll::Ready(Some(value)),
                    Poll::Pending if patience == 0 => Poll::Ready(None),
                    Poll::Pending => {
                        patience -= 1;
                        // Or nothing may happen that polls it again.
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    }
                })
                .await
            };
            if let Some(value) = done {
                return value;
            }
            self.ledger.saw(dropped);
            self.do_something_else().await;
        }
        make().await
    }

    async fn do_something_else(&mut self) {
        let length = Duration::from_micros(self.random.below(20_000) as u64);
        match self.random.below(8) {
            0 => sleep(length).await,
            1 if timeout(length / 2, sleep(length)).await.is_err() => {
                self.ledger.saw(Recovery::DroppedSleep);
            }
            1 => {}
            2 => self.be_woken(length).await,
            3 => {
                let task = spawn(async move {
                    sleep(length).await;
                    7
                });
                if self.random.chance(512) {
                    task.abort();
                    self.ledger.check(task.await.is_err(), || "an aborted task has a result".into());
                } else {
                    self.ledger.check(task.await == Ok(7), || "a task without its result".into());
                }
            }
            _ => {}
        }
    }

    /// Waits for another thread, which uses the wakers that it has whenever it likes: once more when nobody waits.
    async fn be_woken(&mut self, after: Duration) {
        let at = crate::now() + after;
        let late = at + Duration::from_millis(self.random.below(100) as u64);
        let mut known: Option<StdWaker> = None;
        let ledger = self.ledger.clone();
        poll_fn(move |cx| {
            if crate::now() >= at {
                return Poll::Ready(());
            }
            if known.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
                ledger.wake_at(at, cx.waker().clone());
                ledger.wake_at(late, cx.waker().clone());
                known = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// What came, some of it at a time, in one way or another; nothing at the end.
    async fn read(&mut self, from: &mut ReadHalf) -> io::Result<Bytes> {
        let n = self.random.between(1, 700);
        let bytes = if self.random.chance(512) {
            let mut buffer = vec![0; n];
            let read = self.wait(Recovery::DroppedRead, async || from.read(&mut buffer).await).await?;
            buffer.truncate(read);
            perishable(buffer)
        } else {
            self.wait(Recovery::DroppedFill, async || from.fill(1).await).await?;
            from.take(n)
        };
        self.check(&bytes);
        Ok(bytes)
    }

    async fn write(&mut self, to: &mut WriteHalf, bytes: Bytes) -> io::Result<()> {
        if self.random.chance(512) {
            self.wait(Recovery::DroppedWrite, async || to.write(&bytes).await).await?;
        } else {
            self.wait(Recovery::DroppedWrite, async || to.send(bytes.clone()).await).await?;
        }
        if self.random.chance(100) {
            self.wait(Recovery::DroppedFlush, async || to.flush().await).await?;
        }
        Ok(())
    }

    async fn copy(&mut self, from: &mut ReadHalf, to: &mut WriteHalf) -> io::Result<()> {
        loop {
            let bytes = self.read(from).await?;
            if bytes.is_empty() {
                break;
            }
            self.write(to, bytes).await?;
        }
        // Dropped, it has ended all the same.
        to.shutdown().await
    }

    async fn echo(&mut self, stream: Stream) -> io::Result<()> {
        let (mut from, mut to) = stream.into_split();
        self.copy(&mut from, &mut to).await
    }

    /// Who reads and who writes are two tasks.
    async fn split(&mut self, stream: Stream) -> io::Result<()> {
        let (mut from, mut to) = stream.into_split();
        let (mut sender, mut receiver) = mpsc::channel::<Bytes>(1);
        let (mut reader, mut writer) = (self.fork(), self.fork());
        let reading = spawn(async move {
            loop {
                let bytes = reader.read(&mut from).await?;
                if bytes.is_empty() || sender.send(bytes).await.is_err() {
                    return io::Result::Ok(());
                }
            }
        });
        let writing = spawn(async move {
            while let Some(bytes) = receiver.next().await {
                writer.write(&mut to, bytes).await?;
            }
            io::Result::Ok(())
        });
        for mut task in [reading, writing] {
            let joined = self.wait(Recovery::DroppedJoin, async || (&mut task).await).await;
            joined.map_err(|error| io::Error::other(error.to_string()))??;
        }
        Ok(())
    }

    async fn framed(&mut self, stream: Stream) -> io::Result<()> {
        let (mut from, mut to) = stream.into_split();
        while self.wait(Recovery::DroppedFill, async || from.fill(1).await).await? > 0 {
            let request = if self.random.chance(512) {
                let mut head = [0; 2];
                self.wait(Recovery::DroppedRead, async || from.read_exact(&mut head).await).await?;
                let mut request = vec![0; usize::from(u16::from_be_bytes(head))];
                self.wait(Recovery::DroppedRead, async || from.read_exact(&mut request).await).await?;
                request.into()
            } else {
                self.wait(Recovery::DroppedFill, async || from.fill(2).await).await?;
                let Some(&head) = from.unread().first_chunk() else {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                };
                let whole = 2 + usize::from(u16::from_be_bytes(head));
                if self.wait(Recovery::DroppedFill, async || from.fill(whole).await).await? < whole {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                from.take(whole).slice(2..)
            };
            self.check(&request);
            self.write(&mut to, perishable(answer_to(&request))).await?;
        }
        Ok(())
    }

    async fn relay(&mut self, near: Stream) -> io::Result<()> {
        let address = SocketAddr::from(([10, 0, 0, 1], FIRST_PORT + self.id as u16));
        let to = Connect::to(address).deadline(Duration::from_secs(2));
        let connected = self.wait(Recovery::DroppedConnect, async || connect(to.clone()).await).await;
        let Ok(far) = connected else {
            self.ledger.excuse(self.id, "the connection onwards failed");
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let ((mut from_near, mut to_near), (mut from_far, mut to_far)) =
            (near.into_split(), far.into_split());
        let (mut there, mut back) = (self.fork(), self.fork());
        let done = futures::try_join!(
            there.copy(&mut from_near, &mut to_far),
            back.copy(&mut from_far, &mut to_near)
        );
        if done.is_err() {
            self.ledger.excuse(self.id, "one side of it broke");
            to_far.abort();
        }
        done.map(drop)
    }

    async fn ask(&mut self, mut make: impl FnMut() -> Request) -> Answer {
        let local = Local::expect("an errand");
        let answer =
            self.wait(Recovery::DroppedErrand, async || Asking::new(local.clone(), make()).await).await;
        match &answer {
            Answer::Opened(Err(_)) | Answer::Read(Err(_)) | Answer::Stat(Err(_)) => {
                self.ledger.excuse(self.id, "the file could not be read");
            }
            _ => {}
        }
        answer
    }

    async fn file(&mut self, stream: Stream) -> io::Result<()> {
        let (_from, mut to) = stream.into_split();
        let path = file_path(self.id);
        let Answer::Opened(file) = self.ask(|| Request::Open(OpenFile::at(&path))).await else {
            return Err(io::Error::other("the answer to something else"));
        };
        let file: File = file?;
        let mut at = 0;
        loop {
            let Answer::Read(bytes) = self.ask(|| Request::Read(file.clone(), at, 1 << 20)).await else {
                return Err(io::Error::other("the answer to something else"));
            };
            let bytes = bytes?;
            if bytes.is_empty() {
                break;
            }
            at += bytes.len() as u64;
            self.check(&bytes);
            self.write(&mut to, bytes).await?;
        }
        let Answer::Stat(stat) = self.ask(|| Request::Stat(file.clone())).await else {
            return Err(io::Error::other("the answer to something else"));
        };
        let len = stat?.len;
        self.ledger.check(len == at, || format!("a file of {len} ends at {at}"));
        Ok(())
    }
}
