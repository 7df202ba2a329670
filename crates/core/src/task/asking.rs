//! Asking: a future that waits for the answer to what it asked its worker for.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::errand::{Answer, Request, Ticket};
use crate::local::Local;

/// Waits for the answer in a slot of the worker's. Dropped before that, it leaves the slot: the answer is dropped when
/// it comes, which closes its descriptor or frees its memory.
#[derive(Debug)]
pub(crate) struct Asking {
    local: Rc<Local>,
    slot: u32,
    ticket: Ticket,
    is_done: bool,
}

impl Asking {
    pub(crate) fn new(local: Rc<Local>, request: Request) -> Asking {
        let (slot, ticket) = local.ask_and_wait(request);
        Asking { local, slot, ticket, is_done: false }
    }
}

impl Future for Asking {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let answer = self.local.poll_answer(self.slot, self.ticket, cx.waker());
        self.is_done = answer.is_ready();
        answer
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if !self.is_done {
            self.local.abandon(self.slot, self.ticket);
        }
    }
}
