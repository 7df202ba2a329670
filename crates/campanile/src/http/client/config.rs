//! The configuration of a client: its bounds, and how long each step may take.

use std::time::Duration;

use campanile_protocol::http1::Limits;

use crate::pool::PoolConfig;

/// The bounds of a [`Client`](super::Client).
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Bounds of the heads of answers and of the framing of their bodies.
    pub limits: Limits,
    /// How long a new connection may take, with the look-up of its name. 10 s by default.
    pub connect_timeout: Duration,
    /// How long an answer may let wait for all of its head, counted from the last byte of the request that the server
    /// took. 60 s by default.
    pub head_timeout: Duration,
    /// How long a body may make no progress while it is waited for. 60 s by default.
    pub body_timeout: Duration,
    /// How long a server that is asked by `Expect: 100-continue` may take to say whether it wants the body, before that
    /// is sent all the same (RFC 9110, section 10.1.1). 1 s by default.
    pub continue_timeout: Duration,
    /// Bounds of the connections to each destination.
    pub pool: PoolConfig,
    /// Destinations that are known at a time. Beyond it those without a connection are forgotten. 1,024 by default.
    pub destinations: usize,
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            continue_timeout: Duration::from_secs(1),
            pool: PoolConfig::default(),
            destinations: 1024,
        }
    }
}
