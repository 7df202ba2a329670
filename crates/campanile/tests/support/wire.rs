//! A client's two halves of a connection, through as many layers as the server has.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::common::client;
use super::xor::{ANSWER, HELLO, KEYS};

/// What a client sends. Ending it says goodbye on every layer.
pub trait Sink: Write + Send {
    fn end(&mut self) -> io::Result<()>;
}

impl Sink for TcpStream {
    fn end(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// A connection, and its two halves, for one thread each.
pub struct Wire {
    pub stream: TcpStream,
    pub out: Box<dyn Sink>,
    pub inward: Box<dyn Read + Send>,
}

impl Wire {
    /// Connects, and goes through the handshake of every layer. Records are at most `max_record` bytes long; those of
    /// upper layers fit even into a layer with tight bounds.
    pub fn connect(to: SocketAddr, depth: usize, max_record: usize) -> Wire {
        let stream = client(to);
        let clone = || stream.try_clone().expect("a descriptor is left");
        let (mut out, mut inward): (Box<dyn Sink>, Box<dyn Read + Send>) =
            (Box::new(clone()), Box::new(clone()));
        for (level, key) in KEYS.into_iter().take(depth).enumerate() {
            let max_record = if level == 0 { max_record } else { max_record.min(250) };
            let mut hello = [0; HELLO.len()];
            inward.read_exact(&mut hello).expect("the server speaks first");
            assert_eq!(&hello, HELLO);
            out.write_all(ANSWER).expect("the server listens");
            out = Box::new(Wrap { below: out, key, max_record, records: 0 });
            inward = Box::new(Unwrap { below: inward, key, left: 0, ended: false });
        }
        Wire { stream, out, inward }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.out.write_all(bytes).expect("the server reads");
    }

    /// The next `n` bytes.
    pub fn receive(&mut self, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        self.inward.read_exact(&mut bytes).expect("the server answers");
        bytes
    }

    /// Everything up to the end, which must be an orderly one on every layer.
    pub fn receive_all(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.inward.read_to_end(&mut bytes).expect("an orderly end");
        bytes
    }

    /// Says that nothing more is sent.
    pub fn end(&mut self) {
        self.out.end().expect("the server is there");
    }
}

struct Wrap {
    below: Box<dyn Sink>,
    key: u8,
    max_record: usize,
    records: usize,
}

impl Write for Wrap {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let turn = [usize::MAX, 1, 17, 300, usize::MAX, 2];
        let length = bytes.len().min(self.max_record).min(turn[self.records % turn.len()]);
        self.records += 1;
        let mut record = (length as u16).to_be_bytes().to_vec();
        record.extend(bytes[..length].iter().map(|byte| byte ^ self.key));
        self.below.write_all(&record)?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.below.flush()
    }
}

impl Sink for Wrap {
    fn end(&mut self) -> io::Result<()> {
        self.below.write_all(&[0, 0])?;
        self.below.end()
    }
}

struct Unwrap {
    below: Box<dyn Read + Send>,
    key: u8,
    left: usize,
    ended: bool,
}

impl Read for Unwrap {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.ended {
            let mut length = [0; 2];
            self.below.read_exact(&mut length)?;
            self.left = usize::from(u16::from_be_bytes(length));
            self.ended = self.left == 0;
        }
        if self.ended {
            let after = self.below.read(bytes)?;
            assert_eq!(after, 0, "nothing comes after the goodbye");
            return Ok(0);
        }
        let room = bytes.len().min(self.left);
        let n = self.below.read(&mut bytes[..room])?;
        if n == 0 && room > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the end without a goodbye"));
        }
        bytes[..n].iter_mut().for_each(|byte| *byte ^= self.key);
        self.left -= n;
        Ok(n)
    }
}
