//! Scenes: one client of a known pace against a worker on the simulated ring, to see both sides of every deadline. Time
//! is virtual, so an hour of it takes no time, and nothing depends on how busy the machine is.

mod streams;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::Config;
use crate::counters::Counters;
use crate::nested::{Inner, Layer, Nested};
use crate::output::Output;
use crate::ring::Abilities;
use crate::ring::simulated::faults::Faults;
use crate::ring::simulated::kernel::Sizes;
use crate::ring::simulated::random::Random;
use crate::ring::simulated::world::{Found, StreamId, ThingId, World};
use crate::ring::simulated::{Next, Peers, SimulatedRing};
use crate::service::{Context, Event, Flow, Reason, Service};
use crate::timeout::Timeout;

use super::{Listening, Worker, memory_for};

const SECOND: Duration = Duration::from_secs(1);

const ABILITIES: Abilities =
    Abilities { direct: true, bundle: true, budget: true, socket: true, set_option: true, bind_listen: true };

/// So many bytes, every so often.
#[derive(Debug, Clone, Copy)]
struct Pace {
    bytes: usize,
    every: Duration,
    /// How often, at most.
    times: u32,
}

impl Pace {
    const NEVER: Pace = Pace { bytes: 0, every: SECOND, times: 0 };

    fn bytes(bytes: usize, every: Duration) -> Pace {
        Pace { bytes, every, times: u32::MAX }
    }

    fn times(self, times: u32) -> Pace {
        Pace { times, ..self }
    }
}

/// A client that keeps its pace.
struct Client {
    listener: Option<ThingId>,
    stream: Option<StreamId>,
    sends: Pace,
    reads: Pace,
    next_send: Duration,
    next_read: Duration,
    /// Bytes that the sockets between hold on their way to it.
    buffer: usize,
    received: usize,
    leaves_at: Duration,
}

impl Client {
    fn new(sends: Pace, reads: Pace, leaves_at: Duration) -> Client {
        let next_read = reads.every;
        let (listener, stream, next_send) = (None, None, Duration::ZERO);
        Client { listener, stream, sends, reads, next_send, next_read, buffer: 4096, received: 0, leaves_at }
    }
}

impl Peers for Client {
    fn act(&mut self, world: &mut World) -> Next {
        let now = world.now();
        let Some(id) = self.stream else {
            self.stream = self.listener.and_then(|listener| world.connect(listener, 1));
            if let Some(id) = self.stream {
                (world.streams[id].up_capacity, world.streams[id].down_capacity) = (1 << 16, self.buffer);
            }
            return Next::Now;
        };
        let stream = &mut world.streams[id];
        let mut moved = false;
        if self.sends.times > 0 && self.next_send <= now {
            self.sends.times -= 1;
            self.next_send += self.sends.every;
            moved |= stream.write(&vec![b'x'; self.sends.bytes]).is_some();
        }
        if self.reads.times > 0 && self.next_read <= now {
            self.reads.times -= 1;
            self.next_read += self.reads.every;
            if let Found::Bytes(n) = stream.read(self.reads.bytes, &mut Vec::new()) {
                (self.received, moved) = (self.received + n, true);
            }
        }
        if self.leaves_at <= now {
            stream.reset(libc::ECONNRESET);
            return Next::Never;
        }
        if moved {
            return Next::Now;
        }
        let of = |pace: Pace, next| if pace.times > 0 { next } else { Duration::MAX };
        let next = of(self.sends, self.next_send).min(of(self.reads, self.next_read));
        Next::At(next.min(self.leaves_at))
    }
}

/// How it went: what the service was told, with the time of it, and what was counted.
struct Played {
    told: Vec<(Duration, &'static str)>,
    end: (Duration, Reason),
    received: usize,
    counters: Counters,
}

impl Played {
    /// The whole seconds after which the connection was over, and why.
    fn over(&self) -> (u64, Reason) {
        (self.end.0.as_secs(), self.end.1)
    }

    fn assert_counted(&self, timeout: Timeout) {
        let mut expected = Counters::default();
        expected.count_timeout(timeout);
        let kinds = |counters: &Counters| {
            let kinds = Counters::FIGURES.iter().filter(|figure| figure.name == "timeouts");
            kinds.map(|figure| figure.of(counters)).collect::<Vec<_>>()
        };
        assert_eq!(kinds(&self.counters), kinds(&expected));
    }
}

type Log = Rc<RefCell<Vec<(Duration, &'static str)>>>;
type End = Rc<RefCell<Option<(Duration, Reason)>>>;

/// Notes what its inner service is told.
struct Noting(Box<dyn Service>, Log, End);

impl Service for Noting {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        let now = cx.now().since_start();
        match event {
            Event::Closed(reason) => *self.2.borrow_mut() = Some((now, reason)),
            Event::Drain => self.1.borrow_mut().push((now, "drain")),
            _ => {}
        }
        self.0.handle(event, cx)
    }
}

fn play(config: Config, client: Client, service: impl Service + 'static) -> Played {
    let mut world = World::new(Random::new(1), 16);
    world.faults = Faults::none();
    (world.send_stall, world.send_rate) = (config.send_stall, config.send_rate);
    let clock = world.clock.clone();
    let config = config.checked().expect("a configuration that works");
    let memory = memory_for(&config);
    let client = Rc::new(RefCell::new(client));
    let sizes = Sizes { submission_queue: 64, completion_queue: 256 };
    let mut ring = SimulatedRing::new(world, sizes, ABILITIES, Rc::clone(&client));
    let (descriptor, listener) = ring.listener();
    client.borrow_mut().listener = Some(listener);
    let (told, end) = (Log::default(), End::default());
    let mut service = Some(Noting(Box::new(service), Rc::clone(&told), Rc::clone(&end)));
    let factory = Box::new(move |_| Box::new(service.take().expect("one client comes")) as Box<dyn Service>);
    let mut worker =
        Worker::new(ring, memory, config, Box::new(clock), || factory).expect("a simulated kick");
    worker.listen(Listening::at(0, descriptor, 1));
    for turns in 0.. {
        if end.borrow().is_some() {
            break;
        }
        assert!(turns < 1_000_000, "it goes on for ever");
        assert!(worker.turn().expect("the ring turns"), "it goes on");
    }
    let (counters, received) = (worker.counters(), client.borrow().received);
    drop(worker);
    let end = end.borrow_mut().take().expect("it has ended");
    Played { told: told.take(), end, received, counters }
}

/// What a client that is gone leaves.
fn is_gone(reason: Reason) -> bool {
    matches!(reason, Reason::PeerGone(_) | Reason::Finished)
}

/// Takes frames of so many bytes.
fn frames(len: usize) -> impl FnMut(&mut crate::Input<'_>, &mut Output<'_>) -> Flow {
    move |input, _| {
        while input.len() >= len {
            input.consume(len);
        }
        Flow::More(len - input.len())
    }
}

/// Answers the first byte with as much as there is no end to, in one of the ways there are.
fn endless(way: Way) -> impl Service {
    let answer = Bytes::from(vec![b'a'; 1 << 16]);
    let mut is_asked = false;
    move |input: &mut crate::Input<'_>, output: &mut Output<'_>| {
        is_asked |= !input.consume_all().is_empty();
        if !is_asked {
            return Flow::More(1);
        }
        match way {
            Way::Written => output.write(&answer[..output.room()]).expect("no longer than the room"),
            // What is refused is tried again when there is room.
            Way::Sent => _ = output.send(answer.clone()),
            Way::Lent => {
                let _ = output.take_returned();
                let _ = output.lend(answer.clone());
            }
        }
        Flow::Room
    }
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Written,
    Sent,
    Lent,
}

const WAYS: [Way; 3] = [Way::Written, Way::Sent, Way::Lent];

#[test]
fn who_says_something_in_time_is_not_idle_and_who_does_not_is() {
    let idle = Config::default().idle_timeout.expect("by default there is one").as_secs();
    let talk = Pace::bytes(1, Duration::from_secs(idle - 1)).times(10);
    let played = play(Config::default(), Client::new(talk, Pace::NEVER, Duration::MAX), frames(1));
    assert_eq!(played.over(), (9 * (idle - 1) + idle, Reason::Idle));
    played.assert_counted(Timeout::Idle);

    // One that never said anything.
    let silent = || Client::new(Pace::NEVER, Pace::NEVER, Duration::from_secs(1_000_000));
    assert_eq!(play(Config::default(), silent(), frames(1)).over(), (idle, Reason::Idle));
    let off = Config { idle_timeout: None, ..Config::default() };
    assert!(is_gone(play(off, silent(), frames(1)).end.1));
    // A service that does not wait for its client says itself how long.
    let patient = |_: &mut crate::Input<'_>, _: &mut Output<'_>| Flow::Wait;
    let talk = Pace::bytes(1, SECOND).times(1);
    let played =
        play(Config::default(), Client::new(talk, Pace::NEVER, Duration::from_secs(5 * idle)), patient);
    assert!(played.end.0 >= Duration::from_secs(5 * idle), "{:?}", played.end);
}

#[test]
fn what_is_sent_is_no_idleness() {
    let config =
        Config { idle_timeout: Some(30 * SECOND), frame_timeout: Some(20 * SECOND), ..Config::default() };
    for way in WAYS {
        // It sends half a frame more while it reads: nobody waits for the rest of that.
        let client = Client::new(
            Pace::bytes(1, SECOND).times(2),
            Pace::bytes(2_000, SECOND),
            Duration::from_secs(600),
        );
        let played = play(config.clone(), client, endless(way));
        assert!(is_gone(played.end.1), "{way:?}: {:?}", played.end);
    }
}

/// A layer that changes nothing.
struct Plain;

impl Layer for Plain {
    fn read(&mut self, cx: &mut Context<'_>, inner: &mut Inner) -> Flow {
        inner.give(cx.input.consume_all(), cx);
        Flow::More(1)
    }

    fn write(&mut self, chunk: &[u8], output: &mut Output<'_>) -> usize {
        let n = chunk.len().min(output.room());
        output.write(&chunk[..n]).expect("no longer than the room");
        n
    }
}

#[test]
fn a_frame_that_trickles_in_is_cut_and_one_in_time_is_not() {
    let limit = Config::default().frame_timeout.expect("by default there is one").as_secs();
    for layers in 0..3 {
        let service = |len| {
            (0..layers).fold(Box::new(frames(len)) as Box<dyn Service>, |inner, _| {
                Box::new(Nested::new(Plain, inner))
            })
        };
        let trickle = Client::new(Pace::bytes(1, SECOND), Pace::NEVER, Duration::MAX);
        let played = play(Config::default(), trickle, service(1_000));
        assert_eq!(played.over(), (limit, Reason::Incomplete), "{layers} layers");
        played.assert_counted(Timeout::Frame);

        // Ten frames, each as slowly as it may come; the last is not completed, and has its own time.
        let slow = Pace::bytes(1, SECOND).times(10 * (limit as u32 - 1) + 1);
        let slow = Client::new(slow, Pace::NEVER, Duration::MAX);
        let played = play(Config::default(), slow, service(limit as usize - 1));
        assert_eq!(played.over(), (10 * (limit - 1) + limit, Reason::Incomplete), "{layers} layers");

        let off = Config { frame_timeout: None, ..Config::default() };
        let trickle = Client::new(Pace::bytes(1, SECOND), Pace::NEVER, Duration::from_secs(900));
        assert!(is_gone(play(off, trickle, service(1_000)).end.1), "{layers} layers");
    }
}

#[test]
fn a_reader_at_twice_the_least_rate_is_never_cut_and_one_at_half_is() {
    let rate = Config::default().send_rate as usize;
    for way in WAYS {
        // In small steps, and in one that takes nearly all of the time there is.
        for (step, buffer) in [(SECOND / 10, 4096), (SECOND * 50, 240_000)] {
            let bytes = |times_rate: f64| (times_rate * rate as f64 * step.as_secs_f64()) as usize;
            let reader = |times_rate: f64| {
                let pace = Pace::bytes(bytes(times_rate), step);
                let client = Client::new(Pace::bytes(1, SECOND).times(1), pace, Duration::from_secs(3600));
                Client { buffer, ..client }
            };
            let played = play(Config::default(), reader(2.0), endless(way));
            assert!(is_gone(played.end.1), "{way:?} by {step:?}: {:?}", played.end);
            assert!(played.end.0 >= 3600 * SECOND && played.received >= 3500 * 2 * rate, "{way:?}");

            let played = play(Config::default(), reader(0.5), endless(way));
            let (after, reason) = played.over();
            assert_eq!(reason, Reason::TooSlow, "{way:?} by {step:?} after {after} s");
            // Twice the stall time, once the sockets' buffers are full; and what these take is counted first.
            assert!((60..=250).contains(&after), "{way:?} by {step:?}: cut after {after} s");
            played.assert_counted(Timeout::SendRate);
        }
        let none = Config { send_rate: 0, ..Config::default() };
        let client = Client::new(Pace::bytes(1, SECOND).times(1), Pace::bytes(1, 50 * SECOND), 3600 * SECOND);
        let client = Client { buffer: 1, ..client };
        assert!(is_gone(play(none, client, endless(way)).end.1), "{way:?}: any byte in time is enough");
    }
}

#[test]
fn who_takes_nothing_is_cut_after_the_stall_time() {
    for way in WAYS {
        // What the sockets took is known when the first stall time is over, and gives back a second of it, or all.
        for (buffer, after) in [(1_000, 61), (160_000, 120)] {
            let client = Client::new(Pace::bytes(1, SECOND).times(1), Pace::NEVER, Duration::MAX);
            let played = play(Config::default(), Client { buffer, ..client }, endless(way));
            let (over, reason) = played.over();
            assert!((60..=after).contains(&over), "{way:?}: {over} s");
            // Whoever took something since the time was full was slow.
            assert!(
                matches!(reason, Reason::Stalled | Reason::TooSlow),
                "{way:?}: {reason:?} after {over} s"
            );
            played.assert_counted(reason.timeout().expect("it is one"));
        }
    }
}

/// A service that answers slowly is not its client's fault: each time that all was taken begins anew.
#[test]
fn a_slow_service_costs_its_client_no_time() {
    struct Ticks(u32);
    impl Service for Ticks {
        fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
            if matches!(event, Event::Open | Event::Timer) {
                self.0 += 1;
                cx.output.write(b"tick").expect("room for a tick");
                cx.set_timer_in(Duration::from_secs(55));
            }
            if self.0 > 100 { Flow::Finish } else { Flow::Wait }
        }
    }
    let reader = Client::new(Pace::NEVER, Pace::bytes(1, SECOND), 10_000 * SECOND);
    let played = play(Config::default(), Client { buffer: 1, ..reader }, Ticks(0));
    assert!(is_gone(played.end.1) && played.received >= 400, "{:?} after {}", played.end, played.received);
}

#[test]
fn a_connection_that_is_too_old_is_told_and_then_closed() {
    let config = Config {
        lifetime: Some(3600 * SECOND),
        lifetime_grace: 20 * SECOND,
        idle_timeout: Some(100 * SECOND),
        ..Config::default()
    };
    let talker = || Client::new(Pace::bytes(1, SECOND), Pace::NEVER, Duration::MAX);
    // It finishes when it is told to.
    let played = play(config.clone(), talker(), frames(1));
    assert_eq!((played.told.len(), played.told[0].0.as_secs()), (1, 3600));
    assert_eq!(played.end.1, Reason::Finished);

    struct Deaf;
    impl Service for Deaf {
        fn handle(&mut self, _: Event, cx: &mut Context<'_>) -> Flow {
            cx.input.consume_all();
            Flow::More(1)
        }
    }
    let played = play(config, talker(), Deaf);
    assert_eq!(played.over(), (3620, Reason::TooOld));
    assert_eq!((played.told.len(), played.told[0].0.as_secs()), (1, 3600));
    played.assert_counted(Timeout::Lifetime);
}
