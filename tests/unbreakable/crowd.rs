//! Crowds: more clients at once than there is room for.

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Instant;

use crate::site::{Site, program};
use crate::support::common::client;
use crate::{answer, answers, ask, clients, raise_descriptors, rests, start};

#[test]
fn a_thousand_come_at_once_each_with_a_request_in_two_halves() {
    raise_descriptors();
    let count = clients(1_000, 1_000);
    let site = start(&[]);
    let began = Instant::now();
    let streams: Vec<TcpStream> = (0..count).map(|_| client(site.address())).collect();
    for half in ["GET /plaintext HT", "TP/1.1\r\nHost: a\r\n\r\n"] {
        streams.iter().for_each(|mut stream| stream.write_all(half.as_bytes()).expect("it reads"));
    }
    for stream in &streams {
        assert_eq!(answer(&mut BufReader::new(stream)), Some((200, b"Hello, World!".to_vec())));
    }
    println!("{count} at once, each request in two halves: all answered in {:?}", began.elapsed());
}

/// The server with a limit of descriptors that is far too low.
fn with_descriptors(limit: u64) -> Site {
    let inner = program(&["--workers", "1"]);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]).arg(inner.get_program());
    command.args(inner.get_args());
    if let Some(user) = std::env::var("CAMPANILE_TEST_USER").ok().and_then(|user| user.parse().ok()) {
        command.uid(user).gid(user);
    }
    Site::run(command, &["127.0.0.1:0"])
}

#[test]
fn descriptors_run_out_and_everybody_is_served_all_the_same() {
    raise_descriptors();
    let site = with_descriptors(256);
    let count = clients(500, 1_000);
    let mut waiting: Vec<TcpStream> = (0..count).map(|_| client(site.address())).collect();
    let first = waiting.first_mut().expect("some");
    assert_eq!(ask(first, "/plaintext").0, 200);
    let percent = rests(&site);
    let began = Instant::now();
    // Each who is served leaves, and makes room for the next.
    for mut stream in waiting.drain(..) {
        assert_eq!(ask(&mut stream, "/plaintext").0, 200);
    }
    println!(
        "256 descriptors and {count} clients: {percent:.1} % of a core while it is full; when they leave, all are \
         served within {:?}",
        began.elapsed()
    );
    answers(&site);
}
