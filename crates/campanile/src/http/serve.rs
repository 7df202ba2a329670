//! Serving: a server whose connections are HTTP.

use std::rc::Rc;
use std::sync::Arc;

use campanile_core::{Hosted, ServeError, Server, ServerHandle};

use super::{Config, Handler, Http};

/// Starts a server that answers each request by the handler that `make` makes: once on each worker, so that what it
/// keeps needs no lock.
///
/// ```no_run
/// use campanile::{Server, http};
///
/// fn main() -> Result<(), campanile::ServeError> {
///     let server = Server::new().listen("127.0.0.1:8080");
///     http::serve(server, http::Config::default(), || {
///         http::Router::new().get("/", |_, response| response.text(200, "Hello, World!\n"))
///     })?
///     .wait()
/// }
/// ```
///
/// State of a worker is made there too, and shared by its handlers:
///
/// ```no_run
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// use campanile::{Server, http};
///
/// let make = || {
///     let visits = Rc::new(Cell::new(0));
///     http::Router::new().get("/", move |_, response| {
///         visits.set(visits.get() + 1);
///         response.text(200, &format!("{} of this worker\n", visits.get()))
///     })
/// };
/// let server = http::serve(Server::new().listen("127.0.0.1:8080"), http::Config::default(), make)?;
/// # Ok::<(), campanile::ServeError>(())
/// ```
///
/// # Errors
/// As [`Server::serve`].
pub fn serve<H: Handler + 'static>(
    server: Server,
    config: Config,
    make: impl Fn() -> H + Send + Sync + 'static,
) -> Result<ServerHandle, ServeError> {
    let config = Arc::new(config);
    server.serve_with(
        move |_| Rc::new(make()),
        move |handler, _| Http::new(Rc::clone(handler)).config(Arc::clone(&config)),
    )
}

/// As [`serve`], with one worker that is on this thread, and turns when it is told to: see [`Server::host`].
///
/// # Errors
/// As [`Server::serve`].
pub fn host<H: Handler + 'static>(server: Server, config: Config, handler: H) -> Result<Hosted, ServeError> {
    let (config, handler) = (Arc::new(config), Rc::new(handler));
    server.host(move || Http::new(Rc::clone(&handler)).config(Arc::clone(&config)))
}
