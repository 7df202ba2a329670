//! Datagrams: sockets that have no peer, and what is received and sent by them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::datagram;
use crate::flight::{Flight, FlightIndex};
use crate::operation::{Descriptor, Memory, Outcome, flight};
use crate::ring::simulated::faults::Fault;
use crate::ring::simulated::kernel::Kernel;
use crate::ring::simulated::world::{What, World};
use crate::token::{Kind, Token};

use super::{Running, Step, done, failed};

/// A socket for datagrams, as the outside sees it.
#[derive(Debug, Default)]
pub(crate) struct Letterbox {
    /// What was sent to the worker and not received, and how much of that the kernel holds.
    up: VecDeque<(SocketAddr, Vec<u8>)>,
    capacity: usize,
    /// What the worker has sent.
    pub(crate) down: Vec<(SocketAddr, Vec<u8>)>,
    /// The worker has no descriptor of it, and no operation on it, any more.
    pub(crate) is_closed: bool,
}

impl Letterbox {
    /// Sends a datagram to the worker; false if it is lost, as the kernel holds no more, or the socket is closed.
    pub(crate) fn post(&mut self, from: SocketAddr, bytes: Vec<u8>) -> bool {
        let is_taken = !self.is_closed && self.up.len() < self.capacity;
        if is_taken {
            self.up.push_back((from, bytes));
        }
        is_taken
    }
}

/// Receives that found no buffer, how many had come home by then, and when that was.
#[derive(Debug, Default)]
pub(in crate::ring::simulated) struct Unfed(Vec<(Token, u64, Duration)>);

/// Such a receive is to wait at least so long, if no buffer comes home.
const HASTE: Duration = Duration::from_millis(1);

impl Unfed {
    pub(in crate::ring::simulated) fn note(
        &mut self,
        token: Token,
        outcome: Outcome,
        memory: &Memory,
        now: Duration,
    ) {
        if (token.kind(), outcome) == (Some(Kind::Datagrams), Outcome::NoBuffers) {
            self.0.push((token, memory.buffers.home_again(), now));
        }
    }

    /// It is armed again.
    pub(in crate::ring::simulated) fn check(&mut self, token: Token, memory: &Memory, world: &mut World) {
        let Some(at) = self.0.iter().position(|(of, ..)| *of == token) else { return };
        let (_, home, when) = self.0.swap_remove(at);
        if memory.buffers.home_again() == home && world.now() < when + HASTE {
            world.violated(format!("{token:?} is armed again at once, and no buffer has come home"));
        }
    }
}

impl World {
    /// A socket for datagrams; or the errno.
    pub(in crate::ring::simulated) fn bind_datagrams(&mut self) -> Result<Descriptor, i32> {
        if self.strikes(Fault::TooManyFiles) {
            return Err(libc::EMFILE);
        }
        let capacity = *self.random.pick(&[1, 10, 1_000]);
        self.letterboxes.push(Letterbox { capacity, ..Letterbox::default() });
        self.open(What::Datagrams(self.letterboxes.len() - 1), false).ok_or(libc::EMFILE)
    }
}

/// The bytes of a datagram that is sent.
pub(super) fn range(memory: &Memory, datagram: FlightIndex) -> (*const u8, usize) {
    let Flight::Datagram { range, .. } = flight(memory, datagram) else { panic!("it names a datagram") };
    (range.iov_base.cast_const().cast(), range.iov_len)
}

impl Running {
    fn letterbox<'world>(&self, world: &'world mut World) -> Option<&'world mut Letterbox> {
        match world.thing(self.thing?).what {
            What::Datagrams(id) => world.letterboxes.get_mut(id),
            _ => None,
        }
    }

    pub(super) fn receive_datagrams(
        &mut self,
        world: &mut World,
        kernel: &mut Kernel,
        memory: &Memory,
    ) -> Step {
        if self.is_cancelled(world.now()) {
            return failed(libc::ECANCELED);
        }
        let Some(letterbox) = self.letterbox(world) else { return failed(libc::ENOTSOCK) };
        if letterbox.up.is_empty() {
            return Step::Nothing;
        }
        if world.strikes(Fault::Interrupted) {
            return failed(libc::EINTR);
        }
        let Some((buffer, _)) = memory.buffers.peek_as_kernel(kernel.head) else {
            world.faults.happened(Fault::NoBuffers);
            return failed(libc::ENOBUFS);
        };
        if world.strikes(Fault::NoBuffers) {
            return failed(libc::ENOBUFS);
        }
        if world.strikes(Fault::NonsenseBuffer) {
            let bad = [Some(u16::MAX), Some(memory.buffers.count()), None];
            return Step::Final(Outcome::Count(1), *world.random.pick(&bad));
        }
        kernel.head = kernel.head.wrapping_add(1);
        if world.strikes(Fault::ErrorWithBuffer) {
            return Step::Final(Outcome::from_result(-libc::EINTR), Some(buffer));
        }
        let Some((from, bytes)) = self.letterbox(world).and_then(|letterbox| letterbox.up.pop_front()) else {
            return failed(libc::ENOTSOCK);
        };
        let mut len = None;
        memory.buffers.fill_as_kernel(buffer, |memory| {
            len = datagram::write(memory, from, &bytes);
            0
        });
        let Some(len) = len else { return failed(libc::EFAULT) };
        let count = Outcome::Count(len);
        // The kernel takes an empty one for an end.
        match bytes.is_empty() || kernel.has_full_queue() || world.strikes(Fault::ReceiveEnded) {
            true => Step::Final(count, Some(buffer)),
            false => Step::More(count, Some(buffer)),
        }
    }

    pub(super) fn send_datagram(&mut self, world: &mut World, memory: &Memory, index: FlightIndex) -> Step {
        if self.is_cancelled(world.now()) {
            return failed(libc::ECANCELED);
        }
        if world.strikes(Fault::Interrupted) {
            return failed(libc::EINTR);
        }
        if world.strikes(Fault::Again) {
            return failed(libc::EAGAIN);
        }
        let bytes = self.read_ranges();
        if bytes != self.snapshot {
            world.violated(format!("{:?}: what is being sent was changed", self.token));
        }
        let Flight::Datagram { to, .. } = flight(memory, index) else { panic!("it names a datagram") };
        let Some(to) = to.as_ref().and_then(socket2::SockAddr::as_socket) else {
            return failed(libc::EDESTADDRREQ);
        };
        let len = bytes.len();
        let Some(letterbox) = self.letterbox(world) else { return failed(libc::ENOTSOCK) };
        letterbox.down.push((to, bytes));
        done(len)
    }
}
