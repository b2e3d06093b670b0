//! Runs a [`Watch`] against the two seams: Lambda, the command line and the demo all go through here.
//!
//! Architecture invariant: nothing is decided, retried or timed here. Only `drive` carries out effects, and it carries out all of them.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::cloud::Cloud;
use crate::core::log::Record;
use crate::core::time::Time;
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
    loop {
        for effect in watch.poll(clock.now()) {
            match effect {
                Effect::Look(id, look) => {
                    running.push(Box::pin(async move { Input::Looked(id, cloud.look(look).await) }))
                }
                Effect::Act(id, act) => running.push(Box::pin(async move { Input::Acted(id, cloud.act(act).await) })),
                Effect::Probe(id, target) => {
                    running.push(Box::pin(async move { Input::Probed(id, prober.probe(target).await) }))
                }
                Effect::Log(record) => tell(&record),
            }
        }
        if let Some(ending) = watch.ending() {
            return ending.clone();
        }
        let wait = watch.next_wake().map_or(Duration::from_secs(1), |at| at.since(clock.now()));
        tokio::select! {
            Some(input) = running.next(), if !running.is_empty() => watch.feed(input, clock.now()),
            () = tokio::time::sleep(wait) => {}
            () = &mut stop, if !stopping => {
                stopping = true;
                watch.feed(Input::Stop, clock.now());
            }
        }
    }
}
