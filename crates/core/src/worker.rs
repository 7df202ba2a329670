//! The worker: one thread, one ring, and everything that runs on it.
//!
//! A turn of the worker is the path of a byte in eight stops:
//!
//! 1. [`Ring::wait`]: one call hands over what is queued, waits, and its timeout is the next timer.
//! 2. [`Completion::from_cqe`]: what completed is copied out and classified.
//! 3. [`Worker::dispatch`]: the token finds the slot; its generation is checked.
//! 4. [`BufferRing::take`](crate::buffer_ring::BufferRing::take): the memory that was filled.
//! 5. [`Connection::handle_receive`]: the kernel's own bytes, or the carry when something was left over.
//! 6. The service: its codec, the user's code, the output.
//! 7. [`Connection::poll_submission`] until there is nothing more to submit; the buffer goes home.
//! 8. [`Ring::submit`]; back to 1.
//!
//! # Ending
//!
//! Memory that the kernel may still write must not be freed. So a worker that ends cancels everything, turns until
//! its ring has nothing in flight, and only then drops ring and memory, in this order. If the ring does not drain in
//! time, the memory is leaked on purpose, and that is logged.
//!
//! # Obligations
//!
//! The `unsafe` here is that order of dropping: the ring once and first, the memory once and only if the ring has
//! nothing in flight. Neither is used after.

mod accepting;
#[cfg(feature = "by-hand")]
pub(crate) mod by_hand;
mod datagrams;
mod ending;
mod errands;
mod guests;
mod hosting;
#[cfg(test)]
mod late;
mod letters;
#[cfg(test)]
mod lives;
#[cfg(test)]
mod scenes;
mod seeing;
mod waiting;

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::buffer_ring::{BufferRing, NotTheKernels, Received};
use crate::config::Config;
use crate::connection::{Connection, Env, Limits};
use crate::counters::Counters;
use crate::desk::{Desk, Handle};
use crate::file_pool::FilePool;
use crate::flight::Flights;
use crate::guard::let_go;
use crate::local::Local;
use crate::operation::{Completion, Descriptor, Memory, ONCE_LEN, Outcome, Submission};
use crate::ring::{Abilities, LONGEST_WAIT, Ring};
use crate::send_pool::SendPool;
use crate::service::Service;
use crate::time::{Clock, Millis, Time};
use crate::timer::TimerWheel;
use crate::token::{Generation, Kind, Token};
use crate::wake::{Kick, Mailbox, Wakee};

pub(crate) use accepting::Listening;
use datagrams::Datagrams;
use errands::Errands;
use guests::Guests;
pub(crate) use hosting::Hosting;
pub use hosting::Turned;

/// Bytes of a connection's slot.
pub(crate) const SLOT_LEN: usize = size_of::<Slot>();

/// Bytes per connection beside its slot: in the timer wheel, the list of free slots and the books per address.
pub(crate) const BOOKS_LEN: usize = 16 + size_of::<u32>() + 3 * guests::ENTRY_LEN;

/// Starved connections that receive into a private buffer at the same time.
const PRIVATE_RECEIVES: usize = 8;

/// How often the calendar is looked at: what is added in between is monotonic time.
const WALL_EVERY: Duration = Duration::from_millis(500);

/// Makes the service of a connection that was accepted by the listener of that number.
pub(crate) type Factory = Box<dyn FnMut(usize) -> Box<dyn Service>>;

/// All connections of one thread, and the ring they share.
pub(crate) struct Worker<R: Ring> {
    ring: ManuallyDrop<R>,
    memory: ManuallyDrop<Memory>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Of the slots, those in use.
    live: u32,
    listening: Vec<Listening>,
    /// Accepted by the listener of that number when there was no slot any more: served as soon as there is one.
    waiting: VecDeque<(usize, Descriptor)>,
    errands: Errands,
    guests: Guests,
    datagrams: Datagrams,
    timers: TimerWheel,
    desk: Desk,
    mailbox: Arc<Mailbox>,
    limits: Limits,
    config: Config,
    factory: Factory,
    clock: Box<dyn Clock>,
    wall_due: Time,
    state: State,
    starved: VecDeque<Handle>,
    hungry: VecDeque<Handle>,
    private_receives: usize,
    counters: Counters,
    batch: Vec<Completion>,
    wakes: Vec<Wakee>,
    expired: Vec<u32>,
    /// Connections that are yet to be told of the drain: a turn later, when what they had sent by then has come in.
    undrained: Vec<Handle>,
    /// No place was left for another connection, when somebody last looked.
    is_paused: bool,
    /// Dropped when nobody comes in here any more: whoever goes on with the listeners waits for it.
    heir: Option<Arc<OwnedFd>>,
    /// It is on somebody else's thread, and called when there is a letter: its ring watches for no kicks.
    is_hosted: bool,
}

struct Slot {
    generation: Generation,
    connection: Option<Connection>,
}

struct Parts<'a> {
    slots: &'a mut [Slot],
    buffers: &'a BufferRing,
    flights: &'a mut Flights,
    counters: &'a mut Counters,
    env: Env<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// New clients were turned away, and from `closing_at` on the listeners are closed; `None` once they are.
    Draining {
        until: Time,
        closing_at: Option<Time>,
        handed_over: bool,
    },
    Stopping {
        until: Time,
    },
}

/// The worker's memory, in the sizes that `config` says.
pub(crate) fn memory_for(config: &Config) -> Memory {
    Memory {
        buffers: BufferRing::new(config.receive_buffers, config.receive_buffer_len),
        sends: SendPool::new(config.send_buffers, config.send_buffer_len.max(ONCE_LEN)),
        flights: Flights::default(),
        files: FilePool::new(config.file_buffers, config.file_buffer_len),
    }
}

impl<R: Ring> Worker<R> {
    /// A worker over `ring`, which was made for `memory`; its factory is made as if in a turn, so that it may spawn.
    ///
    /// # Errors
    /// When other threads' wake-ups cannot be set up.
    pub(crate) fn new(
        mut ring: R,
        memory: Memory,
        config: Config,
        clock: Box<dyn Clock>,
        make: impl FnOnce() -> Factory,
    ) -> io::Result<Worker<R>> {
        let kick = ring.kick(&memory, Token::new(Kind::Wake, Generation::default(), 0))?;
        Ok(Worker::kicked_by(kick, ring, memory, config, clock, make))
    }

    /// A worker that hears of its letters by `kick`.
    fn kicked_by(
        kick: Box<dyn Kick>,
        ring: R,
        memory: Memory,
        config: Config,
        clock: Box<dyn Clock>,
        make: impl FnOnce() -> Factory,
    ) -> Worker<R> {
        let mailbox = Arc::new(Mailbox::new(kick));
        memory.files.tell(&mailbox);
        let limits = limits_of(&config, ring.abilities());
        let desk = Desk::new(Arc::clone(&mailbox), &config);
        let factory = desk.local.as_in_turn(make);
        Worker {
            ring: ManuallyDrop::new(ring),
            memory: ManuallyDrop::new(memory),
            slots: Vec::new(),
            free: Vec::new(),
            live: 0,
            listening: Vec::new(),
            waiting: VecDeque::new(),
            errands: Errands::default(),
            guests: Guests::default(),
            datagrams: Datagrams::default(),
            timers: TimerWheel::new(0),
            desk,
            mailbox,
            limits,
            config,
            factory,
            clock,
            wall_due: Time::ZERO,
            state: State::Running,
            starved: VecDeque::new(),
            hungry: VecDeque::new(),
            private_receives: 0,
            counters: Counters::default(),
            batch: Vec::new(),
            wakes: Vec::new(),
            expired: Vec::new(),
            undrained: Vec::new(),
            is_paused: false,
            heir: None,
            is_hosted: false,
        }
    }

    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    pub(crate) fn local(&self) -> &Rc<Local> {
        &self.desk.local
    }

    /// Turns until the worker was told to stop and everything is closed.
    ///
    /// # Errors
    /// When the ring breaks.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        while self.turn()? {}
        Ok(())
    }

    /// One turn; false once the worker has ended.
    pub(crate) fn turn(&mut self) -> io::Result<bool> {
        self.turn_within(self.timeout())
    }

    /// One turn that waits no longer than this for something to do.
    fn turn_within(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let undrained = std::mem::take(&mut self.undrained);
        let mut batch = std::mem::take(&mut self.batch);
        self.wait(timeout, &mut batch)?;
        let _turn = self.desk.local.enter();
        self.look_at_the_clock();
        self.counters.turns += 1;
        self.counters.completions += batch.len() as u64;
        for completion in batch.drain(..) {
            self.dispatch(completion);
        }
        self.batch = batch;
        if self.is_hosted && self.mailbox.is_kicked() {
            self.read_letters();
        }
        for name in undrained {
            self.with_connection(name, Connection::handle_drain);
        }
        self.expire_timers();
        self.run_tasks();
        self.run_errands();
        self.tend_datagrams();
        self.wake_locally();
        self.share_memory();
        self.end_if_due()
    }

    /// Takes one completion to its owner.
    fn dispatch(&mut self, completion: Completion) {
        let Some(kind) = completion.token.kind() else {
            return self.counters.nonsense += 1;
        };
        match kind {
            // Whether it met its target or not, the target's own completion says all there is to say.
            Kind::Cancel => {}
            Kind::Receive => self.received(&completion),
            Kind::Send => {
                if let Outcome::Count(n) = completion.outcome {
                    self.counters.sent += u64::from(n);
                }
                self.with_memory(&completion, |connection, outcome, flights, env| {
                    connection.handle_send(outcome, flights, env);
                });
            }
            Kind::ReceiveOnce => {
                self.private_receives = self.private_receives.saturating_sub(1);
                if let Outcome::Count(n) = completion.outcome {
                    self.counters.received += u64::from(n);
                }
                self.with_memory(&completion, |connection, outcome, _, env| {
                    connection.handle_receive_once(outcome, env);
                });
            }
            Kind::Shutdown => self.with_memory(&completion, |connection, outcome, _, env| {
                connection.handle_shutdown(outcome, env);
            }),
            Kind::PeerWatch => self.with_memory(&completion, |connection, outcome, _, env| {
                connection.handle_watch(outcome, env);
            }),
            Kind::RoomWatch => self.with_memory(&completion, |connection, outcome, _, env| {
                connection.handle_room_watch(outcome, env);
            }),
            Kind::Socket | Kind::Option | Kind::Connect => self.opening(&completion),
            Kind::Close => self.with_memory(&completion, |connection, _, _, _| connection.handle_close()),
            Kind::Accept => self.accepted(&completion),
            Kind::Errand => self.errand_done(&completion),
            Kind::Datagrams => self.datagram_received(&completion),
            Kind::SendDatagram => self.datagram_sent(&completion),
            Kind::Wake => self.kicked(&completion),
            Kind::CloseStray | Kind::Setup => {}
        }
    }

    fn received(&mut self, completion: &Completion) {
        let Parts { slots, buffers, counters, mut env, .. } = self.parts();
        // The buffer goes home whoever its owner was, and even if that is gone.
        let Ok(received) = taken(buffers, completion, counters) else {
            return self.nonsense(completion);
        };
        let Some((connection, name)) = find(slots, completion.token) else { return };
        connection.handle_receive(completion.outcome, completion.more, received, &mut env);
        self.follow_up(name);
    }

    /// A completion that cannot be: it costs the connection it names, if any, and nobody else.
    fn nonsense(&mut self, completion: &Completion) {
        self.counters.nonsense += 1;
        let handle = Handle { slot: completion.token.slot(), generation: completion.token.generation() };
        self.with_connection(handle, |connection, env| connection.handle_nonsense(completion.more, env));
    }

    fn opening(&mut self, completion: &Completion) {
        let direct = self.limits.abilities.direct;
        self.with_memory(completion, |connection, outcome, flights, env| {
            connection.handle_opening(outcome, direct, flights, env);
        });
    }

    /// Lets the owner of a completion handle it, with the in-flight table at hand.
    fn with_memory(
        &mut self,
        completion: &Completion,
        handle: impl FnOnce(&mut Connection, Outcome, &mut Flights, &mut Env<'_>),
    ) {
        let Parts { slots, flights, counters, mut env, .. } = self.parts();
        let Some((connection, name)) = find(slots, completion.token) else {
            return counters.nonsense += 1;
        };
        handle(connection, completion.outcome, flights, &mut env);
        self.follow_up(name);
    }

    /// Lets a connection handle something, if it is still there.
    fn with_connection(&mut self, name: Handle, handle: impl FnOnce(&mut Connection, &mut Env<'_>)) -> bool {
        let Parts { slots, mut env, .. } = self.parts();
        let token = Token::new(Kind::Wake, name.generation, name.slot);
        let Some((connection, _)) = find(slots, token) else { return false };
        handle(connection, &mut env);
        self.follow_up(name);
        true
    }

    /// The parts that a connection works with, apart from one another.
    fn parts(&mut self) -> Parts<'_> {
        let Memory { buffers, sends, flights, .. } = &mut *self.memory;
        Parts {
            slots: &mut self.slots,
            buffers,
            flights,
            counters: &mut self.counters,
            env: Env {
                sends,
                desk: &mut self.desk,
                ring: &mut *self.ring,
                limits: &self.limits,
                starved: &mut self.starved,
                hungry: &mut self.hungry,
            },
        }
    }

    /// Submits what a connection wants after it handled something, minds its timers, and frees its slot if it is over.
    fn follow_up(&mut self, name: Handle) {
        let Some(slot) = self.slots.get_mut(name.slot as usize) else { return };
        let Some(connection) = &mut slot.connection else { return };
        while let Some((kind, submission)) =
            connection.poll_submission(self.desk.now, &mut self.memory, &self.limits)
        {
            if kind == Kind::Receive {
                self.counters.receives_armed += 1;
            }
            self.ring.submit(Token::new(kind, name.generation, name.slot), submission, &self.memory);
        }
        // A deadline that moves away leaves its entry in the wheel; when that fires, nothing is due.
        if let Some(due) = connection.poll_timeout(&self.limits)
            && self.timers.deadline(name.slot).is_none_or(|scheduled| due < scheduled)
        {
            self.timers.schedule(name.slot, due);
        }
        if let Some((asker, ticket, result)) = connection.take_opened() {
            self.counters.connected += u64::from(result.is_ok());
            self.desk.local.put_request(asker, ticket, crate::errand::Request::TellConnected(result));
        }
        if connection.is_over() {
            self.release(name);
        }
    }

    /// Frees a slot: the one place that does.
    fn release(&mut self, name: Handle) {
        let slot = &mut self.slots[name.slot as usize];
        slot.connection = None;
        slot.generation = slot.generation.next();
        self.timers.cancel(name.slot);
        self.guests.leave(name.slot);
        self.free.push(name.slot);
        self.live -= 1;
        self.counters.closed += 1;
        self.accept_again();
    }

    /// Puts a connection into a free slot.
    fn settle(&mut self, make: impl FnOnce(Handle) -> Connection) -> Handle {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: Generation::default(), connection: None });
            self.slots.len() as u32 - 1
        });
        let place = &mut self.slots[slot as usize];
        let name = Handle { slot, generation: place.generation };
        place.connection = Some(make(name));
        self.live += 1;
        name
    }

    fn submit(&mut self, kind: Kind, slot: u32, submission: Submission) {
        self.ring.submit(Token::new(kind, Generation::default(), slot), submission, &self.memory);
    }

    /// Closes a descriptor that belongs to no connection.
    fn close_stray(&mut self, descriptor: Descriptor) {
        self.submit(Kind::CloseStray, 0, Submission::Close { descriptor });
    }

    /// Wakes that services of this worker gave each other; those that come of it are for the next turn.
    fn wake_locally(&mut self) {
        if !self.desk.local.has_wakes() {
            return;
        }
        let mut wakes = std::mem::take(&mut self.wakes);
        self.desk.local.swap_wakes(&mut wakes);
        for wakee in wakes.drain(..) {
            self.wake(wakee);
        }
        self.wakes = wakes;
    }

    fn wake(&mut self, wakee: Wakee) {
        match wakee {
            Wakee::Connection(name) => {
                self.with_connection(name, Connection::handle_wake);
            }
            Wakee::Task(_) => self.desk.local.wake(wakee),
        }
    }

    /// Polls the tasks that were woken, by their sleeps as well.
    fn run_tasks(&mut self) {
        let local = &self.desk.local;
        local.sleeps.wake(self.desk.now);
        if local.tasks.has_queued() {
            local.tasks.poll();
        }
    }

    fn expire_timers(&mut self) {
        let mut expired = std::mem::take(&mut self.expired);
        self.timers.expire(self.desk.now.millis(), &mut expired);
        for slot in expired.drain(..) {
            let Some(generation) = self.slots.get(slot as usize).map(|slot| slot.generation) else {
                continue;
            };
            self.with_connection(Handle { slot, generation }, Connection::handle_timeout);
        }
        self.expired = expired;
        self.retry_accept();
    }

    /// Buffers of this turn go home first; then whoever found none has its turn, in order.
    fn share_memory(&mut self) {
        self.memory.buffers.welcome_home();
        self.memory.buffers.publish();
        self.share_with_datagrams();
        while self.private_receives < PRIVATE_RECEIVES && !self.starved.is_empty() {
            let Some(buffer) = self.memory.sends.take() else { break };
            if !self.receive_privately(buffer) {
                self.memory.sends.release(buffer);
            }
        }
        while self.memory.sends.has_free() {
            let Some(name) = self.hungry.pop_front() else { break };
            self.with_connection(name, Connection::handle_memory);
        }
    }

    /// One receive into a private buffer for the head of the starved: then its multishot receive may be armed again.
    /// Never armed again at once, for that would spin.
    fn receive_privately(&mut self, buffer: u32) -> bool {
        let Some(name) = self.starved.pop_front() else { return false };
        let token = Token::new(Kind::ReceiveOnce, name.generation, name.slot);
        let Some((connection, _)) = find(&mut self.slots, token) else { return false };
        let Some((_, submission)) = connection.receive_once(buffer, &self.limits) else { return false };
        self.private_receives += 1;
        self.counters.private_receives += 1;
        self.ring.submit(token, submission, &self.memory);
        true
    }

    fn timeout(&self) -> Option<Duration> {
        let local = &self.desk.local;
        if local.has_work() || !self.undrained.is_empty() {
            return Some(Duration::ZERO);
        }
        let mut next = self.timers.next().map(|ms| Time::from_start(Duration::from_millis(ms)));
        if let Some(sleep) = local.sleeps.next() {
            next = Some(next.map_or(sleep, |next| next.min(sleep)));
        }
        for retry in [self.accept_retry_at(), self.datagrams.retry_at()].into_iter().flatten() {
            next = Some(next.map_or(retry, |next| next.min(retry)));
        }
        if let State::Draining { until, .. } | State::Stopping { until } = self.state {
            let closing_at =
                if let State::Draining { closing_at, .. } = self.state { closing_at } else { None };
            let until = closing_at.map_or(until, |at| at.min(until));
            next = Some(next.map_or(until, |next| next.min(until)));
        }
        next.map(|next| next.since(self.desk.now).min(LONGEST_WAIT))
    }

    fn look_at_the_clock(&mut self) {
        self.desk.set_now(self.clock.now());
        if self.desk.now >= self.wall_due {
            self.desk.set_wall(self.clock.wall());
            self.wall_due = self.desk.now + WALL_EVERY;
        }
    }

    fn names(&self) -> Vec<Handle> {
        let live = |(slot, place): (usize, &Slot)| {
            place.connection.as_ref().map(|_| Handle { slot: slot as u32, generation: place.generation })
        };
        self.slots.iter().enumerate().filter_map(live).collect()
    }
}

/// What a completed receive brought; `Err` if it names memory that the kernel did not have.
fn taken<'ring>(
    buffers: &'ring BufferRing,
    completion: &Completion,
    counters: &mut Counters,
) -> Result<Option<Received<'ring>>, NotTheKernels> {
    match (completion.outcome, completion.buffer) {
        (Outcome::Count(len), Some(buffer)) => {
            counters.received += u64::from(len);
            buffers.take(buffer, len).map(Some)
        }
        (Outcome::Count(1..), None) => Err(NotTheKernels),
        (Outcome::NoBuffers, None) => {
            counters.no_buffers += 1;
            Ok(None)
        }
        // A receive that failed after it had picked a buffer: there is nothing in it.
        (_, Some(buffer)) => buffers.take(buffer, 0).map(|_| None),
        _ => Ok(None),
    }
}

/// The connection that a token names, if its generation is still the slot's.
fn find(slots: &mut [Slot], token: Token) -> Option<(&mut Connection, Handle)> {
    let slot = slots.get_mut(token.slot() as usize)?;
    if slot.generation != token.generation() {
        return None;
    }
    let name = Handle { slot: token.slot(), generation: slot.generation };
    Some((slot.connection.as_mut()?, name))
}

fn limits_of(config: &Config, abilities: Abilities) -> Limits {
    Limits {
        receive_budget: config.receive_budget,
        receive_buffer_len: config.receive_buffer_len,
        input_limit: config.input_limit,
        send_buffers: config.send_buffers_per_connection,
        held_limit: config.held_limit,
        linger_limit: config.linger_limit,
        linger_time: config.linger_time,
        send_stall: config.send_stall,
        send_rate: config.send_rate,
        idle_timeout: Millis::from(config.idle_timeout),
        frame_timeout: Millis::from(config.frame_timeout),
        lifetime: Millis::from(config.lifetime),
        lifetime_grace: Millis::from(Some(config.lifetime_grace)),
        lend_time: config.lend_time,
        abilities,
    }
}

impl<R: Ring> Drop for Worker<R> {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // A worker dropped while it runs (a panic, a broken ring) still has to get its memory back. Its time for that
        // begins now, however long the turn has taken.
        let _turn = self.desk.local.enter();
        self.look_at_the_clock();
        self.stop();
        while self.ring.in_flight() > 0 {
            if !matches!(self.turn(), Ok(true)) {
                break;
            }
        }
        let_go(self.mailbox.close());
        self.desk.local.forget_requests();
        self.let_go_of_state();
        // The files among that are closed by the ring too.
        while self.ring.in_flight() > 0 {
            if !matches!(self.turn(), Ok(true)) {
                break;
            }
        }
        let drained = self.ring.in_flight() == 0;
        // SAFETY: dropped once, here, and not used after. The ring goes first: it names the memory.
        unsafe { ManuallyDrop::drop(&mut self.ring) };
        if drained {
            // SAFETY: as above; the ring had nothing in flight, so the kernel is done with it.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        } else {
            // Connections hold the `Bytes` that a send names, and errands those that a write names.
            std::mem::forget((std::mem::take(&mut self.slots), std::mem::take(&mut self.errands)));
            tracing::error!(
                "the kernel did not let go of a worker's buffers in time; they are leaked on purpose"
            );
        }
        if self.is_hosted {
            self.desk.local.end();
        }
    }
}
