//! A directory, listed by a thread of its own: there is no operation of the ring that reads one.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::panic;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use campanile_core::Waker;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, statat};

use crate::http::{Answered, Error, FieldLine, Response};

use super::handler::Settings;
use super::listing::{CONTENT_SECURITY_POLICY, DEFAULT_MAX_ENTRIES, Entry, listing};

const HTML: FieldLine = FieldLine::from_static("Content-Type: text/html; charset=utf-8\r\n");

/// Directories that are read at a time, by the whole process.
const MAX_READERS: usize = 4;
static READERS: AtomicUsize = AtomicUsize::new(0);

/// The page of a directory, when it is written.
pub(super) struct Directory {
    page: Arc<Mutex<Option<io::Result<String>>>>,
}

/// Counts a reader until it is dropped.
struct Reader;

impl Directory {
    /// Begins to read the directory at `path` beneath the root; `waker` is called when its page is there.
    ///
    /// # Errors
    /// 503 when too many are read already, or there is no thread to be had.
    pub(super) fn list(settings: &Arc<Settings>, path: Vec<u8>, waker: Waker) -> Result<Directory, Error> {
        let busy = || Error::new(503, "too many listings at once, try again").retry_after(1);
        let reader = Reader::begin().ok_or_else(busy)?;
        let page = Arc::new(Mutex::new(None));
        let (there, settings) = (Arc::clone(&page), Arc::clone(settings));
        let read = move || {
            // Whoever waits is told in any case.
            let read = panic::catch_unwind(|| read(&settings.root, &path, &settings))
                .unwrap_or_else(|_| Err(io::Error::other("the directory could not be listed")));
            drop(reader);
            *there.lock().unwrap_or_else(PoisonError::into_inner) = Some(read);
            waker.wake();
        };
        thread::Builder::new().name("campanile-files".into()).spawn(read).map_err(|_| busy())?;
        Ok(Directory { page })
    }

    /// The page, if it is there.
    pub(super) fn page(&self) -> Option<io::Result<String>> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn answer(&self, page: String, response: Response<'_, '_>) -> Result<Answered, Error> {
        response.status(200).line(HTML).line(CONTENT_SECURITY_POLICY).bytes(page.into())
    }
}

fn read(root: &OwnedFd, path: &[u8], settings: &Settings) -> io::Result<String> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let at = if path.is_empty() { &b"."[..] } else { path };
    let directory = openat2(root, at, flags, Mode::empty(), resolve)?;
    let mut failed = None;
    let names =
        Dir::read_from(&directory)?.map_while(|entry| entry.map_err(|error| failed = Some(error)).ok());
    let entries = names.filter_map(|entry| {
        // One that was removed meanwhile is not there; what a link leads to is found out by who follows it.
        let stat = statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(Entry {
            name: entry.file_name().to_bytes().to_vec(),
            is_directory: FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            len: stat.st_size.max(0) as u64,
            modified: SystemTime::UNIX_EPOCH + Duration::from_secs(stat.st_mtime.max(0) as u64),
        })
    });
    // No more of them are read than are shown.
    let page = listing(path, settings.dot_files, entries, DEFAULT_MAX_ENTRIES);
    failed.map_or(Ok(page), |error| Err(error.into()))
}

impl Reader {
    fn begin() -> Option<Reader> {
        let more = |readers| (readers < MAX_READERS).then_some(readers + 1);
        READERS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Reader)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        READERS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}
