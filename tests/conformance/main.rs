//! A judge of the `http-server` example: several thousand exchanges over raw sockets, each by a section of RFC 9110 or
//! RFC 9112. All that fail are listed. Where the RFCs leave a choice every choice passes.
//!
//! `CONFORMANCE_ADDRESS=IP:PORT` judges another server, which has to have the same resources.

#![allow(unreachable_pub, clippy::print_stdout)] // It says how it went.

mod answer;
mod case;
mod chunks;
mod conditions;
mod connection;
mod fields;
mod framing;
mod limit;
mod paths;
mod ranges;
mod request_line;
mod semantics;
mod site;
#[path = "../support/mod.rs"]
mod support;
mod talk;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use case::{Case, Table, get};
use site::Site;
use talk::Talk;

/// All of it takes a tenth of this, unless most of it fails by waiting.
const ENOUGH: Duration = Duration::from_secs(55);
/// Connections at a time.
const AT_ONCE: usize = 12;

#[test]
fn answers_as_the_rfcs_say() {
    answers_with(&[]);
    // By handlers that wait, one after the other: both at once would be late on a busy machine.
    if std::env::var("CONFORMANCE_ADDRESS").is_err() {
        answers_with(&["--async"]);
    }
}

fn answers_with(options: &[&str]) {
    let site = Site::make();
    let server = Server::start(&site, options);
    let mut table = Table::default();
    request_line::table(&mut table);
    fields::table(&mut table);
    framing::table(&mut table);
    chunks::table(&mut table);
    connection::table(&mut table);
    semantics::table(&mut table);
    paths::table(&mut table);
    conditions::table(&mut table, server.address);
    ranges::table(&mut table, server.address);

    server.judges(table);
}

#[test]
fn a_limit_is_where_it_was_put() {
    if std::env::var("CONFORMANCE_ADDRESS").is_ok() {
        return;
    }
    let site = Site::make();
    for options in [&["--body-limit", "1000"][..], &["--body-limit", "1000", "--async"]] {
        let server = Server::start(&site, options);
        let mut table = Table::default();
        limit::table(&mut table, 1000);
        server.judges(table);
    }
}

/// Runs all cases; those that fail, in their order.
fn judge(cases: Vec<Case>, to: SocketAddr) -> Vec<(Case, String)> {
    let left = Mutex::new(cases.into_iter().enumerate());
    let (began, (failed, failures)) = (Instant::now(), mpsc::channel());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            let (left, failed) = (&left, failed.clone());
            scope.spawn(move || {
                loop {
                    let Some((number, case)) = left.lock().expect("no case panics").next() else { break };
                    let late = began.elapsed() > ENOUGH;
                    if let Err(wrong) = if late { Err("too late to be tried".into()) } else { case.run(to) } {
                        failed.send((number, case, wrong)).expect("it is received below");
                    }
                }
            });
        }
    });
    drop(failed);
    let mut failures: Vec<_> = failures.into_iter().collect();
    failures.sort_by_key(|(number, ..)| *number);
    failures.into_iter().map(|(_, case, wrong)| (case, wrong)).collect()
}

/// The server under test.
struct Server {
    address: SocketAddr,
    /// None for one that somebody else started.
    child: Option<Mutex<Child>>,
    /// What it said on its standard error.
    said: Arc<Mutex<String>>,
}

impl Server {
    /// Fails with all rows that do.
    fn judges(&self, table: Table) {
        let (began, all) = (Instant::now(), table.cases.len());
        let failures = judge(table.cases, self.address);
        println!("{} of {all} pass, in {:?}", all - failures.len(), began.elapsed());
        let row =
            |(case, wrong): &(Case, String)| format!("{:<20} {}\n{:20} {wrong}", case.rfc, case.name, "");
        let rows: Vec<_> = failures.iter().map(row).collect();
        self.is_well();
        assert!(rows.is_empty(), "{} of {all} fail:\n{}", rows.len(), rows.join("\n"));
    }

    fn start(site: &Site, options: &[&str]) -> Server {
        if let Ok(address) = std::env::var("CONFORMANCE_ADDRESS") {
            return Server { address: address.parse().expect("IP:PORT"), child: None, said: Arc::default() };
        }
        let mut command = Command::new(support::examples().join("http-server"));
        command
            .args(["--listen", "127.0.0.1:0", "--workers", "1"])
            .args(options)
            .arg("--root")
            .arg(site.root());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it was built");
        let (said, errors) = (Arc::new(Mutex::new(String::new())), child.stderr.take().expect("it is piped"));
        let kept = said.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                let mut kept = kept.lock().expect("nobody panics meanwhile");
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        let mut lines =
            BufReader::new(child.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        let address = lines.find_map(|line| line.strip_prefix("listening on ")?.parse().ok());
        std::thread::spawn(move || lines.for_each(drop));
        let address =
            address.unwrap_or_else(|| panic!("it does not listen: {}", said.lock().expect("a text")));
        Server { address, child: Some(Mutex::new(child)), said }
    }

    /// It still answers, runs, and nothing in it panicked.
    fn is_well(&self) {
        let answer = Talk::to(self.address).and_then(|mut talk| talk.ask(&get("/plaintext", "")));
        let answer = answer.expect("it still answers");
        assert_eq!((answer.status, &answer.body[..]), (200, &b"Hello, World!"[..]));
        if let Some(child) = &self.child {
            let state = child.lock().expect("nobody panics meanwhile").try_wait();
            assert!(matches!(state, Ok(None)), "it ended: {state:?}");
        }
        let said = self.said.lock().expect("nobody panics meanwhile");
        assert!(!said.contains("panicked"), "{said}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            let mut child = child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn the_parser_of_dates_knows_its_dates() {
    assert_eq!(answer::imf_fixdate("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
    assert_eq!(answer::imf_fixdate(site::MODIFIED_DATE), Some(1_622_505_600));
    for wrong in [
        "Mon, 06 Nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "",
    ] {
        assert_eq!(answer::imf_fixdate(wrong), None, "{wrong:?}");
    }
}
