//! The router: which handler answers which path and method.

use std::fmt;

use campanile_protocol::http1::TargetForm;

use super::error::Error;
use super::request::Request;
use super::response::{Answered, Response};
use super::{Handler, Method};

/// Routes requests by path and method.
///
/// Patterns are those of [`matchit`]: `/users/{id}` matches one segment, `/files/{*rest}` all that follow; the most
/// specific wins, in whatever order they were added. What matched is [`Request::param`]. Paths are matched as they were
/// sent, without the query: `/%61` is not `/a`.
///
/// A path that nobody has is answered 404. One that has no handler for the method is answered 405 with `Allow`
/// (RFC 9110, section 15.5.6); HEAD is answered by the handler of GET, and OPTIONS with `Allow` (sections 9.3.2,
/// 9.3.7), unless they have handlers of their own.
///
/// Handlers that [wait](super::wait) stand beside those that answer at once.
///
/// ```
/// use campanile::http::{Error, Method, Router};
///
/// let router = Router::new()
///     .get("/", |_, response| response.text(200, "Hello, World!"))
///     .get("/users/{id}", |request, response| {
///         let id: u64 = request.param("id").unwrap_or("").parse().map_err(|_| Error::new(404, "no such user"))?;
///         response.text(200, &format!("user {id}"))
///     })
///     .post("/echo", |_, response| {
///         response.collect(1 << 20, |body, response| response.status(200).bytes(body))
///     });
/// ```
#[derive(Default)]
pub struct Router {
    paths: matchit::Router<usize>,
    /// The pattern is kept to find the entry again when another method is added.
    entries: Vec<(String, Entry)>,
    /// The value of Allow for the server as a whole: what any path allows.
    allow: String,
}

/// What follows the place where something is mounted, by a name that nobody else gives.
const BELOW: &str = "/{*below the mount}";
const BELOW_NAME: &str = "below the mount";

/// What is found at a path.
enum Entry {
    Methods(Methods),
    /// A handler of whatever lies beneath a path.
    Mounted(Box<dyn Handler>),
}

/// The handlers of one path.
#[derive(Default)]
struct Methods {
    handlers: Vec<(String, Box<dyn Handler>)>,
    /// The value of the field Allow.
    allow: String,
}

macro_rules! routes {
    ($($(#[$doc:meta])* $name:ident $method:literal)*) => {$(
        $(#[$doc])*
        ///
        /// One that waits is handed over as [`http::wait`](super::wait)`(async |request| ...)`.
        ///
        /// # Panics
        /// As [`route`](Self::route).
        #[must_use]
        pub fn $name<F>(self, pattern: &str, handle: F) -> Router
        where
            F: Fn(&Request<'_>, Response<'_, '_>) -> Result<Answered, Error> + 'static,
        {
            self.route($method, pattern, handle)
        }
    )*};
}

impl Router {
    /// A router without routes: everything is answered 404.
    #[must_use]
    pub fn new() -> Router {
        Router::default()
    }

    routes! {
        /// Answers GET, and HEAD.
        get "GET"
        /// Answers POST.
        post "POST"
        /// Answers PUT.
        put "PUT"
        /// Answers PATCH.
        patch "PATCH"
        /// Answers DELETE.
        delete "DELETE"
    }

    /// Answers requests with this method, by its exact name, for paths that match `pattern`. A closure is handed over
    /// as `http::handler(|request, response| ...)`, so that the compiler knows its arguments.
    ///
    /// # Panics
    /// When the pattern is none, or stands in another one's way, or the method has a handler there already: mistakes of
    /// the program, found when it starts.
    #[must_use]
    pub fn route(mut self, method: &str, pattern: &str, handler: impl Handler + 'static) -> Router {
        let known = self.entries.iter().position(|(known, _)| known == pattern);
        let index = known.unwrap_or_else(|| self.add(pattern, Entry::Methods(Methods::default())));
        match &mut self.entries[index].1 {
            Entry::Methods(methods) => {
                methods.add(method, pattern, Box::new(handler));
                allow_too(&mut self.allow, &methods.allow);
            }
            Entry::Mounted(..) => panic!("{method} {pattern}: something is mounted there"),
        }
        self
    }

    /// Answers everything beneath `prefix` by one handler, which sees the path below it as [`Request::path_below`]:
    /// mounted at `/static`, it is asked for `/static` and `/static/` as well as `/static/a/b`. The handler can be
    /// another router: its patterns are matched with the path below, and with `/` at `/static` itself.
    ///
    /// # Panics
    /// When the prefix stands in another pattern's way.
    #[must_use]
    pub fn mount(mut self, prefix: &str, handler: impl Handler + 'static) -> Router {
        let prefix = prefix.trim_end_matches('/');
        let handler = std::rc::Rc::new(handler);
        allow_too(&mut self.allow, "GET, HEAD, OPTIONS");
        for suffix in ["", "/", BELOW] {
            let pattern = format!("{prefix}{suffix}");
            if !pattern.is_empty() {
                self.add(&pattern, Entry::Mounted(Box::new(std::rc::Rc::clone(&handler))));
            }
        }
        self
    }

    fn add(&mut self, pattern: &str, entry: Entry) -> usize {
        let index = self.entries.len();
        if let Err(error) = self.paths.insert(pattern, index) {
            panic!("{pattern}: {error}");
        }
        self.entries.push((pattern.into(), entry));
        index
    }
}

impl Methods {
    fn add(&mut self, method: &str, pattern: &str, handler: Box<dyn Handler>) {
        assert!(self.find(method).is_none(), "{method} {pattern} has a handler already");
        self.handlers.push((method.into(), handler));
        let has = |method| self.find(method).is_some();
        let derived = [("HEAD", has("GET") && !has("HEAD")), ("OPTIONS", !has("OPTIONS"))];
        let derived = derived.into_iter().filter(|(_, is_derived)| *is_derived).map(|(name, _)| name);
        let own = self.handlers.iter().map(|(name, _)| name.as_str());
        self.allow = own.chain(derived).collect::<Vec<_>>().join(", ");
    }

    fn find(&self, method: &str) -> Option<&dyn Handler> {
        self.handlers.iter().find(|(name, _)| name == method).map(|(_, handler)| &**handler)
    }

    fn answer(&self, request: &Request<'_>, response: Response<'_, '_>) -> Result<Answered, Error> {
        let method = request.method();
        let handler = self.find(method.as_str());
        let derived = || if method == Method::Head { self.find("GET") } else { None };
        match handler.or_else(derived) {
            Some(handler) => handler.handle(request, response),
            None if method == Method::Options => response.status(204).field("Allow", &self.allow).empty(),
            None => response.not_allowed(&self.allow),
        }
    }
}

impl Handler for Router {
    fn handle(&self, request: &Request<'_>, response: Response<'_, '_>) -> Result<Answered, Error> {
        let path = match request.path_below() {
            // Of a router that is mounted elsewhere.
            "" if !request.path().is_empty() => "/",
            path => path,
        };
        let Ok(found) = self.paths.at(path) else {
            return match (request.target().form(), request.method()) {
                // Of the server as a whole (RFC 9110, section 9.3.7), or of none of its resources (section 9.3.6).
                (TargetForm::Asterisk, Method::Options) => {
                    response.status(204).field("Allow", &self.allow).empty()
                }
                (TargetForm::Authority, _) => response.not_allowed(&self.allow),
                _ => response.text(404, "not found\n"),
            };
        };
        match &self.entries[*found.value].1 {
            Entry::Methods(methods) => methods.answer(&request.with_params(&found.params), response),
            Entry::Mounted(handler) => {
                let below = found.params.iter().last().filter(|(name, _)| *name == BELOW_NAME);
                let below = below
                    .map_or(usize::from(request.path_below().ends_with('/')), |(_, below)| 1 + below.len());
                let request = request.mounted_at(request.path().len() - below);
                handler.handle(&request.with_params(&found.params), response)
            }
        }
    }
}

/// Adds the methods of one list to another.
fn allow_too(all: &mut String, more: &str) {
    for method in more.split(", ") {
        if !all.split(", ").any(|known| known == method) {
            let comma = if all.is_empty() { "" } else { ", " };
            all.push_str(comma);
            all.push_str(method);
        }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|(pattern, _)| pattern)).finish()
    }
}
