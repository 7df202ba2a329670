//! `docs/hazards.md` held against what there is: it names every mutation under its hazard, and every fault.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::mutations::MUTATIONS;

/// Where the faults and recoveries of the simulated ring have their texts.
const COUNTED: &str = "crates/core/src/ring/simulated/faults.rs";

fn text_of(file: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("within the workspace");
    fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What stands between quotes.
fn quoted(text: &str) -> BTreeSet<String> {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    one_line.split('"').skip(1).step_by(2).map(String::from).collect()
}

/// The texts of one enumeration of what is counted.
fn counted(name: &str) -> BTreeSet<String> {
    let source = text_of(COUNTED);
    let start = source.find(&format!("    {name}, ALL, {{")).expect("it is there");
    let end = source[start..].find("\n}").expect("it ends");
    quoted(&source[start..start + end])
}

/// What all lists of one kind name, with the heading each stands under.
fn named(kind: &str) -> BTreeSet<(String, String)> {
    let page = text_of("docs/hazards.md");
    let mut named = BTreeSet::new();
    for section in page.split("\n## ").skip(1) {
        let (hazard, rest) = section.split_once('\n').expect("a heading, and what is below it");
        let lists = rest.split("\n- ").skip(1).filter_map(|list| list.strip_prefix(kind));
        let names = lists.flat_map(|list| quoted(list.split("\n\n").next().unwrap_or_default()));
        named.extend(names.map(|name| (hazard.to_owned(), name)));
    }
    named
}

fn names_only(named: BTreeSet<(String, String)>) -> BTreeSet<String> {
    named.into_iter().map(|(_, name)| name).collect()
}

fn same<T: Ord + std::fmt::Debug>(page: &BTreeSet<T>, there: &BTreeSet<T>) {
    let (missing, gone): (Vec<_>, Vec<_>) =
        (there.difference(page).collect(), page.difference(there).collect());
    assert!(
        missing.is_empty() && gone.is_empty(),
        "docs/hazards.md does not name {missing:#?}, and names {gone:#?}, which are not there"
    );
}

#[test]
fn every_mutation_stands_under_its_hazard() {
    let there = MUTATIONS.iter().map(|mutation| (mutation.hazard.to_owned(), mutation.name.to_owned()));
    same(&named("Mutations:"), &there.collect());
}

#[test]
fn every_fault_is_of_some_hazard() {
    same(&names_only(named("Faults:")), &counted("Fault"));
}

#[test]
fn recoveries_are_ones_that_are_counted() {
    let page = names_only(named("Recoveries:"));
    let gone: Vec<_> = page.difference(&counted("Recovery")).cloned().collect();
    assert!(gone.is_empty(), "docs/hazards.md names {gone:#?}, which nobody counts");
}

#[test]
fn every_mutation_applies_at_one_place() {
    for mutation in MUTATIONS {
        let times = text_of(mutation.file).matches(mutation.old).count();
        assert_eq!(times, 1, "{:?} in {}", mutation.name, mutation.file);
    }
}
