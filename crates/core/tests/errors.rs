#![allow(unsafe_code)] // To install a system call filter, which no safe wrapper at hand does.
//! Errors: why a server does not start, said in one sentence that names the cause and the fix; and what it does with
//! less than it asked for.
//!
//! What concerns a whole process (its user, its limits, a filter) is tried in a process of its own: the test runs
//! itself again. Being an ordinary user takes being root first; without that, the test tries it as whoever it is.

mod support;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;

use campanile_core::{Address, Config, Refusal, RingKind, ServeError, Server, ServerHandle};
use rustix::process::{Resource, Rlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use support::{alone, client, counted, is_root, process, role, round, succeeds, tcp};

/// An ordinary user's number, by custom "nobody".
const NOBODY: u32 = 65_534;

/// Makes a command run as an ordinary user.
fn as_nobody(command: Command) -> Command {
    as_user(NOBODY, command)
}

fn as_user(user: u32, mut command: Command) -> Command {
    if is_root() {
        command.uid(user).gid(user);
    }
    command
}

fn start(server: Server) -> Result<ServerHandle, ServeError> {
    server.workers(2).serve(|| support::echo)
}

fn refused(server: Server) -> ServeError {
    match start(server) {
        Ok(server) => panic!("it started: {}", server.summary()),
        Err(error) => one_sentence(error),
    }
}

fn one_sentence(error: ServeError) -> ServeError {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains('\n') && !text.contains("  "), "one line: {text:?}");
    error
}

fn serves(server: &ServerHandle) {
    for _ in 0..10 {
        assert_eq!(round(&mut client(tcp(server)), b"hello").expect("an echo"), b"hello");
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn listening(address: SocketAddr, reuse_port: bool) -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("a socket");
    socket.set_reuse_port(reuse_port).expect("a socket");
    socket.bind(&address.into()).expect("a free port of loopback");
    socket.listen(16).expect("bound");
    let address = socket.local_addr().expect("bound").as_socket().expect("an IP address");
    (socket, address)
}

#[test]
fn an_address_in_use_is_told_with_its_holder() {
    for (bound, reuse_port) in
        [("127.0.0.1:0", false), ("127.0.0.1:0", true), ("0.0.0.0:0", true), ("[::1]:0", true)]
    {
        let (_held, address) = listening(bound.parse().expect("an address"), reuse_port);
        let asked = if address.ip().is_unspecified() {
            SocketAddr::from(([127, 0, 0, 1], address.port()))
        } else {
            address
        };
        let error = refused(Server::new().listen(asked));
        let ServeError::AddressInUse { address, holder: Some(holder) } = &error else { panic!("{error:?}") };
        assert_eq!(*address, Address::Tcp(asked));
        let process = holder.process.as_ref().expect("it is this process");
        assert_eq!(process.pid, std::process::id());
        let text = error.to_string();
        assert!(
            text.contains(&asked.to_string()) && text.contains(&format!("(pid {})", process.pid)),
            "{text}"
        );
    }
}

/// Two servers with SO_REUSEPORT would answer by turns.
#[test]
fn a_second_server_on_the_same_address_is_refused() {
    let first = start(Server::new().listen(loopback())).expect("a free port of loopback");
    let error = refused(Server::new().listen(tcp(&first)));
    assert!(matches!(error, ServeError::AddressInUse { holder: Some(_), .. }), "{error:?}");
    serves(&first);
    let address = tcp(&first);
    drop(first);
    serves(&start(Server::new().listen(address)).expect("it is free again"));
}

/// As a child that was forked while a server ran has its listener until it executes its program. This one is bound and
/// does not listen, so nobody is seen to have the address.
#[test]
fn an_address_that_becomes_free_late_is_waited_for() {
    let held = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    held.bind(&loopback().into()).expect("a free port of loopback");
    let address = held.local_addr().expect("bound").as_socket().expect("an IP address");
    let release = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(held);
    });
    serves(&start(Server::new().listen(address)).expect("it is free in time"));
    release.join().expect("it only waits");
}

#[test]
fn a_unix_address_in_use_is_refused() {
    let directory = std::env::temp_dir().join(format!("campanile-errors-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a writable place");
    let path = directory.join("held.sock");
    let held = UnixListener::bind(&path).expect("a free name");
    let error = refused(Server::new().listen(Address::unix(&path)));
    assert!(matches!(error, ServeError::AddressInUse { .. }), "{error:?}");
    drop(held);

    let file = directory.join("file");
    std::fs::write(&file, "precious").expect("a writable place");
    let error = refused(Server::new().listen(Address::unix(&file)));
    assert!(matches!(error, ServeError::AddressInUse { .. }), "{error:?}");
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), "precious");

    let error = refused(Server::new().listen(Address::unix(directory.join("no/such/place.sock"))));
    assert!(matches!(error, ServeError::Listen { .. }), "{error:?}");
    std::fs::remove_dir_all(&directory).expect("ours");
}

/// The first listener is bound, the second is not: nothing is left running, and the first is free again.
#[test]
fn a_start_that_fails_leaves_nothing() {
    if role().is_none() {
        succeeds(alone("a_start_that_fails_leaves_nothing", "anyone"));
        return;
    }
    let (_held, taken) = listening(loopback(), false);
    let (free, address) = listening(loopback(), false);
    drop(free);
    let before = process::descriptors();
    let error = refused(Server::new().listen(address).listen(taken));
    assert!(matches!(error, ServeError::AddressInUse { .. }), "{error:?}");
    let config = Config { max_connections: u32::MAX, ..Config::default() };
    refused(Server::new().listen(address).config(config));
    assert_eq!(process::threads("campanile-"), []);
    support::until("descriptors are closed", || process::descriptors() == before);
    serves(&start(Server::new().listen(address)).expect("it is free"));
}

#[test]
fn bad_addresses_are_refused() {
    assert!(matches!(refused(Server::new()), ServeError::NoAddress));
    for text in ["localhost:80", "8080", "unix:", "1.2.3.4", "[::1", "127.0.0.1:99999"] {
        let error = refused(Server::new().listen("127.0.0.1:0").listen(text));
        assert!(matches!(error, ServeError::BadAddress(_)), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
    // Set aside for documentation, so no machine has it (RFC 5737).
    let error = refused(Server::new().listen("192.0.2.1:0"));
    assert!(matches!(error, ServeError::AddressNotAvailable { .. }), "{error:?}");
    let error = refused(Server::new().listen("192.0.2.1:7000"));
    assert!(matches!(error, ServeError::AddressNotAvailable { .. }), "{error:?}");
}

#[test]
fn bad_figures_are_refused() {
    let sound = Config::default;
    for (field, config) in [
        ("receive_buffers", Config { receive_buffers: 3, ..sound() }),
        ("receive_buffers", Config { receive_buffers: 0, ..sound() }),
        ("receive_buffer_len", Config { receive_buffer_len: 0, ..sound() }),
        ("send_buffer_len", Config { send_buffer_len: 100, ..sound() }),
        ("send_buffers", Config { send_buffers: 0, ..sound() }),
        ("send_buffers", Config { send_buffers_per_connection: 0, ..sound() }),
        ("room", Config { room: 0, ..sound() }),
        ("room", Config { room: 1 << 20, ..sound() }),
        ("max_connections", Config { max_connections: 0, ..sound() }),
        ("queue_entries", Config { queue_entries: 0, ..sound() }),
        ("file_buffers", Config { file_buffers: 0, ..sound() }),
        ("input_limit", Config { input_limit: 0, ..sound() }),
        ("held_limit", Config { held_limit: 0, ..sound() }),
    ] {
        let error = refused(Server::new().listen("127.0.0.1:0").config(config));
        let ServeError::BadConfig(bad) = &error else { panic!("{error:?}") };
        assert!(bad.field.contains(field), "{field}: {error}");
        assert!(error.to_string().contains(field), "{field}: {error}");
    }
}

/// The smallest figures that are allowed, each by itself, still serve.
#[test]
fn the_smallest_figures_work() {
    let sound = Config::default;
    for config in [
        Config { receive_buffers: 1, ..sound() },
        Config { receive_buffers: 1, receive_buffer_len: 1, ..sound() },
        Config { receive_budget: 0, ..sound() },
        Config { send_buffer_len: 4096, room: 1, ..sound() },
        Config { send_buffers: 1, send_buffers_per_connection: 1, ..sound() },
        Config { max_connections: 1, ..sound() },
        Config { queue_entries: 1, ..sound() },
        Config { file_buffers: 1, file_buffer_len: 1, ..sound() },
        Config { input_limit: 1, held_limit: 1, ..sound() },
        Config { backlog: 0, ..sound() },
    ] {
        let said = format!("{config:?}");
        let server = start(Server::new().listen("127.0.0.1:0").config(config)).expect("allowed");
        for _ in 0..3 {
            let mut client = client(tcp(&server));
            let message = [9; 10_000];
            assert!(round(&mut client, &message).is_ok_and(|answer| answer == message), "{said}");
        }
    }
}

#[test]
fn permission_denied_names_the_way_out() {
    let first_free = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first_free: u16 = first_free.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    if first_free <= 80 {
        eprintln!(
            "skipped: here any user may listen on port 80 (ip_unprivileged_port_start is {first_free})"
        );
        return;
    }
    if role().is_none() {
        succeeds(as_nobody(alone("permission_denied_names_the_way_out", "nobody")));
        return;
    }
    let error = refused(Server::new().listen("127.0.0.1:80"));
    assert!(matches!(error, ServeError::PermissionDenied { .. }), "{error:?}");
    assert!(error.to_string().contains("cap_net_bind_service"), "{error}");
    let error = refused(Server::new().listen("unix:/proc/never.sock"));
    assert!(matches!(error, ServeError::PermissionDenied { .. } | ServeError::Listen { .. }), "{error:?}");
    let error = refused(Server::new().listen("unix:/root-only.sock"));
    assert!(matches!(error, ServeError::PermissionDenied { .. }), "{error:?}");
}

/// Whose the listener is can be told, though not which process.
#[test]
fn another_users_listener_is_told_by_its_user() {
    if let Some(held) = role() {
        let error = refused(Server::new().listen(held.parse::<SocketAddr>().expect("an address")));
        let ServeError::AddressInUse { holder: Some(holder), .. } = &error else { panic!("{error:?}") };
        assert_eq!((holder.uid, &holder.process), (0, &None));
        assert!(error.to_string().contains("user 0"), "{error}");
        return;
    }
    if !is_root() {
        eprintln!("skipped: it takes root to be two users");
        return;
    }
    for reuse_port in [false, true] {
        let (_held, address) = listening(loopback(), reuse_port);
        succeeds(as_nobody(alone("another_users_listener_is_told_by_its_user", &address.to_string())));
    }
}

fn limit(resource: Resource, to: u64) {
    let limit = Rlimit { current: Some(to), maximum: Some(to) };
    setrlimit(resource, limit).expect("lower than before");
}

/// `ulimit -n`: the limit of connections shrinks, that is said, and more clients than fit are served one after the
/// other.
#[test]
fn few_descriptors_shrink_the_server() {
    let Some(role) = role() else {
        for nofile in ["1024", "256", "128"] {
            succeeds(as_nobody(alone("few_descriptors_shrink_the_server", &format!("direct {nofile}"))));
            succeeds(as_nobody(alone("few_descriptors_shrink_the_server", &format!("plain {nofile}"))));
        }
        return;
    };
    let (kind, nofile) = role.split_once(' ').expect("two words");
    let nofile: u64 = nofile.parse().expect("a number");
    limit(Resource::Nofile, nofile);
    let config = Config { direct_descriptors: kind == "direct", ..Config::default() };
    let server = start(Server::new().listen("127.0.0.1:0").config(config)).expect("it starts shrunk");
    let notices = server.notices();
    assert!(notices.iter().any(|notice| notice.contains("ulimit -n")), "{notices:?}");
    assert!(server.summary().contains(&nofile.to_string()), "{}", server.summary());
    serves(&server);
    // Our own sockets are descriptors too. Those that the server does not accept wait in its queue.
    let clients = (nofile / 4) as usize;
    let mut clients: Vec<_> = (0..clients).map(|_| client(tcp(&server))).collect();
    for client in &mut clients {
        client.write_all(b"hello").expect("room in the socket");
    }
    for mut client in clients.drain(..) {
        let mut answer = [0; 5];
        std::io::Read::read_exact(&mut client, &mut answer).expect("its turn comes when others are gone");
        assert_eq!(&answer, b"hello");
    }
    serves(&server);
    support::nothing_held(&server);
}

/// A shortage of descriptors while it runs: accepting fails, is tried again not too often, and goes on.
#[test]
fn descriptors_that_run_out_are_waited_for() {
    if role().is_none() {
        succeeds(alone("descriptors_that_run_out_are_waited_for", "short"));
        return;
    }
    limit(Resource::Nofile, 512);
    let config = Config { direct_descriptors: false, ..Config::default() };
    let server = Server::new().listen("127.0.0.1:0").workers(1).config(config).serve(|| support::echo);
    let server = server.expect("it starts shrunk");
    let mut waiting: Vec<_> =
        (0..4).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket")).collect();
    let hogs: Vec<_> = std::iter::from_fn(|| Socket::new(Domain::IPV4, Type::STREAM, None).ok()).collect();
    for socket in &waiting {
        socket.connect(&tcp(&server).into()).expect("the queue of the listener takes it");
    }
    support::until("accepting failed", || counted(&server).accepts_failed > 0);
    let (before, began) = (counted(&server).accepts_failed, std::time::Instant::now());
    std::thread::sleep(std::time::Duration::from_millis(500));
    let failed = counted(&server).accepts_failed - before;
    // A try every 100 ms.
    let most = 10 + 2 * began.elapsed().as_millis() as u64 / 100;
    assert!(failed < most, "{failed} tries in {:?}", began.elapsed());
    drop(hogs);
    for socket in &mut waiting {
        socket.set_read_timeout(Some(support::LONG)).expect("a socket");
        assert_eq!(round(socket, b"hello").expect("its turn comes"), b"hello");
    }
}

/// `ulimit -l`: smaller rings, and that is said. Root is not held to it, so it is tried as somebody else; and as
/// another one every time, since all rings of a user count together, also those just closed.
#[test]
fn little_locked_memory_shrinks_the_rings() {
    let Some(role) = role() else {
        if !is_root() {
            eprintln!("note: other rings of this user count too");
        }
        for (user, role) in (60_001..).zip(["1 64", "1 128", "2 128", "2 512"]) {
            let done = succeeds(as_user(user, alone("little_locked_memory_shrinks_the_rings", role)));
            eprint!("{}", String::from_utf8_lossy(&done.stderr));
        }
        return;
    };
    let (workers, kib) = role.split_once(' ').expect("two words");
    limit(Resource::Memlock, kib.parse::<u64>().expect("a number") * 1024);
    // Stopped and started again at once.
    for _ in 0..3 {
        let config = Config { queue_entries: 4096, ..Config::default() };
        let server = Server::new().listen("127.0.0.1:0").workers(workers.parse::<usize>().expect("a number"));
        let server = server.config(config).ring(RingKind::Uring).serve(|| support::echo);
        let server = server.expect("it starts shrunk");
        let notices = server.notices();
        assert!(notices.iter().any(|notice| notice.contains("ulimit -l")), "{notices:?}");
        eprintln!("{workers} workers, {kib} KiB: {notices:?}");
        serves(&server);
        let mut clients: Vec<_> = (0..100).map(|_| client(tcp(&server))).collect();
        for client in &mut clients {
            assert_eq!(round(client, &[5; 5000]).expect("an echo"), [5; 5000]);
        }
    }
}

/// Answers io_uring_setup(2) with `errno`, for all threads of this process, for good.
fn filter_io_uring(errno: i32) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let number = std::mem::offset_of!(libc::seccomp_data, nr) as u32;
    let jump = libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 0,
        jf: 1,
        k: libc::SYS_io_uring_setup as u32,
    };
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, number),
        jump,
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_TSYNC);
    // SAFETY: the filter and its program live through the call, which copies them.
    assert_eq!(unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const filter) }, 0);
}

/// Where io_uring is demanded the filter is named; where it is not, epoll runs, and says why. As root and as somebody.
#[test]
fn a_filter_that_refuses_io_uring_is_named() {
    let Some(errno) = role() else {
        for errno in [libc::EPERM, libc::ENOSYS] {
            succeeds(alone("a_filter_that_refuses_io_uring_is_named", &errno.to_string()));
            succeeds(as_nobody(alone("a_filter_that_refuses_io_uring_is_named", &errno.to_string())));
        }
        return;
    };
    filter_io_uring(errno.parse().expect("a number"));
    let error = refused(Server::new().listen("127.0.0.1:0").ring(RingKind::Uring));
    assert!(matches!(error, ServeError::Ring(Refusal::Seccomp)), "{error:?}");
    assert!(error.to_string().contains("seccomp"), "{error}");
    assert_eq!(process::threads("campanile-"), []);

    let server = start(Server::new().listen("127.0.0.1:0").ring(RingKind::Auto)).expect("epoll is allowed");
    let notice = why_epoll(&server);
    assert!(notice.contains("seccomp"), "{notice}");
    assert_eq!((server.ring(), server.capabilities().ring), (RingKind::Poll, RingKind::Poll));
    assert!(server.summary().contains("2 workers on epoll"), "{}", server.summary());
    serves(&server);
    drop(server);

    let server = start(Server::new().listen("127.0.0.1:0").ring(RingKind::Poll)).expect("epoll is allowed");
    let asked_for = !server.notices().iter().any(|notice| notice.contains("epoll"));
    assert!(asked_for, "{:?}", server.notices());
    serves(&server);
}

/// The one notice that says so.
fn why_epoll(server: &ServerHandle) -> &str {
    let notices: Vec<_> = server.notices().iter().filter(|notice| notice.contains("epoll")).collect();
    let [notice] = notices[..] else { panic!("one notice: {notices:?}") };
    assert!(notice.starts_with("running on epoll instead of io_uring: "), "{notice}");
    notice
}

/// Locked memory that is enough to try a ring and not for one per worker: epoll runs, all of it.
#[test]
fn too_little_locked_memory_for_all_rings_means_epoll() {
    let Some(role) = role() else {
        if !is_root() {
            eprintln!("skipped: it takes root to be another user, whose rings are counted together");
            return;
        }
        let test = "too_little_locked_memory_for_all_rings_means_epoll";
        succeeds(as_user(60_011, alone(test, "0")));
        succeeds(as_user(60_012, alone(test, "40")));
        return;
    };
    limit(Resource::Memlock, role.parse::<u64>().expect("a number") * 1024);
    let server = Server::new().listen("127.0.0.1:0").workers(16).ring(RingKind::Auto);
    let server = server.serve(|| support::echo).expect("epoll locks no memory");
    eprintln!("{}", server.summary());
    let notice = why_epoll(&server);
    assert!(notice.contains("ulimit -l"), "{notice}");
    assert_eq!(process::threads("campanile-").len(), 16);
    serves(&server);
}

/// What the kernel hands out for a port that is free is not taken for one that is in use.
#[test]
fn a_port_in_time_wait_is_no_hindrance() {
    let listener = TcpListener::bind(loopback()).expect("a free port of loopback");
    let address = listener.local_addr().expect("bound");
    let _client = client(address);
    // The side that closes first keeps the port in TIME_WAIT.
    drop(listener.accept().expect("a connection"));
    drop(listener);
    serves(&start(Server::new().listen(address)).expect("nobody listens there"));
}
