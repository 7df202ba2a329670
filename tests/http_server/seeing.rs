//! What is seen of it from outside: metrics, whether it lives, whether it is ready, and how it dies.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::endpoints::{Answer, ask};
use crate::scripts;
use crate::site::{Site, gets_io_uring, program};
use crate::support::common::{client, until};
use crate::support::tool;

#[test]
fn metrics_are_what_prometheus_reads() {
    let site = Site::start(&["--workers", "2"]);
    for path in ["/plaintext", "/json", "/nowhere"] {
        ask(&site, "GET", path, "\r\n");
    }
    let sum = |text: &str, family: &str| -> f64 {
        let lines =
            text.lines().filter(|line| line.strip_prefix(family).is_some_and(|rest| rest.starts_with('{')));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let (mut text, mut asked) = (String::new(), 3.0);
    // A worker that is slow to say its figures is left out.
    until("both workers answer", || {
        let answer = ask(&site, "GET", "/metrics", "\r\n");
        assert_eq!(answer.field("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        text = String::from_utf8(answer.body).expect("text");
        asked += 1.0;
        sum(&text, "campanile_worker_up") == 2.0
    });
    let sum = |family| sum(&text, family);
    assert_eq!((sum("campanile_requests_total"), sum("campanile_answers_total")), (asked, asked - 1.0));
    assert_eq!((sum("campanile_connections_accepted_total"), sum("campanile_panics_total")), (asked, 0.0));
    site.stop();
}

/// The parser that people have.
#[test]
fn python_prometheus_client_reads_them() {
    scripts::run(scripts::python("prometheus_client"), "client_prometheus.py");
}

#[test]
fn it_is_alive_while_it_drains_and_not_ready() {
    let mut site = Site::start(&["--workers", "1"]);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(ask(&site, "GET", path, "\r\n").status, 200, "{path}");
    }
    let begun = ["/healthz", "/readyz"].map(|path| {
        let mut stream = client(site.address());
        write!(stream, "GET {path} HTTP/1.1\r\n").expect("it reads");
        stream
    });
    until("both are begun", || {
        let text = String::from_utf8(ask(&site, "GET", "/metrics", "\r\n").body).expect("text");
        text.contains("campanile_connections{worker=\"0\"} 3\n")
            && !text.contains("campanile_carried_bytes{worker=\"0\"} 0\n")
    });
    site.signal(Signal::TERM);
    until("nobody listens any more", || TcpStream::connect(site.address()).is_err());
    let answers = begun.map(|mut stream| {
        stream.write_all(b"Host: a\r\n\r\n").expect("it reads");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an orderly end");
        Answer::parse(&bytes).map(|answer| answer.status)
    });
    assert_eq!(answers, [Some(200), Some(503)]);
    assert_eq!(site.ends().code(), Some(0), "{}", site.said());
}

/// A server under strace, in a group of processes of their own: both are killed when dropped.
struct Traced(Child);

impl Drop for Traced {
    fn drop(&mut self) {
        // Without strace the server would go on.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
            let _ = self.0.wait();
        }
    }
}

/// A program that is run by strace, which has `io_uring_enter` fail after a while; `None`, and a line that says so, if
/// it may not.
fn traced(program: &Command) -> Option<Command> {
    let run = |program: &Command| {
        let mut strace = tool("strace")?;
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=io_uring_enter"]);
        strace.args(["-e", "inject=io_uring_enter:error=ENXIO:when=200+"]);
        strace.arg(program.get_program()).args(program.get_args());
        Some(strace)
    };
    let tried = run(&Command::new("true"))?.output().expect("it is installed");
    if !tried.status.success() {
        let said = String::from_utf8_lossy(&tried.stderr);
        eprintln!("skipped: strace may not look at other processes here: {said}");
        return None;
    }
    run(program)
}

/// A ring that breaks takes the whole server down, and one sentence says so.
#[test]
fn a_ring_that_breaks_ends_it_with_one_sentence() {
    let server = ["--listen", "127.0.0.1:0", "--workers", "2", "--log", "off", "--ring", "uring"];
    let Some(mut command) = traced(&program(&server)) else { return };
    if !gets_io_uring(program(&[])) {
        return;
    }
    let command = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Traced(child) = &mut Traced(command.spawn().expect("it is installed"));
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let line = lines.next().expect("a line").expect("text");
    let address: SocketAddr =
        line.strip_prefix("listening on ").expect("its address").parse().expect("an address");
    until("it has ended", || {
        // Each is some turns of some worker.
        if let Ok(mut stream) = TcpStream::connect(address) {
            let _ = stream.write_all(b"GET /204 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let _ = stream.read_to_end(&mut Vec::new());
        }
        matches!(child.try_wait(), Ok(Some(_)))
    });
    let mut said = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut said).expect("text");
    assert_eq!(child.wait().expect("a child").code(), Some(1), "{said}");
    assert_eq!(said, "error: a worker's ring broke: No such device or address (os error 6)\n");
}
