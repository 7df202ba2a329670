//! What passes through a layer, and every way in which a connection could stall or lose something at the seam. All
//! of it holds for a service alone, under a layer, and under two, with ample memory and with hardly any.

mod support;

use std::io::ErrorKind;
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use campanile::{
    Answer, Bytes, Config, Context, Event, Flow, Inner, Layer, Nested, OpenFile, Output, Reason,
    ServerHandle, Service, Waker,
};

use support::common::{Told, client, echo, keyed, nothing_held, reset, until};
use support::wire::Wire;
use support::xor::Xor;
use support::{layered, serve, tiny};

/// Runs a test of a service at every depth, with ample memory and with hardly any.
fn everywhere<S: Service + 'static>(
    make: impl Fn() -> S + Send + Sync + Clone + 'static,
    test: impl Fn(&mut Wire, &ServerHandle),
) {
    for depth in 0..=2 {
        for (is_tight, config) in [(false, Config::default()), (true, tiny())] {
            let make = make.clone();
            let (server, address) = serve(config, move || layered(depth, is_tight, make()));
            test(&mut Wire::connect(address, depth, 2000), &server);
            nothing_held(&server);
        }
    }
}

fn told<F: FnMut(Event, &mut Context<'_>) -> Flow + Clone + Send + Sync + 'static>(
    handle: F,
) -> impl Fn() -> Told<F> + Send + Sync + Clone + 'static {
    move || Told(handle.clone())
}

/// Sends back as much as there is room for.
fn send_back(cx: &mut Context<'_>) -> Flow {
    echo(&mut cx.input, &mut cx.output)
}

/// So many bytes of the stream of key 1.
fn bytes(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    keyed::fill(1, 0, &mut bytes);
    bytes
}

#[test]
fn a_timer_wakes_who_left_input_unread() {
    let service = told(|event, cx| match event {
        Event::Input => {
            cx.set_timer_in(Duration::from_millis(2));
            Flow::Wait
        }
        Event::Timer | Event::Room => send_back(cx),
        _ => Flow::More(1),
    });
    everywhere(service, |wire, _| {
        wire.send(&bytes(1500));
        assert_eq!(wire.receive(1500), bytes(1500));
        wire.stream.shutdown(Shutdown::Both).expect("it is connected");
    });
}

#[test]
fn a_waker_wakes_who_left_input_unread() {
    let (wakers, asleep) = mpsc::channel::<Waker>();
    let rouser = std::thread::spawn(move || asleep.iter().for_each(|waker| waker.wake()));
    let service = told(move |event, cx| match event {
        Event::Input => {
            wakers.send(cx.waker()).expect("the rouser lives as long as we do");
            Flow::Wait
        }
        Event::Wake | Event::Room => send_back(cx),
        _ => Flow::More(1),
    });
    everywhere(service, |wire, _| {
        wire.send(&bytes(1500));
        assert_eq!(wire.receive(1500), bytes(1500));
        wire.stream.shutdown(Shutdown::Both).expect("it is connected");
    });
    rouser.join().expect("it only wakes");
}

#[test]
fn room_wakes_who_has_more_to_write_than_fits() {
    let service = || {
        let mut at = 0;
        Told(move |_, cx: &mut Context<'_>| {
            const LEN: u64 = 1_000_000;
            let n = (cx.output.room() as u64).min(LEN - at) as usize;
            keyed::fill(1, at, &mut cx.output.spare()[..n]);
            cx.output.advance(n);
            at += n as u64;
            if at == LEN { Flow::Finish } else { Flow::Room }
        })
    };
    everywhere(service, |wire, _| assert!(wire.receive_all() == bytes(1_000_000)));
}

#[test]
fn what_was_written_before_finishing_arrives_whole() {
    for last in [|| Flow::Finish, || Flow::Close] {
        let service = told(move |event, cx| match event {
            Event::Input => {
                cx.output.write(b"head").expect("there is room");
                cx.output.send(Bytes::from(bytes(3_000_000))).expect("one value may be of any length");
                cx.output.write(b"tail").expect("there is room");
                cx.input.consume_all();
                last()
            }
            _ => Flow::More(1),
        });
        everywhere(service, |wire, _| {
            wire.send(b"go");
            let answer = wire.receive_all();
            assert!(answer == [&b"head"[..], &bytes(3_000_000), b"tail"].concat(), "{} bytes", answer.len());
        });
    }
}

#[test]
fn an_abort_is_a_reset_on_every_layer() {
    let service = told(|event, cx| match event {
        Event::Input => {
            cx.output.write(b"never sent").expect("there is room");
            Flow::Abort
        }
        _ => Flow::More(1),
    });
    everywhere(service, |wire, _| {
        wire.send(b"x");
        let end = wire.inward.read(&mut [0; 100]).expect_err("neither bytes nor an end");
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    });
}

/// Opens with a parenthesis and sends back what comes.
fn heir() -> Flow {
    Flow::Become(Box::new(Told(|event: Event, cx: &mut Context<'_>| match event {
        Event::Open => {
            cx.output.write(b"(").expect("there is room");
            Flow::More(1)
        }
        _ => send_back(cx),
    })))
}

#[test]
fn who_takes_over_gets_the_unread_input() {
    let service = told(|event, cx| match event {
        Event::Input => match cx.input.iter().position(|&byte| byte == b'!') {
            Some(at) => {
                cx.input.consume(at + 1);
                heir()
            }
            None => {
                cx.input.consume_all();
                Flow::More(1)
            }
        },
        _ => Flow::More(1),
    });
    everywhere(service, |wire, _| {
        wire.send(b"let me through!and say");
        wire.send(b" so");
        wire.end();
        assert_eq!(wire.receive_all(), b"(and say so");
    });
}

#[test]
fn who_takes_over_after_the_end_is_told_of_it() {
    let service = told(|event, _| match event {
        Event::Input => Flow::Wait,
        Event::End => heir(),
        _ => Flow::More(1),
    });
    everywhere(service, |wire, _| {
        wire.send(b"late");
        wire.end();
        assert_eq!(wire.receive_all(), b"(late");
    });
}

#[test]
fn the_end_comes_to_who_is_parked_with_input_and_does_not_end_it() {
    let service = told(|event, cx| match event {
        Event::Input => Flow::Wait,
        Event::End => {
            assert!(cx.input.is_ended());
            cx.set_timer_in(Duration::from_millis(2));
            Flow::Wait
        }
        Event::Timer | Event::Room => send_back(cx),
        _ => send_back(cx),
    });
    everywhere(service, |wire, _| {
        wire.send(&bytes(250));
        wire.end();
        assert_eq!(wire.receive_all(), bytes(250));
    });
}

#[test]
fn frames_as_long_as_a_layer_has_memory_for_come_whole() {
    const FRAME: usize = 300;
    let service = told(|event, cx| match event {
        Event::Input | Event::Room if cx.input.len() < FRAME => Flow::More(FRAME - cx.input.len()),
        Event::Input | Event::Room => {
            let frame = cx.input.consume(FRAME);
            cx.output.write(frame).expect("less than is promised");
            Flow::More(FRAME)
        }
        _ => Flow::More(1),
    });
    everywhere(service, |wire, _| {
        wire.send(&bytes(30 * FRAME + 1));
        assert_eq!(wire.receive(30 * FRAME), bytes(30 * FRAME));
        wire.end();
        assert_eq!(wire.receive_all(), []);
    });
}

#[test]
fn the_output_ends_alone_and_input_still_comes() {
    let (report, reports) = mpsc::channel();
    let service = move || {
        let (mut count, report) = (0, report.clone());
        Told(move |event, cx: &mut Context<'_>| {
            count += cx.input.consume_all().len();
            match event {
                Event::Open => {
                    cx.output.write(b"that is all").expect("there is room");
                    cx.output.end();
                    assert_eq!(cx.output.room(), 0);
                }
                Event::End => report.send(count).expect("the test waits"),
                _ => {}
            }
            Flow::More(1)
        })
    };
    everywhere(service, |wire, _| {
        assert_eq!(wire.receive_all(), b"that is all");
        wire.send(&bytes(20_000));
        wire.end();
        assert_eq!(reports.recv(), Ok(20_000));
    });
}

#[test]
fn one_direction_does_not_wait_for_the_other() {
    const LEN: u64 = 12_000_000;
    let service = || {
        let (mut read, mut written) = (0, 0);
        Told(move |_, cx: &mut Context<'_>| {
            let input = cx.input.consume_all();
            assert_eq!(keyed::differs(1, read, input), None);
            read += input.len() as u64;
            let n = (cx.output.room() as u64).min(LEN - written) as usize;
            keyed::fill(1, written, &mut cx.output.spare()[..n]);
            cx.output.advance(n);
            written += n as u64;
            match (read, written) {
                (LEN, LEN) => Flow::Finish,
                (_, LEN) => Flow::More(1),
                _ => Flow::MoreOrRoom(1),
            }
        })
    };
    everywhere(service, |wire, _| {
        // More than all buffers on the way hold: if the server waited for its reader, both would wait for ever.
        wire.send(&bytes(LEN as usize));
        assert!(wire.receive_all() == bytes(LEN as usize));
    });
}

#[test]
fn drain_reaches_everybody_and_says_goodbye() {
    let service = || echo;
    everywhere(service, |wire, server| {
        wire.send(b"x");
        assert_eq!(wire.receive(1), b"x");
        server.drain();
        assert_eq!(wire.receive_all(), []);
    });
}

#[test]
fn closed_is_told_once_with_its_reason() {
    let closed = Arc::new(AtomicUsize::new(0));
    let service = {
        let closed = Arc::clone(&closed);
        told(move |event, cx| {
            if let Event::Closed(reason) = event {
                assert!(matches!(reason, Reason::PeerGone(_)), "{reason}");
                assert!(!cx.input.is_ended(), "who is gone never said that it had sent all");
                closed.fetch_add(1, Ordering::SeqCst);
            }
            cx.input.consume_all();
            Flow::More(1)
        })
    };
    let expected = AtomicUsize::new(0);
    everywhere(service, |wire, server| {
        wire.send(b"x");
        until("it arrived", || server.counters()[0].received > 0);
        reset(wire.stream.try_clone().expect("a descriptor is left"));
        let Wire { stream, out, inward } = std::mem::replace(wire, dead_wire());
        drop((stream, out, inward));
        let told = expected.fetch_add(1, Ordering::SeqCst) + 1;
        until("Closed is told", || closed.load(Ordering::SeqCst) == told);
    });
}

/// A wire to nowhere.
fn dead_wire() -> Wire {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    Wire::connect(listener.local_addr().expect("it is bound"), 0, 1)
}

#[test]
fn answers_come_through() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let service = told(move |event, cx| match event {
        Event::Open => {
            cx.open_file(OpenFile::at(path));
            Flow::Wait
        }
        Event::Answer(_, Answer::Opened(file)) => {
            cx.read_file(&file.expect("the file is there"), 0, 100_000);
            Flow::Wait
        }
        Event::Answer(_, Answer::Read(bytes)) => {
            cx.output.send(bytes.expect("it can be read")).expect("nothing else was sent");
            Flow::Finish
        }
        _ => Flow::Wait,
    });
    let expected = std::fs::read(path).expect("the file is there");
    everywhere(service, |wire, _| assert_eq!(wire.receive_all(), expected));
}

/// Gives up on a peer that does not answer the greeting in time.
struct Impatient(Xor);

impl Layer for Impatient {
    fn open(&mut self, cx: &mut Context<'_>, inner: &mut Inner) {
        cx.set_timer_in(Duration::from_millis(100));
        self.0.open(cx, inner);
    }

    fn read(&mut self, cx: &mut Context<'_>, inner: &mut Inner) -> Flow {
        self.0.read(cx, inner)
    }

    fn write(&mut self, chunk: &[u8], output: &mut Output<'_>) -> usize {
        self.0.write(chunk, output)
    }

    fn event(&mut self, event: Event, cx: &mut Context<'_>, inner: &mut Inner) {
        match event {
            Event::Timer if !inner.is_open() => inner.abort(),
            event => inner.tell(event, cx),
        }
    }
}

#[test]
fn a_layer_and_its_inner_service_each_have_a_timer() {
    // Before the layer's and after it, by turns: neither may be lost, come early, or be taken for the other.
    let (report, reports) = mpsc::channel();
    let (server, address) = serve(Config::default(), move || {
        let report = report.clone();
        let mut due = None;
        let service = Told(move |event, cx: &mut Context<'_>| {
            match event {
                Event::Open => due = Some((cx.now() + Duration::from_millis(10), 10)),
                Event::Timer => {
                    let (at, after) = due.expect("it was set");
                    assert!(cx.now() >= at);
                    report.send(after).expect("the test waits");
                    due = [(10, 250), (250, 1)].into_iter().find_map(|(this, next)| {
                        (this == after).then(|| (cx.now() + Duration::from_millis(next), next))
                    });
                }
                _ => {}
            }
            if let Some((at, _)) = due {
                cx.set_timer(at);
            }
            Flow::Wait
        });
        Nested::new(Impatient(Xor::new(0)), service)
    });
    let _patient = Wire::connect(address, 1, 100);
    let mut silent = client(address);
    for after in [10, 250, 1] {
        assert_eq!(reports.recv(), Ok(after));
    }
    let mut hello = Vec::new();
    let end = std::io::Read::read_to_end(&mut silent, &mut hello).expect_err("it was given up on");
    assert_eq!((end.kind(), &hello[..]), (ErrorKind::ConnectionReset, &b"tower?"[..]));
    assert_eq!(server.counters()[0].connections, 1);
}
