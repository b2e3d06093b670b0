use eipwatch::sim::chaos::*;
use std::collections::BTreeMap;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let from: u64 = a[1].parse().unwrap();
    let n: u64 = a[2].parse().unwrap();
    if a.len() > 3 {
        let t = live(Life { told: true, ..Life::short(from) });
        for (at, text) in &t.timeline {
            println!("{:>9.3} {text}", *at as f64 / 1000.0);
        }
        return;
    }
    let s = std::time::Instant::now();
    let mut all = Tally::default();
    let mut rules: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for seed in from..from + n {
        let t = live(Life::short(seed));
        for (s, v) in &t.violations {
            let l = rules.entry(v.rule).or_default();
            if l.last() != Some(s) {
                l.push(*s);
            }
        }
        all.add(t);
    }
    println!("{all}");
    println!("{:.1}s", s.elapsed().as_secs_f64());
    for (r, l) in rules {
        println!("{r}: {} seeds {:?}", l.len(), &l[..l.len().min(12)]);
    }
    println!("{:#?}", all.never_met());
}
