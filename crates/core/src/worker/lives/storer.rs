//! The storer: the service of a simulated life that writes what its client sends to a file, has it put onto the disk,
//! and answers with what it then reads there.

use std::io::ErrorKind;

use bytes::Bytes;

use crate::errand::{Answer, Ticket};
use crate::fs::{File, OpenFile};
use crate::ring::simulated::faults::Recovery;
use crate::ring::simulated::random::Random;
use crate::ring::simulated::world::World;
use crate::service::{Context, Event, Flow, Service};

use super::ledger::{ClientId, Ledger, first_foreign, keyed_range};
use super::services::perishable;
use super::town::store_path;

/// Writes that it has under way at a time.
const MOST_WRITES: usize = 3;

pub(super) struct Storer {
    id: ClientId,
    ledger: Ledger,
    random: Random,
    file: Option<File>,
    /// Bytes taken from the client.
    taken: usize,
    /// Where they begin, and how many they are.
    writes: Vec<(Ticket, usize, usize)>,
    /// Of how many bytes it asked that they be on the disk.
    sync: Option<(Ticket, usize)>,
    synced: usize,
    read: Option<Ticket>,
    /// Read back, and taken by the output.
    answered: usize,
    unsent: Option<Bytes>,
}

impl Storer {
    pub(super) fn new(id: ClientId, ledger: &Ledger, random: Random) -> Storer {
        Storer {
            id,
            ledger: ledger.clone(),
            random,
            file: None,
            taken: 0,
            writes: Vec::new(),
            sync: None,
            synced: 0,
            read: None,
            answered: 0,
            unsent: None,
        }
    }

    fn failed(&self, answer: &Answer) -> Flow {
        let error = match answer {
            Answer::Written(Err(error)) | Answer::Synced(Err(error)) | Answer::Read(Err(error)) => {
                Some(error)
            }
            _ => None,
        };
        // What is interrupted time and again is given up, and that has no other reason.
        if error.is_some_and(|error| error.kind() != ErrorKind::WouldBlock) {
            self.ledger.file_failed(store_path(self.id));
        }
        self.ledger.excuse(self.id, "the file could not be written");
        Flow::Abort
    }

    fn write(&mut self, from: usize, len: usize, cx: &mut Context<'_>) {
        let Some(file) = &self.file else { return };
        let bytes = perishable(keyed_range(self.id, from..from + len));
        let ticket = cx.write_file(file, from as u64, bytes);
        self.writes.push((ticket, from, len));
    }

    /// Writes what came in, as far as there is nothing to wait for.
    fn take_in(&mut self, cx: &mut Context<'_>) {
        while !cx.input.is_empty() && self.writes.len() < MOST_WRITES && self.file.is_some() {
            let len = self.random.between(1, cx.input.len());
            let bytes = cx.input.consume(len);
            let foreign = first_foreign(self.id, self.taken, bytes);
            self.ledger.check(foreign.is_none(), || format!("client {}: stored a foreign byte", self.id));
            self.write(self.taken, len, cx);
            self.taken += len;
        }
    }

    fn written(&mut self, ticket: Ticket, n: usize, cx: &mut Context<'_>) {
        let Some(at) = self.writes.iter().position(|(of, ..)| *of == ticket) else {
            return self.ledger.violated(format!("client {}: an answer to no write", self.id));
        };
        let (_, from, len) = self.writes.swap_remove(at);
        self.ledger.check(n > 0 && n <= len, || format!("client {}: {n} of {len} bytes written", self.id));
        if n < len {
            self.ledger.saw(Recovery::WriteCutShort);
            self.write(from + n, len - n, cx);
        }
    }

    /// Everything before this was answered as written.
    fn settled(&self) -> usize {
        self.writes.iter().map(|(_, from, _)| *from).min().unwrap_or(self.taken)
    }

    fn answer(&mut self, cx: &mut Context<'_>) -> Flow {
        if let Some(bytes) = self.unsent.take() {
            let n = bytes.len();
            if let Err(bytes) = cx.output.send(bytes) {
                self.unsent = Some(bytes);
                return Flow::Room;
            }
            self.answered += n;
        }
        if self.answered >= self.taken {
            return Flow::Finish;
        }
        if self.read.is_none()
            && let Some(file) = &self.file
        {
            self.read = Some(cx.read_file(file, self.answered as u64, 1 << 20));
        }
        Flow::Wait
    }
}

impl Service for Storer {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        match event {
            Event::Open => {
                let file = OpenFile::at(store_path(self.id)).read(true).write(true);
                cx.open_file(match self.random.below(2) {
                    0 => file.create(true).truncate(true),
                    _ => file.create_new(true),
                });
            }
            Event::Answer(_, Answer::Opened(Ok(file))) => self.file = Some(file),
            Event::Answer(ticket, Answer::Written(Ok(n))) => self.written(ticket, n, cx),
            Event::Answer(ticket, Answer::Synced(Ok(()))) => {
                let of = self.sync.take().filter(|(of, _)| *of == ticket).map_or(0, |(_, synced)| synced);
                self.synced = self.synced.max(of);
                self.ledger.synced(self.id, store_path(self.id), of);
            }
            Event::Answer(ticket, Answer::Read(Ok(bytes))) if self.read == Some(ticket) => {
                self.read = None;
                let fine = !bytes.is_empty();
                self.ledger.check(fine, || format!("client {}: its file ends too soon", self.id));
                self.unsent = Some(bytes);
            }
            Event::Answer(_, answer) => return self.failed(&answer),
            Event::Closed(_) => return Flow::Wait,
            _ => {}
        }
        self.take_in(cx);
        let has_all = cx.input.is_ended() && cx.input.is_empty() && self.writes.is_empty();
        if has_all && self.synced == self.taken && self.file.is_some() {
            return self.answer(cx);
        }
        // In between, too.
        let syncs = self.sync.is_none() && (has_all || self.random.chance(100));
        if let Some(file) = self.file.as_ref().filter(|_| syncs) {
            let data_only = self.random.chance(512);
            self.sync = Some((cx.sync_file(file, data_only), self.settled()));
        }
        if cx.input.is_ended() || !cx.input.is_empty() { Flow::Wait } else { Flow::More(1) }
    }
}

/// Whether what services were told of their files is so: a sync, and an error.
pub(super) fn check_files(ledger: &Ledger, world: &World) {
    for (id, path, n) in ledger.take_synced() {
        let durable = world.durable(path.as_bytes()).unwrap_or_default();
        let is_there = durable.get(..n) == Some(&keyed_range(id, 0..n));
        ledger.check(is_there, || format!("{path}: {n} bytes were synced, and are not there"));
    }
    for path in ledger.take_failed() {
        let fair = world.is_harmed(path.as_bytes());
        ledger.check(fair, || format!("{path}: an error of a file that nothing happened to"));
    }
}
