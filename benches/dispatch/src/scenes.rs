//! The scenes: who asks for what, how many of them, and what has to be answered.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use campanile::http::{self, Files, Http, Method, Router};
use campanile::{Config, Flow, Input, Lines, Output, Server, framed};
use campanile_core::ByHand;

use crate::routes;

/// Some clients who send the same requests, over and over.
#[derive(Debug)]
pub struct Scene {
    /// A word for it.
    pub name: &'static str,
    /// How many clients send in a round.
    pub clients: usize,
    /// Requests that each of them sends in one piece.
    pub pipelined: usize,
    pub(crate) request: &'static [u8],
    /// What follows a head, if there is one; the whole answer otherwise.
    body: &'static [u8],
    /// The head of the answer, with `#` for each digit of a time: a worker's clock begins with the year 2100, and takes
    /// hours until the next day.
    head: Option<&'static str>,
    pub(crate) worker: fn() -> ByHand,
}

const GET: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: localhost\r\n\r\n";
const HELLO: &[u8] = b"Hello, World!";
const LINE: &[u8] = b"the quick brown fox jumps over the lazy dog\n";
const BYTES: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const KIB: &[u8] = &[b'x'; 1024];

/// When the file was changed.
const YEAR_2000: Duration = Duration::from_secs(946_684_800);

const HELLO_HEAD: &str = "HTTP/1.1 200 OK\r\nServer: campanile\r\nDate: Fri, 01 Jan 2100 ##:##:## GMT\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 13\r\n\r\n";
const SERVER_HEAD: &str = "HTTP/1.1 200 OK\r\nServer: campanile\r\nDate: Fri, 01 Jan 2100 ##:##:## GMT\r\n\
    Content-Type: text/plain\r\nContent-Length: 13\r\n\r\n";
const FILE_HEAD: &str = "HTTP/1.1 200 OK\r\nServer: campanile\r\nDate: Fri, 01 Jan 2100 ##:##:## GMT\r\n\
    Content-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\nX-Content-Type-Options: nosniff\r\n\
    Vary: Accept-Encoding\r\nETag: \"d234ccf52430000-400\"\r\nLast-Modified: Sat, 01 Jan 2000 00:00:00 GMT\r\n\
    Content-Length: 1024\r\n\r\n";

const ECHO: Scene = Scene {
    name: "echo",
    clients: 1,
    pipelined: 1,
    request: BYTES,
    body: BYTES,
    head: None,
    worker: || worker(ByHand::new(Config::default(), || echo)),
};

const HTTP: Scene = Scene {
    name: "http",
    clients: 1,
    pipelined: 1,
    request: GET,
    body: HELLO,
    head: Some(HELLO_HEAD),
    worker: || worker(ByHand::new(Config::default(), hello_service)),
};

/// All of them.
pub const SCENES: &[Scene] = &[
    ECHO,
    Scene { name: "echo-64", clients: 64, ..ECHO },
    Scene {
        name: "lines",
        request: LINE,
        body: LINE,
        worker: || {
            worker(ByHand::new(Config::default(), || {
                framed(Lines::new(1024), |line, reply| reply.write_line(line))
            }))
        },
        ..ECHO
    },
    HTTP,
    Scene { name: "http-64", clients: 64, ..HTTP },
    Scene { name: "http-pipelined-16", pipelined: 16, ..HTTP },
    Scene {
        name: "http-async",
        worker: || {
            worker(ByHand::new(Config::default(), || Http::new(http::wait(async |_| "Hello, World!"))))
        },
        ..HTTP
    },
    Scene { name: "http-server", head: Some(SERVER_HEAD), worker: || http_server(None), ..HTTP },
    Scene {
        name: "http-server-file",
        request: b"GET /static/1k.bin HTTP/1.1\r\nHost: localhost\r\n\r\n",
        body: KIB,
        head: Some(FILE_HEAD),
        worker: || http_server(Some(Site::new())),
        ..HTTP
    },
];

impl Scene {
    /// The scene of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Scene> {
        SCENES.iter().find(|scene| scene.name == name)
    }

    /// Requests of a round.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.clients * self.pipelined
    }

    pub(crate) fn answer_len(&self) -> usize {
        self.head.map_or(0, str::len) + self.body.len()
    }

    /// Compares what one client was answered in a round.
    ///
    /// # Panics
    /// When it is not what it has to be.
    pub(crate) fn check(&self, answers: &[u8]) {
        let due = [self.head.unwrap_or_default().as_bytes(), self.body].concat().repeat(self.pipelined);
        let is_digit = |is: &u8, due: &u8| *due == b'#' && is.is_ascii_digit();
        let is_right = answers.len() == due.len()
            && answers.iter().zip(&due).all(|(is, due)| is == due || is_digit(is, due));
        assert!(is_right, "{} answers with\n{}", self.name, String::from_utf8_lossy(answers));
    }
}

fn worker(made: Result<ByHand, campanile::BadConfig>) -> ByHand {
    made.expect("the defaults work")
}

/// As examples/echo.rs.
fn echo(input: &mut Input<'_>, output: &mut Output<'_>) -> Flow {
    let n = input.len().min(output.room());
    output.write(input.consume(n)).expect("no longer than the room");
    Flow::More(1)
}

/// As examples/http-hello.rs.
fn hello_service() -> impl campanile::Service {
    http::service(|request, response| match request.method() {
        Method::Get | Method::Head => response.text(200, "Hello, World!"),
        _ => response.not_allowed("GET, HEAD"),
    })
}

/// As examples/http-server: all of its routes, deadlines and limits, and its metrics.
fn http_server(site: Option<Site>) -> ByHand {
    let files = site.as_ref().map(|site| Files::new(&site.0).expect("a directory"));
    let monitor = Server::new().monitor();
    let router: Rc<Router> = Rc::new(routes::router(files, 1 << 24, monitor, false));
    let config = Arc::new(http::Config::default());
    worker(ByHand::new(Config::default(), move || {
        let _kept_as_long = &site;
        Http::new(Rc::clone(&router)).config(Arc::clone(&config))
    }))
}

/// A directory with a file of 1 KiB, which nobody else touches, for as long as it is used.
struct Site(PathBuf);

impl Site {
    fn new() -> Site {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("campanile-dispatch-{}-{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let site = Site(std::env::temp_dir().join(name));
        fs::create_dir_all(&site.0).expect("a directory for temporary files");
        let mut file = File::create(site.0.join("1k.bin")).expect("a directory that can be written");
        file.write_all(KIB).expect("room for a small file");
        // Its head is always the same.
        file.set_modified(SystemTime::UNIX_EPOCH + YEAR_2000).expect("a file of ours");
        site
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
