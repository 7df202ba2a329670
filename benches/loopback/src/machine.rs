//! The machine: which processor whose thread is on, what the servers used of theirs, and how many sockets there may be.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// The processors that servers and load are kept on, or none if there is but one.
pub(crate) struct Processors {
    all: CpuSet,
    servers: Option<CpuSet>,
    load: Option<CpuSet>,
}

impl Processors {
    /// The first two that this process may use.
    pub(crate) fn divided() -> Processors {
        let all = sched_getaffinity(None).expect("the processors of this thread");
        let mut one_each = (0..CpuSet::MAX_CPU).filter(|&cpu| all.is_set(cpu)).map(|cpu| {
            let mut only = CpuSet::new();
            only.set(cpu);
            only
        });
        match (one_each.next(), one_each.next()) {
            (servers @ Some(_), load @ Some(_)) => Processors { all, servers, load },
            _ => Processors { all, servers: None, load: None },
        }
    }

    /// Whether the two have a processor each.
    pub(crate) fn are_two(&self) -> bool {
        self.servers.is_some()
    }

    /// Starts a server, whose threads are then on its processor: a thread inherits it from who starts it.
    pub(crate) fn for_server<T>(&self, start: impl FnOnce() -> T) -> T {
        self.on(self.servers.as_ref(), start)
    }

    /// Does something on the processor of the load. What lies between, such as criterion's threads, may use all.
    pub(crate) fn for_load<T>(&self, run: impl FnOnce() -> T) -> T {
        self.on(self.load.as_ref(), run)
    }

    fn on<T>(&self, cpus: Option<&CpuSet>, run: impl FnOnce() -> T) -> T {
        let Some(cpus) = cpus else { return run() };
        let keep_on = |cpus| sched_setaffinity(None, cpus).expect("processors that this thread may use");
        keep_on(cpus);
        let result = run();
        keep_on(&self.all);
        result
    }
}

/// Processor time of all threads but the one that asks: of the server that runs, with what the kernel's helpers do in
/// its name. It is exact to the nanosecond, where that in /proc moves by the tick.
pub(crate) fn server_time() -> Duration {
    let of = |clock| Duration::try_from(clock_gettime(clock)).expect("a clock that only grows");
    // In this order, so that the difference is never less than what the others used.
    let own = of(ClockId::ThreadCPUTime);
    of(ClockId::ProcessCPUTime).saturating_sub(own)
}

/// How many descriptors this process may have, after asking for all that it may ask for.
pub(crate) fn descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // What is not granted is no error: then there are fewer connections.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
