//! Handlers that wait: async closures and functions, beside those that answer at once.
//!
//! The future of a request is polled within the call of the handler, so one that never waits is answered like any
//! other: at once, and without an allocation, since the memory of futures and of the heads they are given is used
//! again. One that waits goes on as a responder (`driver.rs`), and the body of its request comes by a link (`link.rs`).

mod body;
mod boxes;
mod driver;
mod head;
mod lease;
mod link;
mod request;
mod streaming;
mod writer;

use std::cell::OnceCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::error::Error;
use super::into_response::IntoResponse;
use super::request::Request;
use super::response::{Answered, Response};
use boxes::{Boxed, Boxes};
use driver::{Driver, Handling};
use lease::{Lease, Pool};

pub use body::Body;
pub(super) use link::Feed;
pub use request::OwnedRequest;
pub use streaming::{Frames, Pieces, frames, pieces};
pub use writer::{BodyWriter, Written, stream};

/// A handler that may wait: an async closure or an `async fn` from an [`OwnedRequest`] to anything that is an
/// [answer](IntoResponse).
///
/// It is a handler like those that answer at once, and stands wherever they do: beside them in a
/// [`Router`](super::Router), in [`serve`](super::serve), in [`service`](super::service).
///
/// ```
/// use campanile::http::{self, Error, OwnedRequest, Router};
///
/// async fn length(mut request: OwnedRequest) -> Result<String, Error> {
///     let body = request.body().collect(1 << 20).await?;
///     Ok(format!("{} bytes\n", body.len()))
/// }
///
/// let router = Router::new()
///     .get("/", |_, response| response.text(200, "answered at once\n"))
///     .get("/hello/{name}", http::wait(async |request| {
///         (200, format!("Hello, {}!\n", request.param("name").unwrap_or("you")))
///     }))
///     .post("/length", http::wait(length))
///     .post("/echo", http::wait(async |request| request.into_body()));
/// ```
///
/// State of the worker is captured, by reference too: `async move |request| ...` with an [`Rc`] of it; or handed over
/// by [`wait_with`]. A function that borrows the state names its answer (`Result<String, Error>`), or says
/// `impl IntoResponse + use<>`.
///
/// # When it waits
///
/// The worker goes on with other connections. The handler's connection answers its requests in their order, so the next
/// one waits for this. Nothing of it is read but the body that the handler waits for; that its client has reset the
/// connection is noticed all the same, and that the client sends no more is not taken for its going away.
///
/// When the client is gone, the future is **dropped** where it waits. What has to be brought to its end all the same is
/// given to a task of its own, by [`spawn`](crate::spawn). A panic is answered as in any handler, and so is an error.
/// How long it may take is the handler's own to say, by [`timeout`](crate::timeout). When the server drains, handlers
/// that wait are finished within [`Config::drain_time`](crate::Config), and their answers say that they are the last.
///
/// A wake may come from any thread. One that comes when the request is over does nothing.
pub fn wait<F, R>(handle: F) -> impl Fn(&Request<'_>, Response<'_, '_>) -> Result<Answered, Error> + 'static
where
    F: AsyncFn(OwnedRequest) -> R + 'static,
    R: IntoResponse + 'static,
{
    let handle = Rc::new(handle);
    handler_of(move |request| {
        let handle = Rc::clone(&handle);
        async move { handle(request).await }
    })
}

/// The same with a state that it shares with others: each request is given a clone of `state`.
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// use campanile::http::{self, OwnedRequest, Router};
///
/// async fn visit(visits: Rc<Cell<u64>>, _: OwnedRequest) -> String {
///     visits.set(visits.get() + 1);
///     format!("{} of this worker\n", visits.get())
/// }
///
/// let visits = Rc::new(Cell::new(0));
/// let router = Router::new().get("/", http::wait_with(&visits, visit)).get("/again", http::wait_with(&visits, visit));
/// ```
pub fn wait_with<T, F, R>(
    state: &Rc<T>,
    handle: F,
) -> impl Fn(&Request<'_>, Response<'_, '_>) -> Result<Answered, Error> + use<T, F, R> + 'static
where
    T: 'static,
    F: AsyncFn(Rc<T>, OwnedRequest) -> R + 'static,
    R: IntoResponse + 'static,
{
    let state = Rc::clone(state);
    wait(async move |request| handle(Rc::clone(&state), request).await)
}

/// What a worker keeps for the handlers of one type.
struct Kept<F> {
    requests: Rc<Pool>,
    futures: Rc<Boxes<F>>,
}

fn handler_of<F>(
    begin: impl Fn(OwnedRequest) -> F + 'static,
) -> impl Fn(&Request<'_>, Response<'_, '_>) -> Result<Answered, Error> + 'static
where
    F: Future<Output: IntoResponse> + 'static,
{
    let kept = OnceCell::new();
    move |request: &Request<'_>, mut response: Response<'_, '_>| {
        let control = response.control();
        let kept = kept.get_or_init(|| Kept { requests: control.shared(), futures: control.shared() });
        let lease = Lease::new(request, &response, &kept.requests);
        let mut future = Boxed::new(begin(OwnedRequest::new(lease.clone())), &kept.futures);
        // Most answer now, and need no waker. Whoever waits is polled again with one, in this turn.
        let handling = match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Handling::Running(future),
            Poll::Ready(answer) => {
                drop(future);
                if !lease.link.may_be_read() {
                    lease.link.close();
                    return answer.into_response(response);
                }
                // It has the body, which comes through an exchange.
                Handling::Answering(Some(answer))
            }
        };
        Ok(response.respond(Driver::new(handling, Some(Feed::new(lease)))))
    }
}
