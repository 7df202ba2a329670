//! Simulated lives: a worker, its services and its peers on the simulated ring, from the first connection to the last
//! descriptor closed, all decided by one number.
//!
//! After each life nothing may be left: all slots free, every descriptor closed once, all buffers home, every request
//! answered once and in order with the right bytes, or its connection closed for a reason that is known.
//!
//! `CAMPANILE_SEEDS=n` lives n lives; a failure prints the line that lives the one again that failed.

mod awaiter;
mod futures;
mod ledger;
mod lender;
mod services;
mod storer;
mod town;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::operation::Memory;
use crate::ring::simulated::SimulatedRing;
use crate::ring::simulated::faults::{Counts, Fault, Recovery};
use crate::ring::simulated::kernel::Sizes;
use crate::ring::simulated::random::{Random, mix};
use crate::ring::simulated::world::World;
use crate::ring::{Abilities, Ring};

use super::{Listening, Worker, memory_for};
use crate::server::table_len;
use ledger::Ledger;
use town::{Kind, Town};

/// How many lives an ordinary test run lives.
const LIVES: u64 = 20_000;

/// More turns than any life needs: whoever takes more spins.
const MOST_WAITS: u64 = 200_000;

/// Longer than any life takes by the clock on the wall, however busy the machine: whoever takes longer hangs.
const MOST_REAL: Duration = Duration::from_secs(if cfg!(miri) { 3_600 } else { 30 });

/// What was seen in some lives.
#[derive(Debug, Default)]
struct Seen {
    counts: Counts,
    bytes: u64,
    answered: u64,
    waits: u64,
    virtual_time: Duration,
    accepts_refused: u64,
}

impl Seen {
    fn add(&mut self, more: &Seen) {
        self.counts += &more.counts;
        self.bytes += more.bytes;
        self.answered += more.answered;
        self.waits += more.waits;
        self.virtual_time += more.virtual_time;
    }
}

fn config_of(random: &mut Random) -> Config {
    Config {
        max_connections: *random.pick(&[1, 2, 5, 20, 1_000, 1_000]),
        connections_per_address: random.chance(60).then(|| *random.pick(&[1, 3])),
        receive_buffers: *random.pick(&[1, 2, 4, 8, 64]),
        receive_buffer_len: *random.pick(&[16, 64, 200, 512, 4_096]),
        receive_budget: *random.pick(&[16, 100, 1_000, 10_000]),
        input_limit: *random.pick(&[512, 2_000, 256 * 1024]),
        send_buffer_len: *random.pick(&[4_096, 5_000]),
        send_buffers: *random.pick(&[1, 2, 8, 64]),
        send_buffers_per_connection: random.between(1, 4) as u16,
        room: *random.pick(&[64, 1_000, 4_096]),
        held_limit: *random.pick(&[1, 5_000, 100_000]),
        file_buffers: random.between(1, 3) as u32,
        stream_buffer: *random.pick(&[50, 400, 3_000, 64 * 1024]),
        file_buffer_len: *random.pick(&[100, 1_000, 5_000, 9_000]),
        linger_time: Duration::from_secs(200),
        send_stall: Duration::from_millis(*random.pick(&[1_000, 5_000])),
        send_rate: *random.pick(&[0, 0, 100, 500]),
        lend_time: Duration::from_millis(*random.pick(&[1, 5, 20, 100])),
        idle_timeout: sometimes(random, &[500, 2_000]),
        frame_timeout: sometimes(random, &[500, 2_000]),
        lifetime: sometimes(random, &[2_000, 5_000]),
        lifetime_grace: Duration::from_millis(*random.pick(&[0, 300, 3_000])),
        ..Config::default()
    }
}

/// A deadline of so many milliseconds, in some lives.
fn sometimes(random: &mut Random, millis: &[u64]) -> Option<Duration> {
    random.chance(150).then(|| Duration::from_millis(*random.pick(millis)))
}

/// Lives one life, and says what was seen in it, or what was wrong with it.
fn live(seed: u64) -> Result<Seen, Vec<String>> {
    live_in(seed, |_| {})
}

fn live_in(seed: u64, prepare: impl FnOnce(&mut World)) -> Result<Seen, Vec<String>> {
    let mut random = Random::new(mix(seed));
    let mut config = config_of(&mut random);
    let abilities = Abilities {
        direct: random.chance(512),
        bundle: random.chance(512),
        budget: random.chance(700),
        socket: true,
        set_option: random.chance(900),
        bind_listen: true,
    };
    let sizes = Sizes {
        submission_queue: *random.pick(&[1, 2, 8, 128]),
        completion_queue: *random.pick(&[1, 4, 16, 512]),
    };
    let (table, suffices) = match random.below(10) {
        0 => (random.between(1, 4), false),
        1..5 => (2_000, true),
        _ => (table_len(config.max_connections) as usize, true),
    };
    let ledger = Ledger::default();
    let mut town = Town::new(Random::new(random.next()), ledger.clone(), &config);
    ledger.set_frame_timeout(config.frame_timeout);
    if !abilities.set_option {
        // The worker then makes real sockets.
        town.kinds.retain(|&kind| !matches!(kind, Kind::Relay | Kind::StreamRelay));
        town.kinds.push(Kind::Echo);
    }
    if random.chance(60) {
        config.linger_time = Duration::from_millis(20);
        config.linger_limit = 2_000;
        town.lax = true;
    }
    let drop_after = random.chance(60).then(|| random.below(400) as u64);
    let mut world = World::new(Random::new(random.next()), table);
    world.traced = std::env::var_os("CAMPANILE_TRACE").is_some();
    (world.send_stall, world.send_rate) = (config.send_stall, config.send_rate);
    world.table_suffices = suffices;
    world.stats_at_once = random.chance(512);
    prepare(&mut world);
    let clock = world.clock.clone();
    let town = Rc::new(RefCell::new(town));

    let config = config.checked().expect("a configuration that works");
    world.trace(|| format!("{config:#?}\n{abilities:?}\n{sizes:?}, table of {table}"));
    let memory = memory_for(&config);
    let mut ring = SimulatedRing::new(world, sizes, abilities, Rc::clone(&town));
    let outside = ring.outside();
    let listeners = [ring.listener(), ring.listener()];
    let per_address = config.connections_per_address.unwrap_or(u32::MAX);
    let (limit, queue) = (config.max_connections, town.borrow().backlog as u32);
    let factory = {
        let ledger = ledger.clone();
        Box::new(move |_| services::greeter(&ledger, seed))
    };
    // If anything panics, what is left of the worker is better not touched.
    let worker = Worker::new(ring, memory, config, Box::new(clock), || factory).expect("a simulated kick");
    let mut worker = std::mem::ManuallyDrop::new(worker);
    let local = Rc::clone(worker.local());
    town.borrow_mut().mailbox = Some(worker.mailbox().clone());
    for (number, (descriptor, thing)) in listeners.into_iter().enumerate() {
        town.borrow_mut().listeners.push(thing);
        worker.listen(Listening::at(number, descriptor, queue));
    }

    let mut wrong = Vec::new();
    let mut seen_away = 0;
    let mut glances = Random::new(mix(!seed));
    loop {
        // As a process before this one does when it has gone.
        if glances.chance(4) {
            worker.mailbox().post(|letters| letters.look_again = true);
        }
        let turned = worker.turn();
        let mut outside = outside.borrow_mut();
        if worker.live > limit {
            wrong.push(format!("{} connections, and {limit} are allowed", worker.live));
        }
        let turned_away = worker.counters.turned_away - seen_away;
        seen_away += turned_away;
        for _ in 0..turned_away {
            ledger.closed_unnamed();
            outside.world.faults.recovered(Recovery::TurnedAway);
        }
        if worker.guests.most() > per_address {
            wrong.push(format!(
                "{} connections of an address, and {per_address} are allowed",
                worker.guests.most()
            ));
        }
        if !worker.has_places() {
            wrong.push(format!("more may be accepted at once than fit beside {} of {limit}", worker.live));
        }
        let recoveries = [
            (worker.live == limit, Recovery::LimitReached),
            (!worker.waiting.is_empty(), Recovery::WaitedForPlace),
        ];
        for (_, recovery) in recoveries.into_iter().filter(|(seen, _)| *seen) {
            outside.world.faults.recovered(recovery);
        }
        wrong.extend(outside.world.violations.iter().cloned());
        wrong.extend(ledger.violations());
        match turned {
            Ok(true) if wrong.is_empty() => {}
            Ok(_) => break,
            Err(error) => wrong.push(error.to_string()),
        }
        if outside.kernel.waits() > MOST_WAITS {
            wrong.push(format!("{} turns: it spins", outside.kernel.waits()));
        }
        if !wrong.is_empty() {
            wrong.push(format!(
                "at {:?}; in flight: {:?}",
                outside.world.now(),
                outside.kernel.in_flight_tokens()
            ));
            wrong.extend(town.borrow().waiting(&outside.world));
            return Err(wrong);
        }
        if drop_after.is_some_and(|after| outside.kernel.waits() >= after) {
            break;
        }
    }
    wrong.extend(remains(&worker, drop_after.is_none()));
    if drop_after.is_none() {
        let memory: &Memory = &worker.memory;
        let (with_kernel, all) = (outside.borrow().kernel.buffers(memory), memory.buffers.count());
        if with_kernel != all {
            wrong.push(format!("{with_kernel} of {all} receive buffers came home"));
        }
    }
    std::mem::ManuallyDrop::into_inner(worker);
    let left = (local.tasks.live(), local.sleeps.len(), local.awaited(), Rc::strong_count(&local) - 1);
    if left != (0, 0, 0, 0) {
        wrong.push(format!(
            "left (tasks, sleeps, who waits for answers, who holds on to the worker): {left:?}"
        ));
    }
    let outside = outside.borrow();
    wrong.extend(outside.world.violations.iter().cloned());
    if outside.kernel.in_flight() > 0 {
        wrong.push(format!("in flight at the end: {:?}", outside.kernel.in_flight_tokens()));
    }
    let open = outside.world.open_descriptors();
    wrong.extend(
        open.into_iter().filter(|open| !open.contains("Listener")).map(|open| format!("left open: {open}")),
    );
    if ledger.services() > 0 {
        wrong.push(format!("{} services left", ledger.services()));
    }
    let town = town.borrow();
    let mut counts = outside.world.faults.counts.clone();
    ledger.seen().into_iter().for_each(|recovery| counts.recoveries[recovery as usize] += 1);
    wrong.extend(town.verdict(&outside.world));
    services::clear_graveyard();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    Ok(Seen {
        counts,
        bytes: town.bytes,
        answered: town.answered,
        waits: outside.kernel.waits(),
        virtual_time: outside.world.now(),
        accepts_refused: outside.world.accepts_refused,
    })
}

/// What a worker that has ended still has, and should not.
fn remains<R: Ring>(worker: &Worker<R>, ended: bool) -> Vec<String> {
    let mut left = Vec::new();
    let mut check = |what: &str, n: u64| {
        if n > 0 {
            left.push(format!("left: {n} {what}"));
        }
    };
    if !ended {
        return left;
    }
    check("operations in flight", worker.ring.in_flight());
    check("slots", worker.slots.iter().filter(|slot| slot.connection.is_some()).count() as u64);
    check("lives", u64::from(worker.live));
    check("who wait for a slot", worker.waiting.len() as u64);
    check("slots not free", (worker.slots.len() - worker.free.len()) as u64);
    check("send buffers", worker.memory.sends.held() as u64);
    check("flights", worker.memory.flights.in_the_air() as u64);
    check("guests", u64::from(worker.guests.most()));
    check("kept buffers", u64::from(worker.memory.buffers.kept()));
    check("answers waited for", worker.local().awaited() as u64);
    check("tasks", worker.local().tasks.live());
    check("errands", worker.errands.running() as u64);
    check("file buffers", worker.memory.files.out() as u64);
    left
}

/// Lives one life; a failure is printed with the line that repeats it.
fn live_or_tell(seed: u64) -> Option<Seen> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if let Some(seed) = SEED.get() {
                eprintln!("{}", replay_line(seed));
            }
            before(info);
        }));
    });
    SEED.set(Some(seed));
    let lived = std::panic::catch_unwind(|| live(seed));
    SEED.set(None);
    match lived {
        Ok(Ok(seen)) => return Some(seen),
        Ok(Err(wrong)) => {
            let wrong: String = wrong.iter().take(12).map(|wrong| format!("  {wrong}\n")).collect();
            eprintln!("life {seed} went wrong:\n{wrong}{}", replay_line(seed));
        }
        Err(_) => eprintln!("life {seed} panicked"),
    }
    None
}

thread_local! {
    static SEED: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
}

fn replay_line(seed: u64) -> String {
    format!("replay: CAMPANILE_SEED={seed} cargo test -p campanile-core --lib lives::replay -- --nocapture")
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.replace('_', "").parse().ok()
}

#[test]
fn lives() {
    let first = number_from("CAMPANILE_FIRST_SEED").unwrap_or(0);
    let lives = number_from("CAMPANILE_SEEDS").unwrap_or(if cfg!(miri) { 20 } else { LIVES });
    let next = AtomicU64::new(first);
    let failed = AtomicBool::new(false);
    let total = Mutex::new(Seen::default());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let now_lived: Vec<Mutex<(u64, Instant)>> =
        (0..threads).map(|_| Mutex::new((first, Instant::now()))).collect();
    let live_on = |now_lived: &Mutex<(u64, Instant)>| {
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + lives {
                break;
            }
            *now_lived.lock().expect("no life panics here") = (seed, Instant::now());
            let Some(seen) = live_or_tell(seed) else {
                failed.store(true, Ordering::Relaxed);
                break;
            };
            total.lock().expect("no life panics here").add(&seen);
        }
    };
    std::thread::scope(|scope| {
        let live_on = &live_on;
        let threads: Vec<_> =
            now_lived.iter().map(|now_lived| (now_lived, scope.spawn(move || live_on(now_lived)))).collect();
        while threads.iter().any(|(_, thread)| !thread.is_finished()) {
            threads
                .iter()
                .filter(|(_, thread)| !thread.is_finished())
                .for_each(|(now, _)| end_if_it_hangs(now));
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    assert!(!failed.load(Ordering::Relaxed), "a life went wrong: see the line to replay it above");
    let total = total.into_inner().expect("no life panics here");
    let missing = report(&total, lives);
    // Few lives cannot have seen everything.
    assert!(lives < 2_000 || missing.is_empty(), "never happened: {missing:?}");
}

/// A life that hangs cannot be ended, so the process is, and says which it was.
fn end_if_it_hangs(lived: &Mutex<(u64, Instant)>) {
    let (seed, since) = *lived.lock().expect("no life panics here");
    if since.elapsed() > MOST_REAL {
        eprintln!("life {seed} went wrong:\n  it hangs\n{}", replay_line(seed));
        std::process::exit(1);
    }
}

/// Prints the counts; says which are zero.
#[allow(clippy::print_stdout)]
fn report(seen: &Seen, lives: u64) -> Vec<&'static str> {
    println!(
        "{lives} lives: {} connections answered in full, {} bytes checked, {} turns, {} s of virtual time",
        seen.answered,
        seen.bytes,
        seen.waits,
        seen.virtual_time.as_secs()
    );
    let faults = Fault::ALL.iter().zip(seen.counts.faults).map(|(fault, n)| (fault.text(), n));
    let recoveries =
        Recovery::ALL.iter().zip(seen.counts.recoveries).map(|(recovery, n)| (recovery.text(), n));
    println!("faults:");
    faults.clone().for_each(|(text, n)| println!("{n:>12} {text}"));
    println!("recoveries:");
    recoveries.clone().for_each(|(text, n)| println!("{n:>12} {text}"));
    faults.chain(recoveries).filter(|&(_, n)| n == 0).map(|(text, _)| text).collect()
}

/// Lives the one life that `CAMPANILE_SEED` names.
#[test]
fn replay() {
    if let Some(seed) = number_from("CAMPANILE_SEED") {
        assert!(live_or_tell(seed).is_some(), "life {seed} went wrong");
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes long, and is about time alone")]
fn accepts_without_descriptors_do_not_spin() {
    // Those that are told to stop before a thousand accepts failed say nothing.
    let seen = (0..40).map(|seed| live_in(seed, |world| world.accepts_to_refuse = 1_000).expect("a life"));
    let mut met = 0;
    for seen in seen.filter(|seen| seen.accepts_refused >= 1_000) {
        met += 1;
        // Two listeners, and a try every 100 ms.
        let most = 40 + 20 * seen.virtual_time.as_secs();
        assert!(seen.accepts_refused <= most, "{} failed in {:?}", seen.accepts_refused, seen.virtual_time);
    }
    assert!(met >= 10, "only {met} lives met it");
}

/// What cannot be lived again cannot be looked into.
#[test]
fn a_seed_decides_everything() {
    for seed in 0..if cfg!(miri) { 2 } else { 300 } {
        let [one, other] = [live(seed), live(seed)].map(|lived| format!("{lived:?}"));
        assert_eq!(one, other, "life {seed}");
    }
}
