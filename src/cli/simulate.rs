//! `eipwatch simulate`: a scenario, played and shown.

use std::fmt::Write;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use super::render::Page;
use super::timeline::{self, Wrong};
use crate::simulate::scenario::{self, Scenario};
use crate::simulate::{CLASSICS, Played, compare, vary, write_log};
use crate::timeline::Timeline;
use crate::timeline::words::{length, median};

/// What is to be played.
#[derive(Debug)]
pub struct Order {
    /// A file, or the name of a classic.
    pub scenario: String,
    /// Policies to compare.
    pub policies: Vec<String>,
    /// Values to combine.
    pub vary: Vec<Vec<String>>,
    /// Another seed.
    pub seed: Option<u64>,
    /// Where to write the log of the first policy.
    pub log: Option<PathBuf>,
}

/// The classics, name and title.
///
/// # Errors
/// Never: their files are tested.
pub fn list(page: Page) -> String {
    let mut out = String::new();
    for (name, text) in CLASSICS {
        let title = scenario::parse(text).map(|scenario| scenario.title).unwrap_or_default();
        page.wrap(&mut out, &format!("{name:<16} "), None, &title);
    }
    out
}

/// The text of a scenario: a file's, or else a classic's.
///
/// # Errors
/// There is neither.
pub fn text_of(name: &str) -> Result<String, Wrong> {
    match std::fs::read(Path::new(name)) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| Wrong::Typed(format!("{name} is no text"))),
        Err(error) => {
            let classic = CLASSICS.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned());
            classic.ok_or_else(|| {
                let all: Vec<&str> = CLASSICS.iter().map(|(name, _)| *name).collect();
                Wrong::Typed(format!(
                    "{name} cannot be read: {error}. It is none of the scenarios that come with eipwatch, either: {}",
                    all.join(", ")
                ))
            })
        }
    }
}

/// Plays it.
///
/// # Errors
/// The scenario or the policies are wrong.
pub fn run(order: &Order) -> Result<(Timeline, Vec<Played>), Wrong> {
    let text = text_of(&order.scenario)?;
    let mut scenario: Scenario =
        scenario::parse(&text).map_err(|bad| Wrong::Typed(format!("{}: {bad}", order.scenario)))?;
    if let Some(seed) = order.seed {
        scenario.seed = seed;
    }
    let mut policies = vec![String::new()];
    if order.policies.is_empty() && order.vary.is_empty() {
        policies.append(&mut scenario.policies);
    }
    policies.extend(order.policies.iter().cloned());
    if !order.vary.is_empty() {
        policies.extend(vary::combinations(&order.vary).map_err(Wrong::Typed)?);
    }
    if let Some(path) = &order.log {
        let failed = |error: std::io::Error| Wrong::Failed(format!("{} cannot be written: {error}", path.display()));
        let mut file = BufWriter::new(std::fs::File::create(path).map_err(failed)?);
        write_log(&scenario, "", &mut file).map_err(failed)?;
    }
    let trade_off = policies.len() > 2 && (!order.vary.is_empty() || scenario.transient.is_some());
    Ok(compare(&scenario, &policies, trade_off))
}

/// All policies in a table.
pub fn table(played: &[Played], days: f64, page: Page) -> String {
    let of = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), length);
    let rows: Vec<[String; 6]> = played
        .iter()
        .map(|one| {
            let figures = &one.run.figures;
            let lost: u64 = figures.outage_ms.iter().sum();
            [
                one.run.name.clone(),
                of(median(&figures.detect_ms)),
                of(one.outage_ms),
                of((lost > 0).then_some(lost)),
                figures.moves.to_string(),
                format!("{} ({:.1} a day)", figures.needless, f64::from(figures.needless) / days),
            ]
        })
        .collect();
    let heads = ["policy", "decided after", "outage", "outage in all", "moves", "needless"];
    timeline::columns(&heads, &rows, page)
}

/// How long the playing took, for people.
pub fn effort(played: &[Played], took: std::time::Duration) -> String {
    let (invocations, probes) = played.iter().fold((0, 0), |sum, one| (sum.0 + one.invocations, sum.1 + one.probes));
    let mut out = String::new();
    let took = length(crate::core::time::millis(took));
    let _ = writeln!(out, "Played {} times in {took}: {invocations} invocations, {probes} probes.", played.len());
    out
}
