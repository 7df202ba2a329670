//! The simulated ring: a kernel that has a bad day, the same one for the same seed.
//!
//! It plays io_uring against the very worker that runs on io_uring: it owns the kernel's rights on the worker's memory,
//! takes its time, and does whatever the real one is allowed to do, in any order that it is allowed to (see [`Fault`]).
//! Time is virtual, so nothing ever sleeps. What the worker must not do is written down as a violation: memory used
//! that nobody holds, a descriptor closed twice or during its shutdown, a second receive on a socket, a sleep for ever.
//!
//! * [`world`]: the far side: streams, listeners, files, descriptors.
//! * [`disk`]: the files of it.
//! * [`operations`]: every operation, carried out.
//! * [`kernel`]: the queues, and the order in which things complete.
//! * [`faults`]: what goes wrong, and what is counted.

mod disk;
pub(crate) mod faults;
pub(crate) mod kernel;
pub(crate) mod operations;
pub(crate) mod random;
pub(crate) mod world;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::fs::FileStat;
use crate::operation::{Completion, Descriptor, Memory, Outcome, Submission};
use crate::token::Token;
use crate::udp::UdpOptions;
use crate::wake::Kick;

use super::{Abilities, Ring, Side};
use faults::Fault;
use kernel::{Kernel, Sizes};
use world::{ThingId, World};

/// More steps than the world needs until something comes of it.
const MOST_STEPS: usize = 100_000;

/// The peers of a life: what happens on the far side while the worker waits.
pub(crate) trait Peers {
    /// Does what is due. Says when it wants to act next, or `None` if only the worker can give it a reason.
    fn act(&mut self, world: &mut World) -> Next;
}

/// What peers say when they have acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Something was done, and more may be at once.
    Now,
    At(Duration),
    Never,
}

/// Everything but the worker.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) world: World,
    pub(crate) kernel: Kernel,
}

/// A ring that plays the kernel.
pub(crate) struct SimulatedRing<P> {
    outside: Rc<RefCell<Outside>>,
    peers: Rc<RefCell<P>>,
    abilities: Abilities,
}

impl<P: Peers> SimulatedRing<P> {
    pub(crate) fn new(
        world: World,
        sizes: Sizes,
        abilities: Abilities,
        peers: Rc<RefCell<P>>,
    ) -> SimulatedRing<P> {
        let outside = Outside { world, kernel: Kernel::new(sizes) };
        SimulatedRing { outside: Rc::new(RefCell::new(outside)), peers, abilities }
    }

    /// What is outside of the worker, to look at between its turns.
    pub(crate) fn outside(&self) -> Rc<RefCell<Outside>> {
        Rc::clone(&self.outside)
    }

    /// A listener for the worker to accept from.
    pub(crate) fn listener(&mut self) -> (Descriptor, ThingId) {
        kernel::listen(&mut self.outside.borrow_mut().world)
    }
}

impl<P: Peers> Ring for SimulatedRing<P> {
    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn submit(&mut self, token: Token, submission: Submission, memory: &Memory) {
        let Outside { world, kernel } = &mut *self.outside.borrow_mut();
        kernel.submit(token, submission, memory, world);
    }

    fn wait(
        &mut self,
        timeout: Option<Duration>,
        memory: &Memory,
        batch: &mut Vec<Completion>,
    ) -> io::Result<()> {
        let Outside { world, kernel } = &mut *self.outside.borrow_mut();
        let mut peers = self.peers.borrow_mut();
        kernel.begin_wait();
        let until = timeout.map(|timeout| world.now() + timeout);
        // A turn takes its time.
        let spent = world.random.below(20) as u64;
        world.clock.advance_to(world.now() + Duration::from_micros(spent));
        for _ in 0..MOST_STEPS {
            let next = peers.act(world);
            kernel.enter(world, memory);
            let moved = kernel.pass(world, memory, true) || kernel.pass(world, memory, false);
            kernel.deliver(world, batch);
            let now = world.now();
            let over = until.is_some_and(|until| until <= now);
            if !batch.is_empty() || over {
                // What happens between the wait and the dispatch is other threads' best chance to be overlooked.
                peers.act(world);
                return Ok(());
            }
            if world.strikes(Fault::WaitInterrupted) {
                return Ok(());
            }
            if moved || next == Next::Now || kernel.has_queued() {
                continue;
            }
            let at = match next {
                Next::At(at) if at > now => Some(at),
                _ => None,
            };
            match [at, until, kernel.next(now)].into_iter().flatten().min() {
                Some(at) => world.clock.advance_to(at),
                None => return Err(io::Error::other("the worker sleeps, and nothing will ever wake it")),
            }
        }
        Err(io::Error::other("the world turns, and nothing comes of it for the worker"))
    }

    fn perform(&mut self, submission: Submission, memory: &Memory) -> io::Result<u32> {
        let Outside { world, kernel } = &mut *self.outside.borrow_mut();
        match kernel.perform(submission, world, memory) {
            Outcome::Count(n) => Ok(n),
            failed => Err(failed.to_error()),
        }
    }

    fn kick(&mut self, memory: &Memory, token: Token) -> io::Result<Box<dyn Kick>> {
        let kicks = Arc::clone(&self.outside.borrow().kernel.kicks);
        self.submit(token, Submission::Watch { descriptor: kernel::WATCHED }, memory);
        Ok(Box::new(kernel::SimulatedKick(kicks)))
    }

    fn kicked(&mut self, completion: &Completion, memory: &Memory) {
        self.outside.borrow().kernel.kicks.read();
        if !completion.more && completion.outcome != Outcome::Cancelled {
            self.submit(completion.token, Submission::Watch { descriptor: kernel::WATCHED }, memory);
        }
    }

    fn address(&mut self, descriptor: Descriptor, _: Side) -> io::Result<Address> {
        let number = match descriptor {
            Descriptor::Direct(index) => index as u16,
            Descriptor::Plain(fd) => fd as u16,
        };
        Ok(Address::from(SocketAddr::from(([127, 0, 0, 1], number))))
    }

    fn bind_datagrams(&mut self, _: SocketAddr, _: &UdpOptions) -> io::Result<Descriptor> {
        self.outside.borrow_mut().world.bind_datagrams().map_err(io::Error::from_raw_os_error)
    }

    fn stats_at_once(&self, _: RawFd) -> bool {
        self.outside.borrow().world.stats_at_once
    }

    fn has_offsets(&self, _: RawFd) -> bool {
        true
    }

    fn stat_now(&self, file: RawFd) -> io::Result<FileStat> {
        self.outside.borrow_mut().world.stat(file)
    }

    fn announce(&mut self) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn hush(&mut self, _: bool) {}

    fn hand_over(&mut self) {}

    fn has_work(&self) -> bool {
        self.outside.borrow().kernel.has_queued()
    }

    fn in_flight(&self) -> u64 {
        self.outside.borrow().kernel.in_flight()
    }
}
