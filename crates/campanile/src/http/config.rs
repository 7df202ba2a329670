//! The configuration of HTTP: its bounds, and how long each may take.

use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use campanile_protocol::http1::Limits;

/// The bounds of HTTP connections. Those of connections as such are in [`Config`](crate::Config), whose
/// [`frame_timeout`](crate::Config::frame_timeout) and [`idle_timeout`](crate::Config::idle_timeout) end a connection
/// without an answer: they are to be longer than the times for heads, bodies and idle connections here.
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
    /// Bounds of heads and of the framing of bodies.
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
    /// answer is cut if it was begun. It runs only while the client is waited for: not while an answer is on its way to
    /// it, nor while nobody reads, because the handler does not, or the memory for bodies is used up. 30 s by default.
    pub body_timeout: Duration,
    /// Bytes per second that a body has to come at; none for no such limit. Each byte gives back the time that it takes
    /// at this rate, up to [`body_timeout`](Self::body_timeout) again: so a client at twice the rate is never cut, and
    /// one that sends a byte a second is, after little more than that time. 500 by default.
    pub body_rate: u32,
    /// How long all of a body may be waited for, together; `None` for as long as it takes. A day by default.
    pub body_total: Option<Duration>,
    /// Requests on one connection: the answer to the last of them says `Connection: close`. `None`, by default, for as
    /// many as come.
    pub requests_per_connection: Option<NonZeroU32>,
    /// Requests of one connection that are answered before others have their turn, if it sent so many at once. 256 by
    /// default.
    ///
    /// What bounds the answers is their length: a client that does not read them gets no more than fit into
    /// [`send_buffers_per_connection`](crate::Config::send_buffers_per_connection) and
    /// [`held_limit`](crate::Config::held_limit), and then its requests are not read.
    pub pipeline_turn: NonZeroU32,
    /// Bytes of bodies that [`Response::collect`](super::Response::collect) holds at a time, over all connections of a
    /// worker. One body at a time may go beyond it, so that there is always one that can be completed. What is complete
    /// stays charged until its last clone is dropped or sent, but holds up nobody; where it is the answer, a client
    /// that does not read it loses it after [`send_stall`](crate::Config::send_stall), and one that reads too slowly
    /// by [`send_rate`](crate::Config::send_rate). 64 MiB by default.
    pub body_memory: usize,
    /// How long a body waits for its share of that before it is answered 503. 10 s by default.
    pub body_wait: Duration,
    /// Bytes of a body that nobody wants, which are read and dropped to keep the connection. Beyond it the connection
    /// is closed after the answer. 256 KiB by default.
    pub discard_limit: u64,
    /// Tell the log of each request, when its answer is written: an event of [`tracing`] with the target
    /// `campanile::access` and the fields `peer`, `date`, `method`, `target`, `version`, `status` and `micros` (from
    /// the head to the end of the answer, by the time of the worker's turns: 0 if both were in one). The status of a
    /// request whose answer was not completed, whoever gave up, is 499, as nginx has it. Like all of the
    /// log it goes wherever the program sends it, by `tracing-subscriber` for instance, and nowhere else. Off by
    /// default.
    pub access_log: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            limits: Limits::default(),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            drain_grace: Duration::from_secs(1),
            body_timeout: Duration::from_secs(30),
            body_rate: 500,
            body_total: Some(Duration::from_secs(24 * 60 * 60)),
            requests_per_connection: None,
            pipeline_turn: NonZeroU32::new(256).expect("more than none"),
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
