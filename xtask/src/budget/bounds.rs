//! The bounds: what a request may cost, read from a file and held against what was measured.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;

use toml::{Table, Value};

/// A bound that is further above what it would become than this, and than its slack, is needlessly loose.
const LOOSE: f64 = 0.10;

/// What is counted. Names are those of the tables in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Measure {
    Instructions,
    Allocations,
    Copied,
    SystemCalls,
}

impl Measure {
    const ALL: [Measure; 4] =
        [Measure::Instructions, Measure::Allocations, Measure::Copied, Measure::SystemCalls];

    fn key(self) -> &'static str {
        match self {
            Measure::Instructions => "instructions",
            Measure::Allocations => "allocations",
            Measure::Copied => "copied",
            Measure::SystemCalls => "system-calls",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Measure::Instructions => "user-space instructions per request",
            Measure::Allocations => "allocations per request",
            Measure::Copied => "bytes copied per request",
            Measure::SystemCalls => "system calls per request",
        }
    }

    /// The figures that mean something.
    fn decimals(self) -> usize {
        match self {
            Measure::SystemCalls | Measure::Allocations => 3,
            Measure::Copied => 1,
            Measure::Instructions => 0,
        }
    }

    fn rounded_up(self, figure: f64) -> f64 {
        let unit = 10_f64.powi(self.decimals() as i32);
        // What is a whole number but for the last bits of a division stays one, and nothing is never less than that.
        (figure * unit - 1e-6).ceil().abs() / unit
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

/// What was measured of one scene.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) measure: Measure,
    pub(super) name: String,
    pub(super) measured: f64,
    /// The part by which it differs from one run, or one machine, to another.
    pub(super) slack: f64,
}

impl Row {
    /// What becomes its bound.
    fn bound(&self) -> f64 {
        self.measure.rounded_up(self.measured * (1.0 + self.slack))
    }
}

/// What the file says.
#[derive(Debug, Default)]
pub(super) struct Bounds(BTreeMap<(Measure, String), f64>);

/// What is to be said of one row.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) measure: Measure,
    name: String,
    measured: Option<f64>,
    bound: Option<f64>,
    slack: f64,
}

impl Bounds {
    /// Reads the file: a table for each measure, with a bound for each scene.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn parse(text: &str) -> Result<Bounds, String> {
        let file: Table = text.parse().map_err(|error| format!("{error}"))?;
        let mut bounds = BTreeMap::new();
        for (key, table) in &file {
            let measure = Measure::ALL.into_iter().find(|measure| measure.key() == key);
            let measure = measure
                .ok_or_else(|| format!("[{key}] is none of {}", Measure::ALL.map(Measure::key).join(", ")))?;
            let rows = table.as_table().ok_or_else(|| format!("{key} is to be a table"))?;
            for (name, value) in rows {
                let bound = match value {
                    Value::Integer(n) => *n as f64,
                    Value::Float(n) => *n,
                    _ => return Err(format!("{key}.{name} is to be a number")),
                };
                bounds.insert((measure, name.clone()), bound);
            }
        }
        Ok(Bounds(bounds))
    }

    /// Holds what was measured against it: every row has a bound, and every bound is of a row. What was skipped is not
    /// judged.
    pub(super) fn judge(&self, rows: &[Row], skipped: &[(Measure, String)]) -> Vec<Verdict> {
        let mut verdicts: Vec<Verdict> = rows.iter().map(|row| self.judge_row(row)).collect();
        for ((measure, name), bound) in &self.0 {
            let is_measured = rows.iter().any(|row| row.measure == *measure && row.name == *name);
            if !is_measured && !is_skipped(*measure, skipped) {
                let (measured, bound, slack) = (None, Some(*bound), 0.0);
                verdicts.push(Verdict { measure: *measure, name: name.clone(), measured, bound, slack });
            }
        }
        verdicts.sort_by_key(|verdict| verdict.measure);
        verdicts
    }

    fn judge_row(&self, row: &Row) -> Verdict {
        Verdict {
            measure: row.measure,
            name: row.name.clone(),
            measured: Some(row.measured),
            bound: self.0.get(&(row.measure, row.name.clone())).copied(),
            slack: row.slack,
        }
    }
}

fn is_skipped(measure: Measure, skipped: &[(Measure, String)]) -> bool {
    skipped.iter().any(|(skipped, _)| *skipped == measure)
}

impl Verdict {
    /// Why it fails, if it does.
    pub(super) fn complaint(&self) -> Option<String> {
        let Verdict { measure, name, .. } = self;
        let digits = measure.decimals().max(1);
        match (self.measured, self.bound) {
            (Some(measured), Some(bound)) if measured > bound + 1e-9 => Some(format!(
                "TOO DEAR: {name}: {measured:.digits$} {measure}, where {bound:.digits$} are allowed{}",
                if bound > 0.0 {
                    format!(" ({:+.1} %)", 100.0 * (measured / bound - 1.0))
                } else {
                    String::new()
                }
            )),
            (Some(_), None) => {
                Some(format!("NO BOUND: {name}: [{}] of the file has none for it", measure.key()))
            }
            (None, Some(_)) => {
                Some(format!("NOT MEASURED: {name}: [{}] has a bound for what is no more", measure.key()))
            }
            _ => None,
        }
    }

    /// What could be better, and is no failure.
    pub(super) fn note(&self) -> Option<String> {
        let (measured, bound) = self.measured.zip(self.bound)?;
        let due = self.measure.rounded_up(measured * (1.0 + self.slack));
        (bound > due * (1.0 + LOOSE.max(self.slack))).then(|| {
            format!(
                "loose: {}: what has become cheaper is kept by `cargo xtask budget --write`: {bound} -> {due} {}",
                self.name, self.measure
            )
        })
    }
}

/// The line of a table.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.measure.decimals().max(1);
        let figure = |figure: Option<f64>| figure.map_or("-".into(), |figure| format!("{figure:.digits$}"));
        let room = self.measured.zip(self.bound).map(|(measured, bound)| match measured {
            _ if measured == bound => "none".into(),
            0.0 => format!("{bound:.0}"),
            _ => format!("{:.1} %", 100.0 * (bound / measured - 1.0)),
        });
        let (measured, bound) = (figure(self.measured), figure(self.bound));
        write!(f, "{:<36}{measured:>12}{bound:>12}{:>10}", self.name, room.unwrap_or_default())
    }
}

/// The file with what was measured as its bounds. What it opens with stays, and so do bounds of what was skipped.
pub(super) fn written(text: &str, rows: &[Row], bounds: &Bounds, skipped: &[(Measure, String)]) -> String {
    let head = text.lines().take_while(|line| !line.starts_with('['));
    let mut file = head.map(|line| format!("{line}\n")).collect::<String>().trim_end().to_owned();
    for measure in Measure::ALL {
        // Writing to a string cannot fail.
        let _ = write!(file, "\n\n[{}]", measure.key());
        let measured = rows.iter().filter(|row| row.measure == measure);
        let mut lines: Vec<(&str, f64)> = measured.map(|row| (row.name.as_str(), row.bound())).collect();
        if is_skipped(measure, skipped) {
            let kept = bounds.0.iter().filter(|((of, _), _)| *of == measure);
            lines = kept.map(|((_, name), bound)| (name.as_str(), *bound)).collect();
        }
        for (name, bound) in lines {
            let _ = write!(file, "\n{name} = {bound}");
        }
    }
    file + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(measure: Measure, name: &str, measured: f64, slack: f64) -> Row {
        Row { measure, name: name.into(), measured, slack }
    }

    fn bounds(text: &str) -> Bounds {
        Bounds::parse(text).expect("a good file")
    }

    fn complaints(text: &str, rows: &[Row]) -> Vec<String> {
        bounds(text).judge(rows, &[]).iter().filter_map(Verdict::complaint).collect()
    }

    const FILE: &str = "# What it says.\n\n[instructions]\necho = 1030\n\n[allocations]\necho = 0\n\n[copied]\n\
        echo = 64\n\n[system-calls]\necho = 2.02\n";

    fn as_bound() -> Vec<Row> {
        vec![
            row(Measure::Instructions, "echo", 1000.0, 0.03),
            row(Measure::Allocations, "echo", 0.0, 0.0),
            row(Measure::Copied, "echo", 64.0, 0.0),
            row(Measure::SystemCalls, "echo", 2.0, 0.01),
        ]
    }

    #[test]
    fn what_is_within_its_bounds_passes_without_a_word() {
        let verdicts = bounds(FILE).judge(&as_bound(), &[]);
        assert!(verdicts.iter().all(|verdict| verdict.complaint().is_none() && verdict.note().is_none()));
        assert_eq!(
            verdicts[0].to_string(),
            "echo                                      1000.0      1030.0     3.0 %"
        );
    }

    #[test]
    fn one_of_anything_more_is_too_dear() {
        // 31 instructions, one allocation in a thousand requests, one byte, one system call.
        for (index, measured) in [(0, 1031.0), (1, 0.001), (2, 65.0), (3, 3.0)] {
            let mut rows = as_bound();
            rows[index].measured = measured;
            let complaints = complaints(FILE, &rows);
            assert_eq!(complaints.len(), 1, "{complaints:?}");
            assert!(complaints[0].starts_with("TOO DEAR: echo: "), "{complaints:?}");
        }
    }

    #[test]
    fn what_has_no_bound_and_bounds_of_nothing_are_told() {
        let mut rows = as_bound();
        rows[0].name = "ohce".into();
        let complaints = complaints(FILE, &rows);
        assert_eq!(
            complaints,
            [
                "NO BOUND: ohce: [instructions] of the file has none for it",
                "NOT MEASURED: echo: [instructions] has a bound for what is no more"
            ]
        );
    }

    #[test]
    fn what_became_cheaper_is_noted() {
        let mut rows = as_bound();
        rows[0].measured = 900.0;
        let verdicts = bounds(FILE).judge(&rows, &[]);
        let notes: Vec<String> = verdicts.iter().filter_map(Verdict::note).collect();
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].ends_with("1030 -> 927 user-space instructions per request"), "{notes:?}");
    }

    #[test]
    fn what_was_skipped_is_not_judged_and_keeps_its_bounds() {
        let skipped = [(Measure::SystemCalls, "no strace".into())];
        let rows = &as_bound()[..3];
        let verdicts = bounds(FILE).judge(rows, &skipped);
        assert_eq!(verdicts.len(), 3);
        assert_eq!(written(FILE, rows, &bounds(FILE), &skipped), FILE);
    }

    #[test]
    fn what_is_written_is_what_was_measured_and_some_slack() {
        let file = written(FILE, &as_bound(), &Bounds::default(), &[]);
        assert_eq!(file, FILE);
        let mut rows = as_bound();
        rows[0].measured = 2000.2;
        assert!(written(FILE, &rows, &Bounds::default(), &[]).contains("\necho = 2061\n"));
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused_in_words() {
        let error = |text: &str| Bounds::parse(text).expect_err("a bad file");
        assert_eq!(
            error("[time]\necho = 1"),
            "[time] is none of instructions, allocations, copied, system-calls"
        );
        assert_eq!(error("[copied]\necho = \"few\""), "copied.echo is to be a number");
        assert_eq!(error("copied = 1"), "copied is to be a table");
    }
}
