//! Campanile at its defaults, limits and deadlines included; or with one of its switches set.

use std::time::Duration;

use campanile::http::{self, Router};
use campanile::{Address, Bytes, Config, Flow, Input, Output, RingKind, Server, ServerHandle};

use super::{Running, Until};
use crate::work::{Fingerprint, HELLO, PAYLOAD, Work};

/// What is other than by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Switch {
    DeferAccept,
    PerAddress,
    AnyUnsent,
    NoBundles,
    PlainDescriptors,
    Spin,
    MinWait,
    BusyPoll,
    Epoll,
}

impl Switch {
    pub(super) fn name(self) -> &'static str {
        match self {
            Switch::DeferAccept => "defer_accept",
            Switch::PerAddress => "connections_per_address",
            Switch::AnyUnsent => "socket_unsent of None",
            Switch::NoBundles => "without bundles",
            Switch::PlainDescriptors => "without direct_descriptors",
            Switch::Spin => "spin of 50 us",
            Switch::MinWait => "min_wait of 100 us",
            Switch::BusyPoll => "napi_busy_poll of 50 us",
            Switch::Epoll => "on epoll",
        }
    }

    fn set(self, server: Server) -> Server {
        let config = Config::default();
        match self {
            Switch::DeferAccept => {
                server.config(Config { defer_accept: Some(Duration::from_secs(5)), ..config })
            }
            Switch::PerAddress => server.config(Config { connections_per_address: Some(10_000), ..config }),
            Switch::AnyUnsent => server.config(Config { socket_unsent: None, ..config }),
            Switch::NoBundles => server.config(Config { bundles: false, ..config }),
            Switch::PlainDescriptors => server.config(Config { direct_descriptors: false, ..config }),
            Switch::Spin => server.config(Config { spin: Duration::from_micros(50), ..config }),
            Switch::MinWait => server.config(Config { min_wait: Duration::from_micros(100), ..config }),
            Switch::BusyPoll => server.config(Config { napi_busy_poll: Duration::from_micros(50), ..config }),
            Switch::Epoll => server.ring(RingKind::Poll),
        }
    }
}

/// A worker that does `work` by closures.
pub(super) fn start(work: Work, switch: Option<Switch>) -> Running {
    let server = switch.map_or_else(server, |switch| switch.set(server()));
    let handle = match work {
        Work::Echo => server.serve(|| echo),
        Work::Http => server.serve(|| {
            http::service(|request, response| match request.path() {
                "/plaintext" => response.text(200, HELLO),
                _ => response.text(404, "not here"),
            })
        }),
        Work::Sink => server.serve(sink),
        Work::Source => server.serve(|| source),
    };
    running(handle.expect("a server"))
}

/// HTTP as most users have it.
pub(super) fn start_routed() -> Running {
    let make = || Router::new().get("/plaintext", |_, response| response.text(200, HELLO));
    running(http::serve(server(), http::Config::default(), make).expect("a server"))
}

fn server() -> Server {
    Server::new().listen("127.0.0.1:0").workers(1)
}

fn running(handle: ServerHandle) -> Running {
    let [Address::Tcp(address)] = handle.addresses() else { panic!("listens on one address of TCP") };
    Running { address: *address, _until: Until::Handle(handle) }
}

fn echo(input: &mut Input<'_>, output: &mut Output<'_>) -> Flow {
    let n = input.len().min(output.room());
    output.write(input.consume(n)).expect("no longer than the room");
    Flow::More(1)
}

fn sink() -> impl FnMut(&mut Input<'_>, &mut Output<'_>) -> Flow {
    let mut received = Fingerprint::default();
    move |input, output| {
        if let Some(print) = received.take(input.consume_all()) {
            output.write(&print).expect("there is room for a word");
        }
        Flow::More(1)
    }
}

fn source(input: &mut Input<'_>, output: &mut Output<'_>) -> Flow {
    while !input.is_empty() {
        if output.send(Bytes::from_static(&PAYLOAD)).is_err() {
            return Flow::Room;
        }
        input.consume(1);
    }
    Flow::More(1)
}
