//! A moment on a worker's clock, and the clock itself.
//!
//! Nothing below the server reads a clock: the worker asks its [`Clock`] once per turn and hands the answer
//! down. Under the simulated ring the clock is virtual, so a test of a minute's timeout takes no minute.

use std::num::NonZeroU64;
use std::time::{Duration, Instant, SystemTime};

/// A moment in monotonic time: the time since the worker's clock began. It never goes back.
///
/// It is told to the nanosecond, and ends after 584 years: whatever is later is that.
// One more than the nanoseconds, so that "no moment" takes no room: every idle connection has a few of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(NonZeroU64);

const NANOS_PER_MILLI: u64 = 1_000_000;

impl Time {
    /// The moment the clock began.
    pub const ZERO: Time = Time(NonZeroU64::MIN);

    /// Whatever is later is this.
    const END: Time = Time(NonZeroU64::MAX);

    /// The moment `since_start` after the clock began.
    #[must_use]
    pub const fn from_start(since_start: Duration) -> Time {
        let nanos = since_start.as_nanos();
        let nanos = if nanos < u64::MAX as u128 { nanos as u64 } else { u64::MAX - 1 };
        Time(NonZeroU64::MIN.saturating_add(nanos))
    }

    const fn nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// The time since the clock began.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        Duration::from_nanos(self.nanos())
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.nanos().saturating_sub(earlier.nanos()))
    }

    /// Whole milliseconds since the clock began: the tick of the timer wheel.
    pub(crate) const fn millis(self) -> u64 {
        self.nanos() / NANOS_PER_MILLI
    }

    /// The first tick that is not before this moment, so that a timer never fires early.
    pub(crate) const fn millis_up(self) -> u64 {
        self.nanos().div_ceil(NANOS_PER_MILLI)
    }
}

impl Default for Time {
    fn default() -> Time {
        Time::ZERO
    }
}

/// A moment, or a length of time, in whole milliseconds; or never. Half as long as a [`Time`], since
/// connections have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millis(pub(crate) u64);

impl Millis {
    pub(crate) const NEVER: Millis = Millis(u64::MAX);

    /// The moment, or a tick later, so that nothing counted from it comes early. The end of time is never.
    pub(crate) fn at(moment: Time) -> Millis {
        if moment == Time::END { Millis::NEVER } else { Millis(moment.millis_up()) }
    }
}

impl std::ops::Add for Millis {
    type Output = Millis;

    /// Never, if either is.
    fn add(self, later: Millis) -> Millis {
        Millis(self.0.saturating_add(later.0))
    }
}

impl From<Option<Duration>> for Millis {
    fn from(length: Option<Duration>) -> Millis {
        length.map_or(Millis::NEVER, |length| Millis::at(Time::from_start(length)))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;

    /// Saturates at the end of time, so that "in `Duration::MAX`" means never.
    fn add(self, later: Duration) -> Time {
        let later = u64::try_from(later.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(later))
    }
}

/// What a worker takes the time from.
pub trait Clock {
    /// The moment now, monotonic.
    fn now(&mut self) -> Time;

    /// The calendar time now, for dates that a protocol shows.
    fn wall(&mut self) -> SystemTime;
}

/// The clocks of the operating system (`CLOCK_MONOTONIC` and `CLOCK_REALTIME`).
#[derive(Debug)]
pub struct SystemClock {
    began: Instant,
}

impl SystemClock {
    /// A clock that begins now.
    #[must_use]
    pub fn new() -> SystemClock {
        SystemClock { began: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&mut self) -> Time {
        Time::from_start(self.began.elapsed())
    }

    fn wall(&mut self) -> SystemTime {
        SystemTime::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_time_is_not_passed() {
        let never = Time::ZERO + Duration::MAX;
        assert_eq!(never, Time::from_start(Duration::MAX));
        assert_eq!((never + Duration::from_secs(1), never.since(never)), (never, Duration::ZERO));
        assert!(never.since_start() > Duration::from_secs(500 * 365 * 24 * 60 * 60));
    }

    #[test]
    fn ticks_are_rounded_up_so_that_nothing_is_early() {
        let soon = Time::from_start(Duration::from_nanos(1_000_001));
        assert_eq!((soon.millis(), soon.millis_up()), (1, 2));
        assert_eq!(Time::from_start(Duration::from_millis(7)).millis_up(), 7);
        assert_eq!((Time::ZERO.millis_up(), Time::default().since_start()), (0, Duration::ZERO));
    }

    #[test]
    fn no_moment_takes_no_room() {
        assert_eq!(size_of::<Option<Time>>(), 8);
    }
}
