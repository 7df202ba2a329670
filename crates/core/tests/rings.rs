//! Rings: the same exchanges on io_uring, on epoll, and without each feature that older kernels do not have.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use campanile_core::{
    Answer, Bytes, Config, Connect, Context, Event, Feature, Flow, OpenFile, RingKind, Server, ServerHandle,
};
use support::{Told, client, counted, keyed, round, tcp};

/// Longer than what a socket holds.
const LARGE: usize = 12 << 20;

/// What the first byte of a connection asks for.
fn serve(ring: RingKind, without: &[Feature], file: PathBuf) -> ServerHandle {
    let mut large = vec![0; LARGE];
    keyed::fill(7, 0, &mut large);
    let large = Bytes::from(large);
    let config = Config { receive_buffers: 16, ..Config::default() };
    let server = Server::new().listen("127.0.0.1:0").workers(1).config(config).ring(ring);
    let server = server.without(without.iter().copied()).serve(move || {
        let (large, file) = (large.clone(), file.clone());
        Told(move |event, cx: &mut Context<'_>| first(&event, cx, &large, &file))
    });
    server.expect("it can do without")
}

fn first(event: &Event, cx: &mut Context<'_>, large: &Bytes, file: &PathBuf) -> Flow {
    match cx.input.first() {
        _ if matches!(event, Event::Closed(_)) => Flow::Close,
        None => Flow::More(1),
        Some(b'e') => Flow::Become(Box::new(support::echo)),
        Some(b'l') => {
            cx.input.consume(1);
            match cx.output.send(large.clone()) {
                Ok(()) => Flow::Finish,
                Err(_) => Flow::Abort,
            }
        }
        Some(b'f') => {
            cx.input.consume(1);
            cx.open_file(OpenFile::at(file));
            Flow::Become(Box::new(Told(reads)))
        }
        Some(b'c') => {
            cx.input.consume(1);
            let port = cx.input.len();
            if port < 2 { Flow::More(2) } else { connects(cx) }
        }
        Some(_) => Flow::Abort,
    }
}

/// Sends what is in a file.
fn reads(event: Event, cx: &mut Context<'_>) -> Flow {
    match event {
        Event::Answer(_, Answer::Opened(Ok(file))) => {
            cx.read_file(&file, 0, 5_000);
            Flow::Wait
        }
        Event::Answer(_, Answer::Read(Ok(bytes))) => match cx.output.send(bytes) {
            Ok(()) => Flow::Finish,
            Err(_) => Flow::Abort,
        },
        Event::Answer(..) => Flow::Abort,
        _ => Flow::Wait,
    }
}

/// Connects to the port that the input names, and tells whether that worked.
fn connects(cx: &mut Context<'_>) -> Flow {
    let port = cx.input.consume(2);
    let to = SocketAddr::from(([127, 0, 0, 1], u16::from_be_bytes([port[0], port[1]])));
    let silent = Told(|event: Event, cx: &mut Context<'_>| match event {
        Event::Open => {
            cx.output.write(b"e hello").expect("there is room");
            Flow::Finish
        }
        _ => Flow::Finish,
    });
    cx.connect(Connect::to(to), silent);
    Flow::Become(Box::new(Told(|event: Event, cx: &mut Context<'_>| match event {
        Event::Answer(_, Answer::Connected(result)) => {
            cx.output.write(if result.is_ok() { b"yes" } else { b"no " }).expect("there is room");
            Flow::Finish
        }
        _ => Flow::Wait,
    })))
}

fn ask(to: SocketAddr, question: &[u8]) -> TcpStream {
    let mut stream = client(to);
    stream.write_all(question).expect("the kernel has room");
    stream
}

fn answer(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an orderly end");
    answer
}

fn exchanges(server: &ServerHandle, file: &[u8]) {
    let to = tcp(server);
    // Reads nothing for a while: the send has to wait for room, and so do those who come later.
    let slow = ask(to, b"l");
    // More at a time than all receive buffers hold.
    let mut echoes: Vec<_> = (0..40).map(|_| ask(to, b"e")).collect();
    let mut message = vec![0; 20_000];
    for turn in 0..5 {
        for (key, echo) in (0..).zip(&mut echoes) {
            keyed::fill(key, turn * 20_000, &mut message);
            echo.write_all(&message).expect("the kernel has room");
        }
        for (key, echo) in (0..).zip(&mut echoes) {
            keyed::fill(key, turn * 20_000, &mut message);
            let mut came = vec![0; message.len() + usize::from(turn == 0)];
            echo.read_exact(&mut came).expect("an echo");
            assert!(came[usize::from(turn == 0)..] == message, "echo {key} in turn {turn}");
        }
    }
    assert_eq!(answer(ask(to, b"f")), file);
    let port = to.port().to_be_bytes();
    assert_eq!(answer(ask(to, &[b'c', port[0], port[1]])), b"yes");
    assert_eq!(answer(ask(to, &[b'c', 0, 1])), b"no ");
    let mut reset = ask(to, b"?");
    // A reset where it can be told so, an end otherwise: and nothing of an answer.
    assert!(!matches!(reset.read(&mut [0; 10]), Ok(1..)));
    let large = answer(slow);
    assert_eq!((large.len(), keyed::differs(7, 0, &large)), (LARGE, None));
    drop(echoes);
    support::until("every connection is over and every buffer home", || {
        let now = counted(server);
        (now.connections, now.carried_bytes, now.unsent_bytes, now.send_buffers) == (0, 0, 0, 0)
    });
    assert_eq!(counted(server).nonsense, 0);
    assert_eq!(round(&mut ask(to, b""), b"e still there").expect("an echo"), b"e still there");
}

#[test]
fn every_ring_and_every_downgrade_serves() {
    let path = std::env::temp_dir().join(format!("campanile-rings-{}", std::process::id()));
    let mut file = vec![0; 5_000];
    keyed::fill(9, 0, &mut file);
    std::fs::write(&path, &file).expect("a writable place");
    let every: Vec<&[Feature]> = Feature::ALL.iter().map(std::slice::from_ref).collect();
    let sets = [&[][..], &Feature::ALL[..]].into_iter().chain(every);
    let sets: Vec<&[Feature]> = sets.chain([&[Feature::Bundle, Feature::Budget][..]]).collect();
    let cases = [RingKind::Uring, RingKind::Poll]
        .into_iter()
        .flat_map(|ring| sets.iter().map(move |set| (ring, *set)));
    for (ring, without) in cases {
        let server = serve(ring, without, path.clone());
        eprintln!("{} without {without:?}", server.ring());
        assert_eq!(server.ring(), ring);
        let can = server.capabilities();
        for feature in without {
            assert!(
                !match feature {
                    Feature::DeferTaskrun => can.defer_taskrun,
                    Feature::NoSqarray => can.no_sqarray,
                    Feature::Bundle => can.bundle,
                    Feature::Budget => can.budget,
                    Feature::Direct => can.direct || can.install,
                    Feature::SetOption => can.set_option,
                    Feature::BindListen => can.bind_listen,
                    _ => false,
                },
                "{feature:?}: {can}"
            );
        }
        exchanges(&server, &file);
    }
    std::fs::remove_file(&path).expect("ours");
}

/// A server that drains on either ring serves who waits, and ends.
#[test]
fn every_ring_drains() {
    for ring in [RingKind::Uring, RingKind::Poll] {
        let service = Arc::new(|| support::echo);
        let server = Server::new().listen("127.0.0.1:0").workers(2).ring(ring);
        let server = server.serve(move || service()).expect("either ring can be had here");
        let mut clients: Vec<_> = (0..10).map(|_| client(tcp(&server))).collect();
        for client in &mut clients {
            assert_eq!(round(client, b"hello").expect("an echo"), b"hello");
        }
        drop(clients);
        server.drain();
        server.wait().expect("an orderly end");
    }
}
