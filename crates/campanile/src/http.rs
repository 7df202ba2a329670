//! HTTP/1.1: a handler of requests, as a service.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use campanile_core::{Context, Event, Flow, Service};
use campanile_protocol::http1::{
    BodyDecoder, BodyPart, Exchange, FieldLine, Limits, RequestDecoder, ResponseWriter, field_slots,
};
use campanile_protocol::{Codec, Decoded};

pub use campanile_protocol::http1::{Method, RequestHead, WriteError};

use crate::reply::Reply;

/// Fields that a request may have.
const FIELDS: usize = 64;

/// Who answers, in every response.
const SERVER: FieldLine = FieldLine::from_static("Server: campanile\r\n");
/// The type of [`Response::text`].
const TEXT: FieldLine = FieldLine::from_static("Content-Type: text/plain; charset=utf-8\r\n");

/// A service that answers each request by `handle`: keep-alive, pipelining, HEAD, Date and the framing of bodies are
/// taken care of (RFC 9112). Request bodies are read to their end and dropped.
///
/// ```
/// use campanile::http;
///
/// let hello = || http::service(|request, response| match request.path() {
///     "/" => response.text(200, "Hello, World!"),
///     _ => response.text(404, "not here"),
/// });
/// # fn is_a_service(_: impl campanile::Service) {}
/// # is_a_service(hello());
/// ```
pub fn service<H>(handle: H) -> Http<H>
where
    H: FnMut(&RequestHead<'_, '_>, Response<'_, '_>) -> Result<Answered, WriteError>,
{
    let limits = Limits::default();
    Http {
        handle,
        decoder: RequestDecoder::new(limits),
        body: None,
        answered: None,
        dates: None,
        is_draining: false,
    }
}

/// A handler of requests as a service: see [`service`].
pub struct Http<H> {
    handle: H,
    decoder: RequestDecoder,
    /// The body of the request that was answered, as far as it is still to be read.
    body: Option<BodyDecoder>,
    /// How the connection goes on after that body.
    answered: Option<Exchange>,
    dates: Option<Rc<Dates>>,
    /// The server is to stop: the next answer is the last.
    is_draining: bool,
}

/// Proof that a request was answered.
#[derive(Debug, Clone, Copy)]
pub struct Answered(Exchange);

/// The response to one request, to be written now.
pub struct Response<'o, 'a> {
    reply: Reply<'o, 'a>,
    exchange: Exchange,
    date: [u8; 29],
}

impl Response<'_, '_> {
    /// Answers with a status from 200 to 599 and a text, as `text/plain` in UTF-8.
    ///
    /// Head and text together have to fit into one send buffer
    /// ([`Config::send_buffer_len`](crate::Config), 16 KiB by default); of a longer one the client gets a 500.
    ///
    /// # Errors
    /// [`WriteError::Full`] when there is no room for it now: hand it on, and the handler is called again with the same
    /// request when there is more. [`WriteError::Status`] when the status is out of range, and
    /// [`WriteError::BodyNotAllowed`] when it is one that has no body and the text is not empty. All but the first end
    /// the connection with a 500.
    pub fn text(mut self, status: u16, text: &str) -> Result<Answered, WriteError> {
        let mut response = ResponseWriter::begin(&mut self.reply, self.exchange, status)?;
        response.line(SERVER)?.field("Date", &self.date)?.line(TEXT)?;
        response.body(text.as_bytes()).map(Answered)
    }
}

impl Response<'_, '_> {
    /// Answers 405 to a method that the resource does not have; `allow` lists those it has (RFC 9110, section 15.5.6).
    ///
    /// # Errors
    /// [`WriteError::FieldValue`] when `allow` cannot be the value of a field.
    pub fn not_allowed(mut self, allow: &str) -> Result<Answered, WriteError> {
        let mut response = ResponseWriter::begin(&mut self.reply, self.exchange, 405)?;
        response.line(SERVER)?.field("Date", &self.date)?.field("Allow", allow.as_bytes())?;
        response.body(b"").map(Answered)
    }
}

impl fmt::Debug for Response<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}

impl<H> Http<H>
where
    H: FnMut(&RequestHead<'_, '_>, Response<'_, '_>) -> Result<Answered, WriteError>,
{
    fn serve(&mut self, cx: &mut Context<'_>) -> Flow {
        let room = cx.promised_room();
        loop {
            if let Some(flow) = self.skip_body(cx) {
                return flow;
            }
            if cx.input.is_empty() && !cx.input.is_ended() {
                return Flow::More(1);
            }
            if cx.output.room() < room {
                return Flow::Room;
            }
            let mut slots = field_slots::<FIELDS>();
            let found = match self.decoder.decode(&cx.input, &mut slots) {
                Ok(Decoded::More { .. }) if cx.input.is_ended() => return Flow::Finish,
                Ok(Decoded::More { at_least }) => return Flow::More(at_least),
                Ok(Decoded::Frame { frame, consumed }) => Ok((frame, consumed)),
                Err(error) => Err(error),
            };
            let date = self.dates.as_ref().map_or([b' '; 29], |dates| dates.at(cx.wall()));
            let unsent = cx.output.unsent();
            let reply = Reply::new(&mut cx.output);
            let (head, consumed) = match found {
                Ok(found) => found,
                Err(error) => {
                    let response = Response { reply, exchange: Exchange::refused(), date };
                    // The room was checked: a short text fits.
                    let _ = response.text(error.status(), &format!("{error}\n"));
                    return Flow::Finish;
                }
            };
            let exchange = head.exchange();
            // The client waits for a word before it sends its body; it gets the answer instead, and the connection
            // ends, since nobody can say whether the body follows (RFC 9110, section 10.1.1).
            let is_last = head.expects_continue() || self.is_draining;
            let exchange = if is_last { exchange.closing() } else { exchange };
            let response = Response { reply, exchange, date };
            let answered = (self.handle)(&head, response);
            let body = head.body();
            match answered {
                Ok(Answered(exchange)) => {
                    self.answered = Some(exchange);
                    if !body.is_empty() {
                        self.body = Some(BodyDecoder::new(body, self.decoder.limits()));
                    }
                    cx.input.consume(consumed);
                }
                Err(error) => {
                    cx.output.truncate(unsent);
                    if matches!(error, WriteError::Full(_)) && cx.output.unsent() > 0 {
                        return Flow::Room;
                    }
                    tracing::error!("a handler could not write its answer: {error}");
                    let response =
                        Response { reply: Reply::new(&mut cx.output), exchange: exchange.closing(), date };
                    let _ = response.text(500, "internal server error\n");
                    return Flow::Finish;
                }
            }
        }
    }

    /// Reads on to the end of the request that was answered. `Some` when the connection cannot go on yet, or at all.
    fn skip_body(&mut self, cx: &mut Context<'_>) -> Option<Flow> {
        let exchange = self.answered?;
        if !exchange.keep_alive() {
            // Without a body nothing more is due from the client.
            return Some(if self.body.is_some() { Flow::Finish } else { Flow::Close });
        }
        while let Some(body) = &mut self.body {
            let (consumed, ended) = match body.decode(&cx.input) {
                Ok(Decoded::Frame { frame, consumed }) => (consumed, matches!(frame, BodyPart::End(_))),
                Ok(Decoded::More { at_least }) if !cx.input.is_ended() => return Some(Flow::More(at_least)),
                Ok(Decoded::More { .. }) | Err(_) => return Some(Flow::Finish),
            };
            cx.input.consume(consumed);
            if ended {
                self.body = None;
            }
        }
        self.answered = None;
        (self.is_draining && cx.input.is_empty()).then_some(Flow::Finish)
    }
}

impl<H> Service for Http<H>
where
    H: FnMut(&RequestHead<'_, '_>, Response<'_, '_>) -> Result<Answered, WriteError>,
{
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        match event {
            Event::Open => {
                self.dates = Some(cx.shared());
                Flow::More(1)
            }
            Event::Closed(_) => Flow::Wait,
            Event::Drain if cx.input.is_empty() && self.answered.is_none() => Flow::Finish,
            event => {
                self.is_draining |= matches!(event, Event::Drain);
                // Whatever came: what this connection waits for may be room.
                self.serve(cx)
            }
        }
    }
}

impl<H> fmt::Debug for Http<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("decoder", &self.decoder).finish_non_exhaustive()
    }
}

/// The Date of a worker's answers, written once a second (RFC 9110, section 6.6.1).
#[derive(Debug, Default)]
struct Dates {
    second: Cell<Option<u64>>,
    text: Cell<[u8; 29]>,
}

impl Dates {
    fn at(&self, now: SystemTime) -> [u8; 29] {
        let second = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.second.replace(Some(second)) != Some(second) {
            let mut text = [b' '; 29];
            let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
            for (to, from) in text.iter_mut().zip(date.bytes()) {
                *to = from;
            }
            self.text.set(text);
        }
        self.text.get()
    }
}
