//! `TimerWheel`: the deadlines of a worker, one per owner, in user space, so that none costs a ring operation.
//!
//! A deadline is read as a number of base-64 digits, and the wheel has one level per digit. A deadline hangs in
//! the level of the highest digit in which it differs from the wheel's own time, in the slot of that digit:
//!
//! ```text
//! level   a slot is      a level spans
//!   0          1 ms          64 ms       every owner of a slot has the same deadline
//!   1         64 ms         4.1 s
//!   2        4.1 s          4.4 min
//!   3        4.4 min        4.7 h
//!   4        4.7 h         12.4 days
//!   5       12.4 days       2.2 years
//!  ..10                     all of u64   so no deadline is too far, and none needs a list of its own
//! ```
//!
//! Two facts follow, and everything below stands on them:
//!
//! - All digits above its level are those of the wheel's time, and the digit of its level is greater. So a lower level
//!   is wholly earlier than a higher one, a lower slot than a higher one, and nothing ever wraps around: the earliest
//!   slot is the first set bit of the first bitmap that has any.
//! - As long as the time does not enter a deadline's slot, the deadline's place stays the same. So the place is never
//!   stored: it is worked out from the deadline and the time, and an entry is 16 bytes.
//!
//! When the time enters a slot of a higher level, the slot's owners are hung again, each into a lower level (a
//! cascade), so an owner moves at most once per level before it expires.

/// The digits of a `u64` in base 64: one level each.
const LEVELS: usize = 11;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;

/// The end of a list, in either direction.
const END: u32 = u32::MAX;
/// In `next`: this owner has no deadline.
const ABSENT: u32 = u32::MAX - 1;

/// The deadlines of a worker: at most one per owner, an owner being the number of a slot.
///
/// Time is an argument, in milliseconds since the worker's clock began. An owner's number is an index: the memory
/// taken is 16 bytes times the highest number used.
#[derive(Debug)]
pub(crate) struct TimerWheel {
    /// The latest time that was told. Every deadline in the wheel is at or after it.
    now_ms: u64,
    len: usize,
    /// Per level, one bit for each slot that is not empty.
    occupied: [u64; LEVELS],
    /// The first owner of each slot. Sound only where the bit in `occupied` is set.
    first: [[u32; SLOTS]; LEVELS],
    /// By owner.
    entries: Vec<Entry>,
}

/// An owner's deadline, and its neighbours in the list of its slot.
#[derive(Debug, Clone, Copy)]
struct Entry {
    at_ms: u64,
    prev: u32,
    next: u32,
}

const _: () = assert!(size_of::<Entry>() == 16);

/// Where a deadline hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    level: usize,
    slot: usize,
}

impl TimerWheel {
    /// An empty wheel whose time is `now_ms`.
    pub(crate) fn new(now_ms: u64) -> Self {
        Self { now_ms, len: 0, occupied: [0; LEVELS], first: [[END; SLOTS]; LEVELS], entries: Vec::new() }
    }

    /// Gives `owner` the deadline `at_ms`, in place of any it had. A deadline in the past counts as one of this
    /// very moment: it fires at the next [`expire`](Self::expire).
    pub(crate) fn schedule(&mut self, owner: u32, at_ms: u64) {
        let at_ms = at_ms.max(self.now_ms);
        let entry = self.entry_or_grow(owner);
        let (scheduled, earlier_ms) = (entry.next != ABSENT, entry.at_ms);
        if scheduled {
            // A busy connection moves its deadline with every request, mostly within one slot: then its neighbours,
            // which lie in other cache lines, are left alone.
            if self.place(earlier_ms) == self.place(at_ms) {
                self.entries[owner as usize].at_ms = at_ms;
                return;
            }
            self.unlink(owner);
        } else {
            self.len += 1;
        }
        self.link(owner, at_ms);
    }

    /// Takes the deadline of `owner` away, if it has one.
    pub(crate) fn cancel(&mut self, owner: u32) {
        if self.deadline(owner).is_some() {
            self.unlink(owner);
            self.entries[owner as usize].next = ABSENT;
            self.len -= 1;
        }
    }

    /// The deadline of `owner`, in milliseconds.
    pub(crate) fn deadline(&self, owner: u32) -> Option<u64> {
        let entry = self.entries.get(owner as usize)?;
        (entry.next != ABSENT).then_some(entry.at_ms)
    }

    /// When to call [`expire`](Self::expire) next: never later than the earliest deadline, and exactly then if that
    /// deadline is in the lowest level. Else it is the start of the earliest slot, and expiring there brings the
    /// earliest deadline at least one level down; so at most ten early calls lead to any deadline.
    pub(crate) fn next(&self) -> Option<u64> {
        self.earliest().map(|place| self.start_ms(place))
    }

    /// Moves the wheel's time on to `now_ms` and appends to `expired` every owner whose deadline is at or before it,
    /// in the order of their deadlines (owners of one tick in no stated order). They have no deadline afterwards.
    /// A `now_ms` before the wheel's time is taken as the wheel's time.
    ///
    /// Costs a step per owner expired or hung again, whatever the distance: empty slots are not visited.
    pub(crate) fn expire(&mut self, now_ms: u64, expired: &mut Vec<u32>) {
        let now_ms = now_ms.max(self.now_ms);
        while let Some(place) = self.earliest() {
            let start_ms = self.start_ms(place);
            if start_ms > now_ms {
                break;
            }
            // Before the owners are hung again: their new places follow from this time.
            self.now_ms = start_ms;
            if place.level == 0 {
                self.empty(place, expired);
            } else {
                self.cascade(place);
            }
        }
        self.now_ms = now_ms;
    }

    /// How many owners have a deadline.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether no owner has a deadline.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Expires all owners of a slot of the lowest level.
    fn empty(&mut self, place: Place, expired: &mut Vec<u32>) {
        let mut owner = self.detach(place);
        while owner != END {
            let entry = &mut self.entries[owner as usize];
            expired.push(owner);
            self.len -= 1;
            owner = std::mem::replace(&mut entry.next, ABSENT);
        }
    }

    /// Hangs all owners of a slot again, nearer by at least a level.
    fn cascade(&mut self, place: Place) {
        let mut owner = self.detach(place);
        while owner != END {
            let Entry { at_ms, next, .. } = self.entries[owner as usize];
            debug_assert!(self.place(at_ms).level < place.level);
            self.link(owner, at_ms);
            owner = next;
        }
    }

    /// Cuts the list off a slot and returns its first owner.
    fn detach(&mut self, Place { level, slot }: Place) -> u32 {
        self.occupied[level] &= !(1 << slot);
        self.first[level][slot]
    }

    /// The slot that the time enters next.
    fn earliest(&self) -> Option<Place> {
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        Some(Place { level, slot: self.occupied[level].trailing_zeros() as usize })
    }

    /// Where `at_ms`, which is not before the wheel's time, hangs.
    fn place(&self, at_ms: u64) -> Place {
        debug_assert!(at_ms >= self.now_ms);
        // The lowest bit is set for the sake of a deadline of this very moment, which differs in no digit.
        let level = ((at_ms ^ self.now_ms) | 1).ilog2() / SLOT_BITS;
        let digit = (at_ms >> (level * SLOT_BITS)) % SLOTS as u64;
        Place { level: level as usize, slot: digit as usize }
    }

    /// The first tick of a slot that is not empty: the higher digits of the time, the slot's own, and zeros.
    fn start_ms(&self, Place { level, slot }: Place) -> u64 {
        let below = level as u32 * SLOT_BITS;
        let higher = (self.now_ms >> below) & !(SLOTS as u64 - 1);
        (higher | slot as u64) << below
    }

    fn entry_or_grow(&mut self, owner: u32) -> &Entry {
        assert!(owner < ABSENT, "owner {owner} is kept for marking the ends of lists");
        let index = owner as usize;
        if index >= self.entries.len() {
            self.entries.resize(index + 1, Entry { at_ms: 0, prev: END, next: ABSENT });
        }
        &self.entries[index]
    }

    /// Hangs `owner`, which hangs nowhere, at the front of the slot of `at_ms`.
    fn link(&mut self, owner: u32, at_ms: u64) {
        let Place { level, slot } = self.place(at_ms);
        let bit = 1 << slot;
        let next = if self.occupied[level] & bit == 0 { END } else { self.first[level][slot] };
        if next != END {
            self.entries[next as usize].prev = owner;
        }
        self.entries[owner as usize] = Entry { at_ms, prev: END, next };
        self.first[level][slot] = owner;
        self.occupied[level] |= bit;
    }

    /// Takes `owner`, which has a deadline, out of its slot. Its entry is the caller's to rewrite.
    fn unlink(&mut self, owner: u32) {
        let Entry { at_ms, prev, next } = self.entries[owner as usize];
        let Place { level, slot } = self.place(at_ms);
        if next != END {
            self.entries[next as usize].prev = prev;
        }
        if prev != END {
            self.entries[prev as usize].next = next;
        } else if next != END {
            self.first[level][slot] = next;
        } else {
            self.occupied[level] &= !(1 << slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    impl TimerWheel {
        fn expired_at(&mut self, now_ms: u64) -> Vec<u32> {
            let mut expired = Vec::new();
            self.expire(now_ms, &mut expired);
            self.check();
            expired
        }

        /// Asserts what every method may rely on.
        fn check(&self) {
            let mut linked = 0;
            for (level, slots) in self.first.iter().enumerate() {
                for (slot, &first) in slots.iter().enumerate() {
                    let place = Place { level, slot };
                    if self.occupied[level] & (1 << slot) == 0 {
                        continue;
                    }
                    assert_ne!(first, END, "{place:?} is marked as occupied");
                    let (mut owner, mut before) = (first, END);
                    while owner != END {
                        let entry = self.entries[owner as usize];
                        assert_eq!(entry.prev, before);
                        assert_eq!(self.place(entry.at_ms), place);
                        assert!(entry.at_ms >= self.start_ms(place));
                        linked += 1;
                        (before, owner) = (owner, entry.next);
                    }
                }
            }
            let scheduled = self.entries.iter().filter(|entry| entry.next != ABSENT).count();
            assert_eq!((linked, scheduled), (self.len, self.len));
        }
    }

    /// What the wheel must do, in the plainest words.
    #[derive(Default)]
    struct Model {
        now_ms: u64,
        deadlines: BTreeMap<u32, u64>,
        by_time: BTreeSet<(u64, u32)>,
    }

    impl Model {
        fn schedule(&mut self, owner: u32, at_ms: u64) {
            self.cancel(owner);
            let at_ms = at_ms.max(self.now_ms);
            self.deadlines.insert(owner, at_ms);
            self.by_time.insert((at_ms, owner));
        }

        fn cancel(&mut self, owner: u32) {
            if let Some(at_ms) = self.deadlines.remove(&owner) {
                self.by_time.remove(&(at_ms, owner));
            }
        }

        fn expire(&mut self, now_ms: u64) -> Vec<(u64, u32)> {
            self.now_ms = self.now_ms.max(now_ms);
            let later = self.by_time.split_off(&(self.now_ms, u32::MAX));
            let expired = std::mem::replace(&mut self.by_time, later);
            for (_, owner) in &expired {
                self.deadlines.remove(owner);
            }
            expired.into_iter().collect()
        }
    }

    /// The wheel and the model, driven together and compared after each step.
    struct Pair {
        wheel: TimerWheel,
        model: Model,
    }

    impl Pair {
        fn new(now_ms: u64) -> Self {
            Self { wheel: TimerWheel::new(now_ms), model: Model { now_ms, ..Model::default() } }
        }

        fn step(&mut self, step: &Step) {
            let now_ms = self.model.now_ms;
            match *step {
                Step::Schedule { owner, after_ms } => {
                    self.wheel.schedule(owner, now_ms.saturating_add(after_ms));
                    self.model.schedule(owner, now_ms.saturating_add(after_ms));
                }
                Step::ScheduleLate { owner, ago_ms } => {
                    self.wheel.schedule(owner, now_ms.saturating_sub(ago_ms));
                    self.model.schedule(owner, now_ms.saturating_sub(ago_ms));
                }
                Step::Cancel { owner } => {
                    self.wheel.cancel(owner);
                    self.model.cancel(owner);
                }
                Step::Advance { by_ms } => self.expire(now_ms.saturating_add(by_ms)),
                Step::Follow => {
                    if let Some(next_ms) = self.wheel.next() {
                        self.expire(next_ms);
                    }
                }
                Step::Back { by_ms } => self.expire(now_ms.saturating_sub(by_ms)),
            }
            self.compare();
        }

        fn expire(&mut self, now_ms: u64) {
            let expected = self.model.expire(now_ms);
            let expired = self.wheel.expired_at(now_ms);
            // Owners of one tick may come in any order; the ticks may not.
            let tick_of: BTreeMap<u32, u64> = expected.iter().map(|&(at_ms, owner)| (owner, at_ms)).collect();
            let mut with_ticks: Vec<(u64, u32)> =
                expired.iter().map(|owner| (*tick_of.get(owner).expect("early, or twice"), *owner)).collect();
            assert!(with_ticks.is_sorted_by_key(|&(at_ms, _)| at_ms), "not in order: {with_ticks:?}");
            with_ticks.sort_unstable();
            assert_eq!(with_ticks, expected);
        }

        fn compare(&self) {
            self.wheel.check();
            assert_eq!(self.wheel.len(), self.model.deadlines.len());
            assert_eq!(self.wheel.is_empty(), self.model.deadlines.is_empty());
            for owner in 0..OWNERS {
                assert_eq!(self.wheel.deadline(owner), self.model.deadlines.get(&owner).copied());
            }
            let earliest = self.model.by_time.first().map(|&(at_ms, _)| at_ms);
            let next = self.wheel.next();
            assert_eq!(next.is_some(), earliest.is_some());
            if let (Some(next), Some(earliest)) = (next, earliest) {
                assert!((self.model.now_ms..=earliest).contains(&next));
                if earliest / 64 == self.model.now_ms / 64 {
                    assert_eq!(next, earliest, "the lowest level is exact");
                }
            }
        }
    }

    const OWNERS: u32 = 24;

    #[derive(Debug, Clone)]
    enum Step {
        Schedule { owner: u32, after_ms: u64 },
        ScheduleLate { owner: u32, ago_ms: u64 },
        Cancel { owner: u32 },
        Advance { by_ms: u64 },
        Follow,
        Back { by_ms: u64 },
    }

    /// Distances of every magnitude, with the borders of the levels over-represented.
    fn distance() -> impl Strategy<Value = u64> {
        let near_border = (0..LEVELS as u32, 0..3u64, 1..5u64).prop_map(|(level, around, times)| {
            ((1u64 << (level * SLOT_BITS)) * times).saturating_sub(1) + around
        });
        prop_oneof![
            4 => 0..200u64,
            2 => 0..10_000u64,
            2 => 0..2 * HOUR_MS,
            2 => near_border,
            1 => (0..64u32, any::<u64>()).prop_map(|(shift, bits)| bits >> shift),
        ]
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0..OWNERS, distance()).prop_map(|(owner, after_ms)| Step::Schedule { owner, after_ms }),
            1 => (0..OWNERS, distance()).prop_map(|(owner, ago_ms)| Step::ScheduleLate { owner, ago_ms }),
            2 => (0..OWNERS).prop_map(|owner| Step::Cancel { owner }),
            3 => (0..300u64).prop_map(|by_ms| Step::Advance { by_ms }),
            1 => distance().prop_map(|by_ms| Step::Advance { by_ms }),
            3 => Just(Step::Follow),
            1 => (0..1_000u64).prop_map(|by_ms| Step::Back { by_ms }),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn behaves_as_the_model(now_ms in distance(), steps in steps()) {
            let mut pair = Pair::new(now_ms);
            for step in &steps {
                pair.step(step);
            }
            pair.step(&Step::Advance { by_ms: u64::MAX });
            prop_assert!(pair.wheel.is_empty(), "lost nothing");
        }

        #[test]
        fn following_next_reaches_a_deadline_within_eleven_steps(now_ms: u64, at_ms: u64) {
            let mut wheel = TimerWheel::new(now_ms);
            wheel.schedule(7, at_ms);
            let at_ms = at_ms.max(now_ms);
            for _ in 0..LEVELS {
                let next_ms = wheel.next().unwrap();
                prop_assert!(next_ms <= at_ms);
                if !wheel.expired_at(next_ms).is_empty() {
                    prop_assert_eq!(next_ms, at_ms);
                    return Ok(());
                }
            }
            prop_assert!(false, "not reached");
        }
    }

    #[test]
    fn an_empty_wheel_has_nothing_to_say() {
        let mut wheel = TimerWheel::new(5);
        wheel.cancel(0);
        wheel.cancel(u32::MAX);
        assert_eq!((wheel.next(), wheel.deadline(3), wheel.len()), (None, None, 0));
        assert!(wheel.expired_at(u64::MAX).is_empty());
    }

    #[test]
    fn fires_at_its_tick_on_both_sides_of_every_level_border() {
        for level in 1..LEVELS as u32 {
            let border = 1u64 << (level * SLOT_BITS);
            for start in [0, 1, border / 2, border - 1, border, border + 1, border * 3 - 1] {
                for at_ms in [border - 1, border, border + 1, border * 2, border * 4 - 1, border * 4] {
                    let mut wheel = TimerWheel::new(start);
                    wheel.schedule(0, at_ms);
                    if at_ms > start {
                        assert!(wheel.expired_at(at_ms - 1).is_empty(), "early: {start} -> {at_ms}");
                    }
                    assert_eq!(wheel.expired_at(at_ms.max(start)), [0], "late: {start} -> {at_ms}");
                }
            }
        }
    }

    #[test]
    fn reaches_the_end_of_time() {
        let mut wheel = TimerWheel::new(0);
        wheel.schedule(0, u64::MAX);
        wheel.schedule(1, u64::MAX - 1);
        wheel.schedule(2, 1 << 63);
        assert_eq!(wheel.expired_at((1 << 63) - 1), [0u32; 0]);
        assert_eq!(wheel.expired_at(u64::MAX - 1), [2, 1]);
        assert_eq!(wheel.next(), Some(u64::MAX));
        assert_eq!(wheel.expired_at(u64::MAX), [0]);
        wheel.schedule(3, u64::MAX);
        assert_eq!(wheel.expired_at(u64::MAX), [3]);
    }

    #[test]
    fn the_past_fires_at_the_next_call_even_without_a_step_of_time() {
        let mut wheel = TimerWheel::new(1_000);
        wheel.schedule(4, 3);
        assert_eq!((wheel.deadline(4), wheel.next()), (Some(1_000), Some(1_000)));
        assert_eq!(wheel.expired_at(1_000), [4]);
        wheel.schedule(4, 1_000);
        assert_eq!(wheel.expired_at(10), [4], "a time that steps back holds nothing up");
        assert_eq!(wheel.expired_at(1_000), [0u32; 0]);
    }

    #[test]
    fn a_later_deadline_replaces_an_earlier_one_and_the_reverse() {
        let mut wheel = TimerWheel::new(0);
        wheel.schedule(1, 10);
        wheel.schedule(1, 100_000);
        assert_eq!((wheel.len(), wheel.expired_at(99_999).len()), (1, 0));
        wheel.schedule(2, 500_000);
        wheel.schedule(2, 100_001);
        assert_eq!(wheel.expired_at(600_000), [1, 2]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_deadline_moved_within_its_slot_fires_at_the_new_tick() {
        let mut wheel = TimerWheel::new(0);
        wheel.schedule(0, 8_200);
        wheel.schedule(1, 8_210);
        wheel.schedule(0, 8_220);
        assert_eq!(wheel.expired_at(8_219), [1]);
        assert_eq!(wheel.expired_at(8_220), [0]);
    }

    #[test]
    fn cancels_the_first_the_middle_and_the_last_of_a_slot() {
        for gone in 0..3 {
            let mut wheel = TimerWheel::new(0);
            for owner in 0..3 {
                wheel.schedule(owner, 50);
            }
            wheel.cancel(gone);
            wheel.cancel(gone);
            wheel.check();
            let mut expired = wheel.expired_at(50);
            expired.sort_unstable();
            assert_eq!(expired, (0..3).filter(|&owner| owner != gone).collect::<Vec<_>>());
        }
    }

    #[test]
    fn owners_may_be_scheduled_again_while_the_expired_ones_are_walked() {
        let mut wheel = TimerWheel::new(0);
        let mut expired = Vec::new();
        (0..100).for_each(|owner| wheel.schedule(owner, 10));
        for round in 1..=50u64 {
            expired.clear();
            wheel.expire(round * 10, &mut expired);
            assert_eq!(expired.len(), 100, "each once, none again in the same call");
            for &owner in &expired {
                wheel.schedule(owner, round * 10 + 10);
            }
        }
        // Of the owners that expired together, one may also cancel or bring forward another.
        expired.clear();
        wheel.expire(510, &mut expired);
        wheel.cancel(expired[0]);
        wheel.schedule(expired[1], 0);
        assert_eq!(wheel.expired_at(510), [expired[1]]);
    }

    #[test]
    fn keeps_what_the_list_of_the_expired_already_held() {
        let mut wheel = TimerWheel::new(0);
        wheel.schedule(1, 1);
        let mut expired = vec![9];
        wheel.expire(1, &mut expired);
        assert_eq!(expired, [9, 1]);
    }

    #[test]
    fn a_jump_visits_no_empty_slot() {
        // A wheel that walked tick by tick would not come back from this.
        let mut wheel = TimerWheel::new(0);
        for step in 1..=10_000u64 {
            wheel.schedule(0, u64::MAX);
            assert!(wheel.expired_at(step * 1_000 * HOUR_MS).is_empty());
        }
    }

    #[test]
    fn a_hundred_thousand_owners_expire_in_order() {
        const MANY: u32 = 100_000;
        let mut wheel = TimerWheel::new(123);
        // Multiplying by a number prime to the range scatters the deadlines, and all differ.
        let at_ms = |owner: u32| 1_000 + (u64::from(owner) * 7_919) % u64::from(MANY);
        for owner in 0..MANY {
            wheel.schedule(owner, 60_000);
            wheel.schedule(owner, at_ms(owner));
        }
        assert_eq!(wheel.len(), MANY as usize);
        let mut expired = wheel.expired_at(31_000);
        assert_eq!(expired.len(), 30_001);
        expired.extend(wheel.expired_at(48 * HOUR_MS));
        let expected: Vec<u64> = (0..u64::from(MANY)).map(|offset| 1_000 + offset).collect();
        assert_eq!(expired.iter().map(|&owner| at_ms(owner)).collect::<Vec<_>>(), expected);
        assert!(wheel.is_empty());
    }
}
