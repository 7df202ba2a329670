//! The handler: files of a directory, served over HTTP.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use campanile_protocol::http1::Method;

use crate::http::{Answered, Error, Handler, Request, Response};

use super::asked::Asked;
use super::cache::{Cache, Place};
use super::coding::Accepted;
use super::path::{DotFiles, RelativePath, with_slash};
use super::plan::Plan;
use super::serving::Serving;

/// Serves the files beneath a directory, and nothing else: whatever a path says, and wherever links lead, the kernel
/// opens nothing outside of it (openat2(2), `RESOLVE_BENEATH`).
///
/// ```no_run
/// use campanile::http::{self, Files, Router};
/// use campanile::Server;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let files = Files::new("site")?;
///     let server = Server::new().listen("127.0.0.1:8080");
///     Ok(http::serve(server, http::Config::default(), move || Router::new().mount("/", files.clone()))?.wait()?)
/// }
/// ```
///
/// It answers GET and HEAD, conditional requests, and requests for one range or several (RFC 9110, sections 13 and 14).
/// A directory is answered by its `index.html`. Of `NAME.br`, `NAME.zst` and `NAME.gz` beside a file the one that the
/// client likes best is sent in its place (section 12.5.3).
///
/// | Asked for | Answered |
/// |---|---|
/// | a file | 200, 206 or 304, with ETag, Last-Modified, Accept-Ranges, Vary and `X-Content-Type-Options: nosniff` |
/// | a directory, without a slash at its end | 301 to the same with one |
/// | a directory | its index; without one the [listing](Self::listing), or 404 |
/// | a file, with a slash at its end | 404 |
/// | what leads out of the root, is no file, is hidden, or not there | 404; 400 for `..` beyond the root |
/// | what may not be read | 403 |
/// | a state or a part that there is not | 412 or 416 |
/// | a coding that there is not, if `identity` is refused | 406 |
/// | by another method | 405 |
/// | what changes all the time, too many listings or open files | 503, with Retry-After |
///
/// An answer is wholly one state of a file. If a large one is changed while it is sent the connection is closed early,
/// which the client sees; one that is replaced or removed is sent to its end. A file that was changed within the last
/// second has a weak ETag, and is read anew each time. What is written through mmap(2), and on file systems of the
/// network, is noticed only as far as the kernel knows of it.
///
/// Files are opened and read without blocking the worker. Small ones are kept in memory, by each worker for itself, and
/// large ones open, for as long as they are [asked for](Self::idle); each request asks the kernel whether the file was
/// changed, removed or replaced, and [now and then](Self::recheck) whether its path still leads to it. Large ones are
/// sent a piece at a time, and a client that stops reading holds no memory.
#[derive(Clone)]
pub struct Files {
    shared: Arc<Settings>,
}

/// The most that [`Files::max_cached`] can be: each client that asks for a file while it is read has it in memory.
const MAX_CACHED: u64 = 1024 * 1024;

#[derive(Clone)]
pub(super) struct Settings {
    /// No others have the same.
    pub(super) id: u64,
    pub(super) root: Arc<OwnedFd>,
    pub(super) index: Option<String>,
    pub(super) dot_files: DotFiles,
    pub(super) precompressed: bool,
    pub(super) listing: bool,
    pub(super) cache_control: Option<String>,
    pub(super) max_cached: u64,
    pub(super) recheck: Duration,
    pub(super) idle: Duration,
}

impl Files {
    /// The files beneath `root`.
    ///
    /// # Errors
    /// When it cannot be opened, or is no directory.
    pub fn new(root: impl AsRef<Path>) -> io::Result<Files> {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let root = rustix::fs::open(root.as_ref(), flags, rustix::fs::Mode::empty())?;
        Ok(Files {
            shared: Arc::new(Settings {
                id: next_id(),
                root: Arc::new(root),
                index: Some("index.html".into()),
                dot_files: DotFiles::Hidden,
                precompressed: true,
                listing: false,
                cache_control: None,
                max_cached: 256 * 1024,
                recheck: Duration::from_secs(1),
                idle: Duration::from_secs(60),
            }),
        })
    }

    /// The file that a directory is answered by; `None` for none. `index.html` by default.
    #[must_use]
    pub fn index<'n>(self, name: impl Into<Option<&'n str>>) -> Files {
        let index = name.into().map(str::to_owned);
        self.set(|settings| settings.index = index)
    }

    /// Answers for directories without an index with a page that lists what is in them. Off by default.
    #[must_use]
    pub fn listing(self, listing: bool) -> Files {
        self.set(|settings| settings.listing = listing)
    }

    /// Serves names that begin with a dot too; by default they are not there, but for `.well-known` (RFC 8615).
    #[must_use]
    pub fn hidden(self, served: bool) -> Files {
        self.set(|settings| settings.dot_files = if served { DotFiles::Served } else { DotFiles::Hidden })
    }

    /// Whether to look for compressed neighbours. On by default.
    #[must_use]
    pub fn precompressed(self, precompressed: bool) -> Files {
        self.set(|settings| settings.precompressed = precompressed)
    }

    /// The value of Cache-Control in answers with a file (RFC 9111, section 5.2), such as `public, max-age=3600`. None
    /// by default: clients ask each time whether the file was changed.
    #[must_use]
    pub fn cache_control(self, value: &str) -> Files {
        let value = value.to_owned();
        self.set(|settings| settings.cache_control = Some(value))
    }

    /// The longest file that is read whole and kept in memory, in bytes: 1 MiB at most, 256 KiB by default; 0 for none.
    /// All of them together take up to 16 MiB of each worker, and with longer ones, which are kept open, up to 1,024
    /// descriptors.
    #[must_use]
    pub fn max_cached(self, len: u64) -> Files {
        self.set(|settings| settings.max_cached = len.min(MAX_CACHED))
    }

    /// How long a path may lead to another file before that is noticed, if a directory or link on the way was replaced
    /// or a compressed neighbour was added. Changes of the file itself are noticed at once. 1 s by default.
    #[must_use]
    pub fn recheck(self, after: Duration) -> Files {
        self.set(|settings| settings.recheck = after)
    }

    /// How long a file is kept, in memory or open, while nobody asks for it. One that was removed takes up its place on
    /// the disk until then. 60 s by default.
    #[must_use]
    pub fn idle(self, after: Duration) -> Files {
        self.set(|settings| settings.idle = after)
    }

    fn set(mut self, set: impl FnOnce(&mut Settings)) -> Files {
        let settings = Arc::make_mut(&mut self.shared);
        settings.id = next_id();
        set(settings);
        self
    }
}

/// Tells settings apart in the memory that all of a worker share.
fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Handler for Files {
    fn handle(&self, request: &Request<'_>, mut response: Response<'_, '_>) -> Result<Answered, Error> {
        let method = request.method();
        match method {
            Method::Get | Method::Head => {}
            Method::Options => return response.status(204).field("Allow", "GET, HEAD, OPTIONS").empty(),
            _ => return response.not_allowed("GET, HEAD, OPTIONS"),
        }
        if request.path_below().is_empty() && !request.path().ends_with('/') {
            // The root itself: what it links to lies beneath the slash.
            let there = with_slash(request.path(), request.query());
            return response.status(301).field("Location", there).empty();
        }
        let settings = &*self.shared;
        let path = RelativePath::resolve(request.path_below().as_bytes(), settings.dot_files)
            .map_err(|error| Error::new(error.status(), error.to_string()))?;
        let accepted = match settings.precompressed {
            true => Accepted::of(request.values("Accept-Encoding")),
            false => Accepted::of(std::iter::empty()),
        };
        let place =
            Place { files: settings.id, accepted: accepted.order(), is_directory: path.is_directory() };
        let control = response.control();
        let cache = control.shared::<Cache>();
        if let Some(found) = cache.fresh(place, path.as_bytes(), settings, control) {
            let plan = Plan::make(method, |name| request.values(name), &found, control.wall());
            return plan.answer(&found, settings, response);
        }
        let asked = Asked::of(request, &path, accepted);
        Ok(response.respond(Serving::new(Arc::clone(&self.shared), place, asked)))
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").field("index", &self.shared.index).finish_non_exhaustive()
    }
}
