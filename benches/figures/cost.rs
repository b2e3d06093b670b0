//! Cost: infra/cost.py's prices with times that were measured.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::function::{self, Measured};
use crate::page::Section;
use crate::pair::LATENCY_MS;

/// What EC2 adds to a sweep: reads side by side, twice one after the other.
fn ec2_ms() -> f64 {
    (LATENCY_MS.start() + LATENCY_MS.end()) as f64
}

pub fn measure() -> Option<Section> {
    let Some(measured) =
        fs::read_to_string(function::file()).ok().and_then(|text| serde_json::from_str::<Measured>(&text).ok())
    else {
        println!("cost: left out, the function has not been measured yet");
        return None;
    };
    // A sweep once a minute cannot cost less than Lambda's smallest step, 1 ms.
    let sweep_s = (measured.warm_ms + ec2_ms()).max(1.0) / 1_000.0;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/figures/cost.py");
    let output = Command::new("python3")
        .arg(script)
        .args([format!("{sweep_s:.4}"), measured.watch_log_bytes.to_string()])
        .output();
    let output = match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        other => {
            println!("cost: left out, python3 failed: {other:?}");
            return None;
        }
    };
    let body = format!(
        "Dollars a month: the function, and CloudWatch (metrics, six alarms a cluster, the log) beside it, nothing of the free tier. By `infra/cost.py` with \
         {:.1} ms for a sweep (measured warm invocation, and {:.0} ms of EC2) and {} bytes of log for a cluster's watch, as measured; 128 MB.\n\n{}\n\
         With the free tier left the watch of one or ten clusters costs nothing but its alarms and what exceeds ten metrics. Neither the VPC's way to EC2 \
         nor the addresses are in it: see [infra/README.md](../infra/README.md).\n",
        sweep_s * 1_000.0,
        ec2_ms(),
        measured.watch_log_bytes,
        output
    );
    Some(Section::new("cost", "Cost", "make bench ONLY=cost", body))
}
