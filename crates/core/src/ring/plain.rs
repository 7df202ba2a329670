#![allow(unsafe_code)]
//! Plain system calls on descriptors that a worker names by number: all that the ring over epoll does, and the little
//! that the ring over io_uring has no operation for.
//!
//! # Obligations
//!
//! * A descriptor is named only by who holds it open: the worker, until it has submitted its close.
//! * An address that a submission stands for is used only while the submission is in flight, when by the contract of
//!   [`Ring`](super::Ring) it is valid; a call that has returned uses it no more.
//! * A descriptor that the kernel has just made is handed on as its number, and whoever gets it closes it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::event::EventfdFlags;
use rustix::fs::{AtFlags, CWD, Mode, SeekFrom};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::address::Address;
use crate::datagram;
use crate::flight::{Flight, FlightIndex, MAX_RANGES};
use crate::fs::{ChangeKind, Extent, FileStat};
use crate::operation::{Completion, Descriptor, Half, Memory, ONCE_LEN, Outcome, Submission, flight};
use crate::udp::UdpOptions;
use crate::wake::Kick;

use super::Side;

/// The number of a descriptor of the process; a direct one has none.
pub(super) fn number(descriptor: Descriptor) -> io::Result<RawFd> {
    match descriptor {
        Descriptor::Plain(fd) if fd >= 0 => Ok(fd),
        Descriptor::Plain(_) | Descriptor::Direct(_) => Err(Errno::BADF.into()),
    }
}

/// A descriptor by its number, which is none of those that stand for something else.
pub(super) fn borrowed<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: open, since whoever names it holds it.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Closes what a worker had that is gone. A direct descriptor went with its ring.
pub(crate) fn close(descriptor: Descriptor) {
    if let Ok(fd) = number(descriptor) {
        // SAFETY: the worker's, and whoever had it of that names it no more.
        unsafe { rustix::io::close(fd) }
    }
}

/// Carries out an operation that never has to wait for a peer; `None` if it is none of those. What is done to files is
/// among them: a disk is waited for.
pub(super) fn at_once(submission: Submission, memory: &Memory) -> Option<io::Result<u32>> {
    let zero = |done: io::Result<()>| done.map(|()| 0);
    Some(match submission {
        Submission::ReceiveOnce { from, into } => number(from).and_then(|from| {
            let to = memory.sends.address(into, 0).cast_mut();
            // SAFETY: the buffer is as long, and the submission's until it completes: nobody else touches it.
            let bytes = unsafe { std::slice::from_raw_parts_mut(to, ONCE_LEN as usize) };
            receive(from, bytes)
        }),
        Submission::Shutdown { descriptor, half } => {
            let how = if half == Half::Write { Shutdown::Write } else { Shutdown::Both };
            zero(number(descriptor).and_then(|fd| Ok(rustix::net::shutdown(borrowed(fd), how)?)))
        }
        Submission::Close { descriptor } => zero(number(descriptor).map(|fd| {
            // SAFETY: the worker's, which names it no more.
            unsafe { rustix::io::close(fd) }
        })),
        Submission::Socket { domain, direct } => socket(domain, direct),
        Submission::SetOption { descriptor, level, name, value, len } => {
            let Flight::OptionValue(value) = flight(memory, value) else { unreachable!("an option's value") };
            number(descriptor).and_then(|fd| {
                // SAFETY: reads `len` bytes of the value, which is in the air until this completes.
                checked(unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), len) })
            })
        }
        Submission::Bind { descriptor, address } => zero(number(descriptor).and_then(|fd| {
            let Flight::Address(to) = flight(memory, address) else { unreachable!("an address") };
            SockRef::from(&borrowed(fd)).bind(to)
        })),
        Submission::Listen { descriptor, backlog } => {
            zero(number(descriptor).and_then(|fd| SockRef::from(&borrowed(fd)).listen(backlog)))
        }
        Submission::OpenFile { path, direct } => open_file(path, direct, memory),
        Submission::Stat { file, answer } => stat(file, answer, memory),
        Submission::Read { file, into, len, offset } => number(file).and_then(|file| {
            let mut read = Ok(0);
            memory.files.fill_as_kernel(into, |bytes| {
                let bytes = &mut bytes[..len as usize];
                read = retry_on_intr(|| rustix::io::pread(borrowed(file), &mut *bytes, offset));
                read.unwrap_or(0)
            });
            Ok(read? as u32)
        }),
        Submission::Write { .. } | Submission::Sync { .. } => to_disk(submission)?,
        Submission::Change { names } => zero(change(names, memory)),
        _ => return None,
    })
}

/// Carries out an operation that brings bytes to a disk, which may take long; `None` if it is none of those. On any
/// thread: of the worker's it needs no more than what it names.
pub(super) fn to_disk(submission: Submission) -> Option<io::Result<u32>> {
    Some(match submission {
        Submission::Write { file, address, len, offset } => number(file).and_then(|file| {
            let address = std::ptr::with_exposed_provenance(address);
            // SAFETY: what is written stays, and is not changed, until the operation completes.
            let bytes = unsafe { std::slice::from_raw_parts(address, len as usize) };
            Ok(retry_on_intr(|| rustix::io::pwrite(borrowed(file), bytes, offset))? as u32)
        }),
        Submission::Sync { file, extent } => number(file).and_then(|file| {
            match extent {
                Extent::All => rustix::fs::fsync(borrowed(file)),
                Extent::Data => rustix::fs::fdatasync(borrowed(file)),
            }?;
            Ok(0)
        }),
        _ => return None,
    })
}

fn socket(domain: i32, direct: bool) -> io::Result<u32> {
    if direct {
        return Err(Errno::INVAL.into());
    }
    let domain = AddressFamily::from_raw(domain as u16);
    // Connecting is not to block.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(domain, SocketType::STREAM, flags, None)?;
    Ok(socket.into_raw_fd() as u32)
}

fn open_file(path: FlightIndex, direct: bool, memory: &Memory) -> io::Result<u32> {
    let Flight::Path { path, how, root } = flight(memory, path) else { unreachable!("a path") };
    if direct {
        return Err(Errno::INVAL.into());
    }
    let root = root.as_ref().map_or(libc::AT_FDCWD, AsRawFd::as_raw_fd);
    let (path, how, len) = (path.as_ptr(), std::ptr::from_ref(how), size_of_val(how));
    // SAFETY: path, figures and root are in the air until this completes.
    let file = unsafe { libc::syscall(libc::SYS_openat2, root, path, how, len) };
    checked(file as i32)
}

fn change(names: FlightIndex, memory: &Memory) -> io::Result<()> {
    let Flight::Change { kind, path, to } = flight(memory, names) else { unreachable!("names") };
    Ok(match *kind {
        ChangeKind::RemoveFile => rustix::fs::unlinkat(CWD, path, AtFlags::empty()),
        ChangeKind::RemoveDir => rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR),
        ChangeKind::Rename => rustix::fs::renameat(CWD, path, CWD, to),
        ChangeKind::CreateDir { mode } => rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(mode)),
    }?)
}

fn stat(file: RawFd, answer: FlightIndex, memory: &Memory) -> io::Result<u32> {
    let answer = memory.flights.address(answer);
    // SAFETY: the flight is in the air, and the kernel's to write; nobody else has a reference to it.
    let Flight::Stat(answer) = (unsafe { &mut *answer }) else { unreachable!("a stat") };
    let (flags, mask) = (libc::AT_EMPTY_PATH, libc::STATX_BASIC_STATS);
    // SAFETY: writes what it says into the answer, which is as long.
    checked(unsafe { libc::statx(file, c"".as_ptr(), flags, mask, &raw mut **answer) })
}

/// Takes one connection out of a listener's queue; EAGAIN if nobody waits.
pub(super) fn accept(listener: RawFd) -> io::Result<u32> {
    let accept = || rustix::net::accept_with(borrowed(listener), SocketFlags::CLOEXEC);
    Ok(retry_on_intr(accept)?.into_raw_fd() as u32)
}

/// Has calls on a descriptor fail with EAGAIN rather than wait.
pub(super) fn never_wait(fd: RawFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(borrowed(fd), true)?)
}

/// Receives what is there; EAGAIN if that is nothing.
pub(super) fn receive(from: RawFd, into: &mut [u8]) -> io::Result<u32> {
    let (received, _) = retry_on_intr(|| rustix::net::recv(borrowed(from), &mut *into, RecvFlags::DONTWAIT))?;
    Ok(received as u32)
}

/// How many bytes a send has to send.
pub(super) fn len_of(send: Submission, memory: &Memory) -> u32 {
    match send {
        Submission::Send { start, end, .. } => end - start,
        Submission::SendHeld { len, .. } => len,
        Submission::Gather { list, .. } => {
            ranges(list, memory).iter().map(|range| range.iov_len).sum::<usize>() as u32
        }
        _ => 0,
    }
}

/// Appends what a send has to send to `copy`: for the ring that has nobody to send it to.
#[cfg(feature = "by-hand")]
pub(super) fn copy_sent(send: Submission, memory: &Memory, copy: &mut Vec<u8>) {
    let mut append = |at: *const u8, len: usize| {
        // SAFETY: what is sent stays, and is not written, until the send completes.
        copy.extend_from_slice(unsafe { std::slice::from_raw_parts(at, len) });
    };
    match send {
        Submission::Send { buffer, start, end, .. } => {
            append(memory.sends.address(buffer, start), (end - start) as usize);
        }
        Submission::SendHeld { address, len, .. } => {
            append(std::ptr::with_exposed_provenance(address), len as usize);
        }
        Submission::Gather { list, .. } => {
            ranges(list, memory).iter().for_each(|range| append(range.iov_base.cast(), range.iov_len));
        }
        _ => unreachable!("sends only"),
    }
}

/// Sends what the socket takes of what is left after `done` bytes; EAGAIN if it takes nothing.
pub(super) fn send(to: RawFd, send: Submission, done: u32, memory: &Memory) -> io::Result<u32> {
    let (address, len) = match send {
        Submission::Send { buffer, start, end, .. } => (memory.sends.address(buffer, start), end - start),
        Submission::SendHeld { address, len, .. } => (std::ptr::with_exposed_provenance(address), len),
        Submission::Gather { list, .. } => return gather(to, ranges(list, memory), done as usize),
        _ => unreachable!("sends only"),
    };
    // SAFETY: what is sent stays, and is not written, until the send completes.
    let bytes = unsafe { std::slice::from_raw_parts(address, len as usize) };
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(retry_on_intr(|| rustix::net::send(borrowed(to), &bytes[done as usize..], flags))? as u32)
}

/// A socket for datagrams. It has no O_NONBLOCK, with which a receive of io_uring would not wait.
pub(super) fn bind_datagrams(address: SocketAddr, options: &UdpOptions) -> io::Result<RawFd> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(options.reuse_port)?;
    if let Some(len) = options.receive_buffer {
        socket.set_recv_buffer_size(len as usize)?;
    }
    if let Some(len) = options.send_buffer {
        socket.set_send_buffer_size(len as usize)?;
    }
    socket.bind(&address.into())?;
    if let Some(peer) = options.peer {
        socket.connect(&peer.into())?;
    }
    Ok(socket.into_raw_fd())
}

/// Receives a datagram that is there, behind its head, as a multishot recvmsg does; EAGAIN if there is none.
pub(super) fn receive_datagram(from: RawFd, buffer: &mut [u8]) -> io::Result<u32> {
    let Some((name, payload)) = datagram::places(buffer) else { return Err(Errno::FAULT.into()) };
    let mut range = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
    // SAFETY: all zeroes is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_name, message.msg_namelen) = (name.as_mut_ptr().cast(), name.len() as libc::socklen_t);
    (message.msg_iov, message.msg_iovlen) = (&raw mut range, 1);
    let received = retry_on_intr(|| {
        // SAFETY: writes no more than the lengths say, into memory that is borrowed mutably here.
        let received = unsafe { libc::recvmsg(from, &raw mut message, libc::MSG_DONTWAIT) };
        usize::try_from(received)
            .map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
    })?;
    Ok(datagram::finish(buffer, message.msg_namelen, received, message.msg_flags))
}

/// Sends a datagram; EAGAIN if the socket has no room for it.
pub(super) fn send_datagram(from: RawFd, datagram: FlightIndex, memory: &Memory) -> io::Result<u32> {
    let Flight::Datagram { message, .. } = flight(memory, datagram) else { unreachable!("a datagram") };
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: bytes and address are in the air until this completes, and only read.
    let sent = unsafe { libc::sendmsg(from, std::ptr::from_ref(message), flags) };
    checked(sent as i32)
}

fn ranges(list: FlightIndex, memory: &Memory) -> &[libc::iovec] {
    let Flight::Gather { message, ranges } = flight(memory, list) else { unreachable!("a gather") };
    &ranges[..message.msg_iovlen]
}

fn gather(to: RawFd, all: &[libc::iovec], mut done: usize) -> io::Result<u32> {
    let mut left = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MAX_RANGES];
    let mut count = 0;
    for range in all {
        let skip = done.min(range.iov_len);
        done -= skip;
        if skip < range.iov_len {
            let iov_base = range.iov_base.wrapping_byte_add(skip);
            left[count] = libc::iovec { iov_base, iov_len: range.iov_len - skip };
            count += 1;
        }
    }
    // SAFETY: all zeroes is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (left.as_mut_ptr(), count);
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the ranges stay, and are not written, until the send completes; the list lives through the call.
    let sent = unsafe { libc::sendmsg(to, &raw const message, flags) };
    checked(sent as i32)
}

/// Begins to connect: EINPROGRESS if the answer is to be waited for, EAGAIN if a Unix listener's queue is full.
pub(super) fn connect(fd: RawFd, address: FlightIndex, memory: &Memory) -> io::Result<u32> {
    let Flight::Address(to) = flight(memory, address) else { unreachable!("an address") };
    never_wait(fd)?;
    SockRef::from(&borrowed(fd)).connect(to).map(|()| 0)
}

/// What came of connecting.
pub(super) fn connected(fd: RawFd) -> io::Result<u32> {
    SockRef::from(&borrowed(fd)).take_error()?.map_or(Ok(0), Err)
}

fn checked(result: i32) -> io::Result<u32> {
    u32::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// An address of a socket.
pub(super) fn address(fd: RawFd, side: Side) -> io::Result<Address> {
    let fd = borrowed(fd);
    let socket = SockRef::from(&fd);
    let address = match side {
        Side::Local => socket.local_addr(),
        Side::Peer => socket.peer_addr(),
    }?;
    Ok(Address::from_sock_addr(&address))
}

/// Whether fstat(2) of this file never waits.
pub(super) fn stats_at_once(file: RawFd) -> bool {
    rustix::fs::fstatfs(borrowed(file)).is_ok_and(|system| IN_MEMORY.contains(&(system.f_type as u64)))
}

/// Whether this file has offsets: pipes, sockets and terminals have none (lseek(2)).
pub(super) fn has_offsets(file: RawFd) -> bool {
    rustix::fs::seek(borrowed(file), SeekFrom::Current(0)).is_ok()
}

pub(super) fn stat_now(file: RawFd) -> io::Result<FileStat> {
    Ok(FileStat::from_stat(&rustix::fs::fstat(borrowed(file))?))
}

/// File systems that keep what is known of an open file in memory (statfs(2), linux/magic.h). Not among them are those
/// that ask a server or another process: NFS, SMB, Ceph, FUSE and the like.
const IN_MEMORY: [u64; 9] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0xf2f5_2010, // f2fs
    0xe0f5_e1e2, // erofs
    0x7371_7368, // squashfs
    0x794c_7630, // overlayfs: over one of these, as a rule
];

/// An event descriptor that nobody has signalled.
pub(super) fn eventfd() -> io::Result<OwnedFd> {
    Ok(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// The event descriptor by which other threads get a ring out of its wait: the ring watches it.
#[derive(Debug, Clone)]
pub(super) struct EventKick(Arc<OwnedFd>);

impl EventKick {
    pub(super) fn new() -> io::Result<EventKick> {
        Ok(EventKick(Arc::new(eventfd()?)))
    }

    /// The operation that completes whenever a kick has come.
    pub(super) fn watch(&self) -> Submission {
        Submission::Watch { descriptor: self.0.as_raw_fd() }
    }

    /// What can be read when a kick has come.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Takes the kicks that came so far.
    pub(super) fn clear(&self) {
        // It fails only when there is none.
        let _ = rustix::io::read(&*self.0, &mut [0; size_of::<u64>()]);
    }

    /// As [`clear`](Self::clear); says how to go on watching, if the watch has ended and is still wanted.
    pub(super) fn kicked(&self, completion: &Completion) -> Option<Submission> {
        self.clear();
        let has_ended = !completion.more && completion.outcome != Outcome::Cancelled;
        has_ended.then(|| self.watch())
    }
}

impl Kick for EventKick {
    fn kick(&self) {
        // It fails only when the counter is full, and then a kick is due anyway.
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}
