//! The server under test, and what its kernel tells of it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::common::{process, until};
use crate::support::examples;

/// An http-server that runs; it is killed when dropped.
pub(crate) struct Site {
    child: Child,
    /// As it printed them.
    pub(crate) addresses: Vec<String>,
    said: Arc<Mutex<String>>,
    is_killed: bool,
}

/// The program, with these arguments, and nothing from the environment.
pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(examples().join("http-server"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HTTP_")) {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// Whether this command, a server, gets a ring of io_uring; a line says so if not.
pub(crate) fn gets_io_uring(mut command: Command) -> bool {
    command
        .args(["--ring", "uring", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the example is built");
    let first = BufReader::new(child.stdout.take().expect("it is piped")).lines().next();
    let _ = child.kill();
    let done = child.wait_with_output().expect("a child");
    if first.is_none() {
        eprintln!("skipped: io_uring is refused here: {}", String::from_utf8_lossy(&done.stderr));
    }
    first.is_some()
}

impl Site {
    /// Starts on a free port.
    pub(crate) fn start(arguments: &[&str]) -> Site {
        Site::listen(&["127.0.0.1:0"], arguments)
    }

    /// Starts at these addresses.
    pub(crate) fn listen(at: &[&str], arguments: &[&str]) -> Site {
        Site::run(program(arguments), at)
    }

    /// Starts this command at these addresses.
    pub(crate) fn run(mut command: Command, at: &[&str]) -> Site {
        command.args(at.iter().flat_map(|address| ["--listen", address]));
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the example is built");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut stderr = child.stderr.take().expect("it is piped");
        let said = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&said);
        // Whatever it says is read, so that it never waits for us.
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = stderr.read(&mut bytes) {
                heard.lock().expect("no panic").push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
        });
        let mut addresses = Vec::new();
        while addresses.len() < at.len() {
            let line = lines.next().and_then(Result::ok);
            let Some(line) = line else { panic!("it ended at once: {}", said.lock().expect("no panic")) };
            addresses.extend(line.strip_prefix("listening on ").map(str::to_owned));
        }
        thread::spawn(move || lines.for_each(drop));
        Site { child, addresses, said, is_killed: false }
    }

    /// Where its first listener is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0].parse().expect("a TCP listener comes first")
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses[0])
    }

    /// What it said on standard error so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().expect("no panic").clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for it to end by itself.
    pub(crate) fn ends(&mut self) -> ExitStatus {
        let mut status = None;
        until("it ends", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Has it drain, and checks that it ends well.
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.ends().code(), Some(0), "{}", self.said());
    }

    /// Waits for it to end by a signal that was sent to it.
    #[allow(dead_code)] // Some tests let all their servers live.
    pub(crate) fn killed(mut self) -> ExitStatus {
        let status = self.ends();
        self.is_killed = true;
        status
    }

    pub(crate) fn resident_kib(&self) -> u64 {
        process::resident_kib(self.pid(), "VmRSS")
    }

    /// Its descriptors, those in the tables of its rings included.
    pub(crate) fn descriptors(&self) -> usize {
        let proc = PathBuf::from(format!("/proc/{}", self.pid()));
        let plain = fs::read_dir(proc.join("fd")).expect("a living process").count();
        let infos = fs::read_dir(proc.join("fdinfo")).expect("a living process").flatten();
        let texts = infos.filter_map(|info| fs::read_to_string(info.path()).ok());
        let in_table = |text: String| {
            let rows = text.lines().skip_while(|line| !line.starts_with("UserFiles:")).skip(1);
            rows.take_while(|line| line.starts_with(' ')).count()
        };
        plain + texts.map(in_table).sum::<usize>()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let status = self.child.try_wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        let is_well = self.is_killed
            || matches!(&status, Ok(None))
            || matches!(&status, Ok(Some(status)) if status.success());
        assert!(is_well || thread::panicking(), "it ended by itself: {status:?}: {}", self.said());
    }
}

/// A folder for a test's files; it is removed when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("campanile-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a place for files");
        Folder(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path of ordinary characters").to_owned()
    }

    /// A file of `len` bytes that are not all alike.
    pub(crate) fn file(&self, name: &str, len: usize) -> String {
        let mut bytes = vec![0; len];
        crate::support::common::keyed::fill(len as u64, 0, &mut bytes);
        fs::write(self.path(name), bytes).expect("there is room");
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file beside the tests.
pub(crate) fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http_server").join(name)
}

/// How much goes through one connection.
pub(crate) fn much() -> u64 {
    let mib = std::env::var("CAMPANILE_HTTP_MIB").ok().and_then(|mib| mib.parse().ok());
    mib.unwrap_or(256) << 20
}
