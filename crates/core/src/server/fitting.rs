//! Fitting: what is asked for, shrunk to what the machine allows, and said so.

use crate::config::Config;
use crate::refusal::Surroundings;
use crate::ring::probe::Capabilities;

use super::RingKind;
use super::ring::ring_kib;

/// Descriptors that are not for connections: listeners, files, logs.
const RESERVED_DESCRIPTORS: u64 = 64;

/// The longest table of direct descriptors that the kernel makes; beyond it sockets are plain ones.
const LONGEST_TABLE: u32 = 1 << 20;

/// The cores this process may run on.
pub(super) fn cores() -> Vec<usize> {
    let allowed = rustix::thread::sched_getaffinity(None).ok();
    let cores: Vec<usize> = allowed.map_or_else(Vec::new, |set| {
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
    });
    if cores.is_empty() { vec![0] } else { cores }
}

/// Shrinks what the machine does not allow, and says so.
pub(super) fn fit(
    mut config: Config,
    workers: usize,
    capabilities: &Capabilities,
    surroundings: &Surroundings,
) -> (Config, Vec<String>) {
    let mut notices = Vec::new();
    config.bundles &= capabilities.bundle;
    config.direct_descriptors &= capabilities.keeps_direct();
    config.direct_descriptors &= table_len(config.max_connections) <= LONGEST_TABLE;
    let allowed = raise_descriptors();
    // A table of direct descriptors is checked against the limit, each by itself; plain descriptors all count.
    let share = if config.direct_descriptors { allowed } else { allowed / workers as u64 };
    let room = share.saturating_sub(RESERVED_DESCRIPTORS).max(16);
    let table = u64::from(table_len(config.max_connections));
    if table > room {
        let fitting = (room - room / 9).saturating_sub(8).max(8) as u32;
        notices.push(format!(
            "{} connections per worker do not fit into {allowed} descriptors; at most {fitting} are accepted at a time \
             (raise `ulimit -n`, or LimitNOFILE= of the unit)",
            config.max_connections
        ));
        config.max_connections = fitting;
    }
    let memlock_kib = surroundings.limiting_memlock_kib().filter(|_| capabilities.ring == RingKind::Uring);
    if let Some(memlock_kib) = memlock_kib {
        let asked = config.queue_entries;
        while config.queue_entries > 32 && ring_kib(config.queue_entries) * workers as u64 > memlock_kib {
            config.queue_entries /= 2;
        }
        if config.queue_entries < asked {
            notices.push(format!(
                "{workers} ring{} of {asked} entries cannot be had with {memlock_kib} KiB of locked memory; {} each \
                 instead (raise `ulimit -l`, or LimitMEMLOCK= of the unit)",
                if workers == 1 { "" } else { "s" },
                config.queue_entries
            ));
        }
    }
    (config, notices)
}

/// Entries of the table of direct descriptors: more than connections, for accepted ones that wait until one is over.
pub(crate) fn table_len(max_connections: u32) -> u32 {
    max_connections + max_connections / 8 + 8
}

/// Raises the soft limit of descriptors to the hard one; says what is allowed then.
fn raise_descriptors() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        // Refused only in odd places; then the soft limit is what there is.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::from(u32::MAX))
}
