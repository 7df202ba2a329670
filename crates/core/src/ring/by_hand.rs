//! The ring by hand: no kernel, no sockets, no faults, and as little work as can be, so that what is measured is the
//! worker's. For benchmarks, and for counting what a request costs.
//!
//! Whoever drives it says what was received, by [`HandRing::deliver`], which fills buffers of the worker's own ring as
//! the kernel would. A send is written as the entry that the kernel would read, and completes with all of its bytes in
//! the next wait. Operations on files are carried out at once, by plain calls.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::{opcode, squeue};
use rustix::fs::{Mode, OFlags};

use crate::address::Address;
use crate::flight::{Flight, FlightIndex};
use crate::fs::FileStat;
use crate::operation::{Completion, Descriptor, Memory, Outcome, Submission, flight};
use crate::token::Token;
use crate::udp::UdpOptions;
use crate::wake::Kick;

use super::{Abilities, Ring, Side, plain};

/// Entries of the submission queue: as many as by default.
const ENTRIES: usize = 1024;

/// The far side of one connection.
#[derive(Debug, Default)]
struct Client {
    /// The receive that is armed, and how many bytes it may still bring.
    receive: Option<(Token, u32)>,
    heard: Vec<u8>,
}

/// A ring whose completions are fed by hand.
#[derive(Debug)]
pub(crate) struct HandRing {
    /// What the next wait brings.
    completed: Vec<Completion>,
    entries: Box<[squeue::Entry]>,
    next_entry: usize,
    accept: Option<Token>,
    /// By their direct descriptors.
    clients: Vec<Client>,
    /// The place in the ring of buffers that is filled next.
    head: u16,
    sent: u64,
    /// What is sent is kept, by client, to be looked at.
    is_heard: bool,
}

impl HandRing {
    pub(crate) fn new() -> HandRing {
        HandRing {
            completed: Vec::new(),
            entries: vec![opcode::Nop::new().build(); ENTRIES].into(),
            next_entry: 0,
            accept: None,
            clients: Vec::new(),
            head: 0,
            sent: 0,
            is_heard: false,
        }
    }

    /// Somebody connects; the number of that client.
    pub(crate) fn connect(&mut self) -> u32 {
        let token = self.accept.expect("the worker accepts");
        let client = self.clients.len() as u32;
        self.clients.push(Client::default());
        self.complete(token, Outcome::Count(client), true);
        client
    }

    /// A client's bytes arrive: they are in the worker's buffers now, and the next wait tells of them.
    ///
    /// # Panics
    /// When the worker does not read from it, or has too few buffers.
    pub(crate) fn deliver(&mut self, client: u32, mut bytes: &[u8], memory: &Memory) {
        let receive = &mut self.clients[client as usize].receive;
        while !bytes.is_empty() {
            let Some((token, budget)) = receive else { panic!("client {client} is not read from") };
            let Some((id, len)) = memory.buffers.peek_as_kernel(self.head) else { panic!("too few buffers") };
            self.head = self.head.wrapping_add(1);
            let (now, later) = bytes.split_at(bytes.len().min(len as usize));
            memory.buffers.fill_as_kernel(id, |buffer| {
                buffer[..now.len()].copy_from_slice(now);
                now.len()
            });
            let (token, len) = (*token, now.len() as u32);
            *budget = budget.saturating_sub(len);
            let more = *budget > 0;
            if !more {
                *receive = None;
            }
            self.completed.push(Completion { token, outcome: Outcome::Count(len), more, buffer: Some(id) });
            bytes = later;
        }
    }

    /// Bytes sent so far, to all clients.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// From now on what is sent is kept, or is not.
    pub(crate) fn hear(&mut self, is_heard: bool) {
        self.is_heard = is_heard;
    }

    /// What was kept of what a client was sent.
    pub(crate) fn heard(&mut self, client: u32) -> Vec<u8> {
        std::mem::take(&mut self.clients[client as usize].heard)
    }

    fn complete(&mut self, token: Token, outcome: Outcome, more: bool) {
        self.completed.push(Completion { token, outcome, more, buffer: None });
    }

    fn send(&mut self, token: Token, to: Descriptor, send: Submission, memory: &Memory) {
        let len = plain::len_of(send, memory);
        self.sent += u64::from(len);
        if self.is_heard
            && let Descriptor::Direct(client) = to
        {
            plain::copy_sent(send, memory, &mut self.clients[client as usize].heard);
        }
        self.complete(token, Outcome::Count(len), false);
    }

    /// Cancels what is armed: nothing else takes long enough.
    fn cancel(&mut self, target: Token) {
        let receives = self.clients.iter_mut().map(|client| &mut client.receive);
        let mut receives = receives.filter(|receive| receive.is_some_and(|(token, _)| token == target));
        let receive = receives.next().map(Option::take);
        if receive.is_some() || self.accept.take_if(|token| *token == target).is_some() {
            self.complete(target, Outcome::Cancelled, false);
        }
    }
}

/// By openat(2), since valgrind knows no openat2(2).
fn open(path: FlightIndex, memory: &Memory) -> io::Result<u32> {
    let Flight::Path { path, how, root } = flight(memory, path) else { unreachable!("a path") };
    let root = root.as_ref().map_or(rustix::fs::CWD, AsFd::as_fd);
    let (flags, mode) = (OFlags::from_bits_retain(how.flags as u32), Mode::from_raw_mode(how.mode as u32));
    Ok(rustix::fs::openat(root, path.as_c_str(), flags, mode)?.into_raw_fd() as u32)
}

/// There are no other threads to be woken by.
struct Nobody;

impl Kick for Nobody {
    fn kick(&self) {}
}

impl Ring for HandRing {
    /// What the kernel can do, but for what depends on the moment: one completion brings one buffer.
    fn abilities(&self) -> Abilities {
        let (direct, bundle, budget) = (true, false, true);
        Abilities { direct, bundle, budget, socket: false, set_option: false, bind_listen: false }
    }

    fn submit(&mut self, token: Token, submission: Submission, memory: &Memory) {
        self.entries[self.next_entry % ENTRIES] = submission.prepare(token, memory);
        self.next_entry += 1;
        match submission {
            Submission::Receive { from: Descriptor::Direct(client), budget, .. } => {
                self.clients[client as usize].receive = Some((token, budget));
            }
            Submission::Send { to, .. } | Submission::SendHeld { to, .. } | Submission::Gather { to, .. } => {
                self.send(token, to, submission, memory);
            }
            Submission::Accept { .. } => self.accept = Some(token),
            Submission::Cancel { target } => self.cancel(target),
            Submission::Close { descriptor: Descriptor::Direct(_) } | Submission::Shutdown { .. } => {
                self.complete(token, Outcome::Count(0), false);
            }
            Submission::OpenFile { path, .. } => {
                self.complete(token, Outcome::of_call(open(path, memory)), false);
            }
            _ => {
                let done = plain::at_once(submission, memory);
                let done = done.unwrap_or_else(|| panic!("not done by hand: {submission:?}"));
                self.complete(token, Outcome::of_call(done), false);
            }
        }
    }

    fn wait(&mut self, _: Option<Duration>, _: &Memory, batch: &mut Vec<Completion>) -> io::Result<()> {
        // The worker's batch is empty: nothing is copied.
        std::mem::swap(&mut self.completed, batch);
        Ok(())
    }

    fn perform(&mut self, _: Submission, _: &Memory) -> io::Result<u32> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn kick(&mut self, _: &Memory, _: Token) -> io::Result<Box<dyn Kick>> {
        Ok(Box::new(Nobody))
    }

    fn kicked(&mut self, _: &Completion, _: &Memory) {}

    fn address(&mut self, _: Descriptor, _: Side) -> io::Result<Address> {
        Ok(Address::from(SocketAddr::from(([127, 0, 0, 1], 1))))
    }

    fn bind_datagrams(&mut self, _: SocketAddr, _: &UdpOptions) -> io::Result<Descriptor> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn stats_at_once(&self, file: RawFd) -> bool {
        plain::stats_at_once(file)
    }

    fn has_offsets(&self, file: RawFd) -> bool {
        plain::has_offsets(file)
    }

    fn stat_now(&self, file: RawFd) -> io::Result<FileStat> {
        plain::stat_now(file)
    }

    fn announce(&mut self) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn hush(&mut self, _: bool) {}

    fn hand_over(&mut self) {}

    fn has_work(&self) -> bool {
        !self.completed.is_empty()
    }

    fn in_flight(&self) -> u64 {
        let armed = self.clients.iter().filter(|client| client.receive.is_some()).count();
        (armed + usize::from(self.accept.is_some()) + self.completed.len()) as u64
    }
}
