//! Counting: a worker without a kernel, run by valgrind, which counts the same whenever it is asked.
//!
//! Each scene is played twice, for some rounds and for more, and what is told is the difference: so neither starting
//! nor warming up counts.

use std::io;
use std::path::Path;
use std::process::{Command, Output};

use super::bounds::{Measure, Row};
use super::{Counted, has};

/// Requests in the shorter and in the longer run, at least.
const REQUESTS: [u64; 2] = [500, 2_500];

/// The part of the worker that is counted; not what feeds it.
const TURN: &str = "campanile_core::worker::by_hand::ByHand::turn";

/// Counts are repeatable to the instruction on one machine; others have another libc, whose copies differ.
const SLACK: f64 = 0.03;

/// A scene, as the program names it.
struct Scene {
    name: String,
    /// Requests of a round.
    requests: u64,
}

/// One run of a scene.
#[derive(Debug, Default)]
struct Played {
    requests: u64,
    delivered: u64,
    allocations: u64,
    /// What valgrind says.
    counted: u64,
}

/// Counts all scenes.
pub(super) fn count(program: &Path, counted: &mut Counted) -> io::Result<()> {
    let scenes = scenes(program)?;
    for scene in &scenes {
        let played = play(Command::new(program), scene, REQUESTS[1], |_| Some(0))?;
        let measured = played.allocations as f64 / played.requests as f64;
        let (measure, name) = (Measure::Allocations, scene.name.clone());
        counted.rows.push(Row { measure, name, measured, slack: 0.0 });
    }
    if let Some(reason) = valgrind_refuses(program) {
        let skipped = [Measure::Instructions, Measure::Copied].map(|measure| (measure, reason.clone()));
        counted.skipped.extend(skipped);
        return Ok(());
    }
    if !is_usual() {
        // Libraries choose other code here.
        let reason = String::from("the bounds are those of x86-64 with AVX2, which this processor has not");
        let skipped = [Measure::Instructions, Measure::Copied].map(|measure| (measure, reason.clone()));
        counted.skipped.extend(skipped);
        return Ok(());
    }
    // Valgrind runs one thread at a time, and the scenes know nothing of each other.
    let rows = std::thread::scope(|scope| {
        let threads: Vec<_> = [instructions as fn(&Path, &Scene) -> io::Result<Row>, copied]
            .map(|count| {
                let scenes = &scenes;
                scope.spawn(move || scenes.iter().map(|scene| count(program, scene)).collect())
            })
            .into();
        let rows = threads.into_iter().map(|thread| thread.join().expect("no thread panics"));
        rows.collect::<io::Result<Vec<Vec<Row>>>>()
    })?;
    counted.rows.extend(rows.into_iter().flatten());
    Ok(())
}

/// Why valgrind cannot run here what runs without it.
fn valgrind_refuses(program: &Path) -> Option<String> {
    if !has("valgrind", "--version") {
        return Some("valgrind is not installed (apt-get install valgrind)".into());
    }
    let probes = [
        ["--tool=callgrind", "--callgrind-out-file=/dev/null"].as_slice(),
        &["--tool=dhat", "--mode=copy", "--dhat-out-file=/dev/null"],
    ];
    let refused = |arguments: &&[&str]| {
        let probe = Command::new("valgrind").args(*arguments).arg(program).args(["echo", "1"]).output();
        match probe {
            Ok(probe) if probe.status.success() => None,
            Ok(probe) => Some(String::from_utf8_lossy(&probe.stderr).into_owned()),
            Err(error) => Some(error.to_string()),
        }
    };
    let reason = probes.iter().find_map(refused)?;
    Some(format!("valgrind does not work here: {reason}"))
}

#[cfg(target_arch = "x86_64")]
fn is_usual() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

#[cfg(not(target_arch = "x86_64"))]
fn is_usual() -> bool {
    false
}

/// What the program can play.
fn scenes(program: &Path) -> io::Result<Vec<Scene>> {
    let output = Command::new(program).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let scenes = text.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        let name = words.next()?.to_owned();
        let mut numbers = words.filter_map(|word| word.parse::<u64>().ok());
        Some(Scene { name, requests: numbers.next()? * numbers.next()? })
    });
    Ok(scenes.collect())
}

/// Instructions in turns of the worker, by callgrind.
fn instructions(program: &Path, scene: &Scene) -> io::Result<Row> {
    let collected = |error: &str| number_after(error, "Collected :");
    let difference = twice(scene, collected, || {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
        valgrind.arg(format!("--toggle-collect={TURN}")).arg(program);
        valgrind
    })?;
    let measured = difference.counted as f64 / difference.requests as f64;
    Ok(Row { measure: Measure::Instructions, name: scene.name.clone(), measured, slack: SLACK })
}

/// Bytes that go through memcpy(3) and its like, by dhat; without those that a kernel would copy in.
fn copied(program: &Path, scene: &Scene) -> io::Result<Row> {
    let total = |error: &str| number_after(error, "Total:");
    let difference = twice(scene, total, || {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--tool=dhat", "--mode=copy", "--dhat-out-file=/dev/null"]).arg(program);
        valgrind
    })?;
    let copied = difference.counted.saturating_sub(difference.delivered);
    let measured = copied as f64 / difference.requests as f64;
    Ok(Row { measure: Measure::Copied, name: scene.name.clone(), measured, slack: 0.0 })
}

/// What the longer run has more than the shorter one.
fn twice(
    scene: &Scene,
    counted: impl Fn(&str) -> Option<u64>,
    command: impl Fn() -> Command,
) -> io::Result<Played> {
    let less = play(command(), scene, REQUESTS[0], &counted)?;
    let more = play(command(), scene, REQUESTS[1], &counted)?;
    let difference = Played {
        requests: more.requests - less.requests,
        delivered: more.delivered - less.delivered,
        allocations: more.allocations - less.allocations,
        counted: more.counted.saturating_sub(less.counted),
    };
    if difference.counted == 0 {
        return Err(io::Error::other(format!("{}: valgrind counted nothing", scene.name)));
    }
    Ok(difference)
}

fn play(
    mut command: Command,
    scene: &Scene,
    requests: u64,
    counted: impl Fn(&str) -> Option<u64>,
) -> io::Result<Played> {
    let rounds = requests.div_ceil(scene.requests);
    let output = command.args([&scene.name, &rounds.to_string()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    let found = || {
        Some(Played {
            requests: number_after(&text, "requests")?,
            delivered: number_after(&text, "delivered")?,
            allocations: number_after(&text, "allocations")?,
            counted: counted(&error)?,
        })
    };
    found().filter(|_| output.status.success()).ok_or_else(|| failed(scene, &command, &output))
}

fn failed(scene: &Scene, command: &Command, output: &Output) -> io::Error {
    let said = String::from_utf8_lossy(&output.stderr);
    io::Error::other(format!("{}: {command:?} failed:\n{said}", scene.name))
}

/// The first number behind some words, which may have commas in it.
fn number_after(text: &str, words: &str) -> Option<u64> {
    let (_, rest) = text.split_once(words)?;
    let digits = rest.trim_start().chars().take_while(|c| c.is_ascii_digit() || *c == ',');
    digits.filter(char::is_ascii_digit).collect::<String>().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_behind_their_words() {
        assert_eq!(number_after("==1== Total:     472,232 bytes in 19,352 blocks", "Total:"), Some(472_232));
        assert_eq!(number_after("==1== Collected : 3817848", "Collected :"), Some(3_817_848));
        assert_eq!(number_after("nothing", "Total:"), None);
        assert_eq!(number_after("Total: none", "Total:"), None);
    }
}
