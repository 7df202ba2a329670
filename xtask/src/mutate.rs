//! `mutate`: applies one-line mutations to a copy of the tree, each of which removes the fix for one hazard, and shows
//! that the simulated lives catch it.
//!
//! It fails when a mutation does not apply any more, does not compile, or survives.
#![allow(clippy::print_stdout)]

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::time::{Duration, Instant};

use crate::mutations::{MUTATIONS, Mutation};

/// Lives that each mutation is given to be found in.
const LIVES: &str = "10000";

/// How long the lives may take to find it: within a minute, as the hazard table promises.
const MOST: Duration = Duration::from_secs(60);

/// What became of a mutation.
enum Fate {
    Caught(Duration, String),
    Survived,
    DoesNotApply(usize),
    DoesNotCompile(String),
}

pub(crate) fn run(words: &[String]) -> ExitCode {
    match mutate(words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn mutate(words: &[String]) -> io::Result<bool> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("within the workspace");
    let tree = place_for(root);
    fs::create_dir_all(&tree)?;
    println!("in {}", tree.display());
    // Two at a time would mutate each other's tree.
    let lock = fs::File::create(tree.join("lock"))?;
    lock.lock()?;
    copy(root, &tree)?;
    let built = cargo(&tree).arg("--no-run").output()?;
    if !built.status.success() {
        println!("the tree does not compile:\n{}", told(&built));
        return Ok(false);
    }
    // All of them are lived, on a machine that may be busy with other things.
    let unmutated = test(&tree, 5 * MOST)?;
    if !unmutated.status.success() {
        println!("the lives fail without any mutation:\n{}", told(&unmutated));
        return Ok(false);
    }
    let chosen = |mutation: &&Mutation| {
        words.is_empty() || words.iter().any(|word| mutation.name.contains(word.as_str()))
    };
    let mut failed = 0;
    let mut tried = 0;
    for mutation in MUTATIONS.iter().filter(chosen) {
        tried += 1;
        print!("{:<58} ", mutation.name);
        io::stdout().flush()?;
        let fate = try_one(&tree, mutation)?;
        match &fate {
            Fate::Caught(after, by) => println!("caught after {:>4.1} s: {by}", after.as_secs_f32()),
            Fate::Survived => println!("SURVIVED ({})", mutation.hazard),
            Fate::DoesNotApply(n) => println!("DOES NOT APPLY: found {n} times in {}", mutation.file),
            Fate::DoesNotCompile(error) => println!("DOES NOT COMPILE:\n{error}"),
        }
        failed += usize::from(!matches!(fate, Fate::Caught(..)));
    }
    println!("{} passed, {failed} failed", tried - failed);
    Ok(failed == 0 && tried > 0)
}

fn try_one(tree: &Path, mutation: &Mutation) -> io::Result<Fate> {
    let path = tree.join(mutation.file);
    let text = fs::read_to_string(&path)?;
    let times = text.matches(mutation.old).count();
    if times != 1 {
        return Ok(Fate::DoesNotApply(times));
    }
    fs::write(&path, text.replacen(mutation.old, mutation.new, 1))?;
    let fate = try_tree(tree);
    fs::write(&path, text)?;
    fate
}

fn try_tree(tree: &Path) -> io::Result<Fate> {
    let built = cargo(tree).arg("--no-run").output()?;
    if !built.status.success() {
        return Ok(Fate::DoesNotCompile(told(&built)));
    }
    let began = Instant::now();
    let output = test(tree, MOST)?;
    match output.status.success() {
        true => Ok(Fate::Survived),
        false => Ok(Fate::Caught(began.elapsed(), what_caught(&output))),
    }
}

/// The tests that are to catch it: the lives, and what crosses threads.
fn cargo(tree: &Path) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--quiet", "--package", "campanile-core", "--lib"]).current_dir(tree);
    command.env("CARGO_TARGET_DIR", tree.join("target")).env("CAMPANILE_SEEDS", LIVES);
    command.env("RUSTFLAGS", "-Awarnings");
    command
}

fn test(tree: &Path, most: Duration) -> io::Result<Output> {
    let mut child = cargo(tree)
        .args(["--", "lives::", "wake::", "ring::poll::"])
        .stdout(fs::File::create(tree.join("stdout"))?)
        .stderr(fs::File::create(tree.join("stderr"))?)
        .process_group(0)
        .spawn()?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // A life that hangs is a life that went wrong.
        if began.elapsed() > most {
            // The test runs in a process of its own, below cargo's.
            Command::new("kill").args(["-KILL", "--", &format!("-{}", child.id())]).status()?;
            break child.wait()?;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    Ok(Output { status, stdout: fs::read(tree.join("stdout"))?, stderr: fs::read(tree.join("stderr"))? })
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
    "it hangs".into()
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
