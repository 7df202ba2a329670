//! `mutate`: applies one-line mutations to copies of the tree, each of which removes the fix for one hazard, and shows
//! that the simulated lives catch it.
//!
//! It fails when a mutation does not apply any more, does not compile, survives, or takes too long to be judged.
//! As many are tried at once as there are processors: much of building one is not parallel.
#![allow(clippy::print_stdout)]

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::mutations::{MUTATIONS, Mutation, WAKE};

/// Lives that each mutation is given to be found in.
const LIVES: u32 = 10_000;

/// Lives that show that the copy of the tree is sound. All of them are lived by the tests.
const SOUND: u32 = 1_000;

/// What all lives take many times over. A life that hangs is ended by its test, long before.
const MOST: Duration = Duration::from_secs(600);

/// The most trees that are mutated at once, each of which has a build of its own.
const TREES: usize = 4;

/// What became of a mutation.
enum Fate {
    Caught(Duration, String),
    Survived,
    NotJudged,
    DoesNotApply(usize),
    DoesNotCompile(String),
}

/// Takes `--every N`, for each Nth mutation, and words.
pub(crate) fn run(arguments: &[String]) -> ExitCode {
    let (every, words) = match arguments {
        [option, every, words @ ..] if option == "--every" => match every.parse() {
            Ok(every) if every > 0 => (every, words),
            _ => {
                println!("--every {every}: a number from 1 on");
                return ExitCode::FAILURE;
            }
        },
        words => (1, words),
    };
    match mutate(words, every) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn mutate(words: &[String], every: usize) -> io::Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("within the workspace");
    let chosen: Vec<&Mutation> = MUTATIONS
        .iter()
        .filter(|mutation| words.is_empty() || words.iter().any(|word| mutation.name.contains(word.as_str())))
        .step_by(every)
        .collect();
    let place = place_for(root);
    fs::create_dir_all(&place)?;
    println!("in {}", place.display());
    // Two runs at a time would mutate each other's trees.
    let lock = fs::File::create(place.join("lock"))?;
    lock.lock()?;

    let processors = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let trees: Vec<PathBuf> =
        (0..processors.min(TREES).min(chosen.len())).map(|n| place.join(n.to_string())).collect();
    let Some(first) = trees.first() else {
        println!("no mutation has such a name");
        return Ok(false);
    };
    copy(root, first)?;
    if !is_sound(first)? {
        return Ok(false);
    }
    for tree in &trees[1..] {
        copy(root, tree)?;
        // What is not of this workspace need not be built again.
        if !tree.join("target").exists() {
            Command::new("cp").arg("-a").args([first.join("target"), tree.join("target")]).status()?;
        }
    }

    let next = AtomicUsize::new(0);
    let failed = thread::scope(|scope| {
        let try_some = |tree| try_until_done(tree, &chosen, &next);
        let threads: Vec<ScopedJoinHandle<'_, io::Result<usize>>> =
            trees.iter().map(|tree| scope.spawn(move || try_some(tree))).collect();
        let failed = threads.into_iter().map(|thread| thread.join().expect("no thread panics"));
        failed.sum::<io::Result<usize>>()
    })?;
    println!("{} passed, {failed} failed", chosen.len() - failed);
    Ok(failed == 0)
}

/// Without any mutation the tree compiles, and nothing is caught.
fn is_sound(tree: &Path) -> io::Result<bool> {
    let built = cargo(tree).arg("--no-run").output()?;
    if !built.status.success() {
        println!("the tree does not compile:\n{}", told(&built));
        return Ok(false);
    }
    for tests in ["wake::", "ring::poll::", "scenes::", "lives::lives"] {
        match test(tree, tests, SOUND)? {
            Some(output) if output.status.success() => {}
            Some(output) => {
                println!("{tests} fails without any mutation:\n{}", told(&output));
                return Ok(false);
            }
            None => {
                println!("{tests} does not end, without any mutation");
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Tries one mutation after the other in a tree; says how many were not caught.
fn try_until_done(tree: &Path, chosen: &[&Mutation], next: &AtomicUsize) -> io::Result<usize> {
    let mut failed = 0;
    while let Some(mutation) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
        let fate = try_one(tree, mutation)?;
        let told = match &fate {
            Fate::Caught(after, by) => format!("caught after {:>4.1} s: {by}", after.as_secs_f32()),
            Fate::Survived => format!("SURVIVED ({})", mutation.hazard),
            Fate::NotJudged => format!("NOT JUDGED: the tests had not ended after {} s", MOST.as_secs()),
            Fate::DoesNotApply(n) => format!("DOES NOT APPLY: found {n} times in {}", mutation.file),
            Fate::DoesNotCompile(error) => format!("DOES NOT COMPILE:\n{error}"),
        };
        println!("{:<58} {told}", mutation.name);
        failed += usize::from(!matches!(fate, Fate::Caught(..)));
    }
    Ok(failed)
}

fn try_one(tree: &Path, mutation: &Mutation) -> io::Result<Fate> {
    let path = tree.join(mutation.file);
    let text = fs::read_to_string(&path)?;
    let times = text.matches(mutation.old).count();
    if times != 1 {
        return Ok(Fate::DoesNotApply(times));
    }
    fs::write(&path, text.replacen(mutation.old, mutation.new, 1))?;
    let fate = try_tree(tree, mutation);
    fs::write(&path, text)?;
    fate
}

fn try_tree(tree: &Path, mutation: &Mutation) -> io::Result<Fate> {
    let built = cargo(tree).arg("--no-run").output()?;
    if !built.status.success() {
        return Ok(Fate::DoesNotCompile(told(&built)));
    }
    let began = Instant::now();
    // The likeliest to catch it come first, and the first that fails ends it.
    let tests = match mutation.hazard {
        // The lives are lived on the simulated ring.
        _ if mutation.file.contains("ring/poll") => &["ring::poll::"][..],
        WAKE => &["wake::", "hosting::", "lives::"],
        _ => &["scenes::", "lives::lives", "lives::"],
    };
    for tests in tests {
        match test(tree, tests, LIVES)? {
            Some(output) if output.status.success() => {}
            Some(output) => return Ok(Fate::Caught(began.elapsed(), what_caught(&output))),
            None => return Ok(Fate::NotJudged),
        }
    }
    Ok(Fate::Survived)
}

/// The tests that are to catch it: the lives, scenes of a known pace, and what crosses threads. Built to be built again
/// quickly.
fn cargo(tree: &Path) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--quiet", "--package", "campanile-core", "--lib"]).current_dir(tree);
    command.env("CARGO_TARGET_DIR", tree.join("target")).env("RUSTFLAGS", "-Awarnings");
    command.env("CARGO_INCREMENTAL", "1").env("CARGO_PROFILE_TEST_DEBUG", "0");
    command.env("CARGO_PROFILE_TEST_OPT_LEVEL", "1").env("RUST_BACKTRACE", "0");
    command
}

/// Runs the tests of one name; `None` if they do not end.
fn test(tree: &Path, tests: &str, lives: u32) -> io::Result<Option<Output>> {
    let mut child = cargo(tree)
        .args(["--", tests])
        .env("CAMPANILE_SEEDS", lives.to_string())
        .stdout(fs::File::create(tree.join("stdout"))?)
        .stderr(fs::File::create(tree.join("stderr"))?)
        .process_group(0)
        .spawn()?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if began.elapsed() > MOST {
            // The test runs in a process of its own, below cargo's.
            Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    };
    Ok(Some(Output {
        status,
        stdout: fs::read(tree.join("stdout"))?,
        stderr: fs::read(tree.join("stderr"))?,
    }))
}

fn told(output: &Output) -> String {
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// The first thing that was found wrong, in one line.
fn what_caught(output: &Output) -> String {
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.contains(" went wrong:") || line.contains("panicked at") {
            return lines.next().unwrap_or_default().trim().chars().take(80).collect();
        }
    }
    "its process ended".into()
}

/// A directory of its own for every clone, which keeps its build.
fn place_for(root: &Path) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    root.hash(&mut hasher);
    std::env::temp_dir().join(format!("campanile-mutations-{:016x}", hasher.finish()))
}

/// Copies what git tracks, and what is new.
fn copy(root: &Path, to: &Path) -> io::Result<()> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()?;
    for file in String::from_utf8_lossy(&listed.stdout).lines() {
        let (from, to) = (root.join(file), to.join(file));
        let Ok(text) = fs::read(&from) else { continue };
        // What did not change is not touched, so that it need not be built again.
        if fs::read(&to).is_ok_and(|there| there == text) {
            continue;
        }
        fs::create_dir_all(to.parent().expect("a file is in a directory"))?;
        fs::write(&to, text)?;
    }
    Ok(())
}
