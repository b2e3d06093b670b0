//! Runs a [`Watch`] against the two seams: Lambda, the command line and the demo all go through here.
//!
//! Architecture invariant: nothing is decided or retried here, and only `drive` carries out effects, all of them. It times nothing but
//! itself: what a node did while nobody could listen is not known, and is not told as a failure.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use crate::cloud::Cloud;
use crate::core::log::Record;
use crate::core::model::Answer;
use crate::core::time::{Time, duration_text};
use crate::core::watch::{Effect, Ending, Input, Watch};
use crate::probe::Prober;

/// The present, from outside the core.
pub trait Clock {
    /// The present. Must never run backwards by more than moments.
    fn now(&self) -> Time;
}

/// The machine's clock: the wall's time at the start, carried on by the monotonic clock, so that a clock that is set cannot shake a watch.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Time,
    since: tokio::time::Instant,
}

impl SystemClock {
    /// Reads the wall clock, once.
    pub fn start() -> SystemClock {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let start = Time::from_millis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX));
        SystemClock { start, since: tokio::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        self.start + self.since.elapsed()
    }
}

/// How long a turn takes at most while nothing comes in: what is longer was lost, to work or because the machine was not run.
const TURN: Duration = Duration::from_millis(50);
/// How much of that is worth a thought.
const LATE: Duration = Duration::from_millis(20);
/// How often sockets are looked at after that before time counts.
const LOOKS_WHEN_LATE: u32 = 3;

/// Probes on their way: their time limit, and how much of their time nobody listened.
#[derive(Debug, Default)]
struct Probes(BTreeMap<u64, (Duration, Duration)>);

impl Probes {
    fn lose(&mut self, late: Duration) {
        for (_, lost) in self.0.values_mut() {
            *lost = lost.saturating_add(late);
        }
    }

    /// Whether so much of its time was lost that it tells nothing of its node to have been too late.
    fn is_void((timeout, lost): (Duration, Duration)) -> bool {
        lost.saturating_mul(2) >= timeout
    }

    fn busy(lost: Duration) -> Answer {
        Answer::NotAsked(format!("the watcher itself was busy for {}", duration_text(lost)))
    }

    /// What came in, as it may be told.
    fn heard(&mut self, input: Input) -> Input {
        let Input::Probed(id, answer) = input else { return input };
        match (answer, self.0.remove(&id)) {
            (Answer::TimedOut, Some(probe)) if Probes::is_void(probe) => Input::Probed(id, Probes::busy(probe.1)),
            (answer, _) => Input::Probed(id, answer),
        }
    }

    /// Takes out those that have become void.
    fn void(&mut self) -> Vec<Input> {
        let void = self.0.extract_if(.., |_, probe| Probes::is_void(*probe));
        void.map(|(id, (_, lost))| Input::Probed(id, Probes::busy(lost))).collect()
    }
}

type Running<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = Input> + 'a>>>;

/// Carries out what the watch says until it has ended. `stop` resolves when it should end soon; `tell` gets every log record.
pub async fn drive(
    watch: &mut Watch,
    cloud: &impl Cloud,
    prober: &impl Prober,
    clock: &impl Clock,
    stop: impl Future<Output = ()>,
    mut tell: impl FnMut(&Record),
) -> Ending {
    let mut running: Running<'_> = FuturesUnordered::new();
    let mut stop = pin!(stop);
    let mut stopping = false;
    let mut probes = Probes::default();
    let mut turn = clock.now();
    loop {
        for effect in watch.poll(clock.now()) {
            match effect {
                Effect::Look(id, look) => {
                    running.push(Box::pin(async move { Input::Looked(id, cloud.look(look).await) }))
                }
                Effect::Act(id, act) => running.push(Box::pin(async move { Input::Acted(id, cloud.act(act).await) })),
                Effect::Probe(id, target) => {
                    probes.0.insert(id, (target.timeout, Duration::ZERO));
                    running.push(Box::pin(async move { Input::Probed(id, prober.probe(target).await) }))
                }
                Effect::Log(record) => tell(&record),
            }
        }
        if let Some(ending) = watch.ending() {
            return ending.clone();
        }
        let wait = watch.next_wake().map_or(TURN, |at| at.since(clock.now()).min(TURN));
        let mut came = None;
        tokio::select! {
            biased;
            () = &mut stop, if !stopping => {
                stopping = true;
                watch.feed(Input::Stop, clock.now());
            }
            input = running.next(), if !running.is_empty() => came = input,
            () = tokio::time::sleep(wait) => {}
        }
        let now = clock.now();
        let late = now.since(turn + TURN);
        let is_late = late >= LATE;
        turn = now;
        if is_late {
            probes.lose(late);
        }
        // What has come in counts before the time that has passed.
        for looked in 0..=if is_late { LOOKS_WHEN_LATE } else { 0 } {
            if looked > 0 {
                tokio::task::yield_now().await;
            }
            while let Some(input) = came.take().or_else(|| running.next().now_or_never().flatten()) {
                watch.feed(probes.heard(input), clock.now());
            }
        }
        if is_late {
            for input in probes.void() {
                watch.feed(input, clock.now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use super::*;
    use crate::core::event::Trigger;
    use crate::core::model::ProbeTarget;
    use crate::core::tags::Verdict;
    use crate::core::watch::Settings;
    use crate::embedded::ec2::{InstanceSpec, Place, tags};
    use crate::embedded::{Ec2, EmbeddedCloud};

    /// A clock that can be made to jump, as it does for whoever was not run meanwhile.
    #[derive(Clone)]
    struct Jumping(SystemClock, Rc<Cell<Duration>>);

    impl Clock for Jumping {
        fn now(&self) -> Time {
            self.0.now() + self.1.get()
        }
    }

    /// Nodes that answer within so long; with the tenth probe the machine stands still for a while.
    struct Interrupted(Jumping, Cell<u32>, Duration);

    impl Prober for Interrupted {
        async fn probe(&self, _: ProbeTarget) -> Answer {
            self.1.set(self.1.get() + 1);
            if self.1.get() == 10 {
                let Jumping(_, jumped) = &self.0;
                jumped.set(jumped.get() + Duration::from_millis(900));
            }
            tokio::time::sleep(self.2).await;
            Answer::Connected
        }
    }

    /// What a watch over two nodes logs while it is interrupted.
    fn interrupted(answered_in: Duration) -> Vec<Record> {
        let clock = Jumping(SystemClock::start(), Rc::default());
        let mut world = Ec2::new(1);
        world.advance(clock.now().as_millis() - 600_000);
        let cluster = ("eipwatch:cluster", "web");
        let policy = ("eipwatch:policy", "interval=200ms fast=100ms timeout=500ms fall=1");
        let address = world.add_address(tags([cluster, ("eipwatch:check", "tcp:80"), policy]));
        let mut add = || world.add_instance(InstanceSpec { tags: tags([cluster]), ..Default::default() });
        let (holder, _) = (add(), add());
        world.move_by_hand(&address, Place::Instance(&holder), world.now_ms());
        world.settle();
        let at = clock.clone();
        let cloud = EmbeddedCloud::new(Rc::new(RefCell::new(world)), 1, move || at.now().as_millis());
        let settings = Settings { watch: Duration::from_millis(2_500), ..Settings::default() };
        let now = clock.now();
        let schedule = vec![Trigger::Schedule { shard: None }];
        let mut watch = Watch::new(schedule, settings, now, now + Duration::from_secs(60));
        let prober = Interrupted(clock.clone(), Cell::new(0), answered_in);
        let mut records = Vec::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let tell = |record: &Record| records.push(record.clone());
        runtime.block_on(drive(&mut watch, &cloud, &prober, &clock, std::future::pending(), tell));
        records
    }

    #[test]
    fn a_watcher_that_was_not_run_for_a_while_blames_no_node() {
        let busy: fn(&Record) -> bool =
            |record| matches!(record, Record::Probe { answer: Answer::NotAsked(why), .. } if why.contains("busy"));
        let failed = |record: &&Record| matches!(record, Record::Verdict { to, .. } if *to != Verdict::Healthy);
        // Their answers are there afterwards, or they could not be given.
        for (answered_in_ms, void) in [(5, false), (250, true)] {
            let records = interrupted(Duration::from_millis(answered_in_ms));
            assert_eq!(records.iter().find(failed), None, "{answered_in_ms} ms");
            // The machine stood still for 900 ms.
            let counted: fn(&Record) -> bool =
                |record| matches!(record, Record::Passes { slowest_ms, .. } if *slowest_ms >= 900);
            assert!(records.iter().any(if void { busy } else { counted }), "{answered_in_ms} ms");
        }
    }
}
