//! The examples, as processes. Cargo builds them before it runs all tests of this package, and not before it runs one.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{Child, Command, Stdio};

use support::common::client;
use support::has_uring;

/// An example that runs; it is killed when dropped.
struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    /// Starts an example on a free port; `None`, and a line that says so, if it was not built.
    fn start(name: &str, arguments: &[&str]) -> Option<Program> {
        let test = std::env::current_exe().expect("a test has a file");
        let path = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST").join("examples").join(name);
        if !path.exists() {
            eprintln!("skipped: {name} was not built; `cargo test -p campanile-tokio-uring` does");
            return None;
        }
        let mut command = Command::new(path);
        command.args(["--listen", "127.0.0.1:0"]).args(arguments).stderr(Stdio::piped());
        let mut child = command.spawn().expect("a program");
        let mut said = String::new();
        let mut errors = BufReader::new(child.stderr.take().expect("it is piped"));
        errors.read_line(&mut said).expect("it says where it listens");
        // Whatever else it says is read, so that it never waits for us.
        std::thread::spawn(move || errors.lines().for_each(drop));
        let address =
            said.strip_prefix("listening on ").and_then(|rest| rest.split(' ').next()?.parse().ok());
        Some(Program { child, address: address.unwrap_or_else(|| panic!("{name}: {said}")) })
    }

    /// Sends all of it, and reads to the end.
    fn ask(&self, request: &str) -> String {
        let mut stream = client(self.address);
        stream.write_all(request.as_bytes()).expect("the server reads");
        stream.shutdown(Shutdown::Write).expect("it is connected");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an orderly end");
        answer
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn files_are_sent_in_the_order_of_their_names() {
    let files = if has_uring() { Program::start("files", &["--pause", "1"]) } else { None };
    let Some(files) = files else { return };
    let (manifest, story) = (include_str!("../Cargo.toml"), include_str!("../src/lib.rs"));
    let folder = env!("CARGO_MANIFEST_DIR");
    let asked = format!("{folder}/Cargo.toml\nno such file\n{folder}/src/lib.rs\n");
    let missing = "ERROR No such file or directory (os error 2)\n";
    assert_eq!(files.ask(&asked), format!("{manifest}{missing}{story}"));
}

#[test]
fn hello_is_said_inside_of_either_runtime() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for arguments in [&["--tokio"][..], &[]].into_iter().take(1 + usize::from(has_uring())) {
        let Some(hello) = Program::start("hosted-hello", arguments) else { return };
        let answer = hello.ask(request);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nHello, World!"), "{answer}");
    }
}
