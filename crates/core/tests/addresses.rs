//! The limit per address: who has too many connections is closed at once, and nobody else is.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

use campanile_core::{Config, Server, ServerHandle};
use socket2::{Domain, Socket, Type};

use support::{LONG, client, counted, echo, nothing_held, round, tcp, until};

fn start(address: &str, config: Config) -> ServerHandle {
    let server = Server::new().listen(address).workers(1).config(config).serve(|| echo);
    server.expect("a free port of loopback")
}

/// A client at an address of its own.
fn client_at(from: SocketAddr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(from), Type::STREAM, None).expect("a socket");
    socket.bind(&from.into()).expect("loopback has it");
    socket.connect(&to.into()).expect("the server listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LONG)).expect("any time but zero");
    stream
}

/// Whether it was closed without an answer, be it by an end or by a reset.
fn is_turned_away(mut stream: TcpStream) -> bool {
    let _ = stream.write_all(b"x");
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(n) => n == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn an_address_has_so_many_connections_and_no_more() {
    for direct_descriptors in [true, false] {
        let config = Config { connections_per_address: Some(3), direct_descriptors, ..Config::default() };
        for (listen, neighbour) in [("127.0.0.1:0", Some("127.0.0.2:0")), ("[::1]:0", None)] {
            let server = start(listen, config.clone());
            let mut guests: Vec<_> = (0..3).map(|_| client(tcp(&server))).collect();
            for guest in &mut guests {
                assert_eq!(round(guest, b"hello").expect("an echo"), b"hello");
            }
            assert!((0..5).all(|_| is_turned_away(client(tcp(&server)))));
            assert_eq!(counted(&server).turned_away, 5);
            if let Some(neighbour) = neighbour {
                let mut other = client_at(neighbour.parse().expect("an address"), tcp(&server));
                assert_eq!(round(&mut other, b"hello").expect("an echo"), b"hello");
            }
            // Those who were there are not disturbed, and who leaves makes room.
            assert_eq!(round(&mut guests[0], b"again").expect("an echo"), b"again");
            drop(guests.pop());
            until("there is a place", || round(&mut client(tcp(&server)), b"y").is_ok());
            drop(guests);
            nothing_held(&server);
        }
    }
}

#[test]
fn unix_clients_are_not_counted_and_nobody_is_without_a_limit() {
    let path = std::env::temp_dir().join(format!("campanile-addresses-{}.sock", std::process::id()));
    let limited = Config { connections_per_address: Some(1), ..Config::default() };
    let server = start(&format!("unix:{}", path.display()), limited.clone());
    let connect = |_| UnixStream::connect(&path).expect("the server listens");
    let mut clients: Vec<_> = (0..10).map(connect).collect();
    clients.iter_mut().for_each(|client| assert_eq!(round(client, b"hello").expect("an echo"), b"hello"));
    drop(clients);
    nothing_held(&server);

    let server = start("127.0.0.1:0", Config::default());
    let mut clients: Vec<_> = (0..10).map(|_| client(tcp(&server))).collect();
    clients.iter_mut().for_each(|client| assert_eq!(round(client, b"hello").expect("an echo"), b"hello"));

    let none = Config { connections_per_address: Some(0), ..Config::default() };
    let refused = Server::new().listen("127.0.0.1:0").config(none).serve(|| echo);
    let refused = refused.expect_err("a server for nobody");
    assert!(refused.to_string().contains("connections_per_address"), "{refused}");
}
