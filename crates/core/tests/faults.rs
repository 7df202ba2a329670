//! Faults: a panic in any of a user's callbacks costs its own connection and is counted; a worker that dies takes the
//! server with it, and says why.

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use campanile_core::{
    Connect, Context, Event, Flow, Inner, Layer, Nested, OpenFile, Output, Server, Service,
};
use support::{Told, client, counted, echo, round, tcp, until};

/// A panic, without a line on standard error for each.
fn fall() -> ! {
    resume_unwind(Box::new("on purpose"))
}

/// Panics when it is dropped, or made where services share one.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        fall();
    }
}

impl Default for Bomb {
    fn default() -> Bomb {
        fall()
    }
}

/// A layer that panics where it says.
struct Cracked(&'static str);

impl Layer for Cracked {
    fn open(&mut self, _: &mut Context<'_>, inner: &mut Inner) {
        if self.0 == "open" {
            fall();
        }
        inner.open();
    }

    fn read(&mut self, cx: &mut Context<'_>, inner: &mut Inner) -> Flow {
        if self.0 == "read" {
            fall();
        }
        inner.give(cx.input.consume_all(), cx);
        Flow::More(1)
    }

    fn write(&mut self, _: &[u8], _: &mut Output<'_>) -> usize {
        fall()
    }
}

type Closure = Box<dyn FnMut(Event, &mut Context<'_>) -> Flow>;

/// A service that does `first` when it is opened, and panics when it is told of what `falls` means.
fn at(falls: fn(&Event) -> bool, first: fn(&mut Context<'_>) -> Flow) -> Closure {
    Box::new(move |event, cx| {
        if falls(&event) {
            fall();
        }
        if matches!(event, Event::Open) { first(cx) } else { Flow::More(1) }
    })
}

/// A service that becomes another when it is opened.
fn becomes(service: impl Service + 'static) -> Closure {
    let mut next = Some(service);
    Box::new(move |_, _| next.take().map_or(Flow::More(1), |next| Flow::Become(Box::new(next))))
}

fn more(_: &mut Context<'_>) -> Flow {
    Flow::More(1)
}

type Make = fn() -> Closure;

/// Where a service panics, and one that does. The last one is for the drain.
const PLACES: &[(&str, Make)] = &[
    ("making it", || fall()),
    ("open", || at(|event| matches!(event, Event::Open), more)),
    ("input", || at(|event| matches!(event, Event::Input), more)),
    ("end", || {
        Box::new(|event, cx| {
            cx.input.consume_all();
            if matches!(event, Event::End) { fall() } else { Flow::More(1) }
        })
    }),
    ("room", || {
        at(
            |event| matches!(event, Event::Room),
            |cx| {
                cx.output.write(b"something").expect("there is room at the beginning");
                Flow::Room
            },
        )
    }),
    ("timer", || {
        at(
            |event| matches!(event, Event::Timer),
            |cx| {
                cx.set_timer_in(Duration::from_millis(1));
                Flow::Wait
            },
        )
    }),
    ("wake", || {
        at(
            |event| matches!(event, Event::Wake),
            |cx| {
                cx.waker().wake();
                Flow::Wait
            },
        )
    }),
    ("the answer to an errand", || {
        at(
            |event| matches!(event, Event::Answer(..)),
            |cx| {
                cx.open_file(OpenFile::at("/nowhere/at/all"));
                Flow::Wait
            },
        )
    }),
    ("closed", || at(|event| matches!(event, Event::Closed(_)), |_| Flow::Finish)),
    ("dropping it", || {
        let bomb = Bomb;
        Box::new(move |_, _| {
            let _ = &bomb;
            Flow::Finish
        })
    }),
    ("what it was before", || {
        let (bomb, mut next) = (Bomb, Some(echo));
        Box::new(move |_, _| {
            let _ = &bomb;
            next.take().map_or(Flow::More(1), |next| Flow::Become(Box::new(next)))
        })
    }),
    ("what it became", || becomes(Told(at(|event| matches!(event, Event::Open), more)))),
    ("what it learned", || {
        at(
            |_| false,
            |cx| {
                cx.learn(Bomb);
                Flow::Finish
            },
        )
    }),
    ("what it shares", || {
        at(
            |_| false,
            |cx| {
                let _ = cx.shared::<Bomb>();
                Flow::Finish
            },
        )
    }),
    ("a connection of its own", || {
        at(
            |_| false,
            |cx| {
                let own = cx.local_addr().expect("it is connected");
                cx.connect(Connect::to(own), Told(at(|event| matches!(event, Event::Open), more)));
                Flow::More(1)
            },
        )
    }),
    ("a layer's open", || becomes(Nested::new(Cracked("open"), echo))),
    ("a layer's read", || becomes(Nested::new(Cracked("read"), echo))),
    ("a layer's write", || becomes(Nested::new(Cracked("write"), echo))),
    ("drain", || at(|event| matches!(event, Event::Drain), more)),
];

#[test]
fn a_panic_anywhere_costs_one_connection_and_is_counted() {
    // The next connection's place; beyond the last, an echo.
    let place = Arc::new(AtomicUsize::new(usize::MAX));
    let asked = Arc::clone(&place);
    let server = Server::new().listen("127.0.0.1:0").workers(1).serve(move || {
        let place = PLACES.get(asked.swap(usize::MAX, Ordering::SeqCst));
        let service: Closure = place.map_or_else(
            || Box::new(|_: Event, cx: &mut Context<'_>| echo(&mut cx.input, &mut cx.output)) as Closure,
            |(_, make)| make(),
        );
        Told(service)
    });
    let server = server.expect("a free port of loopback");
    let mut other = client(tcp(&server));
    assert_eq!(round(&mut other, b"hello").unwrap(), b"hello");
    for (index, (name, _)) in PLACES.iter().enumerate() {
        place.store(index, Ordering::SeqCst);
        let mut stream = client(tcp(&server));
        if *name == "drain" {
            until("it is accepted", || counted(&server).connections == 2);
            server.drain();
        } else {
            let _ = stream.write_all(b"hello").and_then(|()| stream.shutdown(Shutdown::Write));
        }
        // An end or a reset, each is right.
        let _ = stream.read_to_end(&mut Vec::new());
        until(&format!("{name} is over"), || counted(&server).connections == 1);
        assert_eq!(counted(&server).panicked, index as u64 + 1, "{name}");
        assert_eq!(round(&mut other, b"hello").unwrap(), b"hello", "after {name}");
    }
    drop(other);
    server.wait().expect("no worker has panicked");
}
