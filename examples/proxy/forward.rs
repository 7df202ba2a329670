//! The way of a request: to one server, or if that is not there to the next, and its answer back.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use campanile::http::{
    self, Answered, Client, ClientConfig, ClientError, Content, Error, Method, OwnedRequest,
};
use campanile::http::{Payload, Request, Response};
use campanile::{Address, PoolConfig, PoolError};

use crate::fields;
use crate::upstreams::{Health, Upstream, Upstreams};

pub(crate) struct Proxy {
    upstreams: Upstreams,
    client: Client,
}

impl Proxy {
    pub(crate) fn new(names: &[String], health: &Health, config: &PoolConfig, patience: Duration) -> Proxy {
        let config_of_client = ClientConfig { head_timeout: patience, ..ClientConfig::default() };
        Proxy { upstreams: Upstreams::new(names, health, config), client: Client::with(config_of_client) }
    }

    pub(crate) fn handler(self) -> impl Fn(&Request<'_>, Response<'_, '_>) -> Result<Answered, Error> {
        let proxy = Rc::new(self);
        // Who the client is is asked of its connection, and fetched by the future when that is begun: at once.
        let peer = Rc::new(Cell::new(None));
        let of_this = Rc::clone(&peer);
        let forward = http::wait(async move |request| proxy.forward(request, of_this.take()).await);
        move |request, mut response| {
            peer.set(response.control().peer_addr().ok());
            forward(request, response)
        }
    }

    async fn forward(
        &self,
        request: OwnedRequest,
        peer: Option<Address>,
    ) -> Result<::http::Response<Content>, Error> {
        if matches!(request.method(), Method::Connect | Method::Trace) {
            return Err(Error::new(501, "CONNECT and TRACE are not passed on"));
        }
        let mut parts = fields::of_request(&request, peer.as_ref(), "localhost")?;
        if request.method() == Method::Options && !fields::count_down(&mut parts.headers) {
            return Err(Error::new(400, "Max-Forwards ends here"));
        }
        let mut body = (!request.body_length().is_empty()).then(|| request.into_body());
        let has_body = body.is_some();
        let mut last = None;
        for (index, upstream) in self.upstreams.in_turn() {
            let error = match self.ask(upstream, parts.clone(), &mut body).await {
                Ok(mut answer) => {
                    fields::of_answer(&mut answer);
                    return Ok(answer);
                }
                Err(error) => error,
            };
            eprintln!("{}: {error}", upstream.name);
            if is_down(&error) {
                self.upstreams.health.note(index, &upstream.name, false);
                upstream.pool.clear();
            }
            let may_repeat = parts.method.is_idempotent() && !has_body && !error.is_timeout();
            if !error.is_unsent() && !may_repeat {
                return Err(of_error(&error));
            }
            last = Some(error);
        }
        Err(last.map_or_else(|| Error::new(502, "there is no server"), |error| of_error(&error)))
    }

    /// Asks one server. The body stays where it is if there is no connection.
    async fn ask(
        &self,
        upstream: &Upstream,
        parts: ::http::request::Parts,
        body: &mut Option<http::Body>,
    ) -> Result<::http::Response<Content>, ClientError> {
        let Some(_) = &*body else {
            let request = ::http::Request::from_parts(parts, Payload::empty());
            return self.client.send_to(&upstream.pool, request).await;
        };
        let pooled = upstream.pool.get().await?;
        let payload = body.take().map_or_else(Payload::empty, Payload::from);
        self.client.send_over(pooled, ::http::Request::from_parts(parts, payload)).await
    }
}

/// Whether the error says that the server is not there. Next to a check, this is heard of at once.
fn is_down(error: &ClientError) -> bool {
    match error {
        ClientError::Pool(PoolError::Busy { .. }) | ClientError::Payload(_) | ClientError::Write(_) => false,
        ClientError::Pool(_) | ClientError::Closed | ClientError::Io(_) => true,
        _ => false,
    }
}

/// What the client is told (RFC 9110, sections 15.6.3 to 15.6.5).
fn of_error(error: &ClientError) -> Error {
    match error {
        ClientError::Pool(PoolError::Busy { .. }) => {
            Error::new(503, "the server behind this proxy is busy").retry_after(1)
        }
        ClientError::Write(_) | ClientError::Request(_) => Error::new(400, "the request cannot be passed on"),
        error if error.is_timeout() => Error::new(504, "the server behind this proxy did not answer in time"),
        _ => Error::new(502, "the server behind this proxy did not answer"),
    }
}
