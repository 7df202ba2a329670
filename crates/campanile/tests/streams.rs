//! Streams with lines and frames, and tasks elsewhere, over the kernel.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use campanile::{
    ByteOrder, JoinError, LengthDelimited, LengthWidth, Server, ServerHandle, Stream, connect, relay,
    spawn_blocking, this_worker,
};

fn client(server: &ServerHandle) -> TcpStream {
    let address = server.addresses()[0].tcp().expect("an IP address");
    let client = TcpStream::connect(address).expect("it listens");
    client.set_read_timeout(Some(std::time::Duration::from_secs(60))).expect("a socket");
    client
}

#[test]
fn lines_are_read_whatever_they_come_in() {
    let shout = async |mut stream: Stream| -> std::io::Result<()> {
        while let Some(line) = stream.read_line(16).await? {
            stream.write_line(line.to_ascii_uppercase()).await?;
        }
        Ok(())
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(shout).expect("a free port");
    let mut client = client(&server);
    for piece in ["one\ntw", "o\r\n", "\nlast"] {
        client.write_all(piece.as_bytes()).expect("it reads");
    }
    client.shutdown(std::net::Shutdown::Write).expect("a socket");
    let mut text = String::new();
    client.read_to_string(&mut text).expect("answers");
    assert_eq!(text, "ONE\nTWO\n\nLAST\n");
}

#[test]
fn a_line_that_is_too_long_ends_the_connection() {
    let shout = async |mut stream: Stream| -> std::io::Result<()> {
        while stream.read_line(4).await?.is_some() {}
        Ok(())
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(shout).expect("a free port");
    let mut client = client(&server);
    client.write_all(b"too long\n").expect("it reads");
    assert!(client.read(&mut [0]).is_err(), "a reset");
}

#[test]
fn frames_are_read_and_written() {
    let echo = async |mut stream: Stream| -> std::io::Result<()> {
        let mut codec = LengthDelimited::new(LengthWidth::Four, ByteOrder::BigEndian, 1 << 20);
        while let Some(frame) = stream.frame(&mut codec).await? {
            stream.write_frame(&mut codec, &frame[..]).await?;
        }
        Ok(())
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(echo).expect("a free port");
    let mut client = client(&server);
    for len in [0usize, 1, 70_000] {
        let mut sent = (len as u32).to_be_bytes().to_vec();
        sent.extend((0..len).map(|n| n as u8));
        client.write_all(&sent).expect("it reads");
        let mut got = vec![0; sent.len()];
        client.read_exact(&mut got).expect("an echo");
        assert!(got == sent);
    }
}

/// Two workers, a thread that may block, and a thread that is nobody's.
#[test]
fn tasks_run_elsewhere() {
    let tell = async |mut stream: Stream| -> std::io::Result<()> {
        let here = this_worker();
        assert!(here.is_here());
        let length = spawn_blocking(move || {
            let there = std::thread::current().name().map(str::to_owned);
            here.spawn(async move || there.map_or(0, |name| name.len())).wait().expect("it runs")
        });
        let length = length.await.expect("no panic");
        let panicked = spawn_blocking(|| panic!("on purpose")).await;
        assert!(matches!(panicked, Err(JoinError::Panicked(_))));
        stream.write_line(if length > 0 { "named" } else { "unnamed" }).await
    };
    let server = Server::new().listen("127.0.0.1:0").workers(2).serve(tell).expect("a free port");
    let mut line = String::new();
    BufReader::new(client(&server)).read_line(&mut line).expect("an answer");
    assert!(line.ends_with("named\n"), "{line}");
    let workers = server.workers();
    assert!(!workers[0].is_here());
    let names: Vec<String> = workers
        .iter()
        .map(|worker| worker.spawn(async || std::thread::current().name().map(str::to_owned)))
        .map(|name| name.wait().expect("it runs").expect("workers are named"))
        .collect();
    assert_eq!(names, ["campanile-0", "campanile-1"]);
    drop(server);
    assert_eq!(workers[0].spawn(async || ()).wait(), Err(JoinError::Cancelled));
}

/// Either side may end first; a reset on one side is one on the other.
#[test]
fn a_relay_passes_ends_on_as_ends_and_cuts_as_cuts() {
    let upstream = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let to = upstream.local_addr().expect("a socket");
    let pass = async move |stream: Stream| -> std::io::Result<()> {
        relay(stream, connect(to).await.map_err(std::io::Error::other)?).await
    };
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(pass).expect("a free port");
    let pair = || {
        let near = client(&server);
        let (far, _) = upstream.accept().expect("the relay connects");
        (near, far)
    };
    let (mut near, mut far) = pair();
    let (mut asked, mut answered) = (String::new(), String::new());
    near.write_all(b"ask").expect("it reads");
    near.shutdown(std::net::Shutdown::Write).expect("a socket");
    far.read_to_string(&mut asked).expect("the end comes");
    far.write_all(b"answer").expect("it reads");
    drop(far);
    near.read_to_string(&mut answered).expect("the end comes");
    assert_eq!((&asked[..], &answered[..]), ("ask", "answer"));

    let (near, mut far) = pair();
    (&near).write_all(b"half").expect("it reads");
    far.read_exact(&mut [0; 4]).expect("it is passed on");
    socket2::SockRef::from(&near).set_linger(Some(std::time::Duration::ZERO)).expect("a socket");
    drop(near);
    assert!(far.read(&mut [0]).is_err(), "a reset");

    // A drain is nobody's end.
    let (mut near, mut far) = pair();
    near.write_all(b"half").expect("it reads");
    far.read_exact(&mut [0; 4]).expect("it is passed on");
    server.drain();
    near.write_all(b"rest").expect("it reads");
    drop(near);
    let mut rest = String::new();
    far.read_to_string(&mut rest).expect("the end comes");
    assert_eq!(rest, "rest");
    drop(far);
    server.wait().expect("it ends well");
}
