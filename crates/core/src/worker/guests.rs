//! Guests: how many connections each address has, for the limit per address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use crate::address::Address;
use crate::operation::Descriptor;
use crate::ring::{Ring, Side};

use super::Worker;

/// Whom a connection is counted for. Whoever has an IPv6 address mostly has all of its /64 (RFC 6177), and whoever has
/// an IPv4 address has that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    V4(Ipv4Addr),
    V6([u8; 8]),
}

impl Source {
    /// `None` for those who are not counted: the Unix ones.
    fn of(address: &Address) -> Option<Source> {
        // A listener for both shows IPv4 addresses as IPv6 ones.
        Some(match address.tcp()?.ip().to_canonical() {
            IpAddr::V4(address) => Source::V4(address),
            IpAddr::V6(address) => Source::V6(*address.octets().first_chunk()?),
        })
    }
}

/// Bytes of a connection in the table, roughly.
pub(super) const ENTRY_LEN: usize = size_of::<(Source, u32)>();

/// The table: never more entries than connections, and nothing at all without a limit.
#[derive(Debug, Default)]
pub(super) struct Guests {
    counts: HashMap<Source, u32>,
    by_slot: Vec<Option<Source>>,
}

impl Guests {
    fn has_place(&self, source: Source, limit: u32) -> bool {
        self.counts.get(&source).is_none_or(|&count| count < limit)
    }

    pub(super) fn enter(&mut self, slot: u32, source: Source) {
        let slot = slot as usize;
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, None);
        }
        self.by_slot[slot] = Some(source);
        *self.counts.entry(source).or_default() += 1;
    }

    pub(super) fn leave(&mut self, slot: u32) {
        let Some(source) = self.by_slot.get_mut(slot as usize).and_then(Option::take) else { return };
        if let Some(count) = self.counts.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&source);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn most(&self) -> u32 {
        self.counts.values().copied().max().unwrap_or(0)
    }
}

/// Who is not let in.
pub(super) struct TurnedAway;

impl<R: Ring> Worker<R> {
    /// Whom the connection that was just accepted is counted for, if it is counted.
    pub(super) fn admit(&mut self, socket: Descriptor) -> Result<Option<Source>, TurnedAway> {
        let Some(limit) = self.config.connections_per_address else { return Ok(None) };
        let address = match self.ring.address(socket, Side::Peer) {
            Ok(address) => address,
            // Nobody knows who that is, and not knowing is no way around the limit.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM)) =>
            {
                return Err(TurnedAway);
            }
            // One that is gone already has no address any more; it will be found to be.
            Err(_) => return Ok(None),
        };
        match Source::of(&address) {
            Some(source) if !self.guests.has_place(source, limit) => Err(TurnedAway),
            source => Ok(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Option<Source> {
        Source::of(&text.parse().expect("an address"))
    }

    #[test]
    fn who_counts_together() {
        assert_eq!(source("192.0.2.1:1"), source("192.0.2.1:2"));
        assert_ne!(source("192.0.2.1:1"), source("192.0.2.2:1"));
        assert_eq!(source("[2001:db8:1:2::3]:1"), source("[2001:db8:1:2:ffff::4]:2"));
        assert_ne!(source("[2001:db8:1:2::3]:1"), source("[2001:db8:1:3::3]:1"));
        assert_eq!(source("[::ffff:192.0.2.1]:1"), source("192.0.2.1:1"));
        assert_eq!(Source::of(&Address::unix("/run/app.sock")), None);
    }

    #[test]
    fn the_table_is_empty_when_all_have_left() {
        let mut guests = Guests::default();
        let source = source("192.0.2.1:1").expect("it is counted");
        (0..3).for_each(|slot| guests.enter(slot, source));
        assert!(!guests.has_place(source, 3) && guests.has_place(source, 4));
        // A slot that nobody was counted for, and one that was left already.
        [1, 1, 7].into_iter().for_each(|slot| guests.leave(slot));
        assert!(guests.has_place(source, 3));
        [0, 2].into_iter().for_each(|slot| guests.leave(slot));
        assert!(guests.counts.is_empty());
    }
}
