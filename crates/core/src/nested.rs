//! Nested: a layer around an inner service.
//!
//! A [`Layer`] takes what comes from below apart (decrypts it, strips its frames) and puts what the inner service
//! writes together for below. [`Nested`] is the service made of both: it calls the inner service by the same rule by
//! which a connection calls its own, so layers stack, and neither of the two has to know of the other.
//!
//! ```text
//!   below ──► cx.input ──► Layer::read ──► Inner::give ──► inner service
//!   below ◄── cx.output ◄─ Layer::write ◄─── collected ◄─────────┘
//! ```
//!
//! Timers, wakes, answers and drain pass through. The end of input does when the layer has read everything; the end of
//! output (half-close) and the service's last word do when everything it wrote was passed on.
//!
//! ```
//! use campanile_core::{Context, Flow, Inner, Input, Layer, Nested, Output};
//!
//! /// Every byte is exchanged for its complement, in both directions.
//! struct Complement;
//!
//! impl Layer for Complement {
//!     fn read(&mut self, cx: &mut Context<'_>, inner: &mut Inner) -> Flow {
//!         let bytes = cx.input.consume_all();
//!         bytes.iter_mut().for_each(|byte| *byte = !*byte);
//!         inner.give(bytes, cx);
//!         Flow::More(1)
//!     }
//!
//!     fn write(&mut self, chunk: &[u8], output: &mut Output<'_>) -> usize {
//!         let n = chunk.len().min(output.room());
//!         output.spare().iter_mut().zip(chunk).for_each(|(to, from)| *to = !from);
//!         output.advance(n);
//!         n
//!     }
//! }
//!
//! let service = || Nested::new(Complement, |input: &mut Input<'_>, _: &mut Output<'_>| {
//!     input.consume_all();
//!     Flow::More(1)
//! });
//! # fn is_a_service(_: impl campanile_core::Service) {}
//! # is_a_service(service());
//! ```

use std::cell::RefCell;
use std::fmt;

use crate::agenda::{Agenda, Change, Turn};
use crate::carry::Carry;
use crate::desk::InnerFrame;
use crate::input::Input;
use crate::output::{Collected, Output};
use crate::service::{Context, Event, Flow, Service};
use crate::time::Time;

/// Unread input of an inner service at which the layer reads no more from below.
const INPUT_LIMIT: usize = 64 * 1024;

/// Memory for what an inner service writes; more if a service is promised more.
const OUTPUT_LEN: usize = 16 * 1024;

/// Idle memory that a worker keeps for the next inner service that writes.
const SPARES: usize = 32;

/// What is done to the bytes between a service and what is below it.
///
/// A layer keeps no bytes: what it has not read stays in the input, and what it has not passed on stays collected. All
/// its methods see the context of the layer: the input and output of below, and a timer of its own.
pub trait Layer {
    /// The connection is there. Opens the inner service, unless there is something to agree on first: then the layer
    /// writes its first words here, if it is the one to speak first, and opens the inner service when all is agreed.
    fn open(&mut self, cx: &mut Context<'_>, inner: &mut Inner) {
        let _ = cx;
        inner.open();
    }

    /// Takes input apart, one piece or more of it, and [gives](Inner::give) the inner service what is in it.
    ///
    /// Called by the same rule as a service: when there is more input or room than before, and again while it consumes
    /// or writes. It is not called while the inner service takes no input. What it returns says what it waits for;
    /// anything else than waiting ends the connection, as it does for a service.
    fn read(&mut self, cx: &mut Context<'_>, inner: &mut Inner) -> Flow;

    /// Passes on the beginning of `chunk`, which the inner service wrote, and says how many bytes of it; none if there
    /// is not enough room. Called again while there is more, and room.
    fn write(&mut self, chunk: &[u8], output: &mut Output<'_>) -> usize;

    /// The inner service writes no more, and everything was passed on: the last words. Returns whether there was room
    /// for them; if not, it is called again when there is more.
    fn end(&mut self, output: &mut Output<'_>) -> bool {
        let _ = output;
        true
    }

    /// Any other event. A layer that sets a timer, asks its worker for something or hands out wakers looks for what is
    /// its own; all else it [passes on](Inner::tell).
    fn event(&mut self, event: Event, cx: &mut Context<'_>, inner: &mut Inner) {
        inner.tell(event, cx);
    }
}

/// A layer and the service inside of it, which together are a service.
pub struct Nested<L> {
    layer: L,
    inner: Inner,
    /// The layer's own.
    timer: Option<Time>,
    /// What the layer waits for below.
    reading: Flow,
    said_last_words: bool,
}

/// The service inside of a layer, as the layer sees it.
pub struct Inner {
    service: Box<dyn Service>,
    agenda: Agenda,
    input: Carry,
    input_limit: usize,
    output: Collected,
    timer: Option<Time>,
    is_open: bool,
    input_ended: bool,
    /// It has consumed some of its input since its layer was called.
    has_consumed: bool,
    last: Option<Flow>,
}

impl<L: Layer> Nested<L> {
    /// `layer` around `service`.
    pub fn new(layer: L, service: impl Service + 'static) -> Nested<L> {
        let inner = Inner {
            service: Box::new(service),
            agenda: Agenda::new(),
            input: Carry::default(),
            input_limit: INPUT_LIMIT,
            output: Collected::new(OUTPUT_LEN, OUTPUT_LEN),
            timer: None,
            is_open: false,
            input_ended: false,
            has_consumed: false,
            last: None,
        };
        Nested { layer, inner, timer: None, reading: Flow::More(1), said_last_words: false }
    }

    /// With other bounds: of unread input at which the inner service is given no more (one piece of the layer's may go
    /// beyond), and of output that is collected before it is passed on. 64 KiB and 16 KiB by default. The inner service
    /// is promised as much room as any, so there is never less memory for output than that.
    #[must_use]
    pub fn limits(mut self, input_limit: usize, output_limit: usize) -> Nested<L> {
        self.inner.input_limit = input_limit.max(1);
        self.inner.output = Collected::new(output_limit, output_limit);
        self
    }

    fn step(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        let Nested { layer, inner, timer, .. } = self;
        inner.output.at_least(cx.promised_room());
        match event {
            Event::Input | Event::Room | Event::End => {}
            Event::Open => layer.open(cx, inner),
            Event::Timer => {
                if timer.is_some_and(|at| at <= cx.now()) {
                    cx.clear_timer();
                    layer.event(Event::Timer, cx, inner);
                }
                inner.tell(Event::Timer, cx);
            }
            Event::Closed(_) => {
                layer.event(event, cx, inner);
                let is_cut = matches!(inner.last, Some(Flow::Abort)) || !inner.output.is_empty();
                return if is_cut { Flow::Abort } else { Flow::Wait };
            }
            event => layer.event(event, cx, inner),
        }
        // What one does may be what another waits for, in any order; each round consumes or writes something.
        while self.read(cx) | self.inner.call(cx) | self.write(cx) {}
        self.inner.put_memory_away(cx);
        self.inner.note_frame(cx);
        self.flow(cx)
    }

    /// From below to the inner service.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let Nested { layer, inner, reading, .. } = self;
        let before = cx.progress();
        *reading = Flow::Wait;
        if let Some(Flow::Close) = inner.last
            && !cx.input.is_empty()
        {
            // The peer may still be sending.
            inner.last = Some(Flow::Finish);
        }
        if inner.input_ended || inner.has_finished() {
            cx.input.consume_all();
        }
        while inner.takes_input(cx) {
            let last = cx.progress();
            *reading = layer.read(cx, inner);
            match reading {
                Flow::More(_) | Flow::Room | Flow::MoreOrRoom(_) if cx.progress() != last => {}
                Flow::More(_) if cx.input.is_ended() => inner.end_input(),
                Flow::More(_) | Flow::Room | Flow::MoreOrRoom(_) | Flow::Wait => break,
                Flow::Finish | Flow::Close | Flow::Abort | Flow::Become(_) => {
                    inner.last = Some(std::mem::take(reading));
                }
            }
        }
        cx.progress() != before
    }

    /// From the inner service to below.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let Nested { layer, inner, said_last_words, .. } = self;
        let (unsent, mut wrote) = (cx.output.unsent(), false);
        while !inner.output.is_empty() {
            let n = layer.write(inner.output.chunk(), &mut cx.output);
            if n == 0 {
                break;
            }
            inner.output.consume(n);
            wrote = true;
        }
        if wrote {
            inner.agenda.room_came();
        }
        if inner.output.is_empty() && inner.writes_no_more() && !*said_last_words {
            *said_last_words = layer.end(&mut cx.output);
            if *said_last_words && inner.output.is_ended() {
                cx.output.end();
            }
        }
        wrote || cx.output.unsent() > unsent
    }

    /// What the layer and the inner service together wait for.
    fn flow(&mut self, cx: &Context<'_>) -> Flow {
        let inner = &mut self.inner;
        if matches!(inner.last, Some(Flow::Abort)) {
            return Flow::Abort;
        }
        let is_stuck = !inner.output.is_empty() || (inner.writes_no_more() && !self.said_last_words);
        if is_stuck && cx.output.unsent() == 0 && cx.output.room() >= cx.promised_room() {
            tracing::error!("a layer passes nothing on though it has all the room there will ever be");
            return Flow::Abort;
        }
        if !is_stuck && let Some(last) = &mut inner.last {
            // Where input is unread the peer may still be sending.
            let close = matches!(last, Flow::Close) && inner.input.is_empty();
            let last = std::mem::replace(last, Flow::Finish);
            return if close || matches!(last, Flow::Become(_)) { last } else { Flow::Finish };
        }
        let needs_room = is_stuck || matches!(self.reading, Flow::Room | Flow::MoreOrRoom(_));
        match self.reading {
            Flow::More(n) | Flow::MoreOrRoom(n) if inner.takes_input(cx) => {
                if needs_room {
                    Flow::MoreOrRoom(n)
                } else {
                    Flow::More(n)
                }
            }
            // The peer may not read before it has sent all.
            _ if needs_room && inner.has_finished() => Flow::MoreOrRoom(1),
            _ if needs_room => Flow::Room,
            _ => Flow::Wait,
        }
    }
}

impl<L: Layer> Service for Nested<L> {
    fn handle(&mut self, event: Event, cx: &mut Context<'_>) -> Flow {
        cx.replace_timer(self.timer);
        let flow = self.step(event, cx);
        self.timer = cx.timer();
        cx.replace_timer([self.timer, self.inner.timer].into_iter().flatten().min());
        flow
    }
}

impl Inner {
    /// Opens the inner service: it is told [`Event::Open`], and from then on all other events.
    pub fn open(&mut self) {
        if !std::mem::replace(&mut self.is_open, true) {
            self.agenda.add(Change::Open);
        }
    }

    /// Whether it was opened.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Gives it input, which it sees in place; what it leaves unread is copied.
    pub fn give(&mut self, bytes: &mut [u8], cx: &mut Context<'_>) {
        let mut at = 0;
        if self.input.is_empty() {
            self.agenda.input_arrived(bytes.len());
            while let Some(event) = self.next_event(bytes.len() - at, cx) {
                at += self.call_with(event, Input::new(&mut bytes[at..], self.input_ended), cx);
            }
        }
        self.input.append(&bytes[at..]);
        self.agenda.input_arrived(self.input.len());
    }

    /// Says that it gets no more input. What still comes from below is discarded.
    pub fn end_input(&mut self) {
        if !std::mem::replace(&mut self.input_ended, true) {
            self.agenda.add(Change::End);
        }
        if !self.is_open {
            self.last = Some(Flow::Finish);
        }
    }

    /// Aborts the connection, at once.
    pub fn abort(&mut self) {
        self.last = Some(Flow::Abort);
    }

    /// Tells it an event. Before it is open it is told nothing but to drain, and that when it is open; a timer only if
    /// it is its own.
    pub fn tell(&mut self, event: Event, cx: &mut Context<'_>) {
        match event {
            Event::Closed(_) => {
                let mut nothing = Collected::new(0, 0);
                let mut cx = cx.nest(Input::new(&mut [], false), nothing.output(), &mut self.timer);
                if let Flow::Abort = self.service.handle(event, &mut cx) {
                    self.last = Some(Flow::Abort);
                }
            }
            Event::Drain => self.agenda.add(Change::Drain),
            Event::Timer if self.timer.is_some_and(|at| at <= cx.now()) => {
                self.timer = None;
                self.agenda.add(Change::Timer);
            }
            Event::Wake if self.is_open => self.agenda.add(Change::Wake),
            Event::Answer(ticket, answer) if self.is_open => self.agenda.add_answer(ticket, answer),
            _ => {}
        }
    }

    /// Whether it takes more input now: the layer takes none from below otherwise. Before it is open the layer reads
    /// for itself; and the end of input is worth reading for even if nobody waits for what is before it.
    fn takes_input(&self, cx: &Context<'_>) -> bool {
        if self.last.is_some() || self.input_ended {
            return false;
        }
        let waits = self.agenda.waits_for_input() && (self.agenda.needs_no_room() || self.has_room(cx));
        !self.is_open || (self.input.len() < self.input_limit && (waits || cx.input.is_ended()))
    }

    /// Tells the connection of a frame that has begun, for its deadline. Of several layers the innermost counts, which
    /// tells first.
    fn note_frame(&mut self, cx: &mut Context<'_>) {
        let went_on = std::mem::take(&mut self.has_consumed);
        if self.last.is_none() && !self.input.is_empty() && self.agenda.waits_for_the_rest() {
            cx.note_inner_frame(InnerFrame { went_on });
        }
    }

    fn has_room(&self, cx: &Context<'_>) -> bool {
        self.output.is_ended() || self.output.room() >= cx.promised_room()
    }

    fn writes_no_more(&self) -> bool {
        self.is_open && (self.output.is_ended() || self.has_finished())
    }

    /// It neither reads nor writes any more, though what it wrote may still be here.
    fn has_finished(&self) -> bool {
        matches!(self.last, Some(Flow::Finish | Flow::Close))
    }

    fn next_event(&mut self, unread: usize, cx: &Context<'_>) -> Option<Event> {
        if !self.is_open || self.last.is_some() {
            return None;
        }
        let has_room = self.has_room(cx);
        self.agenda.next(unread, |_| has_room)
    }

    /// Calls it for whatever it was not told yet.
    fn call(&mut self, cx: &mut Context<'_>) -> bool {
        let mut called = false;
        while let Some(event) = self.next_event(self.input.len(), cx) {
            let mut input = std::mem::take(&mut self.input);
            let consumed = self.call_with(event, Input::new(input.unread(), self.input_ended), cx);
            input.consume(consumed);
            self.input = input;
            called = true;
        }
        called
    }

    /// One call; says how much of the input it consumed.
    fn call_with(&mut self, event: Event, input: Input<'_>, cx: &mut Context<'_>) -> usize {
        let (unread, unsent) = (input.len(), self.output.len());
        if !self.output.has_memory() {
            self.output.lend(cx.shared::<Spares>().0.borrow_mut().pop());
        }
        let mut inner = cx.nest(input, self.output.output(), &mut self.timer);
        let flow = self.service.handle(event, &mut inner);
        let after = inner.progress();
        drop(inner);
        let consumed = after.consumed.min(unread);
        let progressed = consumed > 0 || after.unsent > unsent;
        self.has_consumed |= consumed > 0;
        self.follow(flow, progressed, unread - consumed);
        consumed
    }

    fn follow(&mut self, flow: Flow, progressed: bool, unread: usize) {
        self.last = match self.agenda.follow(flow, progressed, unread) {
            None if self.agenda.wants_too_much(self.input_limit) && !self.input_ended => Some(Flow::Abort),
            None if self.agenda.waits_in_vain() => Some(Flow::Finish),
            None => None,
            Some(Turn::Finish) => Some(Flow::Finish),
            Some(Turn::Close) if unread == 0 => Some(Flow::Close),
            Some(Turn::Close) => Some(Flow::Finish),
            Some(Turn::Abort) => Some(Flow::Abort),
            Some(Turn::Become(service)) => {
                self.service = service;
                None
            }
        };
    }

    /// An idle layer holds no memory, since most connections are idle.
    fn put_memory_away(&mut self, cx: &mut Context<'_>) {
        if let Some(memory) = self.output.take_memory() {
            let spares = cx.shared::<Spares>();
            let mut spares = spares.0.borrow_mut();
            if spares.len() < SPARES {
                spares.push(memory);
            }
        }
    }
}

/// Memory of a worker's layers that nobody uses now.
#[derive(Default)]
struct Spares(RefCell<Vec<Box<[u8]>>>);

impl<L> fmt::Debug for Nested<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nested")
            .field("inner", &self.inner)
            .field("reading", &self.reading)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("is_open", &self.is_open)
            .field("unread", &self.input.len())
            .field("collected", &self.output.len())
            .field("agenda", &self.agenda)
            .finish_non_exhaustive()
    }
}
