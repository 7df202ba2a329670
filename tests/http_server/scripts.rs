//! Python and node: the clients of programs.

use std::process::Command;

use crate::site::{Site, beside};
use crate::support::{prints, tool};

/// A Python that has `module`: the first one, or that of the system.
pub(crate) fn python(module: &str) -> Option<Command> {
    tool("python3")?;
    let has = |name: &&str| {
        let done = Command::new(name).args(["-c", &format!("import {module}")]).output();
        done.is_ok_and(|done| done.status.success())
    };
    let found = ["python3", "/usr/bin/python3"].iter().find(|name| has(name));
    if found.is_none() {
        eprintln!("skipped: no Python has {module}");
    }
    found.map(Command::new)
}

/// Runs a script beside the tests, which is told the port and says `done`.
pub(crate) fn run(command: Option<Command>, script: &str) {
    let site = Site::start(&[]);
    let Some(mut command) = command else { return };
    let text = prints(command.arg(beside(script)).arg(site.address().port().to_string()));
    assert_eq!(text.trim(), "done");
    site.stop();
}

#[test]
fn python_http_client_is_served() {
    run(python("http.client"), "client_stdlib.py");
}

#[test]
fn python_requests_is_served() {
    run(python("requests"), "client_requests.py");
}

#[test]
fn python_aiohttp_is_served() {
    run(python("aiohttp"), "client_aiohttp.py");
}

#[test]
fn node_fetch_is_served() {
    run(tool("node"), "client_node.mjs");
}
