//! Timeouts: the kinds of deadline that a connection can miss.

/// A deadline that was missed: see [`Control::count_timeout`](crate::Control::count_timeout).
///
/// Those of every connection are the core's, and end it with a [`Reason`](crate::Reason) of their own. The others are
/// for protocols, which know better what they wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Timeout {
    /// Nothing went in either direction for [`Config::idle_timeout`](crate::Config), or what a protocol has of that.
    Idle,
    /// A frame that had begun was not complete within [`Config::frame_timeout`](crate::Config).
    Frame,
    /// The peer took nothing of what was sent for [`Config::send_stall`](crate::Config).
    Stall,
    /// The peer took less than [`Config::send_rate`](crate::Config).
    SendRate,
    /// The connection is older than [`Config::lifetime`](crate::Config).
    Lifetime,
    /// The head of a request was not complete in time.
    Head,
    /// The body of a request came too slowly, or not at all.
    Body,
}
