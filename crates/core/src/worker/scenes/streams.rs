//! Scenes of async handlers: deadlines while they wait for their client, and while they do not; sleeps, and a hundred
//! thousand of them.

use std::cell::Cell;
use std::future::Future;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

use super::*;
use crate::stream::endpoint::{Endpoint, Handle};
use crate::stream::{Ending, Stream};
use crate::time::Time;
use crate::{interval, sleep, sleep_until, spawn, timeout, yield_now};

/// When a client leaves that is not to.
const LATE: Duration = Duration::from_secs(1_000_000);

/// The service of an async handler, made when its connection is there.
fn handled<F: Future<Output = ()> + 'static>(handler: impl Fn(Stream) -> F + 'static) -> impl Service {
    let handle: Handle = Box::new(move |stream| {
        let handling = handler(stream);
        Box::pin(async move {
            handling.await;
            Ending::Done
        })
    });
    Late(Some(handle), None)
}

/// An endpoint that is made when its connection is there.
struct Late(Option<Handle>, Option<Endpoint>);

impl Service for Late {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        let Late(handle, endpoint) = self;
        let make = || Endpoint::handled(handle.take().expect("it is made once"));
        endpoint.get_or_insert_with(make).handle(event, cx)
    }
}

/// In which ways a handler may wait for a frame.
#[derive(Debug, Clone, Copy)]
enum Waits {
    Itself,
    /// By a waker that is not the connection's.
    InSet,
    InTask,
    /// Dropped and begun again every now and then.
    InPieces,
}

const WAITS: [Waits; 4] = [Waits::Itself, Waits::InSet, Waits::InTask, Waits::InPieces];

async fn frame(stream: &mut Stream, len: usize, waits: Waits) -> bool {
    let filled = match waits {
        Waits::Itself | Waits::InTask => stream.fill(len).await,
        Waits::InSet => {
            let mut set: FuturesUnordered<_> = [stream.fill(len)].into_iter().collect();
            set.next().await.expect("there is one")
        }
        Waits::InPieces => loop {
            if let Ok(filled) = timeout(Duration::from_millis(700), stream.fill(len)).await {
                break filled;
            }
        },
    };
    let is_whole = filled.is_ok_and(|filled| filled >= len);
    if is_whole {
        stream.consume(len);
    }
    is_whole
}

fn framed(len: usize, waits: Waits) -> impl Service {
    let read = move |mut stream: Stream| async move { while frame(&mut stream, len, waits).await {} };
    handled(move |stream| async move {
        match waits {
            Waits::InTask => drop(spawn(read(stream))),
            _ => read(stream).await,
        }
    })
}

#[test]
fn a_frame_that_trickles_into_a_future_is_cut_and_one_in_time_is_not() {
    let limit = Config::default().frame_timeout.expect("by default there is one").as_secs();
    for waits in WAITS {
        let trickle = Client::new(Pace::bytes(1, SECOND), Pace::NEVER, LATE);
        let played = play(Config::default(), trickle, framed(1_000, waits));
        assert_eq!(played.over(), (limit, Reason::Incomplete), "{waits:?}");
        played.assert_counted(Timeout::Frame);

        // Ten frames, each as slowly as it may come; the last is not completed, and has its own time.
        let slow = Pace::bytes(1, SECOND).times(10 * (limit as u32 - 1) + 1);
        let slow = Client::new(slow, Pace::NEVER, LATE);
        let played = play(Config::default(), slow, framed(limit as usize - 1, waits));
        assert_eq!(played.over(), (10 * (limit - 1) + limit, Reason::Incomplete), "{waits:?}");

        // The same with frames that do not end where what is sent ends: each second one has begun when one is complete.
        let len = 2 * (limit as usize - 2) + 1;
        let slow = Pace::bytes(2, SECOND).times(10 * limit as u32);
        let slow = Client::new(slow, Pace::NEVER, LATE);
        let played = play(Config::default(), slow, framed(len, waits));
        let (over, reason) = played.over();
        assert!(over > 10 * limit && reason == Reason::Incomplete, "{waits:?}: {:?}", played.end);
    }
}

#[test]
fn a_client_is_idle_only_while_somebody_waits_for_it() {
    let idle = Config::default().idle_timeout.expect("by default there is one");
    for waits in WAITS {
        let silent = Client::new(Pace::NEVER, Pace::NEVER, LATE);
        let played = play(Config::default(), silent, framed(1, waits));
        assert_eq!(played.over(), (idle.as_secs(), Reason::Idle), "{waits:?}");
    }
    // One that has been waited for, and is not any more.
    let silent = Client::new(Pace::NEVER, Pace::NEVER, LATE);
    let sleepy = handled(move |mut stream: Stream| async move {
        timeout(SECOND, stream.fill(1)).await.expect_err("it says nothing");
        sleep(10 * idle).await;
    });
    let played = play(Config { linger_time: SECOND, ..Config::default() }, silent, sleepy);
    assert_eq!(played.over(), (10 * idle.as_secs() + 2, Reason::Finished));
}

/// A task that has read what it waited for, and is busy with it, costs its client no time.
#[test]
fn a_client_is_not_idle_while_a_task_works_on_what_it_said() {
    let idle = Config::default().idle_timeout.expect("by default there is one");
    let busy = move |way| {
        let work = move |mut stream: Stream| async move {
            stream.fill(1).await.expect("it says something");
            stream.consume(1);
            sleep(10 * idle).await;
        };
        handled(move |stream| async move {
            match way {
                Waits::InTask => drop(spawn(work(stream))),
                Waits::InSet => [work(stream)].into_iter().collect::<FuturesUnordered<_>>().collect().await,
                _ => work(stream).await,
            }
        })
    };
    for way in [Waits::Itself, Waits::InSet, Waits::InTask] {
        let asks = Client::new(Pace::bytes(1, SECOND).times(1), Pace::NEVER, LATE);
        let config = Config { linger_time: SECOND, ..Config::default() };
        let (over, reason) = play(config, asks, busy(way)).over();
        assert!(over >= 10 * idle.as_secs() && reason == Reason::Finished, "{way:?}: {over} s, {reason}");
    }
}

struct Nobody;

impl Peers for Nobody {
    fn act(&mut self, _: &mut World) -> Next {
        Next::Never
    }
}

/// A worker with nobody to serve, which runs what is spawned on it until that is over.
fn run_alone(main: impl Future<Output = ()> + 'static) -> Counters {
    let mut world = World::new(Random::new(1), 16);
    world.faults = Faults::none();
    let clock = world.clock.clone();
    let config = Config::default().checked().expect("a configuration that works");
    let memory = memory_for(&config);
    let sizes = Sizes { submission_queue: 64, completion_queue: 256 };
    let ring = SimulatedRing::new(world, sizes, ABILITIES, Rc::new(RefCell::new(Nobody)));
    let factory = Box::new(|_| unreachable!("nobody comes"));
    let mut worker =
        Worker::new(ring, memory, config, Box::new(clock), || factory).expect("a simulated kick");
    let local = Rc::clone(worker.local());
    let is_done = Rc::new(Cell::new(false));
    let done = Rc::clone(&is_done);
    let main = async move {
        main.await;
        done.set(true);
    };
    drop(crate::task::spawn_on(&local, main));
    while !is_done.get() {
        assert_eq!(local.tasks.panicked(), 0, "see above");
        assert!(worker.turn().expect("the ring turns"), "it goes on");
    }
    let counters = worker.counters();
    drop(worker);
    assert_eq!((local.tasks.live(), local.sleeps.len(), local.awaited()), (0, 0, 0));
    assert_eq!(Rc::strong_count(&local), 1, "somebody still holds on to the worker");
    counters
}

/// Asserts that this is the tick of the wheel that `at` falls into: neither before, nor later.
fn assert_is(at: Time) {
    let now = crate::now();
    assert!(at <= now && now.millis() <= at.millis_up(), "{now:?} for {at:?}");
}

#[test]
fn sleeps_end_at_their_tick_and_cost_no_turn_before() {
    for ms in [0, 1, 2, 63, 64, 65, 4_095, 4_096, 100_000, 86_400_000, 40 * 86_400_000] {
        let counters = run_alone(async move {
            let length = Duration::from_millis(ms);
            for _ in 0..2 {
                let at = crate::now() + length;
                sleep(length).await;
                assert_is(at);
                let at = crate::now() + length;
                sleep_until(at).await;
                assert_is(at);
            }
        });
        assert_eq!(counters.panicked, 0);
        // The wheel has one level for each factor of 64, and a sleep moves down them.
        let levels = u64::from(ms.checked_ilog2().unwrap_or(0)) / 6 + 1;
        // A ring is never told to wait for more than a day.
        let most = 2 + 4 * (1 + levels + ms / 86_400_000);
        assert!(counters.turns <= most, "{} turns for {ms} ms", counters.turns);
    }
}

/// A wake that comes while a task is polled is for its next turn, and not lost.
#[test]
fn a_task_that_wakes_itself_is_polled_again() {
    run_alone(async {
        let yields = spawn(async {
            for _ in 0..3 {
                yield_now().await;
            }
        });
        assert_eq!(timeout(Duration::from_secs(1), yields).await, Ok(Ok(())));
    });
}

#[test]
fn a_timeout_and_an_interval_keep_their_time() {
    let counters = run_alone(async {
        let at = crate::now() + SECOND;
        assert!(timeout(SECOND, std::future::pending::<()>()).await.is_err());
        assert_is(at);
        let at = crate::now() + SECOND / 2;
        assert_eq!(timeout(SECOND, sleep(SECOND / 2)).await, Ok(()));
        assert_is(at);
        // Longer than there is time.
        assert!(sleep(Duration::MAX).now_or_never().is_none());

        let begun = crate::now();
        let mut ticks = interval(SECOND / 4);
        for tick in 1..=8 {
            // One that is waited for in vain takes nothing away.
            assert!(ticks.tick().now_or_never().is_none());
            assert_eq!(ticks.tick().await, begun + tick * SECOND / 4);
            assert_is(begun + tick * SECOND / 4);
        }
        // Those that were missed are left out, and the next is in time.
        sleep(Duration::from_millis(1_100)).await;
        assert_eq!(ticks.tick().await, begun + 9 * SECOND / 4);
        assert_eq!(ticks.tick().await, begun + 13 * SECOND / 4);
        assert_is(begun + 13 * SECOND / 4);
    });
    assert_eq!(counters.panicked, 0);
}

#[test]
fn a_hundred_thousand_tasks_sleep_and_wake_at_their_tick() {
    const TASKS: u64 = if cfg!(miri) { 100 } else { 100_000 };
    const LONGEST: usize = 600_000;
    let woken = Rc::new(Cell::new(0));
    let all = Rc::clone(&woken);
    let counters = run_alone(async move {
        let mut random = Random::new(7);
        for _ in 0..TASKS {
            let length = Duration::from_millis(random.below(LONGEST) as u64);
            let (at, woken) = (crate::now() + length, Rc::clone(&woken));
            drop(spawn(async move {
                sleep(length).await;
                assert_is(at);
                woken.set(woken.get() + 1);
            }));
        }
        sleep(Duration::from_millis(LONGEST as u64)).await;
    });
    assert_eq!((all.get(), counters.panicked), (TASKS, 0));
    // It turns for the ticks that somebody sleeps until, and for the slots of the wheel that these come out of.
    let most = LONGEST + LONGEST / 64 + LONGEST / 4096 + 10;
    assert!(counters.turns <= most as u64, "{} turns", counters.turns);
}
