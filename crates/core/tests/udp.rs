//! Datagrams over the kernel, on io_uring and on epoll: as ordinary sockets on other threads see them.

mod support;

use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket as StdSocket};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use campanile_core::{
    Bytes, Config, RingKind, Server, ServerHandle, UdpOptions, UdpSocket, sleep, spawn, timeout,
};
use support::{LONG, counted, keyed, on_epoll, until};

const ANY: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// The longest datagram that a buffer of the default length holds.
const LONGEST: usize = 16 * 1024 - 44;

fn rings() -> Vec<RingKind> {
    if on_epoll() { vec![RingKind::Poll] } else { vec![RingKind::Uring, RingKind::Poll] }
}

fn any() -> SocketAddr {
    ANY.into()
}

/// A server that listens nowhere.
fn serve(ring: RingKind, workers: usize, config: Config) -> ServerHandle {
    let server = Server::new().workers(workers).config(config).ring(ring);
    server.run().expect("either ring can be had here")
}

/// Runs a task on the first worker, and waits for it.
fn on_worker<T: Send + 'static>(server: &ServerHandle, run: impl AsyncFnOnce() -> T + Send + 'static) -> T {
    server.workers()[0].spawn(run).wait().expect("it does not panic")
}

/// Binds a socket on a worker that sends back whatever comes, and says where.
fn echo_on(server: &ServerHandle, worker: usize, at: SocketAddr, options: UdpOptions) -> SocketAddr {
    let bind = async move || {
        let socket = UdpSocket::bind_with(at, options).await.expect("an address that is free");
        let at = socket.local_addr();
        spawn(async move {
            while let Ok((bytes, from)) = socket.recv_from().await {
                socket.send_to(bytes, from).await.expect("loopback");
            }
        });
        at
    };
    server.workers()[worker].spawn(bind).wait().expect("it does not panic")
}

fn client() -> StdSocket {
    let socket = StdSocket::bind(ANY).expect("a free port");
    socket.set_read_timeout(Some(LONG)).expect("any time but zero");
    socket
}

/// Sends a datagram, and returns the next one that comes.
fn round(client: &StdSocket, bytes: &[u8], to: SocketAddr) -> Vec<u8> {
    client.send_to(bytes, to).expect("loopback");
    next(client, to)
}

fn next(client: &StdSocket, from: SocketAddr) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 16];
    let (n, who) = client.recv_from(&mut buffer).expect("a datagram");
    assert_eq!(who, from);
    buffer.truncate(n);
    buffer
}

fn content(key: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    keyed::fill(key, 0, &mut bytes);
    bytes
}

#[test]
fn every_length_comes_and_goes_unchanged() {
    for ring in rings() {
        let server = serve(ring, 1, Config::default());
        let to = echo_on(&server, 0, any(), UdpOptions::default());
        let client = client();
        let lengths = (0..70).chain((70..LONGEST).step_by(397)).chain([LONGEST, 0, 0, 1]);
        for len in lengths {
            let sent = content(len as u64, len);
            assert!(round(&client, &sent, to) == sent, "{len} bytes on {ring}");
        }
        // One that does not fit is dropped, and is all that is.
        client.send_to(&content(1, LONGEST + 1), to).expect("loopback");
        assert_eq!(round(&client, b"after it", to), b"after it");
        let counters = counted(&server);
        assert_eq!((counters.datagrams_cut, counters.nonsense), (1, 0));
        assert_eq!(counters.datagrams_received, counters.datagrams_sent);
        assert_eq!(counters.udp_sockets, 1);
    }
}

#[test]
fn many_senders_each_get_their_own_in_order() {
    // Few buffers, so that they run out.
    let config = Config { receive_buffers: 4, receive_buffer_len: 2048, ..Config::default() };
    for ring in rings() {
        let server = serve(ring, 1, config.clone());
        let to = echo_on(&server, 0, any(), UdpOptions::default());
        std::thread::scope(|scope| {
            for key in 0..8u64 {
                scope.spawn(move || {
                    let client = client();
                    for at in (0..200u64).step_by(10) {
                        // As many as the sockets hold of all of them.
                        for n in at..at + 10 {
                            client.send_to(&content(key << 32 | n, 100), to).expect("loopback");
                        }
                        for n in at..at + 10 {
                            assert!(next(&client, to) == content(key << 32 | n, 100), "{n} of {key}");
                        }
                    }
                });
            }
        });
        assert_eq!(counted(&server).datagrams_received, 1600);
    }
}

#[test]
fn who_does_not_read_is_not_received_for_and_may_go_on() {
    let config = Config {
        receive_buffers: 8,
        datagrams_unread: 16,
        datagram_bytes_unread: 1 << 20,
        ..Config::default()
    };
    for ring in rings() {
        let server = serve(ring, 1, config.clone());
        let (tell, told) = std::sync::mpsc::channel();
        let (go, may_go) = std::sync::mpsc::channel::<()>();
        let reading = server.workers()[0].spawn(async move || {
            let socket = UdpSocket::bind(any()).await.expect("a free port");
            tell.send(socket.local_addr()).expect("it is waited for");
            while may_go.try_recv().is_err() {
                sleep(Duration::from_millis(1)).await;
            }
            let mut all = Vec::new();
            while all.last() != Some(&u32::MAX) {
                let (bytes, _) = socket.recv_from().await.expect("a datagram");
                all.push(u32::from_be_bytes(bytes[..].try_into().expect("four bytes")));
            }
            all
        });
        let to = told.recv().expect("a socket");
        let client = client();
        for n in 0..100u32 {
            client.send_to(&n.to_be_bytes(), to).expect("loopback");
        }
        until("as many came as may", || counted(&server).datagrams_received >= 16);
        // A kick brings the worker around once more.
        for n in 100..150u32 {
            client.send_to(&n.to_be_bytes(), to).expect("loopback");
            let received = counted(&server).datagrams_received;
            // A batch that had begun, and what was received before the cancellation was seen.
            assert!(received <= 16 + 2 * 8, "{received} of them, on {ring}");
        }
        client.send_to(&u32::MAX.to_be_bytes(), to).expect("loopback");
        go.send(()).expect("it waits");
        let all = reading.wait().expect("it does not panic");
        let expected: Vec<u32> = (0..150).chain([u32::MAX]).collect();
        assert_eq!(all, expected, "on {ring}");
    }
}

#[test]
fn a_socket_that_is_dropped_is_closed_and_leaves_nothing() {
    for ring in rings() {
        let server = serve(ring, 1, Config::default());
        let idle = counted(&server);
        let addresses = on_worker(&server, async || {
            let mut addresses = Vec::new();
            for n in 0..100usize {
                let socket = UdpSocket::bind(any()).await.expect("a free port");
                let to = socket.local_addr();
                addresses.push(to);
                // With something unread, with something on its way, or with somebody who waited.
                if n % 3 > 0 {
                    socket.send_to(b"to itself", to).await.expect("loopback");
                }
                if n % 3 == 1 {
                    let _ = once(socket.recv_from()).await;
                    let _ = once(socket.send_to(b"and once more", to)).await;
                }
            }
            addresses
        });
        until("all are closed", || {
            let now = counted(&server);
            (now.udp_sockets, now.in_flight) == (0, idle.in_flight)
        });
        for at in addresses {
            until("the port is free", || StdSocket::bind(at).is_ok());
        }
        // All buffers are there to be filled.
        let to = echo_on(&server, 0, any(), UdpOptions::default());
        let client = client();
        for n in 0..600u32 {
            assert_eq!(round(&client, &n.to_be_bytes(), to), n.to_be_bytes());
        }
    }
}

/// Polls a future once, and drops it.
async fn once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[test]
fn a_future_that_is_dropped_takes_no_datagram_along() {
    for ring in rings() {
        let server = serve(ring, 1, Config { datagrams_unsent: 4, ..Config::default() });
        let all = on_worker(&server, async || {
            let socket = Rc::new(UdpSocket::bind(any()).await.expect("a free port"));
            let to = socket.local_addr();
            let sender = Rc::clone(&socket);
            let sending = spawn(async move {
                let mut dropped = Vec::new();
                for n in 0..100u8 {
                    // Some are sent by a future that is dropped at once, and go out all the same.
                    if n % 4 == 0 {
                        dropped.push(once(sender.send_to(&[n], to)).await.is_none());
                        sleep(Duration::from_millis(1)).await;
                    } else {
                        sender.send_to(&[n], to).await.expect("loopback");
                    }
                }
                dropped.into_iter().any(|dropped| dropped)
            });
            let mut all = Vec::new();
            while all.len() < 100 {
                let received = match all.len() % 2 {
                    0 => once(socket.recv_from()).await,
                    _ => timeout(Duration::from_micros(10), socket.recv_from()).await.ok(),
                };
                match received {
                    Some(received) => all.push(received.expect("a datagram").0[0]),
                    None => sleep(Duration::from_micros(100)).await,
                }
            }
            assert!(sending.await.expect("it does not panic"), "no send was dropped on its way");
            all
        });
        assert_eq!(all, (0..100).collect::<Vec<u8>>(), "on {ring}");
    }
}

/// Whoever leaves without the datagram that it was woken for leaves it to the next who waits.
#[test]
fn several_share_what_comes() {
    for ring in rings() {
        let server = serve(ring, 1, Config::default());
        let sum = on_worker(&server, async || {
            let socket = Rc::new(UdpSocket::bind(any()).await.expect("a free port"));
            let readers: Vec<_> = (0..20)
                .map(|n| {
                    let socket = Rc::clone(&socket);
                    spawn(async move {
                        let mut sum = 0;
                        loop {
                            if n % 2 == 0 {
                                let _ = timeout(Duration::from_micros(50 * n), socket.recv_from())
                                    .await
                                    .map(|received| sum += u32::from(received.expect("a datagram").0[0]));
                            }
                            match socket.recv_from().await.expect("a datagram").0[0] {
                                0 => return sum,
                                n => sum += u32::from(n),
                            }
                        }
                    })
                })
                .collect();
            for n in (1..=100u8).chain([0; 40]) {
                socket.send_to(&[n], socket.local_addr()).await.expect("loopback");
            }
            let mut sum = 0;
            for reader in readers {
                sum += reader.await.expect("it does not panic");
            }
            sum
        });
        assert_eq!(sum, (1..=100).sum::<u32>(), "on {ring}");
    }
}

#[test]
fn errors_name_the_cause() {
    for ring in rings() {
        let server = serve(ring, 1, Config::default());
        let holder = client();
        let taken = holder.local_addr().expect("a socket");
        // One that hears somebody else only: for all others nobody is there, and nobody else can be.
        let deaf = client();
        deaf.connect(taken).expect("loopback");
        let silent = deaf.local_addr().expect("a socket");
        on_worker(&server, async move || {
            let error = UdpSocket::bind(taken).await.expect_err("it is in use");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            assert!(error.to_string().contains("ss -lunp"), "{error}");
            let error = UdpSocket::bind("203.0.113.1:0").await.expect_err("it is not ours");
            assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable, "{error}");
            for wrong in ["localhost:53", "unix:/run/x"] {
                let error = UdpSocket::bind(wrong).await.expect_err("it is none");
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
            }

            let socket = UdpSocket::bind(any()).await.expect("a free port");
            let long = Bytes::from(vec![0; 70_000]);
            let error = socket.send_to(long, taken).await.expect_err("it is too long");
            assert_eq!(error.raw_os_error(), Some(libc_emsgsize()));
            assert!(socket.send(b"to whom?").await.is_err());

            // Of a peer that is not there one is told, and goes on.
            let options = UdpOptions { peer: Some(silent), ..UdpOptions::default() };
            let socket = UdpSocket::bind_with(any(), options).await.expect("a free port");
            for _ in 0..3 {
                socket.send(b"anybody?").await.expect("loopback");
                let error = socket.recv_from().await.expect_err("nobody is there");
                assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{error}");
            }
        });
        drop((holder, deaf));
    }
}

fn libc_emsgsize() -> i32 {
    rustix::io::Errno::MSGSIZE.raw_os_error()
}

#[test]
fn workers_share_a_port_and_only_the_peer_is_heard() {
    for ring in rings() {
        let server = serve(ring, 2, Config::default());
        let share = UdpOptions { reuse_port: true, receive_buffer: Some(1 << 16), ..UdpOptions::default() };
        let to = echo_on(&server, 0, any(), share.clone());
        assert_eq!(echo_on(&server, 1, to, share), to);
        for n in 0..32u8 {
            assert_eq!(round(&client(), &[n], to), [n]);
        }
        assert_eq!(counted(&server).udp_sockets, 2);

        let (friend, stranger) = (client(), client());
        let options =
            UdpOptions { peer: Some(friend.local_addr().expect("a socket")), ..UdpOptions::default() };
        let to = echo_on(&server, 0, any(), options);
        stranger.send_to(b"hear me", to).expect("loopback");
        assert_eq!(round(&friend, b"hello", to), b"hello");
        stranger.set_nonblocking(true).expect("a socket");
        assert!(stranger.recv(&mut [0; 16]).is_err(), "a stranger is not answered");
    }
}

/// While both send to each other, in both families, and nobody reads.
#[test]
fn a_server_stops_whatever_its_sockets_do() {
    for ring in rings() {
        let server = serve(ring, 1, Config::default());
        let to = echo_on(&server, 0, any(), UdpOptions::default());
        server.workers()[0].spawn(async move || {
            let socket = UdpSocket::bind("[::1]:0").await.expect("a free port");
            loop {
                socket.send_to(b"to itself", socket.local_addr()).await.expect("loopback");
            }
        });
        assert_eq!(round(&client(), b"hello", to), b"hello");
        server.stop();
        server.wait().expect("an orderly end");
        until("the port is free", || StdSocket::bind(to).is_ok());
    }
}
