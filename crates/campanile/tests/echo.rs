//! Echo, plain and under layers: whatever holds for bytes holds for bytes in a layer, and in a layer in a layer.

mod support;

use std::thread;

use campanile::Config;

use support::common::{counted, echo, keyed, nothing_held, until};
use support::wire::Wire;
use support::{layered, serve, tiny};

/// Runs a test with ample memory and with hardly any.
fn with_echo(depth: usize, test: impl Fn(&dyn Fn() -> Wire, &campanile::ServerHandle)) {
    for (is_tight, config) in [(false, Config::default()), (true, tiny())] {
        let max_record = config.input_limit.min(60_000) / 2;
        let (server, address) = serve(config, move || layered(depth, is_tight, echo));
        test(&|| Wire::connect(address, depth, max_record), &server);
        nothing_held(&server);
    }
}

/// So many bytes of the stream of `key`.
fn bytes_of(key: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    keyed::fill(key, 0, &mut bytes);
    bytes
}

/// Sends `len` bytes in one thread and reads them back in another.
fn exchange(wire: Wire, key: u64, len: usize) -> Wire {
    let Wire { stream, mut out, mut inward } = wire;
    let (out, inward) = thread::scope(|scope| {
        let writer = scope.spawn(move || {
            out.write_all(&bytes_of(key, len)).expect("the server reads");
            out
        });
        let (mut at, mut piece) = (0, vec![0; 30_000]);
        while at < len {
            let room = piece.len().min(len - at);
            let n = inward.read(&mut piece[..room]).expect("the server answers");
            assert!(n > 0, "the end after {at} of {len} bytes");
            assert_eq!(keyed::differs(key, at as u64, &piece[..n]), None);
            at += n;
        }
        (writer.join().expect("it only writes"), inward)
    });
    Wire { stream, out, inward }
}

fn byte_by_byte(depth: usize) {
    with_echo(depth, |connect, _| {
        let mut wire = connect();
        for byte in 0..=255 {
            wire.send(&[byte]);
            assert_eq!(wire.receive(1), [byte]);
        }
    });
}

fn whole(depth: usize) {
    with_echo(depth, |connect, _| {
        let mut wire = connect();
        for len in [1, 2, 1000, 5000] {
            wire.send(&bytes_of(len as u64, len));
            assert_eq!(wire.receive(len), bytes_of(len as u64, len));
        }
    });
}

fn burst_larger_than_all_buffers(depth: usize) {
    with_echo(depth, |connect, _| drop(exchange(connect(), 7, 3_000_000)));
}

fn pipelined(depth: usize) {
    with_echo(depth, |connect, _| {
        let mut wire = connect();
        // As much as fits on the way without anybody reading.
        let messages: Vec<Vec<u8>> = (0..300).map(|i| bytes_of(i, i as usize % 7 + 1)).collect();
        for message in &messages {
            wire.send(message);
        }
        for message in &messages {
            assert_eq!(&wire.receive(message.len()), message);
        }
    });
}

fn half_close(depth: usize) {
    with_echo(depth, |connect, _| {
        for len in [0, 1, 100_000] {
            let mut wire = connect();
            wire.send(&bytes_of(9, len));
            wire.end();
            assert!(wire.receive_all() == bytes_of(9, len), "{len} bytes, and the end");
        }
    });
}

fn client_that_does_not_read_for_a_while(depth: usize) {
    with_echo(depth, |connect, server| {
        let Wire { mut out, mut inward, .. } = connect();
        const LEN: usize = 16_000_000;
        thread::scope(|scope| {
            scope.spawn(move || {
                out.write_all(&bytes_of(3, LEN)).expect("the server reads");
                out.end().expect("the server is there");
            });
            // Nothing is received any more between many looks: everybody waits for the client. Not all of it has to
            // wait in the server: a kernel may take up to 32 MiB for who does not read (tcp(7), tcp_rmem), or drop
            // the acknowledgements that come to a socket which is full, so that its own sending stops.
            let (mut last, mut looks) = (0, 0);
            until("the server stops reading", || {
                thread::sleep(std::time::Duration::from_millis(20));
                let now = counted(server).received;
                looks = if now > 0 && std::mem::replace(&mut last, now) == now { looks + 1 } else { 0 };
                looks == 10
            });
            let held = counted(server);
            assert!(held.unsent_bytes <= 5 * 16 * 1024, "{held:?}");
            assert!(held.carried_bytes <= (256 + 64) * 1024, "{held:?}");
            let mut all = Vec::new();
            inward.read_to_end(&mut all).expect("an orderly end");
            assert!(all == bytes_of(3, LEN), "all bytes, in order");
        });
    });
}

fn many_connections(depth: usize) {
    with_echo(depth, |connect, _| {
        let wires: Vec<Wire> = (0..60).map(|_| connect()).collect();
        thread::scope(|scope| {
            for (key, wire) in wires.into_iter().enumerate() {
                scope.spawn(move || {
                    let mut wire = exchange(wire, key as u64, 50_000);
                    wire.end();
                    assert_eq!(wire.receive_all(), []);
                });
            }
        });
    });
}

macro_rules! at_every_depth {
    ($($test:ident)*) => {
        mod plain {
            $(#[test] fn $test() { super::$test(0); })*
        }
        mod layered {
            $(#[test] fn $test() { super::$test(1); })*
        }
        mod stacked {
            $(#[test] fn $test() { super::$test(2); })*
        }
    };
}

at_every_depth! {
    byte_by_byte
    whole
    burst_larger_than_all_buffers
    pipelined
    half_close
    client_that_does_not_read_for_a_while
    many_connections
}
