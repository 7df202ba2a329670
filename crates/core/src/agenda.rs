//! The agenda: what a service waits for, and what it was not told yet.
//!
//! This is the one rule by which services are called, for connections and for layers alike: when something changed;
//! within a turn again while the service consumes or writes; and not before there is room for its answer, except for
//! what cannot wait. Whoever drives a service notes what happened ([`Agenda::add`]), asks which event is
//! [`next`](Agenda::next), and lets the agenda [`follow`](Agenda::follow) what the service said.

use std::collections::VecDeque;

use crate::errand::{Answer, Ticket};
use crate::service::{Event, Flow, Service};

/// What the service waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Want {
    /// At least `need` bytes of unread input.
    More {
        need: usize,
    },
    Room,
    MoreOrRoom {
        need: usize,
    },
    Nothing,
}

/// Something that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Change {
    Open = 1,
    Wake = 1 << 1,
    Timer = 1 << 2,
    Drain = 1 << 3,
    Input = 1 << 4,
    Room = 1 << 5,
    End = 1 << 6,
}

/// Whether an event may have to wait until there is the promised room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Input, room and the end wait for room: whoever does not read the answers is not read from.
    CanWait,
    /// The rest is told at once, if need be from a buffer kept in reserve for it.
    Urgent,
}

/// What a service waits for, and what it was not told yet.
#[derive(Debug)]
pub(crate) struct Agenda {
    want: Want,
    /// A set of [`Change`].
    changes: u8,
    end_told: bool,
    /// Rare, and boxed to keep an idle connection small.
    #[allow(clippy::box_collection)]
    answers: Option<Box<VecDeque<(Ticket, Answer)>>>,
}

/// How a service ends, or what becomes of it.
pub(crate) enum Turn {
    Finish,
    Close,
    Abort,
    Become(Box<dyn Service>),
}

impl Agenda {
    /// The agenda of a service that was not called yet.
    pub(crate) fn new() -> Agenda {
        Agenda { want: Want::More { need: 1 }, changes: 0, end_told: false, answers: None }
    }

    pub(crate) fn add(&mut self, change: Change) {
        self.changes |= change as u8;
    }

    pub(crate) fn has(&self, change: Change) -> bool {
        self.changes & change as u8 != 0
    }

    fn take(&mut self, change: Change) -> bool {
        let had = self.has(change);
        self.changes &= !(change as u8);
        had
    }

    pub(crate) fn add_answer(&mut self, ticket: Ticket, answer: Answer) {
        self.answers.get_or_insert_default().push_back((ticket, answer));
    }

    /// Input arrived, and so many bytes are unread now.
    pub(crate) fn input_arrived(&mut self, unread: usize) {
        if self.need().is_some_and(|need| unread >= need) {
            self.add(Change::Input);
        }
    }

    /// Some output is on its way, and there may be room that was not there before.
    pub(crate) fn room_came(&mut self) {
        if self.waits_for_room() {
            self.add(Change::Room);
        }
    }

    /// How many bytes must be unread before the service is called for input; `None` if it does not wait for input.
    fn need(&self) -> Option<usize> {
        match self.want {
            Want::More { need } | Want::MoreOrRoom { need } => Some(need),
            Want::Room | Want::Nothing => None,
        }
    }

    /// Whether the service waits for input that is not there yet.
    pub(crate) fn waits_for_input(&self) -> bool {
        self.need().is_some() && !self.has(Change::Input)
    }

    /// Whether the service waits for input and nothing else: with some unread, for the rest of what that begins.
    pub(crate) fn waits_for_the_rest(&self) -> bool {
        matches!(self.want, Want::More { .. }) && !self.has(Change::Input)
    }

    pub(crate) fn waits_for_room(&self) -> bool {
        matches!(self.want, Want::Room | Want::MoreOrRoom { .. })
    }

    /// Whether the service takes input even when there is no room for answers.
    pub(crate) fn needs_no_room(&self) -> bool {
        matches!(self.want, Want::MoreOrRoom { .. })
    }

    /// Whether the service waits for more input than it may have unread.
    pub(crate) fn wants_too_much(&self, limit: usize) -> bool {
        // What is unread and was not told yet is no wish for more.
        !self.has(Change::Input) && self.need().is_some_and(|need| need > limit)
    }

    /// Whether the service waits for input though it was told that none comes any more.
    pub(crate) fn waits_in_vain(&self) -> bool {
        self.end_told && matches!(self.want, Want::More { .. }) && !self.has(Change::Input)
    }

    /// The next event to tell, if there is one and it can be told now. `unread` is how much input the service would
    /// see; `room` makes the promised room, or says that there is none.
    pub(crate) fn next(&mut self, unread: usize, mut room: impl FnMut(Urgency) -> bool) -> Option<Event> {
        if self.changes == 0 && self.answers.is_none() {
            return None;
        }
        if self.has(Change::Open) {
            return (room(Urgency::CanWait) && self.take(Change::Open)).then_some(Event::Open);
        }
        if let Some(answers) = &mut self.answers {
            let next = answers.pop_front();
            if answers.is_empty() {
                self.answers = None;
            }
            if let Some((ticket, answer)) = next {
                room(Urgency::Urgent);
                return Some(Event::Answer(ticket, answer));
            }
        }
        for (change, event) in
            [(Change::Wake, Event::Wake), (Change::Timer, Event::Timer), (Change::Drain, Event::Drain)]
        {
            if self.take(change) {
                room(Urgency::Urgent);
                return Some(event);
            }
        }
        if self.changes == 0 {
            return None;
        }
        let has_room = room(Urgency::CanWait);
        if !has_room && !self.needs_no_room() {
            return None;
        }
        if self.take(Change::Input) && unread > 0 {
            return Some(Event::Input);
        }
        if has_room && self.take(Change::Room) {
            return Some(Event::Room);
        }
        if self.take(Change::End) {
            self.end_told = true;
            return Some(Event::End);
        }
        None
    }

    /// Notes what the service waits for after a call that left so much unread, and whether it is to be called again;
    /// or says how it ends.
    pub(crate) fn follow(&mut self, flow: Flow, progressed: bool, unread: usize) -> Option<Turn> {
        if unread == 0 {
            // It was consumed in the call for another event, and is no news that anybody would still be told.
            self.take(Change::Input);
        }
        match flow {
            Flow::More(more) | Flow::MoreOrRoom(more) => {
                let again = progressed && unread > 0;
                let need = if again { 1 } else { unread.saturating_add(more.max(1)) };
                let or_room = matches!(flow, Flow::MoreOrRoom(_));
                self.want = if or_room { Want::MoreOrRoom { need } } else { Want::More { need } };
                if again {
                    self.add(Change::Input);
                } else if or_room && progressed {
                    self.add(Change::Room);
                }
            }
            Flow::Room => {
                self.want = Want::Room;
                if progressed {
                    self.add(Change::Room);
                }
            }
            Flow::Wait => self.want = Want::Nothing,
            Flow::Finish => return Some(Turn::Finish),
            Flow::Close => return Some(Turn::Close),
            Flow::Abort => return Some(Turn::Abort),
            Flow::Become(service) => {
                self.want = Want::More { need: 1 };
                self.add(Change::Open);
                if unread > 0 {
                    self.add(Change::Input);
                }
                if self.end_told {
                    self.end_told = false;
                    self.add(Change::End);
                }
                return Some(Turn::Become(service));
            }
        }
        None
    }

    /// Forgets everything: nobody is told any more.
    pub(crate) fn clear(&mut self) {
        self.changes = 0;
        self.answers = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: fn(Urgency) -> bool = |_| true;
    const NO_ROOM: fn(Urgency) -> bool = |_| false;

    #[test]
    fn input_waits_for_as_much_as_was_asked_and_for_room() {
        let mut agenda = Agenda::new();
        assert!(agenda.follow(Flow::More(10), true, 0).is_none());
        agenda.input_arrived(9);
        assert!(agenda.next(9, ROOM).is_none());
        agenda.input_arrived(10);
        assert!(agenda.next(10, NO_ROOM).is_none());
        assert!(matches!(agenda.next(10, ROOM), Some(Event::Input)));
        assert!(agenda.next(10, ROOM).is_none());
    }

    #[test]
    fn a_call_that_did_nothing_parks_and_one_that_did_is_repeated() {
        let mut agenda = Agenda::new();
        assert!(agenda.follow(Flow::More(1), true, 5).is_none());
        assert!(matches!(agenda.next(5, ROOM), Some(Event::Input)));
        assert!(agenda.follow(Flow::More(1), false, 5).is_none());
        assert!(agenda.next(5, ROOM).is_none());
        assert!(agenda.follow(Flow::Room, true, 5).is_none());
        assert!(matches!(agenda.next(5, ROOM), Some(Event::Room)));
        assert!(agenda.follow(Flow::Room, false, 5).is_none());
        assert!(agenda.next(5, ROOM).is_none());
        agenda.room_came();
        assert!(matches!(agenda.next(5, ROOM), Some(Event::Room)));
    }

    #[test]
    fn input_that_was_consumed_in_another_event_is_waited_for_anew() {
        let mut agenda = Agenda::new();
        agenda.add(Change::Open);
        agenda.input_arrived(3);
        assert!(matches!(agenda.next(3, ROOM), Some(Event::Open)));
        assert!(agenda.follow(Flow::More(1), true, 0).is_none());
        assert!(agenda.waits_for_input(), "even if there is no room to tell it anything");
    }

    #[test]
    fn waiting_for_both_gets_input_without_room_but_room_only_with_it() {
        let mut agenda = Agenda::new();
        assert!(agenda.follow(Flow::MoreOrRoom(1), false, 0).is_none());
        agenda.room_came();
        agenda.input_arrived(3);
        assert!(matches!(agenda.next(3, NO_ROOM), Some(Event::Input)));
        assert!(agenda.next(0, NO_ROOM).is_none());
        agenda.add(Change::End);
        assert!(matches!(agenda.next(0, NO_ROOM), Some(Event::End)));
        assert!(matches!(agenda.next(0, ROOM), Some(Event::Room)));
        assert!(!agenda.waits_in_vain(), "it still waits for room");
    }

    #[test]
    fn who_takes_over_is_told_all_there_is() {
        let mut agenda = Agenda::new();
        agenda.add(Change::End);
        assert!(matches!(agenda.next(4, ROOM), Some(Event::End)));
        let heir = Flow::Become(Box::new(|_: &mut crate::Input<'_>, _: &mut crate::Output<'_>| Flow::Wait));
        assert!(matches!(agenda.follow(heir, false, 4), Some(Turn::Become(_))));
        agenda.add(Change::Wake);
        assert!(agenda.next(4, NO_ROOM).is_none(), "nothing comes before Open");
        assert!(matches!(agenda.next(4, ROOM), Some(Event::Open)));
        assert!(matches!(agenda.next(4, ROOM), Some(Event::Wake)));
        assert!(matches!(agenda.next(4, ROOM), Some(Event::Input)));
        assert!(matches!(agenda.next(4, ROOM), Some(Event::End)));
    }
}
