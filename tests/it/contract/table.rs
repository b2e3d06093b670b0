//! The table of `docs/contract-tests.md` is kept in step with the tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The names of all functions that are tests, in the folders given.
fn tests(folders: &[PathBuf]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = folders.to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).expect("a source");
                let mut is_test = false;
                for line in source.lines().map(str::trim) {
                    if line == "#[test]" || line.starts_with("#[tokio::test") {
                        is_test = true;
                    } else if let Some(name) = line.strip_prefix("fn ").or(line.strip_prefix("async fn ")) {
                        if is_test {
                            found.insert(name.split('(').next().unwrap_or_default().to_owned());
                        }
                        is_test = false;
                    }
                }
            }
        }
    }
    found
}

fn document() -> String {
    file("docs/contract-tests.md")
}

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

/// The names in backquotes of the table's last column.
fn named(text: &str) -> BTreeSet<String> {
    let rows = text.lines().filter(|line| line.starts_with('|') && line.contains('`'));
    rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn every_test_of_the_table_exists_and_every_test_here_is_in_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = tests(&[root.join("tests"), root.join("src")]);
    let named = named(&document());
    let missing: Vec<_> = named.difference(&all).collect();
    assert!(missing.is_empty(), "docs/contract-tests.md names tests that do not exist: {missing:?}");
    let here = tests(&[root.join("tests/it/contract")]);
    let unnamed: Vec<_> = here.difference(&named).filter(|name| !name.starts_with("every_test_of_the_table")).collect();
    assert!(unnamed.is_empty(), "docs/contract-tests.md does not name: {unnamed:?}");
}

#[test]
fn every_test_of_the_tables_of_safety_exists_and_every_rule_has_some() {
    let text = file("SAFETY.md");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = tests(&[root.join("tests"), root.join("src")]);
    // The last table names commands for its reader, not tests.
    let (tested, _) = text.split_once("## What could not be tried").expect("the last chapter");
    let missing: Vec<_> = named(tested).into_iter().filter(|name| !all.contains(name)).collect();
    assert!(missing.is_empty(), "SAFETY.md names tests that do not exist: {missing:?}");
    for rule in 1..=13 {
        let row = tested.lines().find(|line| line.starts_with(&format!("| {rule} |")));
        let row = row.unwrap_or_else(|| panic!("SAFETY.md says nothing of rule {rule}"));
        let held = named(row).into_iter().any(|name| name.starts_with(&format!("rule_{rule}_")));
        assert!(held, "SAFETY.md names no test of rule {rule}");
    }
    // What simulation and model object to is named as they name it.
    let sources =
        ["src/sim/check.rs", "src/sim/chaos.rs", "src/sim/world.rs", "tests/it/model/judge.rs"].map(file).concat();
    let rows =
        tested.lines().filter(|line| line.starts_with("| ") && line.as_bytes().get(2).is_some_and(u8::is_ascii_digit));
    for objection in rows.flat_map(|row| row.split('|').skip(3).take(2)).flat_map(|cell| cell.split(',')).map(str::trim)
    {
        let known =
            ["the same", "not in the model"].contains(&objection) || sources.contains(&format!("\"{objection}\""));
        assert!(known, "SAFETY.md: nobody objects with '{objection}'");
    }
    let makefile = file("Makefile");
    for target in text.split("`make ").skip(1).filter_map(|rest| rest.split(['`', ' ']).next()) {
        assert!(makefile.contains(&format!("\n{target}:")), "SAFETY.md names `make {target}`");
    }
}

#[test]
fn every_why_of_the_contract_has_a_test() {
    let here = tests(&[Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/contract")]);
    for why in [
        "no-holder",
        "holder-gone",
        "holder-leaving",
        "holder-draining",
        "holder-unhealthy",
        "failback",
        "manual",
        "last-resort",
        "healthy",
        "no-candidate",
        "manual-mode",
        "outsider",
        "settling",
        "moved-elsewhere",
        "max-moves",
        "no-free-private-address",
        "not-permitted",
        "refused",
    ] {
        assert!(here.contains(&format!("why_{}", why.replace('-', "_"))), "{why}");
    }
}
