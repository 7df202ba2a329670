//! Serving: from a path to the answer, by operations that block nobody.
//!
//! ```text
//!   open ─► stat ─┬─ a directory ─► its index, from the beginning, or a listing, or the way to the slash
//!                 └─ a file ─► open and stat its neighbour in the best coding, then the next best ...
//!                                 │
//!       short: read whole, kept ◄─┴─► long: the head now, then the bytes as the client takes them
//! ```

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use campanile_core::{Answer, Event, File, FileStat, OpenFile, Ticket};

use rustix::io::Errno;

use crate::http::{Error, Exchange, Next, Responder};

use super::asked::Asked;
use super::cache::{Cache, Place};
use super::coding::Coding;
use super::directory::Directory;
use super::found::{Found, is_unchanged};
use super::handler::Settings;
use super::media::content_type;
use super::plan::Plan;

/// Answers one request for a file that is not in memory.
pub(super) struct Serving {
    settings: Arc<Settings>,
    place: Place,
    asked: Asked,
    /// Beneath the root: what was asked for, or the index of it.
    path: Vec<u8>,
    is_index: bool,
    /// The file itself, while its neighbours are looked for.
    plain: Option<(File, FileStat)>,
    /// The codings still to be tried, the best last.
    codings: Vec<Coding>,
    coding: Coding,
    /// How often a file was found to change while it was read.
    retries: u8,
    step: Step,
}

/// Who rewrites a file that often is rewriting it all the time.
const MAX_RETRIES: u8 = 3;

enum Step {
    Begun,
    Opening(Ticket),
    Asking(Ticket, File),
    /// A short file that is read whole.
    Reading(Ticket, Box<Found>, Vec<u8>),
    Listing(Directory),
}

impl Serving {
    pub(super) fn new(settings: Arc<Settings>, place: Place, asked: Asked) -> Serving {
        Serving {
            settings,
            place,
            asked,
            path: Vec::new(),
            is_index: false,
            plain: None,
            codings: Vec::new(),
            coding: Coding::Identity,
            retries: 0,
            step: Step::Begun,
        }
    }

    /// Begins, or begins again.
    fn begin(&mut self, exchange: &mut Exchange<'_, '_>) -> Next {
        self.path.clone_from(&self.asked.path);
        self.is_index = false;
        self.plain = None;
        self.codings.clear();
        self.codings.extend(self.asked.accepted.in_order());
        self.codings.reverse();
        self.open(Coding::Identity, exchange)
    }

    /// Opens the file at the path, or its neighbour in this coding.
    fn open(&mut self, coding: Coding, exchange: &mut Exchange<'_, '_>) -> Next {
        let path = [&self.path[..], coding.suffix().as_bytes()].concat();
        let path = if path.is_empty() { &b"."[..] } else { &path };
        let file = OpenFile::beneath(Arc::clone(&self.settings.root), Path::new(OsStr::from_bytes(path)));
        self.coding = coding;
        self.step = Step::Opening(exchange.control().open_file(file));
        Next::Wait
    }

    fn opened(&mut self, file: io::Result<File>, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        let file = match file {
            Ok(file) => file,
            // A neighbour that cannot be opened is none.
            Err(error) if self.plain.is_some() && !is_want(&error) => return self.next_coding(exchange),
            Err(error) if self.is_index && is_missing(&error) => return self.list(exchange),
            Err(error) => return Err(cannot_open(error)),
        };
        match exchange.control().stat_now(&file) {
            Some(stat) => self.known(file, stat?, exchange),
            None => {
                self.step = Step::Asking(exchange.control().stat(&file), file);
                Ok(Next::Wait)
            }
        }
    }

    /// What was opened is known.
    fn known(&mut self, file: File, stat: FileStat, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        if self.plain.is_some() {
            return if stat.is_file { self.found(file, stat, exchange) } else { self.next_coding(exchange) };
        }
        match (stat.is_dir, stat.is_file) {
            (true, _) if !self.asked.is_directory => {
                let there = self.asked.with_slash();
                exchange.answer(|response| response.status(301).field("Location", there).empty())
            }
            (true, _) if !self.is_index => {
                let Some(index) = self.settings.index.clone() else { return self.list(exchange) };
                if !self.path.is_empty() {
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(index.as_bytes());
                self.is_index = true;
                Ok(self.open(Coding::Identity, exchange))
            }
            (_, true) if self.is_index || !self.asked.is_directory => {
                self.plain = Some((file, stat));
                self.next_coding(exchange)
            }
            _ => Err(not_found()),
        }
    }

    /// Tries the best coding that was not tried yet.
    fn next_coding(&mut self, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        match self.codings.pop() {
            None => Err(Error::new(406, "there is no variant in a coding that you accept")),
            Some(Coding::Identity) => match self.plain.clone() {
                Some((file, stat)) => {
                    self.coding = Coding::Identity;
                    self.found(file, stat, exchange)
                }
                None => Err(not_found()),
            },
            Some(coding) => Ok(self.open(coding, exchange)),
        }
    }

    fn found(&mut self, file: File, stat: FileStat, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        let kind = (self.coding, content_type(&self.path));
        // Else it could not be seen at each request whether it was changed.
        let can_be_kept = self.settings.max_cached > 0 && exchange.control().stat_now(&file).is_some();
        let mut found = Found::new(file, stat, kind, &self.settings, exchange.control())?;
        if !can_be_kept {
            return self.answer(&found, exchange);
        }
        let known = exchange.control().shared::<Cache>().stale(self.place, &self.asked.path);
        if let Some(known) = known.filter(|known| is_unchanged(&known.stat, &found.stat)) {
            known.seen.set(found.seen.get());
            known.due.set(found.due.get());
            return self.answer(&known, exchange);
        }
        match stat.len {
            0 => found.bytes = Some(campanile_core::Bytes::new()),
            len if len <= self.settings.max_cached => {
                let ticket = exchange.control().read_file(&found.file, 0, len as usize);
                self.step = Step::Reading(ticket, Box::new(found), Vec::with_capacity(len as usize));
                return Ok(Next::Wait);
            }
            _ => {}
        }
        self.keep_and_answer(found, exchange)
    }

    /// Keeps what was found for those who ask next.
    fn keep_and_answer(&mut self, found: Found, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        let found = Rc::new(found);
        // A change within the same tick of the clock would never be noticed.
        if !found.is_fresh {
            let cache = exchange.control().shared::<Cache>();
            cache.keep(self.place, &self.asked.path, Rc::clone(&found));
        }
        self.answer(&found, exchange)
    }

    /// A piece of a short file was read.
    fn read(
        &mut self,
        mut found: Box<Found>,
        mut bytes: Vec<u8>,
        piece: &[u8],
        exchange: &mut Exchange<'_, '_>,
    ) -> Result<Next, Error> {
        bytes.extend_from_slice(piece);
        let (len, whole) = (bytes.len() as u64, found.stat.len);
        if len < whole && !piece.is_empty() {
            let ticket = exchange.control().read_file(&found.file, len, (whole - len) as usize);
            self.step = Step::Reading(ticket, found, bytes);
            return Ok(Next::Wait);
        }
        let is_same = |stat: io::Result<FileStat>| stat.is_ok_and(|stat| is_unchanged(&found.stat, &stat));
        if len != whole || !exchange.control().stat_now(&found.file).is_some_and(is_same) {
            // It was changed or replaced while it was read: what was read may be a mixture.
            if self.retries == MAX_RETRIES {
                return Err(Error::new(503, "the file is being changed, try again").retry_after(1));
            }
            self.retries += 1;
            return Ok(self.begin(exchange));
        }
        found.bytes = Some(bytes.into());
        self.keep_and_answer(*found, exchange)
    }

    fn answer(&mut self, found: &Found, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        let now = exchange.control().wall();
        let plan = Plan::make(self.asked.method(), |name| self.asked.values(name), found, now);
        exchange.answer(|response| plan.answer(found, &self.settings, response))
    }

    /// The directory has no index.
    fn list(&mut self, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        if !self.settings.listing {
            return Err(not_found());
        }
        let waker = exchange.control().waker();
        self.step = Step::Listing(Directory::list(&self.settings, self.asked.path.clone(), waker)?);
        Ok(Next::Wait)
    }
}

impl Responder for Serving {
    fn reads_body(&self) -> bool {
        false
    }

    fn respond(&mut self, event: Event, exchange: &mut Exchange<'_, '_>) -> Result<Next, Error> {
        let answer = match event {
            Event::Answer(ticket, answer) => Some((ticket, answer)),
            _ => None,
        };
        match (std::mem::replace(&mut self.step, Step::Begun), answer) {
            (Step::Begun, None) => Ok(self.begin(exchange)),
            (Step::Opening(asked), Some((ticket, Answer::Opened(file)))) if asked == ticket => {
                self.opened(file, exchange)
            }
            (Step::Asking(asked, file), Some((ticket, Answer::Stat(stat)))) if asked == ticket => {
                self.known(file, stat?, exchange)
            }
            (Step::Reading(asked, found, bytes), Some((ticket, Answer::Read(piece)))) if asked == ticket => {
                self.read(found, bytes, &piece?, exchange)
            }
            (Step::Listing(directory), _) => match directory.page() {
                Some(page) => exchange.answer(|response| directory.answer(page?, response)),
                None => {
                    self.step = Step::Listing(directory);
                    Ok(Next::Wait)
                }
            },
            // Not what is waited for: a drain, or an answer to somebody before.
            (step, _) => {
                self.step = step;
                Ok(Next::Wait)
            }
        }
    }
}

/// Whether there is nothing of that name.
fn is_missing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG))
}

/// Whether it is this process or machine that lacks something, and not the file.
fn is_want(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

fn not_found() -> Error {
    Error::new(404, "not found")
}

/// Why a file could not be opened, as the client is told. What leads out of the root is not there.
fn cannot_open(error: io::Error) -> Error {
    match Errno::from_io_error(&error) {
        _ if is_missing(&error) => not_found(),
        Some(Errno::XDEV | Errno::LOOP | Errno::NXIO | Errno::INVAL) => not_found(),
        Some(Errno::ACCESS | Errno::PERM) => Error::new(403, "forbidden"),
        _ if is_want(&error) => {
            tracing::warn!("a file could not be opened: {error}");
            Error::new(503, "too many files are open, try again").retry_after(1)
        }
        _ => error.into(),
    }
}
