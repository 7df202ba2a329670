//! `budget`: counts what a request costs, without measuring time, and holds it against the bounds of
//! `benches/budget.toml`.
//!
//! * [`counting`]: user-space instructions, allocations and bytes copied of a worker without a kernel, by valgrind.
//! * [`serving`]: system calls of real servers under a load that is always the same, by strace.
//! * [`bounds`]: the file, and what is held against it.
#![allow(clippy::print_stdout)]

mod bounds;
mod counting;
mod serving;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use bounds::{Bounds, Measure, Row, Verdict};

/// Where the bounds are, from the root.
const FILE: &str = "benches/budget.toml";

/// What was counted, and what could not be, with the reason.
#[derive(Debug, Default)]
struct Counted {
    rows: Vec<Row>,
    skipped: Vec<(Measure, String)>,
}

/// Takes `--write`, to have what is measured become the bounds.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let write = match arguments {
        [] => false,
        [option] if option == "--write" => true,
        _ => {
            println!("cargo xtask budget [--write]");
            return ExitCode::FAILURE;
        }
    };
    match budget(write) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn budget(write: bool) -> io::Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("within the workspace");
    let file = root.join(FILE);
    let text = fs::read_to_string(&file)?;
    let bounds = Bounds::parse(&text).map_err(|error| io::Error::other(format!("{FILE}: {error}")))?;
    let mut counted = Counted::default();
    let program = build(root, &["--release", "--package", "campanile-dispatch", "--bins"])?;
    let servers = build(root, serving::BUILT)?;
    let began = Instant::now();
    counting::count(&program[0], &mut counted)?;
    serving::count(root, &servers, &mut counted)?;

    let verdicts = bounds.judge(&counted.rows, &counted.skipped);
    print(&verdicts);
    println!("counted in {} s", began.elapsed().as_secs());
    for (measure, reason) in &counted.skipped {
        println!("\nSKIPPED, nothing is known of the {measure}: {reason}");
    }
    if write {
        fs::write(&file, bounds::written(&text, &counted.rows, &bounds, &counted.skipped))?;
        println!("\n{FILE} is written; say in the commit why what became dearer is worth it");
        return Ok(true);
    }
    let complaints: Vec<String> = verdicts.iter().filter_map(Verdict::complaint).collect();
    for complaint in &complaints {
        println!("\n{complaint}");
    }
    if !complaints.is_empty() {
        println!(
            "\nFind out what became dearer: CONTRIBUTING.md has the commands. If it is worth its price, \
             `cargo xtask budget --write`\nhas what was measured become the bounds; say in the commit what is bought."
        );
    }
    for note in verdicts.iter().filter_map(Verdict::note) {
        println!("\n{note}");
    }
    Ok(complaints.is_empty())
}

fn print(verdicts: &[Verdict]) {
    let mut measure = None;
    for verdict in verdicts {
        if measure != Some(verdict.measure) {
            println!("\n{:<36}{:>12}{:>12}{:>10}", verdict.measure.title(), "measured", "bound", "room");
            measure = Some(verdict.measure);
        }
        println!("{verdict}");
    }
    println!();
}

/// Builds what these arguments say, and returns the programs.
fn build(root: &Path, arguments: &[&str]) -> io::Result<Vec<PathBuf>> {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--message-format=json-render-diagnostics"])
        .args(arguments)
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&built.stdout);
    let programs = text.lines().filter_map(|line| {
        let (_, rest) = line.split_once(r#""executable":""#)?;
        Some(PathBuf::from(rest.split_once('"')?.0))
    });
    let programs: Vec<PathBuf> = programs.collect();
    if !built.status.success() || programs.is_empty() {
        return Err(io::Error::other("what is to be counted does not build"));
    }
    Ok(programs)
}

/// Whether a program can be run here.
fn has(program: &str, version: &str) -> bool {
    Command::new(program).arg(version).output().is_ok_and(|output| output.status.success())
}
