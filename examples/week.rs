//! A week's log of ten clusters, written as the function would write it, to measure how long a replay of it takes:
//!
//! ```text
//! cargo run --release --no-default-features --example week -- week.log
//! time target/release/eipwatch replay week.log --policy fall=2
//! ```
//!
//! Seven days are simulated one by one, each with its own misfortunes, and their times put one after the other.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::ExitCode;

use eipwatch::simulate::{scenario, write_log};

const CLUSTERS: usize = 10;
const DAYS: usize = 7;
/// The simulation's days: a day begins at 07:30 of one and ends on the other.
const FIRST: usize = 22;

fn scenario_of(day: usize) -> String {
    let mut text = format!("title = \"Day {day}\"\nduration = \"24h\"\nseed = {day}\n");
    for cluster in 0..CLUSTERS {
        text.push_str(&format!("[[cluster]]\nname = \"web{cluster}\"\n"));
    }
    for node in 0..CLUSTERS * 2 {
        text.push_str(&format!(
            "[[node]]\nname = \"web{}-{}\"\ncluster = \"web{}\"\n",
            node / 2,
            node % 2 + 1,
            node / 2
        ));
    }
    for cluster in 0..CLUSTERS {
        let hour = (day * 7 + cluster * 5) % 24;
        text.push_str(&format!(
            "[[fault]]\nat = \"{hour}h{}m\"\nwhat = \"dead-service\"\nnode = \"holder of web{cluster}\"\nfor = \"4m\"\n",
            10 + cluster
        ));
    }
    text.push_str("[transient]\nper_hour = 0.5\nlength = \"200ms to 3s\"\nwhat = \"cut\"\n");
    text
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("the file to write is missing")?;
    let mut out = BufWriter::new(File::create(&path)?);
    for day in 0..DAYS {
        let scenario = scenario::parse(&scenario_of(day))?;
        let mut log = Vec::new();
        write_log(&scenario, "", &mut log)?;
        let text = String::from_utf8(log)?;
        for line in text.lines() {
            let later = line
                .replace(&format!("2026-11-{:02}T", FIRST + 1), &format!("2026-11-{:02}\u{1}T", FIRST + 1 + day))
                .replace(&format!("2026-11-{FIRST:02}T"), &format!("2026-11-{:02}\u{1}T", FIRST + day))
                .replace("\"00000000-", &format!("\"{day:08}-"));
            // The mark keeps a day from being put off twice.
            writeln!(out, "{}", later.replace("\u{1}T", "T"))?;
        }
        eprintln!("day {day}: {} MiB", text.len() >> 20);
    }
    Ok(out.flush()?)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
