//! What the tests of the examples share: an example as a process of its own.

// Each test binary uses its own part of it.
#![allow(dead_code, unreachable_pub, clippy::print_stdout)]

#[path = "../../crates/core/tests/support/mod.rs"]
pub mod common;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// An example that runs; it is killed when dropped.
pub struct Program {
    child: Child,
    has_ended: bool,
    pub address: SocketAddr,
}

impl Program {
    /// Starts an example on a free port.
    pub fn start(name: &str, arguments: &[&str]) -> Program {
        let path = examples().join(name);
        let mut command = Command::new(&path);
        command.args(["--listen", "127.0.0.1:0"]).args(arguments).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let mut said = String::new();
        let address = loop {
            let Some(Ok(line)) = lines.next() else { panic!("{name} ended at once: {said}") };
            if let Some(rest) = line.strip_prefix("listening on ") {
                break rest.split([' ', ',']).next().and_then(|address| address.parse().ok());
            }
            said += &line;
        };
        // Whatever else it says is read, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Program { child, has_ended: false, address: address.expect("an address comes first") }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended by itself, as it was asked to.
    pub fn ends(&mut self) -> ExitStatus {
        let mut status = None;
        common::until("it ends", || {
            status = self.child.try_wait().expect("it is ours");
            status.is_some()
        });
        self.has_ended = true;
        status.expect("it has ended")
    }

    /// Time that all its threads have run so far.
    pub fn cpu_time(&self) -> Duration {
        let tasks =
            std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("a living process").flatten();
        let nanos = tasks.map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            text.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
        });
        Duration::from_nanos(nanos.sum())
    }

    pub fn resident_kib(&self) -> u64 {
        common::process::resident_kib(self.pid(), "VmRSS")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let is_running = matches!(self.child.try_wait(), Ok(None));
        let _ = self.child.kill();
        let _ = self.child.wait();
        assert!(is_running || self.has_ended || std::thread::panicking(), "it ended by itself");
    }
}

/// Where the examples are. Cargo builds them before it runs all tests of their package, but not before it runs one; so
/// they are built here, which takes no time if it is done already.
pub fn examples() -> &'static Path {
    static EXAMPLES: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLES.get_or_init(|| {
        let test = std::env::current_exe().expect("a test has a file");
        let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--examples", "--target-dir"]).arg(profile.parent().expect("target"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        prints(build.current_dir(env!("CARGO_MANIFEST_DIR")));
        profile.join("examples")
    })
}

/// The command of a tool, or `None`, and a line that says so, where it is not installed.
pub fn tool(name: &str) -> Option<Command> {
    let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output();
    if found.is_ok_and(|found| found.status.success()) {
        return Some(Command::new(name));
    }
    eprintln!("skipped: {name} is not installed");
    None
}

/// What a command prints, both ways, when it succeeds.
pub fn prints(command: &mut Command) -> String {
    let done = command.output().expect("it is installed");
    let text = [&done.stdout[..], &done.stderr[..]].map(String::from_utf8_lossy).concat();
    assert!(done.status.success(), "{command:?}: {}\n{text}", done.status);
    text
}
