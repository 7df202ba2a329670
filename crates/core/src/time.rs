//! A moment on a worker's clock, and the clock itself.
//!
//! Nothing below the server reads a clock: the worker asks its [`Clock`] once per turn and hands the answer
//! down. Under the simulated ring the clock is virtual, so a test of a minute's timeout takes no minute.

use std::time::{Duration, Instant, SystemTime};

/// A moment in monotonic time: the time since the worker's clock began. It never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(Duration);

impl Time {
    /// The moment the clock began.
    pub const ZERO: Time = Time(Duration::ZERO);

    /// The moment `since_start` after the clock began.
    #[must_use]
    pub const fn from_start(since_start: Duration) -> Time {
        Time(since_start)
    }

    /// The time since the clock began.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Whole milliseconds since the clock began: the tick of the timer wheel.
    pub(crate) fn millis(self) -> u64 {
        self.0.as_secs().saturating_mul(1_000).saturating_add(u64::from(self.0.subsec_millis()))
    }

    /// The first tick that is not before this moment, so that a timer never fires early.
    pub(crate) fn millis_up(self) -> u64 {
        self.millis().saturating_add(u64::from(!self.0.subsec_nanos().is_multiple_of(1_000_000)))
    }
}

/// A moment, or a length of time, in whole milliseconds; or never. Half as long as a [`Time`]: connections have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millis(pub(crate) u64);

impl Millis {
    pub(crate) const NEVER: Millis = Millis(u64::MAX);

    /// The moment, or a tick later, so that nothing counted from it comes early.
    pub(crate) fn at(moment: Time) -> Millis {
        Millis(moment.millis_up())
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
        length.map_or(Millis::NEVER, |length| Millis::at(Time(length)))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;

    /// Saturates at the end of time, so that "in `Duration::MAX`" means never.
    fn add(self, later: Duration) -> Time {
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
        Time(self.began.elapsed())
    }

    fn wall(&mut self) -> SystemTime {
        SystemTime::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_time_has_a_tick() {
        let never = Time::ZERO + Duration::MAX;
        assert_eq!((never.millis(), never.millis_up()), (u64::MAX, u64::MAX));
        let late = Time::from_start(Duration::from_secs(u64::MAX / 999));
        assert_eq!((late.millis(), late.millis_up()), (u64::MAX, u64::MAX));
        let soon = Time::from_start(Duration::from_nanos(1_000_001));
        assert_eq!((soon.millis(), soon.millis_up()), (1, 2));
    }
}
