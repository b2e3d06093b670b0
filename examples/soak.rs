//! Lives in virtual time, seed after seed, until it is stopped or a rule is broken:
//!
//! ```text
//! make soak                # with FIRST_SEED=n from that seed on
//! cargo run --profile soak --no-default-features --example soak -- [FIRST_SEED [COUNT [BROKEN]]]
//! cargo run --profile soak --no-default-features --example soak -- tell SEED
//! ```
//!
//! On every core. It tells simulated hours, moves and faults by kind every minute and at the end, also when it is stopped by SIGINT or
//! SIGTERM; each broken rule with its seed, and the first few of these lives in full. `tell` lives one again, and tells it in full.
//! The exit status is 1 if a rule was broken, or something never met.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eipwatch::sim::chaos::{Life, Tally, live};

/// The time between two interim reports.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// After so many broken rules there is enough to look at, unless another number is given.
const MAX_BROKEN: usize = 20;
/// How many broken lives are told in full.
const MAX_TOLD: usize = 3;
/// Fewer lives than this need not have met everything.
const LIVES_THAT_MEET_ALL: u64 = 1_000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, seed] = words.as_slice()
        && word == "tell"
    {
        let Ok(seed) = seed.parse() else {
            eprintln!("soak: '{seed}' is no seed: a whole number is");
            return ExitCode::from(2);
        };
        return if tell(seed) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let mut numbers = words.iter().map_while(|word| word.parse::<u64>().ok());
    let first = numbers.next().unwrap_or(1);
    let end = numbers.next().map_or(u64::MAX, |count| first.saturating_add(count));
    let broken = numbers.next().and_then(|count| usize::try_from(count).ok()).unwrap_or(MAX_BROKEN);
    let next = AtomicU64::new(first);
    let all = Mutex::new((Tally::default(), Instant::now()));
    let start = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| until_told_to_stop(&stop));
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    stop.store(true, Ordering::Relaxed);
                    return;
                }
                let tally = live(Life::short(seed));
                let Ok(mut all) = all.lock() else { return };
                for (seed, broken) in &tally.violations {
                    println!("BROKEN: EIPWATCH_SEED={seed}: {}: {}", broken.rule, broken.text);
                }
                all.0.add(tally);
                if all.0.violations.len() >= broken {
                    stop.store(true, Ordering::Relaxed);
                }
                if all.1.elapsed() >= TELL_EVERY {
                    all.1 = Instant::now();
                    println!("after {:.0} s, at seed {seed}: {}", start.elapsed().as_secs_f64(), all.0);
                }
            }
        };
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let Ok((tally, _)) = all.into_inner() else { return ExitCode::FAILURE };
    let mut seeds: Vec<u64> = tally.violations.iter().map(|(seed, _)| *seed).collect();
    seeds.dedup();
    for seed in seeds.into_iter().take(MAX_TOLD) {
        println!("--- EIPWATCH_SEED={seed}");
        tell(seed);
    }
    let took_s = start.elapsed().as_secs_f64();
    println!("{tally}\nin {took_s:.1} s: {:.2} simulated cluster-hours a second", tally.hours() / took_s);
    let missing = if tally.lives >= LIVES_THAT_MEET_ALL { tally.never_met() } else { Vec::new() };
    for what in &missing {
        println!("never met: {what}");
    }
    if tally.violations.is_empty() && missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Lives one life and tells it in full. Says whether every rule held.
fn tell(seed: u64) -> bool {
    let tally = live(Life { told: true, ..Life::short(seed) });
    for (at_ms, text) in &tally.timeline {
        println!("{:>9.3} {text}", *at_ms as f64 / 1_000.0);
    }
    tally.violations.is_empty()
}

/// Lets no new life begin once SIGINT or SIGTERM came.
fn until_told_to_stop(stop: &AtomicBool) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        let all_lived = async {
            while !stop.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = all_lived => {}
        }
        stop.store(true, Ordering::Relaxed);
    });
}
