//! Connecting to names and addresses: who wins, what is left of the others, and what is said when nobody answers.

mod support;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use campanile::{
    Address, Connect, ConnectError, Dial, DialError, Server, ServerHandle, Stream, connect, timeout,
};
use socket2::{Domain, Socket, Type};

use support::common::{LONG, counted, nothing_held, tcp, until};
use support::worker::{idle, let_go_of_all, on};

async fn greet(mut stream: Stream) -> io::Result<()> {
    stream.write(b"hi").await?;
    stream.fill(1).await.map(drop)
}

fn greeting() -> (ServerHandle, SocketAddr) {
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(greet).expect("a free port");
    let address = tcp(&server);
    (server, address)
}

/// An address of 127/8 at which nobody answers: a listener whose queue is full.
struct BlackHole {
    address: SocketAddr,
    _queue: Vec<Socket>,
    _listener: Socket,
}

impl BlackHole {
    fn new() -> BlackHole {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        listener.listen(0).expect("it is bound");
        let address = listener.local_addr().expect("it is bound");
        // Whoever comes while it is full is not answered; how many it takes until then is the kernel's affair.
        let mut queue = Vec::new();
        for _ in 0..8 {
            let caller = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            let is_in = caller.connect_timeout(&address, Duration::from_millis(200)).is_ok();
            queue.push(caller);
            if !is_in {
                break;
            }
        }
        let address = address.as_socket().expect("an IP address");
        BlackHole { address, _queue: queue, _listener: listener }
    }
}

/// An address that refuses: a socket has it, and does not listen.
fn refusing() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    let address = socket.local_addr().expect("it is bound").as_socket().expect("an IP address");
    (socket, address)
}

/// A name that has these addresses.
fn named(addresses: Vec<SocketAddr>) -> Dial {
    let dial = Dial::to("somewhere.test:1").expect("a name").deadline(LONG);
    dial.resolver(move |_, _| std::future::ready(Ok(addresses.clone())))
}

async fn is_greeted(mut stream: Stream) -> SocketAddr {
    let mut text = [0; 2];
    stream.read_exact(&mut text).await.expect("a greeting");
    assert_eq!(&text, b"hi");
    stream.peer_addr().await.expect("an address").tcp().expect("an IP address")
}

#[test]
fn whatever_says_where_to_is_connected_to() {
    let (server, address) = greeting();
    let here = idle();
    on(&here, async move || {
        let from: Address = "127.0.0.2:0".parse().expect("an address");
        for stream in [
            connect(address).await,
            connect(Address::from(address)).await,
            connect(&*address.to_string()).await,
            connect(("localhost", address.port())).await,
            connect(Connect::to(address).deadline(LONG).from(from.clone())).await,
            connect(Dial::to(&address.to_string()).expect("an address").from_address(from)).await,
        ] {
            assert_eq!(is_greeted(stream.expect("it listens")).await, address);
        }
    });
    nothing_held(&server);
    let_go_of_all(&here);
}

#[test]
fn a_unix_socket_is_connected_to_by_its_path() {
    let folder = std::env::temp_dir().join(format!("campanile-connect-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = format!("unix:{}", folder.join("socket").display());
    let server = Server::new().listen(&*path).workers(1).serve(greet).expect("a free path");
    let here = idle();
    on(&here, async move || {
        let mut stream = connect(&path).await.expect("it listens");
        stream.read_exact(&mut [0; 2]).await.expect("a greeting");
    });
    drop(server);
    std::fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn the_next_address_has_its_turn_at_once_when_one_fails() {
    let (_server, address) = greeting();
    let here = idle();
    let (_socket, refusing) = refusing();
    // Refused there, too, or unreachable where there is no IPv6.
    let other = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], refusing.port()));
    on(&here, async move || {
        let stream = named(vec![other, refusing, refusing, address]).open().await.expect("one that listens");
        assert_eq!(is_greeted(stream).await, address);
    });
    let_go_of_all(&here);
}

#[test]
fn who_does_not_answer_is_passed_over_and_nothing_is_left_of_the_attempt() {
    let (_server, address) = greeting();
    let hole = BlackHole::new();
    let here = idle();
    let (silent, began) = (hole.address, Instant::now());
    on(&here, async move || {
        let stream = named(vec![silent, silent, address]).open().await.expect("one that answers");
        assert_eq!(is_greeted(stream).await, address);
    });
    // Two have had their head start. The attempts would go on for a minute, but were given up.
    assert!(began.elapsed() >= Duration::from_millis(500));
    until("all attempts are given up", || counted(&here).connections == 0);
    assert!(began.elapsed() < LONG);
    // So is one whose future is dropped.
    on(&here, async move || {
        timeout(Duration::from_millis(20), connect(silent)).await.expect_err("nobody answers");
    });
    until("it is given up", || counted(&here).connections == 0);
}

#[test]
fn one_deadline_is_over_all_of_it() {
    let hole = BlackHole::new();
    let here = idle();
    let silent = hole.address;
    let short = Duration::from_millis(300);
    on(&here, async move || {
        let error = named(vec![silent, silent]).deadline(short).open().await.expect_err("nobody answers");
        assert!(matches!(error, DialError::Connect(ConnectError::TimedOut(_))), "{error}");
        let never = Dial::to("somewhere.test:1").expect("a name").deadline(short);
        let never = never.resolver(|_, _| std::future::pending());
        let error = never.open().await.expect_err("nobody answers");
        assert!(error.to_string().contains("somewhere.test was not looked up within 300ms"), "{error}");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);
    });
    let_go_of_all(&here);
}

#[test]
fn errors_say_what_and_what_to_do() {
    let hole = BlackHole::new();
    let here = idle();
    let silent = hole.address;
    let (_socket, refusing) = refusing();
    on(&here, async move || {
        let short = Duration::from_millis(600);
        let error = named(vec![refusing, silent]).deadline(short).open().await.expect_err("none answers");
        assert!(
            matches!(&error, DialError::Connect(ConnectError::Refused(to)) if *to == refusing.into()),
            "{error}"
        );
        let unknown = named(Vec::new())
            .resolver(|_, _| std::future::ready(Err(io::Error::other("Name or service not known"))));
        let error = unknown.open().await.expect_err("no such name").to_string();
        assert!(
            error.contains("Name or service not known") && error.contains("getent ahosts somewhere.test")
        );
        let v6: Address = "[::1]:0".parse().expect("an address");
        let error = named(vec![refusing]).from_address(v6).open().await.expect_err("of the other family");
        assert!(matches!(error, DialError::NoAddress { .. }), "{error}");
        let error = connect("localhost").await.expect_err("no port");
        assert!(error.to_string().contains("write NAME:PORT"), "{error}");
    });
    let_go_of_all(&here);
}

#[test]
fn localhost_is_looked_up_as_the_machine_does() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let here = idle();
    on(&here, async move || connect(format!("localhost:{}", address.port()).as_str()).await.map(drop))
        .expect("it listens");
    let (_caller, _): (TcpStream, _) = listener.accept().expect("it has come");
}

#[test]
fn a_server_does_not_listen_on_a_name() {
    let error = Server::new().listen("localhost:0").serve(greet).expect_err("a name");
    assert!(error.to_string().contains("IP:PORT"), "{error}");
}
