//! Sending: a request on its way, whose body goes out as far as the server takes it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use ::http::HeaderMap;
use ::http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use campanile_core::{Bytes, Sleep};
use campanile_protocol::http1::{BodyEncoder, Method, RequestWriter};

use super::error::ClientError;
use super::payload::{Kind, Payload};
use crate::stream::Stream;

/// Pieces up to this length are copied together with what frames them.
const COPIED: usize = 4096;

/// What is still to be sent of a request.
pub(super) struct Sending {
    /// Ready to go out, in order.
    ready: VecDeque<Bytes>,
    body: Option<Streaming>,
    /// The server is asked first whether it wants the body (RFC 9110, section 10.1.1).
    pub(super) hold: Option<Sleep>,
    /// What it waits for is not the server.
    pub(super) waits_for_payload: bool,
}

struct Streaming {
    payload: Pin<Box<dyn http_body::Body<Data = Bytes, Error = super::payload::Cause>>>,
    encoder: BodyEncoder,
}

/// Fields that are about one connection, which is not the caller's, and those that the writer writes.
const NOT_THE_CALLERS: [&str; 2] = ["keep-alive", "proxy-connection"];

fn is_close(value: &::http::HeaderValue) -> bool {
    value
        .as_bytes()
        .split(|&byte| byte == b',')
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

impl Sending {
    /// A request whose head is encoded, with its payload.
    pub(super) fn new(
        (method, target, host): (Method<'_>, &str, &str),
        fields: &HeaderMap,
        payload: Payload,
    ) -> Result<Sending, ClientError> {
        let mut head = Vec::with_capacity(512);
        let mut writer = RequestWriter::begin(&mut head, method, target, host)?;
        for (name, value) in fields {
            if name == CONNECTION {
                if is_close(value) {
                    writer.close();
                }
            } else if ![CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE].contains(name)
                && !NOT_THE_CALLERS.contains(&name.as_str())
            {
                writer.field(name.as_str(), value.as_bytes())?;
            }
        }
        let mut ready = VecDeque::with_capacity(2);
        let mut body = None;
        match payload.0 {
            Kind::Bytes(bytes) if bytes.len() <= COPIED => writer.body(&bytes)?,
            Kind::Bytes(bytes) => {
                writer.length(bytes.len() as u64)?;
                ready.push_back(bytes);
            }
            Kind::Streamed(payload) => {
                let encoder = match payload.size_hint().exact() {
                    Some(length) => writer.length(length)?,
                    None => writer.stream()?,
                };
                body = Some(Streaming { payload, encoder });
            }
        }
        ready.push_front(head.into());
        Ok(Sending { ready, body, hold: None, waits_for_payload: false })
    }

    /// Whether it can be sent again from its beginning, of which this is then a copy.
    pub(super) fn try_clone(&self) -> Option<Sending> {
        let is_whole = self.body.is_none();
        is_whole.then(|| Sending {
            ready: self.ready.clone(),
            body: None,
            hold: None,
            waits_for_payload: false,
        })
    }

    pub(super) fn is_streamed(&self) -> bool {
        self.body.is_some()
    }

    /// Sends on, as far as there is something, and room for it. Whether that was anything is in `went_on`.
    pub(super) fn poll(
        &mut self,
        stream: &mut Stream,
        went_on: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ClientError>> {
        self.waits_for_payload = false;
        loop {
            while let Some(bytes) = self.ready.front() {
                ready!(stream.poll_room(cx))?;
                // There is room, so it is taken at once.
                let taken = pin!(stream.send(bytes.clone())).poll(cx);
                ready!(taken)?;
                self.ready.pop_front();
                *went_on = true;
            }
            let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
            if let Some(hold) = &mut self.hold {
                ready!(Pin::new(hold).poll(cx));
                self.hold = None;
            }
            // Nothing more is asked for than can be sent.
            ready!(stream.poll_room(cx))?;
            self.waits_for_payload = true;
            let frame = ready!(body.payload.as_mut().poll_frame(cx));
            self.waits_for_payload = false;
            let Some(frame) = frame.transpose().map_err(ClientError::Payload)? else {
                self.finish(&HeaderMap::new())?;
                continue;
            };
            match frame.into_data() {
                Ok(data) => body.encode(data, &mut self.ready)?,
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.finish(&trailers)?;
                    }
                }
            }
        }
    }

    fn finish(&mut self, trailers: &HeaderMap) -> Result<(), ClientError> {
        let Some(mut body) = self.body.take() else { return Ok(()) };
        let trailers: Vec<_> =
            trailers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let mut end = Vec::new();
        body.encoder.finish(&trailers, &mut end)?;
        if !end.is_empty() {
            self.ready.push_back(end.into());
        }
        Ok(())
    }
}

impl Streaming {
    fn encode(&mut self, data: Bytes, ready: &mut VecDeque<Bytes>) -> Result<(), ClientError> {
        if data.is_empty() {
            return Ok(());
        }
        let mut framed = Vec::new();
        if data.len() <= COPIED {
            self.encoder.write(&data, &mut framed)?;
            ready.push_back(framed.into());
            return Ok(());
        }
        self.encoder.begin_piece(data.len() as u64, &mut framed)?;
        let mut end = Vec::new();
        self.encoder.end_piece(&mut end)?;
        ready.extend([framed.into(), data, end.into()].into_iter().filter(|bytes: &Bytes| !bytes.is_empty()));
        Ok(())
    }
}
