//! The faults: everything that a kernel, a network and bad luck do to a server, how likely each is, and how often
//! it happened.

use std::ops::AddAssign;

use super::random::Random;

macro_rules! counted {
    ($(#[$doc:meta])* $name:ident, $all:ident, { $($(#[$variant_doc:meta])* $variant:ident => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            pub(crate) const ALL: &[$name] = &[$($name::$variant,)*];

            pub(crate) fn text(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }
    };
}

counted! {
    /// What goes wrong.
    Fault, ALL, {
        ShortSend => "a send took only a part",
        StalledSend => "a send waits for a peer that does not read",
        ShortReceive => "a receive brought less than was there",
        NoBuffers => "the buffer ring was empty",
        ErrorWithBuffer => "a failed receive used up a buffer",
        Interrupted => "EINTR",
        Again => "EAGAIN",
        TooManyFiles => "EMFILE on accept",
        TableFull => "the table of direct descriptors was full",
        PeerReset => "ECONNRESET out of the blue",
        ReceiveEnded => "a multishot receive ended early",
        AcceptEnded => "a multishot accept ended early",
        AcceptBurst => "a multishot accept brought several at once",
        WatchEnded => "a multishot poll ended early",
        Late => "an operation was late",
        QueueFull => "the submission queue was full",
        Overflow => "the completion queue overflowed",
        WaitInterrupted => "a wait ended with nothing",
        PartialEnter => "the kernel took only some of the queue",
        DescriptorReused => "a descriptor was given again at once",
        CancelledWithData => "a cancelled operation had done part of its work",
        CancelLate => "a cancellation came too late (EALREADY)",
        CancelMissed => "a cancellation found nothing (ENOENT)",
        SendOutran => "a send was done before its cancellation",
        CancelAnsweredLast => "a cancellation was answered after its target",
        AcceptAfterCancel => "an accept completed after its cancellation",
        ShutdownLate => "a shutdown took its time",
        NonsenseToken => "a completion of nobody",
        NonsenseBuffer => "a completion with a buffer that is not the kernel's",
        NonsenseCount => "a completion with an impossible count",
        ConnectFailed => "a connect failed",
        ConnectSilent => "a connect was never answered",
        FileFailed => "a file operation failed",
        ShortRead => "a read of a file brought less",
        ShortWrite => "a write to a file took only a part",
        DiskFull => "a disk was full (ENOSPC)",
        SyncFailed => "a sync of a file failed",
        OptionFailed => "an option could not be set",
    }
}

counted! {
    /// What the worker is seen to do about it.
    Recovery, ALL, {
        SendResumed => "sent the rest after a short send",
        SendRetried => "sent again after EINTR or EAGAIN",
        StalledSendCancelled => "cancelled a stalled send",
        StalledSendResumed => "resumed a stalled send that had made progress",
        LentReturned => "gave back what was lent",
        LentAgain => "lent again what had been given back",
        RoomAwaited => "waited until a socket took bytes again",
        RoomWatchCancelled => "gave up waiting for a socket",
        ReceiveRearmed => "armed a receive again that had ended early",
        ReceivedPrivately => "received into a private buffer",
        RearmedAfterNoBuffers => "armed a receive again after ENOBUFS",
        AcceptRearmed => "armed an accept again",
        AcceptedOneByOne => "accepted one by one near the limit",
        LimitReached => "went through a turn with as many connections as it may have",
        WaitedForPlace => "kept somebody accepted for a turn, until there was a place",
        WatchRearmed => "armed the watch for kicks again",
        FileRetried => "asked of a file again after EINTR or EAGAIN",
        WriteResumed => "wrote the rest to a file after a short write",
        WriteCutShort => "told how much was written to a file before an error",
        FutureDropped => "dropped a future that waited for a file",
        StrayClosed => "closed a descriptor that nobody wants",
        ReceiveCancelled => "cancelled a receive",
        AcceptCancelled => "cancelled an accept",
        ConnectCancelled => "gave up on a connect",
        Shutdown => "shut down its sending side, to linger",
        ResetNoticed => "noticed a reset while it received nothing",
        ResetOnClose => "closed with a reset",
        TurnedAway => "turned away whose address had enough connections",
        IdleClosed => "closed who was idle",
        FrameCut => "closed who did not complete a frame",
        SlowCut => "closed who took what was sent too slowly",
        AgeTold => "told a service that its connection is too old",
        AgeClosed => "closed a connection that went on all the same",
        DroppedFill => "dropped a future that waited for input",
        DroppedRead => "dropped a future that reads into a buffer",
        DroppedWrite => "dropped a future that waited to write",
        DroppedFlush => "dropped a future that waited for a flush",
        DroppedConnect => "dropped a future that connects",
        DroppedErrand => "dropped a future that waited for an errand",
        DroppedSleep => "dropped a future that sleeps",
        DroppedJoin => "dropped a future that waited for a task",
        WentOn => "went on with a handler after an error of its stream",
    }
}

/// How likely each fault is in one life, and how often what happened.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    per_1024: [u32; Fault::ALL.len()],
    pub(crate) counts: Counts,
}

/// How often what happened.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    pub(crate) faults: [u64; Fault::ALL.len()],
    pub(crate) recoveries: [u64; Recovery::ALL.len()],
}

impl Default for Counts {
    fn default() -> Counts {
        Counts { faults: [0; Fault::ALL.len()], recoveries: [0; Recovery::ALL.len()] }
    }
}

impl Faults {
    /// A kernel that has a good day.
    pub(crate) fn none() -> Faults {
        Faults { per_1024: [0; Fault::ALL.len()], counts: Counts::default() }
    }

    /// Each fault rare, common, or absent, by the throw of a die; some lives have none at all.
    pub(crate) fn new(random: &mut Random) -> Faults {
        let calm = random.chance(100);
        let mut per_1024 = [0; Fault::ALL.len()];
        for (fault, rate) in Fault::ALL.iter().zip(&mut per_1024) {
            let rates: [u32; 6] = match fault {
                // These end a connection, so most connections are to be spared.
                Fault::PeerReset | Fault::NonsenseBuffer | Fault::NonsenseCount => [0, 0, 0, 0, 1, 8],
                Fault::ErrorWithBuffer => [0, 0, 0, 4, 16, 64],
                _ => [0, 0, 8, 32, 128, 400],
            };
            *rate = if calm { 0 } else { *random.pick(&rates) };
        }
        Faults { per_1024, counts: Counts::default() }
    }

    /// Whether `fault` is to happen now; then it is counted.
    pub(crate) fn strikes(&mut self, fault: Fault, random: &mut Random) -> bool {
        let strikes = random.chance(self.per_1024[fault as usize]);
        if strikes {
            self.happened(fault);
        }
        strikes
    }

    /// `fault` came about by itself.
    pub(crate) fn happened(&mut self, fault: Fault) {
        self.counts.faults[fault as usize] += 1;
    }

    pub(crate) fn recovered(&mut self, recovery: Recovery) {
        self.counts.recoveries[recovery as usize] += 1;
    }
}

impl AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, more: &Counts) {
        for (sum, more) in self.faults.iter_mut().zip(more.faults) {
            *sum += more;
        }
        for (sum, more) in self.recoveries.iter_mut().zip(more.recoveries) {
            *sum += more;
        }
    }
}
