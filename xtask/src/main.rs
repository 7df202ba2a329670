//! What developers of this workspace run, beyond what cargo does by itself.

#[cfg(test)]
mod hazards;
mod mutate;
mod mutations;

use std::process::ExitCode;

#[allow(clippy::print_stdout)]
fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("mutate") => mutate::run(&arguments.collect::<Vec<_>>()),
        _ => {
            println!(
                "cargo xtask mutate [--every N] [WORD...]   apply each mutation (each Nth; that has one of the words\n\
                 {:43}in its name) to a copy of the tree, and show that the simulated lives catch it",
                ""
            );
            ExitCode::FAILURE
        }
    }
}
