//! The counters: what a worker counted, and how things stand with it; every figure with its name and its help.
//!
//! A figure is a line of the table below: the field, what it is for people, and what it is called where it is shown.
//! Whoever shows figures goes through [`Counters::FIGURES`], so a line more is shown everywhere.

use std::fmt;
use std::iter::Sum;

use crate::timeout::Timeout;

/// A figure of [`Counters`]: what it is called, what it tells, and how it is read.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Figure {
    /// In small letters, with its unit at the end, and without the name of the program before it.
    pub name: &'static str,
    /// What it tells, in a sentence or two. Figures of one name have one of it.
    pub help: &'static str,
    /// How it moves.
    pub kind: FigureKind,
    /// What tells figures of one name apart: the name of the difference, and which of them this is.
    pub label: Option<(&'static str, &'static str)>,
    read: fn(&Counters) -> u64,
}

/// How a figure moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FigureKind {
    /// It only grows, from zero when the worker starts.
    Total,
    /// It is what is there now.
    Gauge,
}

impl Figure {
    /// The figure in `counters`.
    #[must_use]
    pub fn of(&self, counters: &Counters) -> u64 {
        (self.read)(counters)
    }

    const fn total(help: &'static str, read: fn(&Counters) -> u64, name: &'static str) -> Figure {
        Figure { name, help: help.trim_ascii(), kind: FigureKind::Total, label: None, read }
    }

    const fn gauge(help: &'static str, read: fn(&Counters) -> u64, name: &'static str) -> Figure {
        Figure { name, help: help.trim_ascii(), kind: FigureKind::Gauge, label: None, read }
    }

    /// One of several totals that are told apart by a label.
    const fn part(_: &'static str, read: fn(&Counters) -> u64, all: Family, which: &'static str) -> Figure {
        let Family { name, help, label } = all;
        Figure { name, help, kind: FigureKind::Total, label: Some((label, which)), read }
    }
}

impl fmt::Debug for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figure")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

/// What figures that a label tells apart have in common.
#[derive(Clone, Copy)]
struct Family {
    name: &'static str,
    help: &'static str,
    label: &'static str,
}

const ANSWERS: Family = Family {
    name: "answers",
    help: "Requests that are over, by what became of them; those that are not are the difference to the requests.",
    label: "outcome",
};

const TIMEOUTS: Family =
    Family { name: "timeouts", help: "Deadlines that were missed, by their kind.", label: "kind" };

/// What became of a request: see [`Control::count_answer`](crate::Control::count_answer).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It was answered as asked.
    Success,
    /// It was told to go elsewhere.
    Redirect,
    /// It was refused because of what was asked.
    ClientError,
    /// It could not be answered as asked.
    ServerError,
    /// Its answer was never completed.
    Cut,
}

impl Counters {
    /// Counts a deadline that was missed.
    pub(crate) fn count_timeout(&mut self, timeout: Timeout) {
        *match timeout {
            Timeout::Idle => &mut self.timed_out_idle,
            Timeout::Frame => &mut self.timed_out_frame,
            Timeout::Stall => &mut self.timed_out_stall,
            Timeout::SendRate => &mut self.timed_out_send_rate,
            Timeout::Lifetime => &mut self.timed_out_lifetime,
            Timeout::Head => &mut self.timed_out_head,
            Timeout::Body => &mut self.timed_out_body,
        } += 1;
    }

    /// Counts what became of a request.
    pub(crate) fn count_answer(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Success => &mut self.succeeded,
            Verdict::Redirect => &mut self.redirected,
            Verdict::ClientError => &mut self.refused,
            Verdict::ServerError => &mut self.failed,
            Verdict::Cut => &mut self.cut,
        } += 1;
    }
}

macro_rules! counters {
    ($($(#[doc = $help:literal])+ $field:ident: $figure:ident($($about:expr),+),)+) => {
        /// What a worker counted since it started, and how things stand with it.
        ///
        /// The worker's own memory, counted by plain additions. [`FIGURES`](Self::FIGURES) has each with its name;
        /// those of several workers are added up by `+` and `sum`.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[doc = $help])+ pub $field: u64,)+
        }

        impl Counters {
            /// All figures, those of one name next to each other.
            pub const FIGURES: &'static [Figure] =
                &[$(Figure::$figure(concat!($($help),+), |counters| counters.$field, $($about),+)),+];
        }

        impl std::ops::Add for Counters {
            type Output = Counters;

            fn add(self, other: Counters) -> Counters {
                Counters { $($field: self.$field.wrapping_add(other.$field)),+ }
            }
        }
    };
}

counters! {
    /// Turns of the loop, each one system call.
    turns: total("turns"),
    /// Completions handled.
    completions: total("completions"),
    /// Connections accepted.
    accepted: total("connections_accepted"),
    /// Connections opened outwards.
    connected: total("connections_opened"),
    /// Connections that are over.
    closed: total("connections_closed"),
    /// Connections that were closed before their time because the server had to stop.
    cut_off: total("connections_cut_off"),
    /// Connections there are now.
    connections: gauge("connections"),
    /// Bytes received.
    received: total("received_bytes"),
    /// Bytes sent.
    sent: total("sent_bytes"),
    /// Datagrams received.
    datagrams_received: total("datagrams_received"),
    /// Datagrams sent.
    datagrams_sent: total("datagrams_sent"),
    /// Datagrams dropped because they were longer than a receive buffer.
    datagrams_cut: total("datagrams_cut"),
    /// Sockets for datagrams that are open now.
    udp_sockets: gauge("udp_sockets"),
    /// Multishot receives armed.
    receives_armed: total("receives_armed"),
    /// Receives that found no buffer.
    no_buffers: total("receives_without_buffer"),
    /// Receives of starved connections into a private buffer.
    private_receives: total("private_receives"),
    /// Requests that services counted: of HTTP those whose head was complete or refused, of a codec its frames.
    requests: total("requests"),
    /// Requests answered as asked; of HTTP those below 300.
    succeeded: part(ANSWERS, "success"),
    /// Requests answered by pointing elsewhere; of HTTP those below 400.
    redirected: part(ANSWERS, "redirect"),
    /// Requests refused because of what was asked; of HTTP those below 500.
    refused: part(ANSWERS, "client_error"),
    /// Requests that could not be answered as asked; of HTTP those from 500.
    failed: part(ANSWERS, "server_error"),
    /// Requests whose answer was never completed, whoever gave up.
    cut: part(ANSWERS, "cut"),
    /// Connections closed because nothing went in either direction for too long.
    timed_out_idle: part(TIMEOUTS, "idle"),
    /// Connections closed because a frame that had begun was not complete in time.
    timed_out_frame: part(TIMEOUTS, "frame"),
    /// Connections closed because the peer took nothing of what was sent.
    timed_out_stall: part(TIMEOUTS, "stall"),
    /// Connections closed because the peer took what was sent too slowly.
    timed_out_send_rate: part(TIMEOUTS, "send_rate"),
    /// Connections closed because they had grown too old.
    timed_out_lifetime: part(TIMEOUTS, "lifetime"),
    /// Requests whose head was not complete in time.
    timed_out_head: part(TIMEOUTS, "head"),
    /// Requests whose body came too slowly.
    timed_out_body: part(TIMEOUTS, "body"),
    /// Connections closed when they were accepted, since their address had as many as it may have.
    turned_away: total("connections_turned_away"),
    /// Receive buffers given to the kernel, again and again: the steps that the tail of the buffer ring has made.
    buffers_given: total("receive_buffers_given"),
    /// Accepts armed.
    accepts_armed: total("accepts_armed"),
    /// Accepts that failed for want of descriptors or memory.
    accepts_failed: total("accepts_failed"),
    /// Services that panicked, or could not be made without a panic: each cost its own connection. And tasks that did.
    panicked: total("panics"),
    /// Completions that made no sense.
    nonsense: total("nonsense_completions"),
    /// Unread input carried over now, in bytes.
    carried_bytes: gauge("carried_bytes"),
    /// Output not sent now, in bytes.
    unsent_bytes: gauge("unsent_bytes"),
    /// Receive buffers that services keep now.
    kept_buffers: gauge("receive_buffers_kept"),
    /// Send buffers held now.
    send_buffers: gauge("send_buffers_held"),
    /// Bytes lent that were given back unsent.
    returned: total("returned_bytes"),
    /// Times that the limit of connections was reached, and accepting paused.
    accepts_paused: total("accepts_paused"),
    /// Connections there may be at a time.
    connections_limit: gauge("connections_limit"),
    /// Slots made for connections so far; those that are free again are used again.
    slots: gauge("slots"),
    /// Connections accepted that wait for a slot.
    waiting: gauge("connections_waiting"),
    /// Connections that wait for a receive buffer.
    starved: gauge("connections_starved"),
    /// Connections that wait for a send buffer.
    hungry: gauge("connections_hungry"),
    /// Errands that services asked for and that are not begun.
    errands_waiting: gauge("errands_waiting"),
    /// Errands that the kernel runs.
    errands_running: gauge("errands_running"),
    /// File reads that wait for a buffer.
    reads_waiting: gauge("file_reads_waiting"),
    /// Deadlines in the timer wheel.
    timers: gauge("timers"),
    /// Tasks that were spawned and are not over.
    tasks: gauge("tasks"),
    /// Futures that sleep.
    sleeps: gauge("sleeps"),
    /// Operations that wait for a place in the submission queue.
    backlog: gauge("submissions_waiting"),
    /// Operations that the ring has and that are not complete.
    in_flight: gauge("operations_in_flight"),
    /// Receive buffers there are.
    receive_buffers: gauge("receive_buffers"),
    /// Send buffers there may be.
    send_buffers_limit: gauge("send_buffers_limit"),
    /// File buffers that are read into or lent out.
    file_buffers: gauge("file_buffers_held"),
}

impl Sum for Counters {
    fn sum<I: Iterator<Item = Counters>>(all: I) -> Counters {
        all.fold(Counters::default(), |sum, next| sum + next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_and_tell_figures_apart() {
        let mut seen = Vec::new();
        for figure in Counters::FIGURES {
            let Figure { name, help, label, kind, .. } = *figure;
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            // Whoever shows it writes the ending that its format wants.
            assert!(!name.ends_with("_total"), "{name}");
            assert!(
                help.ends_with('.') && !help.starts_with(' ') && !help.contains(['[', '\n']),
                "{name}: {help}"
            );
            assert!(!seen.contains(&(name, label)), "{name} {label:?} is there twice");
            let same = seen.iter().rposition(|&(known, _)| known == name);
            assert!(same.is_none_or(|at| at + 1 == seen.len() && label.is_some()), "{name} is scattered");
            assert!(label.is_none() || kind == FigureKind::Total, "{name}");
            seen.push((name, label));
        }
        assert_eq!(seen.len() * size_of::<u64>(), size_of::<Counters>());
    }

    #[test]
    fn each_figure_reads_its_own_field() {
        let mut counters = Counters { turns: 1, requests: 2, ..Counters::default() };
        counters.count_answer(Verdict::ClientError);
        let read = |name, label| {
            let mut all = Counters::FIGURES.iter();
            let figure = all.find(|figure| figure.name == name && figure.label.map(|label| label.1) == label);
            figure.expect("it is in the table").of(&(counters + counters))
        };
        let labelled = ["success", "client_error", "cut"].map(|label| read("answers", Some(label)));
        assert_eq!((read("turns", None), read("requests", None), labelled), (2, 4, [0, 2, 0]));
    }
}
