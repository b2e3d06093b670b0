//! An answer for people: a table that fits the screen, evidence, decisions in a sentence, problems.
//!
//! Everything here came from outside: tags, AWS's messages, what nodes answered. [`clean`] keeps it from steering the terminal.

use std::fmt::Write;
use std::io::IsTerminal;

use super::paint::{Paint, Tone};
use super::standing;
use crate::core::decide::{Decision, Kind, Why};
use crate::core::model::InstanceId;
use crate::core::report::{AddressReport, ClusterReport, MoveReport, NodeReport, Report};
use crate::core::tags::Verdict;

/// The widest that anything is written.
pub const MAX_WIDTH: usize = 100;
/// The width of a terminal that does not say how wide it is.
const TERMINAL_WIDTH: usize = 80;
const MIN_WIDTH: usize = 60;
/// With more clusters than this, one that is well takes one line.
const MAX_WHOLE: usize = 5;
/// The longest name of a node that the table shows.
const MAX_NAME: usize = 30;
/// How much of it is always shown.
const MIN_NAME: usize = 8;

/// How to write.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Colours.
    pub paint: Paint,
    /// Columns.
    pub width: usize,
}

impl Page {
    /// For standard output: as wide as `COLUMNS` or else the terminal says, at most [`MAX_WIDTH`].
    pub fn for_stdout() -> Page {
        Page { paint: Paint::for_stdout(), width: width(terminal_width(&std::io::stdout())) }
    }

    /// For standard error, where nothing is coloured.
    pub fn for_stderr() -> Page {
        Page { paint: Paint::PLAIN, width: width(terminal_width(&std::io::stderr())) }
    }

    /// Adds the text, broken into lines at spaces. `first` stands before the first line; the others are indented as it is, and a
    /// little more if it holds words.
    pub fn wrap(self, out: &mut String, first: &str, tone: Option<Tone>, text: &str) {
        let blanks = first.chars().take_while(|c| *c == ' ').count();
        let hanging = if first.trim().is_empty() { blanks } else { blanks + 2 };
        let mut lines: Vec<String> = vec![String::new()];
        for word in clean(text).split_whitespace() {
            let indent = if lines.len() == 1 { first.chars().count() } else { hanging };
            let room = self.width.saturating_sub(indent);
            let Some(line) = lines.last_mut() else { return };
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
                lines.push(word.to_owned());
            } else {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
        }
        for (index, line) in lines.iter().enumerate() {
            let before = if index == 0 { first.to_owned() } else { " ".repeat(hanging) };
            let line = match tone {
                Some(tone) => self.paint.paint(tone, line).to_string(),
                None => line.clone(),
            };
            let _ = writeln!(out, "{before}{line}");
        }
    }
}

fn width(terminal: Option<usize>) -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse::<usize>().ok());
    columns.or(terminal).unwrap_or(MAX_WIDTH).clamp(MIN_WIDTH, MAX_WIDTH)
}

/// How wide the terminal is; `None`: it is no terminal.
#[cfg(unix)]
fn terminal_width(stream: &(impl IsTerminal + std::os::fd::AsFd)) -> Option<usize> {
    let said = || rustix::termios::tcgetwinsize(stream).ok().filter(|size| size.ws_col > 0);
    stream.is_terminal().then(|| said().map_or(TERMINAL_WIDTH, |size| usize::from(size.ws_col)))
}

/// How wide the terminal is; `None`: it is no terminal.
#[cfg(not(unix))]
fn terminal_width(stream: &impl IsTerminal) -> Option<usize> {
    stream.is_terminal().then_some(TERMINAL_WIDTH)
}

/// Says on standard error what is wrong. In a terminal it is broken into lines as everything else.
pub fn complain(text: &str) {
    use std::io::Write;
    let mut lines = String::new();
    let stderr = std::io::stderr();
    if stderr.is_terminal() {
        Page::for_stderr().wrap(&mut lines, "eipwatch: ", None, text);
    } else {
        lines = format!("eipwatch: {}\n", clean(text));
    }
    let _ = stderr.lock().write_all(lines.as_bytes());
}

/// The text without anything that would steer a terminal.
pub fn clean(text: &str) -> String {
    // The second range turns the direction of writing.
    let steers = |c: char| {
        c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|c| {
            if c == '\n' || c == '\t' {
                ' '
            } else if steers(c) {
                '?'
            } else {
                c
            }
        })
        .collect()
}

/// The whole answer.
pub fn report(report: &Report, page: Page) -> String {
    let mut out = String::new();
    let many = report.clusters.len() > MAX_WHOLE;
    for cluster in &report.clusters {
        let moved = cluster.addresses.iter().any(|address| !address.moves.is_empty());
        if many && !moved && !standing::cluster_needs_attention(cluster, false) {
            brief(&mut out, cluster, page);
        } else {
            whole(&mut out, cluster, page);
        }
    }
    for problem in &report.problems {
        page.wrap(&mut out, "problem: ", Some(Tone::Odd), problem);
    }
    if report.clusters.is_empty() && report.ok {
        let text = "No cluster: no Elastic IP and no instance of this Region carries the tag `eipwatch:cluster`, or none was meant.";
        page.wrap(&mut out, "", None, text);
    }
    if many {
        let odd = report.clusters.iter().filter(|cluster| standing::cluster_needs_attention(cluster, false)).count();
        let _ = writeln!(out, "{} clusters, {odd} of them in need of attention", report.clusters.len());
    }
    if report.dry_run {
        page.wrap(&mut out, "", Some(Tone::Strong), "Only a dry run: nothing was moved or written.");
    }
    out
}

fn state(cluster: &ClusterReport) -> (Tone, &'static str) {
    if cluster.addresses.is_empty() {
        (Tone::Odd, "no Elastic IP")
    } else if cluster.ready {
        (Tone::Good, "ready")
    } else {
        (Tone::Odd, "not ready: no other node could take over now")
    }
}

fn brief(out: &mut String, cluster: &ClusterReport, page: Page) {
    let (tone, state) = state(cluster);
    let name = page.paint.paint(Tone::Strong, clean(cluster.cluster.as_str()));
    let held: Vec<String> = cluster
        .addresses
        .iter()
        .map(|address| {
            let paused = if address.mode == "auto" { "" } else { ", paused" };
            format!("{} on {}{paused}", address.public_ip, holder(cluster, address))
        })
        .collect();
    let _ = writeln!(out, "{name}: {}, {}", page.paint.paint(tone, state), held.join("; "));
}

fn whole(out: &mut String, cluster: &ClusterReport, page: Page) {
    let (tone, state) = state(cluster);
    let name = page.paint.paint(Tone::Strong, clean(cluster.cluster.as_str()));
    let _ = writeln!(out, "{name}: {}", page.paint.paint(tone, state));
    for address in &cluster.addresses {
        self::address(out, cluster, address, page);
    }
    nodes(out, cluster, page);
    for problem in &cluster.problems {
        page.wrap(out, "  problem: ", Some(Tone::Odd), problem);
    }
    out.push('\n');
}

/// How people call a node: by name and id.
pub fn label(cluster: &ClusterReport, id: &InstanceId) -> String {
    match cluster.nodes.iter().find(|node| &node.id == id).and_then(|node| node.name.as_deref()) {
        Some(name) => format!("{} ({id})", clean(name)),
        None => id.to_string(),
    }
}

fn holder(cluster: &ClusterReport, address: &AddressReport) -> String {
    match &address.holder {
        Some(id) => label(cluster, id),
        None => "no instance".to_owned(),
    }
}

fn address(out: &mut String, cluster: &ClusterReport, address: &AddressReport, page: Page) {
    let on = holder(cluster, address);
    page.wrap(out, "  ", Some(Tone::Strong), &format!("{} on {on}, mode {}", address.public_ip, address.mode));
    if let Some(decision) = &address.decision {
        let tone = match (decision.kind, decision.why) {
            (Kind::Stay, Why::NoCandidate | Why::Outsider) | (Kind::Blocked, _) => Some(Tone::Bad),
            (Kind::Stay, _) => None,
            (Kind::Move, _) => Some(Tone::Odd),
        };
        page.wrap(out, &format!("    {} ({}): ", word(decision), decision.why), tone, &decision.text);
        // A decision to stay for a good reason needs no excuse, as long as it could move.
        let told = decision.would.as_deref().unwrap_or(decision);
        if told.kind != Kind::Stay || told.why == Why::NoCandidate || !cluster.ready {
            for veto in &decision.vetoes {
                page.wrap(out, "      no candidate: ", None, veto);
            }
        }
    }
    for made in &address.moves {
        moved(out, cluster, made, page);
    }
}

/// `stay`, `move`, `blocked`.
pub fn word(decision: &Decision) -> &'static str {
    match decision.kind {
        Kind::Stay => "stay",
        Kind::Move => "move",
        Kind::Blocked => "blocked",
    }
}

fn moved(out: &mut String, cluster: &ClusterReport, made: &MoveReport, page: Page) {
    let from = made.from.as_ref().map_or_else(|| "no instance".to_owned(), |id| label(cluster, id));
    let way = format!("from {from} to {} in {} ms", label(cluster, &made.to), made.took_ms);
    if made.ok {
        page.wrap(out, "    moved ", Some(Tone::Good), &format!("{way}; EC2 shows it"));
    } else {
        let error = made.error.as_deref().unwrap_or("EC2 does not show it");
        page.wrap(out, "    NOT moved ", Some(Tone::Bad), &format!("{way}: {error}"));
    }
}

fn nodes(out: &mut String, cluster: &ClusterReport, page: Page) {
    let zone = |node: &NodeReport| node.az.as_deref().map(clean).unwrap_or_default();
    let widest = |of: &dyn Fn(&NodeReport) -> String| {
        cluster.nodes.iter().map(|node| of(node).chars().count()).max().unwrap_or_default()
    };
    let (zones, ids) = (widest(&zone), widest(&|node| node.id.to_string()));
    // What the other columns, the longest verdict and the longest role leave.
    let room = page.width.saturating_sub(4 + 2 + ids + 2 + zones + 2 + 9 + 2 + 12).clamp(MIN_NAME, MAX_NAME);
    let name = |node: &NodeReport| {
        let name = node.name.as_deref().map(clean).unwrap_or_default();
        if name.chars().count() > room {
            format!("{}~", name.chars().take(room.saturating_sub(1)).collect::<String>())
        } else {
            name
        }
    };
    let names = widest(&name);
    for node in &cluster.nodes {
        let holds = cluster.addresses.iter().any(|address| address.holder.as_ref() == Some(&node.id));
        let role = match (holds, &node.leaving, node.mode.as_deref()) {
            (true, _, _) => "holder",
            (_, Some(_), _) => "leaving",
            (_, _, Some("drain")) => "drained",
            _ if node.candidate => "candidate",
            _ => "no candidate",
        };
        let tone = match node.verdict {
            Verdict::Healthy => Tone::Good,
            Verdict::Suspect | Verdict::Unknown => Tone::Odd,
            Verdict::Unhealthy | Verdict::Gone => Tone::Bad,
        };
        let verdict = page.paint.paint(tone, format!("{:<9}", node.verdict.as_str()));
        let mark = if holds { "*" } else { " " };
        let line = format!(
            "  {mark} {:<names$}  {:<ids$}  {:<zones$}  {verdict}  {role}",
            name(node),
            node.id.to_string(),
            zone(node)
        );
        let _ = writeln!(out, "{}", line.trim_end());
        evidence(out, node, page);
    }
}

fn evidence(out: &mut String, node: &NodeReport, page: Page) {
    let mut said: Vec<String> = Vec::new();
    for one in &node.evidence {
        let mark = match one.ok {
            Some(true) => "",
            Some(false) => "FAILED ",
            None => "unclear ",
        };
        said.push(format!("{mark}{}: {}", one.check, one.text));
    }
    if let Some(leaving) = &node.leaving {
        said.push(format!("leaving ({leaving})"));
    }
    if node.priority != 100 {
        said.push(format!("priority {}", node.priority));
    }
    if let Some(since) = &node.since {
        said.push(format!("{} since {since}", node.verdict.as_str()));
    }
    let tone = if standing::node_needs_attention(node) { None } else { Some(Tone::Faint) };
    page.wrap(out, "      ", tone, &said.join("; "));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::standing::Standing;

    fn node(id: &str, name: &str, verdict: &str, candidate: bool) -> Value {
        let ok = verdict == "healthy";
        let text = if ok { "200 in 3 ms" } else { "refused" };
        json!({
            "id": id, "name": name, "az": "eu-west-1a", "verdict": verdict, "since": "2026-11-22T07:30:00Z", "mode": "active",
            "leaving": null, "candidate": candidate, "priority": 100,
            "evidence": [
                {"check": "ec2", "ok": true, "text": "running"},
                {"check": "http:8080/health", "ok": ok, "text": text},
            ],
        })
    }

    fn cluster(name: &str) -> Value {
        json!({
            "cluster": name, "ready": true,
            "addresses": [{
                "public_ip": "203.0.113.7", "allocation_id": "eipalloc-0a", "mode": "auto", "holder": "i-0123456789abcdef0",
                "decision": {"kind": "stay", "to": null, "why": "healthy", "text": "web-1 holds 203.0.113.7 and is healthy.",
                             "vetoes": [], "would": null},
                "moves": [],
            }],
            "nodes": [
                node("i-0123456789abcdef0", "web-1", "healthy", false),
                node("i-0123456789abcdef1", "web-2", "healthy", true),
            ],
            "problems": [],
        })
    }

    fn answer(clusters: Vec<Value>) -> Report {
        let report = json!({
            "trigger": "manual", "ok": true, "error": null, "dry_run": false, "sweeps": 1, "clusters": clusters, "problems": []
        });
        serde_json::from_value(report).unwrap()
    }

    fn plain(of: &Report) -> String {
        report(of, Page { paint: Paint::PLAIN, width: 80 })
    }

    #[test]
    fn a_cluster_that_is_well() {
        let of = answer(vec![cluster("web")]);
        let expected = "\
web: ready
  203.0.113.7 on web-1 (i-0123456789abcdef0), mode auto
    stay (healthy): web-1 holds 203.0.113.7 and is healthy.
  * web-1  i-0123456789abcdef0  eu-west-1a  healthy    holder
      ec2: running; http:8080/health: 200 in 3 ms; healthy since
      2026-11-22T07:30:00Z
    web-2  i-0123456789abcdef1  eu-west-1a  healthy    candidate
      ec2: running; http:8080/health: 200 in 3 ms; healthy since
      2026-11-22T07:30:00Z

";
        assert_eq!(plain(&of), expected);
        assert_eq!(standing::of(&of, false), Standing::Well);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_reason() {
        let mut web = cluster("web");
        web["ready"] = json!(false);
        web["nodes"] = json!([
            node("i-0123456789abcdef0", "web-1", "unhealthy", false),
            node("i-0123456789abcdef1", "web-2", "unhealthy", false),
        ]);
        web["addresses"][0]["decision"] = json!({
            "kind": "stay", "to": null, "why": "no-candidate", "text": "web-1 is unhealthy, but no other node may take it.",
            "vetoes": ["i-0123456789abcdef1: unhealthy: http:8080/health refused"], "would": null,
        });
        web["problems"] = json!(["eipwatch:policy on eipalloc-0a: 'fall=three' is not a number; 3 is used"]);
        let of = answer(vec![web]);
        let text = plain(&of);
        for part in [
            "web: not ready: no other node could take over now",
            "stay (no-candidate): web-1 is unhealthy, but no other node may take it.",
            "no candidate: i-0123456789abcdef1: unhealthy: http:8080/health",
            "web-2  i-0123456789abcdef1  eu-west-1a  unhealthy  no candidate",
            "FAILED http:8080/health: refused",
            "problem: eipwatch:policy on eipalloc-0a: 'fall=three' is not a number",
        ] {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
        assert_eq!(standing::of(&of, false), Standing::Attention);
        assert_eq!(standing::of(&of, true), Standing::Attention, "an order that leaves an address with no way out");
    }

    #[test]
    fn a_move_is_told_and_is_no_alarm() {
        let mut web = cluster("web");
        web["nodes"][0] = node("i-0123456789abcdef0", "web-1", "unhealthy", false);
        web["ready"] = json!(false);
        let address = &mut web["addresses"][0];
        address["holder"] = json!("i-0123456789abcdef1");
        address["decision"] = json!({
            "kind": "move", "to": "i-0123456789abcdef1", "why": "holder-unhealthy", "text": "web-1 is unhealthy.", "vetoes": [],
            "would": null,
        });
        let undone = answer(vec![web.clone()]);
        assert_eq!(standing::of(&undone, false), Standing::Attention, "decided and only told");
        web["addresses"][0]["moves"] = json!([{
            "from": "i-0123456789abcdef0", "to": "i-0123456789abcdef1", "why": "holder-unhealthy", "ok": true, "took_ms": 412,
            "error": null,
        }]);
        let of = answer(vec![web.clone()]);
        let text = plain(&of);
        assert!(
            text.contains("moved from web-1 (i-0123456789abcdef0) to web-2 (i-0123456789abcdef1) in 412"),
            "{text}"
        );
        assert_eq!(standing::of(&of, false), Standing::Well);
        web["addresses"][0]["moves"][0]["ok"] = json!(false);
        web["addresses"][0]["moves"][0]["error"] = json!("UnauthorizedOperation: no");
        let mut of = answer(vec![web]);
        of.ok = false;
        assert!(plain(&of).contains("NOT moved from web-1"), "{}", plain(&of));
        assert_eq!(standing::of(&of, false), Standing::Failed);
    }

    #[test]
    fn a_node_that_is_drained_and_stopped_is_expected_if_others_are_ready() {
        let mut web = cluster("web");
        let mut third = node("i-0123456789abcdef2", "web-3", "gone", false);
        third["mode"] = json!("drain");
        web["nodes"].as_array_mut().unwrap().push(third);
        assert_eq!(standing::of(&answer(vec![web.clone()]), false), Standing::Well);
        web["nodes"][2]["mode"] = json!("active");
        assert_eq!(standing::of(&answer(vec![web]), false), Standing::Attention);
    }

    #[test]
    fn a_paused_cluster_that_would_move_needs_attention() {
        let mut web = cluster("web");
        web["addresses"][0]["mode"] = json!("manual");
        let would = json!({"kind": "move", "to": "i-0123456789abcdef1", "why": "holder-unhealthy", "text": "", "vetoes": [], "would": null});
        let stay = |would: Value| json!({"kind": "stay", "to": null, "why": "manual-mode", "text": "", "vetoes": [], "would": would});
        web["addresses"][0]["decision"] = stay(would);
        assert_eq!(standing::of(&answer(vec![web.clone()]), false), Standing::Attention);
        let calm = json!({"kind": "stay", "to": null, "why": "healthy", "text": "", "vetoes": [], "would": null});
        web["addresses"][0]["decision"] = stay(calm);
        assert_eq!(standing::of(&answer(vec![web]), false), Standing::Well);
    }

    #[test]
    fn of_many_clusters_those_that_are_well_take_a_line_each() {
        let mut clusters: Vec<Value> = (0..10).map(|number| cluster(&format!("web-{number}"))).collect();
        clusters[3]["ready"] = json!(false);
        let text = plain(&answer(clusters));
        assert!(text.contains("web-2: ready, 203.0.113.7 on web-1 (i-0123456789abcdef0)\nweb-3: not ready"), "{text}");
        assert!(text.ends_with("10 clusters, 1 of them in need of attention\n"), "{text}");
    }

    #[test]
    fn nothing_is_wider_than_the_screen_and_nothing_steers_it() {
        let mut web = cluster("web");
        web["nodes"][0]["name"] = json!("\u{1b}[31mred\u{202e}\nand a name that is far too long for any table");
        web["addresses"][0]["decision"]["text"] = json!("words ".repeat(60));
        web["nodes"][1]["az"] = json!("ap-southeast-2a");
        let of = answer(vec![web]);
        for width in [80, 100] {
            let text = report(&of, Page { paint: Paint::PLAIN, width });
            let long: Vec<_> = text.lines().filter(|line| line.chars().count() > width).collect();
            assert!(long.is_empty(), "{width}: {long:#?}");
            assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
        }
    }
}
