//! The regression guard: instructions, counted by callgrind, against committed figures. A busy machine cannot change them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use eipwatch::core::event;
use eipwatch::sim::world::World;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::page::{Section, said};
use crate::scale::{self, Prepared};
use crate::table::{table, thousands};

/// By how many per cent a figure may be above the committed one.
const MARGIN_PERCENT: f64 = 3.0;
/// Set, the figures found are the ones to commit.
const ACCEPT: &str = "EIPWATCH_BENCH_ACCEPT";
/// Clusters that one round decides on and reads.
const CLUSTERS: usize = 100;
/// Clusters of the sweep: what grows with their square shows here.
const SWEPT: usize = 1_000;
/// Scheduled invocations of 55 s in the simulated hour.
const MINUTES: u64 = 60;

/// What is counted: its word, what one unit of it is, units a round, rounds.
const WORKS: [(&str, &str, u64, u64); 5] = [
    ("decide", "decide on a cluster whose holder fails", CLUSTERS as u64, 10),
    ("read", "read a cluster out of EC2's tags", CLUSTERS as u64, 10),
    ("parse", "parse an event, the mean of all samples", 1, 20),
    ("sweep", "sweep a cluster of 1,000, simulated", SWEPT as u64, 1),
    ("hour", "an hour of a quiet cluster, simulated", 1, 1),
];

#[derive(Serialize, Deserialize)]
struct Committed {
    /// Another compiler counts otherwise.
    rustc: String,
    instructions: BTreeMap<String, u64>,
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/figures/instructions.json")
}

/// What `work WORD ROUNDS` does: so many rounds after its preparations.
pub fn work(word: &str, rounds: u64) {
    let mut done = 0;
    match word {
        "decide" | "read" => {
            let case = Prepared::new(CLUSTERS);
            for _ in 0..rounds {
                done += if word == "decide" { case.decide() } else { case.read() };
            }
        }
        "parse" => {
            let samples = samples();
            for _ in 0..rounds {
                done += samples.iter().filter(|sample| event::parse(sample).is_ok()).count();
            }
        }
        "sweep" => {
            for _ in 0..rounds {
                done += scale::sweep(SWEPT);
            }
        }
        "hour" => {
            for _ in 0..rounds {
                done += hour();
            }
        }
        _ => panic!("{word} is no work"),
    }
    assert!(rounds == 0 || done > 0);
    println!("{done}");
}

fn samples() -> Vec<Value> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("events");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths.iter().map(|path| serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()).collect()
}

fn hour() -> usize {
    let mut world = World::pair();
    world.keep_logs = false;
    for minute in 0..MINUTES {
        world.scheduled(minute * 60_000);
    }
    world.run();
    usize::try_from(world.probes).unwrap()
}

/// Instructions of so many rounds, preparations included.
fn count(word: &str, rounds: u64) -> Result<u64, String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["work", word, &rounds.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let found =
        text.lines().find_map(|line| line.split("Collected :").nth(1)).and_then(|found| found.trim().parse().ok());
    found.ok_or_else(|| format!("callgrind counted nothing: {text}"))
}

/// Counts all. The second is what grew beyond the margin.
pub fn measure() -> (Option<Section>, Vec<String>) {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("instructions: left out, valgrind is not installed");
        return (None, Vec::new());
    }
    let rustc = said("rustc", &["--version"]);
    let committed: Option<Committed> =
        fs::read_to_string(file()).ok().and_then(|text| serde_json::from_str(&text).ok());
    let comparable = committed.as_ref().is_some_and(|committed| committed.rustc == rustc);
    let (mut found, mut rows, mut grown) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (word, text, units, rounds) in WORKS {
        let units = if word == "parse" { samples().len() as u64 } else { units };
        let (without, with) = match (count(word, 0), count(word, rounds)) {
            (Ok(without), Ok(with)) => (without, with),
            (Err(error), _) | (_, Err(error)) => {
                println!("{error}");
                continue;
            }
        };
        let each = with.saturating_sub(without) / (units * rounds);
        let before = committed.as_ref().and_then(|committed| committed.instructions.get(word)).copied();
        let change = before.map(|before| (each as f64 / before as f64 - 1.0) * 100.0);
        if let Some(change) = change.filter(|change| comparable && *change > MARGIN_PERCENT) {
            grown.push(format!("{word}: {} instructions, {change:.1} % more than committed", thousands(each)));
        }
        let change = change.map_or(String::new(), |change| format!("{change:+.1} %"));
        rows.push(vec![text.to_owned(), thousands(each), before.map_or(String::new(), thousands), change]);
        found.insert(word.to_owned(), each);
    }
    if std::env::var_os(ACCEPT).is_some() {
        let text = serde_json::to_string_pretty(&Committed { rustc, instructions: found }).unwrap();
        fs::write(file(), text + "\n").unwrap();
        grown.clear();
    }
    let body = format!(
        "Counted by callgrind in the release profile, as the difference between runs with and without the work. `make bench` fails if one is more than \
         {MARGIN_PERCENT} % above `benches/figures/instructions.json`, as long as the compiler is the same; `{ACCEPT}=1` commits what was found.\n\n{}\n",
        table(&["work", "instructions", "committed", "change"], &rows)
    );
    (Some(Section::new("instructions", "Instructions", "make bench ONLY=instructions", body)), grown)
}
