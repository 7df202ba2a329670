//! The servers behind the proxy: which of them are well, and whose turn it is.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use campanile::http::{Client, ClientConfig};
use campanile::{Dial, Pool, PoolConfig, interval};

/// Which servers are well, for all workers.
#[derive(Clone)]
pub(crate) struct Health(Arc<[AtomicBool]>);

impl Health {
    /// All are taken for well until it turns out otherwise.
    pub(crate) fn new(count: usize) -> Health {
        Health((0..count).map(|_| AtomicBool::new(true)).collect())
    }

    pub(crate) fn is_well(&self, index: usize) -> bool {
        self.0[index].load(Ordering::Relaxed)
    }

    pub(crate) fn note(&self, index: usize, name: &str, is_well: bool) {
        if self.0[index].swap(is_well, Ordering::Relaxed) != is_well {
            eprintln!("{name} is {}", if is_well { "well" } else { "not well" });
        }
    }
}

/// What is asked for, and how often.
#[derive(Clone)]
pub(crate) struct Check {
    pub(crate) path: String,
    pub(crate) every: Duration,
}

impl Check {
    /// Asks one server again and again whether it is well, each time by a new connection.
    pub(crate) async fn run(self, name: String, health: Health, index: usize) {
        let Ok(dial) = Dial::to(&name) else { return };
        let pool = Pool::new(dial.deadline(self.every), PoolConfig { idle: 0, ..PoolConfig::default() });
        let client = Client::with(ClientConfig { head_timeout: self.every, ..ClientConfig::default() });
        let mut ticks = interval(self.every);
        loop {
            let request = http::Request::get(&self.path).header("Host", host(&name)).body(());
            let Ok(request) = request else { return eprintln!("{} is no path to check", self.path) };
            let answer = client.send_to(&pool, request).await;
            health.note(index, &name, answer.is_ok_and(|answer| !answer.status().is_server_error()));
            ticks.tick().await;
        }
    }
}

/// The host to ask for when the client has named none.
fn host(name: &str) -> &str {
    if name.starts_with("unix:") { "localhost" } else { name }
}

/// One of the servers, with the connections that this worker has to it.
pub(crate) struct Upstream {
    pub(crate) name: String,
    pub(crate) pool: Pool,
}

/// All of them, on one worker.
pub(crate) struct Upstreams {
    all: Vec<Upstream>,
    pub(crate) health: Health,
    next: Cell<usize>,
}

impl Upstreams {
    pub(crate) fn new(names: &[String], health: &Health, config: &PoolConfig) -> Upstreams {
        let upstream = |name: &String| {
            let dial = Dial::to(name).ok()?.deadline(Duration::from_secs(3));
            Some(Upstream { name: name.clone(), pool: Pool::new(dial, config.clone()) })
        };
        let all = names.iter().filter_map(upstream).collect();
        Upstreams { all, health: health.clone(), next: Cell::new(0) }
    }

    /// The order in which they are asked for one request: in turn, and those that are not well at the end, since
    /// it may have turned out too soon that they are not.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = (usize, &Upstream)> {
        let first = self.next.get();
        self.next.set((first + 1) % self.all.len());
        let all = move || (first..first + self.all.len()).map(|index| index % self.all.len());
        let well = all().filter(|&index| self.health.is_well(index));
        let mut tried = vec![false; self.all.len()];
        well.chain(all())
            .filter(move |&index| !std::mem::replace(&mut tried[index], true))
            .map(|index| (index, &self.all[index]))
    }
}
