//! Plays one scene so many times, and says what it took: what `cargo xtask budget` runs under valgrind.
//!
//! ```text
//! cargo run --release -p campanile-dispatch -- http 1000
//! ```
#![allow(clippy::print_stdout)]

use std::process::ExitCode;

use campanile_dispatch::{Counting, SCENES, Scene, Stage};

#[global_allocator]
static COUNTING: Counting = Counting;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let known = match &arguments[..] {
        [name, rounds] => Scene::named(name).zip(rounds.parse().ok()),
        _ => None,
    };
    let Some((scene, rounds)) = known else {
        println!("campanile-dispatch SCENE ROUNDS, of the scenes");
        for Scene { name, clients, pipelined, .. } in SCENES {
            println!("{name:<20} {clients} clients, {pipelined} requests at a time");
        }
        return ExitCode::FAILURE;
    };
    let mut stage = Stage::set(scene);
    let allocations = stage.allocations(rounds);
    stage.check();
    println!("requests {}", rounds * scene.requests());
    println!("delivered {}", rounds * stage.delivered());
    println!("allocations {allocations}");
    ExitCode::SUCCESS
}
