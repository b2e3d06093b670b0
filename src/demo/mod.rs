//! `eipwatch demo`: a failover to be watched, without AWS.
//!
//! Real processes serve on loopback addresses, an embedded EC2 holds the Elastic IP, the same [`Watch`] and
//! [`drive`] as in Lambda watch over it, and a client that goes through the address measures what its users
//! would feel. Nothing is staged: what the demo tells of eipwatch are the records of its log.

pub mod nodes;
mod screen;
pub mod service;

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::cli::paint::Tone;
use crate::core::event::{Command, Trigger};
use crate::core::log::Record;
use crate::core::model::{Answer, InstanceId};
use crate::core::tags::{Keys, Verdict};
use crate::core::watch::{Ending, Settings, Watch};
use crate::drive::{Clock, SystemClock, drive};
use crate::embedded::ec2::{Id, InstanceSpec, Place, tags};
use crate::embedded::{Ec2, EmbeddedCloud, Fault, Rule};
use crate::outage::Outage;
use crate::probe::Sockets;
use nodes::Node;
use screen::{STRIP, Screen, View, Voice};
use service::Client;

const NAMES: [&str; 3] = ["web-1", "web-2", "web-3"];
const ADDRESSES: [Ipv4Addr; 3] =
    [Ipv4Addr::new(127, 0, 1, 11), Ipv4Addr::new(127, 0, 1, 12), Ipv4Addr::new(127, 0, 1, 13)];
const ZONES: [&str; 3] = ["eu-west-1a", "eu-west-1b", "eu-west-1c"];

/// One invocation's watch; short, so that the demo sees several, one after the other.
const WATCH: Duration = Duration::from_secs(10);
/// How long an invocation may go on after its watch, to finish what it began.
const FINISHING: Duration = Duration::from_secs(60);
/// How long a call to the embedded EC2 takes.
const LATENCY_MS: std::ops::RangeInclusive<u64> = 20..=60;
/// How long one step may take to come true.
const STEP_LIMIT: Duration = Duration::from_secs(10);
/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(55);
/// How often a step is looked at.
const STEP_EVERY: Duration = Duration::from_millis(20);
/// How long the steady state is shown, and the end of each outage is waited for.
const SETTLE: Duration = Duration::from_millis(1_500);
/// How often the view is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// The longest outage that a step may cause: well beyond detection and move on a busy machine.
const MAX_OUTAGE: Duration = Duration::from_secs(5);

const WATCHER: u32 = 1;
const OPERATOR: u32 = 2;

/// Why the demo could not show what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A loopback address cannot be used.
    #[error(
        "{ip} cannot be used here: {error}. The demo's nodes need 127.0.1.11 to 127.0.1.13. On macOS: `sudo ifconfig lo0 alias {ip}`"
    )]
    Loopback {
        /// Which.
        ip: Ipv4Addr,
        /// Why.
        error: io::Error,
    },
    /// No port is free on all addresses.
    #[error("no port is free on all of 127.0.1.11 to 127.0.1.13. End what listens there, or try again")]
    NoPort,
    /// A node's process.
    #[error("node {name}: {what}")]
    Node {
        /// Which.
        name: &'static str,
        /// What happened.
        what: String,
    },
    /// A socket of the demo's own.
    #[error("the forwarder cannot listen on 127.0.0.1: {0}")]
    Forwarder(io::Error),
    /// The embedded EC2 does not have what was put there.
    #[error("the embedded EC2 lost {0}: a defect of the demo")]
    Lost(&'static str),
    /// A step did not do what it should.
    #[error("{0}")]
    Step(String),
    /// All of it took too long.
    #[error("not done after {} s", LIMIT.as_secs())]
    TooLong,
    /// Somebody ended it.
    #[error("interrupted; the nodes have been ended")]
    Interrupted,
}

/// Runs the demo, and says what the client measured, step by step. `stop` resolves when it should end at once; `silent`: nothing is
/// told on the way.
///
/// # Errors
/// The first thing that was not as it should be. No process is left behind.
pub async fn run(stop: impl Future<Output = ()>, silent: bool) -> Result<Vec<Measured>, Error> {
    let tasks = tokio::task::LocalSet::new();
    tasks
        .run_until(async {
            let mut demo = Demo::set_up(silent).await?;
            let outcome = tokio::select! {
                outcome = demo.story() => outcome,
                () = sleep(LIMIT) => Err(Error::TooLong),
                () = stop => Err(Error::Interrupted),
            };
            demo.stage.screen.borrow_mut().close();
            outcome
        })
        .await
}

/// What the demo's tasks share.
struct Stage {
    world: Rc<RefCell<Ec2>>,
    clock: SystemClock,
    client: Rc<Client>,
    screen: RefCell<Screen>,
    view: RefCell<View>,
    /// Name and instance of each node.
    nodes: Vec<(&'static str, Id)>,
    address: Id,
    /// What eipwatch reported that should not be.
    complaints: RefCell<Vec<String>>,
}

struct Demo {
    stage: Rc<Stage>,
    nodes: Vec<Node>,
    background: Vec<JoinHandle<()>>,
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.background.iter().for_each(JoinHandle::abort);
    }
}

/// What the client measured of a step.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// What was done: `web-1 killed`.
    pub what: String,
    /// Who held the address before, by name.
    pub from: String,
    /// Who held it then.
    pub to: String,
    /// What it cost.
    #[serde(flatten)]
    pub outage: Outage,
}

impl Demo {
    async fn set_up(silent: bool) -> Result<Demo, Error> {
        let clock = SystemClock::start();
        let port = nodes::free_port(&ADDRESSES)?;
        let mut nodes = Vec::new();
        for (name, ip) in NAMES.into_iter().zip(ADDRESSES) {
            nodes.push(Node::start(name, SocketAddrV4::new(ip, port)).await?);
        }

        let keys = Keys::new(crate::core::tags::DEFAULT_PREFIX);
        let mut world = Ec2::new(clock.now().as_millis());
        // The scene is an hour old.
        world.advance(clock.now().as_millis().saturating_sub(3_600_000));
        let check = format!("http:{port}/health");
        let address = world.add_address(tags([(&keys.cluster, "web"), (&keys.check, &check)]));
        let mut instances = Vec::new();
        for ((name, ip), zone) in NAMES.into_iter().zip(ADDRESSES).zip(ZONES) {
            let tags = tags([(&keys.cluster, "web"), ("Name", name)]);
            let spec = InstanceSpec { zone: zone.to_owned(), private_ips: vec![ip], tags, ..InstanceSpec::default() };
            instances.push((name, world.add_instance(spec)));
        }
        let (_, first) = instances.first().ok_or(Error::Lost("its instances"))?;
        let now_ms = clock.now().as_millis();
        world.move_by_hand(&address, Place::Instance(first), world.now_ms());
        world.settle();
        world.advance(now_ms);
        world.faults_mut().push(Rule::new(Fault::Latency { min_ms: *LATENCY_MS.start(), max_ms: *LATENCY_MS.end() }));
        let public_ip = world.elastic_ip(&address).ok_or(Error::Lost("the address"))?;

        let view = View { address: format!("Elastic IP {public_ip}"), ..View::default() };
        let stage = Rc::new(Stage {
            world: Rc::new(RefCell::new(world)),
            clock,
            client: Rc::default(),
            screen: RefCell::new(Screen::new(silent)),
            view: RefCell::new(view),
            nodes: instances,
            address,
            complaints: RefCell::default(),
        });
        for name in NAMES {
            stage.set_process(name, "runs");
        }
        stage.screen.borrow_mut().say(&format!(
            "Cluster web: {public_ip} and the nodes {}, each a process that serves on {}, {} or {}, port {port}.\n\
             EC2 is embedded and answers in {} to {} ms. eipwatch probes {check} with its default policy: each second, and \
             each half second after a failure.\n\
             A client sends {} requests a second through {public_ip}, each over a new connection.\n",
            NAMES.join(", "),
            ADDRESSES[0],
            ADDRESSES[1],
            ADDRESSES[2],
            LATENCY_MS.start(),
            LATENCY_MS.end(),
            1_000 / service::REQUEST_EVERY.as_millis(),
        ));

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(Error::Forwarder)?;
        let forwarder: SocketAddr = listener.local_addr().map_err(Error::Forwarder)?;
        let world = stage.world.clone();
        let background = vec![
            tokio::task::spawn_local(service::forward(listener, world, stage.address.clone(), port)),
            tokio::task::spawn_local(stage.client.clone().run(forwarder)),
            tokio::task::spawn_local(keep_watching(stage.clone())),
            tokio::task::spawn_local(keep_drawing(stage.clone())),
        ];
        Ok(Demo { stage, nodes, background })
    }

    async fn story(&mut self) -> Result<Vec<Measured>, Error> {
        let stage = self.stage.clone();
        let all_healthy = || NAMES.iter().all(|name| stage.verdict(name) == "healthy");
        self.until("all nodes healthy, and the client served by web-1", || {
            all_healthy() && stage.holder() == Some("web-1") && stage.client.served_by().as_deref() == Some("web-1")
        })
        .await?;
        let quiet = Instant::now();
        stage.demo("Steady state: all nodes are healthy, web-1 holds the address and serves.");
        sleep(SETTLE).await;
        self.no_loss(quiet, "in the steady state")?;

        let began = Instant::now();
        let pid = self.node(0)?.pid().unwrap_or_default();
        stage.demo(&format!("Kills web-1's service: SIGKILL to process {pid}. Its port refuses from now on."));
        self.node(0)?.kill().await?;
        stage.set_process("web-1", "killed");
        let killed = self.moved(began, "web-1", "web-2", "web-1 killed").await?;

        let began = Instant::now();
        let pid = self.node(1)?.pid().unwrap_or_default();
        stage.demo(&format!(
            "Hangs web-2's service, process {pid}: connections are still accepted, and nothing is answered."
        ));
        self.node(1)?.hang(true).await?;
        stage.set_process("web-2", "hangs");
        let hung = self.moved(began, "web-2", "web-3", "web-2 hung").await?;

        let quiet = Instant::now();
        stage.demo("Lets web-2 go on, and starts web-1 again.");
        self.node(1)?.hang(false).await?;
        stage.set_process("web-2", "runs");
        let at = self.node(0)?.at;
        *self.node(0)? = Node::start("web-1", at).await?;
        stage.set_process("web-1", "runs");
        self.until("all nodes healthy again", all_healthy).await?;
        sleep(SETTLE).await;
        self.no_loss(quiet, "while nodes came back")?;
        if stage.holder() != Some("web-3") {
            return Err(Error::Step("the address left web-3, which was healthy".to_owned()));
        }
        stage.demo("All nodes are healthy again. The address stays: a healthy holder keeps it.");

        let began = Instant::now();
        stage.demo("`eipwatch drain web-3`: an operator wants to work on it.");
        self.drain(2).await?;
        let drained = self.moved(began, "web-3", "web-1", "web-3 drained").await?;
        if drained.outage.lost > 0 {
            return Err(Error::Step(format!("{} requests were lost in a planned switchover", drained.outage.lost)));
        }

        let complaints = stage.complaints.borrow();
        if let Some(first) = complaints.first() {
            return Err(Error::Step(format!("eipwatch reported: {first}")));
        }
        let mut screen = stage.screen.borrow_mut();
        screen.close();
        screen.say("\nWhat the client measured:");
        let steps = vec![killed, hung, drained];
        for Measured { what, from, to, outage } in &steps {
            let way = format!("{from} -> {to}");
            screen.say(&format!("  {what:<14} {way:<16} {}", in_words(outage)));
        }
        screen.say(
            "Every step did what it should. On AWS a move takes effect some seconds after EC2 shows it;\n\
             the embedded EC2 spares that.",
        );
        Ok(steps)
    }

    fn node(&mut self, index: usize) -> Result<&mut Node, Error> {
        self.nodes.get_mut(index).ok_or(Error::Lost("its nodes"))
    }

    /// Waits until something is so.
    async fn until(&self, what: &str, is_so: impl Fn() -> bool) -> Result<(), Error> {
        let began = Instant::now();
        while !is_so() {
            if began.elapsed() > STEP_LIMIT {
                let limit_s = STEP_LIMIT.as_secs();
                return Err(Error::Step(format!("after {limit_s} s it was still not so: {what}")));
            }
            sleep(STEP_EVERY).await;
        }
        Ok(())
    }

    fn no_loss(&self, since: Instant, when: &str) -> Result<(), Error> {
        let outage = self.stage.client.tries.borrow().outage(since, Instant::now());
        let Outage { asked, lost, .. } = outage;
        if lost > 0 || asked == 0 {
            return Err(Error::Step(format!("the client lost {lost} of {asked} requests {when}")));
        }
        self.stage.client_says(Tone::Good, &format!("{asked} requests {when}, none lost."));
        Ok(())
    }

    /// Waits until the address has moved and the client is served again, and measures what it cost.
    async fn moved(&self, began: Instant, from: &str, to: &str, what: &str) -> Result<Measured, Error> {
        let stage = &self.stage;
        self.until(&format!("{to} holds the address and serves"), || {
            stage.holder() == Some(to) && stage.client.served_by().as_deref() == Some(to)
        })
        .await?;
        // Until the last request of the outage has been given up, and eipwatch has verified its move.
        sleep(SETTLE).await;
        if stage.holder() != Some(to) {
            return Err(Error::Step(format!("the address did not stay on {to}")));
        }
        let outage = stage.client.tries.borrow().outage(began, Instant::now());
        let tone = if outage.lost == 0 { Tone::Good } else { Tone::Odd };
        stage.client_says(tone, &format!("Served by {to}. {}.", capital(&in_words(&outage))));
        if Duration::from_millis(outage.outage_ms) > MAX_OUTAGE {
            let limit_s = MAX_OUTAGE.as_secs();
            return Err(Error::Step(format!("{what}: an outage of more than {limit_s} s")));
        }
        Ok(Measured { what: what.to_owned(), from: from.to_owned(), to: to.to_owned(), outage })
    }

    /// What the command `drain` does, beside the watch that goes on.
    async fn drain(&self, index: usize) -> Result<(), Error> {
        let stage = &self.stage;
        let (_, instance) = stage.nodes.get(index).ok_or(Error::Lost("its instances"))?;
        let command = Trigger::Command(Command::Drain { node: InstanceId::from(&**instance) });
        stage.invoke(command, Duration::ZERO, OPERATOR).await;
        Ok(())
    }
}

fn in_words(outage: &Outage) -> String {
    match outage {
        Outage { lost: 0, asked, .. } => format!("no outage: none of {asked} requests lost"),
        Outage { lost, asked, outage_ms, .. } => {
            format!("outage {:.2} s: {lost} of {asked} requests lost", Duration::from_millis(*outage_ms).as_secs_f64())
        }
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

async fn keep_watching(stage: Rc<Stage>) {
    loop {
        if !stage.invoke(Trigger::Schedule { shard: None }, WATCH, WATCHER).await {
            sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn keep_drawing(stage: Rc<Stage>) {
    loop {
        stage.draw();
        sleep(DRAW_EVERY).await;
    }
}

impl Stage {
    /// One invocation, as Lambda would make it. Whether it did well.
    async fn invoke(&self, trigger: Trigger, watch: Duration, caller: u32) -> bool {
        let clock = self.clock;
        let cloud = EmbeddedCloud::new(self.world.clone(), caller, move || clock.now().as_millis());
        let settings = Settings { watch, ..Settings::default() };
        let now = clock.now();
        let mut watch = Watch::new(vec![trigger], settings, now, now + watch + FINISHING);
        let tell = |record: &Record| self.record(record);
        match drive(&mut watch, &cloud, &Sockets::new(), &clock, std::future::pending(), tell).await {
            Ending::Report(report) => {
                if let Some(error) = &report.error {
                    self.complain(error);
                }
                report.ok
            }
            Ending::BadRequest(bad) => {
                self.complain(&bad.to_string());
                false
            }
        }
    }

    fn complain(&self, what: &str) {
        self.screen.borrow_mut().tell(Voice::Watch, Some(Tone::Bad), what);
        self.complaints.borrow_mut().push(what.to_owned());
    }

    fn demo(&self, text: &str) {
        self.screen.borrow_mut().tell(Voice::Demo, Some(Tone::Strong), text);
    }

    fn client_says(&self, tone: Tone, text: &str) {
        self.screen.borrow_mut().tell(Voice::Client, Some(tone), text);
    }

    fn name_of(&self, id: &InstanceId) -> &'static str {
        self.nodes.iter().find(|(_, one)| **one == *id.as_str()).map_or("another instance", |(name, _)| name)
    }

    fn verdict(&self, name: &str) -> &'static str {
        self.view.borrow().nodes.get(name).map_or("", |node| node.verdict)
    }

    fn set_process(&self, name: &'static str, process: &'static str) {
        self.view.borrow_mut().nodes.entry(name).or_default().process = process;
    }

    /// Who holds the address, by EC2's own truth.
    fn holder(&self) -> Option<&'static str> {
        let world = self.world.borrow();
        let holder = world.holder(&self.address)?;
        self.nodes.iter().find(|(_, one)| one == holder).map(|(name, _)| *name)
    }

    fn draw(&self) {
        let mut screen = self.screen.borrow_mut();
        if !screen.is_live() {
            return;
        }
        let holder = self.holder();
        let mut view = self.view.borrow_mut();
        for (name, node) in &mut view.nodes {
            node.holds = holder == Some(name);
        }
        view.strip = self.client.tries.borrow().newest(STRIP);
        screen.draw(&view);
    }

    /// Tells a line of eipwatch's log in words.
    fn record(&self, record: &Record) {
        let (tone, text) = match record {
            // Once it has been judged, one failed probe is like the other.
            Record::Probe { node, started, at, answer, ok: Some(false), .. }
                if self.verdict(self.name_of(node)) != "unhealthy" =>
            {
                let waited = at.since(*started).as_millis();
                let what = match answer {
                    Answer::Refused => "refused".to_owned(),
                    Answer::TimedOut => "no answer".to_owned(),
                    Answer::Failed(why) | Answer::NotAsked(why) => why.clone(),
                    Answer::Status(code) => format!("status {code}"),
                    Answer::Connected => "connected".to_owned(),
                };
                (Tone::Faint, format!("Probe of {} failed after {waited} ms: {what}.", self.name_of(node)))
            }
            Record::Verdict { node, from, to, why, .. } => {
                let name = self.name_of(node);
                if let Some(view) = self.view.borrow_mut().nodes.get_mut(name) {
                    view.verdict = to.as_str();
                }
                let text = match (from, to) {
                    // Told by its first failed probe.
                    (_, Verdict::Suspect) => return,
                    (_, Verdict::Healthy) => format!("{name} is healthy."),
                    _ => format!("{name} is {}: {why}.", to.as_str()),
                };
                (if *to == Verdict::Healthy { Tone::Good } else { Tone::Odd }, text)
            }
            Record::Decision { decision, .. } if decision.why != crate::core::decide::Why::Healthy => {
                let mut text = decision.text.clone();
                for (name, id) in &self.nodes {
                    text = text.replace(&format!("{name} ({id})"), name);
                }
                (Tone::Odd, format!("Decision: {} ({}). {text}", kind_word(decision), decision.why))
            }
            Record::Move { result, .. } => {
                let to = self.name_of(&result.to);
                match &result.error {
                    None if result.ok => {
                        (Tone::Good, format!("Moved: EC2, asked again, shows {to}, after {} ms.", result.took_ms))
                    }
                    error => {
                        let why = error.as_deref().unwrap_or("no reason given");
                        (Tone::Bad, format!("Not moved to {to}: {why}."))
                    }
                }
            }
            Record::ReadingFailed { error, .. } | Record::Call { error: Some(error), .. } => {
                (Tone::Bad, format!("EC2: {error}."))
            }
            _ => return,
        };
        self.screen.borrow_mut().tell(Voice::Watch, Some(tone), &text);
    }
}

fn kind_word(decision: &crate::core::decide::Decision) -> &'static str {
    match decision.kind {
        crate::core::decide::Kind::Stay => "stay",
        crate::core::decide::Kind::Move => "move",
        crate::core::decide::Kind::Blocked => "blocked",
    }
}
