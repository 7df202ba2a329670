//! A client of HTTP, strict about what it is told, and the services that several tests ask.

use std::io;
use std::net::SocketAddr;

use campanile::http::{Answered, Error, Http, Request, Response};
use campanile::{Config, ServerHandle, Service};

use super::common::nothing_held;
use super::wire::Wire;
use super::{layered, serve, tiny};

/// A client that keeps what it has read too much for the next answer.
pub struct Client {
    pub wire: Wire,
    read: Vec<u8>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// All lines of the head, each with its CRLF.
    pub head: String,
    pub body: Vec<u8>,
    pub trailers: String,
}

impl Reply {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(known, value)| known.eq_ignore_ascii_case(name).then_some(value))
    }

    pub fn closes(&self) -> bool {
        self.field("Connection") == Some("close")
    }
}

impl Client {
    pub fn new(wire: Wire) -> Client {
        Client { wire, read: Vec::new() }
    }

    pub fn connect(to: SocketAddr) -> Client {
        Client::new(Wire::connect(to, 0, 0))
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.wire.send(bytes.as_ref());
    }

    pub fn get(&mut self, target: &str) -> Reply {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        self.reply()
    }

    /// The next answer, to a request other than HEAD.
    pub fn reply(&mut self) -> Reply {
        self.try_reply(false).expect("a whole answer")
    }

    /// The next answer; an error if it is not complete.
    pub fn try_reply(&mut self, to_head: bool) -> io::Result<Reply> {
        let end = self.find(b"\r\n\r\n")?;
        let head = String::from_utf8(self.take(end + 4)?).expect("a head of ASCII");
        let status = head.get(9..12).and_then(|digits| digits.parse().ok()).expect("a status");
        let mut reply = Reply { status, head, body: Vec::new(), trailers: String::new() };
        let has_no_body = to_head || matches!(status, 100..200 | 204 | 304);
        if has_no_body {
        } else if let Some(length) = reply.field("Content-Length") {
            reply.body = self.take(length.parse().expect("a number"))?;
        } else if reply.field("Transfer-Encoding").is_some() {
            loop {
                let line = self.find(b"\r\n")?;
                let line = self.take(line + 2)?;
                let digits = std::str::from_utf8(&line[..line.len() - 2]).expect("digits");
                let len = usize::from_str_radix(digits, 16).expect("digits");
                if len == 0 {
                    break;
                }
                let mut chunk = self.take(len + 2)?;
                assert!(chunk.ends_with(b"\r\n"));
                chunk.truncate(len);
                reply.body.extend(chunk);
            }
            loop {
                let line = self.find(b"\r\n")?;
                let line = self.take(line + 2)?;
                if line.len() == 2 {
                    break;
                }
                reply.trailers.push_str(std::str::from_utf8(&line).expect("text"));
            }
        } else {
            reply.body = self.rest()?;
        }
        Ok(reply)
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        self.wire.inward.read_to_end(&mut self.read)?;
        Ok(std::mem::take(&mut self.read))
    }

    /// Checks that the connection ends here, in order.
    pub fn ends(&mut self) {
        assert_eq!(String::from_utf8_lossy(&self.rest().expect("an orderly end")), "");
    }

    fn more(&mut self) -> io::Result<()> {
        let len = self.read.len();
        self.read.resize(len + 64 * 1024, 0);
        let n = self.wire.inward.read(&mut self.read[len..]);
        self.read.truncate(len + n.as_ref().unwrap_or(&0));
        if n? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn find(&mut self, what: &[u8]) -> io::Result<usize> {
        loop {
            if let Some(at) = self.read.windows(what.len()).position(|window| window == what) {
                return Ok(at);
            }
            self.more()?;
        }
    }

    fn take(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.read.len() < n {
            self.more()?;
        }
        let rest = self.read.split_off(n);
        Ok(std::mem::replace(&mut self.read, rest))
    }
}

/// Runs a test of a service alone and under a layer, with ample memory and with hardly any.
pub fn everywhere<S: Service + 'static>(
    make: impl Fn() -> S + Send + Sync + Clone + 'static,
    test: impl Fn(&mut Client, &ServerHandle),
) {
    for depth in 0..=1 {
        for (is_tight, config) in [(false, Config::default()), (true, tiny())] {
            let make = make.clone();
            let (server, address) = serve(config, move || layered(depth, is_tight, make()));
            let mut client = Client::new(Wire::connect(address, depth, 2000));
            test(&mut client, &server);
            drop(client);
            nothing_held(&server);
        }
    }
}

/// The same for a handler.
pub fn handled<F>(handle: F, test: impl Fn(&mut Client, &ServerHandle))
where
    F: Fn(&Request<'_>, Response<'_, '_>) -> Result<Answered, Error> + Clone + Send + Sync + 'static,
{
    everywhere(move || Http::new(handle.clone()), test);
}

/// A request with a body of known length.
pub fn post(target: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A request with a chunked body, in chunks of so many bytes, and with trailers.
pub fn post_chunked(target: &str, body: &[u8], chunk: usize, trailers: &str) -> Vec<u8> {
    let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut request = head.into_bytes();
    for chunk in body.chunks(chunk) {
        request.extend(format!("{:x}\r\n", chunk.len()).bytes());
        request.extend(chunk);
        request.extend(b"\r\n");
    }
    request.extend(format!("0\r\n{trailers}\r\n").bytes());
    request
}
