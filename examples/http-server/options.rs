//! The options of the command line, and what they set.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use campanile::{Address, Config, Inherited, RingKind, Server, http};
use clap::Parser;
use clap::builder::BoolishValueParser;

use crate::logs;

/// What the core's own deadlines come after those of HTTP.
const SOON: Duration = Duration::from_secs(5);

/// A whole HTTP server, on io_uring where it can be had. Ctrl-C lets it finish what was begun; twice ends it at once.
/// SIGHUP opens the access log anew, and SIGUSR2 starts it anew without refusing a connection.
#[derive(Parser)]
#[command(version, allow_negative_numbers = true)]
pub(crate) struct Options {
    /// Where to listen: IP:PORT, or unix:PATH; several times, or separated by commas, for several places. If not said,
    /// the sockets that a service manager gives, or else 127.0.0.1:8080.
    #[arg(long, env = "HTTP_LISTEN", value_name = "ADDR", value_delimiter = ',')]
    listen: Vec<Address>,
    /// The directory whose files are served at /static/; a small built-in site if there is none.
    #[arg(long, env = "HTTP_ROOT", value_name = "DIR", value_parser = directory)]
    pub(crate) root: Option<PathBuf>,
    /// Worker threads; one per core if not said.
    #[arg(long, env = "HTTP_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Keep each worker on a core of its own.
    #[arg(long, env = "HTTP_PIN", value_parser = BoolishValueParser::new())]
    pub(crate) pin: bool,
    /// What it runs on: auto is io_uring, or epoll where io_uring is refused, and then it says why; uring is io_uring
    /// or nothing; poll is epoll. CAMPANILE_RING if not said, and auto if that says nothing either.
    #[arg(long, env = "HTTP_RING", value_name = "RING")]
    ring: Option<RingKind>,
    /// How long the head of a request may take: 10s, 500ms, or a number of seconds.
    #[arg(long, env = "HTTP_HEADER_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = time)]
    header_timeout: Duration,
    /// How long a connection may be idle between two requests.
    #[arg(long, env = "HTTP_IDLE_TIMEOUT", value_name = "TIME", default_value = "75s", value_parser = time)]
    idle_timeout: Duration,
    /// How long a connection may be kept before the answer to its next request is the last; for ever if not said.
    #[arg(long, env = "HTTP_KEEPALIVE_TIME", value_name = "TIME", value_parser = time)]
    keepalive_time: Option<Duration>,
    /// Requests on one connection, the last of which is told so; as many as come if not said.
    #[arg(long, env = "HTTP_KEEPALIVE_REQUESTS", value_name = "N")]
    keepalive_requests: Option<NonZeroU32>,
    /// How long the client may send nothing of a body that is waited for.
    #[arg(long, env = "HTTP_BODY_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = time)]
    body_timeout: Duration,
    /// Bytes per second that a body has to come at, or 0: 408 for who is slower.
    #[arg(long, env = "HTTP_BODY_RATE", value_name = "SIZE", default_value = "500", value_parser = rate)]
    body_rate: u32,
    /// How long the client may take nothing of an answer.
    #[arg(long, env = "HTTP_SEND_TIMEOUT", value_name = "TIME", default_value = "60s", value_parser = time)]
    send_timeout: Duration,
    /// Bytes per second that a client has to take of an answer, or 0: who is slower is cut.
    #[arg(long, env = "HTTP_SEND_RATE", value_name = "SIZE", default_value = "2000", value_parser = rate)]
    send_rate: u32,
    /// The longest body that /echo answers: 16MiB, 1GB, or a number of bytes; 413 beyond.
    #[arg(long, env = "HTTP_BODY_LIMIT", value_name = "SIZE", default_value = "16MiB", value_parser = size)]
    body_limit: ByteSize,
    /// Connections of each worker at a time; those beyond wait to be accepted.
    #[arg(
        long, env = "HTTP_MAX_CONNECTIONS", value_name = "N", default_value_t = Config::default().max_connections,
        value_parser = clap::value_parser!(u32).range(1..=1 << 24)
    )]
    max_connections: u32,
    /// Connections of each worker from one address (from one /64, with IPv6): those beyond are closed at once. No limit
    /// if not said, since it makes accepting dearer.
    #[arg(long, env = "HTTP_CONNECTIONS_PER_ADDRESS", value_name = "N")]
    connections_per_address: Option<NonZeroU32>,
    /// How long what was begun may take when the server is to stop; what is not finished then is cut.
    #[arg(long, env = "HTTP_DRAIN_TIME", value_name = "TIME", default_value = "10s", value_parser = time)]
    drain_time: Duration,
    /// How long a connection that is idle then is left open, for a request that may be on its way.
    #[arg(long, env = "HTTP_DRAIN_GRACE", value_name = "TIME", default_value = "1s", value_parser = time)]
    drain_grace: Duration,
    /// Answer by async handlers: the same answers, for who wants to compare.
    #[arg(long = "async", env = "HTTP_ASYNC", value_parser = BoolishValueParser::new())]
    pub(crate) is_async: bool,
    /// What SIGUSR2 starts to take over from this process, with the same arguments: the program itself if not said.
    #[arg(long, env = "HTTP_SUCCESSOR", value_name = "PROGRAM")]
    pub(crate) successor: Option<PathBuf>,
    /// Write a line per request to this file, or to standard output if it is -. Lines are dropped, and that is logged,
    /// when the file is too slow.
    #[arg(long, env = "HTTP_ACCESS_LOG", value_name = "FILE")]
    pub(crate) access_log: Option<PathBuf>,
    /// What else is logged, to standard error: error, warn, info, debug, trace, off; or per target, as
    /// warn,campanile=debug.
    #[arg(long, env = "HTTP_LOG", value_name = "FILTER", default_value = "info", value_parser = filter)]
    pub(crate) log: String,
}

impl Options {
    /// What they set of HTTP.
    pub(crate) fn http(&self) -> http::Config {
        http::Config {
            header_timeout: self.header_timeout,
            idle_timeout: self.idle_timeout,
            body_timeout: self.body_timeout,
            body_rate: self.body_rate,
            requests_per_connection: self.keepalive_requests,
            drain_grace: self.drain_grace,
            access_log: self.access_log.is_some(),
            ..http::Config::default()
        }
    }

    /// What they set of connections as such.
    pub(crate) fn server(&self) -> Config {
        let default = Config::default();
        // HTTP answers when a head or a body is late, so it comes first.
        let after = |own: Duration, default: Option<Duration>| {
            default.map(|least| least.max(own.saturating_add(SOON)))
        };
        Config {
            max_connections: self.max_connections,
            drain_time: self.drain_time,
            connections_per_address: self.connections_per_address.map(NonZeroU32::get),
            send_stall: self.send_timeout,
            send_rate: self.send_rate,
            frame_timeout: after(self.header_timeout.max(self.body_timeout), default.frame_timeout),
            idle_timeout: after(self.idle_timeout.max(self.body_timeout), default.idle_timeout),
            // What goes on then is bounded by the rates.
            lifetime: self.keepalive_time,
            lifetime_grace: Duration::MAX,
            ..default
        }
    }

    /// Where to listen, besides the sockets that are there already.
    pub(crate) fn listen(&self, inherited: &Inherited) -> Vec<Address> {
        if self.listen.is_empty() && inherited.is_empty() {
            return vec![Address::Tcp(([127, 0, 0, 1], 8080).into())];
        }
        self.listen.clone()
    }

    pub(crate) fn workers(&self) -> Option<usize> {
        self.workers.map(usize::from)
    }

    /// A server on the ring they ask for.
    pub(crate) fn on_ring(&self, server: Server) -> Server {
        self.ring.into_iter().fold(server, Server::ring)
    }

    /// In bytes.
    pub(crate) fn body_limit(&self) -> usize {
        usize::try_from(self.body_limit.as_u64()).unwrap_or(usize::MAX)
    }
}

/// A time that has passed some day: `10s`, `1m 30s`, `500ms`, or a number of seconds.
fn time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = seconds.or_else(|| humantime::parse_duration(text).ok());
    time.filter(|time| !time.is_zero())
        .ok_or_else(|| "write 10s, 500ms, 1m, or a number of seconds, more than none".into())
}

/// Bytes per second.
fn rate(text: &str) -> Result<u32, String> {
    let rate = size(text)?.as_u64();
    u32::try_from(rate).map_err(|_| "write less than 4GiB a second".into())
}

fn size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|_| "write 16MiB, 500kB, or a number of bytes".into())
}

fn directory(text: &str) -> Result<PathBuf, String> {
    match Path::new(text).metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(text.into()),
        Ok(_) => Err("it is no directory: name the one whose files are to be served".into()),
        Err(error) => Err(format!("{error}: name a directory that this user may read")),
    }
}

fn filter(text: &str) -> Result<String, String> {
    logs::filter(text).map(|_| text.to_owned())
}
