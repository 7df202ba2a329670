//! The sleep: a future that waits for a moment on its worker's clock, and what is made of it.
//!
//! Sleeps hang on a [`TimerWheel`] of their own, so none costs an operation of the kernel's. They are exact to its
//! tick of a millisecond: never early, and late by less than a tick if the worker is not busy.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker as StdWaker};
use std::time::Duration;

use pin_project_lite::pin_project;

use crate::local::{Local, replace_waker};
use crate::time::Time;
use crate::timer::TimerWheel;

/// All sleeps of a worker.
#[derive(Debug)]
pub(crate) struct Sleeps(RefCell<Wheel>);

#[derive(Debug)]
struct Wheel {
    wheel: TimerWheel,
    /// By slot: who is to be woken.
    wakers: Vec<Option<StdWaker>>,
    free: Vec<u32>,
    expired: Vec<u32>,
}

impl Default for Sleeps {
    fn default() -> Sleeps {
        let wheel = TimerWheel::new(0);
        Sleeps(RefCell::new(Wheel { wheel, wakers: Vec::new(), free: Vec::new(), expired: Vec::new() }))
    }
}

impl Sleeps {
    /// When to [wake](Self::wake) next.
    pub(crate) fn next(&self) -> Option<Time> {
        self.0.borrow().wheel.next().map(|ms| Time::from_start(Duration::from_millis(ms)))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.borrow().wheel.len()
    }

    /// Wakes whose time has come.
    pub(crate) fn wake(&self, now: Time) {
        let mut expired = {
            let wheel = &mut *self.0.borrow_mut();
            if wheel.wheel.is_empty() {
                return;
            }
            let mut expired = std::mem::take(&mut wheel.expired);
            wheel.wheel.expire(now.millis(), &mut expired);
            expired
        };
        for slot in expired.drain(..) {
            let waker = self.0.borrow_mut().wakers[slot as usize].take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        self.0.borrow_mut().expired = expired;
    }

    fn begin(&self, at: Time, waker: &StdWaker) -> u32 {
        let wheel = &mut *self.0.borrow_mut();
        let slot = wheel.free.pop().unwrap_or_else(|| {
            wheel.wakers.push(None);
            wheel.wakers.len() as u32 - 1
        });
        wheel.wakers[slot as usize] = Some(waker.clone());
        wheel.wheel.schedule(slot, at.millis_up());
        slot
    }

    fn go_on(&self, slot: u32, waker: &StdWaker) {
        let before = replace_waker(&mut self.0.borrow_mut().wakers[slot as usize], waker);
        drop(before);
    }

    fn end(&self, slot: u32) {
        let waker = {
            let wheel = &mut *self.0.borrow_mut();
            wheel.wheel.cancel(slot);
            wheel.free.push(slot);
            wheel.wakers[slot as usize].take()
        };
        drop(waker);
    }
}

/// Waits until a moment: see [`sleep`].
#[derive(Debug)]
pub struct Sleep {
    at: Time,
    slot: Option<u32>,
    local: Rc<Local>,
}

/// The time of this turn, on the worker's monotonic clock.
///
/// # Panics
/// Outside of a worker.
#[track_caller]
#[must_use]
pub fn now() -> Time {
    Local::expect("now").now()
}

/// Waits for so long from [`now`] on, which is when this turn has begun: never shorter, and longer by a millisecond at
/// most if the worker is not busy.
///
/// ```no_run
/// # async fn example() {
/// campanile_core::sleep(std::time::Duration::from_millis(50)).await;
/// # }
/// ```
///
/// # Panics
/// Outside of a worker.
#[track_caller]
pub fn sleep(length: Duration) -> Sleep {
    let local = Local::expect("sleep");
    Sleep { at: local.now() + length, slot: None, local }
}

/// Waits until `at`, see [`now`].
///
/// # Panics
/// Outside of a worker.
#[track_caller]
pub fn sleep_until(at: Time) -> Sleep {
    Sleep { at, slot: None, local: Local::expect("sleep_until") }
}

impl Sleep {
    /// When it ends.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.at
    }

    /// Has it end at another moment.
    pub fn reset(&mut self, at: Time) {
        self.at = at;
        self.leave();
    }

    fn leave(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.local.sleeps.end(slot);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.local.now() >= self.at {
            self.leave();
            return Poll::Ready(());
        }
        match self.slot {
            Some(slot) => self.local.sleeps.go_on(slot, cx.waker()),
            None => {
                self.slot = Some(self.local.sleeps.begin(self.at, cx.waker()));
                // It may be the first to end.
                self.local.stir();
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.leave();
    }
}

pin_project! {
    /// A future that has so much time: see [`timeout`].
    #[derive(Debug)]
    pub struct TimeLimited<F> {
        #[pin]
        future: F,
        sleep: Sleep,
    }
}

/// The time was over: see [`timeout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it took too long")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}

/// Waits for `future`, but no longer than `length`; it is dropped with this.
///
/// # Panics
/// Outside of a worker.
#[track_caller]
pub fn timeout<F: Future>(length: Duration, future: F) -> TimeLimited<F> {
    TimeLimited { future, sleep: sleep(length) }
}

impl<F: Future> Future for TimeLimited<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(this.sleep).poll(cx).map(|()| Err(Elapsed))
    }
}

/// Moments at even distances: see [`interval`].
#[derive(Debug)]
pub struct Interval {
    sleep: Sleep,
    period: Duration,
}

/// Ticks every `period`, first after one of them. Ticks that nobody waited for in time are left out, not made up for.
///
/// # Panics
/// Outside of a worker, and when `period` is zero.
#[track_caller]
#[must_use]
pub fn interval(period: Duration) -> Interval {
    assert!(!period.is_zero(), "an interval of no length");
    Interval { sleep: sleep(period), period }
}

impl Interval {
    /// Waits for the next tick, and says for when it was due. Dropping the future loses no tick.
    pub async fn tick(&mut self) -> Time {
        std::future::poll_fn(|cx| Pin::new(&mut self.sleep).poll(cx)).await;
        let (due, now) = (self.sleep.deadline(), self.sleep.local.now());
        let period = self.period.as_nanos().max(1);
        let missed = now.since(due).as_nanos() / period;
        let next = u64::try_from((missed + 1).saturating_mul(period)).unwrap_or(u64::MAX);
        self.sleep.reset(due + Duration::from_nanos(next));
        due
    }
}
