//! Unbreakable: what servers meet at 3 a.m., and what the http-server example does then. A test per situation, each
//! printing the figure it saw.
//!
//! ```text
//! cargo test --test unbreakable -- --nocapture
//! CAMPANILE_FULL=1 cargo test --release --test unbreakable -- --nocapture --test-threads=1
//! CAMPANILE_SOAK=600 cargo test --release --test unbreakable -- --nocapture soak
//! ```
//!
//! `CAMPANILE_FULL` takes the numbers of clients that servers are compared by; without it there are fewer, to be quick.
//! `CAMPANILE_TEST_USER` is the number of the user that the server runs as. `CAMPANILE_SOAK` is how long everything
//! goes on at once, in seconds (1).

#![allow(clippy::print_stdout)] // It says what it saw.

#[path = "../support/mod.rs"]
mod support;

#[path = "../http_server/site.rs"]
#[allow(dead_code)] // Other tests use the rest.
mod site;

mod chaos;
mod crowd;
mod ending;
mod hold;
mod slow;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use site::{Site, program};
use support::common::{client, process, until};

/// So many clients: `few`, or `all` when everything is wanted.
fn clients(few: usize, all: usize) -> usize {
    if std::env::var_os("CAMPANILE_FULL").is_some() { all } else { few }
}

/// The server, run by the user that was asked for.
fn start(arguments: &[&str]) -> Site {
    let mut command = program(arguments);
    if let Some(user) = std::env::var("CAMPANILE_TEST_USER").ok().and_then(|user| user.parse().ok()) {
        command.uid(user).gid(user);
    }
    Site::run(command, &["127.0.0.1:0"])
}

/// As many descriptors as this process may have: it has an end of every connection.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit");
}

/// Asks for a path on a connection that stays, and reads the answer: its status and body.
fn ask(stream: &mut TcpStream, path: &str) -> (u16, Vec<u8>) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").expect("the server reads");
    answer(&mut BufReader::new(stream)).expect("a whole answer")
}

/// Reads an answer that says how long it is. `None` if the server closed before its first byte.
fn answer(from: &mut impl BufRead) -> Option<(u16, Vec<u8>)> {
    let mut line = String::new();
    if from.read_line(&mut line).expect("no reset") == 0 {
        return None;
    }
    let status = line.get(9..12).and_then(|status| status.parse().ok()).expect("a status line");
    let mut length = 0;
    loop {
        line.clear();
        from.read_line(&mut line).expect("a whole head");
        match line.trim_end().split_once(": ") {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().expect("a number");
            }
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).expect("a whole body");
    Some((status, body))
}

/// Checks that the server answers somebody new, as ever.
fn answers(site: &Site) {
    let mut stream = client(site.address());
    assert_eq!(ask(&mut stream, "/plaintext"), (200, b"Hello, World!".to_vec()));
}

/// Processor time that the server takes in this time, in percent of one core.
fn cpu_percent(site: &Site, within: Duration) -> f64 {
    let before = process_time(site);
    std::thread::sleep(within);
    (process_time(site) - before).as_secs_f64() / within.as_secs_f64() * 100.0
}

/// Waits until the server hardly does anything; what it does then, in percent of one core.
fn rests(site: &Site) -> f64 {
    let mut percent = 0.0;
    until("the server rests", || {
        percent = cpu_percent(site, Duration::from_secs(1));
        percent < 10.0
    });
    percent
}

fn process_time(site: &Site) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", site.pid())).expect("a living process").flatten();
    let nanos = tasks.map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
    });
    Duration::from_nanos(nanos.sum())
}

/// Memory of its own, in KiB: without the files it is mapped from.
fn own_kib(site: &Site) -> u64 {
    process::resident_kib(site.pid(), "RssAnon")
}
