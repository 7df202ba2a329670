#![allow(unsafe_code)]
//! Operations in flight: what the simulated kernel was given, and how it carries each of them out.
//!
//! # Who owns what
//!
//! The memory that an operation names is the kernel's from its submission to its final completion. So this kernel takes
//! its time: it reads what is sent and writes what was received as late as it may, at the moment that it completes. Of
//! what is only read it takes a copy at submission, and compares: whoever writes there meanwhile is found out.
//!
//! # Obligations
//!
//! The same as the kernel's: an address is used only between submission and final completion, when by the contract of
//! [`Ring`](crate::ring::Ring) it is valid. Whether it is, is what the simulation is there to find out; Miri sees it.

pub(crate) mod datagrams;
mod files;

use std::time::Duration;

use crate::flight::Flight;
use crate::operation::{Completion, Descriptor, Half, Memory, ONCE_LEN, Outcome, Submission};
use crate::token::{Kind, Token};

use super::faults::{Fault, Recovery};
use super::kernel::Kernel;
use super::world::{Remote, StreamId, ThingId, What, World};

/// An operation that the ring was given and that has not completed for good.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) token: Token,
    pub(super) submission: Submission,
    /// What it works on, and holds open.
    pub(super) thing: Option<ThingId>,
    /// It does nothing before.
    pub(super) due: Duration,
    /// A cancellation has found it, and takes effect then.
    pub(super) cancelled_at: Option<Duration>,
    /// Connections that an accept took after a cancellation had found it.
    taken_late: u32,
    /// Bytes sent or received so far.
    progress: usize,
    /// A send is to stop short here.
    stop_at: Option<usize>,
    stalled: bool,
    /// What a send or a write reads, and what was there when it was submitted.
    ranges: Vec<(*const u8, usize)>,
    snapshot: Vec<u8>,
    /// Of a flight: where it was.
    flight: Option<*mut Flight>,
}

/// What an accept may still take once a cancellation has found it, but for the last one.
const MOST_TAKEN_LATE: u32 = 2;

/// What one attempt at an operation came to.
pub(super) enum Step {
    /// Nothing can be done now.
    Nothing,
    /// Something moved, and there is nothing to tell yet.
    Moved,
    /// A completion, and more will follow.
    More(Outcome, Option<u16>),
    Final(Outcome, Option<u16>),
}

fn failed(errno: i32) -> Step {
    Step::Final(Outcome::from_result(-errno), None)
}

fn done(count: usize) -> Step {
    Step::Final(Outcome::Count(count as u32), None)
}

impl Running {
    pub(super) fn new(token: Token, submission: Submission, memory: &Memory) -> Running {
        let mut this = Running {
            token,
            submission,
            thing: None,
            due: Duration::ZERO,
            cancelled_at: None,
            taken_late: 0,
            progress: 0,
            stop_at: None,
            stalled: false,
            ranges: Vec::new(),
            snapshot: Vec::new(),
            flight: this_flight(submission).map(|index| memory.flights.address(index)),
        };
        this.ranges = this.sent_ranges(memory);
        this.snapshot = this.read_ranges();
        this
    }

    /// The memory that a send, or a write, reads.
    fn sent_ranges(&self, memory: &Memory) -> Vec<(*const u8, usize)> {
        match self.submission {
            Submission::Send { buffer, start, end, .. } => {
                vec![(memory.sends.address(buffer, start), (end - start) as usize)]
            }
            Submission::SendHeld { address, len, .. } | Submission::Write { address, len, .. } => {
                vec![(std::ptr::with_exposed_provenance(address), len as usize)]
            }
            Submission::Gather { list, .. } => {
                // SAFETY: just launched, and only read while in flight.
                let Flight::Gather { message, .. } = (unsafe { &*memory.flights.address(list) }) else {
                    panic!("a gather names a scatter list");
                };
                // SAFETY: the list points to as many ranges as it says, as sendmsg(2) wants it.
                let list = unsafe { std::slice::from_raw_parts(message.msg_iov, message.msg_iovlen) };
                list.iter().map(|range| (range.iov_base.cast_const().cast(), range.iov_len)).collect()
            }
            Submission::SendDatagram { datagram, .. } => vec![datagrams::range(memory, datagram)],
            _ => Vec::new(),
        }
    }

    /// What is there now.
    fn read_ranges(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.ranges.iter().map(|range| range.1).sum());
        self.ranges.iter().for_each(|&(at, len)| bytes.extend_from_slice(read(at, len)));
        bytes
    }

    /// What is wrong with the memory that this operation names, while it is in flight.
    pub(super) fn wrong(&self, memory: &Memory) -> Option<String> {
        let buffer = match self.submission {
            Submission::Send { buffer, .. } => Some(buffer),
            Submission::ReceiveOnce { into, .. } => Some(into),
            _ => None,
        };
        if let Some(buffer) = buffer.filter(|&buffer| !memory.sends.is_held(buffer)) {
            return Some(format!("{:?} names send buffer {buffer}, which is free", self.token));
        }
        if let (Some(index), Some(address)) = (this_flight(self.submission), self.flight)
            && !memory.flights.is_at(index, address)
        {
            return Some(format!("{:?} names flight {index}, which has landed", self.token));
        }
        None
    }

    /// The descriptor it works on.
    pub(super) fn descriptor(&self) -> Option<Descriptor> {
        Some(match self.submission {
            Submission::Accept { listener, .. } => listener,
            Submission::Receive { from, .. }
            | Submission::ReceiveOnce { from, .. }
            | Submission::ReceiveDatagrams { from, .. }
            | Submission::SendDatagram { from, .. } => from,
            Submission::Send { to, .. } | Submission::SendHeld { to, .. } | Submission::Gather { to, .. } => {
                to
            }
            Submission::Shutdown { descriptor, .. }
            | Submission::WatchPeer { descriptor }
            | Submission::WatchRoom { descriptor }
            | Submission::Close { descriptor }
            | Submission::SetOption { descriptor, .. }
            | Submission::Bind { descriptor, .. }
            | Submission::Listen { descriptor, .. }
            | Submission::Connect { descriptor, .. } => descriptor,
            Submission::Stat { file, .. } => Descriptor::Plain(file),
            Submission::Read { file, .. }
            | Submission::Write { file, .. }
            | Submission::Sync { file, .. } => file,
            Submission::Cancel { .. }
            | Submission::Socket { .. }
            | Submission::OpenFile { .. }
            | Submission::Change { .. }
            | Submission::Watch { .. } => return None,
        })
    }

    pub(super) fn completion(&self, outcome: Outcome, more: bool, buffer: Option<u16>) -> Completion {
        Completion { token: self.token, outcome, more, buffer }
    }

    /// Whether a send or a write that completed with `n` bytes was asked for more.
    pub(super) fn falls_short(&self, n: u32) -> bool {
        (n as usize) < self.snapshot.len()
    }

    fn is_cancelled(&self, now: Duration) -> bool {
        self.cancelled_at.is_some_and(|at| at <= now)
    }

    /// Tries to get on with it.
    pub(super) fn step(&mut self, world: &mut World, kernel: &mut Kernel, memory: &Memory) -> Step {
        if let Some(wrong) = self.wrong(memory) {
            world.violated(wrong);
            return failed(libc::EFAULT);
        }
        if self.token.kind() == Some(Kind::Errand) {
            // Before anything of it is done.
            if world.strikes(Fault::Interrupted) {
                return failed(libc::EINTR);
            }
            if world.strikes(Fault::Again) {
                return failed(libc::EAGAIN);
            }
        }
        match self.submission {
            Submission::Accept { direct, multishot, .. } => {
                let ends = !multishot || kernel.has_full_queue() || self.taken_late >= MOST_TAKEN_LATE;
                self.accept(world, direct, ends)
            }
            Submission::Receive { budget, bundle, .. } => self.with_stream(world, |this, world, id| {
                this.receive(world, id, kernel, memory, budget, bundle)
            }),
            Submission::ReceiveOnce { into, .. } => self.with_stream(world, |_, world, id| {
                let to = memory.sends.address(into, 0).cast_mut();
                receive_once(world, id, to)
            }),
            Submission::Send { .. } | Submission::SendHeld { .. } | Submission::Gather { .. } => {
                self.with_stream(world, Running::send)
            }
            Submission::ReceiveDatagrams { .. } => self.receive_datagrams(world, kernel, memory),
            Submission::SendDatagram { datagram, .. } => self.send_datagram(world, memory, datagram),
            Submission::Shutdown { half, .. } => self.shutdown(world, half),
            Submission::Close { .. } | Submission::Cancel { .. } => done(0),
            Submission::Socket { direct, .. } => match world.strikes(Fault::TooManyFiles) {
                true => failed(libc::EMFILE),
                false => opened(world.open(What::Socket(None), direct)),
            },
            Submission::SetOption { level, name, len, .. } => self.set_option(world, (level, name, len)),
            Submission::Bind { .. } => done(0),
            Submission::Listen { .. } => {
                let thing = self.thing.expect("resolved when it started");
                world.thing(thing).what = What::Listener(Default::default());
                done(0)
            }
            Submission::Connect { .. } => self.connect(world),
            Submission::OpenFile { path, direct } => files::open(world, memory, path, direct),
            Submission::Stat { .. } => self.stat(world),
            Submission::Read { into, len, offset, .. } => {
                self.read_file(world, memory, into, len as usize, offset)
            }
            Submission::Write { offset, .. } => self.write_file(world, offset),
            Submission::Sync { .. } => self.sync_file(world),
            Submission::Change { names } => files::change_names(world, memory, names),
            Submission::WatchPeer { .. } => self.with_stream(world, Running::watch_peer),
            Submission::WatchRoom { .. } => self.with_stream(world, Running::watch_room),
            Submission::Watch { .. } => self.watch(world, kernel),
        }
    }

    fn with_stream(
        &mut self,
        world: &mut World,
        step: impl FnOnce(&mut Running, &mut World, StreamId) -> Step,
    ) -> Step {
        let thing = self.thing.expect("resolved when it started");
        match world.thing(thing).what {
            What::Socket(Some(stream)) => step(self, world, stream),
            _ => {
                world.violated(format!("{:?} on something that is not connected", self.token));
                failed(libc::ENOTCONN)
            }
        }
    }

    fn accept(&mut self, world: &mut World, direct: bool, ends: bool) -> Step {
        let now = world.now();
        let thing = self.thing.expect("resolved when it started");
        let cancelled = self.is_cancelled(now);
        let What::Listener(waiting) = &mut world.thing(thing).what else {
            world.violated("an accept on something that does not listen".into());
            return failed(libc::EINVAL);
        };
        let next = waiting.pop_front();
        let put_back = |world: &mut World, stream| {
            if let What::Listener(waiting) = &mut world.thing(thing).what {
                waiting.push_front(stream);
            }
        };
        let Some(stream) = next else {
            return if cancelled { failed(libc::ECANCELED) } else { Step::Nothing };
        };
        if cancelled && !world.strikes(Fault::AcceptAfterCancel) {
            put_back(world, stream);
            return failed(libc::ECANCELED);
        }
        if world.accepts_to_refuse > 0 || world.strikes(Fault::TooManyFiles) {
            put_back(world, stream);
            world.accepts_to_refuse = world.accepts_to_refuse.saturating_sub(1);
            world.accepts_refused += 1;
            return failed(libc::EMFILE);
        }
        if world.strikes(Fault::Interrupted) {
            put_back(world, stream);
            return failed(libc::EINTR);
        }
        let Some(descriptor) = world.open(What::Socket(Some(stream)), direct) else {
            // The kernel takes the connection before it looks for a place in the table.
            world.faults.happened(Fault::TableFull);
            if world.table_suffices {
                world.violated("an accept that the table of direct descriptors has no place for".into());
            }
            world.streams[stream].harmed = Some(Fault::TableFull);
            world.refuse(stream);
            return failed(libc::ENFILE);
        };
        (world.streams[stream].accepted, world.streams[stream].began_at) = (true, world.now());
        let number = number_of(descriptor);
        self.taken_late += u32::from(self.cancelled_at.is_some());
        if let Submission::Accept { multishot: false, .. } = self.submission {
            world.faults.recovered(Recovery::AcceptedOneByOne);
        }
        match ends || world.strikes(Fault::AcceptEnded) {
            true => done(number),
            false => Step::More(Outcome::Count(number as u32), None),
        }
    }

    fn watch_peer(&mut self, world: &mut World, id: StreamId) -> Step {
        if self.is_cancelled(world.now()) {
            return failed(libc::ECANCELED);
        }
        strike_reset(world, id);
        let stream = &world.streams[id];
        let seen = match stream.reset_by_peer {
            Some(_) => {
                world.faults.recovered(Recovery::ResetNoticed);
                libc::POLLERR | libc::POLLHUP
            }
            None if stream.up_ended => libc::POLLRDHUP,
            None => return Step::Nothing,
        };
        done(seen as usize)
    }

    fn watch_room(&mut self, world: &mut World, id: StreamId) -> Step {
        strike_reset(world, id);
        if world.streams[id].reset_by_peer.is_some() {
            return done((libc::POLLERR | libc::POLLHUP) as usize);
        }
        world.check_patience(id, self.cancelled_at.is_some());
        if self.is_cancelled(world.now()) {
            return failed(libc::ECANCELED);
        }
        let now = world.now();
        let stream = &mut world.streams[id];
        if stream.down.len() >= stream.down_capacity {
            return Step::Nothing;
        }
        stream.is_full = false;
        stream.tally(now);
        stream.sending = false;
        world.faults.recovered(Recovery::RoomAwaited);
        done(libc::POLLOUT as usize)
    }

    fn receive(
        &mut self,
        world: &mut World,
        id: StreamId,
        kernel: &mut Kernel,
        memory: &Memory,
        budget: u32,
        bundle: bool,
    ) -> Step {
        if self.is_cancelled(world.now()) {
            if self.progress > 0 {
                world.faults.happened(Fault::CancelledWithData);
            }
            return failed(libc::ECANCELED);
        }
        strike_reset(world, id);
        let stream = &world.streams[id];
        if stream.up.is_empty() {
            return match stream.reset_by_peer {
                Some(errno) => failed(errno),
                None if stream.up_ended => done(0),
                None => Step::Nothing,
            };
        }
        if world.strikes(Fault::Interrupted) {
            return failed(libc::EINTR);
        }
        let Some((first, buffer_len)) = memory.buffers.peek_as_kernel(kernel.head) else {
            world.faults.happened(Fault::NoBuffers);
            return failed(libc::ENOBUFS);
        };
        if world.strikes(Fault::NoBuffers) {
            return failed(libc::ENOBUFS);
        }
        if world.strikes(Fault::NonsenseBuffer) {
            world.streams[id].harmed = Some(Fault::NonsenseBuffer);
            let bad = [Some(u16::MAX), Some(memory.buffers.count()), None];
            return Step::Final(Outcome::Count(1), *world.random.pick(&bad));
        }
        if world.strikes(Fault::NonsenseCount) {
            world.streams[id].harmed = Some(Fault::NonsenseCount);
            let all = u32::from(memory.buffers.count()) * buffer_len;
            return Step::Final(Outcome::Count(all + 1), Some(first));
        }
        if world.strikes(Fault::ErrorWithBuffer) {
            kernel.head = kernel.head.wrapping_add(1);
            return Step::Final(Outcome::from_result(-libc::EINTR), Some(first));
        }
        let there = world.streams[id].up.len();
        let mut most = if budget > 0 { there.min(budget as usize - self.progress) } else { there };
        if world.strikes(Fault::ShortReceive) {
            most = world.random.between(1, most);
        }
        let mut received = 0;
        while received < most {
            let Some((buffer, len)) = memory.buffers.peek_as_kernel(kernel.head) else { break };
            let part = (most - received).min(len as usize);
            memory.buffers.fill_as_kernel(buffer, |memory| {
                let bytes = world.streams[id].up.drain(..part);
                memory.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
                part
            });
            kernel.head = kernel.head.wrapping_add(1);
            received += part;
            if !bundle {
                break;
            }
        }
        self.progress += received;
        world.streams[id].moved_at = world.now();
        let count = Outcome::Count(received as u32);
        let used_up = budget > 0 && self.progress >= budget as usize;
        match used_up || world.strikes(Fault::ReceiveEnded) {
            true => Step::Final(count, Some(first)),
            false => Step::More(count, Some(first)),
        }
    }

    fn send(&mut self, world: &mut World, id: StreamId) -> Step {
        let total = self.snapshot.len();
        strike_reset(world, id);
        let stream = &world.streams[id];
        if let Some(errno) = stream.reset_by_peer {
            return if self.progress > 0 { done(self.progress) } else { failed(errno) };
        }
        if stream.down_ended {
            world.violated(format!("{:?} after the sending side was shut down", self.token));
            return failed(libc::EPIPE);
        }
        world.check_patience(id, self.cancelled_at.is_some());
        if self.is_cancelled(world.now()) {
            world.streams[id].is_full = true;
            if self.progress > 0 {
                world.faults.happened(Fault::CancelledWithData);
                return done(self.progress);
            }
            return failed(libc::ECANCELED);
        }
        if self.progress == 0 {
            if world.strikes(Fault::Interrupted) {
                return failed(libc::EINTR);
            }
            if world.strikes(Fault::Again) {
                return failed(libc::EAGAIN);
            }
            if world.strikes(Fault::NonsenseCount) {
                world.streams[id].harmed = Some(Fault::NonsenseCount);
                return done(total + world.random.between(1, 100_000));
            }
            if self.stop_at.is_none() && total > 1 && world.strikes(Fault::ShortSend) {
                self.stop_at = Some(world.random.between(1, total - 1));
            }
        }
        let stream = &mut world.streams[id];
        let end = self.stop_at.unwrap_or(total);
        let room = stream.down_capacity.saturating_sub(stream.down.len());
        let part = room.min(end - self.progress);
        let moved = part > 0;
        if moved {
            let bytes = self.read_ranges();
            if bytes[self.progress..] != self.snapshot[self.progress..] {
                world.violated(format!("{:?}: what is being sent was changed", self.token));
            }
            let stream = &mut world.streams[id];
            stream.down.extend(&bytes[self.progress..self.progress + part]);
            self.progress += part;
            world.taken(id, part);
            let stream = &mut world.streams[id];
            if stream.peer_gone {
                stream.reset(libc::ECONNRESET);
            }
        }
        if self.progress == end {
            world.streams[id].sending = end < total;
            return done(self.progress);
        }
        if !self.stalled {
            self.stalled = true;
            world.faults.happened(Fault::StalledSend);
        }
        if moved { Step::Moved } else { Step::Nothing }
    }

    fn shutdown(&mut self, world: &mut World, half: Half) -> Step {
        let thing = self.thing.expect("resolved when it started");
        let thing = world.thing(thing);
        thing.shutting -= 1;
        let What::Socket(Some(id)) = thing.what else { return failed(libc::ENOTCONN) };
        let stream = &mut world.streams[id];
        if stream.reset_by_peer.is_some() {
            return failed(libc::ENOTCONN);
        }
        stream.down_ended = true;
        stream.up_ended |= half == Half::Both;
        world.faults.recovered(Recovery::Shutdown);
        done(0)
    }

    fn set_option(&mut self, world: &mut World, (level, name, len): (i32, i32, u32)) -> Step {
        let flight = self.flight.expect("an option has a value");
        // SAFETY: in the air until this completes, by `wrong`.
        let Flight::OptionValue(value) = (unsafe { &*flight }) else { panic!("an option names its value") };
        if world.strikes(Fault::OptionFailed) {
            return failed(libc::ENOPROTOOPT);
        }
        if (level, name, len, value) == (libc::SOL_SOCKET, libc::SO_LINGER, 8, &[1, 0]) {
            let thing = self.thing.expect("resolved when it started");
            world.thing(thing).reset_on_close = true;
            world.faults.recovered(Recovery::ResetOnClose);
        }
        done(0)
    }

    fn connect(&mut self, world: &mut World) -> Step {
        let flight = self.flight.expect("a connect has an address");
        // SAFETY: in the air until this completes, by `wrong`.
        let Flight::Address(to) = (unsafe { &*flight }) else { panic!("a connect names an address") };
        let port = to.as_socket().map_or(0, |to| to.port());
        if self.is_cancelled(world.now()) {
            world.faults.recovered(Recovery::ConnectCancelled);
            return failed(libc::ECANCELED);
        }
        // Once it waits nothing interrupts it, or several at a time would keep a worker busy for ever.
        if !self.stalled && world.strikes(Fault::Interrupted) {
            return failed(libc::EINTR);
        }
        if world.strikes(Fault::ConnectFailed) {
            let errnos = [libc::ECONNREFUSED, libc::EADDRNOTAVAIL, libc::EHOSTUNREACH, libc::EPERM];
            return failed(*world.random.pick(&errnos));
        }
        match world.remotes.get(&port).copied().unwrap_or(Remote::Fails(libc::ECONNREFUSED)) {
            Remote::Accepts => {
                let stream = world.dial(port);
                let thing = self.thing.expect("resolved when it started");
                world.thing(thing).what = What::Socket(Some(stream));
                done(0)
            }
            Remote::Fails(errno) => failed(errno),
            Remote::Silent => {
                if !self.stalled {
                    self.stalled = true;
                    world.faults.happened(Fault::ConnectSilent);
                }
                Step::Nothing
            }
        }
    }

    fn stat(&mut self, world: &mut World) -> Step {
        let len = match world.file_len(self.thing.expect("resolved when it started")) {
            Ok(len) => len,
            Err(errno) => return failed(errno),
        };
        let flight = self.flight.expect("a stat has an answer");
        // SAFETY: in the air until this completes, by `wrong`, and the kernel's to write.
        let Flight::Stat(answer) = (unsafe { &mut *flight }) else { panic!("a stat names its answer") };
        answer.stx_size = len;
        answer.stx_mode = libc::S_IFREG as u16;
        answer.stx_mtime.tv_sec = 1;
        answer.stx_nlink = 1;
        done(0)
    }

    fn watch(&mut self, world: &mut World, kernel: &mut Kernel) -> Step {
        if self.is_cancelled(world.now()) {
            return failed(libc::ECANCELED);
        }
        if !kernel.kicks.take_signal() {
            return Step::Nothing;
        }
        match world.strikes(Fault::WatchEnded) {
            true => done(1),
            false => Step::More(Outcome::Count(1), None),
        }
    }
}

fn receive_once(world: &mut World, id: StreamId, to: *mut u8) -> Step {
    strike_reset(world, id);
    let stream = &mut world.streams[id];
    if stream.up.is_empty() {
        return match stream.reset_by_peer {
            Some(errno) => failed(errno),
            None if stream.up_ended => done(0),
            None => failed(libc::EAGAIN),
        };
    }
    if world.strikes(Fault::NonsenseCount) {
        world.streams[id].harmed = Some(Fault::NonsenseCount);
        return done(ONCE_LEN as usize + world.random.between(1, 100_000));
    }
    let mut len = world.streams[id].up.len().min(ONCE_LEN as usize);
    if world.strikes(Fault::ShortReceive) {
        len = world.random.between(1, len);
    }
    world.streams[id].moved_at = world.now();
    let bytes: Vec<u8> = world.streams[id].up.drain(..len).collect();
    // SAFETY: the buffer is held (`wrong`), at least `ONCE_LEN` long, and the kernel's until this completes.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, len) };
    world.faults.recovered(Recovery::ReceivedPrivately);
    done(len)
}

/// The network loses a connection.
fn strike_reset(world: &mut World, id: StreamId) {
    if world.streams[id].reset_by_peer.is_none() && world.strikes(Fault::PeerReset) {
        let stream = &mut world.streams[id];
        stream.harmed = Some(Fault::PeerReset);
        stream.up.clear();
        stream.reset(libc::ECONNRESET);
    }
}

fn opened(descriptor: Option<Descriptor>) -> Step {
    descriptor.map_or_else(|| failed(libc::ENFILE), |descriptor| done(number_of(descriptor)))
}

fn number_of(descriptor: Descriptor) -> usize {
    match descriptor {
        Descriptor::Direct(index) => index as usize,
        Descriptor::Plain(fd) => fd as usize,
    }
}

fn this_flight(submission: Submission) -> Option<u32> {
    match submission {
        Submission::Gather { list: index, .. }
        | Submission::ReceiveDatagrams { envelope: index, .. }
        | Submission::SendDatagram { datagram: index, .. } => Some(index),
        Submission::SetOption { value, .. } => Some(value),
        Submission::Bind { address, .. } | Submission::Connect { address, .. } => Some(address),
        Submission::OpenFile { path, .. } => Some(path),
        Submission::Change { names } => Some(names),
        Submission::Stat { answer, .. } => Some(answer),
        _ => None,
    }
}

/// Memory that an operation in flight names.
fn read<'a>(at: *const u8, len: usize) -> &'a [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: the contract of the ring: valid until the operation's final completion, and the caller holds one in
    // flight. The slice is read and let go of at once.
    unsafe { std::slice::from_raw_parts(at, len) }
}

/// Whether an operation of this kind is to be answered by the thread of its own that the kernel runs it in.
pub(super) fn runs_in_a_thread(kind: Option<Kind>) -> bool {
    matches!(kind, Some(Kind::Shutdown | Kind::Errand))
}
