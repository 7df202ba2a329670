//! The disk: the files of a simulated world, what is in them, and what of that would be there after a power cut.

use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use crate::fs::{ChangeKind, FileStat};
use crate::operation::Descriptor;

use super::faults::Fault;
use super::world::{ThingId, What, World};

/// A file, open or not.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    content: Vec<u8>,
    /// What a sync has put there for good.
    durable: Vec<u8>,
    /// A fault has struck that entitles the worker to tell of an error.
    harmed: bool,
}

/// A file that was opened in one way or another.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    stored: Rc<RefCell<Stored>>,
    flags: i32,
}

/// What became of an operation: or the errno.
type Done<T> = Result<T, i32>;

impl World {
    /// Puts a file there, for good.
    pub(crate) fn put_file(&mut self, path: &[u8], content: &[u8]) {
        let stored = Stored { content: content.to_vec(), durable: content.to_vec(), harmed: false };
        self.files.insert(path.to_vec(), Rc::new(RefCell::new(stored)));
    }

    /// What would be left of a file after a power cut; `None` if there is no such file.
    pub(crate) fn durable(&self, path: &[u8]) -> Option<Vec<u8>> {
        Some(self.files.get(path)?.borrow().durable.clone())
    }

    pub(super) fn open_file(&mut self, path: &[u8], flags: i32) -> Done<What> {
        if self.strikes(Fault::FileFailed) {
            return Err(libc::ENFILE);
        }
        let stored = match self.files.get(path) {
            Some(_) if flags & libc::O_EXCL != 0 => return Err(libc::EEXIST),
            Some(stored) => Rc::clone(stored),
            None if flags & libc::O_CREAT == 0 => return Err(libc::ENOENT),
            None => {
                let stored = Rc::<RefCell<Stored>>::default();
                self.files.insert(path.to_vec(), Rc::clone(&stored));
                stored
            }
        };
        if flags & libc::O_TRUNC != 0 {
            stored.borrow_mut().content.clear();
        }
        Ok(What::File(Opened { stored, flags }))
    }

    /// Whether anything has happened to a file, so that an operation on it may fail.
    pub(crate) fn is_harmed(&self, path: &[u8]) -> bool {
        self.files.get(path).is_some_and(|stored| stored.borrow().harmed)
    }

    fn strikes_file(&mut self, fault: Fault, file: &Opened) -> bool {
        let strikes = self.strikes(fault);
        file.stored.borrow_mut().harmed |= strikes;
        strikes
    }

    pub(super) fn change_names(&mut self, kind: ChangeKind, path: &[u8], to: &[u8]) -> Done<()> {
        if self.strikes(Fault::FileFailed) {
            return Err(libc::EIO);
        }
        match kind {
            ChangeKind::RemoveFile => _ = self.files.remove(path).ok_or(libc::ENOENT)?,
            ChangeKind::Rename => {
                let file = self.files.remove(path).ok_or(libc::ENOENT)?;
                self.files.insert(to.to_vec(), file);
            }
            // There are none.
            ChangeKind::RemoveDir => return Err(libc::ENOENT),
            ChangeKind::CreateDir { .. } => return Err(libc::EROFS),
        }
        Ok(())
    }

    fn opened(&mut self, thing: ThingId) -> Done<Opened> {
        match &self.thing(thing).what {
            What::File(opened) => Ok(opened.clone()),
            _ => Err(libc::EBADF),
        }
    }

    pub(super) fn file_len(&mut self, thing: ThingId) -> Done<u64> {
        let file = self.opened(thing)?;
        if self.strikes_file(Fault::FileFailed, &file) {
            return Err(libc::EIO);
        }
        Ok(file.stored.borrow().content.len() as u64)
    }

    /// At most `most` bytes from `offset` on.
    pub(super) fn read_file(&mut self, thing: ThingId, offset: u64, most: usize) -> Done<Vec<u8>> {
        let file = self.opened(thing)?;
        if file.flags & libc::O_ACCMODE == libc::O_WRONLY {
            return Err(libc::EBADF);
        }
        if self.strikes_file(Fault::FileFailed, &file) {
            return Err(libc::EIO);
        }
        let stored = file.stored.borrow();
        let rest = stored.content.get(offset as usize..).unwrap_or_default();
        let mut len = most.min(rest.len());
        if len > 1 && self.strikes(Fault::ShortRead) {
            len = self.random.between(1, len - 1);
        }
        Ok(rest[..len].to_vec())
    }

    /// How many bytes were written.
    pub(super) fn write_file(&mut self, thing: ThingId, offset: u64, bytes: &[u8]) -> Done<usize> {
        let file = self.opened(thing)?;
        if file.flags & libc::O_ACCMODE == libc::O_RDONLY {
            return Err(libc::EBADF);
        }
        if self.strikes_file(Fault::FileFailed, &file) {
            return Err(libc::EIO);
        }
        if self.strikes_file(Fault::DiskFull, &file) {
            return Err(libc::ENOSPC);
        }
        if self.strikes_file(Fault::NonsenseCount, &file) {
            return Ok(bytes.len() + self.random.between(1, 100_000));
        }
        let mut len = bytes.len();
        if len > 1 && self.strikes(Fault::ShortWrite) {
            len = self.random.between(1, len - 1);
        }
        let mut stored = file.stored.borrow_mut();
        let at = if file.flags & libc::O_APPEND != 0 { stored.content.len() } else { offset as usize };
        if stored.content.len() < at + len {
            stored.content.resize(at + len, 0);
        }
        stored.content[at..at + len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    pub(super) fn sync_file(&mut self, thing: ThingId) -> Done<()> {
        let file = self.opened(thing)?;
        if self.strikes_file(Fault::SyncFailed, &file) {
            return Err(libc::EIO);
        }
        let stored = &mut *file.stored.borrow_mut();
        stored.durable.clone_from(&stored.content);
        Ok(())
    }

    /// What is known of a file.
    pub(super) fn stat(&mut self, file: RawFd) -> io::Result<FileStat> {
        let thing = self.named(Descriptor::Plain(file)).ok_or(libc::EBADF);
        let len = thing.and_then(|thing| self.file_len(thing)).map_err(io::Error::from_raw_os_error)?;
        let (modified, changed) = (SystemTime::UNIX_EPOCH + Duration::from_secs(1), SystemTime::UNIX_EPOCH);
        Ok(FileStat { len, modified, changed, inode: 0, links: 1, is_file: true, is_dir: false })
    }
}
