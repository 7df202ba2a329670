//! The probe: what this kernel can do, found out by really doing it.
//!
//! Version numbers lie (features are backported, and some versions have them broken), and flags cannot be asked for by
//! name. So each feature is tried once, on a small ring and a pair of sockets, with the very operations that the
//! worker submits, and what came back is checked byte for byte.

use std::fmt;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crate::address::Address;
use crate::config::Config;
use crate::flight::Flight;
use crate::operation::{Completion, Descriptor, Memory, Outcome, Submission};
use crate::server::{Feature, RingKind};
use crate::token::{Generation, Kind, Token};
use crate::worker::memory_for;

use super::kernel::{Flavour, KernelRing, Shape, Waits};
use super::{Abilities, Ring, Side};

/// How long to wait for a completion that should be there already.
const SOON: Duration = Duration::from_millis(500);

/// What the ring of a server can do: this kernel's io_uring as tried on this machine, or epoll. Displayed, it is a
/// table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Of which ring this tells: [`RingKind::Uring`] or [`RingKind::Poll`].
    pub ring: RingKind,
    /// DEFER_TASKRUN and SINGLE_ISSUER (Linux 6.1): completions are worked off when the worker asks for them.
    pub defer_taskrun: bool,
    /// NO_SQARRAY (Linux 6.6): one indirection less per submission.
    pub no_sqarray: bool,
    /// Multishot receive into a ring of provided buffers (Linux 6.0). Without it there is no worker.
    pub receive: bool,
    /// Bundles (Linux 6.10): one completion fills several buffers.
    pub bundle: bool,
    /// A receive can be armed for a number of bytes in total.
    pub budget: bool,
    /// Sockets opened straight into the ring's own table (Linux 5.19).
    pub direct: bool,
    /// A direct descriptor can be given to the process (Linux 6.8), which is how its addresses are asked for.
    pub install: bool,
    /// Socket options set by an operation (Linux 6.7).
    pub set_option: bool,
    /// Bind and listen by operations (Linux 6.11).
    pub bind_listen: bool,
}

impl Capabilities {
    /// What the ring over epoll does: nothing has to be tried for that.
    pub(crate) fn of_poll() -> Capabilities {
        Capabilities {
            ring: RingKind::Poll,
            defer_taskrun: false,
            no_sqarray: false,
            receive: true,
            bundle: false,
            budget: true,
            direct: false,
            install: false,
            set_option: true,
            bind_listen: true,
        }
    }

    /// Tries everything of io_uring, on a thread of its own. Takes about a millisecond.
    ///
    /// A ring that is gone is taken apart later, and the kernel interrupts the thread that used it for that
    /// (`io_ring_exit_work`): a read with a timeout there would fail with EINTR out of the blue (signal(7)).
    ///
    /// # Errors
    /// When the kernel refuses any ring at all, or the thread.
    pub fn probe() -> io::Result<Capabilities> {
        let trying = thread::Builder::new().name("campanile-probe".into()).spawn(Capabilities::try_all)?;
        trying.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn try_all() -> io::Result<Capabilities> {
        let mut bench = Bench::new()?;
        let flavour = bench.ring.flavour();
        let mut found = Capabilities {
            ring: RingKind::Uring,
            defer_taskrun: flavour != Flavour::Cooperative,
            no_sqarray: flavour == Flavour::Full,
            receive: bench.receives(0, false),
            bundle: false,
            budget: false,
            direct: false,
            install: false,
            set_option: false,
            bind_listen: false,
        };
        if !found.receive {
            bench.drain();
            return Err(io::Error::from_raw_os_error(libc::ENOSYS));
        }
        found.budget = bench.receives(BUDGET, false);
        found.bundle = bench.receives(0, true);
        bench.try_sockets(&mut found);
        bench.drain();
        Ok(found)
    }

    /// As if this feature were not there.
    pub(crate) fn do_without(&mut self, feature: Feature) {
        match feature {
            Feature::DeferTaskrun => (self.defer_taskrun, self.no_sqarray) = (false, false),
            Feature::NoSqarray => self.no_sqarray = false,
            Feature::Bundle => self.bundle = false,
            Feature::Budget => self.budget = false,
            Feature::Direct => (self.direct, self.install) = (false, false),
            Feature::SetOption => self.set_option = false,
            Feature::BindListen => self.bind_listen = false,
        }
    }

    /// The set-up flags to begin with.
    pub(crate) fn flavour(&self) -> Flavour {
        match (self.defer_taskrun, self.no_sqarray) {
            (true, true) => Flavour::Full,
            (true, false) => Flavour::Deferred,
            (false, _) => Flavour::Cooperative,
        }
    }

    /// Whether sockets can live in the ring's own table: then whatever is asked of them, or set, goes by operations.
    pub(crate) fn keeps_direct(&self) -> bool {
        self.direct && self.install && self.set_option
    }

    /// What of it is to be used with this configuration.
    pub(crate) fn abilities(&self, config: &Config) -> Abilities {
        let direct = self.keeps_direct() && config.direct_descriptors;
        Abilities {
            direct,
            bundle: self.bundle && config.bundles,
            budget: self.budget,
            socket: direct || self.ring == RingKind::Poll,
            set_option: self.set_option,
            bind_listen: self.bind_listen,
        }
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ring == RingKind::Poll {
            return writeln!(f, "epoll, and plain system calls: nothing of io_uring is used");
        }
        for (name, since, has, without) in [
            ("multishot receive, provided buffers", "6.0", self.receive, "cannot run"),
            ("DEFER_TASKRUN, SINGLE_ISSUER", "6.1", self.defer_taskrun, "COOP_TASKRUN"),
            ("NO_SQARRAY", "6.6", self.no_sqarray, "an index array"),
            ("receive bundles", "6.10", self.bundle, "one buffer per completion"),
            ("receive budget", "6.16", self.budget, "receives are cancelled to pause"),
            ("direct descriptors", "5.19", self.direct, "plain descriptors"),
            ("direct descriptors to plain ones", "6.8", self.install, "plain descriptors"),
            ("socket options by operation", "6.7", self.set_option, "plain descriptors, setsockopt(2)"),
            ("bind and listen by operation", "6.11", self.bind_listen, "bind(2), listen(2)"),
        ] {
            let state = if has { "yes" } else { "no" };
            write!(f, "{name:<38}{since:>5}  {state:<4}")?;
            writeln!(f, "{}", if has { String::new() } else { format!("instead: {without}") })?;
        }
        Ok(())
    }
}

/// What is sent to try a receive: several buffers full, and a bit.
const SENT: usize = 5_000;
const BUFFER: u32 = 1024;
const BUDGET: u32 = 2048;

/// A small ring with small buffers.
struct Bench {
    ring: KernelRing,
    memory: Memory,
}

impl Bench {
    fn new() -> io::Result<Bench> {
        let config = Config {
            receive_buffers: 8,
            receive_buffer_len: BUFFER,
            send_buffers: 1,
            file_buffers: 1,
            file_buffer_len: 1,
            ..Config::default()
        };
        let memory = memory_for(&config);
        let abilities = |direct| Abilities {
            direct,
            bundle: true,
            budget: true,
            socket: true,
            set_option: true,
            bind_listen: true,
        };
        let shape = |direct| Shape {
            queue_entries: 32,
            table: 8,
            abilities: abilities(direct),
            flavour: Flavour::Full,
            tells: false,
            waits: Waits::default(),
        };
        let ring = KernelRing::new(shape(true), &memory);
        let ring = match ring {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                KernelRing::new(shape(false), &memory)
            }
            ring => ring,
        }?;
        Ok(Bench { ring, memory })
    }

    /// Whether a multishot receive brings what was sent, in order, and ends when its budget is used up; with `bundle`,
    /// whether a completion filled more than one buffer.
    fn receives(&mut self, budget: u32, bundle: bool) -> bool {
        let Ok((mut there, here)) = UnixStream::pair() else { return false };
        let sent: Vec<u8> = (0..SENT).map(|i| (i * 31 % 251) as u8).collect();
        if there.write_all(&sent).is_err() {
            return false;
        }
        drop(there);
        let from = Descriptor::Plain(here.as_raw_fd());
        let token = Token::new(Kind::Receive, Generation::default(), 0);
        self.ring.submit(token, Submission::Receive { from, budget, bundle }, &self.memory);

        let mut came = Vec::new();
        let (mut several, mut in_flight) = (false, true);
        while in_flight {
            let batch = self.wait();
            if batch.is_empty() {
                return false;
            }
            for completion in batch {
                in_flight &= completion.more;
                if let (Outcome::Count(len), Some(buffer)) = (completion.outcome, completion.buffer) {
                    several |= len > BUFFER;
                    let Ok(received) = self.memory.buffers.take(buffer, len) else { return false };
                    received.for_each(|mut piece| came.extend_from_slice(piece.open(0).0));
                }
            }
            self.memory.buffers.publish();
        }
        let right = sent.starts_with(&came) && !came.is_empty();
        match (budget, bundle) {
            (0, false) => right,
            (0, true) => right && several,
            (budget, _) => right && came.len() == budget as usize,
        }
    }

    fn try_sockets(&mut self, found: &mut Capabilities) {
        let socket = Submission::Socket { domain: libc::AF_INET, direct: true };
        let Ok(index) = self.ring.perform(socket, &self.memory) else { return };
        found.direct = true;
        let descriptor = Descriptor::Direct(index);
        found.install = self.ring.address(descriptor, Side::Local).is_ok();
        let value = self.memory.flights.launch(Flight::OptionValue([1, 0]));
        let (level, name) = (libc::IPPROTO_TCP, libc::TCP_NODELAY);
        let option = Submission::SetOption { descriptor, level, name, value, len: 4 };
        found.set_option = self.ring.perform(option, &self.memory).is_ok();
        self.memory.flights.land(value);

        let anywhere = Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        if let Ok(address) = anywhere.to_sock_addr() {
            let address = self.memory.flights.launch(Flight::Address(address));
            let bind = self.ring.perform(Submission::Bind { descriptor, address }, &self.memory);
            self.memory.flights.land(address);
            let listen = Submission::Listen { descriptor, backlog: 1 };
            found.bind_listen = bind.is_ok() && self.ring.perform(listen, &self.memory).is_ok();
        }
        // Fails only if it is not there.
        let _ = self.ring.perform(Submission::Close { descriptor }, &self.memory);
    }

    fn wait(&mut self) -> Vec<Completion> {
        let mut batch = Vec::new();
        // A ring that is broken completes nothing, which is the answer.
        let _ = self.ring.wait(Some(SOON), &self.memory, &mut batch);
        batch
    }

    /// Nothing may be in flight when the memory goes.
    fn drain(mut self) {
        while self.ring.in_flight() > 0 {
            let target = Token::new(Kind::Receive, Generation::default(), 0);
            let cancel = Token::new(Kind::Cancel, Generation::default(), 0);
            self.ring.submit(cancel, Submission::Cancel { target }, &self.memory);
            if self.wait().is_empty() {
                std::mem::forget(self.memory);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn this_kernel_can_receive() {
        let found = Capabilities::probe().expect("io_uring on this machine");
        assert!(found.receive, "{found}");
        assert_eq!(found.to_string().lines().count(), 9);
    }

    #[test]
    fn who_asked_is_not_interrupted_afterwards() {
        let (mut silent, _other) = UnixStream::pair().expect("two sockets");
        silent.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        for _ in 0..40 {
            Capabilities::probe().expect("io_uring on this machine");
            let error = silent.read(&mut [0]).expect_err("nobody writes");
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        }
    }
}
