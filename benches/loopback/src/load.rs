//! The load: one thread with plain sockets, the same for every server, that believes no answer it has not looked at.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::work::{Exchange, Fingerprint, PAYLOAD, PAYLOAD_LEN};

/// How long nothing may happen before that is an error: far longer than the slowest machine takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Clients that put load on a server, of which each run does some of what is counted.
pub(crate) trait Load {
    /// Does it at least `times` times, and says how many times it was.
    ///
    /// # Errors
    /// The server said something else than it had to, or nothing.
    fn run(&mut self, times: u64) -> io::Result<u64>;
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.into())
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Connections that are kept, each of which asks again as soon as it has its answer.
pub(crate) struct Kept {
    exchange: Exchange,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    clients: Vec<Client>,
}

struct Client {
    stream: TcpStream,
    /// Exchanges it has still to do in this run.
    left: u64,
    sent: usize,
    received: usize,
    answer: Vec<u8>,
}

impl Kept {
    pub(crate) fn connect(address: SocketAddr, connections: usize, exchange: Exchange) -> io::Result<Kept> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut clients = Vec::with_capacity(connections);
        for number in 0..connections {
            let stream = connect(address)?;
            stream.set_nonblocking(true)?;
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            epoll::add(&epoll, &stream, epoll::EventData::new_u64(number as u64), flags)?;
            let answer = vec![0; exchange.answer.len()];
            clients.push(Client { stream, left: 0, sent: 0, received: 0, answer });
        }
        Ok(Kept { exchange, epoll, events: Vec::with_capacity(connections), clients })
    }
}

impl Load for Kept {
    fn run(&mut self, times: u64) -> io::Result<u64> {
        let began = SystemTime::now();
        let connections = self.clients.len() as u64;
        // Every connection has something to do, so that what is measured is as many as were asked for.
        let exchanges = times.div_ceil(self.exchange.requests).max(connections);
        for (number, client) in (0..).zip(&mut self.clients) {
            client.left = exchanges / connections + u64::from(number < exchanges % connections);
            client.ask(&self.exchange)?;
        }
        let mut busy = connections;
        while busy > 0 {
            self.events.clear();
            let patience = Timespec::try_from(PATIENCE).expect("half a minute");
            match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&patience)) {
                Ok(0) => return Err(wrong(format!("{busy} connections got no answer for {PATIENCE:?}"))),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            for event in &self.events {
                let number = usize::try_from(event.data.u64()).expect("a number of a client");
                busy -= u64::from(self.clients[number].proceed(&self.exchange)?);
            }
        }
        match self.clients.iter().find(|client| !self.exchange.is_dated_since(began, &client.answer)) {
            Some(client) => Err(wrong(format!("not of now: {}", client.answer.escape_ascii()))),
            None => Ok(exchanges * self.exchange.requests),
        }
    }
}

impl Client {
    fn ask(&mut self, exchange: &Exchange) -> io::Result<()> {
        (self.sent, self.received) = (0, 0);
        self.send(exchange)
    }

    fn send(&mut self, exchange: &Exchange) -> io::Result<()> {
        while self.sent < exchange.request.len() {
            match self.stream.write(&exchange.request[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Goes on after an event: whether it has now done all that it had to do.
    fn proceed(&mut self, exchange: &Exchange) -> io::Result<bool> {
        if self.left == 0 {
            // It was told of more than once in a batch, or of room that it has no use for.
            return Ok(false);
        }
        self.send(exchange)?;
        loop {
            let asked = self.answer.len() - self.received;
            match self.stream.read(&mut self.answer[self.received..]) {
                Ok(0) => return Err(wrong("the server closed a connection in the middle")),
                Ok(n) if n < asked => self.received += n,
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if !exchange.is_answered_by(&self.answer) {
            return Err(wrong(format!("a wrong answer: {}", self.answer.escape_ascii())));
        }
        self.left -= 1;
        if self.left > 0 {
            self.ask(exchange)?;
        }
        Ok(self.left == 0)
    }
}

/// Connections for one request each.
pub(crate) struct Short {
    address: SocketAddr,
    /// How many are open at a time.
    at_once: u64,
    exchange: Exchange,
    answer: Vec<u8>,
    streams: Vec<TcpStream>,
}

impl Short {
    pub(crate) fn new(address: SocketAddr, at_once: usize) -> Short {
        let (exchange, at_once) = (Exchange::last_http(), at_once as u64);
        Short { address, at_once, exchange, answer: Vec::new(), streams: Vec::new() }
    }
}

impl Load for Short {
    fn run(&mut self, times: u64) -> io::Result<u64> {
        let began = SystemTime::now();
        let mut left = times;
        while left > 0 {
            for _ in 0..left.min(self.at_once) {
                let mut stream = connect(self.address)?;
                stream.write_all(&self.exchange.request)?;
                self.streams.push(stream);
                left -= 1;
            }
            for mut stream in self.streams.drain(..) {
                self.answer.clear();
                stream.read_to_end(&mut self.answer)?;
                if !self.exchange.is_answered_by(&self.answer) {
                    return Err(wrong(format!("a wrong answer: {}", self.answer.escape_ascii())));
                }
            }
        }
        if !self.exchange.is_dated_since(began, &self.answer) {
            return Err(wrong(format!("not of now: {}", self.answer.escape_ascii())));
        }
        Ok(times)
    }
}

/// One connection that sends payloads up.
pub(crate) struct Upload(TcpStream, [u8; 8]);

impl Upload {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Upload> {
        Ok(Upload(connect(address)?, Fingerprint::of_payload()))
    }
}

impl Load for Upload {
    fn run(&mut self, times: u64) -> io::Result<u64> {
        let Upload(stream, print) = self;
        for _ in 0..times {
            stream.write_all(&PAYLOAD)?;
            let mut answer = [0; 8];
            stream.read_exact(&mut answer)?;
            if answer != *print {
                return Err(wrong("the server received something else than was sent"));
            }
        }
        Ok(times)
    }
}

/// One connection that asks for payloads.
pub(crate) struct Download {
    stream: TcpStream,
    buffer: Vec<u8>,
    print: [u8; 8],
}

impl Download {
    /// Connects, and looks at every byte of a first payload.
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Download> {
        let mut stream = connect(address)?;
        stream.write_all(b"?")?;
        let mut payload = vec![0; PAYLOAD_LEN];
        stream.read_exact(&mut payload)?;
        if payload != *PAYLOAD {
            return Err(wrong("the server sent something else than the payload"));
        }
        Ok(Download { stream, buffer: vec![0; 128 * 1024], print: Fingerprint::of_payload() })
    }
}

impl Load for Download {
    fn run(&mut self, times: u64) -> io::Result<u64> {
        for _ in 0..times {
            self.stream.write_all(b"?")?;
            let mut received = Fingerprint::default();
            loop {
                let n = self.stream.read(&mut self.buffer)?;
                if n == 0 {
                    return Err(wrong("the server closed in the middle of the payload"));
                }
                match received.take(&self.buffer[..n]) {
                    None => {}
                    Some(print) if print == self.print => break,
                    Some(_) => return Err(wrong("the server sent something else than the payload")),
                }
            }
        }
        Ok(times)
    }
}
