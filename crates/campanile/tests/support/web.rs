//! A site in a folder of its own, a server of it, and a client that reads answers one by one.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use campanile::http::{Files, Http, Router, serve};
use campanile::{Config, Server, ServerHandle, Service};

use super::common::{client, tcp};

/// A folder with a root in it, which is gone when dropped.
#[derive(Debug)]
pub struct Site(PathBuf);

impl Site {
    pub fn new() -> Site {
        static SITES: AtomicU32 = AtomicU32::new(0);
        let number = SITES.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("campanile-files-{}-{number}", std::process::id()));
        fs::create_dir_all(folder.join("root")).expect("a folder that is new");
        Site(folder)
    }

    /// The folder that the root is in.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    pub fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Writes a file beneath the root, and makes it look as if that was long ago.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.write_now(name, bytes);
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        let file = fs::File::options().write(true).open(&path).expect("it was just written");
        file.set_modified(long_ago).expect("it is ours");
        path
    }

    /// Writes a file beneath the root.
    pub fn write_now(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("the root at least")).expect("a folder");
        fs::write(&path, bytes).expect("a file");
        path
    }

    pub fn files(&self) -> Files {
        Files::new(self.root()).expect("the root is there")
    }

    /// A server of the files at `/`, with one worker.
    pub fn serve(&self) -> (ServerHandle, SocketAddr) {
        mount("/", self.files())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server with one worker, and the files mounted there.
pub fn mount(prefix: &'static str, files: Files) -> (ServerHandle, SocketAddr) {
    mount_with(Config::default(), prefix, files)
}

pub fn mount_with(config: Config, prefix: &'static str, files: Files) -> (ServerHandle, SocketAddr) {
    mount_all(config, [(prefix, files)])
}

/// Several at once, on one worker.
pub fn mount_each<const N: usize>(routes: [(&'static str, Files); N]) -> (ServerHandle, SocketAddr) {
    mount_all(Config::default(), routes)
}

fn mount_all<const N: usize>(
    config: Config,
    routes: [(&'static str, Files); N],
) -> (ServerHandle, SocketAddr) {
    let server = Server::new().listen("127.0.0.1:0").workers(1).config(config);
    let make = move || {
        routes.iter().fold(Router::new(), |router, (prefix, files)| router.mount(prefix, files.clone()))
    };
    let server = serve(server, campanile::http::Config::default(), make).expect("a server");
    let address = tcp(&server);
    (server, address)
}

/// The files as a service, to be put under layers.
pub fn service(files: Files) -> impl Service {
    Http::new(Router::new().mount("/", files))
}

/// An answer as a client sees it.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of the only field of that name.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice: {self:?}");
        value
    }

    /// The value of a field that has to be there.
    pub fn value(&self, name: &str) -> &str {
        self.field(name).unwrap_or_else(|| panic!("no {name}: {} {:?}", self.status, self.fields))
    }

    /// The parts of a `multipart/byteranges`, each with its Content-Range, read as a client would.
    pub fn parts(&self) -> Vec<(String, Vec<u8>)> {
        let boundary =
            self.value("Content-Type").strip_prefix("multipart/byteranges; boundary=").expect("parts");
        let (mut rest, mut parts) = (&self.body[..], Vec::new());
        let mut delimiter = format!("--{boundary}");
        loop {
            rest = rest.strip_prefix(delimiter.as_bytes()).expect("a delimiter");
            delimiter = format!("\r\n--{boundary}");
            if rest == b"--\r\n" {
                return parts;
            }
            let end = find(rest, b"\r\n\r\n").expect("a head of a part");
            let head = String::from_utf8(rest[..end].to_vec()).expect("text");
            let value = |name: &str| {
                head.lines().find_map(|line| line.strip_prefix(name)).expect("a field").to_owned()
            };
            assert!(!value("Content-Type: ").is_empty());
            let range = value("Content-Range: ");
            let (first, last) = bounds(&range);
            rest = &rest[end + 4..];
            let (bytes, behind) = rest.split_at((last - first + 1) as usize);
            parts.push((range, bytes.to_vec()));
            rest = behind;
        }
    }
}

/// The first and last byte in `bytes FIRST-LAST/LENGTH`.
pub fn bounds(range: &str) -> (u64, u64) {
    let (first, last) =
        range.strip_prefix("bytes ").and_then(|range| range.split_once('-')).expect("a range");
    let number = |text: &str| text.parse().expect("a number");
    (number(first), number(last.split('/').next().expect("a last byte")))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// A connection of a client.
pub struct Browser<R = TcpStream> {
    pub reader: BufReader<R>,
}

impl Browser {
    pub fn connect(to: SocketAddr) -> Browser {
        Browser { reader: BufReader::new(client(to)) }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.reader.get_mut().write_all(bytes.as_ref()).expect("the server reads");
    }

    /// Asks for `target` with these field lines, and reads the answer.
    pub fn ask(&mut self, method: &str, target: &str, fields: &[&str]) -> Answer {
        self.send(request(method, target, fields));
        self.answer(method == "HEAD")
    }

    /// Asks, and then asks for something else on the same connection: an answer that is too long or too short shows.
    pub fn get(&mut self, target: &str, fields: &[&str]) -> Answer {
        self.send(request("GET", target, fields) + &request("OPTIONS", "*", &[]));
        let answer = self.answer(false);
        let next = self.answer(false);
        assert_eq!((next.status, next.body.len()), (204, 0), "behind the answer to {target}");
        answer
    }
}

impl<R: Read> Browser<R> {
    pub fn over(reader: R) -> Browser<R> {
        Browser { reader: BufReader::with_capacity(64 * 1024, reader) }
    }

    pub fn answer(&mut self, is_to_head: bool) -> Answer {
        self.try_answer(is_to_head).expect("a whole answer")
    }

    /// The next answer; `None` if it is cut off.
    pub fn try_answer(&mut self, is_to_head: bool) -> Option<Answer> {
        let mut answer = self.head()?;
        let has_body = !is_to_head && !matches!(answer.status, 204 | 304);
        let len = answer
            .field("Content-Length")
            .filter(|_| has_body)
            .map_or(0, |len| len.parse().expect("a length"));
        answer.body = vec![0; len];
        self.reader.read_exact(&mut answer.body).ok()?;
        Some(answer)
    }

    /// The head of the next answer; its body is left to be read.
    pub fn head(&mut self) -> Option<Answer> {
        let mut answer = Answer::default();
        let mut line = String::new();
        loop {
            line.clear();
            self.reader.read_line(&mut line).ok()?;
            let line = line.strip_suffix("\r\n")?;
            if line.is_empty() {
                return Some(answer);
            }
            match line.split_once(": ") {
                Some((name, value)) if answer.status > 0 => {
                    answer.fields.push((name.to_owned(), value.to_owned()));
                }
                _ => answer.status = line.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()?,
            }
        }
    }
}

/// A request as it is sent.
pub fn request(method: &str, target: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n")
}
