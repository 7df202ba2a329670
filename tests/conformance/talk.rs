//! A connection to the server under test: raw bytes in both directions, each wait with an end.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::answer::{Answer, Asked, now};

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than this is sent by a thread of its own, since the server may not read on until its answers are read.
const MUCH: usize = 32 * 1024;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Orderly,
    Reset,
}

/// One connection and what was read of it ahead.
#[derive(Debug)]
pub struct Talk {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// How much of the buffer is taken.
    at: usize,
    end: Option<End>,
    writer: Option<JoinHandle<()>>,
    /// When it began, in seconds since 1970.
    began: u64,
}

impl Talk {
    pub fn to(address: SocketAddr) -> Result<Talk, String> {
        let began = now();
        let open = || {
            let stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        };
        let stream = open().map_err(|error| format!("connecting: {error}"))?;
        Ok(Talk { stream, buffer: Vec::new(), at: 0, end: None, writer: None, began })
    }

    /// Sends, and reads nothing until all is sent or the server takes no more; the rest is sent meanwhile.
    pub fn stuff(&mut self, bytes: &[u8]) {
        self.join();
        let stuck = Duration::from_millis(200);
        let _ = self.stream.set_write_timeout(Some(stuck));
        let mut sent = 0;
        while let Ok(n) = self.stream.write(&bytes[sent..])
            && n > 0
        {
            sent += n;
        }
        let _ = self.stream.set_write_timeout(Some(PATIENCE));
        self.send(&bytes[sent..]);
    }

    /// Sends; that the server reads no more is seen in what it answers.
    pub fn send(&mut self, bytes: &[u8]) {
        self.join();
        if bytes.len() <= MUCH {
            let _ = self.stream.write_all(bytes);
            return;
        }
        let (bytes, mut stream) = (bytes.to_vec(), self.stream.try_clone().expect("a descriptor is left"));
        self.writer = Some(std::thread::spawn(move || drop(stream.write_all(&bytes))));
    }

    /// Sends a byte at a time, each a segment.
    pub fn dribble(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send(&[*byte]);
            std::thread::yield_now();
        }
    }

    /// Sends no more.
    pub fn half_close(&mut self) {
        self.join();
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    pub fn began(&self) -> u64 {
        self.began
    }

    fn join(&mut self) {
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }

    /// Reads the next answer, which may be an interim one.
    pub fn any_answer(&mut self, asked: Asked) -> Result<Answer, String> {
        Answer::read(self, asked)?.ok_or_else(|| format!("no answer, but the end ({:?})", self.end))
    }

    /// Sends a request and reads its final answer.
    pub fn ask(&mut self, request: &str) -> Result<Answer, String> {
        self.send(request.as_bytes());
        self.any_answer(asked(request.as_bytes()))
    }

    /// Waits until `bytes` were received somewhere behind what was taken; takes nothing.
    pub fn see(&mut self, bytes: &[u8]) -> Result<(), String> {
        while !self.buffer[self.at..].windows(bytes.len()).any(|window| window == bytes) {
            if !self.fill()? {
                return Err(format!("the end before {:?}", String::from_utf8_lossy(bytes)));
            }
        }
        Ok(())
    }

    /// Waits for the end, before which nothing may come.
    pub fn ends(&mut self) -> Result<End, String> {
        if self.peek()?.is_some() {
            let rest = String::from_utf8_lossy(&self.buffer[self.at..]).into_owned();
            return Err(format!("bytes after the last answer: {rest:.120?}"));
        }
        Ok(self.end.expect("it was seen"))
    }

    /// The next byte, which is not taken; `None` at the end.
    pub fn peek(&mut self) -> Result<Option<u8>, String> {
        while self.at == self.buffer.len() {
            if !self.fill()? {
                return Ok(None);
            }
        }
        Ok(Some(self.buffer[self.at]))
    }

    /// Takes a line, which ends in CRLF, and gives it without.
    pub fn line(&mut self) -> Result<Vec<u8>, String> {
        let mut from = self.at;
        loop {
            if let Some(found) = self.buffer[from..].iter().position(|&byte| byte == b'\n') {
                let line = self.buffer[self.at..from + found].to_vec();
                self.at = from + found + 1;
                return match line.strip_suffix(b"\r") {
                    Some(line) if !line.contains(&b'\r') => Ok(line.to_vec()),
                    _ => Err(format!("line without CRLF: {:?}", String::from_utf8_lossy(&line))),
                };
            }
            from = self.buffer.len();
            if !self.fill()? {
                let rest = String::from_utf8_lossy(&self.buffer[self.at..]).into_owned();
                return Err(format!("the end ({:?}) within a line: {:.120?}", self.end, rest));
            }
        }
    }

    /// Takes `count` bytes, or as many as come before the end.
    pub fn take(&mut self, count: usize) -> Result<Vec<u8>, String> {
        while self.buffer.len() - self.at < count && self.fill()? {}
        let end = self.buffer.len().min(self.at.saturating_add(count));
        let taken = self.buffer[self.at..end].to_vec();
        self.at = end;
        Ok(taken)
    }

    /// Reads something; `false` at the end.
    fn fill(&mut self) -> Result<bool, String> {
        if self.end.is_some() {
            return Ok(false);
        }
        let mut chunk = [0; 64 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.end = Some(End::Orderly),
            Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.end = Some(End::Reset),
            Err(error) => {
                let rest = String::from_utf8_lossy(&self.buffer[self.at..]).into_owned();
                return Err(format!("nothing for {PATIENCE:?} ({error}) after {rest:.80?}"));
            }
        }
        Ok(self.end.is_none())
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        if self.writer.is_some() {
            let _ = self.stream.shutdown(Shutdown::Both);
            self.join();
        }
    }
}

/// What a request says about how its answer ends.
pub fn asked(request: &[u8]) -> Asked {
    let line = request.split(|&byte| byte == b'\n').find(|line| !line.trim_ascii().is_empty());
    let line = line.unwrap_or_default();
    Asked { head: line.starts_with(b"HEAD "), old: line.ends_with(b" HTTP/1.0\r") }
}
