#![allow(unsafe_code)]
//! The operations: everything this framework ever asks of a kernel, each in one place.
//!
//! An operation is plain data. [`Submission::prepare`] writes what the kernel reads, [`Completion::from_cqe`] reads
//! what the kernel wrote, and nothing else knows either format. To add an operation: a variant, an arm in
//! `prepare`, a [`Kind`](crate::token::Kind); the compiler names the matches that must react (the rings that play
//! the kernel, and the worker's dispatch).
//!
//! # Who owns what
//!
//! A submission names memory by index, never by address: a range of the send pool, a group of the buffer ring, a
//! thing in the in-flight table. `prepare` turns the index into an address. From the moment the entry is in the
//! queue until its final completion ([`Completion::more`] is false) that memory is the kernel's, and the tables
//! behind [`Memory`] keep it where it is.
//!
//! # Obligations
//!
//! The `unsafe` here is one thing: fields of an entry that the `io-uring` crate has no builder for are set through
//! [`Sqe`], a copy of the kernel's layout, checked against the crate's by size at compile time.

use std::os::fd::{AsRawFd, RawFd};
use std::ptr::null_mut;

use io_uring::{cqueue, opcode, squeue, types};

use crate::buffer_ring::{self};
use crate::file_pool::FilePool;
use crate::flight::{Flight, FlightIndex, Flights};
use crate::fs::{ChangeKind, Extent};
use crate::send_pool::{BufferIndex, SendPool};
use crate::token::Token;

/// Builds an entry for either kind of descriptor.
macro_rules! on {
    ($descriptor:expr, |$fd:ident| $build:expr) => {
        match $descriptor {
            Descriptor::Direct(index) => {
                let $fd = types::Fixed(index);
                $build
            }
            Descriptor::Plain(fd) => {
                let $fd = types::Fd(fd);
                $build
            }
        }
    };
}

/// Receives into a private buffer bring this much at most.
pub(crate) const ONCE_LEN: u32 = 4096;

/// All memory that the kernel may touch on behalf of one worker.
///
/// It outlives the ring: a worker drains its ring before it drops this, and where that fails it leaks it on
/// purpose and says so (see `Worker::drop`).
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) buffers: buffer_ring::BufferRing,
    pub(crate) sends: SendPool,
    pub(crate) flights: Flights,
    pub(crate) files: FilePool,
}

/// What an operation works on: a slot of the ring's own table, or a descriptor of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Descriptor {
    /// A direct descriptor: known to the ring only, and cheaper.
    Direct(u32),
    Plain(RawFd),
}

/// Which half of a connection to shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Write,
    Both,
}

/// An operation as plain data: what to do, on what, with which of the worker's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Submission {
    /// Accept one connection, or if `multishot` one after another until cancelled; into direct descriptors if `direct`.
    Accept {
        listener: Descriptor,
        direct: bool,
        multishot: bool,
    },
    /// Receive into buffers of the ring until `budget` bytes came in, the peer ended, or no buffer was left.
    Receive {
        from: Descriptor,
        budget: u32,
        bundle: bool,
    },
    /// Receive once, without waiting, into a private buffer of `ONCE_LEN` bytes.
    ReceiveOnce {
        from: Descriptor,
        into: BufferIndex,
    },
    /// Send a range of a buffer of the send pool; completes when all of it is in the socket's send buffer.
    Send {
        to: Descriptor,
        buffer: BufferIndex,
        start: u32,
        end: u32,
    },
    /// Send bytes that the submitter holds until the final completion.
    SendHeld {
        to: Descriptor,
        address: usize,
        len: u32,
    },
    /// Send what a scatter list gathers.
    Gather {
        to: Descriptor,
        list: FlightIndex,
    },
    /// Receive datagrams, each into a buffer of the ring, behind its head (see `datagram.rs`): until cancelled, until
    /// no buffer was left, or until one that is empty, which the kernel takes for an end.
    ReceiveDatagrams {
        from: Descriptor,
        envelope: FlightIndex,
    },
    /// Send one datagram.
    SendDatagram {
        from: Descriptor,
        datagram: FlightIndex,
    },
    Shutdown {
        descriptor: Descriptor,
        half: Half,
    },
    Close {
        descriptor: Descriptor,
    },
    /// Cancel whatever runs under `target`.
    Cancel {
        target: Token,
    },
    /// A new stream socket.
    Socket {
        domain: i32,
        direct: bool,
    },
    SetOption {
        descriptor: Descriptor,
        level: i32,
        name: i32,
        value: FlightIndex,
        len: u32,
    },
    Bind {
        descriptor: Descriptor,
        address: FlightIndex,
    },
    Listen {
        descriptor: Descriptor,
        backlog: i32,
    },
    Connect {
        descriptor: Descriptor,
        address: FlightIndex,
    },
    /// Open a file; `flight` says which, how, and beneath what.
    OpenFile {
        path: FlightIndex,
        direct: bool,
    },
    /// What the kernel knows of an open file.
    Stat {
        file: RawFd,
        answer: FlightIndex,
    },
    /// Read from a file into a buffer of the file pool.
    Read {
        file: Descriptor,
        into: BufferIndex,
        len: u32,
        offset: u64,
    },
    /// Write to a file what the submitter holds until the final completion.
    Write {
        file: Descriptor,
        address: usize,
        len: u32,
        offset: u64,
    },
    /// Put what was written to a file onto the disk.
    Sync {
        file: Descriptor,
        extent: Extent,
    },
    /// Change the name of a file; `names` says which, and how.
    Change {
        names: FlightIndex,
    },
    /// Tell once when the peer has reset the connection, or ended it: for when nothing is received.
    WatchPeer {
        descriptor: Descriptor,
    },
    /// Tell once when the socket takes bytes again, or never will.
    WatchRoom {
        descriptor: Descriptor,
    },
    /// Tell whenever a descriptor can be read.
    Watch {
        descriptor: RawFd,
    },
}

impl Submission {
    /// Writes the entry that the kernel reads.
    pub(crate) fn prepare(&self, token: Token, memory: &Memory) -> squeue::Entry {
        match *self {
            Submission::Accept { listener, direct, multishot } => {
                let flags = libc::SOCK_CLOEXEC * i32::from(!direct);
                if multishot {
                    on!(listener, |fd| opcode::AcceptMulti::new(fd)
                        .allocate_file_index(direct)
                        .flags(flags)
                        .build())
                } else {
                    let place = direct.then(types::DestinationSlot::auto_target);
                    on!(listener, |fd| opcode::Accept::new(fd, null_mut(), null_mut())
                        .file_index(place)
                        .flags(flags)
                        .build())
                }
            }
            Submission::Receive { from, budget, bundle } => {
                let entry = on!(from, |fd| opcode::RecvMulti::new(fd, buffer_ring::GROUP).build());
                raw(entry, |sqe| {
                    sqe.total_len = budget;
                    sqe.ioprio |= if bundle { RECVSEND_BUNDLE } else { 0 };
                })
            }
            Submission::ReceiveOnce { from, into } => {
                let buffer = memory.sends.address(into, 0).cast_mut();
                on!(from, |fd| opcode::Recv::new(fd, buffer, ONCE_LEN).flags(libc::MSG_DONTWAIT).build())
            }
            Submission::Send { to, buffer, start, end } => {
                send(to, memory.sends.address(buffer, start), end - start)
            }
            Submission::SendHeld { to, address, len } => {
                send(to, std::ptr::with_exposed_provenance(address), len)
            }
            Submission::Gather { to, list } => {
                let flight = memory.flights.address(list);
                // SAFETY: the flight is in the air and the kernel does not write a gathering send's list.
                let Flight::Gather { message, .. } = (unsafe { &*flight }) else { unreachable!("a gather") };
                let flags = (libc::MSG_WAITALL | libc::MSG_NOSIGNAL) as u32;
                on!(to, |fd| opcode::SendMsg::new(fd, message).flags(flags).build())
            }
            Submission::ReceiveDatagrams { from, envelope } => {
                let Flight::Envelope(message) = flight(memory, envelope) else { unreachable!("an envelope") };
                on!(from, |fd| opcode::RecvMsgMulti::new(fd, message, buffer_ring::GROUP).build())
            }
            Submission::SendDatagram { from, datagram } => {
                let Flight::Datagram { message, .. } = flight(memory, datagram) else {
                    unreachable!("a datagram")
                };
                on!(from, |fd| opcode::SendMsg::new(fd, message).flags(libc::MSG_NOSIGNAL as u32).build())
            }
            Submission::Shutdown { descriptor, half } => {
                let how = if half == Half::Write { libc::SHUT_WR } else { libc::SHUT_RDWR };
                on!(descriptor, |fd| opcode::Shutdown::new(fd, how).build())
            }
            Submission::Close { descriptor } => on!(descriptor, |fd| opcode::Close::new(fd).build()),
            Submission::Cancel { target } => {
                // Its own success says nothing that the target's last completion does not.
                opcode::AsyncCancel::new(target.raw()).build().flags(squeue::Flags::SKIP_SUCCESS)
            }
            // Errors are always watched for; input, which is left to wait, is not (poll(2)).
            Submission::WatchPeer { descriptor } => on!(descriptor, |fd| opcode::PollAdd::new(fd, 0).build()),
            Submission::WatchRoom { descriptor } => {
                on!(descriptor, |fd| opcode::PollAdd::new(fd, libc::POLLOUT as u32).build())
            }
            Submission::Watch { descriptor } => {
                opcode::PollAdd::new(types::Fd(descriptor), libc::POLLIN as u32).multi(true).build()
            }
            Submission::Socket { .. }
            | Submission::SetOption { .. }
            | Submission::Bind { .. }
            | Submission::Listen { .. }
            | Submission::Connect { .. } => self.prepare_set_up(memory),
            Submission::OpenFile { .. }
            | Submission::Stat { .. }
            | Submission::Read { .. }
            | Submission::Write { .. }
            | Submission::Sync { .. }
            | Submission::Change { .. } => self.prepare_file(memory),
        }
        .user_data(token.raw())
    }

    fn prepare_set_up(&self, memory: &Memory) -> squeue::Entry {
        match *self {
            Submission::Socket { domain, direct } => {
                let kind = libc::SOCK_STREAM | (libc::SOCK_CLOEXEC * i32::from(!direct));
                opcode::Socket::new(domain, kind, 0)
                    .file_index(direct.then(types::DestinationSlot::auto_target))
                    .build()
            }
            Submission::SetOption { descriptor, level, name, value, len } => {
                let Flight::OptionValue(value) = flight(memory, value) else {
                    unreachable!("an option's value")
                };
                on!(descriptor, |fd| {
                    let value = value.as_ptr().cast();
                    opcode::SetSockOpt::new(fd, level as u32, name as u32, value, len).build()
                })
            }
            Submission::Bind { descriptor, address } => {
                let Flight::Address(to) = flight(memory, address) else { unreachable!("an address") };
                on!(descriptor, |fd| opcode::Bind::new(fd, to.as_ptr().cast(), to.len()).build())
            }
            Submission::Listen { descriptor, backlog } => {
                on!(descriptor, |fd| opcode::Listen::new(fd, backlog).build())
            }
            Submission::Connect { descriptor, address } => {
                let Flight::Address(to) = flight(memory, address) else { unreachable!("an address") };
                on!(descriptor, |fd| opcode::Connect::new(fd, to.as_ptr().cast(), to.len()).build())
            }
            _ => unreachable!("set-up only"),
        }
    }

    fn prepare_file(&self, memory: &Memory) -> squeue::Entry {
        match *self {
            Submission::OpenFile { path, direct } => {
                let Flight::Path { path, how, root } = flight(memory, path) else { unreachable!("a path") };
                let root = root.as_ref().map_or(libc::AT_FDCWD, AsRawFd::as_raw_fd);
                let how = std::ptr::from_ref(how).cast::<types::OpenHow>();
                opcode::OpenAt2::new(types::Fd(root), path.as_ptr(), how)
                    .file_index(direct.then(types::DestinationSlot::auto_target))
                    .build()
            }
            Submission::Stat { file, answer } => {
                let answer = memory.flights.address(answer);
                // SAFETY: the flight is in the air; only the address of its heap part is taken.
                let Flight::Stat(answer) = (unsafe { &mut *answer }) else { unreachable!("a stat") };
                let answer = std::ptr::from_mut(&mut **answer).cast::<types::statx>();
                opcode::Statx::new(types::Fd(file), c"".as_ptr(), answer)
                    .flags(libc::AT_EMPTY_PATH)
                    .mask(libc::STATX_BASIC_STATS)
                    .build()
            }
            Submission::Read { file, into, len, offset } => {
                let buffer = memory.files.address(into);
                on!(file, |fd| opcode::Read::new(fd, buffer, len).offset(offset).build())
            }
            Submission::Write { file, address, len, offset } => {
                let bytes = std::ptr::with_exposed_provenance(address);
                on!(file, |fd| opcode::Write::new(fd, bytes, len).offset(offset).build())
            }
            Submission::Sync { file, extent } => {
                let flags = match extent {
                    Extent::All => types::FsyncFlags::empty(),
                    Extent::Data => types::FsyncFlags::DATASYNC,
                };
                on!(file, |fd| opcode::Fsync::new(fd).flags(flags).build())
            }
            Submission::Change { names } => prepare_change(names, memory),
            _ => unreachable!("files only"),
        }
    }
}

fn prepare_change(names: FlightIndex, memory: &Memory) -> squeue::Entry {
    let Flight::Change { kind, path, to } = flight(memory, names) else { unreachable!("names") };
    let (here, path, to) = (types::Fd(libc::AT_FDCWD), path.as_ptr(), to.as_ptr());
    match *kind {
        ChangeKind::RemoveFile => opcode::UnlinkAt::new(here, path).build(),
        ChangeKind::RemoveDir => opcode::UnlinkAt::new(here, path).flags(libc::AT_REMOVEDIR).build(),
        ChangeKind::Rename => opcode::RenameAt::new(here, path, here, to).build(),
        ChangeKind::CreateDir { mode } => opcode::MkDirAt::new(here, path).mode(mode).build(),
    }
}

/// A plain send: WAITALL, so that one completion says that all of it went out; less only on an error.
fn send(to: Descriptor, address: *const u8, len: u32) -> squeue::Entry {
    on!(to, |fd| opcode::Send::new(fd, address, len).flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL).build())
}

/// What an operation in flight takes along, to read: not for one that the kernel writes.
pub(crate) fn flight(memory: &Memory, index: FlightIndex) -> &Flight {
    let flight = memory.flights.address(index);
    // SAFETY: in the air, and of a kind that the kernel only reads.
    unsafe { &*flight }
}

const RECVSEND_BUNDLE: u16 = 1 << 4;

/// `struct io_uring_sqe`: the fields that the crate's builders leave out.
#[repr(C)]
struct Sqe {
    opcode: u8,
    flags: u8,
    ioprio: u16,
    fd: i32,
    off: u64,
    addr: u64,
    len: u32,
    op_flags: u32,
    user_data: u64,
    buf_index: u16,
    personality: u16,
    /// `optlen`: of a multishot receive, the bytes in total after which it ends by itself.
    total_len: u32,
    rest: [u64; 2],
}

const _: () = assert!(size_of::<Sqe>() == size_of::<squeue::Entry>());

fn raw(mut entry: squeue::Entry, edit: impl FnOnce(&mut Sqe)) -> squeue::Entry {
    // SAFETY: both are `repr(C)` views of the kernel's 64 bytes (sizes checked above), and any bits are valid.
    edit(unsafe { &mut *(&raw mut entry).cast::<Sqe>() });
    entry
}

/// The end, or one step, of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) token: Token,
    pub(crate) outcome: Outcome,
    /// The operation goes on: more completions will follow.
    pub(crate) more: bool,
    /// The (first) buffer of the ring that was filled.
    pub(crate) buffer: Option<u16>,
}

/// What came of it: each errno is classified here, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done: so many bytes, or the new descriptor, or zero.
    Count(u32),
    /// Nothing happened, and trying again is right (EINTR, EAGAIN).
    Retry,
    /// The buffer ring was empty (ENOBUFS).
    NoBuffers,
    /// The peer is gone (ECONNRESET, EPIPE, ETIMEDOUT and their like); the errno says how.
    PeerGone(i32),
    /// Cancelled before it was done.
    Cancelled,
    /// Anything else: the errno.
    Failed(i32),
}

impl Completion {
    pub(crate) fn from_cqe(cqe: &cqueue::Entry) -> Completion {
        let flags = cqe.flags();
        Completion {
            token: Token::from_raw(cqe.user_data()),
            outcome: Outcome::from_result(cqe.result()),
            more: cqueue::more(flags),
            buffer: cqueue::buffer_select(flags),
        }
    }
}

impl Outcome {
    /// Of a system call that was made in place of an operation.
    pub(crate) fn of_call(done: std::io::Result<u32>) -> Outcome {
        match done {
            Ok(n) => Outcome::Count(n),
            Err(error) => Outcome::from_result(-error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }

    pub(crate) fn from_result(result: i32) -> Outcome {
        if result >= 0 {
            return Outcome::Count(result as u32);
        }
        match -result {
            libc::EINTR | libc::EAGAIN => Outcome::Retry,
            libc::ENOBUFS => Outcome::NoBuffers,
            libc::ECANCELED => Outcome::Cancelled,
            errno @ (libc::ECONNRESET
            | libc::EPIPE
            | libc::ECONNABORTED
            | libc::ENOTCONN
            | libc::ETIMEDOUT
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::ENETDOWN
            | libc::ENETRESET) => Outcome::PeerGone(errno),
            errno => Outcome::Failed(errno),
        }
    }

    /// The error that an outcome other than a count stands for.
    pub(crate) fn to_error(self) -> std::io::Error {
        std::io::Error::from_raw_os_error(match self {
            Outcome::Count(_) => 0,
            Outcome::Retry => libc::EAGAIN,
            Outcome::NoBuffers => libc::ENOBUFS,
            Outcome::Cancelled => libc::ECANCELED,
            Outcome::PeerGone(errno) | Outcome::Failed(errno) => errno,
        })
    }
}
