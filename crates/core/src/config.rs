//! The configuration: every bound there is, with a default that is safe.

use std::time::Duration;

/// The bounds of one worker and of its connections.
///
/// Memory is shared by all connections of a worker, taken at start or when first needed, and never more than these
/// figures say: [`memory_bound`](Self::memory_bound) adds them up.
///
/// ```
/// use campanile_core::Config;
///
/// let config = Config { max_connections: 1_000, ..Config::default() };
/// assert!(config.memory_bound() > 0);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Connections of one worker at a time, accepted and outgoing. At the limit a worker stops accepting; it goes
    /// on below it, and what waits in the listener's queue meanwhile is not lost. With fewer free places than
    /// [`backlog`](Self::backlog) it accepts one connection per turn and listener, so many new connections at once are
    /// accepted fastest with a limit well above the backlog. The descriptors allowed (RLIMIT_NOFILE) can make it less,
    /// and then that is said. 10,000 by default.
    pub max_connections: u32,
    /// Connections of one worker at a time that were accepted from one address: those beyond are closed at once, and
    /// counted ([`Counters::turned_away`](crate::Counters)). An IPv6 address counts for its whole /64, an IPv4 one for
    /// itself; Unix sockets are not counted. Workers do not know of each other's, so of all of them an address may have
    /// as many times more. `None`, by default, for no such limit: it costs about 2 µs of processor time per connection,
    /// where a short one takes 31 µs otherwise, since the kernel does not say who was accepted and has to be asked.
    pub connections_per_address: Option<u32>,

    /// Entries of the submission queue, lowered to 32,768 (the kernel's limit); the completion queue has up to four
    /// times as many. 1,024 by default. A small memory lock limit can make it less, and then that is said.
    pub queue_entries: u32,

    /// Receive buffers of one worker: a power of two, at most 32,768. 256 by default.
    pub receive_buffers: u16,
    /// Bytes in a receive buffer. 16 KiB by default.
    pub receive_buffer_len: u32,
    /// Bytes that a receive is armed for. The last buffer is filled even so, whatever is left of the budget, so the
    /// most that can still arrive after a connection stopped reading is this and one buffer. Well below all receive
    /// buffers together, or one fast sender starves the rest; it is lowered to a quarter of them. 64 KiB by default.
    pub receive_budget: u32,

    /// Bytes of unread input at which a connection stops reading; a service that waits for more is closed. One
    /// budget and one buffer more can arrive. 256 KiB by default.
    pub input_limit: usize,

    /// Bytes that a [`Stream`](crate::Stream) holds for its handler in each direction before reading pauses, or a write
    /// waits; one write of any length is taken whole. 64 KiB by default.
    pub stream_buffer: usize,

    /// Datagrams of a [`UdpSocket`](crate::UdpSocket) that were not taken, at which it stops reading until half of them
    /// were; as many more can arrive as there are receive buffers. 1,024 by default.
    pub datagrams_unread: u32,
    /// Bytes of such datagrams, at which it stops as well. 256 KiB by default.
    pub datagram_bytes_unread: usize,
    /// Datagrams of such a socket that are being sent at a time; who sends more waits. 256 by default.
    pub datagrams_unsent: u32,

    /// Async handlers of one worker that go on when their connection is over, so that what follows an error is run: so
    /// many at a time; the next is dropped where it waits, so that clients who ask and go away pile up nothing. 1,000
    /// by default.
    pub handlers_left: u32,

    /// Bytes in a send buffer: the most room a service can have. 16 KiB by default, at least 4 KiB.
    pub send_buffer_len: u32,
    /// Send buffers of one worker. A connection holds one only while it has something to send; when all are held,
    /// others wait. 8,192 by default, which is 128 MiB if all were filled.
    pub send_buffers: u32,
    /// Send buffers that one connection may hold; one more is in reserve for answers to timers and wakes. 4 by default.
    pub send_buffers_per_connection: u16,
    /// Bytes of room that a service is promised when it is called for input or for room; at most `send_buffer_len`.
    /// 4 KiB by default.
    pub room: u32,
    /// Bytes handed over by [`Output::send`](crate::Output::send) and not sent, at which a connection takes no more.
    /// 1 MiB by default.
    pub held_limit: usize,

    /// Buffers for reading files. 32 by default. Half of them are cut into 16 parts each, for reads that are no longer
    /// than such a part; reads wait when all buffers of their length are in use.
    pub file_buffers: u32,
    /// Bytes in a buffer for reading files, and so the most that one read brings. 512 KiB by default, so
    /// that a part of one is 32 KiB.
    pub file_buffer_len: u32,

    /// Bytes read and discarded from a peer that goes on sending after the service finished. 64 MiB by default.
    pub linger_limit: u64,
    /// How long such a peer is waited for. 5 s by default.
    pub linger_time: Duration,
    /// How long a peer may take nothing of what is sent before its connection is closed, with a reset. 60 s by default.
    pub send_stall: Duration,
    /// Bytes per second that a peer has to take of what is sent; none for no such limit. 2,000 by default.
    ///
    /// Whoever is sent something has [`send_stall`](Self::send_stall) for it, and every byte taken gives it back the
    /// time that this rate takes for a byte, up to no more than that again. So a peer at twice the rate is never cut,
    /// and one at half of it after twice that time at the latest, once the buffers of the sockets are full. Only what
    /// is unsent counts: when all was taken, the next answer begins anew. The kernel takes bytes in steps
    /// ([`socket_unsent`](Self::socket_unsent)), and peers free the memory of their sockets in steps too, over loopback
    /// of 128 KiB: where such a step takes a slow peer longer than `send_stall`, that is what cuts it.
    pub send_rate: u32,
    /// How long nothing may be received or sent before a connection is closed; `None` for as long as it likes. It
    /// counts while the service waits for its peer: one that waits for something else has its own time. 10 min by
    /// default.
    pub idle_timeout: Option<Duration>,
    /// How long input that a service has seen and left unread, because it waits for the rest of it, may lie there: so
    /// the time for a frame from its first byte that was left to its last. Bytes that trickle in do not extend it, only
    /// that some are consumed; it does not run while something is unsent. Then the connection is closed. `None` for as
    /// long as it likes; 60 s by default. Protocols with a shorter time can answer before it is over, as HTTP does.
    pub frame_timeout: Option<Duration>,
    /// How old a connection may grow: then its service is told [`Event::Drain`](crate::Event::Drain), as if the server
    /// stopped. HTTP says `Connection: close` in its next answer. `None`, by default, for as old as it likes.
    pub lifetime: Option<Duration>,
    /// How long such a connection may go on even so, before it is closed. 30 s by default.
    pub lifetime_grace: Duration,
    /// How long a send may take before what is [lent](crate::Output::lend) and not sent is given back, and so the
    /// longest that a slow peer holds a file buffer. While reads wait for one it is a hundredth of that, but at least a
    /// millisecond. More than nothing; 500 ms by default.
    pub lend_time: Duration,
    /// How long a stopping server waits for its connections to finish before it closes them. 10 s by default.
    pub drain_time: Duration,

    /// Connections that wait to be accepted, per listener (listen(2); the kernel caps it at net.core.somaxconn).
    /// 4,096 by default.
    pub backlog: u32,
    /// Send small writes at once (TCP_NODELAY). On by default: answers of a turn go out together anyway.
    pub nodelay: bool,
    /// Accept a TCP connection only when its first bytes are there, or after this time (TCP_DEFER_ACCEPT, whole
    /// seconds). Short connections of HTTP took 0.78 times the processor time with it where requests came after the
    /// connection, and 0.97 times where they came at once; never for protocols where the
    /// server speaks first, whose clients would wait for as long. Deadlines begin when it is accepted, so a client that
    /// says nothing has this time on top. Off by default.
    pub defer_accept: Option<Duration>,
    /// Size of the kernel's receive buffer per socket, in bytes (SO_RCVBUF); its own choice by default.
    pub socket_receive_buffer: Option<u32>,
    /// Bytes that the kernel takes of a TCP connection that was accepted, beyond what is on its way to the peer
    /// (TCP_NOTSENT_LOWAT of tcp(7)); `None` for as many as its send buffer holds, which is megabytes. So it takes
    /// bytes as the peer does, in steps of half of that at most, and a slow peer has little of the kernel's memory.
    /// 64 KiB by default.
    pub socket_unsent: Option<u32>,
    /// Size of the kernel's send buffer per socket, in bytes (SO_SNDBUF); its own choice by default.
    pub socket_send_buffer: Option<u32>,

    /// For how long a worker that has nothing to do looks for completions, each time before it sleeps. 50 µs took 1.2
    /// times the processor time at 64 busy connections over loopback. Only on io_uring, and not for a worker that is
    /// hosted; at most a second. No time, by default.
    pub spin: Duration,
    /// For how long completions are gathered, up to 64, before a worker is woken by the first of them (Linux 6.12):
    /// fewer sleeps, and answers that are later by as much. 100 µs took 0.94 times the processor time at 64 busy
    /// connections over loopback, and 20 µs 1.06 times, for its timer. Timers may be as late. Only on io_uring, and not
    /// for a worker that is hosted; in whole microseconds, at most 100 ms. No time, by default.
    pub min_wait: Duration,
    /// For how long the kernel polls the network cards that this worker's connections come from, when it would sleep,
    /// instead of waiting for their interrupts (NAPI busy polling, Linux 6.9): for the least latency behind a real
    /// card, at the price of a whole core. Only on io_uring; in whole microseconds, at most a second. No time, by
    /// default.
    pub napi_busy_poll: Duration,

    /// Fill several buffers in one completion where the kernel can (Linux 6.10). On by default.
    pub bundles: bool,
    /// Keep sockets in the ring's own table where the kernel can (Linux 6.8). On by default.
    pub direct_descriptors: bool,
}

/// The most entries that the kernel gives a submission queue.
const MOST_ENTRIES: u32 = 1 << 15;

/// Longer than that nobody means.
const MOST_SPUN: Duration = Duration::from_secs(1);
const MOST_GATHERED: Duration = Duration::from_millis(100);

impl Default for Config {
    fn default() -> Config {
        Config {
            max_connections: 10_000,
            connections_per_address: None,
            queue_entries: 1024,
            receive_buffers: 256,
            receive_buffer_len: 16 * 1024,
            receive_budget: 64 * 1024,
            input_limit: 256 * 1024,
            stream_buffer: 64 * 1024,
            handlers_left: 1_000,
            datagrams_unread: 1024,
            datagram_bytes_unread: 256 * 1024,
            datagrams_unsent: 256,
            send_buffer_len: 16 * 1024,
            send_buffers: 8192,
            send_buffers_per_connection: 4,
            room: 4096,
            held_limit: 1024 * 1024,
            file_buffers: 32,
            file_buffer_len: 512 * 1024,
            linger_limit: 64 * 1024 * 1024,
            linger_time: Duration::from_secs(5),
            send_stall: Duration::from_secs(60),
            send_rate: 2_000,
            idle_timeout: Some(Duration::from_secs(600)),
            frame_timeout: Some(Duration::from_secs(60)),
            lifetime: None,
            lifetime_grace: Duration::from_secs(30),
            lend_time: Duration::from_millis(500),
            drain_time: Duration::from_secs(10),
            backlog: 4096,
            nodelay: true,
            defer_accept: None,
            socket_receive_buffer: None,
            socket_unsent: Some(64 * 1024),
            socket_send_buffer: None,
            spin: Duration::ZERO,
            min_wait: Duration::ZERO,
            napi_busy_poll: Duration::ZERO,
            bundles: true,
            direct_descriptors: true,
        }
    }
}

impl Config {
    /// The most memory one worker ever takes by itself, in bytes: buffers, queues, and unread input of all its
    /// connections at their limit. What services allocate, and what they hand over as `Bytes`, is theirs. (Bytes read
    /// from files lie in the file buffers, which are counted, wherever they are lent to.) So is what lies on the
    /// sockets for datagrams that they bind, each of which has its own bounds.
    #[must_use]
    pub fn memory_bound(&self) -> usize {
        let connections = self.max_connections as usize;
        let receive =
            crate::buffer_ring::BufferRing::footprint(self.receive_buffers, self.receive_buffer_len);
        let send = (self.send_buffers as usize).saturating_mul(self.send_buffer_len as usize + 256);
        let files = (self.file_buffers as usize).saturating_mul(self.file_buffer_len as usize);
        let late = (self.receive_budget as usize).saturating_add(self.receive_buffer_len as usize);
        // What grows takes up to twice of what is in it.
        let carried = connections.saturating_mul(self.input_limit.saturating_add(late)).saturating_mul(2);
        let slots = connections.saturating_mul(crate::worker::SLOT_LEN);
        // What the kernel is told of and what is in the wheel and the books, per connection; and what is handed over.
        let books = connections.saturating_mul(crate::worker::BOOKS_LEN);
        let segments = connections.saturating_mul(crate::output::queue_footprint(self.held_limit));
        let queues = (self.queue_entries as usize).saturating_mul(64 + 4 * 16);
        [receive, send, files, carried, slots, books, segments, queues]
            .into_iter()
            .fold(0, usize::saturating_add)
    }

    /// This configuration with every figure where it can work, or what is wrong with it.
    pub(crate) fn checked(mut self) -> Result<Config, BadConfig> {
        let refuse = |field, why| Err(BadConfig { field, why });
        if !self.receive_buffers.is_power_of_two() || self.receive_buffers > 1 << 15 {
            return refuse("receive_buffers", "must be a power of two, at most 32,768 (the kernel's rule)");
        }
        if self.receive_buffer_len == 0 || self.receive_buffer_len > 1 << 24 {
            return refuse("receive_buffer_len", "must be between 1 byte and 16 MiB");
        }
        if self.send_buffer_len < 4096 || self.send_buffer_len > 1 << 24 {
            return refuse("send_buffer_len", "must be between 4 KiB and 16 MiB");
        }
        if self.room == 0 || self.room > self.send_buffer_len {
            return refuse("room", "must be at least 1 byte and at most send_buffer_len");
        }
        if self.send_buffers == 0 || self.send_buffers_per_connection == 0 {
            return refuse("send_buffers", "must be at least 1, in all and per connection");
        }
        if self.max_connections == 0 || self.max_connections > 1 << 24 {
            return refuse("max_connections", "must be between 1 and 16,777,216");
        }
        if self.connections_per_address == Some(0) {
            return refuse("connections_per_address", "must be at least 1; None is no limit");
        }
        if self.queue_entries == 0 || self.file_buffers == 0 || self.file_buffer_len == 0 {
            return refuse("queue_entries, file_buffers, file_buffer_len", "must be at least 1");
        }
        if self.input_limit == 0 || self.held_limit == 0 || self.stream_buffer == 0 {
            return refuse("input_limit, held_limit, stream_buffer", "must be at least 1 byte");
        }
        if self.datagrams_unread == 0 || self.datagram_bytes_unread == 0 || self.datagrams_unsent == 0 {
            return refuse("datagrams_unread, datagram_bytes_unread, datagrams_unsent", "must be at least 1");
        }
        if self.lend_time.is_zero() || self.send_stall.is_zero() {
            return refuse("lend_time, send_stall", "must be more than nothing");
        }
        if self.idle_timeout == Some(Duration::ZERO) || self.frame_timeout == Some(Duration::ZERO) {
            return refuse("idle_timeout, frame_timeout", "must be more than nothing, or `None`");
        }
        if self.spin.max(self.napi_busy_poll) > MOST_SPUN || self.min_wait > MOST_GATHERED {
            return refuse("spin, napi_busy_poll, min_wait", "must be at most 1 s, 1 s and 100 ms");
        }
        if !self.min_wait.is_zero() && self.min_wait < Duration::from_micros(1) {
            return refuse("min_wait", "must be at least 1 µs, or no time");
        }
        let all = u32::from(self.receive_buffers).saturating_mul(self.receive_buffer_len);
        self.receive_budget = self.receive_budget.min(all / 4).max(1);
        self.queue_entries = self.queue_entries.min(MOST_ENTRIES).next_power_of_two();
        Ok(self)
    }
}

/// A figure of [`Config`] that cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Config::{field} {why}")]
pub struct BadConfig {
    /// The field or fields.
    pub field: &'static str,
    /// The rule.
    pub why: &'static str,
}
