//! The rules of the house: what the compiler does not check and a reader relies on.
//!
//! Each test lists every place that breaks its rule. A rule that is in the way is changed here, with the reason.

use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// The files that may have `unsafe`, each of which opens with its obligations. ARCHITECTURE.md has the same list.
const UNSAFE: &[&str] = &[
    "crates/core/src/buffer_ring.rs",
    "crates/core/src/file_pool.rs",
    "crates/core/src/flight.rs",
    "crates/core/src/input.rs",
    "crates/core/src/listener.rs",
    "crates/core/src/operation.rs",
    "crates/core/src/region.rs",
    "crates/core/src/ring/kernel.rs",
    "crates/core/src/ring/plain.rs",
    "crates/core/src/ring/simulated/operations.rs",
    "crates/core/src/send_pool.rs",
    "crates/core/src/worker.rs",
];

/// Tests that may, to do what only a test does: change its own limits, count allocations, forbid itself a system call.
const UNSAFE_TESTS: &[&str] = &[
    "benches/dispatch/src/counting.rs",
    "crates/campanile/tests/allocations.rs",
    "crates/core/tests/dying.rs",
    "crates/core/tests/errors.rs",
    "tests/http_server/confined.rs",
];

/// The most lines a file has.
const MAX_LINES: usize = 500;

/// Files that are longer, how long they may get, and why they are not cut up.
const LONG: &[(&str, usize, &str)] = &[
    (
        "crates/core/src/ring/simulated/operations.rs",
        700,
        "an arm per operation, side by side with its neighbours",
    ),
    (
        "crates/core/src/ring/poll/tests.rs",
        600,
        "one small test per operation, and per way in which it waits",
    ),
    ("crates/core/src/server.rs", 660, "fitting, starting and stopping share the handle"),
    ("crates/core/src/timer.rs", 620, "half of it is the model that the wheel is tested against"),
    ("crates/core/src/worker.rs", 690, "the loop and its eight stops stay on neighbouring screens"),
    (
        "crates/core/src/worker/lives/services.rs",
        620,
        "the services of simulated lives, each too small for a file",
    ),
    ("crates/core/src/worker/lives/town.rs", 660, "one cast of peers that know each other"),
    ("xtask/src/mutations.rs", 700, "one table, a row per line whose loss brings a hazard back"),
    ("crates/core/tests/sockets.rs", 600, "one small test per kind of socket, sharing what sets them up"),
];

const MAX_COLUMNS: usize = 120;

/// The small examples: where they are, what names their package, and their own names.
const EXAMPLES: &[(&str, &str, &[&str])] = &[
    ("examples", "", &["echo", "http-async", "http-hello", "lines", "relay", "udp-echo"]),
    ("crates/tokio-uring/examples", " -p campanile-tokio-uring", &["files", "hosted-hello"]),
];
/// The length that each of them stays below.
const MAX_EXAMPLE_LINES: usize = 60;

/// What a crate may depend on within the workspace, its tests included.
const MAY_USE: &[(&str, &[&str])] = &[
    ("crates/core", &[]),
    ("crates/protocol", &[]),
    ("crates/campanile", &["campanile-core", "campanile-protocol"]),
    ("crates/tokio-uring", &["campanile", "campanile-core"]),
    ("benches/dispatch", &["campanile", "campanile-core"]),
    (".", &["campanile", "campanile-core"]),
    ("benches/loopback", &["campanile"]),
    ("xtask", &[]),
];

#[test]
fn crates_point_downwards_only() {
    let mut broken = Vec::new();
    for (package, allowed) in MAY_USE {
        for (kind, dependencies) in dependencies(&manifest(&root().join(package).join("Cargo.toml"))) {
            for name in dependencies.keys().filter(|name| name.starts_with("campanile")) {
                if !allowed.contains(&name.as_str()) {
                    broken.push(format!("{package}: {kind} has {name}, which may be one of {allowed:?}"));
                }
            }
        }
    }
    none(&broken);
}

#[test]
fn examples_need_one_crate_of_ours() {
    let below = ["campanile_core", "campanile_protocol"];
    let examples = rust_files().into_iter().filter(|(name, _)| name.contains("examples/"));
    let broken = examples.filter(|(_, text)| below.iter().any(|name| text.contains(name)));
    none(&broken.map(|(name, _)| format!("{name}: uses more than `campanile`")).collect::<Vec<_>>());
}

#[test]
fn every_member_is_under_the_rule_of_direction() {
    let workspace = manifest(&root().join("Cargo.toml"));
    let members = workspace["workspace"]["members"].as_array().expect("a list of members");
    let unruled = members
        .iter()
        .filter_map(Value::as_str)
        .filter(|member| !MAY_USE.iter().any(|(package, _)| package == member));
    none(&unruled.map(|member| format!("{member}: not in MAY_USE")).collect::<Vec<_>>());
}

#[test]
fn dependencies_are_declared_once_in_the_workspace() {
    let mut broken = Vec::new();
    for (package, _) in MAY_USE {
        for (kind, dependencies) in dependencies(&manifest(&root().join(package).join("Cargo.toml"))) {
            for (name, value) in dependencies {
                let inherited = value.get("workspace").and_then(Value::as_bool) == Some(true);
                if !inherited {
                    broken.push(format!("{package}: {kind}.{name} is not `workspace = true`"));
                }
            }
        }
    }
    none(&broken);
}

#[test]
fn unsafe_stands_only_where_it_is_expected_and_explained() {
    let mut broken = Vec::new();
    for (name, text) in rust_files() {
        let has = text.lines().any(|line| has_word(code_of(line), "unsafe"));
        let mut story = text.lines().take_while(|line| line.starts_with("#!") || line.starts_with("//!"));
        let explained = story.any(|line| line.contains("Obligations"));
        match (has, UNSAFE.contains(&name.as_str())) {
            (true, false) if UNSAFE_TESTS.contains(&name.as_str()) => {}
            (true, false) => broken.push(format!("{name}: has `unsafe` and is not in the list")),
            (false, true) => broken.push(format!("{name}: has no `unsafe` and is in the list")),
            (true, true) if !explained => broken.push(format!("{name}: does not open with its obligations")),
            _ => {}
        }
    }
    for name in UNSAFE.iter().filter(|name| !root().join(name).exists()) {
        broken.push(format!("{name}: in the list, and not there"));
    }
    none(&broken);
}

#[test]
fn every_file_opens_with_a_sentence_about_itself() {
    let silent = rust_files().into_iter().filter(|(_, text)| {
        let first = text.lines().find(|line| !line.starts_with("#!["));
        !first.is_some_and(|line| line.starts_with("//! "))
    });
    none(&silent.map(|(name, _)| format!("{name}: does not open with `//! `")).collect::<Vec<_>>());
}

#[test]
fn files_fit_into_a_head() {
    let mut broken = Vec::new();
    for (name, text) in rust_files() {
        let lines = text.lines().count();
        let exception = LONG.iter().find(|(long, _, _)| *long == name);
        let allowed = exception.map_or(MAX_LINES, |(_, allowed, _)| *allowed);
        if lines > allowed {
            broken.push(format!("{name}: {lines} lines, may have {allowed}"));
        }
        if exception.is_some() && lines <= MAX_LINES {
            broken.push(format!("{name}: {lines} lines, needs no exception any more"));
        }
    }
    for (name, _, _) in LONG.iter().filter(|(name, _, _)| !root().join(name).exists()) {
        broken.push(format!("{name}: in the list, and not there"));
    }
    none(&broken);
}

#[test]
fn lines_fit_onto_a_screen_and_have_no_loose_ends() {
    // Spelt so that this file does not find itself.
    let unfinished = ["todo", "unimplemented", "dbg"].map(|name| format!("{name}!("));
    let ignored = format!("#[{}", "ignore");
    let mut broken = Vec::new();
    for (name, text) in rust_files() {
        for (number, line) in (1..).zip(text.lines()) {
            let columns = line.chars().count();
            if columns > MAX_COLUMNS {
                broken.push(format!("{name}:{number}: {columns} columns, may have {MAX_COLUMNS}"));
            }
            if line.contains('\t') || line.ends_with(' ') {
                broken.push(format!("{name}:{number}: a tab, or a space at the end"));
            }
            if unfinished.iter().any(|word| line.contains(word)) || line.contains(&ignored) {
                broken.push(format!("{name}:{number}: unfinished: {}", line.trim()));
            }
        }
        if !text.ends_with('\n') || text.ends_with("\n\n") {
            broken.push(format!("{name}: does not end with one newline"));
        }
    }
    none(&broken);
}

#[test]
fn examples_are_small_and_say_what_to_type() {
    let mut broken = Vec::new();
    let examples = EXAMPLES.iter().flat_map(|(folder, package, examples)| {
        examples.iter().map(move |example| (folder, package, example))
    });
    for (folder, package, example) in examples {
        let text = read(&root().join(format!("{folder}/{example}.rs")));
        let lines = text.lines().count();
        if lines >= MAX_EXAMPLE_LINES {
            broken.push(format!("{example}: {lines} lines, has to have less than {MAX_EXAMPLE_LINES}"));
        }
        let command = format!("//! cargo run --release{package} --example {example} -- --listen ");
        if !text.lines().take(8).any(|line| line.starts_with(&command)) {
            broken.push(format!("{example}: does not begin with `{command}`"));
        }
    }
    none(&broken);
}

/// Fails with all that was found, a line each.
fn none(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn manifest(path: &Path) -> Table {
    read(path).parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The tables of dependencies of a manifest, by name, those of one target only included.
fn dependencies(manifest: &Table) -> Vec<(&str, &Table)> {
    const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let targets = manifest.get("target").and_then(Value::as_table);
    let tables = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table).chain([manifest]);
    tables
        .flat_map(|table| {
            KINDS.into_iter().map(move |kind| (kind, table.get(kind).and_then(Value::as_table)))
        })
        .filter_map(|(kind, dependencies)| Some((kind, dependencies?)))
        .collect()
}

/// Every Rust file of ours: its path from the root, and its text.
fn rust_files() -> Vec<(String, String)> {
    let mut open: Vec<PathBuf> =
        ["crates", "examples", "benches", "tests", "fuzz", "xtask"].map(|folder| root().join(folder)).into();
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() && !path.ends_with("target") {
            open.extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).expect("below the root").display().to_string();
            found.push((name, read(&path)));
        }
    }
    found.sort();
    assert!(found.len() > 50, "found only {} files", found.len());
    found
}

/// A line without its comment. Text in quotation marks may have no `//` before the code that matters.
fn code_of(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Whether `word` stands in `code` by itself, outside of quotation marks.
fn has_word(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.split('"').step_by(2).any(|part| part.split(|c| !is_part(c)).any(|token| token == word))
}
