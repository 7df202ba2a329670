//! A ring for tests, on which something completes late, and how long it was waited for is written down.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

use crate::address::Address;
use crate::config::Config;
use crate::fs::FileStat;
use crate::operation::{Completion, Descriptor, Memory, Outcome, Submission};
use crate::ring::{Abilities, Ring, Side};
use crate::time::SystemClock;
use crate::token::{Generation, Kind, Token};
use crate::udp::UdpOptions;
use crate::wake::{Bell, Kick};

use super::{Factory, Worker, memory_for};

/// A ring that can do nothing but complete something late.
#[derive(Default)]
pub(super) struct Late {
    /// So many times something completes just before the ring is hushed no more: then nothing announces it.
    pub(super) times: u32,
    /// Something completes when it was asked so often whether there is work.
    pub(super) looks: Cell<Option<u32>>,
    pub(super) announces: bool,
    /// It does not tell what completes, as epoll does not.
    pub(super) is_mute: bool,
    /// What it was told to wait for.
    pub(super) waits: Vec<Option<Duration>>,
    pub(super) completed: Cell<u32>,
}

/// A worker on it, which nobody reaches.
pub(super) fn worker_on(ring: Late, config: &Config) -> Worker<Late> {
    let config = Config { receive_buffers: 2, ..config.clone() };
    let memory = memory_for(&config);
    let factory: Factory = Box::new(|_| unreachable!("nobody comes"));
    Worker::hosted(Bell::default(), ring, memory, config, Box::new(SystemClock::new()), factory)
}

impl Ring for Late {
    fn abilities(&self) -> Abilities {
        let (direct, bundle, budget) = (false, false, false);
        Abilities { direct, bundle, budget, socket: false, set_option: false, bind_listen: false }
    }

    fn submit(&mut self, _: Token, _: Submission, _: &Memory) {}

    fn tells(&self) -> bool {
        !self.is_mute
    }

    fn wait(&mut self, timeout: Option<Duration>, _: &Memory, batch: &mut Vec<Completion>) -> io::Result<()> {
        self.waits.push(timeout);
        let token = Token::new(Kind::Cancel, Generation::default(), 0);
        let completion = Completion { token, outcome: Outcome::Cancelled, more: false, buffer: None };
        batch.extend((0..self.completed.take()).map(|_| completion));
        Ok(())
    }

    fn perform(&mut self, _: Submission, _: &Memory) -> io::Result<u32> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn kick(&mut self, _: &Memory, _: Token) -> io::Result<Box<dyn Kick>> {
        panic!("whoever hosts is told by the bell")
    }

    fn kicked(&mut self, _: &Completion, _: &Memory) {}

    fn address(&mut self, _: Descriptor, _: Side) -> io::Result<Address> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn bind_datagrams(&mut self, _: SocketAddr, _: &UdpOptions) -> io::Result<Descriptor> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn has_offsets(&self, _: RawFd) -> bool {
        false
    }

    fn stats_at_once(&self, _: RawFd) -> bool {
        false
    }

    fn stat_now(&self, _: RawFd) -> io::Result<FileStat> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn announce(&mut self) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn hush(&mut self, hushed: bool) {
        self.announces = !hushed;
        if !hushed && self.times > 0 {
            self.times -= 1;
            self.completed.set(self.completed.get() + 1);
        }
    }

    fn hand_over(&mut self) {}

    fn has_work(&self) -> bool {
        match self.looks.get() {
            None => false,
            Some(0) => {
                self.looks.set(None);
                self.completed.set(1);
                true
            }
            Some(looks) => {
                self.looks.set(Some(looks - 1));
                false
            }
        }
    }

    fn in_flight(&self) -> u64 {
        0
    }
}
