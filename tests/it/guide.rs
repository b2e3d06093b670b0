//! `docs/guide.md` shows what eipwatch shows: every block under a `<!-- shown: NAME -->` is made here, by the watch in virtual time and the
//! command line's own screens, and compared. After a change that is meant: `EIPWATCH_RENEW=1 cargo test --no-default-features --test it guide`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use eipwatch::cli::ask::{Backend, Failed, Here, Prospect, prospect};
use eipwatch::cli::doctor::{self, Sources};
use eipwatch::cli::drill::{self, Timing};
use eipwatch::cli::paint::Paint;
use eipwatch::cli::render::{self, Page};
use eipwatch::cloud::Cloud;
use eipwatch::core::event::Command;
use eipwatch::core::log::{Level, Record};
use eipwatch::core::model::{Act, Answer, CloudError, InstanceId, InterfaceId, Look, ProbeTarget, Seen};
use eipwatch::core::policy;
use eipwatch::core::report::Report;
use eipwatch::core::watch::{Ending, Settings};
use eipwatch::drive::{Clock, SystemClock};
use eipwatch::embedded::ec2::{InstanceSpec, Place, tags};
use eipwatch::embedded::faults::{Fault, Rule};
use eipwatch::embedded::{Ec2, EmbeddedCloud, seam};
use eipwatch::network::{Attached, Network, RouteTable, SecurityGroup};
use eipwatch::probe::Prober;
use eipwatch::sim::world::{Behaviour, Handle, SERVES, World};
use serde_json::Value;

/// A world begins at 07:30; this is 22:00 on the same day.
const EVENING_MS: u64 = 52_200_000;
/// The watch that began at 03:12 in the night.
const NIGHT_MS: u64 = 70_920_000;
/// 08:00 on the next morning.
const MORNING_MS: u64 = 88_200_000;

const PAGE: Page = Page { paint: Paint::PLAIN, width: 80 };

/// An operator in a simulated world: commands are carried out at once, in virtual time.
struct Operator {
    world: RefCell<World>,
}

impl Backend for Operator {
    async fn ask(&self, command: &Command) -> Result<Report, Failed> {
        let mut world = self.world.borrow_mut();
        let now_ms = world.now_ms();
        let handle = world.invoke(&serde_json::to_value(command).unwrap(), now_ms);
        world.run();
        match world.ending(handle).unwrap() {
            Ending::Report(report) => Ok(report.clone()),
            Ending::BadRequest(bad) => Err(Failed::BadRequest(bad.problem.clone())),
        }
    }
}

/// Who reads EC2 beside the watch.
const BESIDE: u32 = 1_000_000;

impl Cloud for Operator {
    async fn look(&self, look: Look) -> Result<Seen, CloudError> {
        let mut world = self.world.borrow_mut();
        let now_ms = world.now().as_millis();
        seam::answer(&mut world.ec2, BESIDE, &look, now_ms)
    }

    async fn act(&self, _: Act) -> Result<(), CloudError> {
        panic!("whoever reads beside the watch changes nothing")
    }
}

impl Network for Operator {
    async fn interfaces(&self, ids: &[InterfaceId]) -> Result<Vec<Attached>, CloudError> {
        Ok(seam::attached(&self.world.borrow().ec2, ids))
    }

    async fn interfaces_in(&self, _: &BTreeSet<String>) -> Result<Vec<Attached>, CloudError> {
        Ok(Vec::new())
    }

    async fn security_groups(&self, _: &BTreeSet<String>) -> Result<Vec<SecurityGroup>, CloudError> {
        Ok(seam::security_groups())
    }

    async fn route_tables(&self, _: &BTreeSet<String>) -> Result<Vec<RouteTable>, CloudError> {
        Ok(seam::route_tables())
    }

    async fn may_tag(&self, resources: &[String], key: &str) -> Result<(), CloudError> {
        let mut world = self.world.borrow_mut();
        let now_ms = world.now().as_millis();
        seam::acted(world.ec2.call(BESIDE, &seam::may_tag_request(resources, key), now_ms))
    }
}

/// Nothing here waits for anything but itself.
fn now<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

impl Operator {
    /// Cluster `web` in the evening, after some watches. EC2 answers within 40 ms, nodes within 3.
    fn new(addresses: usize, nodes: usize) -> Operator {
        Operator::after(addresses, nodes, |_| {})
    }

    fn after(addresses: usize, nodes: usize, set_up: impl FnOnce(&mut World)) -> Operator {
        let mut world = World::cluster(addresses, nodes);
        world.ec2.faults_mut().push(Rule::new(Fault::Latency { min_ms: 40, max_ms: 40 }));
        world.network_ms = 3;
        world.run_until(EVENING_MS - 120_000);
        set_up(&mut world);
        let operator = Operator { world: RefCell::new(world) };
        operator.watch_until(EVENING_MS);
        operator
    }

    /// A watch that ends about then.
    fn watch_until(&self, at_ms: u64) -> Handle {
        let mut world = self.world.borrow_mut();
        world.run_until(at_ms - 60_000);
        let watch = world.scheduled(at_ms - 60_000);
        world.run();
        world.run_until(at_ms);
        watch
    }

    fn world(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.world.borrow_mut());
    }

    fn node(&self, number: usize) -> InstanceId {
        InstanceId::from(&*self.world.borrow().node(number))
    }

    fn public_ip(&self, number: usize) -> Ipv4Addr {
        let world = self.world.borrow();
        world.ec2.elastic_ip(&world.address(number)).unwrap()
    }

    /// What a command shows.
    fn shows(&self, command: &Command) -> String {
        render::report(&now(self.ask(command)).unwrap(), PAGE).trim_end().to_owned()
    }

    fn status(&self) -> String {
        self.shows(&Command::Status { cluster: None })
    }

    /// What a command asks first, a yes, and what it shows then.
    fn asked(&self, command: &Command) -> String {
        let Prospect::Will(will) = now(prospect(self, command)).unwrap() else { panic!("nothing to ask about") };
        format!("{}\nGo on? [y/N] y\n{}", will.join("\n"), self.shows(command))
    }
}

/// The service of web-1 dies at 03:12:04 and stays dead.
fn night() -> (Operator, Handle) {
    let operator = Operator::new(1, 2);
    operator.world(|world| {
        world.run_until(NIGHT_MS);
        world.at(NIGHT_MS + 4_300, |world| world.service(&world.node(0), Behaviour::Refuse));
    });
    let watch = operator.watch_until(NIGHT_MS + 60_000);
    (operator, watch)
}

/// What the saved queries `what-failed` and `why-did-it-move` find up to a verified move, oldest first, wrapped for the page.
fn log(records: &[Record]) -> String {
    let mut out = String::new();
    let moved = records.iter().position(|record| matches!(record, Record::Move { .. })).unwrap();
    for record in &records[..=moved] {
        let told = match record {
            Record::Probe { .. } | Record::ReadingFailed { .. } => record.level() == Level::Warn,
            Record::Start { .. } | Record::Verdict { .. } | Record::Decision { .. } | Record::Move { .. } => true,
            _ => false,
        };
        if !told {
            continue;
        }
        let line = serde_json::to_value(record).unwrap();
        let field = |path: &str| match line.pointer(path) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Array(words)) => words.first()?.as_object()?.keys().next().cloned(),
            Some(other) => Some(other.to_string()),
        };
        let fields = [
            "/triggers",
            "/cluster",
            "/node",
            "/check",
            "/answer",
            "/from",
            "/to",
            "/why",
            "/decision/kind",
            "/decision/why",
            "/decision/text",
            "/result/from",
            "/result/to",
            "/result/took_ms",
            "/result/ok",
        ];
        let words: Vec<String> = fields
            .iter()
            .filter_map(|path| Some(format!("{}={}", path.rsplit('/').next().unwrap(), field(path)?)))
            .collect();
        let first = format!("{}  {:<9}", field("/at").unwrap(), field("/event").unwrap());
        let mut text = String::new();
        PAGE.wrap(&mut text, &format!("{first} "), None, &words.join("  "));
        out.push_str(&text);
    }
    out.trim_end().to_owned()
}

/// A drill, in real time: its numbers are of one run.
fn drilled() -> String {
    /// The nodes, and the address, which leads nowhere for a while after a move.
    struct Net {
        world: Rc<RefCell<Ec2>>,
        ip: Ipv4Addr,
        clock: SystemClock,
    }
    impl Prober for &Net {
        async fn probe(&self, target: ProbeTarget) -> Answer {
            let moved_ms = self.world.borrow().history().back().unwrap().at_ms;
            let within = self.clock.now().as_millis().saturating_sub(moved_ms) < 900;
            if target.ip == self.ip && within { Answer::TimedOut } else { Answer::Status(200) }
        }
    }
    let clock = SystemClock::start();
    let mut world = Ec2::new(1);
    world.advance(clock.now().as_millis() - 600_000);
    let policy = ("eipwatch:policy", "interval=100ms fast=50ms");
    let cluster = ("eipwatch:cluster", "web");
    let address = world.add_address(tags([cluster, ("eipwatch:check", "http:8080/health"), policy]));
    for name in ["web-1", "web-2"] {
        world.add_instance(InstanceSpec { tags: tags([cluster, ("Name", name)]), ..InstanceSpec::default() });
    }
    let first = world.instance_ids().next().unwrap().clone();
    world.move_by_hand(&address, Place::Instance(&first), world.now_ms());
    world.settle();
    let ip = world.elastic_ip(&address).unwrap();
    let net = Net { world: Rc::new(RefCell::new(world)), ip, clock };
    let cloud = EmbeddedCloud::new(net.world.clone(), 1, move || clock.now().as_millis());
    let here = Here { cloud, prober: &net, settings: Settings::default() };
    let report = now(async {
        let mut plan = drill::plan(&here, &drill::Order::default()).await.unwrap().unwrap();
        plan.timing = Timing {
            before: Duration::from_millis(200),
            steady: Duration::from_millis(500),
            steady_within: Duration::from_secs(30),
        };
        drill::run(&here, &&net, plan, std::future::pending(), |_| ()).await
    });
    drill::render(&report, PAGE).trim_end().to_owned()
}

/// Every screen of the guide, by name.
fn screens() -> BTreeMap<&'static str, String> {
    let mut shown = BTreeMap::new();

    let new = Operator::after(1, 2, |world| {
        let address = world.address(0);
        let now_ms = world.ec2.now_ms();
        world.ec2.move_by_hand(&address, Place::Nowhere, now_ms);
        world.settings.manual = true;
    });
    shown.insert("set-up-manual", new.status());

    let pair = Operator::new(1, 2);
    shown.insert("status-well", pair.status());
    let from = Sources { backend: &pair, cloud: &pair, keys: Settings::default().keys, function: None };
    let at = pair.world.borrow().now();
    let diagnoses = now(doctor::examine(&from, None, at)).unwrap();
    shown.insert("doctor", doctor::render(&diagnoses, PAGE).trim_end().to_owned());
    let dry = Command::Move { cluster: None, address: None, to: None, force: false, dry_run: true };
    shown.insert("move-dry-run", pair.shows(&dry));
    shown.insert("drain", pair.asked(&Command::Drain { node: pair.node(0) }));
    shown.insert("undrain", pair.asked(&Command::Undrain { node: pair.node(0) }));
    let pause = Command::Pause { cluster: None, r#for: Some(Duration::from_secs(7_200)) };
    shown.insert("pause", pair.asked(&pause));

    let spare = Operator::after(2, 3, |world| {
        for (address, node) in [(0, 0), (1, 1)] {
            let node = world.node(node);
            world.tag(&world.address(address), "prefer", &node);
        }
    });
    let ip = spare.public_ip(1);
    let second =
        Command::Move { cluster: None, address: Some(ip), to: Some(spare.node(1)), force: false, dry_run: false };
    now(spare.ask(&second)).unwrap();
    spare.world(|world| world.run_until(EVENING_MS + 600_000));
    spare.watch_until(EVENING_MS + 660_000);
    shown.insert("n-plus-one", spare.status());

    let both = Operator::after(2, 2, |world| {
        for (address, node) in [(0, 0), (1, 1)] {
            let node = world.node(node);
            world.tag(&world.address(address), "prefer", &node);
        }
    });
    let second = Command::Move {
        cluster: None,
        address: Some(both.public_ip(1)),
        to: Some(both.node(1)),
        force: false,
        dry_run: false,
    };
    now(both.ask(&second)).unwrap();
    both.world(|world| world.run_until(EVENING_MS + 600_000));
    both.world(|world| world.service(&world.node(0), Behaviour::Refuse));
    both.watch_until(EVENING_MS + 660_000);
    shown.insert("two-on-one", both.status());

    let (night, watch) = night();
    shown.insert("log-0312", log(night.world.borrow().log(watch)));
    night.watch_until(MORNING_MS);
    shown.insert("morning-down", night.status());
    night.world(|world| world.service(&world.node(0), SERVES));
    night.watch_until(MORNING_MS + 300_000);
    shown.insert("morning-mended", night.status());

    let down = Operator::new(1, 2);
    down.world(|world| {
        for number in 0..2 {
            world.service(&world.node(number), Behaviour::Silent);
        }
    });
    shown.insert("none-left", down.status());

    let typo = Operator::new(1, 2);
    typo.world(|world| {
        world.tag(&world.address(0), "policy", "fall=three interval=2s");
        world.tag(&world.node(1), "mode", "drian");
    });
    shown.insert("bad-tags", typo.status());

    shown.insert("drill", drilled());
    shown
}

fn guide() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide.md")
}

/// Screens with numbers of one run: only their words are compared.
const OF_ONE_RUN: [&str; 1] = ["drill"];

fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let plain: String = word.chars().filter(|c| !c.is_ascii_digit()).collect();
        out.push_str(&plain);
        if words.peek().is_some() {
            out.push(' ');
        }
    }
    out
}

#[test]
fn the_guide_shows_what_eipwatch_shows() {
    let text = std::fs::read_to_string(guide()).unwrap();
    let screens = screens();
    let renew = std::env::var_os("EIPWATCH_RENEW").is_some();
    let (mut out, mut shown, mut differ) = (String::new(), BTreeSet::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        let Some(name) = line.trim().strip_prefix("<!-- shown: ").and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        let made = screens.get(name).unwrap_or_else(|| panic!("docs/guide.md shows {name}, which nothing makes"));
        shown.insert(name.to_owned());
        assert_eq!(lines.next(), Some("```text"), "a block of text stands under {name}");
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let block = block.join("\n");
        let same = match OF_ONE_RUN.contains(&name) {
            true => without_numbers(&block) == without_numbers(made),
            false => &block == made,
        };
        if !same {
            differ.push(format!("{name}, in the guide:\n{block}\n\n{name}, as it is:\n{made}\n"));
        }
        let kept = if same { &block } else { made };
        out.push_str(&format!("```text\n{kept}\n```\n"));
    }
    let unused: Vec<_> = screens.keys().filter(|name| !shown.contains(**name)).collect();
    if renew {
        std::fs::write(guide(), out).unwrap();
    } else {
        assert!(
            differ.is_empty(),
            "{}\nIf that is meant: EIPWATCH_RENEW=1 cargo test --no-default-features --test it guide",
            differ.join("\n")
        );
    }
    assert!(unused.is_empty(), "made and not shown: {unused:?}");
    for (name, screen) in &screens {
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{name} is too wide:\n{screen}");
    }
}

#[test]
fn the_times_of_the_policies_in_the_guide_are_right() {
    let text = std::fs::read_to_string(guide()).unwrap();
    let (_, section) = text.split_once("## Tune detection").unwrap();
    let rows: Vec<Vec<&str>> = section
        .lines()
        .skip_while(|line| !line.starts_with("| --- "))
        .skip(1)
        .take_while(|line| line.starts_with("| "))
        .map(|line| line.trim_matches(['|', ' ']).split(" | ").collect())
        .collect();
    assert!(rows.len() > 2, "{rows:?}");
    for row in rows {
        let (policy, wrong) = policy::parse(if row[1] == "nothing" { "" } else { row[1].trim_matches('`') });
        assert!(wrong.is_empty(), "{wrong:?}");
        let seconds = |time: Duration| format!("{} s", time.as_millis() as f64 / 1_000.0);
        assert_eq!([row[2], row[3]], [seconds(doctor::dead(&policy)), seconds(doctor::hung(&policy))], "{row:?}");
    }
}
