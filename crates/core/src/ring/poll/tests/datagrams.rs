//! Datagrams by themselves: those that wait for room, and those that find no buffer.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;

use super::*;
use crate::datagram;

fn send(bench: &mut Bench, slot: u32, from: &impl AsRawFd, bytes: &[u8]) {
    let datagram = bench.memory.flights.launch_datagram(bytes::Bytes::copy_from_slice(bytes), None);
    let from = Descriptor::Plain(from.as_raw_fd());
    bench.submit(Kind::SendDatagram, slot, Submission::SendDatagram { from, datagram });
}

/// A pair of which the second has its sender wait when it has sent a few. (A UDP one over loopback never does.)
fn full_soon() -> (UnixDatagram, UnixDatagram) {
    let (there, here) = UnixDatagram::pair().expect("sockets");
    SockRef::from(&here).set_send_buffer_size(1).expect("the least there is");
    (there, here)
}

#[test]
fn datagrams_wait_in_order_for_room_and_can_be_cancelled() {
    let mut bench = Bench::new(1);
    let (there, here) = full_soon();
    let all: Vec<u32> = (0..200).collect();
    for &n in &all {
        send(&mut bench, n, &here, &n.to_be_bytes());
    }
    let mut done: Vec<u32> = bench.now().iter().map(|completion| completion.token.slot()).collect();
    assert!(!done.is_empty() && done.len() < 190, "{} of them found room", done.len());
    assert_eq!(done, all[..done.len()]);
    // The one that waits for room, and one behind it.
    let cancelled = [done.len() as u32, 195];
    for n in cancelled {
        bench.cancel(Kind::SendDatagram, n);
        assert_eq!(bench.outcome(), Outcome::Cancelled);
    }
    let mut came = Vec::new();
    there.set_nonblocking(true).expect("a socket");
    let began = std::time::Instant::now();
    while came.len() < all.len() - cancelled.len() {
        assert!(began.elapsed() < LONG, "{} came", came.len());
        let mut number = [0; 4];
        if there.recv(&mut number).is_ok() {
            came.push(u32::from_be_bytes(number));
        } else {
            done.extend(bench.next().iter().map(|completion| completion.token.slot()));
        }
    }
    done.extend(bench.now().iter().map(|completion| completion.token.slot()));
    let expected: Vec<u32> = all.into_iter().filter(|n| !cancelled.contains(n)).collect();
    assert_eq!((&came, &done), (&expected, &expected));
    assert_eq!(bench.ring.in_flight(), 0);
}

#[test]
fn a_socket_that_is_closed_strands_what_waits_there() {
    let mut bench = Bench::new(1);
    let (_there, here) = full_soon();
    (0..200).for_each(|n| send(&mut bench, n, &here, b"x"));
    let gone = bench.now().len() as u32;
    assert!(gone < 190, "{gone} of them found room");
    let descriptor = Descriptor::Plain(std::os::fd::IntoRawFd::into_raw_fd(here));
    bench.submit(Kind::Close, 0, Submission::Close { descriptor });
    assert_eq!(bench.outcome(), Outcome::Count(0));
    for n in gone..200 {
        bench.cancel(Kind::SendDatagram, n);
        assert_eq!(bench.outcome(), Outcome::Cancelled);
    }
    assert_eq!(bench.ring.in_flight(), 0);
}

#[test]
fn datagrams_lie_each_in_a_buffer_until_there_is_none() {
    let mut bench = Bench::new(2);
    let here = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let there = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    there.connect(here.local_addr().expect("a socket")).expect("loopback");
    let envelope = bench.memory.flights.launch(Flight::envelope());
    let receive = Submission::ReceiveDatagrams { from: Descriptor::Plain(here.as_raw_fd()), envelope };
    bench.submit(Kind::Datagrams, 1, receive);
    assert!(bench.now().is_empty());
    let long = bytes(BUFFER as usize);
    let sent = [&b""[..], b"hello", &long, b"the last"];
    for datagram in sent {
        there.send(datagram).expect("loopback");
    }
    let mut batch = Vec::new();
    while batch.len() < 3 {
        // The buffers are not brought home meanwhile.
        batch.extend(bench.next());
    }
    let expected = [(0, true, true), (5, true, true), (0, false, false)];
    for ((completion, sent), (len, is_there, more)) in batch.iter().zip(sent).zip(expected) {
        assert_eq!(completion.more, more);
        if !is_there {
            assert_eq!(completion.outcome, Outcome::NoBuffers);
            continue;
        }
        let (Outcome::Count(n), Some(buffer)) = (completion.outcome, completion.buffer) else { panic!() };
        let mut received = bench.memory.buffers.take(buffer, n).expect("the kernel had it");
        let mut piece = received.next().expect("one buffer");
        let datagram = datagram::read(piece.open(0).0).expect("a datagram").bytes.to_vec();
        assert_eq!((&datagram[..], datagram.len()), (sent, len));
    }
    bench.memory.buffers.publish();
    bench.submit(Kind::Datagrams, 1, receive);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        for completion in bench.next() {
            let (Outcome::Count(n), Some(buffer)) = (completion.outcome, completion.buffer) else {
                panic!("{completion:?}")
            };
            let mut received = bench.memory.buffers.take(buffer, n).expect("the kernel had it");
            let mut piece = received.next().expect("one buffer");
            let datagram = datagram::read(piece.open(0).0).expect("a datagram");
            seen.push((datagram.bytes.to_vec(), datagram.is_cut));
        }
    }
    let held = BUFFER as usize - datagram::HEAD_LEN;
    assert_eq!(seen, [(long[..held].to_vec(), true), (b"the last".to_vec(), false)]);
    bench.cancel(Kind::Datagrams, 1);
    assert_eq!(bench.outcome(), Outcome::Cancelled);
}
