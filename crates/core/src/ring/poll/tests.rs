//! The ring over epoll by itself: every operation, and every way in which one waits.

mod datagrams;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::*;
use crate::config::Config;
use crate::flight::Flight;
use crate::fs::{Extent, OpenFile};
use crate::operation::Half;
use crate::token::{Generation, Kind};
use crate::worker::memory_for;

const LONG: Duration = Duration::from_secs(50);
const BUFFER: u32 = 1024;

struct Bench {
    ring: PollRing,
    memory: Memory,
}

fn token(kind: Kind, slot: u32) -> Token {
    Token::new(kind, Generation::default(), slot)
}

impl Bench {
    fn new(receive_buffers: u16) -> Bench {
        let config = Config { receive_buffers, receive_buffer_len: BUFFER, ..Config::default() };
        let abilities = crate::ring::probe::Capabilities::of_poll().abilities(&config);
        Bench { ring: PollRing::new(abilities).expect("a descriptor"), memory: memory_for(&config) }
    }

    fn submit(&mut self, kind: Kind, slot: u32, submission: Submission) {
        self.ring.submit(token(kind, slot), submission, &self.memory);
    }

    fn receive(&mut self, slot: u32, from: &impl AsRawFd, budget: u32) {
        let from = Descriptor::Plain(from.as_raw_fd());
        self.submit(Kind::Receive, slot, Submission::Receive { from, budget, bundle: false });
    }

    fn cancel(&mut self, kind: Kind, slot: u32) {
        self.submit(Kind::Cancel, 0, Submission::Cancel { target: token(kind, slot) });
    }

    /// What has completed by now.
    fn now(&mut self) -> Vec<Completion> {
        let mut batch = Vec::new();
        // What is told is not always asked for at the same time.
        for _ in 0..2 {
            self.ring.wait(Some(Duration::ZERO), &self.memory, &mut batch).expect("epoll");
        }
        batch
    }

    /// What completes next.
    fn next(&mut self) -> Vec<Completion> {
        let (mut batch, began) = (Vec::new(), std::time::Instant::now());
        while batch.is_empty() {
            assert!(began.elapsed() < LONG, "nothing completes");
            self.ring.wait(Some(LONG), &self.memory, &mut batch).expect("epoll");
        }
        batch
    }

    /// The one outcome that comes next.
    fn outcome(&mut self) -> Outcome {
        let batch = self.next();
        let [Completion { outcome, more: false, .. }] = batch[..] else {
            panic!("one, and final: {batch:?}")
        };
        outcome
    }

    /// Reads what a batch of completed receives brought, and takes the buffers home.
    fn read(&mut self, batch: &[Completion]) -> Vec<u8> {
        let mut came = Vec::new();
        for completion in batch {
            if let (Outcome::Count(len), Some(buffer)) = (completion.outcome, completion.buffer) {
                let received = self.memory.buffers.take(buffer, len).expect("the ring had it");
                received.for_each(|mut piece| came.extend_from_slice(piece.open(0).0));
            }
        }
        self.memory.buffers.publish();
        came
    }

    /// Receives until so many bytes are there, or the receive ends.
    fn read_all(&mut self, len: usize) -> (Vec<u8>, Completion) {
        let mut came = Vec::new();
        loop {
            let batch = self.next();
            came.extend(self.read(&batch));
            let last = *batch.last().expect("not empty");
            if came.len() >= len || !last.more {
                return (came, last);
            }
        }
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().expect("two sockets")
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let there = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
    (there, listener.accept().expect("somebody waits").0)
}

#[test]
fn a_receive_brings_what_comes_and_ends_with_its_budget() {
    let (mut there, here) = pair();
    let mut bench = Bench::new(8);
    bench.receive(1, &here, 2500);
    assert!(bench.now().is_empty(), "nothing was sent");
    there.write_all(&bytes(5000)).expect("room");
    let (came, last) = bench.read_all(2500);
    assert_eq!((came, last.more), (bytes(5000)[..2500].to_vec(), false));
    assert_eq!(bench.ring.in_flight(), 0);
    // The rest is there already, and nothing new comes that epoll could tell of.
    bench.receive(1, &here, 0);
    let (came, last) = bench.read_all(2500);
    assert_eq!((came, last.more), (bytes(5000)[2500..].to_vec(), true));
    there.write_all(b"more").expect("room");
    assert_eq!(bench.read_all(4).0, b"more");
    drop(there);
    assert_eq!(bench.outcome(), Outcome::Count(0));
}

#[test]
fn a_short_read_hides_no_end_and_nothing_urgent() {
    let mut bench = Bench::new(8);
    let (mut there, here) = tcp_pair();
    there.write_all(b"the last").expect("room");
    drop(there);
    thread::sleep(Duration::from_millis(20));
    bench.receive(1, &here, 0);
    let (came, last) = bench.read_all(100);
    assert_eq!((&came[..], last.outcome), (&b"the last"[..], Outcome::Count(0)));

    // The kernel cuts a read where an urgent byte is (tcp(7)), though there is more.
    let (mut there, here) = tcp_pair();
    there.write_all(b"before").expect("room");
    SockRef::from(&there).send_out_of_band(b"!").expect("room");
    there.write_all(b"after").expect("room");
    thread::sleep(Duration::from_millis(20));
    bench.receive(2, &here, 0);
    assert_eq!(bench.read_all(11).0, b"beforeafter");
}

#[test]
fn who_finds_no_buffer_waits_for_those_of_this_turn() {
    let mut bench = Bench::new(1);
    let pairs: Vec<_> = (0..3).map(|_| pair()).collect();
    for (slot, (there, here)) in (0..).zip(&pairs) {
        (&*there).write_all(&[slot as u8; 10]).expect("room");
        bench.receive(slot, here, 10);
    }
    // One buffer, one a turn; and each has its turn.
    for slot in 0..3 {
        let batch = bench.next();
        assert_eq!(batch.len(), 1, "{batch:?}");
        assert_eq!(batch[0].token, token(Kind::Receive, slot));
        assert_eq!(bench.read(&batch), [slot as u8; 10]);
    }
    // Nobody brings it home.
    for slot in [0, 1] {
        (&pairs[slot as usize].0).write_all(b"x").expect("room");
        bench.receive(slot, &pairs[slot as usize].1, 1);
    }
    let kept = bench.next();
    assert_eq!(kept[0].outcome, Outcome::Count(1));
    assert_eq!(bench.outcome(), Outcome::NoBuffers);
    let into = bench.memory.sends.take().expect("none is held");
    let from = Descriptor::Plain(pairs[1].1.as_raw_fd());
    bench.submit(Kind::ReceiveOnce, 1, Submission::ReceiveOnce { from, into });
    assert_eq!(bench.outcome(), Outcome::Count(1));
    assert_eq!(bench.memory.sends.bytes(into, 0, 1), b"x");
    bench.submit(Kind::ReceiveOnce, 1, Submission::ReceiveOnce { from, into });
    assert_eq!(bench.outcome(), Outcome::Retry);
}

fn held(bytes: &[u8], to: &impl AsRawFd) -> Submission {
    let to = Descriptor::Plain(to.as_raw_fd());
    Submission::SendHeld { to, address: bytes.as_ptr().expose_provenance(), len: bytes.len() as u32 }
}

#[test]
fn a_send_completes_when_all_of_it_went_out() {
    for socket in ["unix", "tcp"] {
        let mut bench = Bench::new(1);
        let sent = bytes(8 << 20);
        let mut came = vec![0; sent.len()];
        if socket == "unix" {
            let (mut there, here) = pair();
            bench.submit(Kind::Send, 1, held(&sent, &here));
            assert!(bench.now().is_empty(), "nobody reads");
            thread::scope(|scope| {
                scope.spawn(|| there.read_exact(&mut came).expect("all of it"));
                assert_eq!(bench.outcome(), Outcome::Count(8 << 20));
            });
        } else {
            let (mut there, here) = tcp_pair();
            bench.submit(Kind::Send, 1, held(&sent, &here));
            assert!(bench.now().is_empty(), "nobody reads");
            thread::scope(|scope| {
                scope.spawn(|| there.read_exact(&mut came).expect("all of it"));
                assert_eq!(bench.outcome(), Outcome::Count(8 << 20));
            });
        }
        assert!(came == sent, "{socket}");
    }
}

#[test]
fn a_gathering_send_goes_on_in_the_middle_of_a_range() {
    let mut bench = Bench::new(1);
    let (mut there, here) = pair();
    let parts = [bytes(700_000), bytes(1), bytes(900_001), bytes(0), bytes(300_000)];
    let list = bench.memory.flights.launch_gather(parts.iter().map(|part| (part.as_ptr(), part.len())));
    let to = Descriptor::Plain(here.as_raw_fd());
    bench.submit(Kind::Send, 1, Submission::Gather { to, list });
    assert!(bench.now().is_empty(), "nobody reads");
    let mut came = vec![0; parts.concat().len()];
    thread::scope(|scope| {
        scope.spawn(|| there.read_exact(&mut came).expect("all of it"));
        assert_eq!(bench.outcome(), Outcome::Count(1_900_002));
    });
    bench.memory.flights.land(list);
    assert!(came == parts.concat());
}

#[test]
fn a_cancelled_send_tells_what_went_out() {
    let mut bench = Bench::new(1);
    let (mut there, here) = pair();
    let sent = bytes(4 << 20);
    bench.submit(Kind::Send, 1, held(&sent, &here));
    bench.cancel(Kind::Send, 1);
    let Outcome::Count(first @ 1..) = bench.outcome() else { panic!("the socket's buffer was empty") };
    // Now it is full: nothing goes out.
    bench.submit(Kind::Send, 1, held(&sent, &here));
    let to = Descriptor::Plain(here.as_raw_fd());
    bench.submit(Kind::Send, 2, held(&sent, &here));
    assert_eq!(bench.outcome(), Outcome::Failed(libc::EBUSY), "one at a time");
    bench.cancel(Kind::Send, 1);
    assert_eq!(bench.outcome(), Outcome::Cancelled);
    bench.submit(Kind::RoomWatch, 1, Submission::WatchRoom { descriptor: to });
    assert!(bench.now().is_empty(), "it is full");
    there.read_exact(&mut vec![0; first as usize]).expect("it was sent");
    assert_eq!(bench.outcome(), Outcome::Count(libc::POLLOUT as u32));
    // Too late: it has completed.
    bench.cancel(Kind::RoomWatch, 1);
    assert!(bench.now().is_empty());
    drop(there);
    bench.submit(Kind::Send, 1, held(&sent, &here));
    assert!(matches!(bench.outcome(), Outcome::PeerGone(_)));
    assert_eq!(bench.ring.in_flight(), 0);
}

/// The kernel tells of a reset once. Who was to be told what had gone out leaves it to the next to be told of that.
#[test]
fn a_reset_in_the_middle_of_a_send_is_told_to_the_receive() {
    let mut bench = Bench::new(1);
    let (there, here) = tcp_pair();
    let sent = bytes(16 << 20);
    bench.submit(Kind::Send, 1, held(&sent, &here));
    assert!(bench.now().is_empty(), "nobody reads");
    reset(there);
    assert!(matches!(bench.outcome(), Outcome::Count(1..)));
    bench.receive(1, &here, 0);
    assert_eq!(bench.outcome(), Outcome::PeerGone(libc::ECONNRESET));
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    drop(stream);
}

/// The number is another's at once; what waited on the old one is cancelled, and neither gets the other's bytes.
#[test]
fn a_number_that_is_used_again_is_somebody_else() {
    let mut bench = Bench::new(8);
    let (old_there, old) = tcp_pair();
    let old = by_number(&old, 700);
    let number = old.as_raw_fd();
    bench.receive(1, &old, 0);
    assert!(bench.now().is_empty());
    // Another holds the old socket open, so that epoll goes on to tell of it.
    let also = old.try_clone().expect("a descriptor");
    std::mem::forget(old);
    bench.submit(Kind::Close, 1, Submission::Close { descriptor: Descriptor::Plain(number) });
    assert_eq!(bench.outcome(), Outcome::Count(0));
    assert_eq!(bench.ring.in_flight(), 1, "the receive is to be cancelled yet");

    let (mut there, here) = tcp_pair();
    let here = again(&here, number);
    bench.receive(2, &here, 0);
    let descriptor = Descriptor::Plain(number);
    bench.submit(Kind::PeerWatch, 2, Submission::WatchPeer { descriptor });
    (&old_there).write_all(b"for the dead").expect("somebody has it open");
    reset(old_there);
    thread::sleep(Duration::from_millis(20));
    assert!(bench.now().is_empty(), "that was for somebody else");
    there.write_all(b"for the living").expect("room");
    assert_eq!(bench.read_all(14).0, b"for the living");
    bench.cancel(Kind::Receive, 1);
    let batch = bench.next();
    assert_eq!((batch[0].token, batch[0].outcome), (token(Kind::Receive, 1), Outcome::Cancelled));
    for kind in [Kind::Receive, Kind::PeerWatch] {
        bench.cancel(kind, 2);
        assert_eq!(bench.outcome(), Outcome::Cancelled);
    }
    assert_eq!(bench.ring.in_flight(), 0);
    drop(also);
}

/// The same thing by another number: `number`, or the next that is free. Nobody else takes high ones.
fn by_number<T: From<OwnedFd> + AsFd>(of: &T, number: RawFd) -> T {
    rustix::io::fcntl_dupfd_cloexec(of, number).expect("a descriptor").into()
}

/// The same socket by the very number.
fn again(socket: &TcpStream, number: RawFd) -> TcpStream {
    let copy = by_number(socket, number);
    assert_eq!(copy.as_raw_fd(), number, "somebody else took it");
    copy
}

#[test]
fn an_accept_goes_on_until_it_is_cancelled() {
    let mut bench = Bench::new(1);
    let listener = by_number(&TcpListener::bind("127.0.0.1:0").expect("a free port"), 800);
    let address = listener.local_addr().expect("bound");
    let accept = |multishot| Submission::Accept {
        listener: Descriptor::Plain(listener.as_raw_fd()),
        direct: false,
        multishot,
    };
    bench.submit(Kind::Accept, 0, accept(true));
    assert!(bench.now().is_empty());
    let clients: Vec<_> = (0..100).map(|_| TcpStream::connect(address).expect("it listens")).collect();
    let mut accepted = 0;
    while accepted < clients.len() {
        let came = bench.next();
        for completion in came.iter().filter(|came| came.token.kind() == Some(Kind::Accept)) {
            let Outcome::Count(fd) = completion.outcome else { panic!("{completion:?}") };
            assert!(completion.more);
            accepted += 1;
            let descriptor = Descriptor::Plain(fd as RawFd);
            bench.submit(Kind::CloseStray, 0, Submission::Close { descriptor });
        }
    }
    assert!(bench.now().iter().all(|end| end.token.kind() == Some(Kind::CloseStray)));
    bench.cancel(Kind::Accept, 0);
    assert!(bench.now().iter().any(|end| end.outcome == Outcome::Cancelled && !end.more));
    bench.submit(Kind::Accept, 0, accept(false));
    assert!(bench.now().is_empty());
    let _client = TcpStream::connect(address).expect("it listens");
    assert!(matches!(bench.outcome(), Outcome::Count(_)));
    assert_eq!(bench.ring.in_flight(), 0);

    // Who holds a listener closes it without a word to the ring; then its number is somebody else's.
    let number = listener.as_raw_fd();
    drop(listener);
    let (mut there, here) = tcp_pair();
    let here = again(&here, number);
    bench.receive(1, &here, 0);
    assert!(bench.now().is_empty());
    there.write_all(b"hello").expect("room");
    assert_eq!(bench.read_all(5).0, b"hello");
}

fn connect(bench: &mut Bench, to: SockAddr) -> i32 {
    let domain = to.domain().into();
    bench.submit(Kind::Socket, 1, Submission::Socket { domain, direct: false });
    let Outcome::Count(fd) = bench.outcome() else { panic!("a socket") };
    let address = bench.memory.flights.launch(Flight::Address(to));
    let descriptor = Descriptor::Plain(fd as i32);
    bench.submit(Kind::Connect, 1, Submission::Connect { descriptor, address });
    fd as i32
}

#[test]
fn a_connect_tells_how_it_ends() {
    let mut bench = Bench::new(8);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let fd = connect(&mut bench, address.into());
    assert_eq!(bench.outcome(), Outcome::Count(0));
    let (mut there, _) = listener.accept().expect("it is connected");
    there.write_all(b"hello").expect("room");
    let from = Descriptor::Plain(fd);
    bench.submit(Kind::Receive, 1, Submission::Receive { from, budget: 5, bundle: false });
    assert_eq!(bench.read_all(5).0, b"hello");
    drop(listener);
    connect(&mut bench, address.into());
    assert_eq!(bench.outcome(), Outcome::Failed(libc::ECONNREFUSED));
}

/// Nothing tells when a Unix listener's queue has a place again, so it is tried now and then.
#[test]
fn a_full_queue_of_a_unix_listener_is_waited_for() {
    let mut bench = Bench::new(1);
    let path = std::env::temp_dir().join(format!("campanile-knock-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    let address = SockAddr::unix(&path).expect("a short path");
    socket.bind(&address).expect("a new name");
    socket.listen(0).expect("bound");
    let listener = UnixListener::from(OwnedFd::from(socket));
    let _first = UnixStream::connect(&path).expect("the queue takes one");
    connect(&mut bench, address.clone());
    assert!(bench.now().is_empty(), "the queue is full");
    drop(listener.accept().expect("the first"));
    assert_eq!(bench.outcome(), Outcome::Count(0));
    connect(&mut bench, address);
    assert!(bench.now().is_empty(), "the queue is full");
    bench.cancel(Kind::Connect, 1);
    assert_eq!(bench.outcome(), Outcome::Cancelled);
    assert_eq!(bench.ring.in_flight(), 0);
    std::fs::remove_file(&path).expect("ours");
}

#[test]
fn a_watch_tells_of_a_reset_and_of_nothing_else() {
    let mut bench = Bench::new(1);
    let (there, here) = tcp_pair();
    let descriptor = Descriptor::Plain(here.as_raw_fd());
    bench.submit(Kind::PeerWatch, 1, Submission::WatchPeer { descriptor });
    (&there).write_all(b"unread").expect("room");
    thread::sleep(Duration::from_millis(20));
    assert!(bench.now().is_empty(), "input is left to wait");
    reset(there);
    let Outcome::Count(seen) = bench.outcome() else { panic!("what was seen") };
    assert!(seen & libc::POLLERR as u32 != 0, "{seen:#x}");
    bench.submit(Kind::PeerWatch, 1, Submission::WatchPeer { descriptor });
    assert!(matches!(bench.outcome(), Outcome::Count(1..)), "it is so already");
}

#[test]
fn kicks_get_it_out_of_its_wait() {
    let mut bench = Bench::new(1);
    let wake = token(Kind::Wake, 0);
    let kick = bench.ring.kick(&bench.memory, wake).expect("a descriptor");
    for _ in 0..3 {
        assert!(bench.now().is_empty());
        thread::scope(|scope| {
            scope.spawn(|| {
                kick.kick();
                kick.kick();
            });
            let batch = bench.next();
            assert_eq!((batch[0].token, batch[0].more), (wake, true));
            bench.ring.kicked(&batch[0], &bench.memory);
        });
        // The second kick may have come after the first was answered.
        for completion in bench.now() {
            bench.ring.kicked(&completion, &bench.memory);
        }
    }
    bench.cancel(Kind::Wake, 0);
    assert_eq!(bench.outcome(), Outcome::Cancelled);
}

/// However much completes without a wait, what comes from outside is heard of in the next turn but one.
#[test]
fn others_are_heard_while_there_is_always_something_to_tell() {
    let mut bench = Bench::new(8);
    let (mut there, here) = pair();
    bench.receive(1, &here, 0);
    assert!(bench.now().is_empty());
    there.write_all(b"hello").expect("room");
    let (mut turns, mut heard) = (0, false);
    while !heard {
        turns += 1;
        let descriptor = Descriptor::Plain(there.as_raw_fd());
        bench.submit(Kind::Shutdown, 2, Submission::Shutdown { descriptor, half: Half::Write });
        heard = bench.next().iter().any(|completion| completion.token.kind() == Some(Kind::Receive));
    }
    assert!(turns <= 2, "{turns} turns");
    there.shutdown(Shutdown::Both).expect("it is open");
}

#[test]
fn files_are_opened_asked_and_read() {
    let mut bench = Bench::new(1);
    let path = std::env::temp_dir().join(format!("campanile-poll-{}", std::process::id()));
    std::fs::write(&path, bytes(10_000)).expect("a writable place");
    let open = bench.memory.flights.launch(OpenFile::at(&path).into_flight().expect("no zero byte"));
    bench.submit(Kind::Errand, 0, Submission::OpenFile { path: open, direct: false });
    let Outcome::Count(fd) = bench.outcome() else { panic!("it is there") };
    let file = fd as RawFd;
    let answer = bench.memory.flights.launch(Flight::stat());
    bench.submit(Kind::Errand, 0, Submission::Stat { file, answer });
    assert_eq!(bench.outcome(), Outcome::Count(0));
    let Flight::Stat(stat) = *bench.memory.flights.land(answer) else { panic!("a stat") };
    assert_eq!(stat.stx_size, 10_000);
    let into = bench.memory.files.take_long().expect("none is held");
    let read = Submission::Read { file: Descriptor::Plain(file), into, len: 5_000, offset: 7_000 };
    bench.submit(Kind::Errand, 0, read);
    assert_eq!(bench.outcome(), Outcome::Count(3_000));
    assert_eq!(bench.memory.files.lend(into, 3_000), bytes(10_000)[7_000..]);
    bench.submit(Kind::CloseStray, 0, Submission::Close { descriptor: Descriptor::Plain(file) });
    assert_eq!(bench.outcome(), Outcome::Count(0));
    std::fs::remove_file(&path).expect("ours");
    bench.submit(Kind::Errand, 0, Submission::OpenFile { path: open, direct: false });
    assert_eq!(bench.outcome(), Outcome::Failed(libc::ENOENT));
    bench.memory.flights.land(open);
}

/// More of them than there are helpers, and the ring goes on with other things meanwhile.
#[test]
fn files_are_written_and_synced_by_helpers() {
    let mut bench = Bench::new(1);
    let path = std::env::temp_dir().join(format!("campanile-poll-write-{}", std::process::id()));
    let open = OpenFile::at(&path).write(true).create(true).truncate(true);
    let open = bench.memory.flights.launch(open.into_flight().expect("it makes sense"));
    bench.submit(Kind::Errand, 0, Submission::OpenFile { path: open, direct: false });
    let Outcome::Count(fd) = bench.outcome() else { panic!("a writable place") };
    bench.memory.flights.land(open);
    let file = Descriptor::Plain(fd as RawFd);
    let all = bytes(100_000);
    for (slot, part) in (0..).zip(all.chunks(10_000)) {
        let (address, offset) = (part.as_ptr().expose_provenance(), u64::from(slot) * 10_000);
        bench.submit(Kind::Errand, slot, Submission::Write { file, address, len: 10_000, offset });
    }
    let mut left: Vec<u32> = (0..10).collect();
    while !left.is_empty() {
        for completion in bench.next() {
            assert_eq!(completion.outcome, Outcome::Count(10_000));
            left.retain(|slot| completion.token != token(Kind::Errand, *slot));
        }
    }
    for extent in [Extent::Data, Extent::All] {
        bench.submit(Kind::Errand, 0, Submission::Sync { file, extent });
        assert_eq!(bench.outcome(), Outcome::Count(0));
    }
    assert!(bench.now().is_empty() && bench.ring.in_flight() == 0);
    assert_eq!(std::fs::read(&path).expect("it is there"), all);
    bench.submit(Kind::CloseStray, 0, Submission::Close { descriptor: file });
    assert_eq!(bench.outcome(), Outcome::Count(0));
    bench.submit(Kind::Errand, 0, Submission::Sync { file: Descriptor::Direct(0), extent: Extent::All });
    assert_eq!(bench.outcome(), Outcome::Failed(libc::EBADF));
    std::fs::remove_file(&path).expect("ours");
}

#[test]
fn sockets_are_set_up_by_plain_calls() {
    let mut bench = Bench::new(1);
    let domain = Domain::IPV4.into();
    let Bench { ring, memory } = &mut bench;
    let socket = ring.perform(Submission::Socket { domain, direct: false }, memory).expect("a socket");
    let descriptor = Descriptor::Plain(socket as RawFd);
    let value = memory.flights.launch(Flight::OptionValue([1, 0]));
    let (level, name) = (libc::SOL_SOCKET, libc::SO_REUSEADDR);
    ring.perform(Submission::SetOption { descriptor, level, name, value, len: 4 }, memory).expect("known");
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let address = memory.flights.launch(Flight::Address(anywhere.into()));
    ring.perform(Submission::Bind { descriptor, address }, memory).expect("a free port");
    ring.perform(Submission::Listen { descriptor, backlog: 1 }, memory).expect("bound");
    let bound = ring.address(descriptor, Side::Local).expect("bound");
    drop(TcpStream::connect(bound.tcp().expect("a TCP address")).expect("it listens"));
    ring.perform(Submission::Close { descriptor }, memory).expect("open");
    // There are no direct descriptors.
    let direct = ring.perform(Submission::Socket { domain, direct: true }, memory).expect_err("no table");
    assert_eq!(direct.raw_os_error(), Some(libc::EINVAL));
    let none = Submission::Listen { descriptor: Descriptor::Direct(0), backlog: 1 };
    assert_eq!(ring.perform(none, memory).expect_err("none").raw_os_error(), Some(libc::EBADF));
}
