//! Tests of what only a real ring can show: registrations, and how long it waits.

use std::time::Instant;

use super::*;
use crate::config::Config;
use crate::worker::memory_for;

fn small(waits: Waits, memory: &Memory) -> KernelRing {
    let abilities = Abilities {
        direct: false,
        bundle: false,
        budget: false,
        socket: false,
        set_option: false,
        bind_listen: false,
    };
    let shape = Shape { queue_entries: 32, table: 0, abilities, flavour: Flavour::Full, tells: false, waits };
    KernelRing::new(shape, memory).expect("a small ring")
}

fn little_memory() -> Memory {
    memory_for(&Config { receive_buffers: 8, ..Config::default() })
}

#[test]
fn a_ring_that_is_gone_is_registered_no_more() {
    let memory = little_memory();
    // A task may register sixteen.
    for _ in 0..20 {
        small(Waits::default(), &memory);
    }
    let mut ring = IoUring::new(2).expect("a small ring");
    let (mut submitter, ..) = ring.split();
    submitter.register_ring_fd().expect("a free place");
    submitter.unregister_ring_fd().expect("it was registered");
}

#[test]
fn completions_are_gathered_for_as_long_as_was_said() {
    let memory = little_memory();
    let min_wait = Duration::from_millis(60);
    let mut ring = small(Waits { min_wait, ..Waits::default() }, &memory);
    if !ring.gathers() {
        return eprintln!("skipped: gathering is a feature of Linux 6.12");
    }
    for timeout in [None, Some(Duration::from_secs(60))] {
        // Fails at once, and is alone: without gathering it would be told at once.
        let token = Token::new(Kind::CloseStray, Generation::default(), 0);
        ring.submit(token, Submission::Close { descriptor: Descriptor::Plain(-1) }, &memory);
        let (began, mut batch) = (Instant::now(), Vec::new());
        ring.wait(timeout, &memory, &mut batch).expect("a ring that works");
        assert_eq!(batch.len(), 1);
        assert!(began.elapsed() >= min_wait, "told after {:?}", began.elapsed());
    }
    // A timer that is due earlier is not late for it.
    let (began, mut batch) = (Instant::now(), Vec::new());
    ring.wait(Some(Duration::from_millis(5)), &memory, &mut batch).expect("a ring that works");
    assert!(batch.is_empty() && began.elapsed() < min_wait * 100);
    // Where there is nothing to gather it sleeps on.
    let token = Token::new(Kind::Wake, Generation::default(), 0);
    let kick = ring.kick(&memory, token).expect("an eventfd");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(min_wait * 3);
            kick.kick();
        });
        ring.wait(None, &memory, &mut batch).expect("a ring that works");
    });
    assert_eq!(batch.len(), 1);
}

#[test]
fn cards_are_polled_where_the_kernel_can() {
    let memory = little_memory();
    let waits = Waits { napi_busy_poll: Duration::from_micros(50), ..Waits::default() };
    let ring = small(waits, &memory);
    if let Some(error) = ring.napi_refused() {
        return eprintln!("skipped: {error}");
    }
    // The kernel tells what was registered before.
    let mut registered = types::Napi::new();
    ring.queue.submitter.unregister_napi(&mut registered).expect("it was registered");
    assert_eq!(registered.busy_poll_timeout(), 50);
}
