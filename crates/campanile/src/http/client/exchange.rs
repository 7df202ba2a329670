//! The exchange: a request that is sent, and the head of its answer, which may come at any time.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::response::Parts;
use ::http::{HeaderName, HeaderValue, StatusCode};
use campanile_core::{Sleep, sleep};
use campanile_protocol::http1::{
    BodyDecoder, BodyLength, Method, RequestError, ResponseDecoder, ResponseError, ResponseHead,
};
use campanile_protocol::{Codec, Decoded};

use super::config::ClientConfig;
use super::content::{Absent, Connection, Content};
use super::error::ClientError;
use super::sending::Sending;
use crate::http::convert;
use crate::pool::Pooled;

/// Interim answers before the final one: a server could go on with them for ever.
const INTERIM: u32 = 64;

pub(super) struct Exchange<'a> {
    pooled: Pooled,
    method: &'a ::http::Method,
    config: &'a ClientConfig,
    /// Until all of the request is sent, or the server takes no more of it.
    sending: Option<Sending>,
    /// The connection can be written to, as far as is known.
    is_sound: bool,
    decoder: ResponseDecoder,
    interim: u32,
    alarm: Option<Sleep>,
}

/// The head of a final answer.
pub(super) struct AnswerHead {
    parts: Parts,
    body: BodyLength,
    keeps_alive: bool,
    absent: Option<Absent>,
}

/// What was found in the input.
enum Found {
    Final(AnswerHead),
    Interim(u16),
    Nothing,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(
        pooled: Pooled,
        method: &'a ::http::Method,
        sending: Sending,
        config: &'a ClientConfig,
    ) -> Exchange<'a> {
        let decoder = ResponseDecoder::new(config.limits);
        let sending = Some(sending);
        Exchange { pooled, method, config, sending, is_sound: true, decoder, interim: 0, alarm: None }
    }

    /// Sends, until the head of the answer is here.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<AnswerHead, ClientError>> {
        let mut went_on = false;
        loop {
            self.send_on(&mut went_on, cx)?;
            match self.decode()? {
                Found::Final(head) => return Poll::Ready(Ok(head)),
                Found::Interim(status) => {
                    if status == 100 {
                        self.sending.iter_mut().for_each(|sending| sending.hold = None);
                    }
                    continue;
                }
                Found::Nothing => {}
            }
            let wanted = self.pooled.unread().len() + 1;
            match self.pooled.poll_fill(cx, wanted) {
                Poll::Ready(Ok(filled)) if filled >= wanted => {}
                Poll::Ready(ended) => return Poll::Ready(Err(self.ended(ended.err()))),
                Poll::Pending => break,
            }
        }
        if went_on || self.sending.as_ref().is_some_and(|sending| sending.waits_for_payload) {
            self.alarm = None;
        }
        let patience = self.config.head_timeout;
        let alarm = self.alarm.get_or_insert_with(|| sleep(patience));
        Pin::new(alarm).poll(cx).map(|()| Err(ClientError::TimedOut { what: "answer", after: patience }))
    }

    fn send_on(&mut self, went_on: &mut bool, cx: &mut Context<'_>) -> Result<(), ClientError> {
        let Some(sending) = &mut self.sending else { return Ok(()) };
        match sending.poll(&mut self.pooled, went_on, cx) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(())) => {}
            // It may have been answered all the same.
            Poll::Ready(Err(ClientError::Io(_))) => self.is_sound = false,
            Poll::Ready(Err(error)) => return Err(error),
        }
        self.sending = None;
        Ok(())
    }

    /// The connection ended before the answer.
    fn ended(&self, error: Option<std::io::Error>) -> ClientError {
        let is_nothing = self.pooled.unread().is_empty() && self.interim == 0;
        match error {
            Some(error) if error.kind() == std::io::ErrorKind::TimedOut => ClientError::Io(error),
            _ if is_nothing => ClientError::Closed,
            Some(error) => ClientError::Io(error),
            None => ClientError::Head(ResponseError::Head(RequestError::Truncated)),
        }
    }

    fn decode(&mut self) -> Result<Found, ClientError> {
        let decoded = self.decoder.decode(self.pooled.unread()).map_err(ClientError::Head)?;
        let Decoded::Frame { frame: head, consumed } = decoded else { return Ok(Found::Nothing) };
        let found = match head.status() {
            // Nobody has asked for another protocol (RFC 9110, section 15.2.2).
            101 => return Err(ClientError::Head(ResponseError::StatusLine)),
            status @ 100..200 => Found::Interim(status),
            _ => Found::Final(AnswerHead::of(&head, self.method)?),
        };
        self.pooled.consume(consumed);
        if let Found::Interim(_) = found {
            self.interim += 1;
            if self.interim > INTERIM {
                return Err(ClientError::Head(ResponseError::Head(RequestError::HeadTooLong)));
            }
        }
        Ok(found)
    }

    pub(super) fn into_response(self, head: AnswerHead) -> ::http::Response<Content> {
        let AnswerHead { parts, body, keeps_alive, absent } = head;
        let is_error = parts.status.is_client_error() || parts.status.is_server_error();
        // Who refuses a request and closes does not want the rest of it (RFC 9112, section 9.5), nor does one who was
        // asked first and said something else.
        let is_asked = self.sending.as_ref().is_some_and(|sending| sending.hold.is_some());
        let is_refused = (!keeps_alive && is_error) || is_asked;
        let is_cut = is_refused && self.sending.is_some();
        let connection = Connection {
            pooled: self.pooled,
            decoder: BodyDecoder::new(body, &self.config.limits),
            sending: self.sending.filter(|_| !is_refused),
            keeps_alive: keeps_alive && self.is_sound && !is_cut,
            patience: self.config.body_timeout,
            alarm: None,
        };
        ::http::Response::from_parts(parts, Content::new(connection, absent))
    }
}

impl AnswerHead {
    fn of(head: &ResponseHead<'_>, method: &::http::Method) -> Result<AnswerHead, ClientError> {
        let not_valid = |_| ClientError::Head(ResponseError::StatusLine);
        let (mut parts, ()) = ::http::Response::new(()).into_parts();
        parts.status = StatusCode::from_u16(head.status()).map_err(not_valid)?;
        parts.version = convert::version(head.version());
        parts.headers.reserve(head.fields().len());
        for field in head.fields() {
            let name = HeaderName::try_from(field.name).ok();
            let value = HeaderValue::from_bytes(field.value).ok();
            let bad = ClientError::Head(ResponseError::Head(RequestError::FieldName));
            let (name, value) = name.zip(value).ok_or(bad)?;
            parts.headers.append(name, value);
        }
        let body = head.body_after(Method::of(method.as_str()));
        let announced = head.field("content-length").and_then(|length| std::str::from_utf8(length).ok());
        let absent = match (method, head.status()) {
            (_, 204 | 304) => Some(Absent::Status),
            (&::http::Method::HEAD, _) => {
                Some(Absent::Head(announced.and_then(|length| length.parse().ok())))
            }
            _ => None,
        };
        // What ends with the connection leaves nothing of it.
        let keeps_alive = head.keep_alive() && body != BodyLength::UntilClose;
        Ok(AnswerHead { parts, body, keeps_alive, absent })
    }
}
