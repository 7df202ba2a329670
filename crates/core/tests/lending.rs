//! Lending: peers that stop reading hold no file buffer, others are served meanwhile, and they get every byte once they
//! read on.

mod support;

use std::collections::VecDeque;
use std::io::Read;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use campanile_core::{
    Answer, Bytes, Config, Context, Event, File, Flow, OpenFile, Server, ServerHandle, Service, Ticket,
};
use support::{LONG, client, counted, keyed, nothing_held, tcp, until};

const LEN: u64 = 10 * 1024 * 1024;
const KEY: u64 = 0x1e4d;
const HEAD: &[u8] = b"here it comes:";
const LEND_TIME: Duration = Duration::from_millis(50);
/// Far fewer than clients.
const FILE_BUFFERS: u32 = 4;
const STALLED: usize = 50;

/// A file of the keyed stream, which is removed when the test is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("campanile-{name}-{}", std::process::id()));
        let mut bytes = vec![0; LEN as usize];
        keyed::fill(KEY, 0, &mut bytes);
        std::fs::write(&path, bytes).expect("a writable place");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Sends a head, and lends the file behind it.
struct Lender {
    path: PathBuf,
    file: Option<File>,
    at: u64,
    read: Option<Ticket>,
    unlent: VecDeque<Bytes>,
    /// Bytes came back: nothing is read before there is room.
    waits: bool,
}

impl Lender {
    fn new(path: PathBuf) -> Lender {
        Lender { path, file: None, at: 0, read: None, unlent: VecDeque::new(), waits: false }
    }
}

impl Service for Lender {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        let returned = cx.output.take_returned() as u64;
        if returned > 0 {
            self.at -= returned;
            (self.read, self.waits) = (None, true);
            self.unlent.clear();
        }
        match event {
            Event::Open => {
                cx.output.write(HEAD).expect("there is room at the beginning");
                cx.open_file(OpenFile::at(&self.path));
            }
            Event::Room => self.waits = false,
            Event::Answer(_, Answer::Opened(file)) => {
                let file = file.expect("the file is there");
                if let Some(stat) = cx.stat_now(&file) {
                    assert_eq!(stat.expect("an open file").len, LEN);
                }
                self.file = Some(file);
            }
            Event::Answer(ticket, Answer::Read(bytes)) if self.read == Some(ticket) => {
                self.read = None;
                self.unlent.push_back(bytes.expect("the file can be read"));
            }
            Event::Closed(_) => return Flow::Wait,
            _ => {}
        }
        while let Some(bytes) = self.unlent.pop_front() {
            let n = bytes.len() as u64;
            match cx.output.lend(bytes) {
                Ok(()) => self.at += n,
                // Read again when there is room: who does not keep up holds no buffer.
                Err(_) => return Flow::Room,
            }
        }
        match &self.file {
            Some(_) if self.at == LEN && cx.output.held() == 0 => return Flow::Finish,
            Some(file) if self.at < LEN && !self.waits && self.read.is_none() => {
                self.read = Some(cx.read_file(file, self.at, usize::MAX));
            }
            _ => {}
        }
        Flow::Room
    }
}

fn serve(path: PathBuf, config: Config) -> ServerHandle {
    Server::new()
        .listen("127.0.0.1:0")
        .workers(1)
        .config(config)
        .serve(move || Lender::new(path.clone()))
        .expect("a free port of loopback")
}

/// Reads the head, and as much of the file as there is up to `len`; it is right.
fn reads(stream: &mut TcpStream, from: u64, len: u64) {
    let mut bytes = vec![0; len as usize];
    stream.read_exact(&mut bytes).expect("the server goes on");
    assert_eq!(keyed::differs(KEY, from, &bytes), None);
}

fn reads_head(stream: &mut TcpStream) {
    let mut head = [0; HEAD.len()];
    stream.read_exact(&mut head).expect("the server speaks first");
    assert_eq!(head, HEAD);
}

fn ends(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0]).expect("an end, not a reset"), 0);
}

#[test]
fn peers_that_stop_reading_hold_no_file_buffer() {
    let scratch = Scratch::new("lending");
    let config = Config { file_buffers: FILE_BUFFERS, lend_time: LEND_TIME, ..Config::default() };
    let server = serve(scratch.0.clone(), config);
    let mut stalled: Vec<TcpStream> = (0..STALLED).map(|_| client(tcp(&server))).collect();
    stalled.iter_mut().for_each(reads_head);
    // All of them come to a standstill with nothing unsent: what was lent is back.
    let mut last = counted(&server);
    let mut still = Instant::now();
    until("nothing is unsent any more", || {
        let now = counted(&server);
        if (now.sent, now.unsent_bytes) != (last.sent, 0) {
            still = Instant::now();
        }
        last = now;
        still.elapsed() > 4 * LEND_TIME
    });
    assert!(last.sent < STALLED as u64 * LEN && last.returned > 0, "{last:?}");

    // With a buffer held by any of them, this one would wait for as long as they do.
    let began = Instant::now();
    let mut reader = client(tcp(&server));
    reads_head(&mut reader);
    reads(&mut reader, 0, LEN);
    ends(&mut reader);
    assert!(began.elapsed() < LONG / 2, "it took {:?}", began.elapsed());
    assert_eq!(counted(&server).unsent_bytes, 0, "who stopped reading holds nothing");

    // By turns, so that most of them stop again in between.
    for part in 0..4 {
        for stream in &mut stalled {
            reads(stream, part * LEN / 4, LEN / 4);
        }
    }
    stalled.iter_mut().for_each(ends);
    drop((stalled, reader));
    nothing_held(&server);
}

#[test]
fn a_peer_that_never_reads_again_is_closed_after_the_stall_time() {
    let scratch = Scratch::new("lending-stall");
    let send_stall = Duration::from_millis(1_500);
    let config = Config { file_buffers: FILE_BUFFERS, lend_time: LEND_TIME, send_stall, ..Config::default() };
    let server = serve(scratch.0.clone(), config);
    let began = Instant::now();
    let mut stalled = client(tcp(&server));
    reads_head(&mut stalled);
    until("it is closed", || counted(&server).closed == 1);
    assert!(began.elapsed() >= send_stall, "after {:?} already", began.elapsed());
    assert!(counted(&server).returned > 0);
    let mut rest = Vec::new();
    assert!(stalled.read_to_end(&mut rest).is_err(), "a reset, so that {} bytes are not all", rest.len());
    nothing_held(&server);
}
