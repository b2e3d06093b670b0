//! `eipwatch watch`: what the function does, outside Lambda, one watch after the other.

use std::future::Future;
use std::time::Duration;

use futures_util::FutureExt;

use crate::cloud::Cloud;
use crate::core::event::Trigger;
use crate::core::log::Record;
use crate::core::report::{Effort, Report};
use crate::core::time::Time;
use crate::core::watch::{Ending, Watch};
use crate::drive::{Clock, SystemClock, drive};
use crate::probe::Prober;

use super::ask::Here;

/// One watch, where `EIPWATCH_WATCH_SECONDS` does not say; as long as the templates have it for Lambda.
const WATCH: Duration = Duration::from_secs(55);
/// How long a watch may go on beyond its time, to finish what it began; also after a signal. The unit file's
/// `TimeoutStopSec` is longer.
const OVERTIME: Duration = Duration::from_secs(60);
/// The pause after a watch that failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Watches until `stop` resolves; the watch on its way then finishes what it began. `tell` gets every log record, `ended` every answer.
pub async fn run<C: Cloud, P: Prober>(
    here: &Here<C, P>,
    stop: impl Future<Output = ()>,
    mut tell: impl FnMut(&Record, &SystemClock),
    mut ended: impl FnMut(&Report, Effort, Time),
) {
    let stop = stop.shared();
    let mut settings = here.settings.clone();
    if settings.watch.is_zero() {
        settings.watch = WATCH;
    }
    while stop.clone().now_or_never().is_none() {
        // The wall clock is read anew each time: it may have been set.
        let clock = SystemClock::start();
        let now = clock.now();
        let trigger = Trigger::Schedule { shard: None };
        let mut watch = Watch::new(vec![trigger], settings.clone(), now, now + settings.watch + OVERTIME);
        let tell = |record: &Record| tell(record, &clock);
        let ending = drive(&mut watch, &here.cloud, &here.prober, &clock, stop.clone(), tell).await;
        let mut well = false;
        if let Ending::Report(report) = &ending {
            well = report.ok;
            ended(report, watch.effort(clock.now()), clock.now());
        }
        if !well {
            tokio::select! {
                () = tokio::time::sleep(PAUSE_AFTER_FAILURE) => {}
                () = stop.clone() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use super::*;
    use crate::cli::metrics::Metrics;
    use crate::core::model::{Answer, ProbeTarget};
    use crate::core::watch::Settings;
    use crate::embedded::ec2::{InstanceSpec, tags};
    use crate::embedded::{Ec2, EmbeddedCloud};

    struct Well;
    impl Prober for Well {
        async fn probe(&self, _: ProbeTarget) -> Answer {
            Answer::Connected
        }
    }

    #[test]
    fn it_goes_from_watch_to_watch_and_stops_when_told() {
        let clock = SystemClock::start();
        let mut world = Ec2::new(1);
        world.advance(clock.now().as_millis() - 60_000);
        let address = world.add_address(tags([("eipwatch:cluster", "web"), ("eipwatch:check", "tcp:80")]));
        let node = world.add_instance(InstanceSpec { tags: tags([("eipwatch:cluster", "web")]), ..Default::default() });
        let world = Rc::new(RefCell::new(world));
        let cloud = EmbeddedCloud::new(world.clone(), 1, move || clock.now().as_millis());
        let settings = Settings { watch: Duration::from_millis(200), ..Settings::default() };
        let here = Here { cloud, prober: Well, settings };
        let starts = Cell::new(0);
        let ends = Cell::new(0);
        let metrics = RefCell::new(Metrics::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (enough, told) = tokio::sync::oneshot::channel::<()>();
        let enough = Cell::new(Some(enough));
        runtime.block_on(async {
            let stop = async { drop(told.await) };
            let tell = |record: &Record, _: &SystemClock| match record {
                Record::Start { .. } => {
                    starts.set(starts.get() + 1);
                    if starts.get() == 3 {
                        drop(enough.take());
                    }
                }
                Record::End { .. } => ends.set(ends.get() + 1),
                _ => {}
            };
            run(&here, stop, tell, |report, effort, now| metrics.borrow_mut().take(report, effort, now)).await;
        });
        assert_eq!((starts.get(), ends.get()), (3, 3), "each that began has ended");
        let text = metrics.borrow().text();
        assert!(text.contains("eipwatch_watches_total 3\n"), "{text}");
        assert!(text.contains("eipwatch_moves_total{cluster=\"web\"} 1\n"), "{text}");
        assert_eq!(world.borrow().holder(&address), Some(&node), "the address that nobody held was given to the node");
    }
}
