//! Futures and streams for tests: that wait for a number of turns, for a gate, or have a list.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use campanile::Bytes;
use campanile::http::Error;
use futures_core::Stream;

/// Waits to be polled so many times more, for which it wakes itself.
pub async fn turns(mut n: usize) {
    poll_fn(|cx| {
        if n == 0 {
            return Poll::Ready(());
        }
        n -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Counts one when it is dropped.
pub struct Counted<'a>(pub &'a Cell<u32>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Keeps everybody waiting until it is opened, by any thread.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Gate {
    /// Waits until it is open.
    pub async fn pass(&self) {
        poll_fn(|cx| {
            let mut gate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if gate.0 {
                return Poll::Ready(());
            }
            gate.1.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Opens it, and wakes all who wait, and those who gave up.
    pub fn open(&self) {
        let mut gate = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gate.0 = true;
        let waiting = std::mem::take(&mut gate.1);
        drop(gate);
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// A stream of these texts, which wakes itself between them.
pub fn listed<const N: usize>(texts: [&'static str; N]) -> impl Stream<Item = Result<Bytes, Error>> {
    let mut texts = texts.into_iter();
    made(move || texts.next().map(Bytes::from))
}

/// A stream of what `next` makes, which wakes itself between the pieces.
pub fn made(next: impl FnMut() -> Option<Bytes> + Unpin) -> impl Stream<Item = Result<Bytes, Error>> {
    Made { next, is_late: false }
}

struct Made<F> {
    next: F,
    is_late: bool,
}

impl<F: FnMut() -> Option<Bytes> + Unpin> Stream for Made<F> {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        self.is_late = !self.is_late;
        if self.is_late {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready((self.next)().map(Ok))
    }
}
