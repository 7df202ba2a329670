//! What the tests of the seam share: a layer, servers under any number of it, and clients that speak through it.
//! And sites of files, with a browser.

// Each test binary uses its own part of it.
#![allow(dead_code, unreachable_pub)]

pub mod http;
pub mod pieces;
pub mod web;
pub mod wire;
pub mod worker;
pub mod xor;

#[path = "../../../core/tests/support/mod.rs"]
pub mod common;

use std::net::SocketAddr;

use campanile::{Config, Nested, Server, ServerHandle, Service};

use xor::Xor;

/// A service under `depth` layers. Their bounds are tight if `is_tight`: 300 bytes of input, and as little output as a
/// service can be promised.
pub fn layered(depth: usize, is_tight: bool, service: impl Service + 'static) -> Box<dyn Service> {
    let mut service: Box<dyn Service> = Box::new(service);
    for level in (0..depth).rev() {
        let nested = Nested::new(Xor::new(level), service);
        service = Box::new(if is_tight { nested.limits(300, 1) } else { nested });
    }
    service
}

/// A server with one worker.
pub fn serve<S: Service + 'static>(
    config: Config,
    make: impl Fn() -> S + Send + Sync + 'static,
) -> (ServerHandle, SocketAddr) {
    let server = Server::new().listen("127.0.0.1:0").workers(1).config(config).serve(make).expect("a server");
    let address = common::tcp(&server);
    (server, address)
}

/// The least memory with which everything still has to work.
pub fn tiny() -> Config {
    Config {
        receive_buffers: 4,
        receive_buffer_len: 512,
        receive_budget: 1024,
        input_limit: 4096,
        send_buffer_len: 4096,
        send_buffers: 16,
        send_buffers_per_connection: 1,
        room: 1024,
        held_limit: 4096,
        ..Config::default()
    }
}
