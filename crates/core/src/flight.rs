#![allow(unsafe_code)]
//! The in-flight table: small things the kernel reads or writes while an operation runs.
//!
//! # Who owns what
//!
//! An address to connect to, the path of a file, the scatter list of a send, the answer of a `stat`: an operation
//! names such a thing by its index here, and it stays at one address until whoever submitted the operation saw
//! its final completion and takes it out with [`Flights::land`]. Nothing a user can drop holds any of it.
//!
//! # Obligations
//!
//! The kernel may write a flight while it is in the table (`stat`), so the table makes no reference to one between
//! [`Flights::launch`] and [`Flights::land`]; it keeps raw pointers, and hands out addresses.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;
use socket2::SockAddr;

use crate::datagram;
use crate::fs::ChangeKind;

/// The number of a thing in the table.
pub(crate) type FlightIndex = u32;

/// How many ranges one send gathers.
pub(crate) const MAX_RANGES: usize = 16;

/// What an operation takes along.
pub(crate) enum Flight {
    /// A gathering send.
    Gather { message: libc::msghdr, ranges: [libc::iovec; MAX_RANGES] },
    /// Where to connect or to bind to.
    Address(SockAddr),
    /// The value of a socket option.
    OptionValue([libc::c_int; 2]),
    /// A file to open; `root` is held so that its descriptor stays open.
    Path { path: CString, how: OpenHow, root: Option<Arc<OwnedFd>> },
    /// What is done to a name, and the name that it gets.
    Change { kind: ChangeKind, path: CString, to: CString },
    /// How much of a sender's address a receive of datagrams brings.
    Envelope(libc::msghdr),
    /// A datagram on its way out: its bytes are held here, and where it goes to, if the socket is not connected.
    Datagram { message: libc::msghdr, range: libc::iovec, to: Option<SockAddr>, _bytes: Bytes },
    /// What the kernel knows of a file, and the empty path that says "of the descriptor itself".
    Stat(Box<libc::statx>),
}

impl Flight {
    /// A place for what the kernel knows of a file.
    pub(crate) fn stat() -> Flight {
        // SAFETY: all zeroes is a valid `statx`.
        Flight::Stat(Box::new(unsafe { std::mem::zeroed() }))
    }

    /// Room for the address of whoever sends a datagram, and for nothing else.
    pub(crate) fn envelope() -> Flight {
        // SAFETY: all zeroes is a valid `msghdr`.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_namelen = datagram::NAME_LEN as libc::socklen_t;
        Flight::Envelope(message)
    }
}

/// `struct open_how` of openat2(2).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OpenHow {
    pub(crate) flags: u64,
    pub(crate) mode: u64,
    pub(crate) resolve: u64,
}

/// The table.
#[derive(Default)]
pub(crate) struct Flights {
    /// Each was a box; `None` where free.
    flights: Vec<Option<NonNull<Flight>>>,
    free: Vec<FlightIndex>,
}

impl Flights {
    /// Puts a thing into the table, at an address of its own.
    pub(crate) fn launch(&mut self, flight: Flight) -> FlightIndex {
        let flight = NonNull::from(Box::leak(Box::new(flight)));
        if let Some(index) = self.free.pop() {
            self.flights[index as usize] = Some(flight);
            return index;
        }
        self.flights.push(Some(flight));
        self.flights.len() as FlightIndex - 1
    }

    /// Takes a thing out again, after the final completion of the operation that named it.
    ///
    /// # Panics
    /// When nothing is there: a flight lands once.
    pub(crate) fn land(&mut self, index: FlightIndex) -> Box<Flight> {
        let flight = self.flights[index as usize].take().expect("a flight lands once");
        self.free.push(index);
        // SAFETY: made by `Box::leak` in `launch`, taken out of the table just now, so it has no other holder; the
        // kernel is done with it by the caller's word.
        unsafe { Box::from_raw(flight.as_ptr()) }
    }

    /// Makes the scatter list of a gathering send out of ranges of memory that stay until it completes.
    pub(crate) fn launch_gather(&mut self, ranges: impl Iterator<Item = (*const u8, usize)>) -> FlightIndex {
        // SAFETY: all zeroes is a valid `msghdr` and a valid `iovec`.
        let message: libc::msghdr = unsafe { std::mem::zeroed() };
        let mut list = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MAX_RANGES];
        let mut count = 0;
        for (slot, (base, len)) in list.iter_mut().zip(ranges) {
            *slot = libc::iovec { iov_base: base.cast_mut().cast(), iov_len: len };
            count += 1;
        }
        let index = self.launch(Flight::Gather { message, ranges: list });
        let flight = self.address(index);
        // SAFETY: just launched, and no operation names it yet; its address is final, so it may point into itself.
        if let Flight::Gather { message, ranges } = unsafe { &mut *flight } {
            message.msg_iov = ranges.as_mut_ptr();
            message.msg_iovlen = count;
        }
        index
    }

    /// Makes a datagram out of bytes, which are held until it lands.
    pub(crate) fn launch_datagram(&mut self, bytes: Bytes, to: Option<SockAddr>) -> FlightIndex {
        // SAFETY: all zeroes is a valid `msghdr`.
        let message: libc::msghdr = unsafe { std::mem::zeroed() };
        // The kernel does not write what it sends.
        let range = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let index = self.launch(Flight::Datagram { message, range, to, _bytes: bytes });
        let flight = self.address(index);
        // SAFETY: just launched, and no operation names it yet; its address is final, so it may point into itself.
        if let Flight::Datagram { message, range, to, .. } = unsafe { &mut *flight } {
            (message.msg_iov, message.msg_iovlen) = (range, 1);
            if let Some(to) = to {
                (message.msg_name, message.msg_namelen) = (to.as_ptr().cast_mut().cast(), to.len());
            }
        }
        index
    }

    /// Where the thing is.
    pub(crate) fn address(&self, index: FlightIndex) -> *mut Flight {
        self.flights[index as usize].expect("an operation names a flight in the air").as_ptr()
    }

    /// Whether this thing is still there, for rings that play the kernel and check what they are given.
    pub(crate) fn is_at(&self, index: FlightIndex, address: *mut Flight) -> bool {
        self.flights.get(index as usize).copied().flatten().map(NonNull::as_ptr) == Some(address)
    }

    pub(crate) fn in_the_air(&self) -> usize {
        self.flights.len() - self.free.len()
    }
}

impl Drop for Flights {
    fn drop(&mut self) {
        for flight in self.flights.iter_mut().filter_map(Option::take) {
            // SAFETY: as in `land`; the table is dropped only after its ring has drained (`Memory`).
            drop(unsafe { Box::from_raw(flight.as_ptr()) });
        }
    }
}

impl std::fmt::Debug for Flights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flights").field("in_the_air", &self.in_the_air()).finish()
    }
}
