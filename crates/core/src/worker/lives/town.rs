//! The town: the clients of a simulated life, the far ends of its relays, and the threads that wake and stop it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::ring::simulated::faults::Recovery;
use crate::ring::simulated::random::{Random, mix};
use crate::ring::simulated::world::{Found, Remote, Stream, StreamId, ThingId, World};
use crate::ring::simulated::{Next, Peers};
use crate::service::Reason;
use crate::time::Time;
use crate::wake::Mailbox;

use super::ledger::{ClientId, Ledger, Told, first_foreign, keyed, keyed_range};
use super::storer::check_files;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Echo,
    Framed,
    Keeper,
    Early,
    Timed,
    Woken,
    Relay,
    File,
    Lend,
    Store,
    Await,
    Abort,
    Panic,
    Close,
    StreamEcho,
    StreamFramed,
    StreamRelay,
    StreamFile,
}

impl Kind {
    pub(super) const ALL: [Kind; 18] = [
        Kind::Echo,
        Kind::Framed,
        Kind::Keeper,
        Kind::Early,
        Kind::Timed,
        Kind::Woken,
        Kind::Relay,
        Kind::File,
        Kind::Lend,
        Kind::Store,
        Kind::Await,
        Kind::Abort,
        Kind::Panic,
        Kind::Close,
        Kind::StreamEcho,
        Kind::StreamFramed,
        Kind::StreamRelay,
        Kind::StreamFile,
    ];
}

/// Relays of client `id` go to this port and `id`.
pub(super) const FIRST_PORT: u16 = 10_000;
pub(super) const CLOSER_LEN: usize = 40;

/// How long a life may take.
const END_OF_TIME: Duration = Duration::from_secs(10_000);

/// A client that never reads gives up after this time.
const STUCK_FOR: Duration = Duration::from_secs(30);

pub(super) fn file_path(id: ClientId) -> String {
    format!("/files/{id}")
}

pub(super) fn store_path(id: ClientId) -> String {
    format!("/stores/{id}")
}

pub(super) fn early_len(id: ClientId) -> usize {
    1 + (mix(id as u64) % 9_000) as usize
}

/// The answer to a framed request: its length, and every byte changed; to some, many times over.
pub(super) fn answer_to(request: &[u8]) -> Vec<u8> {
    let times = request.first().map_or(1, |first| if first % 8 == 0 { 1 + 5_000 / request.len() } else { 1 });
    let mut answer = ((request.len() * times) as u32).to_be_bytes().to_vec();
    for _ in 0..times {
        answer.extend(request.iter().map(|byte| byte ^ 0x5a));
    }
    answer
}

struct Client {
    id: ClientId,
    kind: Kind,
    stream: Option<StreamId>,
    wakes_at: Duration,
    to_send: Vec<u8>,
    sent: usize,
    expected: Rc<[u8]>,
    received: usize,
    /// Ends its side as soon as all is sent, not when all is received.
    ends_early: bool,
    ended: bool,
    fragment: usize,
    gulp: usize,
    pauses_left: u32,
    /// Resets, or leaves, after so many bytes received.
    resets_at: Option<usize>,
    leaves_at: Option<usize>,
    /// Stops reading for good after so many bytes received.
    stuck_at: Option<usize>,
    gives_up_at: Option<Duration>,
    done: bool,
}

struct Far {
    stream: StreamId,
    client: ClientId,
    received: usize,
    unsent: Vec<u8>,
    done: bool,
}

/// What a life has of [`Config`]'s deadlines.
#[derive(Debug, Clone, Copy)]
struct Deadlines {
    idle: Duration,
    lifetime: Duration,
    grace: Duration,
}

impl Deadlines {
    fn of(config: &Config) -> Deadlines {
        let of = |deadline: Option<Duration>| deadline.unwrap_or(Duration::MAX);
        Deadlines {
            idle: of(config.idle_timeout),
            lifetime: of(config.lifetime),
            grace: config.lifetime_grace,
        }
    }
}

/// How the worker is brought to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Stop,
    Drain,
}

/// All peers of one life.
pub(super) struct Town {
    random: Random,
    clients: Vec<Client>,
    fars: Vec<Far>,
    next_id: ClientId,
    /// Clients still to come when others are done.
    to_come: usize,
    pub(super) listeners: Vec<ThingId>,
    /// How many wait in the queue of a listener.
    pub(super) backlog: usize,
    pub(super) mailbox: Option<Arc<Mailbox>>,
    ledger: Ledger,
    ending: Ending,
    send_stall: Duration,
    deadlines: Deadlines,
    /// The worker is told to end at this time, whatever goes on.
    ends_at: Option<Duration>,
    told: bool,
    pub(super) kinds: Vec<Kind>,
    /// Lingering is cut short in this life, and may lose answers.
    pub(super) lax: bool,
    pub(super) bytes: u64,
    pub(super) answered: u64,
    buffer: Vec<u8>,
}

impl Town {
    pub(super) fn new(mut random: Random, ledger: Ledger, config: &Config) -> Town {
        let at_once = *random.pick(&[1, 1, 2, 3, 5, 8, 13, 40]);
        let ends_at = random.chance(120).then(|| Duration::from_micros(random.below(1_500_000) as u64));
        let kinds = match random.chance(500) {
            true => vec![*random.pick(&Kind::ALL)],
            false => Kind::ALL.to_vec(),
        };
        Town {
            clients: Vec::new(),
            fars: Vec::new(),
            next_id: 0,
            to_come: at_once + random.below(at_once + 2),
            listeners: Vec::new(),
            backlog: random.between(1, 10),
            mailbox: None,
            ledger,
            send_stall: config.send_stall,
            deadlines: Deadlines::of(config),
            ending: *random.pick(&[Ending::Stop, Ending::Drain]),
            ends_at,
            told: false,
            kinds,
            lax: false,
            bytes: 0,
            answered: 0,
            buffer: Vec::new(),
            random,
        }
    }

    /// Prepares what the outside has to have: a file, or somebody at the far end.
    fn add_client(&mut self, world: &mut World) {
        let random = &mut self.random;
        let id = self.next_id;
        self.next_id += 1;
        self.to_come -= 1;
        let kind = *random.pick(&self.kinds);
        let size = *random.pick(&[0, 30, 300, 300, 1_500, 1_500, 6_000]);
        let len = match kind {
            Kind::Close => CLOSER_LEN,
            Kind::File | Kind::Lend | Kind::StreamFile => 0,
            Kind::Early | Kind::Abort | Kind::Panic => random.between(1, size + 1),
            _ => random.below(size + 1),
        };
        let mut to_send = vec![kind as u8, (id >> 8) as u8, id as u8, keyed(id, 1 << 20)];
        let expected: Vec<u8> = match kind {
            Kind::Framed | Kind::StreamFramed => {
                let mut expected = Vec::new();
                let mut at = 0;
                while at < len {
                    let n = random.between(1, (len - at).min(400));
                    let request = keyed_range(id, at..at + n);
                    to_send.extend((n as u16).to_be_bytes());
                    to_send.extend(&request);
                    expected.extend(answer_to(&request));
                    at += n;
                }
                expected
            }
            Kind::Early => keyed_range(!id, 0..early_len(id)),
            Kind::File | Kind::StreamFile => keyed_range(id, 0..random.below(4_000)),
            Kind::Lend => {
                let most = *random.pick(&[1_000, 6_000, 12_000]);
                keyed_range(id, 0..random.below(most))
            }
            Kind::Abort | Kind::Panic => Vec::new(),
            _ => keyed_range(id, 0..len),
        };
        if !matches!(kind, Kind::Framed | Kind::StreamFramed) {
            to_send.extend(keyed_range(id, 0..len));
        }
        let expected: Rc<[u8]> = expected.into();
        if matches!(kind, Kind::File | Kind::Lend | Kind::StreamFile) {
            world.put_file(file_path(id).as_bytes(), &expected);
        }
        let remote = match random.below(20) {
            0 => Remote::Fails(*random.pick(&[libc::ECONNREFUSED, libc::ENETUNREACH, libc::ETIMEDOUT])),
            1 => Remote::Silent,
            _ => Remote::Accepts,
        };
        world.remotes.insert(FIRST_PORT + id as u16, remote);
        let total = expected.len();
        let mut sometimes = |per_1024| random.chance(per_1024).then(|| random.below(total + 1));
        let (resets_at, leaves_at, stuck_at) = (sometimes(40), sometimes(40), sometimes(20));
        self.clients.push(Client {
            id,
            kind,
            stream: None,
            wakes_at: world.now() + Duration::from_micros(random.below(2_000) as u64),
            to_send,
            sent: 0,
            expected,
            received: 0,
            // A file is complete when all has come.
            ends_early: random.chance(400) || matches!(kind, Kind::Store | Kind::Await),
            ended: false,
            fragment: *random.pick(&[1, 7, 100, 1_000, 10_000]),
            gulp: *random.pick(&[7, 100, 1_000, 10_000]),
            pauses_left: random.below(4) as u32,
            resets_at,
            leaves_at,
            stuck_at,
            gives_up_at: None,
            done: false,
        });
    }

    fn tell(&mut self) {
        self.told = true;
        let ending = self.ending;
        let mailbox = self.mailbox.as_ref().expect("set before the worker's first turn");
        mailbox.post(|letters| match ending {
            Ending::Stop => letters.stop = true,
            Ending::Drain => letters.drain = true,
        });
    }

    /// Whether those whose connections were ended had it coming.
    fn check_ends(&self, world: &mut World) {
        let now = world.now();
        for (id, told) in self.ledger.take_ends() {
            let client =
                self.clients.iter().filter(|client| client.id == id).filter_map(|client| client.stream);
            let far = self.fars.iter().filter(|far| far.client == id).map(|far| far.stream);
            let streams: Vec<StreamId> = client.chain(far).collect();
            let since = |from: fn(&Stream) -> Duration, least: Duration| {
                streams.iter().any(|&stream| now.saturating_sub(from(&world.streams[stream])) >= least)
            };
            let Deadlines { idle, lifetime, grace } = self.deadlines;
            let (fair, recovery) = match told {
                Told::Closed(Reason::Idle) => {
                    (since(|stream| stream.moved_at.max(stream.began_at), idle), Recovery::IdleClosed)
                }
                // Its service has checked it.
                Told::Closed(Reason::Incomplete) => (true, Recovery::FrameCut),
                // Whether it was slow is seen where it is not read from.
                Told::Closed(Reason::TooSlow) => {
                    (streams.iter().any(|&stream| world.streams[stream].harmed.is_some()), Recovery::SlowCut)
                }
                Told::Closed(Reason::TooOld) => {
                    (since(|stream| stream.began_at, lifetime.saturating_add(grace)), Recovery::AgeClosed)
                }
                Told::Drain if !self.told => (since(|stream| stream.began_at, lifetime), Recovery::AgeTold),
                Told::Drain | Told::Closed(_) => continue,
            };
            self.ledger.check(fair, || format!("client {id}: {told:?} out of the blue"));
            self.ledger.excuse(id, "its time was over");
            world.faults.recovered(recovery);
        }
    }

    /// Who is not done, in words.
    pub(super) fn waiting(&self, world: &World) -> Vec<String> {
        let stream = |stream: StreamId| {
            let stream = &world.streams[stream];
            format!(
                "up {}/{} (ended {}), down {}/{} (ended {}), accepted {}, harmed {:?}",
                stream.up.len(),
                stream.up_capacity,
                stream.up_ended,
                stream.down.len(),
                stream.down_capacity,
                stream.down_ended,
                stream.accepted,
                stream.harmed
            )
        };
        let clients = self.clients.iter().filter(|client| !client.done).map(|client| {
            format!(
                "client {} ({:?}): sent {}/{}, received {}/{}, stuck at {:?}, pauses until {:?}; {}",
                client.id,
                client.kind,
                client.sent,
                client.to_send.len(),
                client.received,
                client.expected.len(),
                client.stuck_at,
                client.wakes_at,
                client.stream.map_or("not connected".into(), stream)
            )
        });
        let fars = self.fars.iter().filter(|far| !far.done);
        let fars =
            fars.map(|far| format!("far {}: received {}; {}", far.client, far.received, stream(far.stream)));
        clients.chain(fars).collect()
    }

    /// What is wrong, after the worker has ended.
    pub(super) fn verdict(&self, world: &World) -> Vec<String> {
        let mut wrong = Vec::new();
        for client in &self.clients {
            let Some(stream) = client.stream else { continue };
            let stream = &world.streams[stream];
            if stream.accepted && !stream.worker_gone {
                wrong.push(format!("client {}: its connection was never closed", client.id));
            }
        }
        wrong
    }
}

impl Peers for Town {
    fn act(&mut self, world: &mut World) -> Next {
        let now = world.now();
        if now > END_OF_TIME {
            self.ledger.violated("a life without end".into());
            self.tell();
        }
        if self.ends_at.is_some_and(|at| at <= now) && !self.told {
            self.tell();
        }
        let mut next = self.ends_at.filter(|_| !self.told);
        let mut soonest = |at: Duration| next = Some(next.map_or(at, |next: Duration| next.min(at)));
        if let Some(at) = self.ledger.wake_due(Time::from_start(now)) {
            soonest(at.since_start());
        }
        for id in self.ledger.take_readers() {
            let stream = self.clients.iter().find(|client| client.id == id).and_then(|client| client.stream);
            if stream.is_some_and(|stream| world.streams[stream].is_full) {
                self.ledger.violated(format!("client {id}: told of room before its socket takes any"));
            }
        }
        check_files(&self.ledger, world);
        self.check_ends(world);
        let mut moved = false;
        let alive = self.clients.iter().filter(|client| !client.done).count();
        if self.to_come > 0 && !self.told && (self.next_id == 0 || alive < 40 && self.random.chance(300)) {
            self.add_client(world);
            moved = true;
        }
        while let Some((port, stream)) = world.dialled.pop_front() {
            let client = usize::from(port - FIRST_PORT);
            self.fars.push(Far { stream, client, received: 0, unsent: Vec::new(), done: false });
        }
        let Town { random, clients, fars, listeners, ledger, buffer, .. } = self;
        let scene = &mut Scene {
            random,
            listeners,
            ledger,
            buffer,
            backlog: self.backlog,
            told: self.told,
            lax: self.lax,
            send_stall: self.send_stall,
            fars,
            bytes: &mut self.bytes,
            answered: &mut self.answered,
        };
        for client in clients.iter_mut().filter(|client| !client.done) {
            match client.act(world, scene) {
                Next::Now => moved = true,
                Next::At(at) => soonest(at),
                Next::Never => {}
            }
        }
        for far in fars.iter_mut().filter(|far| !far.done) {
            moved |= far.act(world, random, ledger, buffer);
        }
        if !self.told && self.to_come == 0 && self.clients.iter().all(|client| client.done) {
            self.tell();
            moved = true;
        }
        match next {
            _ if moved => Next::Now,
            _ if self.to_come > 0 && alive < 40 && !self.told => Next::Now,
            Some(at) => Next::At(at),
            None => Next::Never,
        }
    }
}

/// What a client sees of its town.
struct Scene<'a> {
    random: &'a mut Random,
    listeners: &'a [ThingId],
    ledger: &'a Ledger,
    buffer: &'a mut Vec<u8>,
    backlog: usize,
    told: bool,
    lax: bool,
    send_stall: Duration,
    fars: &'a mut Vec<Far>,
    bytes: &'a mut u64,
    answered: &'a mut u64,
}

impl Client {
    fn act(&mut self, world: &mut World, scene: &mut Scene<'_>) -> Next {
        let now = world.now();
        if now < self.wakes_at {
            return Next::At(self.wakes_at);
        }
        let Some(id) = self.stream else {
            if scene.told {
                self.done = true;
                return Next::Now;
            }
            self.stream = world.connect(*scene.random.pick(scene.listeners), scene.backlog);
            if self.stream.is_some() {
                return Next::Now;
            }
            // The queue is full.
            self.wakes_at = now + Duration::from_millis(scene.random.between(1, 400) as u64);
            return Next::At(self.wakes_at);
        };
        let mut moved = scene.random.chance(100);
        if self.sent < self.to_send.len() && !moved {
            let n = scene.random.between(1, self.fragment.min(self.to_send.len() - self.sent));
            if let Some(n) = world.streams[id].write(&self.to_send[self.sent..self.sent + n]) {
                self.sent += n;
                moved |= n > 0;
            }
        }
        let may_end = self.ends_early || (self.received == self.expected.len() && self.ends_itself());
        if self.sent == self.to_send.len() && may_end && !self.ended {
            self.ended = true;
            world.streams[id].finish();
            moved = true;
        }
        if self.stuck_at.is_some_and(|at| at <= self.received) {
            return self.be_stuck(world, moved);
        }
        scene.buffer.clear();
        let gulp = scene.random.between(1, self.gulp);
        match world.streams[id].read(gulp, scene.buffer) {
            Found::Bytes(n) => {
                self.check(scene);
                self.received += n;
                *scene.bytes += n as u64;
                moved = true;
            }
            Found::Nothing => {}
            found @ (Found::End | Found::Reset) => {
                self.part(world, scene, found);
                return Next::Now;
            }
        }
        if self.resets_at.is_some_and(|at| at <= self.received) && self.sent > 0 {
            world.streams[id].reset(libc::ECONNRESET);
            self.done = true;
        } else if self.leaves_at.is_some_and(|at| at <= self.received) && self.sent > 0 {
            world.streams[id].leave();
            self.done = true;
        } else if self.pauses_left > 0 && scene.random.chance(100) {
            self.pauses_left -= 1;
            let mut pause = Duration::from_micros(scene.random.below(200_000) as u64);
            // Long enough for its stalled send to be cancelled: if that had made progress, it goes on.
            if scene.random.chance(100) {
                pause += scene.send_stall + scene.send_stall / 4;
            }
            self.wakes_at = now + pause;
            return Next::At(self.wakes_at);
        }
        if moved { Next::Now } else { Next::Never }
    }

    /// Whether the service waits for the client to end first.
    fn ends_itself(&self) -> bool {
        matches!(
            self.kind,
            Kind::Echo
                | Kind::Framed
                | Kind::Keeper
                | Kind::Timed
                | Kind::Woken
                | Kind::Relay
                | Kind::StreamEcho
                | Kind::StreamFramed
                | Kind::StreamRelay
        )
    }

    fn check(&self, scene: &Scene<'_>) {
        let got = &scene.buffer[..];
        let expected = self.expected.get(self.received..self.received + got.len());
        if expected != Some(got) {
            let (id, kind) = (self.id, self.kind);
            scene.ledger.violated(format!("client {id} ({kind:?}): a wrong byte after {}", self.received));
        }
    }

    fn be_stuck(&mut self, world: &mut World, moved: bool) -> Next {
        let now = world.now();
        let gives_up = *self.gives_up_at.get_or_insert(now + STUCK_FOR);
        let stream = &mut world.streams[self.stream.expect("connected")];
        if stream.worker_gone || gives_up <= now {
            stream.reset(libc::ECONNRESET);
            self.done = true;
            return Next::Now;
        }
        if moved { Next::Now } else { Next::At(gives_up) }
    }

    /// The connection is over: was it right?
    fn part(&mut self, world: &mut World, scene: &mut Scene<'_>, found: Found) {
        self.done = true;
        let stream = &mut world.streams[self.stream.expect("connected")];
        stream.leave();
        let harmed = stream.harmed.is_some();
        let fars = scene.fars.iter().filter(|far| far.client == self.id);
        let harmed_far = fars.map(|far| &world.streams[far.stream]).any(|stream| stream.harmed.is_some());
        let excused = harmed || harmed_far || scene.told || scene.ledger.is_excused(self.id);
        let (id, kind, got, all) = (self.id, self.kind, self.received, self.expected.len());
        let reasons = scene.ledger.reasons(id);
        let excused = excused || (reasons.is_empty() && got == 0 && scene.ledger.take_unnamed());
        match (kind, found) {
            (Kind::Abort | Kind::Panic, _) => {}
            (_, Found::End) if got == all => {
                *scene.answered += 1;
                let fine = excused || reasons.iter().all(|&reason| reason == Reason::Finished);
                scene.ledger.check(fine, || format!("client {id} ({kind:?}): answered, and closed for {reasons:?}"));
            }
            _ if excused || (scene.lax && kind == Kind::Early) => {}
            _ => scene.ledger.violated(format!(
                "client {id} ({kind:?}): {found:?} after {got} of {all} bytes, {} of {} sent; closed for {reasons:?}",
                self.sent,
                self.to_send.len(),
            )),
        }
    }
}

impl Far {
    /// Sends back what it gets.
    fn act(&mut self, world: &mut World, random: &mut Random, ledger: &Ledger, buffer: &mut Vec<u8>) -> bool {
        let stream = &mut world.streams[self.stream];
        let mut moved = false;
        if !self.unsent.is_empty() {
            match stream.write(&self.unsent) {
                Some(n) => {
                    self.unsent.drain(..n);
                    moved |= n > 0;
                }
                None => self.unsent.clear(),
            }
        }
        if self.unsent.len() > 100_000 {
            return moved;
        }
        buffer.clear();
        match stream.read(random.between(1, 1_000), buffer) {
            Found::Bytes(n) => {
                let right = first_foreign(self.client, self.received, buffer).is_none();
                ledger.check(right, || {
                    format!("far end of {}: a wrong byte after {}", self.client, self.received)
                });
                self.received += n;
                self.unsent.extend_from_slice(buffer);
                true
            }
            Found::Nothing => moved,
            Found::End if !self.unsent.is_empty() => moved,
            Found::End | Found::Reset => {
                stream.leave();
                self.done = true;
                true
            }
        }
    }
}
