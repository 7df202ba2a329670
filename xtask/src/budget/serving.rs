//! Serving: how many system calls a request takes of a real server on io_uring, by strace.
//!
//! A server is loaded twice, with some rounds and with more, and what is told is the difference: so starting, accepting
//! and ending do not count. What is asked for, and in which order, is always the same.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use super::bounds::{Measure, Row};
use super::{Counted, has};

/// What is built for it, exactly as the tests build it: how often the kernel is called does not depend on how well the
/// compiler has optimised.
pub(super) const BUILT: &[&str] =
    &["--workspace", "--profile=test", "--example=echo", "--example=http-hello", "--example=http-server"];

/// Rounds of the shorter and of the longer run.
const ROUNDS: [usize; 2] = [50, 550];

/// An answer that has not come after this never comes.
const PATIENCE: Duration = Duration::from_secs(20);

const BYTES: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const GET: &str = "GET /plaintext HTTP/1.1\r\nHost: localhost\r\n\r\n";
const GET_FILE: &str = "GET /static/index.html HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Real files, from the root of the repository.
const SITE: &[&str] = &["--root", "examples/http-server/site"];

/// Some clients of a server.
struct Load {
    name: &'static str,
    server: &'static str,
    options: &'static [&'static str],
    request: &'static str,
    clients: usize,
    /// Requests that each client sends in one piece.
    pipelined: usize,
    /// The part by which it differs from run to run.
    slack: f64,
    /// Measured so often, of which the least is told.
    attempts: usize,
}

/// One client asks and waits: little is left to chance, but servers also do something once a second. A call more for
/// each request is a third of them or a half.
const ONE: Load = Load {
    name: "echo",
    server: "echo",
    options: &[],
    request: BYTES,
    clients: 1,
    pipelined: 1,
    slack: 0.2,
    attempts: 1,
};

/// How many of them are in one turn is the scheduler's affair; a call more for each of them is seen all the same.
const MANY: Load = Load { name: "echo-64", clients: 64, slack: 2.0, attempts: 3, ..ONE };

const LOADS: &[Load] = &[
    ONE,
    MANY,
    Load { name: "http", server: "http-hello", request: GET, ..ONE },
    Load { name: "http-64", server: "http-hello", request: GET, ..MANY },
    Load { name: "http-pipelined-16", server: "http-hello", request: GET, pipelined: 16, ..ONE },
    Load { name: "http-async", server: "http-server", options: &["--async"], request: GET, ..ONE },
    Load { name: "http-server", server: "http-server", request: GET, ..ONE },
    Load { name: "http-server-file", server: "http-server", options: SITE, request: GET_FILE, ..ONE },
];

/// Counts for all loads.
pub(super) fn count(root: &Path, servers: &[PathBuf], counted: &mut Counted) -> io::Result<()> {
    if !has("strace", "--version") {
        let reason = "strace is not installed (apt-get install strace)".into();
        counted.skipped.push((Measure::SystemCalls, reason));
        return Ok(());
    }
    for load in LOADS {
        let server = servers.iter().find(|path| path.ends_with(load.server));
        let server = server.ok_or_else(|| io::Error::other(format!("{} is not built", load.server)))?;
        let mut least = f64::MAX;
        for _ in 0..load.attempts {
            match per_request(root, server, load)? {
                Ok(calls) => least = least.min(calls),
                Err(reason) => {
                    counted.skipped.push((Measure::SystemCalls, reason));
                    counted.rows.retain(|row| row.measure != Measure::SystemCalls);
                    return Ok(());
                }
            }
        }
        let (measure, name) = (Measure::SystemCalls, load.name.into());
        counted.rows.push(Row { measure, name, measured: least, slack: load.slack });
    }
    Ok(())
}

/// System calls per request; or why the server does not start.
fn per_request(root: &Path, server: &Path, load: &Load) -> io::Result<Result<f64, String>> {
    let mut calls = [0; 2];
    for (calls, rounds) in calls.iter_mut().zip(ROUNDS) {
        *calls = match play(root, server, load, rounds)? {
            Ok(calls) => calls,
            Err(reason) => return Ok(Err(reason)),
        };
    }
    let requests = (ROUNDS[1] - ROUNDS[0]) * load.clients * load.pipelined;
    Ok(Ok(calls[1].saturating_sub(calls[0]) as f64 / requests as f64))
}

/// How often the server calls the kernel for so many rounds, from its beginning to its end; or why it does not start.
fn play(root: &Path, server: &Path, load: &Load, rounds: usize) -> io::Result<Result<u64, String>> {
    let summary = std::env::temp_dir().join(format!("campanile-budget-{}", std::process::id()));
    let started = Traced::start(root, server, load, &summary)?;
    let traced = match started {
        Ok(traced) => traced,
        Err(said) => {
            return Ok(Err(format!("{} does not start under strace: {said}", server.display())));
        }
    };
    let played = ask(traced.address, load, rounds);
    traced.end()?;
    played.map_err(|error| io::Error::other(format!("{}: {error}", load.name)))?;
    let text = fs::read_to_string(&summary)?;
    fs::remove_file(&summary)?;
    let calls = total(&text).ok_or_else(|| io::Error::other(format!("no summary of strace's:\n{text}")))?;
    Ok(Ok(calls))
}

/// The calls in the last line of strace's summary: `100.00    0.000000           0        31         3 total`.
fn total(summary: &str) -> Option<u64> {
    let line = summary.lines().find(|line| line.ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// A server under strace.
struct Traced {
    strace: Child,
    address: SocketAddr,
}

impl Traced {
    /// Starts it on a free port, on io_uring or not at all; what it says instead if it does not start.
    fn start(root: &Path, server: &Path, load: &Load, summary: &Path) -> io::Result<Result<Traced, String>> {
        let (said, says) = io::pipe()?;
        let mut command = Command::new("strace");
        // All threads; a summary, and nothing else.
        command.args(["-f", "-c", "-o"]).arg(summary).arg(server);
        command.args(["--listen", "127.0.0.1:0", "--workers", "1"]).args(load.options).current_dir(root);
        command.env("CAMPANILE_RING", "uring").env_remove("CAMPANILE_WITHOUT");
        command.stdout(says.try_clone()?).stderr(says).process_group(0);
        let strace = command.spawn()?;
        // With it goes the other end of the pipe.
        drop(command);
        let mut lines = BufReader::new(said).lines();
        let mut all = String::new();
        loop {
            let Some(Ok(line)) = lines.next() else {
                let mut strace = strace;
                strace.wait()?;
                return Ok(Err(all));
            };
            let address = line.strip_prefix("listening on ").and_then(|rest| rest.split([' ', ',']).next());
            if let Some(address) = address.and_then(|address| address.parse().ok()) {
                // Whatever else it says is read, so that it never waits for us.
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(Ok(Traced { strace, address }));
            }
            all += &line;
        }
    }

    /// Tells the server to end. Strace, which writes a file, does not mind, and ends when it has told what it saw.
    fn end(mut self) -> io::Result<()> {
        let group = format!("-{}", self.strace.id());
        Command::new("kill").args(["-TERM", "--", &group]).status()?;
        self.strace.wait().map(drop)
    }
}

/// Asks, and reads all answers.
fn ask(server: SocketAddr, load: &Load, rounds: usize) -> io::Result<()> {
    let mut clients = Vec::new();
    for _ in 0..load.clients {
        let client = TcpStream::connect(server)?;
        client.set_nodelay(true)?;
        client.set_read_timeout(Some(PATIENCE))?;
        clients.push(client);
    }
    let burst = load.request.repeat(load.pipelined);
    let first = first_answer(&mut clients[0], load.request)?;
    let mut answers = vec![0; first.len() * load.pipelined];
    for _ in 0..rounds {
        for client in &mut clients {
            client.write_all(burst.as_bytes())?;
        }
        for client in &mut clients {
            client.read_exact(&mut answers)?;
            // But for the date they are the same.
            let is_right = answers.chunks(first.len()).all(|answer| {
                answer.starts_with(&first[..first.len().min(12)]) && answer.ends_with(body_of(&first))
            });
            if !is_right {
                return Err(io::Error::other("not the answer that came first"));
            }
        }
    }
    Ok(())
}

fn body_of(answer: &[u8]) -> &[u8] {
    head_of(answer).map_or(answer, |len| &answer[len..])
}

/// The length of a head of HTTP, with the line that ends it.
fn head_of(answer: &[u8]) -> Option<usize> {
    answer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// What one request is answered: as much as was sent, or what HTTP says.
fn first_answer(client: &mut TcpStream, request: &str) -> io::Result<Vec<u8>> {
    client.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut byte = [0];
    let is_http = request.starts_with("GET ");
    while if is_http { head_of(&answer).is_none() } else { answer.len() < request.len() } {
        client.read_exact(&mut byte)?;
        answer.extend_from_slice(&byte);
    }
    let Some(head) = head_of(&answer) else { return Ok(answer) };
    let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let length = text.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next());
    let length = length.and_then(|length| length.parse().ok());
    if !answer.starts_with(b"HTTP/1.1 200 ") || length.is_none() {
        return Err(io::Error::other(format!("answered by {text}")));
    }
    answer.resize(head + length.unwrap_or(0), 0);
    client.read_exact(&mut answer[head..])?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found() {
        let summary = "% time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
            100.00    0.000123           0        29         3 io_uring_enter\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
            100.00    0.000123           0        31         3 total\n";
        assert_eq!(total(summary), Some(31));
        assert_eq!(total("nothing"), None);
    }

    #[test]
    fn an_answer_is_taken_apart() {
        assert_eq!(body_of(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), b"hi");
        assert_eq!(body_of(b"echo"), b"echo");
    }
}
