//! Datagram sockets: binding, receiving into the buffers of the ring, sending, and closing them.
//!
//! A socket has one multishot receive, which is cancelled when as much is unread as may be and armed again when half of
//! it was taken. What the kernel had received before it saw the cancellation is kept: at most one ring of buffers.
//!
//! **ENOBUFS** ends a receive. It is armed again at the end of the turn if buffers have come home that the kernel was
//! not shown before, so never more often than buffers come home; and else after [`RETRY`]. What comes meanwhile waits
//! in the kernel's buffer of the socket.
//!
//! A socket that nobody has any more sends what it was given; its receive is cancelled, and when the last operation is
//! complete it is closed and its slot free.

#[cfg(test)]
mod lives;

use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use socket2::SockAddr;

use crate::buffer_ring::{NotTheKernels, Received};
use crate::counters::Counters;
use crate::datagram::{self, HEAD_LEN};
use crate::flight::{Flight, FlightIndex};
use crate::guard::let_go;
use crate::operation::{Completion, Descriptor, Outcome, Submission};
use crate::ring::{Ring, Side};
use crate::time::Time;
use crate::token::{Generation, Kind, Token};
use crate::udp::{BindUdp, Counter, Letter, Limits, UdpSocket, Wants};

use super::{State, Worker, taken};

/// How long to wait for a buffer to come home, at most, before a receive is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// The datagram sockets of a worker, and what they send.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    sockets: Vec<Place<Socket>>,
    free: Vec<u32>,
    sends: Vec<Place<Send>>,
    free_sends: Vec<u32>,
    /// Of the sockets, those whose receive found no buffer; and when the first of them tries again.
    starved: u32,
    retry_at: Option<Time>,
    /// How many buffers had come home when the kernel was shown them last.
    shown: u64,
    /// Taken from the worker's `Local`; a field to keep its capacity.
    touched: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    generation: Generation,
    content: Option<T>,
}

#[derive(Debug)]
struct Socket {
    descriptor: Descriptor,
    envelope: FlightIndex,
    receive: Receive,
    /// Sends in flight.
    sending: u32,
    counter: Rc<Counter>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receive {
    Idle,
    Armed {
        cancelled: bool,
    },
    /// It found no buffer, although so many that had come home were shown to the kernel.
    Starved {
        shown: u64,
        retry_at: Time,
    },
}

#[derive(Debug)]
struct Send {
    socket: u32,
    receipt: u32,
    datagram: FlightIndex,
}

impl Datagrams {
    /// How many sockets there are.
    pub(super) fn open(&self) -> usize {
        self.sockets.len() - self.free.len()
    }

    /// How many datagrams are being sent.
    #[cfg(test)]
    pub(super) fn sending(&self) -> usize {
        self.sends.len() - self.free_sends.len()
    }

    pub(super) fn retry_at(&self) -> Option<Time> {
        self.retry_at
    }

    fn socket(&mut self, slot: u32) -> Option<&mut Socket> {
        self.sockets.get_mut(slot as usize)?.content.as_mut()
    }

    /// The socket whose operation this was.
    fn find(&mut self, token: Token) -> Option<&mut Socket> {
        let place = self.sockets.get_mut(token.slot() as usize)?;
        (place.generation == token.generation()).then_some(place.content.as_mut()).flatten()
    }
}

/// Puts `content` into a place that is free, and says which.
fn settle<T>(places: &mut Vec<Place<T>>, free: &mut Vec<u32>, content: T) -> (u32, Generation) {
    let slot = free.pop().unwrap_or_else(|| {
        places.push(Place { generation: Generation::default(), content: None });
        places.len() as u32 - 1
    });
    let place = &mut places[slot as usize];
    place.content = Some(content);
    (slot, place.generation)
}

/// Frees a place.
fn vacate<T>(places: &mut [Place<T>], free: &mut Vec<u32>, slot: u32) -> Option<T> {
    let place = places.get_mut(slot as usize)?;
    let content = place.content.take()?;
    place.generation = place.generation.next();
    free.push(slot);
    Some(content)
}

impl<R: Ring> Worker<R> {
    /// Opens a socket, which receives from now on.
    pub(super) fn bind_udp(&mut self, wanted: &BindUdp) -> io::Result<UdpSocket> {
        if let State::Stopping { .. } = self.state {
            return Err(wanted.failed(io::Error::other("the server stops")));
        }
        if self.config.receive_buffer_len as usize <= HEAD_LEN {
            let why =
                format!("Config::receive_buffer_len must be above {HEAD_LEN}, for the head of a datagram");
            return Err(wanted.failed(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        let descriptor = self
            .ring
            .bind_datagrams(wanted.address, &wanted.options)
            .map_err(|error| wanted.failed(error))?;
        let address = self.ring.address(descriptor, Side::Local);
        let address = address.and_then(|address| address.tcp().ok_or(io::ErrorKind::AddrNotAvailable.into()));
        let address = match address {
            Ok(address) => address,
            Err(error) => {
                self.close_stray(descriptor);
                return Err(wanted.failed(error));
            }
        };
        let limits = Limits {
            unread: self.config.datagrams_unread as usize,
            unread_bytes: self.config.datagram_bytes_unread,
            unsent: self.config.datagrams_unsent as usize,
        };
        let envelope = self.memory.flights.launch(Flight::envelope());
        let Datagrams { sockets, free, .. } = &mut self.datagrams;
        let next = free.last().copied().unwrap_or(sockets.len() as u32);
        let counter = Rc::new(Counter::new(next, Rc::clone(&self.desk.local), address, limits));
        let socket = UdpSocket::new(Rc::clone(&counter));
        let content = Socket { descriptor, envelope, receive: Receive::Idle, sending: 0, counter };
        let (slot, _) = settle(sockets, free, content);
        self.tend_socket(slot);
        Ok(socket)
    }

    /// Does what futures left for their sockets in this turn, and what was put off until now.
    pub(super) fn tend_datagrams(&mut self) {
        if self.datagrams.retry_at.is_some_and(|at| at <= self.desk.now) {
            let now = self.desk.now;
            self.feed(|_, retry_at| retry_at <= now);
        }
        if !self.desk.local.has_touched() {
            return;
        }
        let mut touched = std::mem::take(&mut self.datagrams.touched);
        self.desk.local.swap_touched(&mut touched);
        for slot in touched.drain(..) {
            self.tend_socket(slot);
        }
        self.datagrams.touched = touched;
    }

    /// Buffers have come home, and the kernel sees them.
    pub(super) fn share_with_datagrams(&mut self) {
        self.datagrams.shown = self.memory.buffers.home_again();
        if self.datagrams.starved > 0 {
            let now_shown = self.datagrams.shown;
            self.feed(|shown, _| shown < now_shown);
        }
    }

    /// Those of the starved that may be are armed again.
    fn feed(&mut self, may: impl Fn(u64, Time) -> bool) {
        self.datagrams.retry_at = None;
        for slot in 0..self.datagrams.sockets.len() as u32 {
            let Some(socket) = self.datagrams.socket(slot) else { continue };
            let Receive::Starved { shown, retry_at } = socket.receive else { continue };
            if may(shown, retry_at) {
                socket.receive = Receive::Idle;
                self.datagrams.starved -= 1;
                self.tend_socket(slot);
            } else {
                let next = self.datagrams.retry_at;
                self.datagrams.retry_at = Some(next.map_or(retry_at, |next| next.min(retry_at)));
            }
        }
    }

    /// Submits what a socket wants, and frees its slot when it is over.
    fn tend_socket(&mut self, slot: u32) {
        let Some(place) = self.datagrams.sockets.get_mut(slot as usize) else { return };
        let (generation, Some(socket)) = (place.generation, &mut place.content) else { return };
        let Wants { receive, close } = socket.counter.wants();
        let token = Token::new(Kind::Datagrams, generation, slot);
        let submission = match &mut socket.receive {
            armed @ Receive::Idle if receive => {
                *armed = Receive::Armed { cancelled: false };
                self.counters.receives_armed += 1;
                let Socket { descriptor: from, envelope, .. } = *socket;
                Some((token, Submission::ReceiveDatagrams { from, envelope }))
            }
            Receive::Armed { cancelled: cancelled @ false } if !receive => {
                *cancelled = true;
                let cancel = Token::new(Kind::Cancel, Generation::default(), 0);
                Some((cancel, Submission::Cancel { target: token }))
            }
            starved @ Receive::Starved { .. } if close => {
                *starved = Receive::Idle;
                self.datagrams.starved -= 1;
                None
            }
            _ => None,
        };
        if let Some((token, submission)) = submission {
            self.ring.submit(token, submission, &self.memory);
        }
        self.send_letters(slot);
        let is_over = |socket: &mut Socket| close && socket.receive == Receive::Idle && socket.sending == 0;
        if self.datagrams.socket(slot).is_some_and(is_over) {
            self.release_socket(slot);
        }
    }

    /// Sends what was put onto a socket's counter. There are bounds for that, there.
    fn send_letters(&mut self, slot: u32) {
        while let Some(socket) = self.datagrams.socket(slot)
            && let Some(Letter { bytes, to, receipt }) = socket.counter.next_letter()
        {
            socket.sending += 1;
            let from = socket.descriptor;
            let datagram = self.memory.flights.launch_datagram(bytes, to.map(SockAddr::from));
            let send = Send { socket: slot, receipt, datagram };
            let Datagrams { sends, free_sends, .. } = &mut self.datagrams;
            let (place, generation) = settle(sends, free_sends, send);
            let token = Token::new(Kind::SendDatagram, generation, place);
            self.ring.submit(token, Submission::SendDatagram { from, datagram }, &self.memory);
        }
    }

    /// Closes a socket and frees its slot: the one place that does.
    fn release_socket(&mut self, slot: u32) {
        let Datagrams { sockets, free, .. } = &mut self.datagrams;
        let Some(socket) = vacate(sockets, free, slot) else { return };
        drop(self.memory.flights.land(socket.envelope));
        self.close_stray(socket.descriptor);
    }

    /// The receive of a socket has brought a datagram, or has ended, or both.
    pub(super) fn datagram_received(&mut self, completion: &Completion) {
        let Worker { memory, datagrams, counters, .. } = self;
        // The buffer goes home whatever is in it, and whosever it was.
        let received = taken(&memory.buffers, completion, counters);
        let shown = datagrams.shown;
        let Some(socket) = datagrams.find(completion.token) else {
            drop(received);
            return counters.nonsense += 1;
        };
        let makes_sense = match received.map(|received| received.map(|it| deliver(it, socket, counters))) {
            Ok(Some(makes_sense)) => makes_sense,
            Ok(None) => !matches!(completion.outcome, Outcome::Count(_)),
            Err(NotTheKernels) => false,
        };
        counters.nonsense += u64::from(!makes_sense);
        if !completion.more
            && let Receive::Armed { .. } = socket.receive
        {
            let retry_at = self.desk.now + RETRY;
            socket.receive = match completion.outcome {
                Outcome::NoBuffers => Receive::Starved { shown, retry_at },
                // What is broken is not to be asked again at once.
                _ if !makes_sense => Receive::Starved { shown: u64::MAX, retry_at },
                Outcome::Count(_) | Outcome::Retry | Outcome::Cancelled => Receive::Idle,
                failed @ (Outcome::PeerGone(_) | Outcome::Failed(_)) => {
                    socket.counter.deliver(Err(failed.to_error()));
                    Receive::Idle
                }
            };
            if let Receive::Starved { .. } = socket.receive {
                datagrams.starved += 1;
                datagrams.retry_at = Some(datagrams.retry_at.map_or(retry_at, |next| next.min(retry_at)));
            }
        }
        self.tend_socket(completion.token.slot());
    }

    /// A datagram was sent, or not.
    pub(super) fn datagram_sent(&mut self, completion: &Completion) {
        let (token, slot) = (completion.token, completion.token.slot());
        let place = self.datagrams.sends.get(slot as usize);
        let send = place.filter(|place| place.generation == token.generation());
        let Some(send) = send.and_then(|place| place.content.as_ref()) else {
            return self.counters.nonsense += 1;
        };
        if completion.outcome == Outcome::Retry
            && !matches!(self.state, State::Stopping { .. })
            && let Some(socket) = self.datagrams.sockets[send.socket as usize].content.as_ref()
        {
            let again = Submission::SendDatagram { from: socket.descriptor, datagram: send.datagram };
            return self.ring.submit(token, again, &self.memory);
        }
        let Datagrams { sends, free_sends, .. } = &mut self.datagrams;
        let Some(Send { socket, receipt, datagram }) = vacate(sends, free_sends, slot) else { return };
        // The bytes may be of the user's making.
        let_go(self.memory.flights.land(datagram));
        let result = match completion.outcome {
            Outcome::Count(n) => {
                self.counters.sent += u64::from(n);
                self.counters.datagrams_sent += 1;
                Ok(())
            }
            failed => Err(failed.to_error()),
        };
        if let Some(sender) = self.datagrams.socket(socket) {
            sender.sending -= 1;
            sender.counter.sent(receipt, result);
        }
        self.tend_socket(socket);
    }

    /// The worker stops: whoever has a socket is told, and what is being sent is cancelled.
    pub(super) fn stop_datagrams(&mut self) {
        for (slot, place) in self.datagrams.sends.iter().enumerate() {
            if place.content.is_some() {
                let target = Token::new(Kind::SendDatagram, place.generation, slot as u32);
                let cancel = Token::new(Kind::Cancel, Generation::default(), 0);
                self.ring.submit(cancel, Submission::Cancel { target }, &self.memory);
            }
        }
        for slot in 0..self.datagrams.sockets.len() as u32 {
            if let Some(socket) = self.datagrams.socket(slot) {
                Rc::clone(&socket.counter).end();
                self.tend_socket(slot);
            }
        }
    }
}

/// Puts what came onto the counter; false if it makes no sense.
fn deliver(mut received: Received<'_>, socket: &Socket, counters: &mut Counters) -> bool {
    let Some(mut piece) = received.next() else { return false };
    let (bytes, _) = piece.open(0);
    let Some(datagram) = datagram::read(bytes) else { return false };
    counters.received -= HEAD_LEN as u64;
    if datagram.is_cut {
        counters.datagrams_cut += 1;
    } else {
        counters.datagrams_received += 1;
        socket.counter.deliver(Ok((Bytes::copy_from_slice(datagram.bytes), datagram.from)));
    }
    true
}
