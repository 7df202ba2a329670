//! The race: connections to several addresses, of which the first that is open wins (RFC 8305).

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use campanile_core::{Connect, ConnectError, Sleep, Stream, Time, now, sleep_until};

/// How long an attempt is waited for alone: the Connection Attempt Delay of RFC 8305, section 5.
const HEAD_START: Duration = Duration::from_millis(250);

/// The addresses in turn of either family, each family in the order it came in, beginning with that of the first
/// (RFC 8305, section 4).
pub(super) fn interleaved(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv6) else { return addresses };
    let mut ranks = [0_usize; 2];
    addresses.sort_by_cached_key(|address| {
        let is_other = address.is_ipv6() != first;
        let rank = &mut ranks[usize::from(is_other)];
        *rank += 1;
        (*rank, is_other)
    });
    addresses
}

type Attempt = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>>>>;

struct Race<M> {
    /// Not tried yet.
    addresses: std::vec::IntoIter<SocketAddr>,
    running: Vec<Attempt>,
    make: M,
    next: Sleep,
    due: Time,
    error: Option<ConnectError>,
}

/// Connects to one of `addresses`, of which there is at least one; `make` says how, by the time that is left.
///
/// # Errors
/// The most telling error of all that failed.
pub(super) async fn race(
    addresses: Vec<SocketAddr>,
    make: impl Fn(SocketAddr, Duration) -> Connect,
    due: Time,
) -> Result<Stream, ConnectError> {
    let addresses = addresses.into_iter();
    let next = sleep_until(now());
    let mut race = Race { addresses, running: Vec::new(), make, next, due, error: None };
    poll_fn(|cx| race.poll(cx)).await
}

impl<M: Fn(SocketAddr, Duration) -> Connect> Race<M> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectError>> {
        loop {
            let mut winner = None;
            let mut has_failed = false;
            self.running.retain_mut(|attempt| match attempt.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(Ok(stream)) => {
                    winner.get_or_insert(stream);
                    false
                }
                Poll::Ready(Err(error)) => {
                    has_failed = true;
                    note(&mut self.error, error);
                    false
                }
            });
            if let Some(winner) = winner {
                // What else runs is given up with the race.
                return Poll::Ready(Ok(winner));
            }
            let is_next = has_failed || Pin::new(&mut self.next).poll(cx).is_ready();
            if is_next && self.begin_next() {
                continue;
            }
            if !self.running.is_empty() {
                return Poll::Pending;
            }
            if let Some(error) = self.error.take() {
                return Poll::Ready(Err(error));
            }
        }
    }

    /// Begins the next attempt, if there is one, and time for it. The first has what time there is.
    fn begin_next(&mut self) -> bool {
        let left = self.due.since(now());
        if left.is_zero() && self.error.is_some() {
            return false;
        }
        let Some(address) = self.addresses.next() else { return false };
        let attempt = (self.make)(address, left);
        self.running.push(Box::pin(campanile_core::connect(attempt)));
        self.next.reset(now() + HEAD_START);
        true
    }
}

/// Keeps the error that tells more: that somebody said no is more than that nobody said anything, and this is more than
/// that there is no way for one family, as on most machines.
fn note(known: &mut Option<ConnectError>, error: ConnectError) {
    let rank = |error: &ConnectError| match error {
        ConnectError::Unreachable(_) => 0,
        ConnectError::Failed(..) => 1,
        ConnectError::TimedOut(_) => 2,
        ConnectError::Refused(_) => 3,
        _ => 4,
    };
    if known.as_ref().is_none_or(|known| rank(known) < rank(&error)) {
        *known = Some(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_each_keeps_its_order() {
        let parse = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().expect("an address")).collect()
        };
        let v6 = ["[::1]:1", "[::2]:1", "[::3]:1"];
        let found = parse(&[v6[0], v6[1], v6[2], "1.1.1.1:1", "2.2.2.2:1"]);
        let expected = parse(&[v6[0], "1.1.1.1:1", v6[1], "2.2.2.2:1", v6[2]]);
        assert_eq!(interleaved(found), expected);
        let found = parse(&["1.1.1.1:1", "2.2.2.2:1", v6[0]]);
        assert_eq!(interleaved(found), parse(&["1.1.1.1:1", v6[0], "2.2.2.2:1"]));
        assert_eq!(interleaved(Vec::new()), []);
    }

    #[test]
    fn the_most_telling_error_is_kept() {
        let address = || campanile_core::Address::unix("/a");
        let mut known = None;
        for error in [
            ConnectError::Unreachable(address()),
            ConnectError::TimedOut(address()),
            ConnectError::Refused(address()),
            ConnectError::TimedOut(address()),
        ] {
            note(&mut known, error);
        }
        assert_eq!(known, Some(ConnectError::Refused(address())));
    }
}
