//! The simulated kernel: the queues, and the order in which things complete.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::operation::{Completion, Descriptor, Memory, Outcome, Submission};
use crate::ring::backlog::{Backlog, Places};
use crate::token::{Generation, Kind, Token};
use crate::wake::Kick;

use super::faults::{Fault, Recovery};
use super::operations::{Running, Step, datagrams::Unfed, runs_in_a_thread};
use super::world::{What, World};

/// The descriptor that kicks go to: nothing real.
pub(super) const WATCHED: i32 = -1;

/// More than any worker has to submit between two waits: whoever submits more will never wait again.
const MOST_IN_A_TURN: u32 = 20_000;

/// How often running a multishot may be armed again at once after what it wants ran out.
const MOST_AT_ONCE: u32 = 3;

/// How the kernel is built in this life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) submission_queue: usize,
    pub(crate) completion_queue: usize,
}

/// The kernel's side of one ring.
#[derive(Debug)]
pub(crate) struct Kernel {
    backlog: Backlog<Running>,
    places: Queue,
    running: Vec<Running>,
    completed: VecDeque<(Completion, Duration)>,
    sizes: Sizes,
    /// The kernel's side of the buffer ring.
    pub(super) head: u16,
    pub(super) kicks: Arc<Kicks>,
    in_flight: u64,
    /// Multishots that ended for want of buffers or descriptors, the wait that told so last, and how often running they
    /// were armed again at once.
    refused: Vec<(Token, u64, u32)>,
    unfed: Unfed,
    /// How often the worker waited, and how much it has submitted since.
    waits: u64,
    submitted: u32,
    /// Tokens whose last operation failed in a way that calls for another try, to count the recovery.
    awaited: Vec<(Token, Recovery)>,
}

/// The submission queue.
#[derive(Debug)]
struct Queue {
    entries: VecDeque<Running>,
    len: usize,
    /// Handed over, in order, and not begun yet.
    taken: VecDeque<Running>,
    /// How many of the queue the kernel takes at the next call, if not all.
    takes: VecDeque<usize>,
    filled_up: u64,
}

impl Places<Running> for Queue {
    fn push(&mut self, entry: Running) -> Result<(), Running> {
        if self.entries.len() >= self.len {
            self.filled_up += 1;
            return Err(entry);
        }
        self.entries.push_back(entry);
        Ok(())
    }

    fn hand_over(&mut self) {
        let n = self.takes.pop_front().unwrap_or(usize::MAX).min(self.entries.len());
        self.taken.extend(self.entries.drain(..n));
    }
}

/// The counter that other threads' kicks go to, as an eventfd has it.
#[derive(Debug, Default)]
pub(crate) struct Kicks {
    count: AtomicU64,
    /// Something was added since the watch looked.
    signal: AtomicBool,
}

impl Kicks {
    pub(super) fn take_signal(&self) -> bool {
        self.signal.swap(false, Ordering::AcqRel)
    }

    /// Reads the counter, as `kicked` does.
    pub(super) fn read(&self) {
        self.count.store(0, Ordering::Release);
    }

    /// A fresh watch looks at the level, not at the edge.
    fn look(&self) {
        self.signal.store(self.count.load(Ordering::Acquire) > 0, Ordering::Release);
    }
}

#[derive(Debug)]
pub(super) struct SimulatedKick(pub(super) Arc<Kicks>);

impl Kick for SimulatedKick {
    fn kick(&self) {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        self.0.signal.store(true, Ordering::Release);
    }
}

impl Kernel {
    pub(super) fn new(sizes: Sizes) -> Kernel {
        Kernel {
            backlog: Backlog::default(),
            places: Queue {
                entries: VecDeque::new(),
                len: sizes.submission_queue,
                taken: VecDeque::new(),
                takes: VecDeque::new(),
                filled_up: 0,
            },
            running: Vec::new(),
            completed: VecDeque::new(),
            sizes,
            head: 0,
            kicks: Arc::default(),
            in_flight: 0,
            refused: Vec::new(),
            unfed: Unfed::default(),
            waits: 0,
            submitted: 0,
            awaited: Vec::new(),
        }
    }

    pub(super) fn submit(
        &mut self,
        token: Token,
        submission: Submission,
        memory: &Memory,
        world: &mut World,
    ) {
        self.submitted += 1;
        assert!(self.submitted < MOST_IN_A_TURN, "it spins, and never waits: {token:?} {submission:?}");
        if token.kind() != Some(Kind::Cancel) {
            self.in_flight += 1;
        }
        // What ran out is not there again in the next microsecond: whoever asks again at once spins. It may do so for
        // another reason, though not time and again.
        let waits = self.waits;
        if let Some((.., times)) = self.refused.iter_mut().find(|(of, at, _)| *of == token && *at == waits) {
            *times += 1;
            if *times == MOST_AT_ONCE {
                world.violated(format!("{token:?} is armed again at once after what it wants ran out"));
            }
        }
        self.unfed.check(token, memory, world);
        let running = Running::new(token, submission, memory);
        if let Some(wrong) = running.wrong(memory) {
            world.violated(wrong);
        }
        if world.strikes(Fault::PartialEnter) {
            let some = world.random.below(self.sizes.submission_queue + 1);
            self.places.takes.push_back(some);
        }
        self.backlog.submit(running, &mut self.places);
        if self.places.filled_up > 0 {
            self.places.filled_up = 0;
            world.faults.happened(Fault::QueueFull);
        }
    }

    /// The worker waits once more.
    pub(super) fn begin_wait(&mut self) {
        self.waits += 1;
        self.submitted = 0;
    }

    pub(crate) fn waits(&self) -> u64 {
        self.waits
    }

    /// Hands over what is queued, as far as the kernel takes it, and begins it in order.
    pub(super) fn enter(&mut self, world: &mut World, memory: &Memory) {
        self.backlog.advance(&mut self.places);
        self.places.hand_over();
        self.backlog.advance(&mut self.places);
        while let Some(running) = self.places.taken.pop_front() {
            self.begin(running, world, memory);
        }
    }

    /// Whether something waits for the next `enter`.
    pub(super) fn has_queued(&self) -> bool {
        !self.places.entries.is_empty() || !self.backlog.is_empty()
    }

    fn begin(&mut self, mut running: Running, world: &mut World, memory: &Memory) {
        self.note_recovery(&running, world);
        world.trace(|| format!("begin {:?} {:?}", running.token, running.submission));
        let now = world.now();
        running.due = now + latency(world, running.token);
        if let Submission::Cancel { target } = running.submission {
            return self.cancel(&running, target, world);
        }
        if let Some(descriptor) = running.descriptor() {
            let Some(thing) = world.named(descriptor) else {
                world.violated(format!("{:?}: {:?} is not open", running.token, descriptor));
                return self.complete(running.completion(Outcome::Failed(libc::EBADF), false, None), now);
            };
            running.thing = Some(thing);
            self.check_company(&running, world);
            world.hold(thing);
        }
        match running.submission {
            Submission::Close { descriptor } => {
                world.close(descriptor);
            }
            Submission::Shutdown { .. } => {
                let thing = running.thing.expect("resolved above");
                world.thing(thing).shutting += 1;
            }
            Submission::Watch { .. } => self.kicks.look(),
            _ if sends(running.token.kind()) => {
                world.begin_to_send(running.thing.expect("resolved above"));
            }
            _ => {}
        }
        if let Some(wrong) = running.wrong(memory) {
            world.violated(wrong);
        }
        self.running.push(running);
    }

    /// One receive and one send at a time for a socket; and no operation begins on what is being shut down to close.
    fn check_company(&mut self, new: &Running, world: &mut World) {
        let receives = |kind| matches!(kind, Some(Kind::Receive | Kind::ReceiveOnce | Kind::Datagrams));
        let kind = new.token.kind();
        for other in self.running.iter().filter(|other| other.thing == new.thing) {
            let theirs = other.token.kind();
            if (receives(kind) && receives(theirs)) || (sends(kind) && sends(theirs)) {
                world.violated(format!("{:?} while {:?} is in flight", new.token, other.token));
            }
        }
    }

    fn cancel(&mut self, running: &Running, target: Token, world: &mut World) {
        let now = world.now();
        let Some(found) = self.running.iter_mut().find(|other| other.token == target) else {
            world.faults.happened(Fault::CancelMissed);
            if target.kind() == Some(Kind::Send) {
                world.faults.happened(Fault::SendOutran);
            }
            return self
                .complete(running.completion(Outcome::Failed(libc::ENOENT), false, None), running.due);
        };
        match target.kind() {
            Some(Kind::Receive) => world.faults.recovered(Recovery::ReceiveCancelled),
            Some(Kind::Accept) => world.faults.recovered(Recovery::AcceptCancelled),
            Some(Kind::Send) => world.faults.recovered(Recovery::StalledSendCancelled),
            Some(Kind::RoomWatch) => world.faults.recovered(Recovery::RoomWatchCancelled),
            _ => {}
        }
        // It was just being worked on: what it was asked to do takes effect all the same, later. Its success is
        // not posted (CQE_SKIP_SUCCESS).
        let late = world.strikes(Fault::CancelLate);
        let effect = if late { now + Duration::from_micros(world.random.below(3_000) as u64) } else { now };
        found.cancelled_at = Some(found.cancelled_at.map_or(effect, |at| at.min(effect)));
        found.due = found.due.min(effect.max(now));
        if late {
            let last = world.strikes(Fault::CancelAnsweredLast);
            let when = if last { effect + Duration::from_millis(1) } else { now };
            self.complete(running.completion(Outcome::Failed(libc::EALREADY), false, None), when);
        }
    }

    fn complete(&mut self, completion: Completion, when: Duration) {
        self.completed.push_back((completion, when));
    }

    /// Whether one completion more would overflow the completion queue: then a multishot operation ends.
    pub(super) fn has_full_queue(&self) -> bool {
        self.completed.len() + 1 >= self.sizes.completion_queue
    }

    /// Lets every operation in flight do what it can now, in any order; if `lazy`, some of them are left for later.
    pub(super) fn pass(&mut self, world: &mut World, memory: &Memory, lazy: bool) -> bool {
        let mut moved = false;
        let mut burst = None;
        let mut at = 0;
        let turn = if self.running.is_empty() { 0 } else { world.random.below(self.running.len()) };
        self.running.rotate_left(turn);
        while at < self.running.len() {
            if self.running[at].due > world.now() || lazy && world.random.chance(100) {
                at += 1;
                continue;
            }
            let mut running = self.running.swap_remove(at);
            let step = running.step(world, self, memory);
            let mut again = false;
            let now = world.now();
            match step {
                Step::Nothing => {}
                Step::Moved => moved = true,
                Step::More(outcome, buffer) => {
                    moved = true;
                    self.complete(running.completion(outcome, true, buffer), now);
                    // An accept mostly goes on at once, until nobody waits any more.
                    again = running.token.kind() == Some(Kind::Accept) && world.random.chance(900);
                    if burst == Some(running.token) {
                        world.faults.happened(Fault::AcceptBurst);
                    }
                    burst = again.then_some(running.token);
                }
                Step::Final(outcome, buffer) => {
                    moved = true;
                    self.complete(running.completion(outcome, false, buffer), now);
                    self.expect_recovery(&running, outcome);
                    self.unfed.note(running.token, outcome, memory, now);
                    if let Some(thing) = running.thing {
                        world.release(thing);
                    }
                    continue;
                }
            }
            self.running.push(running);
            let last = self.running.len() - 1;
            self.running.swap(at, last);
            at += usize::from(!again);
        }
        moved
    }

    /// Moves completions to the worker, as many as the completion queue holds; the rest comes at the next call.
    pub(super) fn deliver(&mut self, world: &mut World, batch: &mut Vec<Completion>) {
        let now = world.now();
        let mut room = self.sizes.completion_queue;
        let mut later = VecDeque::new();
        while let Some((completion, when)) = self.completed.pop_front() {
            if when > now {
                later.push_back((completion, when));
                continue;
            }
            if room == 0 {
                world.faults.happened(Fault::Overflow);
                self.completed.push_front((completion, when));
                break;
            }
            room -= 1;
            if !completion.more && completion.token.kind() != Some(Kind::Cancel) {
                self.in_flight -= 1;
            }
            world.trace(|| format!("  end {completion:?}"));
            self.note_refusal(&completion);
            batch.push(completion);
        }
        self.completed.extend(later);
        if !batch.is_empty() && world.strikes(Fault::NonsenseToken) {
            batch.push(nonsense(world));
        }
    }

    fn note_refusal(&mut self, completion: &Completion) {
        if !matches!(completion.token.kind(), Some(Kind::Receive | Kind::Accept)) {
            return;
        }
        let known = self.refused.iter().position(|(token, ..)| *token == completion.token);
        match (completion.outcome, known) {
            (Outcome::NoBuffers | Outcome::Failed(libc::EMFILE | libc::ENFILE), Some(at)) => {
                self.refused[at].1 = self.waits;
            }
            (Outcome::NoBuffers | Outcome::Failed(libc::EMFILE | libc::ENFILE), None) => {
                self.refused.push((completion.token, self.waits, 0));
            }
            (_, Some(at)) => {
                self.refused.swap_remove(at);
            }
            _ => {}
        }
    }

    /// When something may happen by itself, if anything may.
    pub(super) fn next(&self, now: Duration) -> Option<Duration> {
        let running =
            self.running.iter().map(|running| running.cancelled_at.unwrap_or(running.due).max(running.due));
        let completed = self.completed.iter().map(|(_, when)| *when);
        running.chain(completed).filter(|&when| when > now).min()
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// How many buffers this kernel could fill.
    pub(crate) fn buffers(&self, memory: &Memory) -> u16 {
        let filled = |ahead: &u16| memory.buffers.peek_as_kernel(self.head.wrapping_add(*ahead)).is_some();
        (0..memory.buffers.count()).take_while(filled).count() as u16
    }

    /// What is in flight, in words.
    pub(crate) fn in_flight_tokens(&self) -> Vec<Token> {
        self.running.iter().map(|running| running.token).collect()
    }

    /// Does one operation at once: set-up.
    pub(super) fn perform(&mut self, submission: Submission, world: &mut World, memory: &Memory) -> Outcome {
        let mut running = Running::new(Token::new(Kind::Setup, Generation::default(), 0), submission, memory);
        running.thing = running.descriptor().and_then(|descriptor| world.named(descriptor));
        match running.step(world, self, memory) {
            Step::Final(outcome, _) => outcome,
            _ => Outcome::Failed(libc::EINVAL),
        }
    }

    fn expect_recovery(&mut self, running: &Running, outcome: Outcome) {
        let recovery = match (running.token.kind(), outcome) {
            (Some(Kind::Send), Outcome::Retry) => Recovery::SendRetried,
            (Some(Kind::Send), Outcome::Count(n)) if running.falls_short(n) => match running.cancelled_at {
                Some(_) => Recovery::StalledSendResumed,
                None => Recovery::SendResumed,
            },
            (Some(Kind::Receive), Outcome::NoBuffers) => Recovery::RearmedAfterNoBuffers,
            (Some(Kind::Receive), Outcome::Count(1..) | Outcome::Retry) => Recovery::ReceiveRearmed,
            (Some(Kind::Accept), _) => Recovery::AcceptRearmed,
            (Some(Kind::Wake), Outcome::Count(_)) => Recovery::WatchRearmed,
            (Some(Kind::Errand), Outcome::Retry) => Recovery::FileRetried,
            (Some(Kind::Errand), Outcome::Count(n)) if running.falls_short(n) => Recovery::WriteResumed,
            _ => return,
        };
        self.awaited.push((running.token, recovery));
    }

    fn note_recovery(&mut self, running: &Running, world: &mut World) {
        if running.token.kind() == Some(Kind::CloseStray) {
            world.faults.recovered(Recovery::StrayClosed);
        }
        if let Some(at) = self.awaited.iter().position(|(token, _)| *token == running.token) {
            let (_, recovery) = self.awaited.swap_remove(at);
            world.faults.recovered(recovery);
        }
    }
}

/// Whether it is for a socket to take bytes: one of these at a time.
fn sends(kind: Option<Kind>) -> bool {
    matches!(kind, Some(Kind::Send | Kind::RoomWatch))
}

/// How long an operation takes before it may do anything.
fn latency(world: &mut World, token: Token) -> Duration {
    let micros = if runs_in_a_thread(token.kind()) {
        if token.kind() == Some(Kind::Shutdown) && world.strikes(Fault::ShutdownLate) {
            world.random.between(1_000, 50_000)
        } else {
            world.random.below(500)
        }
    } else if world.strikes(Fault::Late) {
        world.random.between(100, 20_000)
    } else {
        0
    };
    Duration::from_micros(micros as u64)
}

/// A completion that nothing was submitted for.
fn nonsense(world: &mut World) -> Completion {
    let raw = world.random.next();
    let token = match world.random.below(3) {
        0 => Token::from_raw(raw | 0xff << 56),
        // A slot that is not there.
        1 => {
            let kinds = [Kind::Send, Kind::Receive, Kind::Close, Kind::Connect, Kind::Errand, Kind::Shutdown];
            let kind = *world.random.pick(&kinds);
            Token::from_raw(Token::new(kind, Generation::default(), u32::MAX).raw())
        }
        // A generation long gone, or yet to come.
        _ => {
            let kinds = [Kind::Send, Kind::ReceiveOnce, Kind::Close, Kind::Option, Kind::Errand];
            let kind = *world.random.pick(&kinds) as u8;
            let slot = world.random.below(8) as u64;
            Token::from_raw(u64::from(kind) << 56 | 0x00f0_0000 << 32 | slot)
        }
    };
    let outcome = *world.random.pick(&[Outcome::Count(raw as u32), Outcome::Count(0), Outcome::Cancelled]);
    Completion { token, outcome, more: false, buffer: None }
}

/// A listener that the worker is to accept from.
pub(super) fn listen(world: &mut World) -> (Descriptor, usize) {
    let descriptor =
        world.open(What::Listener(VecDeque::new()), false).expect("plain descriptors do not run out");
    (descriptor, world.named(descriptor).expect("just opened"))
}
