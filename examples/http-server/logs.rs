//! The logs: what happens goes to standard error, and a line per request to a file of its own.

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{EnvFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

/// The target of the events that are told of each request.
const ACCESS: &str = "campanile::access";
/// Lines that wait to be written; beyond them lines are dropped, since no request waits for a disk.
const WAITING_LINES: usize = 64 * 1024;
/// Bytes of a target in its line; a longer one is cut.
const MAX_TARGET: usize = 1024;

/// Starts logging. Without an access log nothing is done for it, not even looking whether anybody wants it.
///
/// # Errors
/// When the filter is none, or the file cannot be opened.
pub(crate) fn start(filter: &str, access_log: Option<&Path>) -> Result<Option<AccessLog>, String> {
    let filter = self::filter(filter)?;
    let (access, log) = match access_log {
        None => (None, None),
        Some(path) => {
            let (counter, reopen) = (Arc::default(), Arc::new(AtomicBool::new(false)));
            let log = Log {
                writer: open(path)?,
                path: path.into(),
                reopen: Arc::clone(&reopen),
                dropped: Arc::clone(&counter),
                told: 0,
                at: Instant::now(),
                failed: false,
            };
            let builder = NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES);
            let (writer, guard) = builder.thread_name("access-log").finish(log);
            let _ = counter.set(writer.error_counter());
            let log = AccessLog { reopener: Reopener { reopen, writer: writer.clone() }, _guard: guard };
            let layer = tracing_subscriber::fmt::layer().event_format(Line).with_writer(writer);
            (Some(layer.with_filter(Targets::new().with_target(ACCESS, Level::INFO))), Some(log))
        }
    };
    let to_stderr =
        tracing_subscriber::fmt::layer().with_ansi(io::stderr().is_terminal()).with_writer(io::stderr);
    tracing_subscriber::registry().with(to_stderr.with_filter(filter)).with(access).init();
    Ok(log)
}

/// The access log. What is still to be written of it is written when this is dropped.
pub(crate) struct AccessLog {
    pub(crate) reopener: Reopener,
    _guard: WorkerGuard,
}

/// Has the access log opened anew, from any thread: after its file was moved away.
#[derive(Clone)]
pub(crate) struct Reopener {
    reopen: Arc<AtomicBool>,
    writer: NonBlocking,
}

impl Reopener {
    pub(crate) fn reopen(&mut self) {
        self.reopen.store(true, Ordering::Release);
        // An empty line has its thread look, even if no request comes.
        let _ = self.writer.write(&[]);
    }
}

/// What is logged besides requests.
pub(crate) fn filter(text: &str) -> Result<EnvFilter, String> {
    let filter =
        EnvFilter::try_new(text).map_err(|error| format!("{error}: say info, or info,TARGET=debug"))?;
    Ok(filter.add_directive(format!("{ACCESS}=off").parse().map_err(|_| "no directive")?))
}

fn open(path: &Path) -> Result<Box<dyn Write + Send>, String> {
    if path == Path::new("-") {
        return Ok(Box::new(BufWriter::new(io::stdout())));
    }
    let file = OpenOptions::new().append(true).create(true).open(path).map_err(|error| {
        format!(
            "--access-log {}: {error}; name a file that this user may write, or - for standard output",
            path.display()
        )
    })?;
    Ok(Box::new(BufWriter::new(file)))
}

/// The file, on a thread of its own. What could not be written is told, once a second at most.
struct Log {
    writer: Box<dyn Write + Send>,
    path: PathBuf,
    reopen: Arc<AtomicBool>,
    dropped: Arc<OnceLock<ErrorCounter>>,
    /// Lines of which it was told that they were dropped.
    told: usize,
    at: Instant,
    failed: bool,
}

impl Log {
    /// Opens the file anew if it is to be. If that fails the old one goes on: better there than nowhere.
    fn reopen_if_asked(&mut self) {
        if !self.reopen.swap(false, Ordering::Acquire) {
            return;
        }
        // What was told before belongs to the old one.
        if let Err(error) = self.writer.flush() {
            self.failed(&error);
        }
        match open(&self.path) {
            Ok(writer) => {
                self.writer = writer;
                tracing::info!("the access log was opened anew");
            }
            Err(error) => tracing::error!("{error}; the old file goes on"),
        }
    }

    fn tell(&mut self) {
        let dropped = self.dropped.get().map_or(0, ErrorCounter::dropped_lines);
        if dropped > self.told {
            let lines = dropped - self.told;
            tracing::warn!(
                "{lines} lines of the access log were dropped: requests come faster than it is written"
            );
            (self.told, self.at) = (dropped, Instant::now());
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failed, true) {
            tracing::error!("the access log cannot be written: {error}");
        }
    }
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.reopen_if_asked();
        if let Err(error) = self.writer.write_all(line) {
            self.failed(&error);
        }
        if self.at.elapsed() > Duration::from_secs(1) {
            self.tell();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.reopen_if_asked();
        match self.writer.flush() {
            Err(error) => self.failed(&error),
            Ok(()) if std::mem::take(&mut self.failed) => {
                tracing::info!("the access log can be written again");
            }
            Ok(()) => {}
        }
        self.tell();
        Ok(())
    }
}

/// A line per request, as other servers write it; the last figure is the microseconds it took:
/// `127.0.0.1:50312 - - [02/Jan/2026:15:04:05 +0000] "GET / HTTP/1.1" 200 - 85`
struct Line;

#[derive(Default)]
struct Fields {
    peer: String,
    date: String,
    method: String,
    target: String,
    version: String,
    status: u64,
    micros: u64,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields { peer, date, method, target, version, status, micros } = fields;
        // Fri, 02 Jan 2026 15:04:05 GMT
        let part = |range| date.get(range).unwrap_or("-");
        let (day, month, year, time) = (part(5..7), part(8..11), part(12..16), part(17..25));
        write!(line, "{peer} - - [{day}/{month}/{year}:{time} +0000] \"{method} ")?;
        for byte in target.bytes().take(MAX_TARGET) {
            // Nobody ends the quotation, or the line, from outside.
            match byte {
                b'"' | b'\\' | 0..=b' ' | 127.. => write!(line, "\\x{byte:02X}")?,
                _ => line.write_char(char::from(byte))?,
            }
        }
        let cut = if target.len() > MAX_TARGET { "..." } else { "" };
        writeln!(line, "{cut} {version}\" {status} - {micros}")
    }
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "status" => self.status = value,
            "micros" => self.micros = value,
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = match field.name() {
            "peer" => &mut self.peer,
            "date" => &mut self.date,
            "method" => &mut self.method,
            "target" => &mut self.target,
            "version" => &mut self.version,
            _ => return,
        };
        // Writing to a text never fails.
        let _ = write!(text, "{value:?}");
    }
}
