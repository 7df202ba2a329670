//! Lives of datagram sockets on the simulated ring: tasks bind, receive, send, and drop their futures and sockets where
//! they like, while the kernel has a bad day.
//!
//! After each life every datagram that the kernel took was received once, in order and unchanged, unless its socket was
//! dropped; every one that was to be sent is sent once; and nothing is left: no operation, no buffer, no descriptor.
//!
//! `CAMPANILE_SEEDS=n` lives n lives, from `CAMPANILE_FIRST_SEED` on.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use crate::config::Config;
use crate::datagram::HEAD_LEN;
use crate::operation::Memory;
use crate::ring::simulated::faults::{Counts, Fault};
use crate::ring::simulated::kernel::Sizes;
use crate::ring::simulated::random::{Random, mix};
use crate::ring::simulated::world::World;
use crate::ring::simulated::{Next, Peers, SimulatedRing};
use crate::ring::{Abilities, Ring};
use crate::service::Flow;
use crate::task::{sleep, spawn_on, timeout};
use crate::udp::UdpSocket;
use crate::worker::{Factory, Worker, memory_for};

const LIVES: u64 = 4_000;

/// More turns than any life needs.
const MOST_TURNS: u32 = 200_000;

/// What says that no more will come.
const BYE: &[u8] = b"bye";

type Parcel = (SocketAddr, Vec<u8>);

/// Who sends to the sockets of a life.
struct Senders {
    random: Random,
    /// By the number of the socket: what is to be sent yet, and what the kernel took.
    plans: Vec<VecDeque<Parcel>>,
    taken: Vec<Vec<Parcel>>,
    next: Duration,
}

impl Senders {
    fn new(mut random: Random, sockets: usize, buffer_len: usize) -> Senders {
        let plan = |_| {
            let count = random.between(0, 60);
            let mut plan: VecDeque<Parcel> = (0..count).map(|_| parcel(&mut random, buffer_len)).collect();
            plan.push_back((from(0), BYE.to_vec()));
            plan
        };
        let plans = (0..sockets).map(plan).collect();
        Senders { random, plans, taken: vec![Vec::new(); sockets], next: Duration::ZERO }
    }
}

fn from(port: u16) -> SocketAddr {
    match port % 2 {
        0 => SocketAddr::from(([192, 0, 2, 1], port)),
        _ => SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], port)),
    }
}

fn parcel(random: &mut Random, buffer_len: usize) -> Parcel {
    let longest = buffer_len - HEAD_LEN;
    let len = *random.pick(&[0, 1, 20, longest - 1, longest, longest + 1, longest + 100]);
    let key = random.next();
    (from(random.below(1 << 16) as u16), (0..len).map(|at| mix(key ^ at as u64) as u8).collect())
}

impl Peers for Senders {
    fn act(&mut self, world: &mut World) -> Next {
        if self.next > world.now() {
            return Next::At(self.next);
        }
        let mut all_is_sent = true;
        for (at, plan) in self.plans.iter_mut().enumerate() {
            let Some(letterbox) = world.letterboxes.get_mut(at) else {
                all_is_sent = false;
                continue;
            };
            if letterbox.is_closed {
                plan.clear();
            }
            for _ in 0..self.random.below(8) {
                let Some((from, bytes)) = plan.pop_front() else { break };
                if letterbox.post(from, bytes.clone()) {
                    self.taken[at].push((from, bytes));
                } else if bytes == BYE {
                    plan.push_front((from, bytes));
                    break;
                }
            }
            all_is_sent &= plan.is_empty();
        }
        if all_is_sent {
            return Next::Never;
        }
        self.next = world.now() + Duration::from_micros(self.random.between(1, 2_000) as u64);
        Next::At(self.next)
    }
}

/// What one socket's task has seen.
#[derive(Default)]
struct Diary {
    received: Vec<Parcel>,
    /// What it has sent; and what it may have, by a future that was dropped.
    sent: Vec<Parcel>,
    perhaps: Vec<Parcel>,
    /// It dropped its socket before all was received.
    left_early: bool,
}

type Shared<T> = Rc<RefCell<T>>;

/// Receives until it is told bye, or has enough of it, and answers some.
async fn correspond(random: Shared<Random>, diary: Shared<Diary>) {
    let socket = loop {
        match UdpSocket::bind("127.0.0.1:1").await {
            Ok(socket) => break socket,
            Err(_) => sleep(Duration::from_millis(1)).await,
        }
    };
    let socket = Rc::new(socket);
    let patience = if random.borrow_mut().chance(200) { random.borrow_mut().below(20) } else { usize::MAX };
    while diary.borrow().received.len() < patience {
        let way = random.borrow_mut().below(4);
        let received = match way {
            0 => once(socket.recv_from()).await,
            1 => timeout(Duration::from_micros(200), socket.recv_from()).await.ok(),
            _ => Some(socket.recv_from().await),
        };
        let Some(received) = received else {
            sleep(Duration::from_micros(50)).await;
            continue;
        };
        // An interruption is no error, and the others cost a datagram nothing.
        let Ok((bytes, from)) = received else { continue };
        if bytes == BYE {
            return;
        }
        diary.borrow_mut().received.push((from, bytes.to_vec()));
        let answers = random.borrow_mut().below(4);
        for _ in 0..answers {
            answer(&random, &diary, &socket, from).await;
        }
        if random.borrow_mut().chance(100) {
            let pause = random.borrow_mut().below(5_000) as u64;
            sleep(Duration::from_micros(pause)).await;
        }
    }
    diary.borrow_mut().left_early = true;
}

async fn answer(random: &Shared<Random>, diary: &Shared<Diary>, socket: &Rc<UdpSocket>, to: SocketAddr) {
    let unique = random.borrow_mut().next().to_be_bytes();
    let parcel = (to, unique.to_vec());
    let bytes = Bytes::copy_from_slice(&unique);
    if random.borrow_mut().chance(300) {
        diary.borrow_mut().perhaps.push(parcel);
        let _ = once(socket.send_to(bytes, to)).await;
    } else {
        socket.send_to(bytes, to).await.expect("nothing is wrong with it");
        diary.borrow_mut().sent.push(parcel);
    }
}

/// Polls a future once, and drops it.
async fn once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn config_of(random: &mut Random) -> Config {
    let config = Config {
        receive_buffers: *random.pick(&[1, 2, 8, 64]),
        receive_buffer_len: *random.pick(&[64, 200, 2_000]),
        datagrams_unread: *random.pick(&[1, 3, 1_000]),
        datagram_bytes_unread: *random.pick(&[1, 1_000, 1 << 20]),
        datagrams_unsent: *random.pick(&[1, 2, 50]),
        ..Config::default()
    };
    config.checked().expect("a configuration that works")
}

/// Lives one life; says what was wrong with it.
fn live(seed: u64, counts: &mut Counts) -> Vec<String> {
    let mut random = Random::new(mix(seed));
    let config = config_of(&mut random);
    let sockets = random.between(1, 3);
    let dropped_after = random.chance(100).then(|| random.below(100) as u32);
    let buffer_len = config.receive_buffer_len as usize;
    let senders = Senders::new(Random::new(random.next()), sockets, buffer_len);
    let senders = Rc::new(RefCell::new(senders));
    let world = World::new(Random::new(random.next()), 4);
    let clock = world.clock.clone();
    let sizes =
        Sizes { submission_queue: *random.pick(&[1, 8, 128]), completion_queue: *random.pick(&[1, 4, 512]) };
    let abilities = Abilities {
        direct: false,
        bundle: false,
        budget: true,
        socket: true,
        set_option: true,
        bind_listen: true,
    };
    let memory = memory_for(&config);
    let ring = SimulatedRing::new(world, sizes, abilities, Rc::clone(&senders));
    let outside = ring.outside();
    let nobody: Factory =
        Box::new(|_| Box::new(|_: &mut crate::Input<'_>, _: &mut crate::Output<'_>| Flow::Abort));
    let mut worker = Worker::new(ring, memory, config, Box::new(clock), || nobody).expect("a simulated kick");
    let diaries: Vec<Shared<Diary>> = (0..sockets).map(|_| Shared::default()).collect();
    let busy = Rc::new(Cell::new(sockets));
    let random = Rc::new(RefCell::new(random));
    for diary in &diaries {
        let (random, diary, busy) = (Rc::clone(&random), Rc::clone(diary), Rc::clone(&busy));
        drop(spawn_on(worker.local(), async move {
            correspond(random, diary).await;
            busy.set(busy.get() - 1);
        }));
    }

    let mut wrong = Vec::new();
    let (mut is_over, mut has_ended) = (false, false);
    for turn in 0.. {
        if !is_over && busy.get() == 0 && worker.datagrams.open() == 0 {
            is_over = true;
            worker.mailbox().post(|letters| letters.stop = true);
        }
        match worker.turn() {
            Ok(true) if turn < MOST_TURNS => {}
            Ok(true) => wrong.push("it spins".into()),
            Ok(false) => {
                has_ended = true;
                break;
            }
            Err(error) => wrong.push(error.to_string()),
        }
        if !wrong.is_empty() || dropped_after.is_some_and(|after| turn >= after) {
            break;
        }
    }
    if has_ended {
        wrong.extend(left_over(&worker, &outside.borrow().kernel.buffers(&worker.memory)));
    }
    let cut = worker.counters().datagrams_cut;
    drop(worker);
    let outside = outside.borrow();
    wrong.extend(outside.world.violations.iter().cloned());
    wrong.extend(outside.world.open_descriptors().into_iter().map(|open| format!("left open: {open}")));
    if has_ended {
        let letterboxes = &outside.world.letterboxes;
        wrong.extend(judge(
            &senders.borrow(),
            &diaries,
            letterboxes.iter().map(|it| &it.down),
            buffer_len,
            cut,
        ));
    }
    *counts += &outside.world.faults.counts;
    wrong
}

/// What a worker that has ended has still.
fn left_over<R: Ring>(worker: &Worker<R>, with_kernel: &u16) -> Vec<String> {
    let memory: &Memory = &worker.memory;
    let figures = [
        ("operations", worker.ring.in_flight()),
        ("flights", memory.flights.in_the_air() as u64),
        ("sockets", worker.datagrams.open() as u64),
        ("sends", worker.datagrams.sending() as u64),
        ("starved", u64::from(worker.datagrams.starved)),
        ("buffers", u64::from(memory.buffers.count() - with_kernel)),
    ];
    figures.into_iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("left: {n} {what}")).collect()
}

/// Compares what was sent with what was received, in both directions.
fn judge<'a>(
    senders: &Senders,
    diaries: &[Shared<Diary>],
    down: impl Iterator<Item = &'a Vec<Parcel>>,
    buffer_len: usize,
    cut: u64,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let fits = |parcel: &&Parcel| parcel.1.len() <= buffer_len - HEAD_LEN;
    // Sockets are bound in any order, so a diary is told by what is in it.
    let mut taken: Vec<Vec<&Parcel>> = senders
        .taken
        .iter()
        .map(|taken| taken.iter().filter(fits).filter(|(_, bytes)| bytes != BYE).collect())
        .collect();
    let mut sent: HashMap<&Parcel, u32> = HashMap::new();
    for parcel in down.flatten() {
        *sent.entry(parcel).or_default() += 1;
    }
    let mut diaries: Vec<_> = diaries.iter().map(|diary| diary.borrow()).collect();
    // The whole ones first: what left early has seen the beginning of some.
    diaries.sort_by_key(|diary| (diary.left_early, usize::MAX - diary.received.len()));
    for diary in &diaries {
        let is_whole = |taken: &Vec<&Parcel>| {
            let begins = taken.len() >= diary.received.len()
                && taken.iter().zip(&diary.received).all(|(taken, received)| *taken == received);
            begins && (diary.left_early || taken.len() == diary.received.len())
        };
        match taken.iter().position(is_whole) {
            Some(at) => drop(taken.swap_remove(at)),
            None => wrong.push(format!("{} datagrams, and not those that came", diary.received.len())),
        }
        for parcel in &diary.sent {
            if sent.remove(parcel) != Some(1) {
                wrong.push(format!("{parcel:?} was not sent once"));
            }
        }
        for parcel in &diary.perhaps {
            if sent.remove(parcel).is_some_and(|times| times > 1) {
                wrong.push(format!("{parcel:?} was sent more than once"));
            }
        }
    }
    wrong.extend(sent.keys().map(|parcel| format!("{parcel:?} was sent by nobody")));
    let too_long = senders.taken.iter().flatten().filter(|parcel| !fits(parcel)).count() as u64;
    let early = diaries.iter().any(|diary| diary.left_early);
    if cut > too_long || !early && cut < too_long {
        wrong.push(format!("{too_long} datagrams were too long, and {cut} were counted"));
    }
    wrong
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.replace('_', "").parse().ok()
}

#[test]
fn lives_of_datagram_sockets() {
    let first = number_from("CAMPANILE_FIRST_SEED").unwrap_or(0);
    let lives = number_from("CAMPANILE_SEEDS").unwrap_or(if cfg!(miri) { 10 } else { LIVES });
    let mut counts = Counts::default();
    for seed in first..first + lives {
        let wrong = live(seed, &mut counts);
        assert!(
            wrong.is_empty(),
            "life {seed} went wrong:\n  {}\nreplay: CAMPANILE_FIRST_SEED={seed} CAMPANILE_SEEDS=1 cargo test -p \
             campanile-core --lib lives_of_datagram_sockets",
            wrong.join("\n  ")
        );
    }
    let seen = [
        Fault::NoBuffers,
        Fault::ErrorWithBuffer,
        Fault::NonsenseBuffer,
        Fault::Interrupted,
        Fault::Again,
        Fault::ReceiveEnded,
        Fault::TooManyFiles,
        Fault::Late,
        Fault::CancelLate,
        Fault::CancelMissed,
        Fault::QueueFull,
    ];
    for fault in seen {
        // Few lives cannot have seen everything.
        assert!(lives < LIVES || counts.faults[fault as usize] > 0, "never happened: {}", fault.text());
    }
}
