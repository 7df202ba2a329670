//! What developers of this workspace run, beyond what cargo does by itself.

mod budget;
#[cfg(test)]
mod hazards;
mod mutate;
mod mutations;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask mutate [--every N] [WORD...]   apply each mutation (each Nth; that has one of the words in its name) to a
                                           copy of the tree, and show that the simulated lives catch it
cargo xtask budget [--write]               count what a request costs, and hold it against benches/budget.toml, or
                                           write what was counted there";

#[allow(clippy::print_stdout)]
fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("budget") => budget::run(&arguments.collect::<Vec<_>>()),
        Some("mutate") => mutate::run(&arguments.collect::<Vec<_>>()),
        _ => {
            println!("{USAGE}");
            ExitCode::FAILURE
        }
    }
}
