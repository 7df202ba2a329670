//! Campanile beside tokio, tokio-uring and monoio, over the kernel's loopback: `cargo bench --bench loopback`.
//!
//! The same work by each in the same layout: one thread that serves, on one processor, and one that is the load, on
//! another. Every answer is compared with what it has to be, and one that is wrong ends the run.
//!
//! Each scenario is two groups: the **processor time that the server used per request**, which is what it costs, and the
//! time that passed, which the load has as large a part in. Behind the rows of the first stands what the servers took by
//! turns, with the ratio that counts. docs/performance.md says how to read them.

mod liar;
mod load;
mod machine;
mod servers;
mod turns;
mod work;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};

use load::{Download, Kept, Load, Short, Upload};
use machine::Processors;
use servers::{Running, Server};
use work::{Exchange, PAYLOAD_LEN, Work};

/// What a row says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Figure {
    /// Processor time of the server.
    ServerTime,
    /// Time that passed.
    Clock,
}

/// A group of rows.
#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    work: Work,
    shape: Shape,
    /// Connections, a row per server and count.
    connections: &'static [usize],
}

#[derive(Clone, Copy)]
enum Shape {
    /// Each connection sends so many bytes, waits for them, and sends them again.
    Echo(usize),
    /// Each sends so many requests, waits for the answers, and sends them again.
    Http(usize),
    /// A connection per request.
    Short,
    Upload,
    Download,
}

const SCENARIOS: [Scenario; 7] = [
    Scenario::new("echo 64 B", Work::Echo, Shape::Echo(64), &[1, 64, 512]),
    Scenario::new("echo 16 KiB", Work::Echo, Shape::Echo(16 * 1024), &[64]),
    Scenario::new("http", Work::Http, Shape::Http(1), &[1, 64, 512]),
    Scenario::new("http, 16 pipelined", Work::Http, Shape::Http(16), &[64]),
    Scenario::new("http, a connection per request", Work::Http, Shape::Short, &[64]),
    Scenario::new("upload of 16 MiB", Work::Sink, Shape::Upload, &[1]),
    Scenario::new("download of 16 MiB", Work::Source, Shape::Download, &[1]),
];

impl Scenario {
    const fn new(name: &'static str, work: Work, shape: Shape, connections: &'static [usize]) -> Scenario {
        Scenario { name, work, shape, connections }
    }

    fn servers(self) -> &'static [Server] {
        if self.work == Work::Http { &Server::OF_HTTP } else { &Server::ALL }
    }

    /// What one iteration is, and so what `time` is the time of.
    fn throughput(self) -> Throughput {
        match self.shape {
            Shape::Upload | Shape::Download => Throughput::BytesDecimal(PAYLOAD_LEN as u64),
            Shape::Echo(_) | Shape::Http(_) | Shape::Short => Throughput::Elements(1),
        }
    }

    fn load(self, address: SocketAddr, connections: usize) -> Box<dyn Load> {
        let kept = |exchange| Kept::connect(address, connections, exchange).map(boxed);
        let load = match self.shape {
            Shape::Echo(length) => kept(Exchange::echo(length)),
            Shape::Http(requests) => kept(Exchange::http(requests)),
            Shape::Short => Ok(boxed(Short::new(address, connections))),
            Shape::Upload => Upload::connect(address).map(boxed),
            Shape::Download => Download::connect(address).map(boxed),
        };
        load.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

fn boxed(load: impl Load + 'static) -> Box<dyn Load> {
    Box::new(load)
}

/// What the rows have in common.
struct Bench {
    processors: Processors,
    io_uring: bool,
    descriptors: u64,
}

impl Bench {
    fn measure(&self, c: &mut Criterion, scenario: Scenario, figure: Figure) {
        let suffix = if figure == Figure::Clock { "by the clock" } else { "server time" };
        let mut group = c.benchmark_group(format!("{}, {suffix}", scenario.name));
        group.sampling_mode(SamplingMode::Flat).throughput(scenario.throughput());
        for &connections in scenario.connections {
            if !self.has_descriptors_for(connections) {
                eprintln!("skipped: {} with {connections} connections: raise `ulimit -n`", scenario.name);
                continue;
            }
            let rows = scenario.servers().iter().filter_map(|&server| {
                if !self.io_uring && !server.runs_on_epoll() {
                    eprintln!("skipped: {} by {}: io_uring is refused here", scenario.name, server.name());
                    return None;
                }
                self.row(&mut group, scenario, figure, server, connections)
            });
            let rows: Vec<Session<'_>> = rows.collect();
            if figure == Figure::ServerTime {
                turns::take(&format!("{}, {connections}", scenario.name), rows);
            }
        }
        group.finish();
    }

    /// Both ends of every connection are this process', of all servers at a time; some descriptors are for other things.
    fn has_descriptors_for(&self, connections: usize) -> bool {
        2 * (connections * Server::OF_HTTP.len()) as u64 + 100 <= self.descriptors
    }

    /// Measures, if the row is among those that were asked for; its server then goes on.
    fn row(
        &self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        scenario: Scenario,
        figure: Figure,
        server: Server,
        connections: usize,
    ) -> Option<Session<'_>> {
        let mut session = None;
        group.bench_function(BenchmarkId::new(server.name(), connections), |b| {
            let session = session.get_or_insert_with(|| self.session(scenario, server, connections));
            b.iter_custom(|times| session.run(times, figure));
        });
        session
    }

    fn session(&self, scenario: Scenario, server: Server, connections: usize) -> Session<'_> {
        let running = self.processors.for_server(|| server.start(scenario.work));
        let load = scenario.load(running.address, connections);
        Session { processors: &self.processors, server, load, _running: running, times: 0 }
    }
}

/// A server and its load, which ends first.
struct Session<'a> {
    processors: &'a Processors,
    server: Server,
    load: Box<dyn Load>,
    _running: Running,
    /// How many times the last run was for: after a measurement, a sample of it.
    times: u64,
}

impl Session<'_> {
    /// How long `times` times took, or would have if more than that had to be done.
    ///
    /// # Panics
    /// If an answer is wrong.
    fn run(&mut self, times: u64, figure: Figure) -> Duration {
        self.times = times;
        let (took, done) = self.processors.for_load(|| {
            let (began, before) = (Instant::now(), machine::server_time());
            let done = self.load.run(times).unwrap_or_else(|error| panic!("{}: {error}", self.server.name()));
            let took = match figure {
                Figure::ServerTime => machine::server_time().saturating_sub(before),
                Figure::Clock => began.elapsed(),
            };
            (took, done)
        });
        took.mul_f64(times as f64 / done as f64)
    }
}

/// Five minutes for all of them. Plots are drawn from the resamples, and take longer than all else if there are more.
fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(400))
        .measurement_time(Duration::from_millis(1_200))
        .sample_size(20)
        .nresamples(10_000)
}

fn main() {
    let bench = Bench {
        processors: Processors::divided(),
        io_uring: servers::io_uring_is_allowed(),
        descriptors: machine::descriptors(),
    };
    if !bench.processors.are_two() {
        eprintln!("server and load share one processor: figures by the clock mean nothing here");
    }
    liar::is_found_out();
    let mut c = short().configure_from_args();
    for scenario in SCENARIOS {
        bench.measure(&mut c, scenario, Figure::ServerTime);
        bench.measure(&mut c, scenario, Figure::Clock);
    }
    c.final_summary();
}
