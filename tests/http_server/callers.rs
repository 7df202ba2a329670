//! Callers: clients that ask again and again without a pause, and check every answer.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use socket2::{Domain, Socket, Type};

use crate::support::common::LONG;

/// One connection of a caller.
pub(crate) struct Call {
    stream: TcpStream,
    asked: u64,
}

impl Call {
    /// Connects, from this address of loopback: each has ports of its own.
    pub(crate) fn connect(to: SocketAddr, from: u8) -> io::Result<Call> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from(([127, 0, 1, from], 0)).into())?;
        socket.connect(&to.into())?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LONG))?;
        Ok(Call { stream, asked: 0 })
    }

    /// Asks, and checks the whole answer; says whether the connection goes on after it.
    pub(crate) fn ask(&mut self, closes: bool) -> Result<bool, String> {
        self.asked += 1;
        let body = format!("request {} of {:?}", self.asked, self.stream.local_addr());
        let close = if closes { "Connection: close\r\n" } else { "" };
        let len = body.len();
        let request = format!("POST /echo HTTP/1.1\r\nHost: a\r\n{close}Content-Length: {len}\r\n\r\n{body}");
        let answer = self.stream.write_all(request.as_bytes()).and_then(|()| self.answer(len));
        let answer = answer.map_err(|error| format!("{body}: {error}"))?;
        let (head, echoed) = answer.split_once("\r\n\r\n").unwrap_or_default();
        if !head.starts_with("HTTP/1.1 200 ") || echoed != body {
            return Err(format!("{body}: {answer}"));
        }
        Ok(!head.contains("Connection: close"))
    }

    /// An answer whose body has `len` bytes.
    fn answer(&mut self, len: usize) -> io::Result<String> {
        let (mut text, mut bytes) = (String::new(), [0; 4096]);
        while text.find("\r\n\r\n").is_none_or(|end| text.len() < end + 4 + len) {
            match self.stream.read(&mut bytes)? {
                0 => return Err(io::Error::other(format!("it ended after {text:?}"))),
                n => text.push_str(&String::from_utf8_lossy(&bytes[..n])),
            }
        }
        Ok(text)
    }

    /// Nothing more comes, and in an orderly way.
    pub(crate) fn ends(mut self) -> Result<(), String> {
        match self.stream.read(&mut [0]) {
            Ok(0) => Ok(()),
            other => Err(format!("no end after the last answer: {other:?}")),
        }
    }
}

/// What many callers came to together.
#[derive(Default)]
pub(crate) struct Calls {
    pub(crate) answered: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) stop: AtomicBool,
    wrong: Mutex<Vec<String>>,
}

impl Calls {
    /// Calls until it is to stop: with a connection per request, or with one for as long as it is kept.
    pub(crate) fn call(&self, to: SocketAddr, from: u8, per_request: bool) {
        while !self.stop.load(Ordering::Relaxed) {
            if let Err(error) = self.call_once(to, from, per_request) {
                self.wrong.lock().expect("no panic").push(error);
                return;
            }
        }
    }

    fn call_once(&self, to: SocketAddr, from: u8, per_request: bool) -> Result<(), String> {
        let mut call = Call::connect(to, from).map_err(|error| format!("connecting: {error}"))?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        loop {
            let goes_on = call.ask(per_request)?;
            self.answered.fetch_add(1, Ordering::Relaxed);
            if !goes_on {
                return call.ends();
            }
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
    }

    /// What was lost, refused, reset or wrong.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.wrong.lock().expect("no panic").clone()
    }
}
