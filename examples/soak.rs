//! Lives in virtual time, seed after seed, until it is stopped or a rule is broken:
//!
//! ```text
//! cargo run --release --no-default-features --example soak -- [FIRST_SEED [COUNT [BROKEN]]]
//! ```
//!
//! On every core. It tells simulated hours, moves and faults by kind every minute and at the end, and each broken rule with its seed:
//! `EIPWATCH_SEED=…` with the test `simulation` tells that life in full. The exit status is 1 if a rule was broken, or something never met.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eipwatch::sim::chaos::{Life, Tally, live};

/// The time between two interim reports.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// After so many broken rules there is enough to look at, unless another number is given.
const MAX_BROKEN: usize = 20;
/// Fewer lives than this need not have met everything.
const LIVES_THAT_MEET_ALL: u64 = 1_000;

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map_while(|word| word.parse::<u64>().ok());
    let first = numbers.next().unwrap_or(1);
    let end = numbers.next().map_or(u64::MAX, |count| first.saturating_add(count));
    let broken = numbers.next().and_then(|count| usize::try_from(count).ok()).unwrap_or(MAX_BROKEN);
    let next = AtomicU64::new(first);
    let all = Mutex::new((Tally::default(), Instant::now()));
    let start = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let tally = live(Life::short(seed));
                    let Ok(mut all) = all.lock() else { return };
                    for (seed, broken) in &tally.violations {
                        println!("BROKEN: EIPWATCH_SEED={seed}: {}: {}", broken.rule, broken.text);
                    }
                    all.0.add(tally);
                    if all.0.violations.len() >= broken {
                        next.store(end, Ordering::Relaxed);
                    }
                    if all.1.elapsed() >= TELL_EVERY {
                        all.1 = Instant::now();
                        println!("after {:.0} s: {}", start.elapsed().as_secs_f64(), all.0);
                    }
                }
            });
        }
    });
    let Ok((tally, _)) = all.into_inner() else { return ExitCode::FAILURE };
    let took_s = start.elapsed().as_secs_f64();
    println!("{tally}\nin {took_s:.1} s: {:.2} simulated hours a second", tally.hours() / took_s);
    let missing = if tally.lives >= LIVES_THAT_MEET_ALL { tally.never_met() } else { Vec::new() };
    for what in &missing {
        println!("never met: {what}");
    }
    if tally.violations.is_empty() && missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
