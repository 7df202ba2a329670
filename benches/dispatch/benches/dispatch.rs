//! How long a worker takes from receiving to sending, without a kernel: `cargo bench --bench dispatch`.
//!
//! Completions are fed by hand, a round at a time; what is told is a round, and requests per second. Before a scene is
//! timed its answers are compared byte for byte, and it must not allocate.

use std::time::Duration;

use campanile_dispatch::{Counting, SCENES, Stage};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

#[global_allocator]
static COUNTING: Counting = Counting;

/// Rounds in which nothing may be allocated.
const ROUNDS: usize = 1_000;

fn dispatch(c: &mut Criterion) {
    let mut group = c.benchmark_group("dispatch");
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    for scene in SCENES {
        let mut stage = Stage::set(scene);
        assert_eq!(stage.allocations(ROUNDS), 0, "{}: allocations in {ROUNDS} rounds", scene.name);
        group.throughput(Throughput::Elements(scene.requests() as u64));
        group.bench_function(scene.name, |b| b.iter(|| stage.round()));
        stage.check();
    }
    group.finish();
}

criterion_group!(benches, dispatch);
criterion_main!(benches);
