//! The configuration of HTTP: its bounds, and how long each may take.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use campanile_protocol::http1::Limits;

/// The bounds of HTTP connections. Those of connections as such are in [`Config`](crate::Config).
///
/// ```
/// use campanile::http;
///
/// let config = http::Config { idle_timeout: std::time::Duration::from_secs(10), ..http::Config::default() };
/// let hello = move || http::service(|_, response| response.text(200, "Hello, World!")).config(config.clone());
/// # fn is_a_service(_: impl campanile::Service) {}
/// # is_a_service(hello());
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    /// Bounds of heads and of the framing of bodies. A head has at most [100](MAX_FIELDS) fields: 431 beyond.
    pub limits: Limits,
    /// How long a head may take from its first byte to its last, or from the opening of the connection for the first:
    /// 408 beyond (RFC 9110, section 15.5.9). Bytes that trickle in do not extend it. 10 s by default.
    pub header_timeout: Duration,
    /// How long a connection may be idle between two requests before it is closed, and how long all of a body that
    /// nobody wants may take. 75 s by default.
    pub idle_timeout: Duration,
    /// How long a connection that is idle when the server begins to drain is left open, for a client that is just
    /// sending its next request: it is answered, and told that the connection is closed then. So no client that sends
    /// again within this time meets an end that was not announced. Well below
    /// [`drain_time`](crate::Config::drain_time), when all is closed. 1 s by default.
    pub drain_grace: Duration,
    /// How long a body that is waited for may make no progress at all: 408 beyond (RFC 9110, section 15.5.9), or the
    /// answer is cut if it was begun. It does not run while an answer is on its way to the client. There is no least
    /// rate: a client that sends a byte now and then goes on for as long as its body is long. 30 s by default.
    pub body_timeout: Duration,
    /// Bytes of bodies that [`Response::collect`](super::Response::collect) holds at a time, over all connections of a
    /// worker. One body at a time may go beyond it, so that there is always one that can be completed. What is complete
    /// stays charged until its last clone is dropped or sent, but holds up nobody. 64 MiB by default.
    pub body_memory: usize,
    /// How long a body waits for its share of that before it is answered 503. 10 s by default.
    pub body_wait: Duration,
    /// Bytes of a body that nobody wants, which are read and dropped to keep the connection. Beyond it the connection
    /// is closed after the answer. 256 KiB by default.
    pub discard_limit: u64,
    /// Tell the log of each request, when its answer is written: an event of [`tracing`] with the target
    /// `campanile::access` and the fields `peer`, `date`, `method`, `target`, `version`, `status` and `micros` (from
    /// the head to the end of the answer, by the time of the worker's turns: 0 if both were in one). Like all of the
    /// log it goes wherever the program sends it, by `tracing-subscriber` for instance, and nowhere else. Off by
    /// default.
    pub access_log: bool,
}

/// Fields that a head may have.
pub const MAX_FIELDS: usize = 100;

impl Default for Config {
    fn default() -> Config {
        Config {
            limits: Limits::default(),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            drain_grace: Duration::from_secs(1),
            body_timeout: Duration::from_secs(30),
            body_memory: 64 * 1024 * 1024,
            body_wait: Duration::from_secs(10),
            discard_limit: 256 * 1024,
            access_log: false,
        }
    }
}

/// What is shared by all connections that nobody configured.
pub(super) fn standard() -> Arc<Config> {
    static STANDARD: LazyLock<Arc<Config>> = LazyLock::new(Arc::default);
    Arc::clone(&STANDARD)
}
