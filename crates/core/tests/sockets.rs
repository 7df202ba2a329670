//! Sockets and files: Unix sockets, several listeners and workers, addresses, outgoing connections and how they fail,
//! and what may be read.

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use campanile_core::{
    Address, Answer, Bytes, Config, Connect, ConnectError, Context, Event, Flow, ListenerId, OpenFile,
    Reason, Server, ServerHandle, Service,
};
use support::{Told, client, counted, keyed, nothing_held, round, tcp};

/// A directory that goes with the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("campanile-sockets-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a writable place");
        Place(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A directory left behind is no failure.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn unix_client(path: &PathBuf) -> UnixStream {
    let stream = UnixStream::connect(path).expect("the server listens");
    stream.set_read_timeout(Some(support::LONG)).expect("any time but zero");
    stream
}

#[test]
fn unix_sockets_are_shared_by_workers() {
    let place = Place::new();
    let path = place.at("echo.sock");
    for direct_descriptors in [true, false] {
        let config = Config { direct_descriptors, ..Config::default() };
        // The second time, and the first if something died here before, the name is taken by nobody.
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a free name"));
        assert!(path.exists(), "a listener that was dropped leaves its name");
        let server = Server::new().listen(Address::unix(&path)).workers(3).config(config);
        let server = server.serve(|| support::echo).expect("a name that nobody listens on is taken over");
        assert_eq!(server.addresses(), [Address::unix(&path)]);

        let mut clients: Vec<_> = (0..60).map(|_| unix_client(&path)).collect();
        for (key, client) in clients.iter_mut().enumerate() {
            let mut message = vec![0; 20_000];
            keyed::fill(key as u64, 0, &mut message);
            assert!(round(client, &message).expect("an echo") == message);
        }
        // Half-closed, they get the rest, and the end.
        for client in &mut clients {
            client.write_all(b"last").expect("room in the socket");
            client.shutdown(Shutdown::Write).expect("it is open");
            let mut last = Vec::new();
            client.read_to_end(&mut last).expect("an end");
            assert_eq!(last, b"last");
        }
        nothing_held(&server);
        drop(server);
        assert!(!path.exists(), "a server that stops takes its name with it");
    }
}

#[test]
fn unix_clients_that_vanish_are_no_trouble() {
    let place = Place::new();
    let path = place.at("echo.sock");
    let server = Server::new().listen(Address::unix(&path)).workers(2).serve(|| support::echo);
    let server = server.expect("a free name");
    for turn in 0..200 {
        let mut client = unix_client(&path);
        if turn % 2 == 0 {
            client.write_all(&[1; 50_000]).expect("room in the socket");
        }
    }
    nothing_held(&server);
}

/// Each service knows the listener that its connection came by, and the worker that it is on.
#[test]
fn several_listeners_and_workers() {
    let place = Place::new();
    let path = place.at("third.sock");
    let server = Server::new()
        .listen("127.0.0.1:0")
        .listen("[::1]:0")
        .listen(Address::unix(&path))
        .workers(2)
        .serve_with(
            |worker| worker.index() as u8,
            |worker, listener: ListenerId| {
                let answer = [*worker, listener.index() as u8];
                Told(move |event, cx: &mut Context<'_>| {
                    if let Event::Open = event {
                        cx.output.write(&answer).expect("there is room at the beginning");
                        return Flow::Close;
                    }
                    Flow::Wait
                })
            },
        )
        .expect("free ports of loopback");
    let ports: Vec<SocketAddr> = server.addresses().iter().filter_map(Address::tcp).collect();
    assert!(ports.len() == 2 && ports.iter().all(|address| address.port() != 0), "{ports:?}");
    let mut seen = BTreeSet::new();
    let mut ask = |stream: &mut dyn Read, listener: u8| {
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).expect("worker and listener");
        assert_eq!(answer[1], listener);
        seen.insert((answer[0], listener));
    };
    for _ in 0..100 {
        ask(&mut client(ports[0]), 0);
        ask(&mut client(ports[1]), 1);
    }
    // Who takes a Unix connection is whoever is quick; the kernel spreads those of TCP by their ports.
    ask(&mut unix_client(&path), 2);
    let workers = |listener| seen.iter().filter(|(_, of)| *of == listener).count();
    assert_eq!((workers(0), workers(1)), (2, 2), "both workers accept: {seen:?}");
    let accepted: Vec<u64> = server.counters().iter().map(|worker| worker.accepted).collect();
    assert_eq!(accepted.iter().sum::<u64>(), 201, "{accepted:?}");
}

/// Answers with the two addresses, and asks a second time for what is known by then.
fn tell_addresses() -> impl Service {
    Told(|event, cx: &mut Context<'_>| {
        if let Event::Open = event {
            let mut text = String::new();
            for _ in 0..2 {
                let (peer, local) = (cx.peer_addr(), cx.local_addr());
                text += &format!("{} {}\n", peer.expect("it is connected"), local.expect("it is open"));
            }
            cx.output.write(text.as_bytes()).expect("there is room at the beginning");
            return Flow::Finish;
        }
        Flow::Wait
    })
}

#[test]
fn services_learn_the_addresses() {
    let place = Place::new();
    let path = place.at("who.sock");
    for direct_descriptors in [true, false] {
        let config = Config { direct_descriptors, ..Config::default() };
        let server = Server::new().listen("0.0.0.0:0").listen("[::1]:0").listen(Address::unix(&path));
        let server = server.workers(1).config(config).serve(tell_addresses).expect("free ports");
        let told = |stream: &mut dyn Read| {
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("an end");
            text
        };
        for address in server.addresses().iter().filter_map(Address::tcp) {
            let ip = if address.is_ipv4() { [127, 0, 0, 1].into() } else { address.ip() };
            let mut stream = client(SocketAddr::new(ip, address.port()));
            let (ours, its) = (stream.local_addr().expect("open"), stream.peer_addr().expect("open"));
            assert_eq!(told(&mut stream), format!("{ours} {its}\n").repeat(2));
        }
        let local = format!("unix:{}", path.display());
        assert_eq!(told(&mut unix_client(&path)), format!("unix: {local}\n").repeat(2));
        nothing_held(&server);
    }
}

/// What came of connecting, as the asker and the service of the new connection were told.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Asker(Result<(), ConnectError>),
    Opened,
    Closed(Reason),
}

/// A server whose services connect as `to` says, once they hear something; and what came of it.
fn connecting(
    config: Config,
    to: impl Fn() -> Connect + Send + Sync + 'static,
) -> (ServerHandle, mpsc::Receiver<Came>) {
    let (report, reports) = mpsc::channel();
    let to = Arc::new(to);
    let server = Server::new().listen("127.0.0.1:0").workers(1).config(config).serve(move || {
        let (report, to) = (report.clone(), Arc::clone(&to));
        let mut asked = None;
        Told(move |event, cx: &mut Context<'_>| {
            match event {
                Event::Input => {
                    cx.input.consume_all();
                    let report = report.clone();
                    asked = Some(cx.connect(
                        to(),
                        Told(move |event, cx: &mut Context<'_>| {
                            match event {
                                Event::Open => {
                                    report.send(Came::Opened).expect("the test waits");
                                    cx.output.write(b"hello").expect("there is room at the beginning");
                                }
                                Event::Input => {
                                    assert_eq!(&cx.input[..], b"hello");
                                    return Flow::Finish;
                                }
                                Event::Closed(reason) => {
                                    report.send(Came::Closed(reason)).expect("the test waits");
                                }
                                _ => {}
                            }
                            Flow::More(5)
                        }),
                    ));
                }
                Event::Answer(ticket, Answer::Connected(result)) => {
                    assert_eq!(Some(ticket), asked);
                    report.send(Came::Asker(result.map(|_| ()))).expect("the test waits");
                    cx.output.write(b"!").expect("there is room");
                }
                _ => {}
            }
            Flow::More(1)
        })
    });
    (server.expect("a free port of loopback"), reports)
}

/// Asks once, and waits for `count` reports.
fn connect_once(server: &ServerHandle, reports: &mpsc::Receiver<Came>, count: usize) -> Vec<Came> {
    let mut client = client(tcp(server));
    assert_eq!(round(&mut client, b"?").expect("the asker is told"), b"!");
    drop(client);
    (0..count).map(|_| reports.recv_timeout(support::LONG).expect("a report")).collect()
}

#[test]
fn connecting_out() {
    let place = Place::new();
    let path = place.at("target.sock");
    let target =
        Server::new().listen("127.0.0.1:0").listen("[::1]:0").listen(Address::unix(&path)).workers(1);
    let target = target.serve(|| support::echo).expect("free ports of loopback");
    for direct_descriptors in [true, false] {
        for address in target.addresses() {
            let config = Config { direct_descriptors, ..Config::default() };
            let to = address.clone();
            let (server, reports) = connecting(config, move || Connect::to(to.clone()));
            for _ in 0..20 {
                let came = connect_once(&server, &reports, 3);
                let place = |what: &Came| came.iter().position(|told| told == what);
                let opened = place(&Came::Opened).expect("it was opened");
                let closed = place(&Came::Closed(Reason::Finished)).expect("it finished");
                assert!(opened < closed && came.contains(&Came::Asker(Ok(()))), "{came:?}");
            }
            nothing_held_but_connections(&server);
        }
    }
}

/// Outgoing connections close too, but were never accepted.
fn nothing_held_but_connections(server: &ServerHandle) {
    support::until("every connection is over", || {
        let now = counted(server);
        (now.connections, now.carried_bytes, now.unsent_bytes, now.send_buffers) == (0, 0, 0, 0)
    });
    assert_eq!(counted(server).nonsense, 0);
}

#[test]
fn connecting_from_an_address() {
    let target = TcpListener::bind("127.0.0.1:0").expect("a free port of loopback");
    let to = target.local_addr().expect("bound");
    let from = SocketAddr::from(([127, 0, 0, 77], 0));
    for direct_descriptors in [true, false] {
        let config = Config { direct_descriptors, ..Config::default() };
        let (server, reports) = connecting(config, move || Connect::to(to).from(from));
        let mut asker = client(tcp(&server));
        assert_eq!(round(&mut asker, b"?").expect("the asker is told"), b"!");
        let (mut accepted, peer) = target.accept().expect("it is connected");
        assert_eq!(peer.ip(), from.ip());
        let mut heard = [0; 5];
        accepted.read_exact(&mut heard).expect("its greeting");
        accepted.write_all(&heard).expect("room in the socket");
        drop((accepted, asker));
        assert!((0..3).all(|_| reports.recv_timeout(support::LONG).is_ok()));
        nothing_held_but_connections(&server);
    }
}

/// Both are told: who asked, and the service that was to run there.
fn fails(server: &ServerHandle, reports: &mpsc::Receiver<Came>, error: &ConnectError) {
    for _ in 0..5 {
        let came = connect_once(server, reports, 2);
        let told = [Came::Closed(Reason::NotConnected), Came::Asker(Err(error.clone()))];
        assert!(told.iter().all(|told| came.contains(told)), "{came:?}");
    }
    nothing_held_but_connections(server);
}

#[test]
fn connecting_where_nobody_listens() {
    let place = Place::new();
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    let dead = place.at("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).expect("a free name"));
    for to in [free.into(), Address::unix(place.at("missing.sock")), Address::unix(dead)] {
        for direct_descriptors in [true, false] {
            let config = Config { direct_descriptors, ..Config::default() };
            let asked = to.clone();
            let (server, reports) = connecting(config, move || Connect::to(asked.clone()));
            fails(&server, &reports, &ConnectError::Refused(to.clone()));
        }
    }
}

/// What cannot be written down for the kernel is an error as any other, and costs nothing.
#[test]
fn connecting_to_what_is_too_long_for_an_address() {
    let to = Address::unix("/tmp/".to_owned() + &"x".repeat(200));
    for direct_descriptors in [true, false] {
        let config = Config { direct_descriptors, ..Config::default() };
        let asked = to.clone();
        let (server, reports) = connecting(config, move || Connect::to(asked.clone()));
        fails(&server, &reports, &ConnectError::Failed(to.clone(), libc::EINVAL));
    }
}

/// A listener whose queue is full does not answer at all.
fn deaf() -> (Vec<socket2::Socket>, SocketAddr) {
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a free port of loopback");
    socket2::SockRef::from(&deaf).listen(0).expect("a shorter queue");
    let address = deaf.local_addr().expect("bound");
    let mut all = vec![socket2::Socket::from(deaf)];
    // One is taken even so, and perhaps another.
    for _ in 0..8 {
        let filling =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        filling.set_nonblocking(true).expect("a socket");
        // In progress, for ever.
        let _ = filling.connect(&address.into());
        all.push(filling);
    }
    (all, address)
}

#[test]
fn connecting_has_a_deadline() {
    let (_deaf, address) = deaf();
    let deadline = Duration::from_millis(60);
    for direct_descriptors in [true, false] {
        let config = Config { direct_descriptors, ..Config::default() };
        let (server, reports) = connecting(config, move || Connect::to(address).deadline(deadline));
        let began = Instant::now();
        fails(&server, &reports, &ConnectError::TimedOut(address.into()));
        let took = began.elapsed();
        assert!(took >= deadline * 5 && took < deadline * 5 + support::LONG / 2, "{took:?}");
    }
}

/// Its own listener is a target as good as any, also while it is busy asking.
#[test]
fn connecting_to_itself() {
    let own = Arc::new(std::sync::OnceLock::new());
    let asked = Arc::clone(&own);
    let (report, reports) = mpsc::channel();
    // Who says "?" gets the answer of another connection of the same worker, which echoes.
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(move || {
        let (own, report) = (Arc::clone(&asked), report.clone());
        Told(move |event, cx: &mut Context<'_>| match event {
            Event::Input if cx.input.first() == Some(&b'?') => {
                cx.input.consume_all();
                let report = report.clone();
                let to: SocketAddr = *own.get().expect("set before anybody asks");
                cx.connect(
                    Connect::to(to),
                    Told(move |event, cx: &mut Context<'_>| {
                        match event {
                            Event::Open => cx.output.write(b"self").expect("there is room at the beginning"),
                            Event::Input => {
                                report.send(cx.input.consume_all().to_vec()).expect("the test waits");
                                return Flow::Finish;
                            }
                            _ => {}
                        }
                        Flow::More(4)
                    }),
                );
                Flow::More(1)
            }
            Event::Input => support::echo(&mut cx.input, &mut cx.output),
            _ => Flow::More(1),
        })
    });
    let server = server.expect("a free port of loopback");
    own.set(tcp(&server)).expect("set once");
    let mut clients: Vec<TcpStream> = (0..20).map(|_| client(tcp(&server))).collect();
    clients.iter_mut().for_each(|client| client.write_all(b"?").expect("room in the socket"));
    for _ in 0..20 {
        assert_eq!(reports.recv_timeout(support::LONG).expect("a report"), b"self");
    }
    drop(clients);
    nothing_held_but_connections(&server);
}

#[test]
fn connections_beyond_the_limit_are_refused() {
    let target = Server::new().listen("127.0.0.1:0").workers(1).serve(|| support::echo).expect("a free port");
    let to = tcp(&target);
    let config = Config { max_connections: 1, ..Config::default() };
    let (server, reports) = connecting(config, move || Connect::to(to));
    fails(&server, &reports, &ConnectError::TooMany);
}

/// What came of opening, looking at and reading a file.
type FileReport = Result<(u64, bool, Vec<u8>), std::io::ErrorKind>;

/// Opens a file, stats it, reads it in parts to its end, and reports what came.
struct Reading {
    file: OpenFile,
    opened: Option<campanile_core::File>,
    len: u64,
    is_file: bool,
    bytes: Vec<u8>,
    report: mpsc::Sender<FileReport>,
}

impl Service for Reading {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        match event {
            Event::Input => {
                cx.input.consume_all();
                cx.open_file(self.file.clone());
            }
            Event::Answer(
                _,
                Answer::Opened(Err(error)) | Answer::Stat(Err(error)) | Answer::Read(Err(error)),
            ) => {
                self.report.send(Err(error.kind())).expect("the test waits");
            }
            Event::Answer(_, Answer::Opened(Ok(file))) => {
                cx.stat(&file);
                self.opened = Some(file);
            }
            Event::Answer(_, Answer::Stat(Ok(stat))) => {
                (self.len, self.is_file) = (stat.len, stat.is_file);
                self.read(cx);
            }
            Event::Answer(_, Answer::Read(Ok(bytes))) => self.took(&bytes, cx),
            _ => {}
        }
        Flow::More(1)
    }
}

impl Reading {
    fn read(&self, cx: &mut Context<'_>) {
        let file = self.opened.as_ref().expect("it was opened");
        cx.read_file(file, self.bytes.len() as u64, 100_000);
    }

    fn took(&mut self, bytes: &Bytes, cx: &mut Context<'_>) {
        if bytes.is_empty() {
            let report = (self.len, self.is_file, std::mem::take(&mut self.bytes));
            self.opened = None;
            self.report.send(Ok(report)).expect("the test waits");
        } else {
            self.bytes.extend_from_slice(bytes);
            self.read(cx);
        }
    }
}

/// Reads `file` by `clients` services at the same time; all get the same.
fn read_by(clients: usize, file: &OpenFile) -> FileReport {
    let (report, reports) = mpsc::channel();
    let file = file.clone();
    // Fewer buffers than readers.
    let config = Config { file_buffers: 2, file_buffer_len: 64 * 1024, ..Config::default() };
    let server = Server::new().listen("127.0.0.1:0").workers(1).config(config).serve(move || Reading {
        file: file.clone(),
        opened: None,
        len: 0,
        is_file: false,
        bytes: Vec::new(),
        report: report.clone(),
    });
    let server = server.expect("a free port of loopback");
    let mut clients: Vec<_> = (0..clients).map(|_| client(tcp(&server))).collect();
    clients.iter_mut().for_each(|client| client.write_all(b"read").expect("room in the socket"));
    let mut all: Vec<FileReport> =
        clients.iter().map(|_| reports.recv_timeout(support::LONG).expect("a report")).collect();
    let first = all.pop().expect("one reader at least");
    assert!(all.iter().all(|other| *other == first), "all read the same");
    drop(clients);
    nothing_held(&server);
    first
}

#[test]
fn files_are_read() {
    let place = Place::new();
    let content: Vec<u8> = {
        let mut content = vec![0; 300_001];
        keyed::fill(5, 0, &mut content);
        content
    };
    std::fs::write(place.at("file"), &content).expect("a writable place");
    std::fs::write(place.at("empty"), "").expect("a writable place");
    let root = Arc::new(OwnedFd::from(std::fs::File::open(&place.0).expect("a directory")));
    for file in [OpenFile::at(place.at("file")), OpenFile::beneath(Arc::clone(&root), "file")] {
        assert_eq!(read_by(10, &file), Ok((content.len() as u64, true, content.clone())));
    }
    assert_eq!(read_by(1, &OpenFile::at(place.at("empty"))), Ok((0, true, Vec::new())));
    let directory = read_by(1, &OpenFile::at(&place.0));
    assert_eq!(directory, Err(std::io::ErrorKind::IsADirectory));
}

#[test]
fn files_outside_of_a_root_are_not_opened() {
    use std::io::ErrorKind::{CrossesDevices, InvalidInput, NotFound};
    let place = Place::new();
    std::fs::create_dir(place.at("site")).expect("a writable place");
    std::fs::create_dir(place.at("site/sub")).expect("a writable place");
    std::fs::write(place.at("secret"), "secret").expect("a writable place");
    std::fs::write(place.at("site/public"), "public").expect("a writable place");
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, place.at(name)).expect("a writable place");
    };
    link("../secret", "site/out");
    link("/etc/passwd", "site/absolute");
    link("public", "site/within");
    link("/proc/self/cwd", "site/magic");
    let root = Arc::new(OwnedFd::from(std::fs::File::open(place.at("site")).expect("a directory")));
    let read =
        |path: &str| read_by(1, &OpenFile::beneath(Arc::clone(&root), path)).map(|(_, _, bytes)| bytes);
    for path in ["public", "sub/../public", "./public", "within"] {
        assert_eq!(read(path), Ok(b"public".to_vec()), "{path}");
    }
    for path in
        ["../secret", "sub/../../secret", "out", "absolute", "/etc/passwd", "magic/secret", "../site/public"]
    {
        assert_eq!(read(path), Err(CrossesDevices), "{path}");
    }
    assert_eq!(read("missing"), Err(NotFound));
    assert_eq!(read(""), Err(NotFound));
    assert_eq!(read("pub\0lic"), Err(InvalidInput));
    assert_eq!(read_by(1, &OpenFile::at(place.at("missing"))), Err(NotFound));
}
