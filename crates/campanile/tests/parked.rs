//! Nothing spins, and no wake is lost.

#![allow(clippy::print_stdout)] // It says how it went.

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use campanile::{Config, Context, Event, Flow, Waker};

use support::common::{LONG, Told, counted, process, until};
use support::wire::Wire;
use support::{layered, serve, tiny};

/// One at a time: they measure the worker's thread, which all have the same name.
static ALONE: Mutex<()> = Mutex::new(());

/// How long is looked at who ought to do nothing.
const WINDOW: Duration = Duration::from_millis(300);

/// CPU time and turns of the one worker in a window.
fn cost(server: &campanile::ServerHandle) -> (Duration, u64) {
    let &[worker] = &process::threads("campanile-0")[..] else { panic!("one worker at a time") };
    let before = (process::cpu_time(worker), counted(server).turns);
    std::thread::sleep(WINDOW);
    (process::cpu_time(worker) - before.0, counted(server).turns - before.1)
}

/// What does nothing costs nothing: the worker's turns are those of asking for its figures. What is still on its way,
/// or comes of the kernel's own timers, comes to rest first; who spins never does.
fn idles(server: &campanile::ServerHandle, what: &str) {
    until("everybody is parked", || {
        let before = counted(server);
        let (time, turns) = cost(server);
        let is_parked = before.received > 0 && turns <= 3 && time < WINDOW / 200;
        eprintln!("{what}: {turns} turns and {time:?} of CPU in {WINDOW:?}");
        is_parked
    });
}

#[test]
fn who_is_parked_with_input_and_room_costs_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    type Case = (&'static str, fn() -> Flow);
    let flows: [Case; 4] = [
        ("waits", || Flow::Wait),
        ("wants more", || Flow::More(100)),
        ("wants room though there is", || Flow::Room),
        ("wants either", || Flow::MoreOrRoom(100)),
    ];
    for (name, flow) in flows {
        for (depth, is_tight) in [(0, false), (0, true), (1, false), (2, true)] {
            let config = if is_tight { tiny() } else { Config::default() };
            let (server, address) = serve(config, move || {
                layered(
                    depth,
                    is_tight,
                    Told(
                        move |_, cx: &mut Context<'_>| {
                            if cx.input.len() >= 100 { flow() } else { Flow::More(1) }
                        },
                    ),
                )
            });
            let mut wires: Vec<Wire> = (0..20).map(|_| Wire::connect(address, depth, 100)).collect();
            wires.iter_mut().for_each(|wire| wire.send(&[1; 150]));
            idles(&server, &format!("{name} at depth {depth}"));
        }
    }
}

#[test]
fn a_client_that_does_not_read_costs_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for depth in 0..=2 {
        let (server, address) =
            serve(Config::default(), move || layered(depth, false, support::common::echo));
        let mut wires: Vec<Wire> = (0..4).map(|_| Wire::connect(address, depth, 1000)).collect();
        std::thread::scope(|scope| {
            for wire in &mut wires {
                let out = &mut wire.out;
                // More than all buffers on the way hold; it fails when the server is gone.
                scope.spawn(move || out.write_all(&vec![7; 40_000_000]).expect_err("nobody reads"));
            }
            idles(&server, &format!("nobody reads at depth {depth}"));
            drop(server);
        });
    }
}

#[test]
fn no_wake_is_lost() {
    const WAKES: u64 = 100_000;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let posted = Arc::new(AtomicU64::new(0));
    let seen = Arc::new(AtomicU64::new(0));
    let (tell, wakers) = mpsc::channel::<Waker>();
    let (server, address) = {
        let (posted, seen) = (Arc::clone(&posted), Arc::clone(&seen));
        serve(Config::default(), move || {
            let (posted, seen, tell) = (Arc::clone(&posted), Arc::clone(&seen), tell.clone());
            layered(
                1,
                false,
                Told(move |event, cx: &mut Context<'_>| {
                    match event {
                        Event::Open => tell.send(cx.waker()).expect("the test waits"),
                        Event::Wake => seen.store(posted.load(Ordering::SeqCst), Ordering::SeqCst),
                        _ => {}
                    }
                    Flow::Wait
                }),
            )
        })
    };
    let _wire = Wire::connect(address, 1, 100);
    let waker = wakers.recv().expect("the service opens");
    let turns = counted(&server).turns;
    let began = Instant::now();
    for wake in 1..=WAKES {
        posted.store(wake, Ordering::SeqCst);
        waker.wake();
        // By turns at once, which meets a busy worker, and when the last was seen and a moment later, which meets one
        // that is just going to park.
        if wake % 4 == 0 {
            continue;
        }
        while seen.load(Ordering::SeqCst) < wake {
            assert!(began.elapsed() < LONG, "wake {wake} is lost");
            std::thread::yield_now();
        }
        (0..wake % 64).for_each(|_| std::hint::spin_loop());
    }
    until("the last is seen", || seen.load(Ordering::SeqCst) == WAKES);
    eprintln!("{WAKES} wakes in {:?}, {} turns", began.elapsed(), counted(&server).turns - turns);
}
