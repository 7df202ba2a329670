//! The work: what every server does with the bytes it receives, and what the load knows to expect of it.

use std::ops::Range;
use std::sync::LazyLock;
use std::time::SystemTime;

/// What a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Sends back what it receives.
    Echo,
    /// Answers `GET /plaintext`.
    Http,
    /// Answers each [`PAYLOAD`] that it received with its [`Fingerprint`].
    Sink,
    /// Answers each byte with [`PAYLOAD`].
    Source,
}

/// Bytes that go up, or down, at a time.
pub(crate) const PAYLOAD_LEN: usize = 16 << 20;

/// Those bytes: no two stretches of it look alike, so that what is lost, doubled or out of place shows.
pub(crate) static PAYLOAD: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let word = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29).to_le_bytes();
    (0..PAYLOAD_LEN as u64 / 8).flat_map(word).collect()
});

/// What is known of bytes that passed, without having kept them: one of every few thousand, by its place. To look at
/// all of them would cost as much as to receive them.
#[derive(Debug, Default)]
pub(crate) struct Fingerprint {
    /// Bytes from here to the next that is looked at.
    ahead: usize,
    length: usize,
    print: u64,
}

impl Fingerprint {
    /// A prime, so that it is at another place in every buffer.
    const STEP: usize = 4093;

    /// Takes note of the next bytes, and returns the print when they complete a payload.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Option<[u8; 8]> {
        let mut at = self.ahead;
        while let Some(&byte) = bytes.get(at) {
            self.print = (self.print.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            at += Self::STEP;
        }
        self.ahead = at - bytes.len();
        self.length += bytes.len();
        if self.length < PAYLOAD_LEN {
            return None;
        }
        // One byte too many changes it too.
        let print = self.print ^ (self.length - PAYLOAD_LEN) as u64;
        *self = Fingerprint::default();
        Some(print.to_le_bytes())
    }

    /// That of the payload.
    pub(crate) fn of_payload() -> [u8; 8] {
        Fingerprint::default().take(&PAYLOAD).expect("the whole payload")
    }
}

const BEFORE_DATE: &str = "HTTP/1.1 200 OK\r\nServer: campanile\r\nDate: ";
const AFTER_DATE: &str = "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 13\r\n";
const CLOSE: &str = "Connection: close\r\n";
/// The body of the answer.
pub(crate) const HELLO: &str = "Hello, World!";
/// Bytes of `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 5.6.7).
const DATE_LEN: usize = 29;

/// What is asked, and what the answer has to be, byte for byte but for its dates.
pub(crate) struct Exchange {
    pub(crate) request: Vec<u8>,
    /// The answer, with anything where the dates are.
    pub(crate) answer: Vec<u8>,
    dates: Vec<Range<usize>>,
    /// Requests in `request`.
    pub(crate) requests: u64,
}

impl Exchange {
    /// A message of `length` bytes, that is to come back.
    pub(crate) fn echo(length: usize) -> Exchange {
        let message = PAYLOAD[..length].to_vec();
        Exchange { request: message.clone(), answer: message, dates: Vec::new(), requests: 1 }
    }

    /// So many requests at a time, on a connection that is kept.
    pub(crate) fn http(requests: usize) -> Exchange {
        Exchange::of_http(requests, "")
    }

    /// One request, after which the server closes.
    pub(crate) fn last_http() -> Exchange {
        Exchange::of_http(1, CLOSE)
    }

    fn of_http(requests: usize, field: &str) -> Exchange {
        let request = format!("GET /plaintext HTTP/1.1\r\nHost: localhost\r\n{field}\r\n");
        let date = "-".repeat(DATE_LEN);
        let answer = format!("{BEFORE_DATE}{date}{AFTER_DATE}{field}\r\n{HELLO}");
        let dates = (0..requests).map(|nth| {
            let start = nth * answer.len() + BEFORE_DATE.len();
            start..start + DATE_LEN
        });
        Exchange {
            dates: dates.collect(),
            request: request.repeat(requests).into_bytes(),
            answer: answer.repeat(requests).into_bytes(),
            requests: requests as u64,
        }
    }

    /// Whether `got` is the answer, whatever its dates say.
    pub(crate) fn is_answered_by(&self, got: &[u8]) -> bool {
        let mut from = 0;
        let alike = self.dates.iter().all(|date| {
            let part = from..date.start;
            from = date.end;
            got.get(part.clone()) == Some(&self.answer[part])
        });
        alike && got.get(from..) == Some(&self.answer[from..])
    }

    /// Whether every date in the answer `got` is of a moment since `began`, by a clock that may be a tick behind.
    pub(crate) fn is_dated_since(&self, began: SystemTime, got: &[u8]) -> bool {
        self.dates.iter().all(|date| {
            let text = std::str::from_utf8(&got[date.clone()]).unwrap_or_default();
            let Ok(dated) = httpdate::parse_http_date(text) else { return false };
            // Dates are of whole seconds, and a server may keep one for as long.
            let second = std::time::Duration::from_secs(1);
            dated + 2 * second >= began && dated <= SystemTime::now() + second
        })
    }
}

/// HTTP as the peers do it: what a careful hand writes around httparse, with no more rules than these requests need.
/// Campanile does it by its own decoder, with all of its rules and its deadlines.
#[derive(Default)]
pub(crate) struct PeerHttp {
    /// The beginning of a request whose end has not come.
    unread: Vec<u8>,
    /// When `date` was, in seconds since 1970, and its text.
    second: i64,
    date: String,
}

impl PeerHttp {
    /// Answers every whole request in what was left and in `received` into `answers`; whether the last said goodbye.
    pub(crate) fn answer(&mut self, received: &[u8], answers: &mut Vec<u8>) -> bool {
        if self.unread.is_empty() {
            let (consumed, over) = self.answer_all(received, answers);
            self.unread.extend_from_slice(&received[consumed..]);
            return over;
        }
        let mut unread = std::mem::take(&mut self.unread);
        unread.extend_from_slice(received);
        let (consumed, over) = self.answer_all(&unread, answers);
        unread.drain(..consumed);
        self.unread = unread;
        over
    }

    fn answer_all(&mut self, input: &[u8], answers: &mut Vec<u8>) -> (usize, bool) {
        let mut at = 0;
        while at < input.len() {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            let mut request = httparse::Request::new(&mut fields);
            let head = match request.parse(&input[at..]) {
                Ok(httparse::Status::Complete(length)) => length,
                Ok(httparse::Status::Partial) => break,
                Err(_) => return (input.len(), refuse(answers)),
            };
            at += head;
            let known = request.method == Some("GET") && request.path == Some("/plaintext");
            if !known || request.headers.iter().any(|field| says_body(field.name)) {
                return (input.len(), refuse(answers));
            }
            let over = request.headers.iter().any(says_close);
            answers.extend_from_slice(BEFORE_DATE.as_bytes());
            answers.extend_from_slice(self.date().as_bytes());
            answers.extend_from_slice(AFTER_DATE.as_bytes());
            answers.extend_from_slice(if over { CLOSE.as_bytes() } else { b"" });
            answers.extend_from_slice(b"\r\n");
            answers.extend_from_slice(HELLO.as_bytes());
            if over {
                return (at, true);
            }
        }
        (at, false)
    }

    /// The date of now, written anew once a second.
    fn date(&mut self) -> &str {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse).tv_sec;
        if self.second != now {
            self.second = now;
            self.date = httpdate::fmt_http_date(SystemTime::now());
        }
        &self.date
    }
}

fn says_body(name: &str) -> bool {
    name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding")
}

fn says_close(field: &httparse::Header<'_>) -> bool {
    field.name.eq_ignore_ascii_case("connection") && field.value.eq_ignore_ascii_case(b"close")
}

fn refuse(answers: &mut Vec<u8>) -> bool {
    answers.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    true
}
