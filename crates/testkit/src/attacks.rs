//! The count of a group of attacks, held against the table in SECURITY.md.
//!
//! A test tries what an attacker would try, says of each attempt whether it failed, and closes the
//! group with [`Attacks::finish`]: it fails if an attempt succeeded, and if SECURITY.md does not
//! state the same numbers. A row of the table therefore is what `make test` has just done.

use std::path::{Path, PathBuf};

/// One row of the table: attempts of one kind.
#[derive(Debug)]
#[must_use = "the group is judged by `finish`"]
pub struct Attacks {
    group: &'static str,
    tried: usize,
    succeeded: Vec<String>,
}

impl Attacks {
    /// Begins a group. The name is the first cell of its row in SECURITY.md.
    pub fn group(group: &'static str) -> Self {
        Self { group, tried: 0, succeeded: Vec::new() }
    }

    /// Counts an attempt. `seen` is what came of it, for the message if it succeeded.
    pub fn attempt(&mut self, attack: &str, failed: bool, seen: impl std::fmt::Debug) {
        self.tried += 1;
        if !failed {
            self.succeeded.push(format!("{attack}: {seen:?}"));
        }
    }

    /// Judges the group.
    ///
    /// # Panics
    /// When an attempt succeeded, or SECURITY.md has another number or no such row.
    pub fn finish(self) {
        assert!(
            self.succeeded.is_empty(),
            "{} of {} attacks of {:?} succeeded:\n{}",
            self.succeeded.len(),
            self.tried,
            self.group,
            self.succeeded.join("\n")
        );
        let row = format!("| {} | {} | {} |", self.group, self.tried, self.tried);
        let table = rows(&root().join("SECURITY.md"));
        assert!(table.contains(&row), "SECURITY.md has no row {row:?} in its table of attacks");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The heading that the table stands below.
const HEADING: &str = "## Attacks, as tests";

/// The rows of the table.
fn rows(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).expect("the page is part of the source");
    let (_, section) = text.split_once(HEADING).expect("the page has the table's heading");
    let rows =
        section.lines().filter(|line| line.starts_with('|') && line.matches('|').count() == 4);
    rows.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row whose test was removed or renamed would go on promising.
    #[test]
    fn every_row_of_the_table_has_a_group_that_counts_it() {
        let mut groups = Vec::new();
        sources(&root().join("crates"), &mut groups);
        let rows = rows(&root().join("SECURITY.md"));
        let rows: Vec<&str> = rows.iter().filter_map(|row| row.split('|').nth(1)).collect();
        let of_attacks = rows.iter().map(|cell| cell.trim());
        for cell in of_attacks.filter(|cell| !matches!(*cell, "attack" | "---")) {
            let call = format!("Attacks::group({cell:?})");
            assert!(groups.iter().any(|text| text.contains(&call)), "no test has {call}");
        }
    }

    fn sources(directory: &Path, into: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }

    #[test]
    #[should_panic(expected = "1 of 2 attacks of \"x\" succeeded:\nsecond: 200")]
    fn a_group_with_a_successful_attack_fails() {
        let mut attacks = Attacks::group("x");
        attacks.attempt("first", true, 403);
        attacks.attempt("second", false, 200);
        attacks.finish();
    }

    #[test]
    #[should_panic(expected = "has no row")]
    fn a_group_that_the_page_does_not_state_fails() {
        Attacks::group("a group that is not there").finish();
    }
}
