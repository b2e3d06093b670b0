//! What no compiler checks: the core stays pure. It is told the time and what was seen; it never looks for itself. And its judges take
//! nobody's word for what it should have done.

use std::fs;
use std::path::{Path, PathBuf};

/// Words that have no business in `src/core`, and why. `clippy.toml` bans the calls; this bans the way to them.
const BANNED: [(&str, &str); 27] = [
    ("async", "no async: the watch is fed and asked"),
    (".await", "no async: the watch is fed and asked"),
    ("tokio", "no async runtime"),
    ("futures", "no async: the watch is fed and asked"),
    ("SystemTime::now", "no clock: `now` is a parameter"),
    ("Instant", "no clock: `now` is a parameter"),
    ("elapsed", "no clock: `now` is a parameter"),
    ("std::env", "no environment: settings are parameters"),
    ("option_env!", "no environment: settings are parameters"),
    ("std::fs", "no I/O"),
    ("std::io", "no I/O"),
    ("std::process", "no I/O"),
    ("std::thread", "no threads"),
    ("TcpListener", "no I/O"),
    ("TcpStream", "no I/O"),
    ("UdpSocket", "no I/O"),
    ("hyper", "no I/O"),
    ("rustls", "no I/O"),
    ("eprintln!", "no I/O: what is to be logged leaves as data"),
    ("println!", "no I/O: what is to be logged leaves as data"),
    ("dbg!", "no I/O: what is to be logged leaves as data"),
    ("aws_", "no AWS SDK: what EC2 showed is in `model`"),
    ("lambda_runtime", "no Lambda"),
    ("fastrand", "no randomness: the same input gives the same decision"),
    ("rand", "no randomness: the same input gives the same decision"),
    ("HashMap", "no unordered iteration: BTreeMap"),
    ("HashSet", "no unordered iteration: BTreeSet"),
];

/// The lines that break a rule, but for comments and what follows the unit tests' `#[cfg(test)]`.
fn breaches(source: &str) -> Vec<String> {
    let code = source.lines().take_while(|line| line.trim() != "#[cfg(test)]").enumerate();
    let mut found = Vec::new();
    for (index, line) in code {
        let line = line.split("//").next().unwrap();
        for (word, why) in BANNED {
            if has_word(line, word) {
                found.push(format!("{}: {}: {why}", index + 1, line.trim()));
            }
        }
    }
    found
}

/// Whether `word` stands in the line as a word: `rand` is not in `operand`. One that ends in `_` or is a prefix by nature may go on.
fn has_word(line: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let may_go_on = matches!(word, "aws_" | "futures" | "tokio");
    line.match_indices(word).any(|(at, _)| {
        let starts = !line[..at].chars().next_back().is_some_and(is_word);
        let ends = !line[at + word.len()..].chars().next().is_some_and(is_word);
        starts && (ends || may_go_on)
    })
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn the_core_is_pure() {
    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core");
    let files = sources(&core);
    assert!(files.len() >= 5, "the core is not where this test looks for it: {files:?}");
    let mut found = Vec::new();
    for file in &files {
        let source = fs::read_to_string(file).unwrap();
        found.extend(breaches(&source).into_iter().map(|breach| format!("{}:{breach}", file.display())));
    }
    assert!(found.is_empty(), "src/core must stay pure:\n{}", found.join("\n"));
}

/// Those who say whether the core did right.
const JUDGES: [&str; 2] = ["src/sim/check.rs", "tests/it/model/judge.rs"];
/// The ways from there to the core: itself, and what hands on its types.
const WAYS_TO_THE_CORE: [&str; 6] = ["core", "seam", "world", "chaos", "branch", "drive"];

fn lines_that_know_the_core(source: &str) -> Vec<&str> {
    let knows = |line: &&str| {
        let line = line.split("//").next().unwrap();
        WAYS_TO_THE_CORE.iter().any(|word| has_word(line, word))
    };
    source.lines().filter(knows).collect()
}

#[test]
fn the_judges_know_nothing_of_the_core() {
    for judge in JUDGES {
        let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(judge)).unwrap();
        assert_eq!(lines_that_know_the_core(&source), [""; 0], "{judge}");
    }
    for line in [
        "use crate::core::decide::Why;",
        "use eipwatch::core;",
        "use crate::{core, embedded};",
        "let at = super::world::START_MS;",
    ] {
        assert_eq!(lines_that_know_the_core(line), [line]);
    }
    assert_eq!(lines_that_know_the_core("// Nothing of `crate::core`.\nuse crate::embedded::ec2::Ec2;"), [""; 0]);
}

#[test]
fn a_breach_is_found() {
    for line in [
        "use std::collections::HashMap;",
        "pub async fn look() {}",
        "let now = SystemTime::now();",
        "let now = std::time::Instant::now();",
        "use std::net::{Ipv4Addr, TcpStream};",
        "let n = fastrand::u8(..);",
        "use aws_sdk_ec2::Client;",
        "eprintln!(\"x\");",
        "use tokio_rustls::TlsConnector;",
    ] {
        assert!(!breaches(line).is_empty(), "{line}");
    }
    let fine = "// println!(\"a comment\")\nlet operand = instance; // async\nuse std::net::Ipv4Addr;\n#[cfg(test)]\nuse std::fs;";
    assert_eq!(breaches(fine), Vec::<String>::new());
}

/// `make mutants` runs seldom: a change that takes a planted bug its place is to be told at once.
#[test]
fn every_planted_bug_still_has_its_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let patches = fs::read_dir(root.join("tests/mutants")).unwrap().map(|entry| entry.unwrap().path());
    let patches: Vec<_> =
        patches.filter(|path| path.extension().is_some_and(|extension| extension == "patch")).collect();
    assert!(patches.len() >= 15, "the planted bugs are not where this test looks for them: {patches:?}");
    for patch in patches {
        let text = fs::read_to_string(&patch).unwrap();
        let file = text.lines().find_map(|line| line.strip_prefix("--- a/")).unwrap();
        let hunk =
            text.lines().skip_while(|line| !line.starts_with("@@")).skip(1).filter(|line| !line.starts_with('+'));
        let old: String = hunk.map(|line| format!("{}\n", line.get(1..).unwrap_or_default())).collect();
        let source = fs::read_to_string(root.join(file)).unwrap();
        assert_eq!(source.matches(&old).count(), 1, "{}: where it belongs in {file}:\n{old}", patch.display());
    }
}
