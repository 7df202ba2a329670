//! The member: a connection, and who is at its other end.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use async_channel::{Receiver, Sender};
use campanile::{Bytes, Monitor, ReadHalf, Stream, WriteHalf, yield_now};
use futures_lite::future::zip;

use crate::hall::{self, Seat};

/// The longest line, in bytes.
const MAX_LINE: usize = 512;

/// The longest name of a member or a room, in characters.
const MAX_NAME: usize = 20;

/// How many are named to who asks, since the answer waits in a queue like any other line.
const MAX_NAMED: usize = 20;

const HELP: &str = "* /nick NAME, /join ROOM, /who, /quit; anything else is said in the room";

/// Members are numbered over all workers.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

struct Member<'a> {
    id: u64,
    nick: String,
    room: Option<String>,
    /// What is written to this member. The others have it, too, while they share a room.
    queue: Sender<Bytes>,
    monitor: &'a Monitor,
}

/// Reads what a member says and does, and writes what it is told, until it leaves.
pub(crate) async fn serve(stream: Stream, monitor: &Monitor, queue: usize) {
    let (read, write) = stream.into_split();
    let (queue, lines) = async_channel::bounded(queue);
    let talk = async move {
        let id = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let mut member = Member { id, nick: format!("guest{id}"), room: None, queue, monitor };
        // However it ends: the others hear of it.
        let _ = member.talk(read).await;
        member.leave().await;
    };
    // With the member goes the last sender of its queue, and with that the writing.
    let _ = zip(talk, write_lines(write, lines)).await;
}

async fn write_lines(mut write: WriteHalf, lines: Receiver<Bytes>) -> io::Result<()> {
    while let Ok(line) = lines.recv().await {
        write.write(&line).await?;
    }
    Ok(())
}

/// Nobody writes to this member any more.
struct Gone;

impl<T> From<async_channel::SendError<T>> for Gone {
    fn from(_: async_channel::SendError<T>) -> Gone {
        Gone
    }
}

impl Member<'_> {
    async fn talk(&mut self, mut read: ReadHalf) -> Result<(), Gone> {
        self.answer(HELP).await?;
        loop {
            let line = match read.read_line(MAX_LINE).await {
                Ok(Some(line)) => printable(&line),
                // The end, or that of the server.
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.answer(&format!("* {error}")).await?;
                    break;
                }
                Err(_) => return Err(Gone),
            };
            let (command, name) = line.split_once(' ').unwrap_or((&line, ""));
            match command {
                "/quit" => break,
                "/nick" if is_name(name) => self.rename(name).await?,
                "/join" if is_name(name) => self.join(name).await?,
                "/nick" | "/join" => {
                    self.answer(&format!("* a name is a word of up to {MAX_NAME} letters")).await?;
                }
                "/who" => self.who().await?,
                _ if line.trim().is_empty() => {}
                _ if command.starts_with('/') => self.answer(HELP).await?,
                _ if self.room.is_none() => self.answer("* join a room first: /join ROOM").await?,
                _ => self.tell(format!("<{}> {line}\n", self.nick)).await,
            }
        }
        self.answer("* goodbye").await
    }

    /// Writes to this member. It waits while the queue is full, and with it what this member says next.
    async fn answer(&self, line: &str) -> Result<(), Gone> {
        Ok(self.queue.send(format!("{line}\n").into()).await?)
    }

    /// Writes to everybody else in the room, and lets them have it before this member goes on: however much one says
    /// at once, it takes but one place of the others' queues at a time.
    async fn tell(&self, line: String) {
        if let Some(room) = &self.room {
            hall::tell(self.monitor, room, self.id, line.into()).await;
            yield_now().await;
        }
    }

    async fn rename(&mut self, name: &str) -> Result<(), Gone> {
        let line = format!("* {} is {name} now", self.nick);
        name.clone_into(&mut self.nick);
        if let Some(room) = &self.room {
            hall::rename(room, self.id, name);
        }
        self.tell(format!("{line}\n")).await;
        self.answer(&line).await
    }

    async fn join(&mut self, room: &str) -> Result<(), Gone> {
        self.leave().await;
        hall::sit(room, self.id, Seat { nick: self.nick.clone(), queue: self.queue.clone(), missed: 0 });
        self.room = Some(room.to_owned());
        self.tell(format!("* {} has come\n", self.nick)).await;
        self.answer(&format!("* you are in {room}")).await
    }

    async fn leave(&mut self) {
        if let Some(room) = &self.room {
            hall::rise(room, self.id);
            self.tell(format!("* {} has gone\n", self.nick)).await;
        }
        self.room = None;
    }

    async fn who(&self) -> Result<(), Gone> {
        let Some(room) = &self.room else { return self.answer("* join a room first: /join ROOM").await };
        let mut names = hall::names(self.monitor, room).await;
        let more = names.len().saturating_sub(MAX_NAMED);
        names.truncate(MAX_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        self.answer(&format!("* in {room}: {}{more}", names.join(", "))).await
    }
}

/// A line without what would do more to a terminal than to be shown.
fn printable(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().filter(|c| !c.is_control()).collect()
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.chars().count()) && !name.contains(char::is_whitespace)
}
