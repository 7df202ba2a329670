//! Campanile at its defaults, limits and deadlines included.

use campanile::http::{self, Router};
use campanile::{Address, Bytes, Flow, Input, Output, RingKind, Server, ServerHandle};

use super::{Running, Until};
use crate::work::{Fingerprint, HELLO, PAYLOAD, Work};

pub(super) fn start(work: Work, routed: bool) -> Running {
    let server = server();
    let handle = match work {
        Work::Echo => server.serve(|| echo),
        Work::Http if routed => {
            let make = || Router::new().get("/plaintext", |_, response| response.text(200, HELLO));
            http::serve(server, http::Config::default(), make)
        }
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

pub(super) fn starts_on_io_uring() -> bool {
    server().ring(RingKind::Uring).serve(|| echo).is_ok()
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
