//! Idle: what ten thousand connections cost that have said something once and then nothing.
//!
//! The server is a process of its own, so that what it takes is not mixed up with its clients. How many connections
//! there are is set by `CAMPANILE_TEST_IDLE` (2,000); 10,000 need a limit of 11,000 descriptors for the clients.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;

use campanile_core::{Config, Input, Output, Server, ServerHandle};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{alone, client, counted, nothing_held, process, role, round, tcp, until};

/// Of process memory, per connection.
const ALLOWED: u64 = 1024;

/// How the parent reads what the child says.
const SAYS: &str = "says: ";

fn say(what: impl std::fmt::Display) {
    eprintln!("{SAYS}{what}");
}

/// The server: tells where it listens, then its memory whenever it is asked.
fn serve(connections: u64) {
    let config = Config { max_connections: connections as u32 + 100, ..Config::default() };
    let server: ServerHandle = Server::new()
        .listen("127.0.0.1:0")
        .workers(1)
        .config(config)
        .serve(|| |input: &mut Input<'_>, output: &mut Output<'_>| support::echo(input, output))
        .expect("a free port of loopback");
    assert_eq!(server.notices(), [] as [&str; 0]);
    say(tcp(&server));
    for line in std::io::stdin().lines() {
        match line.expect("text").as_str() {
            "memory" => {
                let pid = std::process::id();
                let [all, own] = ["VmRSS", "RssAnon"].map(|kind| process::resident_kib(pid, kind));
                say(format_args!("{all} {own} {}", counted(&server).connections));
            }
            _ => nothing_held(&server),
        }
    }
}

struct Child {
    process: std::process::Child,
    said: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Child {
    fn line(&mut self) -> String {
        loop {
            let line = self.said.next().expect("the server goes on").expect("text");
            match line.strip_prefix(SAYS) {
                Some(said) => return said.to_owned(),
                None => eprintln!("{line}"),
            }
        }
    }

    fn order(&mut self, order: &str) {
        writeln!(self.process.stdin.as_mut().expect("a pipe"), "{order}").expect("the server reads");
    }

    /// VmRSS and RssAnon in KiB, and how many connections there are.
    fn memory(&mut self) -> [u64; 3] {
        self.order("memory");
        let line = self.line();
        let mut figures = line.split(' ').map(|figure| figure.parse().expect("a number"));
        std::array::from_fn(|_| figures.next().expect("three figures"))
    }

    /// The memory, once so many are connected.
    fn memory_with(&mut self, connections: u64) -> [u64; 3] {
        let mut memory = self.memory();
        until("all are accepted", || {
            memory = self.memory();
            memory[2] == connections
        });
        memory
    }
}

/// Each says something once; those that are there already keep still.
fn idle_clients(to: SocketAddr, count: u64) -> Vec<TcpStream> {
    (0..count)
        .map(|_| {
            let mut client = client(to);
            assert_eq!(round(&mut client, &[3; 200]).expect("an echo"), [3; 200]);
            client
        })
        .collect()
}

#[test]
fn idle_connections_take_less_than_a_kibibyte() {
    let wanted =
        std::env::var("CAMPANILE_TEST_IDLE").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    if role().is_some() {
        return serve(wanted);
    }
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limits.maximum, maximum: limits.maximum };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit");
    let most = limits.maximum.map_or(u64::MAX, |limit| limit.saturating_sub(200) * 8 / 9);
    let connections = wanted.min(most);
    if connections < wanted {
        eprintln!("note: the limit of descriptors allows {connections} connections only");
    }
    let mut command = alone("idle_connections_take_less_than_a_kibibyte", "server");
    command.env("CAMPANILE_TEST_IDLE", connections.to_string());
    command.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null());
    let mut process = command.spawn().expect("this test can be run again");
    let said = BufReader::new(process.stderr.take().expect("a pipe")).lines();
    let mut child = Child { process, said };
    let address: SocketAddr = child.line().parse().expect("an address");

    let start = child.memory();
    // The first hundred touch what is shared by all: buffers, queues, code.
    let warm = idle_clients(address, 100);
    let before = child.memory_with(100);
    let clients = idle_clients(address, connections - 100);
    let after = child.memory_with(connections);
    let each = |at: usize| (after[at] - before[at].min(after[at])) * 1024 / (connections - 100);
    eprintln!(
        "start {} KiB ({} of its own); {connections} idle connections: {} KiB ({}), {} bytes each ({})",
        start[0],
        start[1],
        after[0],
        after[1],
        each(0),
        each(1)
    );
    let whole = (after[0] - start[0].min(after[0])) * 1024 / connections;
    eprintln!("shared buffers included, {whole} bytes each");
    assert!(each(0) < ALLOWED && each(1) < ALLOWED, "{} bytes per idle connection", each(0));

    drop((warm, clients));
    // A second time takes no more: what was freed is used again.
    child.memory_with(0);
    let again = idle_clients(address, connections);
    let second = child.memory_with(connections);
    let grown = second[0].saturating_sub(after[0]) * 1024 / connections;
    eprintln!("a second time: {} KiB, {grown} bytes more each", second[0]);
    assert!(grown < 100, "it grows by {grown} bytes per connection");
    drop(again);
    child.memory_with(0);
    child.order("rest");
    drop(child.process.stdin.take());
    let ended = child.process.wait().expect("it ends with its input");
    assert!(ended.success(), "{ended}");
}
