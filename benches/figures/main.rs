//! The benchmarks: `make bench`, or `cargo bench --no-default-features --bench figures -- WHAT…`.
//!
//! They print tables and never fail for being slow. What was measured is kept under `target`, and `docs/benchmarks.md` is made of it. Only one
//! thing fails: more instructions than were committed, which no busy machine can cause.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod cost;
mod ec2;
mod function;
#[path = "../../tests/it/harness/http.rs"]
#[expect(dead_code, reason = "the tests' own, of which the benches use a part")]
mod http;
mod instructions;
mod net;
mod outage;
mod page;
mod pair;
mod plot;
#[path = "../../tests/it/harness/runtime_api.rs"]
#[expect(dead_code, reason = "the tests' own, of which the benches use a part")]
mod runtime_api;
mod scale;
mod table;
mod watchers;

use std::future::Future;
use std::process::ExitCode;

const SECTIONS: [&str; 6] = ["outage", "function", "scale", "cost", "instructions", "page"];

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        // What the benches start of themselves.
        ["node", name, at] => pair::node(name, at),
        ["nodes"] => scale::nodes(),
        ["work", word, rounds] => instructions::work(word, rounds.parse().unwrap()),
        _ => return sections(&words),
    }
    ExitCode::SUCCESS
}

fn sections(words: &[&str]) -> ExitCode {
    if let Some(unknown) = words.iter().find(|word| !SECTIONS.contains(word)) {
        eprintln!(
            "{unknown} is no section. There are {}; without a word all of them are measured.",
            SECTIONS.join(", ")
        );
        return ExitCode::from(2);
    }
    if let Some(code) = net::enter() {
        return code;
    }
    // A task that panics would be waited for by the others.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::exit(1);
    }));
    // Process numbers begin anew inside: what an earlier run left behind has this one's name.
    for file in std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")).into_iter().flatten().flatten() {
        if file.file_name().to_string_lossy().starts_with(&format!("function-{}-", std::process::id())) {
            let _ = std::fs::remove_file(file.path());
        }
    }
    let wanted = |section: &str| {
        page::begin();
        words.is_empty() || words.contains(&section)
    };
    let mut grown = Vec::new();
    if wanted("outage") {
        keep(block_on(outage::measure()));
    }
    if wanted("function") {
        keep(block_on(function::measure()));
    }
    if wanted("scale") {
        keep(block_on(scale::measure()));
    }
    if wanted("cost") {
        keep(cost::measure());
    }
    if wanted("instructions") {
        let (section, more) = instructions::measure();
        keep(section);
        grown = more;
    }
    page::write();
    for line in &grown {
        eprintln!("MORE INSTRUCTIONS: {line}");
    }
    if grown.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn keep(sections: impl IntoIterator<Item = page::Section>) {
    for section in sections {
        section.keep();
    }
}

/// Runs to its end on one thread, with tasks that need not be sent to others.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future)
}
