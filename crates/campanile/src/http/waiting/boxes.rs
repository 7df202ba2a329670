//! Boxes: the memory of futures, which is used again by the next future of the same type.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// Boxes without a future, of one worker.
pub(super) struct Boxes<F> {
    free: RefCell<Vec<Pin<Box<Option<F>>>>>,
}

/// Bytes of boxes that lie ready at most, unless one alone is more.
const MOST: usize = 256 * 1024;

impl<F> Default for Boxes<F> {
    fn default() -> Boxes<F> {
        Boxes { free: RefCell::default() }
    }
}

/// A future in its box, which is given back when the future is dropped.
pub(super) struct Boxed<F> {
    /// There until it is dropped.
    place: Option<Pin<Box<Option<F>>>>,
    boxes: Rc<Boxes<F>>,
}

impl<F: Future> Boxed<F> {
    pub(super) fn new(future: F, boxes: &Rc<Boxes<F>>) -> Boxed<F> {
        let free = boxes.free.borrow_mut().pop();
        let mut place = free.unwrap_or_else(|| Box::pin(None));
        place.as_mut().set(Some(future));
        Boxed { place: Some(place), boxes: Rc::clone(boxes) }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        let future = self.place.as_mut().and_then(|place| place.as_mut().as_pin_mut());
        future.map_or(Poll::Pending, |future| future.poll(cx))
    }
}

impl<F> Drop for Boxed<F> {
    fn drop(&mut self) {
        let Some(mut place) = self.place.take() else { return };
        // The user's destructors run here, before the list is borrowed.
        place.as_mut().set(None);
        let mut free = self.boxes.free.borrow_mut();
        if free.len() * size_of::<Option<F>>() < MOST {
            free.push(place);
        }
    }
}
