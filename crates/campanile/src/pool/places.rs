//! Places: how many may use something at a time, and who waits in line for one that is taken.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// So many places, and a line before them.
pub(super) struct Places {
    free: Cell<usize>,
    line: RefCell<VecDeque<Rc<Waiting>>>,
}

/// A place that is taken, until it is left or dropped.
pub(super) struct Place {
    places: Option<Rc<Places>>,
}

#[derive(Default)]
struct Waiting {
    /// It has been given a place, and does not stand in line any more.
    has_place: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Places {
    pub(super) fn new(total: usize) -> Rc<Places> {
        Rc::new(Places { free: Cell::new(total), line: RefCell::default() })
    }

    pub(super) fn free(&self) -> usize {
        self.free.get()
    }

    /// A place, if there is one: then nobody waits in line.
    pub(super) fn try_take(self: &Rc<Self>) -> Option<Place> {
        let left = self.free.get().checked_sub(1)?;
        self.free.set(left);
        Some(Place { places: Some(Rc::clone(self)) })
    }

    /// Waits in line for a place.
    pub(super) async fn take(self: &Rc<Self>) -> Place {
        if let Some(place) = self.try_take() {
            return place;
        }
        let waiting = Rc::new(Waiting::default());
        self.line.borrow_mut().push_back(Rc::clone(&waiting));
        let in_line = InLine { places: self, waiting };
        poll_fn(|cx| {
            if in_line.waiting.has_place.get() {
                return Poll::Ready(());
            }
            let before = in_line.waiting.waker.replace(Some(cx.waker().clone()));
            drop(before);
            Poll::Pending
        })
        .await;
        in_line.waiting.has_place.set(false);
        Place { places: Some(Rc::clone(self)) }
    }

    /// Gives the place that somebody has left to the first in line.
    fn pass_on(&self) {
        let first = self.line.borrow_mut().pop_front();
        let Some(first) = first else { return self.free.set(self.free.get() + 1) };
        first.has_place.set(true);
        let waker = first.waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Whoever stands in line. Dropped, it leaves the line, or the place that it was given.
struct InLine<'a> {
    places: &'a Places,
    waiting: Rc<Waiting>,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if self.waiting.has_place.get() {
            return self.places.pass_on();
        }
        self.places.line.borrow_mut().retain(|other| !Rc::ptr_eq(other, &self.waiting));
    }
}

impl Place {
    pub(super) fn leave(&mut self) {
        if let Some(places) = self.places.take() {
            places.pass_on();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Context;

    use super::*;

    #[test]
    fn places_go_to_who_came_first_and_none_is_lost_with_who_gives_up() {
        let places = Places::new(1);
        let mut cx = Context::from_waker(Waker::noop());
        let first = places.try_take().expect("it is free");
        let mut gone = Box::pin(places.take());
        let mut second = pin!(places.take());
        let mut third = pin!(places.take());
        assert!(gone.as_mut().poll(&mut cx).is_pending());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        assert!(third.as_mut().poll(&mut cx).is_pending());
        // Given the place, and gone before it is told so.
        drop(first);
        drop(gone);
        assert!(third.as_mut().poll(&mut cx).is_pending());
        let Poll::Ready(place) = second.as_mut().poll(&mut cx) else { panic!("it was next") };
        assert_eq!(places.free(), 0);
        drop(place);
        let Poll::Ready(place) = third.as_mut().poll(&mut cx) else { panic!("it was next") };
        drop(place);
        assert_eq!((places.free(), places.line.borrow().len()), (1, 0));
    }
}
