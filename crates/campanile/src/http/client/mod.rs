//! The client: requests to other servers, over connections that are used again.

mod config;
mod content;
mod error;
mod exchange;
mod payload;
mod sending;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use ::http::header::{EXPECT, HOST};
use campanile_protocol::http1::Method;

use crate::connect::Dial;
use crate::pool::{Pool, Pooled};
use exchange::Exchange;
use sending::Sending;

pub use config::ClientConfig;
pub use content::Content;
pub use error::ClientError;
pub use payload::Payload;

/// Sends requests to other servers, and keeps the connections for the next ones: HTTP/1.1, without encryption.
///
/// It belongs to one worker; clones share its connections. Requests and answers are those of the `http` crate, which is
/// [`types`](super::types) here. A deadline for all of it is [`timeout`](crate::timeout) around [`send`](Self::send).
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use campanile::http::{Client, types};
///
/// let client = Client::new();
/// let request = types::Request::get("http://localhost:8080/hello").body(())?;
/// let mut answer = client.send(request).await?;
/// println!("{}: {} bytes", answer.status(), answer.body_mut().collect(1 << 20).await?.len());
/// # Ok(())
/// # }
/// ```
///
/// # What it does by itself
///
/// - Host is that of the URI, unless the request has one. Content-Length, Transfer-Encoding and Connection are written
///   as the body and the connection are; of what the request says `Connection: close` alone is heeded. Fields that are
///   about one connection (RFC 9110, section 7.6.1) are left out.
/// - Interim answers are not shown (RFC 9110, section 15.2). If the request says `Expect: 100-continue` a body that is
///   streamed waits for `100 Continue`, for [`ClientConfig::continue_timeout`].
/// - A server may answer before it has all of the request. The rest of that is sent while the answer's body is read;
///   not if the answer is the last of its connection and an error.
/// - A connection that was used before may just have been closed by the server. If no byte of an answer came by it, the
///   request is sent once more on a new one: if it may be repeated (RFC 9110, section 9.2.2; RFC 9112, section 9.3.1)
///   and its body is not streamed.
/// - A future that is dropped gives up the request, and its connection.
#[derive(Clone, Default)]
pub struct Client(Rc<Shared>);

#[derive(Default)]
struct Shared {
    config: ClientConfig,
    /// By authority, as the URI has it.
    pools: RefCell<HashMap<String, Pool>>,
}

impl Client {
    /// A client with the bounds that are the default.
    #[must_use]
    pub fn new() -> Client {
        Client::default()
    }

    /// A client with these bounds.
    #[must_use]
    pub fn with(config: ClientConfig) -> Client {
        Client(Rc::new(Shared { config, pools: RefCell::default() }))
    }

    /// Sends a request to the server that its URI names, and waits for the head of the answer.
    ///
    /// # Errors
    /// When the URI is not `http://HOST/...`, the request cannot be written, or there is no answer.
    ///
    /// # Panics
    /// Outside of a worker.
    pub async fn send<B>(&self, request: ::http::Request<B>) -> Result<::http::Response<Content>, ClientError>
    where
        B: Into<Payload>,
    {
        let pool = self.pool_for(request.uri())?;
        self.send_to(&pool, request).await
    }

    /// Sends a request by a connection of this pool, whatever its URI names: of that, path and query are sent.
    ///
    /// # Errors
    /// When the request cannot be written, or there is no answer.
    ///
    /// # Panics
    /// Outside of a worker.
    pub async fn send_to<B>(
        &self,
        pool: &Pool,
        request: ::http::Request<B>,
    ) -> Result<::http::Response<Content>, ClientError>
    where
        B: Into<Payload>,
    {
        let (parts, body) = request.into_parts();
        let sending = self.encode(&parts, body.into())?;
        let again = if parts.method.is_idempotent() { sending.try_clone() } else { None };
        let pooled = pool.get().await?;
        let was_used = pooled.is_used();
        match self.exchange(pooled, &parts, sending).await {
            Err(ClientError::Closed) if was_used => match again {
                Some(sending) => self.exchange(pool.get_new().await?, &parts, sending).await,
                None => Err(ClientError::Closed),
            },
            answer => answer,
        }
    }

    /// Sends a request by this connection, once. It goes back to its pool when the answer was read.
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    ///
    /// # Panics
    /// Outside of a worker.
    pub async fn send_over<B>(
        &self,
        pooled: Pooled,
        request: ::http::Request<B>,
    ) -> Result<::http::Response<Content>, ClientError>
    where
        B: Into<Payload>,
    {
        let (parts, body) = request.into_parts();
        let sending = self.encode(&parts, body.into())?;
        self.exchange(pooled, &parts, sending).await
    }

    async fn exchange(
        &self,
        pooled: Pooled,
        parts: &::http::request::Parts,
        mut sending: Sending,
    ) -> Result<::http::Response<Content>, ClientError> {
        let config = &self.0.config;
        if sending.is_streamed() && parts.headers.get(EXPECT).is_some_and(|value| value == "100-continue") {
            sending.hold = Some(campanile_core::sleep(config.continue_timeout));
        }
        let mut exchange = Exchange::new(pooled, &parts.method, sending, config);
        let head = std::future::poll_fn(|cx| exchange.poll_head(cx)).await?;
        Ok(exchange.into_response(head))
    }

    fn encode(&self, parts: &::http::request::Parts, payload: Payload) -> Result<Sending, ClientError> {
        let method = Method::of(parts.method.as_str());
        if method == Method::Connect {
            return Err(ClientError::Request(
                "a client sends no CONNECT: open a connection to the proxy instead",
            ));
        }
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| parts.uri.authority().map(::http::uri::Authority::as_str));
        let host =
            host.ok_or(ClientError::Request("the request names no host: neither its URI nor a Host field"))?;
        let target = parts.uri.path_and_query().map_or("/", ::http::uri::PathAndQuery::as_str);
        // A URI may leave out the path that a request has (RFC 9112, section 3.2.1).
        let rooted;
        let target = if target.starts_with('?') {
            rooted = format!("/{target}");
            &rooted
        } else {
            target
        };
        Sending::new((method, target, host), &parts.headers, payload)
    }

    fn pool_for(&self, uri: &::http::Uri) -> Result<Pool, ClientError> {
        let wanted = "the URI of a request is http://HOST/PATH or http://HOST:PORT/PATH";
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(ClientError::Request("https is not spoken here: a client has no encryption"));
            }
            _ => return Err(ClientError::Request(wanted)),
        }
        let authority = uri.authority().ok_or(ClientError::Request(wanted))?;
        let mut pools = self.0.pools.borrow_mut();
        if let Some(pool) = pools.get(authority.as_str()) {
            return Ok(pool.clone());
        }
        // A port that is no number of 16 bits is none to the crate `http`. It is not the default one to us.
        let named = authority.as_str().rsplit('@').next().unwrap_or_default();
        let has_port = named.len() > authority.host().len() + 1;
        let port = authority.port_u16().or((!has_port).then_some(80)).ok_or(ClientError::Request(wanted))?;
        let to = format!("{}:{port}", authority.host());
        let dial = Dial::to(&to).map_err(|_| ClientError::Request(wanted))?;
        let config = &self.0.config;
        if pools.len() >= config.destinations {
            pools.retain(|_, pool| pool.idle() + pool.in_use() > 0);
        }
        let pool = Pool::new(dial.deadline(config.connect_timeout), config.pool.clone());
        if pools.len() < config.destinations {
            pools.insert(authority.as_str().to_owned(), pool.clone());
        }
        Ok(pool)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.0.config).finish_non_exhaustive()
    }
}
