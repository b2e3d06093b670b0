//! `eipwatch watch --metrics`: what the watches measured, for Prometheus to fetch.
//!
//! Architecture invariant: counts nothing itself. The numbers are those of [`Report::measured`], which CloudWatch is given, too.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};

use crate::core::model::ClusterName;
use crate::core::report::{Amount, Effort, Report};
use crate::core::time::Time;
use crate::hyper_io::HyperIo;

/// Connections at once; more wait until one is over.
const MAX_CONNECTIONS: usize = 8;
/// How long one may last: a request and its answer.
const CONNECTION_LIMIT: Duration = Duration::from_secs(5);
/// The most that is read of a request, all of it; the least that hyper takes.
const MAX_REQUEST_BYTES: usize = 8 * 1024;
/// The pause after a connection that could not be taken, as when there are no descriptors left.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(500);
/// The version of the text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How a metric goes on from watch to watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What the last watch said.
    Gauge,
    /// All watches together.
    Counter,
    /// How often, and how long all together.
    Summary,
}

impl Kind {
    /// Prometheus' own word.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Summary => "summary",
        }
    }
}

/// A metric of the answer, as Prometheus calls it.
#[derive(Clone, Copy, Debug)]
pub struct Exposed {
    /// Its name in [`METRICS`](crate::core::report::METRICS) or [`CLUSTER_METRICS`](crate::core::report::CLUSTER_METRICS).
    pub of: &'static str,
    /// Its name here. Times are in seconds.
    pub name: &'static str,
    /// How it goes on.
    pub kind: Kind,
    /// What it is.
    pub help: &'static str,
}

const fn exposed(of: &'static str, name: &'static str, kind: Kind, help: &'static str) -> Exposed {
    Exposed { of, name, kind, help }
}

/// Of the watches.
pub const EXPOSED: &[Exposed] = &[
    exposed("Sweeps", "eipwatch_sweeps_total", Kind::Counter, "Sweeps that were made."),
    exposed("SweepMillis", "eipwatch_sweep_seconds", Kind::Gauge, "Time that one sweep of the last watch took."),
    exposed("Problems", "eipwatch_problems", Kind::Gauge, "Problems that the last watch told of."),
    exposed("ApiCalls", "eipwatch_api_calls_total", Kind::Counter, "Calls to AWS."),
];

/// Of each cluster, with the label `cluster`.
pub const CLUSTER_EXPOSED: &[Exposed] = &[
    exposed("HealthyNodes", "eipwatch_healthy_nodes", Kind::Gauge, "Nodes whose verdict is healthy."),
    exposed("Candidates", "eipwatch_candidates", Kind::Gauge, "Nodes that could receive an address now."),
    exposed("Ready", "eipwatch_ready", Kind::Gauge, "1 if every address could move if its holder failed now."),
    exposed("Paused", "eipwatch_paused", Kind::Gauge, "Addresses whose mode is not auto."),
    exposed("Moves", "eipwatch_moves_total", Kind::Counter, "Verified moves."),
    exposed("MoveFailures", "eipwatch_move_failures_total", Kind::Counter, "Moves that did not succeed."),
    exposed("Blocked", "eipwatch_blocked", Kind::Gauge, "Addresses whose decision is blocked."),
    exposed("Outsiders", "eipwatch_outsiders", Kind::Gauge, "Addresses that something outside the cluster holds."),
    exposed(
        "DetectMillis",
        "eipwatch_detect_seconds",
        Kind::Summary,
        "From the first failed probe of a holder to the move.",
    ),
    exposed(
        "MoveMillis",
        "eipwatch_move_seconds",
        Kind::Summary,
        "From the decision to the reading that showed the new holder.",
    ),
    exposed(
        "LongestFailStreak",
        "eipwatch_longest_fail_streak",
        Kind::Gauge,
        "Longest streak of failed probes of any node in the last watch.",
    ),
];

/// What one metric stands at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    /// How often, of a summary.
    count: u64,
    value: u64,
}

/// All watches of this process so far.
#[derive(Debug, Default)]
pub struct Metrics {
    watches: u64,
    failed: u64,
    last: Option<(Time, bool)>,
    /// By the answer's names.
    all: BTreeMap<&'static str, Held>,
    /// The clusters of the last watch that saw EC2: one that is gone is forgotten.
    clusters: BTreeMap<ClusterName, BTreeMap<&'static str, Held>>,
}

impl Metrics {
    /// Adds a watch.
    pub fn take(&mut self, report: &Report, effort: Effort, now: Time) {
        self.watches += 1;
        self.failed += u64::from(!report.ok);
        self.last = Some((now, report.ok));
        let mut clusters = BTreeMap::new();
        for measured in report.measured(effort) {
            let held = match measured.cluster {
                None => &mut self.all,
                Some(cluster) => {
                    let before = self.clusters.remove(cluster).unwrap_or_default();
                    clusters.entry(cluster.clone()).or_insert(before)
                }
            };
            for (of, _, amount) in measured.amounts {
                let exposed = EXPOSED.iter().chain(CLUSTER_EXPOSED).find(|one| one.of == of);
                let Some(exposed) = exposed else { continue };
                let (count, value) = match amount {
                    Amount::One(value) => (1, value),
                    Amount::Each(values) => (u64::try_from(values.len()).unwrap_or(u64::MAX), values.iter().sum()),
                };
                let held = held.entry(of).or_default();
                *held = match exposed.kind {
                    Kind::Gauge => Held { count, value },
                    Kind::Counter | Kind::Summary => {
                        Held { count: held.count.saturating_add(count), value: held.value.saturating_add(value) }
                    }
                };
            }
        }
        // Where EC2 could not be read, nothing is known of any cluster: what was counted of it is kept, and not what it stood at.
        if !report.observed {
            let counted = |(of, _): &(&'static str, Held)| {
                CLUSTER_EXPOSED.iter().any(|one| one.of == *of && one.kind != Kind::Gauge)
            };
            for (cluster, held) in std::mem::take(&mut self.clusters) {
                clusters.entry(cluster).or_insert_with(|| held.into_iter().filter(counted).collect());
            }
        }
        self.clusters = clusters;
    }

    /// The text that Prometheus reads.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut own = |name: &str, kind: Kind, help: &str, value: String| {
            head(&mut out, name, kind, help);
            let _ = writeln!(out, "{name} {value}");
        };
        own("eipwatch_watches_total", Kind::Counter, "Watches that ended.", self.watches.to_string());
        own(
            "eipwatch_watch_failures_total",
            Kind::Counter,
            "Watches that did not do all they decided, or saw nothing.",
            self.failed.to_string(),
        );
        if let Some((at, ok)) = self.last {
            own(
                "eipwatch_last_watch_ok",
                Kind::Gauge,
                "1 if the last watch did all it decided.",
                u8::from(ok).to_string(),
            );
            own(
                "eipwatch_last_watch_timestamp_seconds",
                Kind::Gauge,
                "When the last watch ended.",
                seconds(at.as_millis()),
            );
        }
        for exposed in EXPOSED {
            if let Some(held) = self.all.get(exposed.of) {
                head(&mut out, exposed.name, exposed.kind, exposed.help);
                lines(&mut out, exposed, "", *held);
            }
        }
        for exposed in CLUSTER_EXPOSED {
            let of = |(cluster, held): (&ClusterName, &BTreeMap<&'static str, Held>)| {
                // A cluster's name has no character that would have to be escaped.
                Some((format!("{{cluster=\"{cluster}\"}}"), *held.get(exposed.of)?))
            };
            let all: Vec<_> = self.clusters.iter().filter_map(of).collect();
            if !all.is_empty() {
                head(&mut out, exposed.name, exposed.kind, exposed.help);
            }
            for (labels, held) in all {
                lines(&mut out, exposed, &labels, held);
            }
        }
        out
    }
}

fn head(out: &mut String, name: &str, kind: Kind, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
}

fn lines(out: &mut String, exposed: &Exposed, labels: &str, held: Held) {
    let name = exposed.name;
    let value = if exposed.of.ends_with("Millis") { seconds(held.value) } else { held.value.to_string() };
    let _ = match exposed.kind {
        Kind::Gauge | Kind::Counter => writeln!(out, "{name}{labels} {value}"),
        Kind::Summary => writeln!(out, "{name}_sum{labels} {value}\n{name}_count{labels} {}", held.count),
    };
}

fn seconds(millis: u64) -> String {
    format!("{}.{:03}", millis / 1_000, millis % 1_000)
}

/// Answers whoever asks, until it is dropped. Nothing but `GET /metrics` is answered, whatever is sent is bounded, and nobody can
/// hold up the watch: it shares the thread and waits for no one.
pub async fn serve(listener: TcpListener, metrics: Rc<RefCell<Metrics>>) {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => connections.push(tokio::time::timeout(CONNECTION_LIMIT, answer(stream, metrics.clone()))),
                Err(_) => tokio::time::sleep(PAUSE_AFTER_FAILURE).await,
            },
            Some(_) = connections.next(), if !connections.is_empty() => {}
        }
    }
}

async fn answer(stream: TcpStream, metrics: Rc<RefCell<Metrics>>) {
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let (status, text) = match (request.method(), request.uri().path()) {
            (&Method::GET, "/metrics") => (StatusCode::OK, metrics.borrow().text()),
            (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned()),
            _ => (StatusCode::NOT_FOUND, "see /metrics\n".to_owned()),
        };
        let response = Response::builder().status(status).header(CONTENT_TYPE, TEXT).body(Full::new(Bytes::from(text)));
        std::future::ready(Ok::<_, Infallible>(response.unwrap_or_default()))
    });
    // How a connection ends is its client's affair.
    let _ = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_REQUEST_BYTES)
        .serve_connection(HyperIo(stream), service)
        .await;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::core::report::{CLUSTER_METRICS, METRICS};

    fn report(ok: bool, observed: bool, clusters: &[&str]) -> Report {
        let moved =
            json!({"from": "i-1", "to": "i-2", "why": "holder-unhealthy", "ok": true, "took_ms": 412, "error": null});
        let clusters: Vec<_> = clusters
            .iter()
            .map(|name| {
                json!({
                    "cluster": name, "ready": true, "nodes": [], "problems": [],
                    "addresses": [{
                        "public_ip": "203.0.113.7", "allocation_id": "eipalloc-0a", "mode": "manual", "holder": "i-2",
                        "decision": null, "moves": [moved],
                    }],
                })
            })
            .collect();
        let mut report: Report = serde_json::from_value(json!({
            "trigger": "schedule", "ok": ok, "error": null, "dry_run": false, "sweeps": 12, "clusters": clusters, "problems": ["odd"]
        }))
        .unwrap();
        report.observed = observed;
        report
    }

    const EFFORT: Effort = Effort { took_ms: 6_000, api_calls: 30 };

    #[test]
    fn every_metric_of_the_answer_is_there() {
        let names = |pairs: &[(&'static str, &str)]| pairs.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let of = |exposed: &[Exposed]| exposed.iter().map(|one| one.of).collect::<Vec<_>>();
        assert_eq!(of(EXPOSED), names(METRICS));
        assert_eq!(of(CLUSTER_EXPOSED), names(CLUSTER_METRICS));
        for one in EXPOSED.iter().chain(CLUSTER_EXPOSED) {
            assert_eq!(one.kind == Kind::Counter, one.name.ends_with("_total"), "{one:?}");
            assert_eq!(one.of.ends_with("Millis"), one.name.ends_with("_seconds"), "{one:?}");
        }
    }

    #[test]
    fn gauges_stand_at_the_last_watch_and_counters_add_up() {
        let mut metrics = Metrics::default();
        for _ in 0..2 {
            metrics.take(&report(true, true, &["mail", "web"]), EFFORT, Time::from_millis(1_795_332_655_250));
        }
        let text = metrics.text();
        for line in [
            "# HELP eipwatch_moves_total Verified moves.",
            "# TYPE eipwatch_moves_total counter",
            "# TYPE eipwatch_move_seconds summary",
            "eipwatch_moves_total{cluster=\"web\"} 2",
            "eipwatch_move_seconds_sum{cluster=\"web\"} 0.824",
            "eipwatch_move_seconds_count{cluster=\"web\"} 2",
            "eipwatch_detect_seconds_count{cluster=\"web\"} 0",
            "eipwatch_ready{cluster=\"mail\"} 1",
            "eipwatch_paused{cluster=\"web\"} 1",
            "eipwatch_sweeps_total 24",
            "eipwatch_sweep_seconds 0.500",
            "eipwatch_api_calls_total 60",
            "eipwatch_problems 1",
            "eipwatch_watches_total 2",
            "eipwatch_watch_failures_total 0",
            "eipwatch_last_watch_ok 1",
            "eipwatch_last_watch_timestamp_seconds 1795332655.250",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is missing in\n{text}");
        }
        let heads: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        assert_eq!(heads.len(), heads.iter().collect::<BTreeSet<_>>().len(), "each has one head: {text}");
        // What it says is what CloudWatch is given.
        let emf = report(true, true, &["web"]).metrics(EFFORT, Time::from_millis(0));
        assert_eq!(
            (&emf[0]["Sweeps"], &emf[1]["MoveMillis"], &emf[1]["Paused"]),
            (&json!(12), &json!([412]), &json!(1))
        );
    }

    #[test]
    fn a_cluster_that_is_gone_is_forgotten_and_one_that_cannot_be_seen_is_not() {
        let mut metrics = Metrics::default();
        metrics.take(&report(true, true, &["mail", "web"]), EFFORT, Time::from_millis(0));
        metrics.take(&report(false, false, &[]), EFFORT, Time::from_millis(0));
        let text = metrics.text();
        assert!(text.contains("eipwatch_moves_total{cluster=\"mail\"} 1"), "{text}");
        assert!(!text.contains("eipwatch_ready"), "nobody knows: {text}");
        assert!(text.contains("eipwatch_watch_failures_total 1\n"), "{text}");
        metrics.take(&report(true, true, &["web"]), EFFORT, Time::from_millis(0));
        let text = metrics.text();
        assert!(text.contains("eipwatch_moves_total{cluster=\"web\"} 2") && !text.contains("mail"), "{text}");
    }

    #[test]
    fn it_answers_whoever_asks_and_nobody_holds_it_up() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            let metrics = Rc::new(RefCell::new(Metrics::default()));
            let ask = async |request: &str| {
                let mut stream = TcpStream::connect(at).await.unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                answer
            };
            let story = async {
                // One that says nothing, and one that was closed at once.
                let idle = TcpStream::connect(at).await.unwrap();
                drop(TcpStream::connect(at).await.unwrap());
                let good = ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
                assert!(good.starts_with("HTTP/1.1 200 OK") && good.contains("eipwatch_watches_total 0\n"), "{good}");
                assert!(good.contains("content-type: text/plain; version=0.0.4"), "{good}");
                assert!(ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 404"));
                assert!(
                    ask("POST /metrics HTTP/1.1\r\nHost: x\r\ncontent-length: 0\r\n\r\n")
                        .await
                        .starts_with("HTTP/1.1 405")
                );
                assert!(ask("what is this\r\n\r\n").await.starts_with("HTTP/1.1 400"));
                let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(2 * MAX_REQUEST_BYTES));
                assert!(!ask(&long).await.starts_with("HTTP/1.1 200"));
                drop(idle);
            };
            tokio::select! {
                () = serve(listener, metrics) => {}
                () = story => {}
            }
        });
    }
}
