//! The options of the command line, and what they set.

use std::path::PathBuf;
use std::time::Duration;

use campanile::{Address, http};
use clap::Parser;

/// A whole HTTP server.
#[derive(Parser)]
pub(crate) struct Options {
    /// Where to listen: IP:PORT or unix:PATH; several times for several places.
    #[arg(long, env = "HTTP_LISTEN", default_value = "127.0.0.1:8080", value_delimiter = ',')]
    pub(crate) listen: Vec<Address>,
    /// Worker threads; one per core by default.
    #[arg(long, env = "HTTP_WORKERS")]
    pub(crate) workers: Option<usize>,
    /// The directory whose files are served at /static.
    #[arg(long, env = "HTTP_ROOT")]
    pub(crate) root: Option<PathBuf>,
    /// Keep each worker on a core of its own.
    #[arg(long, env = "HTTP_PIN")]
    pub(crate) pin: bool,
    /// Seconds that the head of a request may take.
    #[arg(long, env = "HTTP_HEADER_TIMEOUT", default_value_t = 10)]
    pub(crate) header_timeout: u64,
    /// Seconds that a connection may be idle between requests.
    #[arg(long, env = "HTTP_IDLE_TIMEOUT", default_value_t = 75)]
    pub(crate) idle_timeout: u64,
    /// Bytes of a body that is answered as a whole.
    #[arg(long, env = "HTTP_BODY_LIMIT", default_value_t = 16 << 20)]
    pub(crate) body_limit: usize,
}

impl Options {
    /// What they set of HTTP.
    pub(crate) fn http(&self) -> http::Config {
        http::Config {
            header_timeout: Duration::from_secs(self.header_timeout),
            idle_timeout: Duration::from_secs(self.idle_timeout),
            ..http::Config::default()
        }
    }
}
