//! Calling the service: its input where it lies, the promise of room, and what becomes of the connection by what it
//! says.
//!
//! Which event comes next, and whether one comes at all, is the [`Agenda`](crate::agenda)'s affair.

use crate::agenda::{Change, Turn, Urgency};
use crate::buffer_ring::Piece;
use crate::desk::Handle;
use crate::guard::{Panic, guard};
use crate::input::Input;
use crate::output::Outgoing;
use crate::service::{Context, Event, Flow, Reason};

use super::{Connection, Env, Stage};

impl Connection {
    /// Calls the service with what a piece brought, in the kernel's own memory if nothing was left over before.
    pub(super) fn drive_piece(&mut self, piece: &mut Piece<'_>, env: &mut Env<'_>) {
        if !self.carry.is_empty() {
            self.carry.append(piece.open(0).0);
            self.agenda.input_arrived(self.carry.len());
            return self.drive(env);
        }
        self.agenda.input_arrived(piece.len());
        let mut at = 0;
        while let Some(event) = self.next_event(piece.len() - at, env) {
            let (unread, keeper) = piece.open(at);
            let unread_len = unread.len();
            let input = Input::of_piece(unread, self.peer_ended, keeper);
            let consumed = self.call(event, input, unread_len, env);
            // A service can put another input in place of this one, so what was kept is not believed from its word.
            at = piece.kept().max(at + consumed);
        }
        match self.stage {
            Stage::Open => self.carry.append(piece.open(at).0),
            _ => self.discard((piece.len() - at) as u64),
        }
        self.rest(env);
    }

    /// Calls the service for whatever is pending, with the input that was carried over.
    pub(super) fn drive(&mut self, env: &mut Env<'_>) {
        while let Some(event) = self.next_event(self.carry.len(), env) {
            // The carry is out of the way while the service sees it; it is put back before anything else happens.
            let mut carry = std::mem::take(&mut self.carry);
            let unread_len = carry.len();
            let consumed = self.call(event, Input::new(carry.unread(), self.peer_ended), unread_len, env);
            carry.consume(consumed);
            self.carry = carry;
        }
        self.rest(env);
    }

    /// The service has nothing more to do for now.
    fn rest(&mut self, env: &mut Env<'_>) {
        self.outgoing.trim(env.sends);
        self.mind_the_frame(env);
        if self.stage == Stage::Open && self.agenda.waits_in_vain() {
            self.finish(true, env);
        }
        self.settle(env);
    }

    /// The next event to tell, if there is one and it can be told now.
    fn next_event(&mut self, unread: usize, env: &mut Env<'_>) -> Option<Event> {
        if self.stage != Stage::Open {
            return None;
        }
        let Connection { agenda, outgoing, is_hungry, handle, .. } = self;
        agenda.next(unread, |urgency| make_room(outgoing, is_hungry, *handle, urgency, env))
    }

    /// One call; says how much of the input it consumed.
    fn call(&mut self, event: Event, input: Input<'_>, unread: usize, env: &mut Env<'_>) -> usize {
        let Connection { service, outgoing, timer, facts, handle, descriptor, .. } = self;
        let Some(service) = service else { return 0 };
        let unsent = outgoing.len();
        let output = outgoing.open(env.sends, env.limits.held_limit);
        let scope = Connection::scope(*handle, *descriptor, facts, env.desk, env.ring);
        let mut cx = Context::new(input, output, timer, scope);
        let flow = guard(|| service.handle(event, &mut cx));
        let after = cx.progress();
        drop(cx);
        let consumed = after.consumed.min(unread);
        let progressed = consumed > 0 || after.unsent > unsent;
        let inner_frame = env.desk.inner_frame.take();
        if inner_frame.map_or(consumed > 0, |frame| frame.went_on) {
            self.ages.frame_went_on();
        }
        self.is_in_inner_frame = inner_frame.is_some();
        match flow {
            Ok(flow) => self.follow(flow, progressed, unread - consumed, env),
            Err(panic) => self.panicked(&panic, env),
        }
        consumed
    }

    /// Does as the service said, and notes whether it is to be called again.
    fn follow(&mut self, flow: Flow, progressed: bool, unread: usize, env: &mut Env<'_>) {
        match self.agenda.follow(flow, progressed, unread) {
            None if self.agenda.wants_too_much(env.limits.input_limit) && !self.peer_ended => {
                self.end(Reason::InputLimit, env);
            }
            // It was told something urgent when no send buffer was left. Nothing is being sent that would bring room
            // when it is done, so the connection itself waits for a buffer.
            None if self.agenda.waits_for_room() && self.outgoing.is_empty() && self.lacks_room(env) => {
                self.agenda.add(Change::Room);
            }
            None => {}
            Some(Turn::Finish) => self.finish(true, env),
            Some(Turn::Close) => self.finish(unread > 0, env),
            Some(Turn::Abort) => self.abort(env),
            Some(Turn::Become(service)) => {
                self.outgoing.keep_lent();
                let before = self.service.replace(service);
                if let Err(panic) = guard(|| drop(before)) {
                    self.panicked(&panic, env);
                }
            }
        }
    }

    fn panicked(&mut self, panic: &Panic, env: &mut Env<'_>) {
        self.report(panic, env);
        self.end(Reason::Panicked, env);
    }

    /// Counts and logs a panic.
    pub(super) fn report(&mut self, panic: &Panic, env: &mut Env<'_>) {
        self.scope_in(env).report_panic(panic);
    }

    fn lacks_room(&self, env: &Env<'_>) -> bool {
        self.outgoing.tail_room(env.sends.buffer_len()) < env.desk.room
    }
}

/// Sees to it that the promised room is there. For what is urgent a buffer is in reserve; a service that has filled
/// even that gets the event with less room, down to none. After bytes were given back there is none but for what is
/// urgent, until the socket takes bytes again.
fn make_room(
    outgoing: &mut Outgoing,
    is_hungry: &mut bool,
    name: Handle,
    urgency: Urgency,
    env: &mut Env<'_>,
) -> bool {
    if outgoing.is_parked() && urgency == Urgency::CanWait {
        return false;
    }
    if outgoing.tail_room(env.sends.buffer_len()) >= env.desk.room {
        return true;
    }
    let reserve = u16::from(urgency == Urgency::Urgent);
    if outgoing.buffers() >= env.limits.send_buffers.saturating_add(reserve) {
        return false;
    }
    if let Some(buffer) = env.sends.take() {
        outgoing.begin(buffer);
        return true;
    }
    if urgency == Urgency::CanWait && !*is_hungry {
        *is_hungry = true;
        env.hungry.push_back(name);
    }
    false
}
