//! A worker for whatever futures a test has.

use std::time::Duration;

use campanile::{Config, Server, ServerHandle};

use super::common::{counted, until};

/// A server that listens nowhere, with one worker.
pub fn idle() -> ServerHandle {
    let config = Config { drain_time: Duration::from_secs(30), ..Config::default() };
    Server::new().workers(1).config(config).on_start(async |_| {}).run().expect("a worker")
}

/// Runs an async function on a worker, and waits for what it returns.
pub fn on<T: Send + 'static>(server: &ServerHandle, run: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    server.workers()[0].spawn(run).wait().expect("no panic")
}

/// Checks that nothing is left of all the connections that it opened.
pub fn let_go_of_all(server: &ServerHandle) {
    until("every connection is over", || counted(server).connections == 0);
}
