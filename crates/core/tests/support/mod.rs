//! What the tests over the kernel's ring share: keyed streams, polling with a deadline, figures of this process, and
//! running one test again in a process of its own.

// Each test binary uses its own part of it.
#![allow(dead_code, unreachable_pub)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output as Done};
use std::time::{Duration, Instant};

use campanile_core::{Context, Counters, Event, Flow, Input, Output, ServerHandle, Service};

/// Longer than anything here takes, even on a machine that is busy with other things.
pub const LONG: Duration = Duration::from_secs(50);

/// Whether these tests run on epoll: `CAMPANILE_RING=poll`, as servers understand it.
pub fn on_epoll() -> bool {
    std::env::var("CAMPANILE_RING").is_ok_and(|ring| ring == "poll")
}

/// Waits until `condition` holds.
///
/// # Panics
/// When it does not within [`LONG`].
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LONG, "not within {LONG:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends back whatever comes.
pub fn echo(input: &mut Input<'_>, output: &mut Output<'_>) -> Flow {
    let n = input.len().min(output.room());
    output.write(input.consume(n)).expect("no longer than the room");
    if input.is_empty() { Flow::More(1) } else { Flow::Room }
}

/// A service by a closure that sees every event.
pub struct Told<F>(pub F);

impl<F: FnMut(Event, &mut Context<'_>) -> Flow> Service for Told<F> {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        (self.0)(event, cx)
    }
}

/// The address of a server's first listener.
pub fn tcp(server: &ServerHandle) -> SocketAddr {
    server.addresses()[0].tcp().expect("a TCP listener comes first")
}

/// A client whose calls fail rather than block for ever.
pub fn client(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("the server listens");
    stream.set_read_timeout(Some(LONG)).expect("any time but zero");
    stream.set_write_timeout(Some(LONG)).expect("any time but zero");
    stream.set_nodelay(true).expect("a TCP socket");
    stream
}

/// Sends `bytes`, and reads as many.
pub fn round(stream: &mut (impl Read + Write), bytes: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(bytes)?;
    let mut answer = vec![0; bytes.len()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// Closes `stream` with a reset.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    drop(stream);
}

/// The figures of all workers together.
pub fn counted(server: &ServerHandle) -> Counters {
    server.counters().into_iter().sum()
}

/// Checks that a server at rest holds nothing: no connection, no unread or unsent byte, no buffer.
pub fn nothing_held(server: &ServerHandle) {
    let mut last = Counters::default();
    until("every connection is over and every buffer home", || {
        last = counted(server);
        (last.connections, last.carried_bytes, last.unsent_bytes, last.kept_buffers, last.send_buffers)
            == (0, 0, 0, 0, 0)
    });
    assert_eq!((last.accepted, last.nonsense), (last.closed, 0), "{last:?}");
}

/// A stream of bytes that only its key determines: the key itself first, then what it generates.
pub mod keyed {
    /// Length of the key at the beginning of its stream.
    pub const HEADER: u64 = 8;

    fn word(key: u64, index: u64) -> [u8; 8] {
        if index == 0 {
            return key.to_le_bytes();
        }
        let mut x = key.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)).to_le_bytes()
    }

    /// Writes the stream of `key` from byte `at` on.
    pub fn fill(key: u64, at: u64, bytes: &mut [u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let place = at + done as u64;
            let word = &word(key, place / 8)[(place % 8) as usize..];
            let n = word.len().min(bytes.len() - done);
            bytes[done..done + n].copy_from_slice(&word[..n]);
            done += n;
        }
    }

    /// Where `bytes` differ from the stream of `key` from byte `at` on.
    pub fn differs(key: u64, at: u64, bytes: &[u8]) -> Option<u64> {
        let mut done = 0;
        while done < bytes.len() {
            let place = at + done as u64;
            let word = &word(key, place / 8)[(place % 8) as usize..];
            let n = word.len().min(bytes.len() - done);
            if bytes[done..done + n] != word[..n] {
                return Some(place);
            }
            done += n;
        }
        None
    }
}

/// Figures of this process, as the kernel tells them.
pub mod process {
    use std::fs;
    use std::time::Duration;

    /// Threads whose name begins with `prefix`, as their numbers.
    pub fn threads(prefix: &str) -> Vec<u32> {
        let tasks = fs::read_dir("/proc/self/task").expect("procfs").flatten();
        let numbers = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok());
        let named = |tid: &u32| {
            let name = fs::read_to_string(format!("/proc/self/task/{tid}/comm")).unwrap_or_default();
            name.starts_with(prefix)
        };
        numbers.filter(named).collect()
    }

    /// Time that a thread has run so far.
    pub fn cpu_time(tid: u32) -> Duration {
        let text = fs::read_to_string(format!("/proc/self/task/{tid}/schedstat")).expect("a living thread");
        let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
        Duration::from_nanos(nanos.expect("nanoseconds come first"))
    }

    /// Open descriptors, without the one that counting them takes.
    pub fn descriptors() -> usize {
        fs::read_dir("/proc/self/fd").expect("procfs").count() - 1
    }

    /// Sockets in the tables of all rings of this process.
    pub fn direct_descriptors() -> usize {
        let infos = fs::read_dir("/proc/self/fdinfo").expect("procfs").flatten();
        let texts = infos.filter_map(|info| fs::read_to_string(info.path()).ok());
        texts.map(|text| in_table(&text)).sum()
    }

    /// The rows between `UserFiles:` and the next heading.
    fn in_table(info: &str) -> usize {
        let rows = info.lines().skip_while(|line| !line.starts_with("UserFiles:")).skip(1);
        rows.take_while(|line| line.starts_with(' ')).count()
    }

    /// Resident memory in KiB: of `kind` `VmRSS`, `RssAnon` ...
    pub fn resident_kib(pid: u32, kind: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
        let line = status.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(':'));
        line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).expect("a figure in kB")
    }
}

/// The variable that tells a test which part it plays in a process of its own.
const ROLE: &str = "CAMPANILE_TEST_ROLE";

/// Which part this process plays; `None` in the first one.
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// The command that runs the test of that name alone, in a process of its own, where it plays `role`.
pub fn alone(test: &str, role: &str) -> Command {
    // By this name an ordinary user may run it wherever the file lies.
    let mut command = Command::new(PathBuf::from("/proc/self/exe"));
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}

/// Runs a command to its end, and shows what it said if it failed.
pub fn succeeds(mut command: Command) -> Done {
    let done = command.output().expect("this test can be run again");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{}\n{}\n{}", done.status, text(&done.stdout), text(&done.stderr));
    done
}

/// Whether this process may do everything.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
