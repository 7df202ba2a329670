//! Listeners that were there before the server: served by every worker, whatever they are.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;
use std::time::Duration;

use campanile_core::{Address, Flow, Inherited, Input, Output, Server, ServerHandle};
use support::{LONG, client, counted, round, tcp, until};

fn inherited(listener: TcpListener) -> Inherited {
    Inherited::socket(listener).expect("it listens")
}

/// A listener as anybody may have left it: it does not wait, and has a queue of its own length.
fn listener(at: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(at).expect("a free port of loopback");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

fn ended(server: ServerHandle) {
    server.drain();
    assert_eq!(server.wait().map_err(|error| error.to_string()), Ok(()));
}

#[test]
fn a_listener_is_shared_by_all_workers_and_stays_when_they_go() {
    let (listener, to) = listener("127.0.0.1:0");
    for workers in [1, 3] {
        let listener = listener.try_clone().expect("a descriptor is left");
        let server = Server::new().workers(workers).inherit(inherited(listener)).serve(|| support::echo);
        let server = server.expect("no address is needed");
        assert_eq!(server.addresses(), [Address::from(to)]);
        let mut clients: Vec<_> = (0..50).map(|_| client(to)).collect();
        for client in &mut clients {
            round(client, b"hello").expect("an echo");
        }
        let armed = server.counters().iter().filter(|counters| counters.accepts_armed > 0).count();
        assert_eq!(armed, workers);
        let turns = counted(&server).turns;
        std::thread::sleep(Duration::from_millis(50));
        assert!(counted(&server).turns < turns + 100, "an accept that does not wait would spin");
        drop(clients);
        ended(server);
    }
    drop(client(to));
}

#[test]
fn addresses_that_are_named_are_the_first_and_the_others_come_behind() {
    let ((first, at_first), (second, at_second)) = (listener("127.0.0.1:0"), listener("127.0.0.2:0"));
    let mut all = inherited(second);
    assert!(all.named("web").is_empty(), "they have no name");
    let server = Server::new().listen("127.0.0.3:0").listen(at_first).inherit(all).inherit(inherited(first));
    let server = server.workers(2).serve_with(
        |_| (),
        |(), listener| {
            move |input: &mut Input<'_>, output: &mut Output<'_>| {
                input.consume_all();
                output.write(&[b'0' + listener.index() as u8]).expect("room");
                Flow::More(1)
            }
        },
    );
    let server = server.expect("nobody has them but we");
    assert_eq!(server.addresses()[1..], [at_first, at_second].map(Address::from));
    for (number, address) in server.addresses().iter().enumerate() {
        let answer = round(&mut client(address.tcp().expect("all are")), b"?").expect("an answer");
        assert_eq!(answer, [b'0' + number as u8]);
    }
    ended(server);
}

#[test]
fn the_file_of_a_unix_socket_is_left_to_who_made_it() {
    let path = std::env::temp_dir().join(format!("campanile-inherited-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).expect("a folder for everybody");
    let server = Server::new().workers(2).inherit(Inherited::socket(listener).expect("it listens"));
    let server = server.serve(|| support::echo).expect("it is served");
    let mut client = UnixStream::connect(&path).expect("it listens");
    client.set_read_timeout(Some(LONG)).expect("any time but zero");
    assert_eq!(round(&mut client, b"hello").expect("an echo"), b"hello");
    drop(client);
    ended(server);
    assert!(path.exists());
    std::fs::remove_file(&path).expect("it is ours");
}

#[test]
fn a_stopper_knows_how_a_server_is() {
    let (enter, entered) = mpsc::channel::<()>();
    let (leave, left) = mpsc::channel::<()>();
    let left = std::sync::Mutex::new(left);
    let stuck = std::sync::Arc::new(left);
    let server = Server::new().listen("127.0.0.1:0").workers(2).serve(move || {
        let (enter, stuck) = (enter.clone(), stuck.clone());
        move |input: &mut Input<'_>, _: &mut Output<'_>| {
            input.consume_all();
            enter.send(()).expect("the test waits");
            // What no service should do: its worker is stuck meanwhile.
            let _ = stuck.lock().expect("no panic").recv();
            Flow::Finish
        }
    });
    let server = server.expect("a free port of loopback");
    let stopper = server.stopper();
    assert!(stopper.answers(LONG));
    let mut client = client(tcp(&server));
    client.write_all(b"x").expect("room in the socket");
    entered.recv().expect("it is called");
    assert!(!stopper.answers(Duration::from_millis(50)));
    drop(leave);
    until("it answers again", || stopper.answers(Duration::from_millis(50)));
    assert!(!stopper.is_draining() && !server.is_draining());
    server.drain();
    assert!(stopper.is_draining() && server.is_draining());
    drop(client);
    server.wait().expect("it ends");
    assert!(stopper.answers(LONG), "nobody is stuck");
}

/// An answer that is cut by a stop does not end as one that is whole.
#[test]
fn what_is_unsent_when_the_server_stops_is_seen_to_be_cut() {
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(|| {
        |input: &mut Input<'_>, output: &mut Output<'_>| {
            input.consume_all();
            output.send(vec![7; 32 << 20].into()).expect("nothing was handed over before");
            Flow::Finish
        }
    });
    let server = server.expect("a free port of loopback");
    let mut slow = client(tcp(&server));
    slow.write_all(b"x").expect("room in the socket");
    slow.read_exact(&mut [0; 1]).expect("the answer begins");
    server.stop();
    let error = slow.read_to_end(&mut Vec::new()).expect_err("a reset, not an end");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    server.wait().expect("it ends");
}
