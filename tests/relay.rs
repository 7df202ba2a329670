//! The relay, as a process between a client and a server that are both this test.
//!
//! `CAMPANILE_RELAY_MIB` is how much goes each way (128); 1024 is a GiB.

#![allow(clippy::print_stdout)] // It says how it went.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use support::Program;
use support::common::{LONG, client, keyed, reset, until};

/// Memory that a relay may take for what it passes on, whatever that is.
const GROWTH_KIB: u64 = 8 * 1024;

/// A relay with one worker, and the listener it passes connections on to.
struct Relay {
    program: Program,
    behind: TcpListener,
}

impl Relay {
    fn start() -> Relay {
        let behind = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let to = behind.local_addr().expect("it is bound").to_string();
        Relay { program: Program::start("relay", &["--workers", "1", "--to", &to]), behind }
    }

    /// The two ends of a relayed connection.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let near = client(self.program.address);
        let (far, _) = self.behind.accept().expect("the relay connects");
        far.set_read_timeout(Some(LONG)).expect("any time but zero");
        far.set_write_timeout(Some(LONG)).expect("any time but zero");
        (near, far)
    }

    /// Memory in use after something was passed on, which is when everything is set up.
    fn warm_kib(&self) -> u64 {
        let (near, far) = self.connect();
        pass(&near, &far, 9, 4 << 20);
        pass(&far, &near, 9, 4 << 20);
        self.program.resident_kib()
    }

    /// Checks that it does nothing at all while nobody can go on, once the kernel's own timers have come to rest.
    fn idles(&self, what: &str) {
        const WINDOW: Duration = Duration::from_millis(500);
        until("it comes to rest", || {
            let before = self.program.cpu_time();
            thread::sleep(WINDOW);
            let time = self.program.cpu_time() - before;
            eprintln!("{what}: {time:?} of CPU in {WINDOW:?}");
            time < WINDOW / 200
        });
    }
}

/// Writes the stream of `key` until it is `len` bytes.
fn write(mut to: &TcpStream, key: u64, len: u64) {
    let (mut at, mut piece) = (0, vec![0; 256 * 1024]);
    while at < len {
        let n = (piece.len() as u64).min(len - at) as usize;
        keyed::fill(key, at, &mut piece[..n]);
        to.write_all(&piece[..n]).expect("the relay reads");
        at += n as u64;
    }
}

/// Reads as much, and checks every byte.
fn read(mut from: &TcpStream, key: u64, len: u64) {
    let (mut at, mut piece) = (0, vec![0; 256 * 1024]);
    while at < len {
        let room = (piece.len() as u64).min(len - at) as usize;
        let n = from.read(&mut piece[..room]).expect("the relay writes");
        assert!(n > 0, "the end after {at} of {len} bytes");
        assert_eq!(keyed::differs(key, at, &piece[..n]), None);
        at += n as u64;
    }
}

/// One direction, and nothing else at the time.
fn pass(from: &TcpStream, to: &TcpStream, key: u64, len: u64) {
    thread::scope(|scope| {
        scope.spawn(|| write(from, key, len));
        read(to, key, len);
    });
}

fn ends(mut stream: &TcpStream) {
    assert_eq!(stream.read(&mut [0]).expect("an orderly end"), 0);
}

fn is_reset(mut stream: &TcpStream) {
    loop {
        match stream.read(&mut [0; 65536]) {
            Ok(0) => panic!("an end that looks orderly"),
            // What was on its way before.
            Ok(_) => {}
            Err(error) => return assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
}

/// Writes until nothing more is taken for a while, and says how much that was.
fn fill(mut to: &TcpStream, key: u64) -> u64 {
    let (mut at, mut piece) = (0, vec![0; 64 * 1024]);
    to.set_write_timeout(Some(Duration::from_millis(300))).expect("any time but zero");
    loop {
        keyed::fill(key, at, &mut piece);
        match to.write(&piece) {
            Ok(n) => at += n as u64,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                to.set_write_timeout(Some(LONG)).expect("any time but zero");
                return at;
            }
        }
    }
}

#[test]
fn much_goes_both_ways_at_once_and_memory_stays_flat() {
    let mib = std::env::var("CAMPANILE_RELAY_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(128);
    let len = mib << 20;
    let relay = Relay::start();
    let warm = relay.warm_kib();
    let (near, far) = relay.connect();
    let (began, cpu) = (Instant::now(), relay.program.cpu_time());
    let most = thread::scope(|scope| {
        let (near, far) = (&near, &far);
        let directions = [
            scope.spawn(move || write(near, 1, len)),
            scope.spawn(move || write(far, 2, len)),
            scope.spawn(move || read(far, 1, len)),
            scope.spawn(move || read(near, 2, len)),
        ];
        let mut most = 0;
        while !directions.iter().all(thread::ScopedJoinHandle::is_finished) {
            most = most.max(relay.program.resident_kib());
            thread::sleep(Duration::from_millis(5));
        }
        directions.into_iter().for_each(|direction| direction.join().expect("its bytes are right"));
        most
    });
    let (time, cpu) = (began.elapsed(), relay.program.cpu_time() - cpu);
    eprintln!(
        "{mib} MiB each way in {time:?}, {cpu:?} of CPU; {warm} KiB before, at most {most} KiB meanwhile"
    );
    assert!(most.saturating_sub(warm) < GROWTH_KIB, "{warm} KiB before, {most} KiB meanwhile");
    near.shutdown(Shutdown::Write).expect("it is connected");
    ends(&far);
    far.shutdown(Shutdown::Write).expect("it is connected");
    ends(&near);
}

#[test]
fn each_direction_ends_by_itself() {
    let relay = Relay::start();
    for swapped in [false, true] {
        let (near, far) = relay.connect();
        let (first, second) = if swapped { (far, near) } else { (near, far) };
        pass(&first, &second, 1, 1 << 20);
        first.shutdown(Shutdown::Write).expect("it is connected");
        ends(&second);
        // The other direction knows nothing of it.
        pass(&second, &first, 2, 16 << 20);
        second.shutdown(Shutdown::Write).expect("it is connected");
        ends(&first);
    }
}

#[test]
fn a_stalled_direction_holds_little_costs_nothing_and_does_not_stall_the_other() {
    let relay = Relay::start();
    let warm = relay.warm_kib();
    for swapped in [false, true] {
        let (near, far) = relay.connect();
        let (writer, stalled) = if swapped { (far, near) } else { (near, far) };
        // `stalled` does not read, until nobody can write any more.
        let filled = fill(&writer, 1);
        relay.idles("one side stalled");
        pass(&stalled, &writer, 2, 32 << 20);
        // Half-closed while it is stalled, which arrives after everything before it.
        writer.shutdown(Shutdown::Write).expect("it is connected");
        pass(&stalled, &writer, 3, 1 << 20);
        relay.idles("one side stalled and half-closed");
        read(&stalled, 1, filled);
        ends(&stalled);
        stalled.shutdown(Shutdown::Write).expect("it is connected");
        ends(&writer);
    }
    // Both at once.
    let (near, far) = relay.connect();
    let (out, back) = (fill(&near, 1), fill(&far, 2));
    relay.idles("both sides stalled");
    let grown = relay.program.resident_kib().saturating_sub(warm);
    eprintln!("stalled with {out} and {back} bytes on their way: {grown} KiB more than before");
    assert!(grown < GROWTH_KIB, "{grown} KiB");
    read(&far, 1, out);
    read(&near, 2, back);
}

#[test]
fn who_is_killed_is_reset_on_the_other_side_too() {
    let relay = Relay::start();
    for swapped in [false, true] {
        for state in [
            "idle",
            "busy",
            "half-closed by the killed",
            "half-closed by the other",
            "not read from",
            "not reading",
        ] {
            let (near, far) = relay.connect();
            let (killed, mut other) = if swapped { (far, near) } else { (near, far) };
            pass(&killed, &other, 1, 100_000);
            match state {
                "busy" => drop((&killed).write_all(&[1; 500_000])),
                "half-closed by the killed" => {
                    killed.shutdown(Shutdown::Write).expect("it is connected");
                    ends(&other);
                }
                "half-closed by the other" => {
                    other.shutdown(Shutdown::Write).expect("it is connected");
                    ends(&killed);
                }
                // The relay does not read from it either, and learns of its end only when the other reads on.
                "not read from" => drop(fill(&killed, 2)),
                "not reading" => drop(fill(&other, 2)),
                _ => {}
            }
            reset(killed);
            if state == "half-closed by the killed" {
                // To the kernel of the relay that is a connection like any other until something is sent there.
                until("it is found out", || other.write_all(&[1; 1000]).is_err());
            } else {
                is_reset(&other);
            }
        }
    }
    // Nobody is left behind.
    relay.idles("after all were killed");
}

#[test]
fn who_cannot_be_reached_is_a_reset() {
    let relay = Relay::start();
    let Relay { program, behind } = relay;
    drop(behind);
    is_reset(&client(program.address));
}
