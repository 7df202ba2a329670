//! Which ring the workers run on: what the program wants, what the environment says, and what the kernel allows.

use std::fmt;
use std::str::FromStr;

use crate::config::Config;
use crate::error::ServeError;
use crate::operation::Memory;
use crate::refusal::{Asked, Refusal, Surroundings};
use crate::ring::kernel::{KernelRing, Shape, Waits};
use crate::ring::poll::PollRing;
use crate::ring::probe::Capabilities;

use super::table_len;

/// The interface of the kernel that a server's workers run on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum RingKind {
    /// io_uring where the kernel allows it, and epoll where it does not: then that is said, with the reason.
    #[default]
    Auto,
    /// io_uring; where it is refused the server does not start.
    Uring,
    /// epoll(7), and plain system calls. It costs more per request, and a read of a file that is not in memory holds up
    /// the worker.
    Poll,
}

impl RingKind {
    const ALL: [(&'static str, RingKind); 3] =
        [("auto", RingKind::Auto), ("uring", RingKind::Uring), ("poll", RingKind::Poll)];
}

impl FromStr for RingKind {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<RingKind, UnknownName> {
        named(&RingKind::ALL, text)
    }
}

/// As the kernel's people call it: `io_uring`, `epoll`.
impl fmt::Display for RingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RingKind::Auto => "io_uring or epoll",
            RingKind::Uring => "io_uring",
            RingKind::Poll => "epoll",
        })
    }
}

/// Something that not every kernel can do, and that a server can do without: see [`Server::without`](crate::Server).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// `defer_taskrun`: DEFER_TASKRUN and SINGLE_ISSUER (Linux 6.1). Without it: COOP_TASKRUN.
    DeferTaskrun,
    /// `no_sqarray`: NO_SQARRAY (Linux 6.6). Without it: an index array.
    NoSqarray,
    /// `bundle`: receive bundles (Linux 6.10). Without it: one buffer per completion.
    Bundle,
    /// `budget`: receives that end after a number of bytes. Without it they are cancelled to pause.
    Budget,
    /// `direct`: direct descriptors (Linux 6.8). Without it: plain ones.
    Direct,
    /// `set_option`: socket options by operation (Linux 6.7). Without it: setsockopt(2).
    SetOption,
    /// `bind_listen`: bind and listen by operation (Linux 6.11). Without it: bind(2) and listen(2).
    BindListen,
}

impl Feature {
    const NAMES: [(&'static str, Feature); 7] = [
        ("defer_taskrun", Feature::DeferTaskrun),
        ("no_sqarray", Feature::NoSqarray),
        ("bundle", Feature::Bundle),
        ("budget", Feature::Budget),
        ("direct", Feature::Direct),
        ("set_option", Feature::SetOption),
        ("bind_listen", Feature::BindListen),
    ];

    /// All of them.
    pub const ALL: [Feature; 7] = [
        Feature::DeferTaskrun,
        Feature::NoSqarray,
        Feature::Bundle,
        Feature::Budget,
        Feature::Direct,
        Feature::SetOption,
        Feature::BindListen,
    ];
}

impl FromStr for Feature {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Feature, UnknownName> {
        named(&Feature::NAMES, text)
    }
}

/// A text that is none of the names that mean something here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is none of {names}")]
pub struct UnknownName {
    text: String,
    names: String,
}

fn named<T: Copy>(all: &[(&str, T)], text: &str) -> Result<T, UnknownName> {
    let found = all.iter().find(|(name, _)| *name == text);
    found.map(|(_, named)| *named).ok_or_else(|| UnknownName {
        text: text.to_owned(),
        names: all.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
    })
}

/// Overrides what a program did not choose: `auto`, `uring` or `poll`.
const RING: &str = "CAMPANILE_RING";

/// Features to do without, with commas between them.
const WITHOUT: &str = "CAMPANILE_WITHOUT";

/// What the program and the environment want.
pub(super) struct Wanted {
    kind: RingKind,
    without: Vec<Feature>,
}

impl Wanted {
    /// What the program chose, and what the environment adds to it: this is the one place that reads it.
    pub(super) fn new(chosen: Option<RingKind>, without: &[Feature]) -> Result<Wanted, ServeError> {
        Wanted::with_environment(chosen, without, |name| {
            std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
        })
    }

    fn with_environment(
        chosen: Option<RingKind>,
        without: &[Feature],
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Wanted, ServeError> {
        let bad = |variable| move |error| ServeError::BadEnvironment { variable, error };
        let kind = match (chosen, variable(RING)) {
            (None, Some(name)) => name.parse().map_err(bad(RING))?,
            (chosen, _) => chosen.unwrap_or_default(),
        };
        let mut without = without.to_vec();
        for name in variable(WITHOUT).unwrap_or_default().split(',').map(str::trim) {
            if !name.is_empty() {
                without.push(name.parse().map_err(bad(WITHOUT))?);
            }
        }
        Ok(Wanted { kind, without })
    }

    /// What the workers are to run on.
    ///
    /// # Errors
    /// When io_uring is asked for and refused.
    pub(super) fn choose(&self, config: &Config, around: &Surroundings) -> Result<Chosen, ServeError> {
        if self.kind == RingKind::Poll {
            return Ok(self.poll(None));
        }
        match Capabilities::probe() {
            Ok(capabilities) => Ok(Chosen { capabilities: self.less(capabilities), notice: None }),
            Err(error) => {
                let refusal = refusal(&error, config, around);
                self.instead(&refusal).ok_or(ServeError::Ring(refusal))
            }
        }
    }

    /// What is to run in place of an io_uring that was refused, if anything: not where epoll would fail as well.
    pub(super) fn instead(&self, refusal: &Refusal) -> Option<Chosen> {
        let helps = !matches!(refusal, Refusal::Descriptors { .. } | Refusal::SystemDescriptors { .. });
        let notice = || format!("running on epoll instead of io_uring: {refusal}");
        (self.kind == RingKind::Auto && helps).then(|| self.poll(Some(notice())))
    }

    fn poll(&self, notice: Option<String>) -> Chosen {
        Chosen { capabilities: self.less(Capabilities::of_poll()), notice }
    }

    fn less(&self, mut capabilities: Capabilities) -> Capabilities {
        self.without.iter().for_each(|feature| capabilities.do_without(*feature));
        capabilities
    }
}

/// What the workers run on.
pub(super) struct Chosen {
    pub(super) capabilities: Capabilities,
    /// Why it is not what was hoped for.
    pub(super) notice: Option<String>,
}

/// Why the kernel refuses what `config` asks for.
fn refusal(error: &std::io::Error, config: &Config, around: &Surroundings) -> Refusal {
    let memory_kib = ring_kib(config.queue_entries);
    let asked = Asked { memory_kib, descriptors: u64::from(config.max_connections) };
    Refusal::diagnose(error, asked, around)
}

/// What the kernel counts against RLIMIT_MEMLOCK for one ring of that many entries, and its buffer ring, roughly.
pub(super) fn ring_kib(entries: u32) -> u64 {
    u64::from(entries) * (64 + 4 * 16 + 4) / 1024 + 16
}

/// A ring, and what could not be as asked.
type Opened<R> = Result<(R, Option<String>), ServeError>;

/// What a ring is opened with.
pub(super) struct Opening<'a> {
    pub(super) config: &'a Config,
    pub(super) capabilities: &'a Capabilities,
    pub(super) surroundings: &'a Surroundings,
    pub(super) memory: &'a Memory,
    /// Its worker is hosted.
    pub(super) hosted: bool,
}

pub(super) fn open_uring(with: &Opening<'_>) -> Opened<KernelRing> {
    let config = with.config;
    let shape = Shape {
        queue_entries: config.queue_entries,
        table: table_len(config.max_connections),
        abilities: with.capabilities.abilities(config),
        flavour: with.capabilities.flavour(),
        tells: with.hosted || !config.spin.is_zero(),
        waits: Waits { min_wait: config.min_wait, napi_busy_poll: config.napi_busy_poll },
    };
    let ring = KernelRing::new(shape, with.memory);
    let ring = ring.map_err(|error| ServeError::Ring(refusal(&error, config, with.surroundings)))?;
    tracing::debug!(flavour = ?ring.flavour(), entries = ring.queue_entries(), "the ring is set up");
    let notices = shortcomings(&ring, config);
    Ok((ring, (!notices.is_empty()).then(|| notices.join("; "))))
}

/// What this ring does without, of what was asked for.
fn shortcomings(ring: &KernelRing, config: &Config) -> Vec<String> {
    let mut notices = Vec::new();
    if ring.queue_entries() < config.queue_entries {
        notices.push(format!(
            "the kernel refused the memory for a ring of {} entries; it has {} (raise `ulimit -l`)",
            config.queue_entries,
            ring.queue_entries()
        ));
    }
    if !config.min_wait.is_zero() && !ring.gathers() {
        notices.push("completions are not gathered: Config::min_wait needs Linux 6.12".into());
    }
    if let Some(error) = ring.napi_refused() {
        notices.push(format!(
            "the kernel does not poll its network cards ({error}): Config::napi_busy_poll needs Linux 6.9 with \
             CONFIG_NET_RX_BUSY_POLL"
        ));
    }
    notices
}

pub(super) fn open_poll(with: &Opening<'_>) -> Opened<PollRing> {
    let ring = PollRing::new(with.capabilities.abilities(with.config));
    Ok((ring.map_err(ServeError::Epoll)?, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(chosen: Option<RingKind>, ring: Option<&str>, without: Option<&str>) -> Result<Wanted, String> {
        let variable = |name| if name == RING { ring } else { without }.map(str::to_owned);
        Wanted::with_environment(chosen, &[Feature::Budget], variable).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_overrides_what_nobody_chose() {
        for (chosen, ring, kind) in [
            (None, None, RingKind::Auto),
            (None, Some("auto"), RingKind::Auto),
            (None, Some("uring"), RingKind::Uring),
            (None, Some("poll"), RingKind::Poll),
            (Some(RingKind::Auto), Some("poll"), RingKind::Auto),
            (Some(RingKind::Poll), Some("nonsense"), RingKind::Poll),
        ] {
            assert_eq!(wanted(chosen, ring, None).expect("a good value").kind, kind, "{chosen:?} {ring:?}");
        }
        let less = wanted(None, None, Some("direct, bundle,")).expect("known names").without;
        assert_eq!(less, [Feature::Budget, Feature::Direct, Feature::Bundle]);
    }

    #[test]
    fn what_the_environment_says_wrong_is_told_with_what_is_right() {
        let error = wanted(None, Some("epoll"), None).err().expect("no such ring");
        assert_eq!(error, "CAMPANILE_RING: `epoll` is none of auto, uring, poll; correct it, or unset it");
        let error = wanted(None, None, Some("bundle,speed")).err().expect("no such feature");
        assert!(error.starts_with("CAMPANILE_WITHOUT: `speed` is none of defer_taskrun, "), "{error}");
    }

    #[test]
    fn epoll_runs_instead_unless_it_would_fail_too() {
        let auto = Wanted { kind: RingKind::Auto, without: vec![Feature::Budget] };
        let chosen = auto.instead(&Refusal::Seccomp).expect("epoll needs no io_uring");
        let notice = chosen.notice.expect("it is said");
        assert!(notice.contains("epoll") && notice.contains("seccomp"), "{notice}");
        assert_eq!((chosen.capabilities.ring, chosen.capabilities.budget), (RingKind::Poll, false));
        assert!(auto.instead(&Refusal::Descriptors { needed: 1, allowed: None }).is_none());
        let uring = Wanted { kind: RingKind::Uring, without: Vec::new() };
        assert!(uring.instead(&Refusal::Seccomp).is_none());
    }

    #[test]
    fn every_feature_has_a_name() {
        for feature in Feature::ALL {
            assert!(
                Feature::NAMES.iter().any(|(name, named)| *named == feature && name.parse() == Ok(feature))
            );
        }
    }
}
