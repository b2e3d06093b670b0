//! `eipwatch drill`: a switchover there and back, and what it cost whoever uses the address.
//!
//! The moves are the command `move`; the outage is measured by requests through the Elastic IP itself, not by what the
//! watcher believes. The address is brought back whatever happens on the way, as far as that goes.

use std::cell::RefCell;
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, sleep};

use super::ask::{Backend, Failed};
use super::paint::Tone;
use super::render::{Page, clean, label};
use crate::core::event::Command;
use crate::core::model::{Answer, ClusterName, InstanceId, ProbeTarget, Scheme};
use crate::core::report::{AddressReport, ClusterReport, NodeReport, Report};
use crate::core::tags::{self, Check, Verdict};
use crate::core::time::Time;
use crate::drive::{Clock, SystemClock};
use crate::outage::{Outage, Tries, Try};
use crate::probe::Prober;
use crate::timeline::{
    self, AddressLane, ClusterLanes, Figures, Hold, Incident, Moment, NodeLane, Run, Stretch, Timeline,
};

/// The pace of the requests: 20 a second.
const REQUEST_EVERY: Duration = Duration::from_millis(50);
/// How long one may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(1);
/// The most on their way at once.
const MAX_REQUESTS: usize = 100;
/// How often it is looked whether it is so.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long things are watched.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long the address is asked before the first move.
    pub before: Duration,
    /// How long it must answer without loss after a move before that counts as over.
    pub steady: Duration,
    /// How long that is waited for. EC2 may take its time until a move takes effect.
    pub steady_within: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            before: Duration::from_secs(2),
            steady: Duration::from_secs(3),
            steady_within: Duration::from_secs(60),
        }
    }
}

/// What was typed.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// The cluster; `None`: the only one.
    pub cluster: Option<ClusterName>,
    /// The address; `None`: the only one of the cluster.
    pub address: Option<Ipv4Addr>,
    /// The node; `None`: the best candidate.
    pub to: Option<InstanceId>,
    /// What to ask through the address; `None`: the first probe among the holder's checks.
    pub probe: Option<Check>,
}

/// A drill that can begin.
#[derive(Clone, Debug)]
pub struct Plan {
    before: ClusterReport,
    address: Ipv4Addr,
    holder: InstanceId,
    to: Option<InstanceId>,
    target: ProbeTarget,
    asked: String,
    /// How long things are watched.
    pub timing: Timing,
}

impl Plan {
    /// What will happen, for whoever has to agree.
    pub fn will(&self) -> Vec<String> {
        let to = self.to.as_ref().map_or_else(|| "the best candidate".to_owned(), ToString::to_string);
        vec![
            format!("{} moves from {} to {to}, and back again.", self.address, self.holder),
            "Whoever uses it then may see two outages of some seconds, and connections that break.".to_owned(),
        ]
    }
}

/// One of the two moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Leg {
    /// `there` or `back`.
    pub way: &'static str,
    /// When it was ordered.
    pub at: Time,
    /// From whom.
    pub from: InstanceId,
    /// To whom; `None`: it was not moved.
    pub to: Option<InstanceId>,
    /// From the call to the reading that showed it, in milliseconds.
    pub took_ms: Option<u64>,
    /// What the client saw.
    #[serde(flatten)]
    pub outage: Outage,
    /// What went wrong.
    pub error: Option<String>,
}

/// The result, fit to be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrillReport {
    /// Whether both moves succeeded and the address served after each.
    pub ok: bool,
    /// What went wrong first.
    pub error: Option<String>,
    /// Which cluster.
    pub cluster: ClusterName,
    /// Which address.
    pub address: Ipv4Addr,
    /// What was asked through it, and how often a second.
    pub probe: String,
    /// See there.
    pub requests_per_s: u64,
    /// Version of eipwatch.
    pub version: &'static str,
    /// When it began.
    pub began: Time,
    /// When it ended.
    pub ended: Time,
    /// The moves that were tried, in order.
    pub moves: Vec<Leg>,
    /// The cluster before.
    pub before: ClusterReport,
    /// The cluster after; `None` if it could not be read.
    pub after: Option<ClusterReport>,
}

fn find<'a>(report: &'a Report, order: &Order) -> Result<(&'a ClusterReport, &'a AddressReport), String> {
    let all = || report.clusters.iter().flat_map(|of| of.addresses.iter().map(move |address| (of, address)));
    let listed = || all().map(|(of, address)| format!("{} of {}", address.public_ip, of.cluster)).collect::<Vec<_>>();
    let mut meant = all().filter(|(_, address)| order.address.is_none_or(|ip| ip == address.public_ip));
    match (meant.next(), meant.next()) {
        (Some(one), None) => Ok(one),
        (None, _) if listed().is_empty() => Err("there is no address".to_owned()),
        (None, _) => Err(format!("there is no such address; there are {}", listed().join(", "))),
        _ => Err(format!("there are several addresses, name one with --address: {}", listed().join(", "))),
    }
}

/// Finds out whether a drill may begin; `Ok(Err(_))` says why not.
///
/// # Errors
/// As [`Backend::ask`].
pub async fn plan(backend: &impl Backend, order: &Order) -> Result<Result<Plan, String>, Failed> {
    let report = backend.ask(&Command::Status { cluster: order.cluster.clone() }).await?;
    if let Some(error) = report.error {
        return Err(Failed::NoAnswer(error));
    }
    let (of, address) = match find(&report, order) {
        Ok(found) => found,
        Err(what) => return Err(Failed::BadRequest(what)),
    };
    let ip = address.public_ip;
    let Some(holder) = &address.holder else {
        return Ok(Err(format!("no node holds {ip}")));
    };
    let node = of.nodes.iter().find(|node| &node.id == holder);
    let Some(node) = node.filter(|node| node.verdict == Verdict::Healthy) else {
        return Ok(Err(format!("{holder}, which holds {ip}, is not healthy: the address could not come back")));
    };
    if !of.ready {
        return Ok(Err(format!("cluster {} is not ready: no other node could take {ip} now", of.cluster)));
    }
    if node.leaving.is_some() || node.mode.as_deref() != Some("active") {
        return Ok(Err(format!("{holder}, which holds {ip}, is drained or leaving: the address could not come back")));
    }
    let own = node.evidence.iter().find_map(|one| tags::checks(&one.check).0.into_iter().find(is_probe));
    let Some(Check::Probe { scheme, port, path }) = order.probe.clone().or(own) else {
        return Ok(Err(
            "nothing to measure with: the cluster has no tcp, http or https check; name one with --probe".to_owned()
        ));
    };
    let asked = match scheme {
        Scheme::Tcp => format!("tcp:{port}"),
        Scheme::Http | Scheme::Https => format!("{}:{port}{path}", scheme.as_str()),
    };
    let target = ProbeTarget { scheme, ip, port, path, host: None, timeout: REQUEST_LIMIT };
    Ok(Ok(Plan {
        before: of.clone(),
        address: ip,
        holder: holder.clone(),
        to: order.to.clone(),
        target,
        asked,
        timing: Timing::default(),
    }))
}

fn is_probe(check: &Check) -> bool {
    matches!(check, Check::Probe { .. })
}

/// Rehearses. `stop` resolves when it should be cut short: the address is then brought back.
pub async fn run(
    backend: &impl Backend,
    prober: &impl Prober,
    plan: Plan,
    stop: impl Future<Output = ()>,
    tell: impl Fn(&str),
) -> DrillReport {
    let clock = SystemClock::start();
    let began = clock.now();
    let tries = RefCell::new(Tries::default());
    let drill = Drill { backend, plan: &plan, tries: &tries, clock, tell: &tell };
    let mut moves = Vec::new();
    let error = tokio::select! {
        error = drill.story(stop, &mut moves) => error,
        () = ask_for_ever(prober, &plan.target, &tries) => None,
    };
    let status = Command::Status { cluster: Some(plan.before.cluster.clone()) };
    let after = backend.ask(&status).await.ok().and_then(|report| report.clusters.into_iter().next());
    let home = after.as_ref().and_then(|of| of.addresses.iter().find(|one| one.public_ip == plan.address));
    let error = error.or_else(|| match home {
        Some(address) if address.holder.as_ref() == Some(&plan.holder) => None,
        _ => Some(format!("{} is not back on {}", plan.address, plan.holder)),
    });
    DrillReport {
        ok: error.is_none(),
        error,
        cluster: plan.before.cluster.clone(),
        address: plan.address,
        probe: plan.asked.clone(),
        requests_per_s: u64::try_from(1_000 / REQUEST_EVERY.as_millis()).unwrap_or_default(),
        version: env!("CARGO_PKG_VERSION"),
        began,
        ended: clock.now(),
        moves,
        before: plan.before,
        after,
    }
}

/// Asks through the address at its pace. Never ends.
async fn ask_for_ever(prober: &impl Prober, target: &ProbeTarget, tries: &RefCell<Tries>) {
    let mut pace = tokio::time::interval(REQUEST_EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            _ = pace.tick(), if running.len() < MAX_REQUESTS => running.push(async {
                let sent = Instant::now();
                (sent, prober.probe(target.clone()).await)
            }),
            Some((sent, answer)) = running.next(), if !running.is_empty() => {
                // The service is reached whenever it answers; what it answers is not the drill's to judge, but for its own failures.
                let good = matches!(answer, Answer::Connected | Answer::Status(..500));
                tries.borrow_mut().push(Try { sent, done: Instant::now(), by: good.then(String::new) });
            }
        }
    }
}

struct Drill<'a, B, T> {
    backend: &'a B,
    plan: &'a Plan,
    tries: &'a RefCell<Tries>,
    clock: SystemClock,
    tell: &'a T,
}

impl<B: Backend, T: Fn(&str)> Drill<'_, B, T> {
    /// There and back; what went wrong.
    async fn story(&self, stop: impl Future<Output = ()>, moves: &mut Vec<Leg>) -> Option<String> {
        let Plan { address, asked, holder, .. } = self.plan;
        let mut stop = pin!(stop);
        let start = Instant::now();
        tokio::select! {
            () = sleep(self.plan.timing.before) => {}
            () = &mut stop => return Some("interrupted before anything was moved".to_owned()),
        }
        let before = self.tries.borrow().outage(start, Instant::now());
        if before.lost > 0 || before.asked == 0 {
            return Some(format!(
                "{asked} through {address} is not answered well from here ({} of {} requests lost): nothing was moved. Let this machine in, or name another check with --probe",
                before.lost, before.asked
            ));
        }
        let leg = self.leg("there", holder.clone(), self.plan.to.clone(), stop).await;
        let (at, broken) = (leg.to.clone(), leg.error.clone());
        moves.push(leg);
        // What failed may have moved it all the same: an answer can get lost.
        let at = match at {
            Some(at) => at,
            None => self.holder_now().await.unwrap_or_else(|| holder.clone()),
        };
        if &at == holder {
            return broken;
        }
        // From here on it is brought back, whatever was asked for.
        let back = self.leg("back", at, Some(holder.clone()), pin!(std::future::pending())).await;
        let error = back.error.clone();
        moves.push(back);
        broken.or(error)
    }

    /// Who holds the address; `None`: nobody, or it cannot be told.
    async fn holder_now(&self) -> Option<InstanceId> {
        let status = Command::Status { cluster: Some(self.plan.before.cluster.clone()) };
        let report = self.backend.ask(&status).await.ok()?;
        let mut addresses = report.clusters.into_iter().flat_map(|of| of.addresses);
        addresses.find(|one| one.public_ip == self.plan.address)?.holder
    }

    /// One move, and the time until the address serves again. A move on its way is never let go of: only the waiting for
    /// the service is cut short when `stop` resolves.
    async fn leg(
        &self,
        way: &'static str,
        from: InstanceId,
        to: Option<InstanceId>,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Leg {
        let ip = self.plan.address;
        let name = to.as_ref().map_or_else(|| "the best candidate".to_owned(), ToString::to_string);
        (self.tell)(&format!("Moving {ip} from {from} to {name} ..."));
        let (at, began) = (self.clock.now(), Instant::now());
        let mut leg = Leg { way, at, from, to: None, took_ms: None, outage: Outage::default(), error: None };
        let command = Command::Move {
            cluster: Some(self.plan.before.cluster.clone()),
            address: Some(ip),
            to,
            force: false,
            dry_run: false,
        };
        let mut interrupted = false;
        let mut asked = pin!(self.backend.ask(&command));
        let answer = tokio::select! {
            answer = &mut asked => answer,
            () = &mut stop => {
                interrupted = true;
                (self.tell)("Interrupted: the move on its way is finished, then the address is brought back.");
                asked.await
            }
        };
        match answer {
            Err(error) => leg.error = Some(error.to_string()),
            Ok(report) => {
                let address = report.clusters.iter().flat_map(|of| &of.addresses).find(|one| one.public_ip == ip);
                let made = address.and_then(|one| one.moves.iter().rev().find(|made| made.ok));
                leg.to = made.map(|made| made.to.clone());
                leg.took_ms = made.map(|made| made.took_ms);
                leg.error = report.error;
                if leg.to.is_none() && leg.error.is_none() {
                    let why = address.and_then(|one| one.decision.as_ref()).map(|decision| decision.text.clone());
                    leg.error = Some(why.unwrap_or_else(|| "it was not moved".to_owned()));
                }
            }
        }
        if leg.error.is_none() && !interrupted {
            tokio::select! {
                steady = self.steady() => if !steady {
                    let within = self.plan.timing.steady_within.as_secs();
                    leg.error = Some(format!("{ip} did not serve without loss within {within} s"));
                },
                () = &mut stop => {
                    interrupted = true;
                    (self.tell)("Interrupted: the address is brought back.");
                }
            }
        }
        if interrupted {
            leg.error.get_or_insert_with(|| "interrupted".to_owned());
        }
        leg.outage = self.tries.borrow().outage(began, Instant::now());
        (self.tell)(&format!("  {}", in_words(&self.plan.before, &leg)));
        leg
    }

    /// Waits until nothing has been lost for a while.
    async fn steady(&self) -> bool {
        let Timing { steady, steady_within, .. } = self.plan.timing;
        let began = Instant::now();
        while began.elapsed() < steady_within {
            sleep(LOOK_EVERY).await;
            let now = Instant::now();
            if began.elapsed() >= steady {
                let lately = self.tries.borrow().outage(began.max(now - steady), now);
                if lately.lost == 0 && lately.asked > 0 {
                    return true;
                }
            }
        }
        false
    }
}

fn in_words(of: &ClusterReport, leg: &Leg) -> String {
    let Outage { asked, lost, outage_ms, .. } = &leg.outage;
    let outage = match lost {
        0 => format!("none of {asked} requests lost"),
        lost => {
            format!("outage {:.2} s, {lost} of {asked} requests lost", Duration::from_millis(*outage_ms).as_secs_f64())
        }
    };
    let error = leg.error.as_ref().map(|error| format!("FAILED: {error}; ")).unwrap_or_default();
    match (&leg.to, leg.took_ms) {
        (Some(to), Some(ms)) => format!("to {}: EC2 showed it after {ms} ms; {error}{outage}", label(of, to)),
        _ if error.is_empty() => format!("FAILED: it was not moved; {outage}"),
        _ => format!("{error}{outage}"),
    }
}

/// How it stood, in a line.
fn state(of: &ClusterReport, ip: Ipv4Addr) -> String {
    let holder = of.addresses.iter().find(|one| one.public_ip == ip).and_then(|one| one.holder.as_ref());
    let holder = holder.map_or_else(|| "no instance".to_owned(), |id| label(of, id));
    let short = |node: &NodeReport| node.name.clone().unwrap_or_else(|| node.id.to_string());
    let nodes: Vec<String> = of.nodes.iter().map(|node| format!("{} {}", short(node), node.verdict.as_str())).collect();
    let ready = if of.ready { "ready" } else { "not ready" };
    format!("{ip} on {holder}; {}; {ready}", nodes.join(", "))
}

/// The result for people.
pub fn render(report: &DrillReport, page: Page) -> String {
    let mut out = String::new();
    let title = format!("Drill of {} in cluster {}", report.address, clean(report.cluster.as_str()));
    page.wrap(&mut out, "", Some(Tone::Strong), &title);
    let asked = format!(
        "{} to {}, {} through the address {} times a second",
        report.began, report.ended, report.probe, report.requests_per_s
    );
    page.wrap(&mut out, "  ", None, &asked);
    page.wrap(&mut out, "  before: ", None, &state(&report.before, report.address));
    for leg in &report.moves {
        let tone = if leg.error.is_none() { Tone::Good } else { Tone::Bad };
        let text = format!("from {} {}", label(&report.before, &leg.from), in_words(&report.before, leg));
        page.wrap(&mut out, &format!("  {:<8}", format!("{}:", leg.way)), Some(tone), &text);
    }
    match &report.after {
        Some(after) => page.wrap(&mut out, "  after:  ", None, &state(after, report.address)),
        None => page.wrap(&mut out, "  after:  ", Some(Tone::Bad), "could not be read: eipwatch status"),
    }
    match &report.error {
        None => page.wrap(&mut out, "  ", Some(Tone::Good), "Passed: the address went there and back."),
        Some(error) => page.wrap(&mut out, "  ", Some(Tone::Bad), &format!("FAILED: {error}")),
    }
    out
}

/// What happened, lane by lane.
pub fn timeline(report: &DrillReport) -> Timeline {
    let (from, to) = (report.began, report.ended);
    let named = |id: &InstanceId| {
        let node = report.before.nodes.iter().find(|node| node.id == *id);
        node.and_then(|node| node.name.clone()).unwrap_or_else(|| id.to_string())
    };
    let mut figures = Figures::default();
    let (mut decisions, mut outages, mut incidents) = (Vec::new(), Vec::new(), Vec::new());
    let mut held: Vec<Hold> = Vec::new();
    if let Some(first) = report.moves.first() {
        held.push(Hold {
            from,
            to,
            node: Some(first.from.to_string()),
            why: None,
            text: "It was there already.".to_owned(),
        });
    }
    for leg in &report.moves {
        let way = leg.way;
        let moved = leg.to.as_ref().zip(leg.took_ms);
        let text = match &leg.to {
            Some(to) => format!("{way}: from {} to {}. {}", named(&leg.from), named(to), in_words(&report.before, leg)),
            None => format!("{way}: {}", in_words(&report.before, leg)),
        };
        let kind = if moved.is_some() { "manual" } else { "refused" };
        decisions.push(Moment { at: leg.at, kind: kind.to_owned(), text: text.clone(), vetoes: Vec::new() });
        let mut over = leg.at;
        if let Some((node, took_ms)) = moved {
            over = leg.at + Duration::from_millis(took_ms);
            if let Some(last) = held.last_mut() {
                last.to = over;
            }
            held.push(Hold {
                from: over,
                to,
                node: Some(node.to_string()),
                why: Some("manual".to_owned()),
                text: text.clone(),
            });
            figures.moves += 1;
        } else {
            figures.failed += 1;
        }
        if leg.outage.lost > 0 {
            let begin = leg.at + Duration::from_millis(leg.outage.outage_after_ms);
            let end = begin + Duration::from_millis(leg.outage.outage_ms);
            let lost = format!("{} of {} requests through the address were lost.", leg.outage.lost, leg.outage.asked);
            outages.push(timeline::Outage { from: begin, to: end, text: lost });
            figures.outage_ms.push(leg.outage.outage_ms);
            over = over.max(end);
        }
        let cluster = report.cluster.to_string();
        incidents.push(Incident { from: leg.at, to: over, cluster, title: text });
    }
    let nodes = report.before.nodes.iter().map(|node| {
        let after = report.after.as_ref().and_then(|after| after.nodes.iter().find(|one| one.id == node.id));
        let turned = after.filter(|after| after.verdict != node.verdict);
        let told = |node: &NodeReport, from, to| Stretch {
            from,
            to,
            verdict: node.verdict,
            beside: node.leaving.as_ref().map(|leaving| format!("leaving ({leaving})")),
            text: node.evidence.iter().map(|one| format!("{}: {}", one.check, one.text)).collect::<Vec<_>>().join("; "),
        };
        let until = turned.map_or(to, |_| report.moves.last().map_or(to, |leg| leg.at));
        NodeLane {
            id: node.id.to_string(),
            name: node.name.clone(),
            zone: node.az.clone(),
            verdicts: std::iter::once(told(node, from, until))
                .chain(turned.map(|after| told(after, until, to)))
                .collect(),
            evidence: Vec::new(),
        }
    });
    let lane = AddressLane { public_ip: report.address.to_string(), held, outages, decisions };
    let lanes = ClusterLanes { cluster: report.cluster.to_string(), addresses: vec![lane], nodes: nodes.collect() };
    let text = match &report.error {
        None => "Passed: the address went there and back.".to_owned(),
        Some(error) => format!("FAILED: {error}"),
    };
    Timeline {
        title: format!("Drill of {} in cluster {}", report.address, report.cluster),
        notes: vec![
            format!(
                "Outages are what a client saw from here, who asked {} through the address {} times a second; of each move the longest is shown.",
                report.probe, report.requests_per_s
            ),
            "A new holder is shown from when EC2 showed it. Verdicts are those before and after the drill.".to_owned(),
        ],
        from,
        to,
        runs: vec![Run { name: "as it was".to_owned(), text, figures, clusters: vec![lanes], incidents }],
        trade_off: None,
        near: None,
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::cli::ask::Here;
    use crate::cli::paint::Paint;
    use crate::core::watch::Settings;
    use crate::embedded::ec2::{Id, InstanceSpec, Place, tags};
    use crate::embedded::{Ec2, EmbeddedCloud};

    /// Nodes that serve, and the address that leads to whoever holds it; nothing comes through for a while after a move.
    struct Net {
        world: Rc<RefCell<Ec2>>,
        address: Id,
        ip: Ipv4Addr,
        gap_ms: u64,
        clock: SystemClock,
    }

    impl Prober for &Net {
        async fn probe(&self, target: ProbeTarget) -> Answer {
            let world = self.world.borrow();
            let last = world.history().iter().rev().find(|placed| placed.allocation == self.address).unwrap();
            let within = self.clock.now().as_millis().saturating_sub(last.at_ms) < self.gap_ms;
            if target.ip == self.ip && within { Answer::TimedOut } else { Answer::Status(200) }
        }
    }

    const QUICK: Timing = Timing {
        before: Duration::from_millis(200),
        steady: Duration::from_millis(500),
        steady_within: Duration::from_secs(20),
    };

    struct Scene {
        net: Net,
        nodes: [Id; 2],
    }

    fn scene(gap_ms: u64) -> Scene {
        let clock = SystemClock::start();
        let mut world = Ec2::new(1);
        world.advance(clock.now().as_millis() - 600_000);
        let cluster = ("eipwatch:cluster", "web");
        let policy = ("eipwatch:policy", "interval=100ms fast=50ms");
        let address = world.add_address(tags([cluster, ("eipwatch:check", "http:80/"), policy]));
        let mut add = || world.add_instance(InstanceSpec { tags: tags([cluster]), ..Default::default() });
        let nodes = [add(), add()];
        world.move_by_hand(&address, Place::Instance(&nodes[0]), world.now_ms());
        world.settle();
        let ip = world.elastic_ip(&address).unwrap();
        Scene { net: Net { world: Rc::new(RefCell::new(world)), address, ip, gap_ms, clock }, nodes }
    }

    fn drill(scene: &Scene, stop: impl Future<Output = ()>) -> Result<DrillReport, String> {
        let clock = scene.net.clock;
        let cloud = EmbeddedCloud::new(scene.net.world.clone(), 1, move || clock.now().as_millis());
        let here = Here { cloud, prober: &scene.net, settings: Settings::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let mut plan = plan(&here, &Order::default()).await.unwrap()?;
            plan.timing = QUICK;
            Ok(run(&here, &&scene.net, plan, stop, |_| ()).await)
        })
    }

    fn holder(scene: &Scene) -> Id {
        scene.net.world.borrow().holder(&scene.net.address).unwrap().clone()
    }

    #[test]
    fn there_and_back_with_the_outage_that_the_client_saw() {
        let scene = scene(700);
        let report = drill(&scene, std::future::pending()).unwrap();
        assert!(report.ok, "{report:#?}");
        assert_eq!(holder(&scene), scene.nodes[0]);
        let ways: Vec<_> =
            report.moves.iter().map(|leg| (leg.from.as_str(), leg.to.as_ref().unwrap().as_str())).collect();
        assert_eq!(ways, [(&*scene.nodes[0], &*scene.nodes[1]), (&*scene.nodes[1], &*scene.nodes[0])]);
        for leg in &report.moves {
            assert!((600..1_500).contains(&leg.outage.outage_ms), "{leg:#?}");
            assert!(leg.outage.lost > 5 && leg.outage.lost < leg.outage.asked, "{leg:#?}");
        }
        let text = render(&report, Page { paint: Paint::PLAIN, width: 80 });
        assert!(text.contains("Passed: the address went there and back."), "{text}");
        // The same as a timeline: three holders in a row, two outages that begin no earlier than their moves.
        let shown = timeline(&report);
        let lane = &shown.runs[0].clusters[0].addresses[0];
        let holders: Vec<_> = lane.held.iter().map(|hold| hold.node.as_deref().unwrap()).collect();
        assert_eq!(holders, [&*scene.nodes[0], &*scene.nodes[1], &*scene.nodes[0]]);
        assert!(lane.held.iter().zip(&lane.held[1..]).all(|(one, next)| one.to == next.from), "{lane:#?}");
        assert_eq!(lane.outages.len(), 2);
        for (outage, leg) in lane.outages.iter().zip(&report.moves) {
            assert!(outage.from >= leg.at && outage.to <= shown.to, "{leg:#?}");
            assert_eq!(outage.to.since(outage.from).as_millis(), u128::from(leg.outage.outage_ms));
        }
        assert_eq!((shown.runs[0].figures.moves, shown.runs[0].incidents.len()), (2, 2));
    }

    #[test]
    fn an_interrupted_drill_brings_the_address_back() {
        let scene = scene(0);
        // As soon as the first move has taken place.
        let moved = async {
            while holder(&scene) == scene.nodes[0] {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let report = drill(&scene, moved).unwrap();
        assert_eq!(holder(&scene), scene.nodes[0]);
        assert_eq!((report.ok, report.error.as_deref()), (false, Some("interrupted")));
        assert_eq!(report.after.unwrap().addresses[0].holder.as_ref().unwrap().as_str(), &*scene.nodes[0]);
    }

    #[test]
    fn a_cluster_that_is_not_ready_is_not_touched() {
        let scene = scene(0);
        let now_ms = scene.net.clock.now().as_millis();
        scene.net.world.borrow_mut().stop_instance(&scene.nodes[1], now_ms);
        let why = drill(&scene, std::future::pending()).unwrap_err();
        assert!(why.contains("not ready"), "{why}");
        assert_eq!(holder(&scene), scene.nodes[0]);
    }
}
