//! The lender: the service of a simulated life that lends a file to its client, takes back what that does not take, and
//! reads it again.

use bytes::Bytes;

use crate::errand::{Answer, Ticket};
use crate::fs::{File, OpenFile};
use crate::ring::simulated::faults::Recovery;
use crate::ring::simulated::random::Random;
use crate::service::{Context, Event, Flow, Service};

use super::ledger::{ClientId, Ledger};
use super::town::file_path;

pub(super) struct Lender {
    id: ClientId,
    ledger: Ledger,
    random: Random,
    file: Option<File>,
    /// The byte that is next to be handed over.
    at: u64,
    read: Option<Ticket>,
    /// Read, and not taken by the output yet.
    unsent: Option<Bytes>,
    has_all: bool,
    /// Bytes came back, and there was no word of room since.
    waits: bool,
    came_back: bool,
    /// Lends all it has, and finishes when nothing is held any more.
    strict: bool,
}

impl Lender {
    pub(super) fn new(id: ClientId, ledger: &Ledger, mut random: Random) -> Lender {
        Lender {
            id,
            ledger: ledger.clone(),
            file: None,
            at: 0,
            read: None,
            unsent: None,
            has_all: false,
            waits: false,
            came_back: false,
            strict: random.chance(512),
            random,
        }
    }

    fn failed(&self) -> Flow {
        self.ledger.excuse(self.id, "the file could not be read");
        Flow::Abort
    }

    fn note_returned(&mut self, cx: &mut Context<'_>) {
        let returned = cx.output.take_returned() as u64;
        if returned == 0 {
            return;
        }
        self.ledger.saw(Recovery::LentReturned);
        self.ledger.check(returned <= self.at, || {
            format!("client {}: {returned} of {} came back", self.id, self.at)
        });
        self.at = self.at.saturating_sub(returned);
        // What is being read, or was, is not what is missing.
        (self.read, self.unsent, self.has_all) = (None, None, false);
        (self.waits, self.came_back) = (true, true);
    }

    /// Hands over in one way or another; gives back what finds no place.
    fn hand_over(&mut self, bytes: Bytes, cx: &mut Context<'_>) -> Result<(), Bytes> {
        let held = cx.output.held();
        match self.random.below(if self.strict { 8 } else { 12 }) {
            0..8 => {
                let lent = cx.output.lend(bytes);
                // There is a bound on what is held, and bytes that came back are not lent before there is word of room.
                self.ledger.check(lent.is_ok() || held > 0, || {
                    format!("client {}: a loan was refused although nothing is held", self.id)
                });
                if lent.is_ok() && std::mem::take(&mut self.came_back) {
                    self.ledger.saw(Recovery::LentAgain);
                }
                lent
            }
            8 | 9 if bytes.len() <= cx.output.room() => cx.output.write(&bytes).map_err(|_| bytes),
            _ => cx.output.send(bytes),
        }
    }

    fn read_on(&mut self, cx: &mut Context<'_>) -> Flow {
        while let Some(mut bytes) = self.unsent.take() {
            // In pieces now and then.
            let n = if self.random.chance(300) { self.random.between(1, bytes.len()) } else { bytes.len() };
            let part = bytes.split_to(n);
            if !bytes.is_empty() {
                self.unsent = Some(bytes);
            }
            match self.hand_over(part, cx) {
                Ok(()) => self.at += n as u64,
                Err(_) if self.random.chance(300) => {
                    // To be read again.
                    self.unsent = None;
                    return Flow::Room;
                }
                Err(part) => {
                    let rest = self.unsent.take().unwrap_or_default();
                    self.unsent = Some([part, rest].concat().into());
                    return Flow::Room;
                }
            }
        }
        if self.has_all {
            return if self.strict && cx.output.held() > 0 { Flow::Room } else { Flow::Finish };
        }
        if self.read.is_none()
            && let Some(file) = &self.file
        {
            self.read = Some(cx.read_file(file, self.at, 1 << 20));
        }
        self.wait()
    }

    /// What came back is told of either way.
    fn wait(&mut self) -> Flow {
        if self.random.chance(512) { Flow::Wait } else { Flow::Room }
    }
}

impl Service for Lender {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        self.note_returned(cx);
        match event {
            Event::Open => {
                cx.open_file(OpenFile::at(file_path(self.id)));
            }
            Event::Room if std::mem::take(&mut self.waits) => self.ledger.reads_again(self.id),
            Event::Answer(_, Answer::Opened(Ok(file))) => self.file = Some(file),
            Event::Answer(ticket, Answer::Read(Ok(bytes))) if self.read == Some(ticket) => {
                self.read = None;
                self.has_all = bytes.is_empty();
                self.unsent = Some(bytes).filter(|bytes| !bytes.is_empty());
            }
            // Of a time before bytes came back.
            Event::Answer(ticket, Answer::Read(_)) if self.read != Some(ticket) => {}
            Event::Answer(..) => return self.failed(),
            Event::Closed(_) => return Flow::Wait,
            _ => {}
        }
        if self.waits {
            return self.wait();
        }
        self.read_on(cx)
    }
}
