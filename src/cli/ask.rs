//! The manual commands: what will happen, whether it may, and doing it.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use super::render::{Page, complain, label};
use super::standing::{self, Standing};
use crate::cloud::Cloud;
use crate::core::decide::Kind;
use crate::core::event::{Command, Trigger};
use crate::core::log::Record;
use crate::core::model::Look;
use crate::core::report::{NodeReport, Report};
use crate::core::time::duration_text;
use crate::core::watch::{Ending, Settings, Watch};
use crate::drive::{Clock, SystemClock, drive};
use crate::probe::Prober;

/// How long one command may take. A sweep settles within seconds; throttled by AWS it goes on trying.
const LIMIT: Duration = Duration::from_secs(60);
/// How long it waits for an EC2 that shows nothing at all: somebody sits before the terminal, and can begin again.
const PATIENCE: Duration = Duration::from_secs(20);

/// What may help where EC2 cannot be asked from here.
const BY_FUNCTION: &str = "With --function NAME the deployed function asks, from where it is and as its own role.";

/// After so many reads that failed it is told that there is trouble.
const FAILURES_TOLD: u32 = 4;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The command names what does not exist, or leaves out what is needed.
    #[error("{0}. Nothing was changed. `eipwatch status` shows what there is")]
    BadRequest(String),
    /// Nobody could be asked.
    #[error("{0}")]
    NoAnswer(String),
}

impl Failed {
    /// The exit status.
    pub fn code(&self) -> u8 {
        match self {
            Failed::BadRequest(_) => 2,
            Failed::NoAnswer(_) => 1,
        }
    }
}

/// Whoever carries out commands: this process, or the deployed function.
#[expect(async_fn_in_trait, reason = "driven on one thread: no future has to be Send")]
pub trait Backend {
    /// Carries out one command.
    async fn ask(&self, command: &Command) -> Result<Report, Failed>;
}

/// Commands carried out by this process.
#[derive(Debug)]
pub struct Here<C, P> {
    /// EC2 and CloudWatch.
    pub cloud: C,
    /// The nodes, as seen from here.
    pub prober: P,
    /// What the environment sets.
    pub settings: Settings,
}

impl<C: Cloud, P: Prober> Backend for Here<C, P> {
    async fn ask(&self, command: &Command) -> Result<Report, Failed> {
        let clock = SystemClock::start();
        let now = clock.now();
        let trigger = Trigger::Command(command.clone());
        let mut watch = Watch::new(vec![trigger], self.settings.clone(), now, now + LIMIT);
        watch.hurry(PATIENCE);
        // Ctrl-C ends the process: a move is one call, and the next sweep finishes what it leaves.
        let stop = std::future::pending();
        let mut failures = 0;
        let (mut addresses, mut instances) = (false, false);
        let place = self.cloud.place();
        let asked = if place.is_empty() { String::new() } else { format!(", {place}") };
        let tell = |record: &Record| match record {
            Record::Reading { look: Look::Addresses, .. } => addresses = true,
            Record::Reading { look: Look::Instances(_) | Look::InstancesById(_), .. } => instances = true,
            Record::ReadingFailed { error, .. } => {
                failures += 1;
                // Somebody waits, and would not know for what.
                if failures == FAILURES_TOLD {
                    let limit = duration_text(if addresses && instances { LIMIT } else { PATIENCE });
                    complain(&format!(
                        "AWS does not answer ({error}){asked}. It is asked again, for {limit} in all; Ctrl-C ends that"
                    ));
                }
            }
            _ => {}
        };
        match drive(&mut watch, &self.cloud, &self.prober, &clock, stop, tell).await {
            Ending::Report(mut report) => {
                if !report.observed
                    && let Some(error) = &mut report.error
                {
                    let asked = if place.is_empty() { String::new() } else { format!(" Asked from here: {place}.") };
                    error.push_str(&format!("{asked} {BY_FUNCTION}"));
                }
                Ok(report)
            }
            Ending::BadRequest(bad) => Err(Failed::BadRequest(bad.problem)),
        }
    }
}

/// Whether the command changes anything.
pub fn changes(command: &Command) -> bool {
    !matches!(
        command,
        Command::Status { .. } | Command::Sweep { dry_run: true, .. } | Command::Move { dry_run: true, .. }
    )
}

/// Whether the command was typed to change one thing; a sweep looks after everything.
pub fn is_order(command: &Command) -> bool {
    !matches!(command, Command::Status { .. } | Command::Sweep { .. })
}

/// How an answer to the command stands.
pub fn standing(command: &Command, report: &Report) -> Standing {
    standing::of(report, is_order(command))
}

/// What becomes of a command before it is carried out.
#[derive(Debug)]
pub enum Prospect {
    /// Nothing that has to be asked about.
    Nothing,
    /// This would happen.
    Will(Vec<String>),
    /// It would be refused; the answer says why.
    Refused(Box<Report>),
}

/// Finds out what the command would do, changing nothing.
///
/// # Errors
/// As [`Backend::ask`].
pub async fn prospect(backend: &impl Backend, command: &Command) -> Result<Prospect, Failed> {
    let dry = match command.clone() {
        Command::Status { .. } => return Ok(Prospect::Nothing),
        Command::Sweep { dry_run: true, .. } | Command::Move { dry_run: true, .. } => return Ok(Prospect::Nothing),
        Command::Sweep { cluster, .. } => Command::Sweep { cluster, dry_run: true },
        Command::Move { cluster, address, to, force, .. } => {
            Command::Move { cluster, address, to, force, dry_run: true }
        }
        Command::Drain { .. } | Command::Undrain { .. } => Command::Status { cluster: None },
        Command::Pause { cluster, .. } | Command::Resume { cluster } => Command::Status { cluster },
    };
    let mut report = backend.ask(&dry).await?;
    if !report.ok {
        if let (Command::Status { .. }, Some(error)) = (&dry, &mut report.error) {
            error.push_str(" What you typed was NOT carried out.");
        }
        return Ok(Prospect::Refused(Box::new(report)));
    }
    let addresses = || report.clusters.iter().flat_map(|cluster| &cluster.addresses);
    let will: Vec<String> = match command {
        Command::Drain { node } | Command::Undrain { node } => {
            let drain = matches!(command, Command::Drain { .. });
            let of = report.clusters.iter().find(|of| of.nodes.iter().any(|one| &one.id == node));
            let who = of.map_or_else(|| node.to_string(), |of| label(of, node));
            let mut will = match drain {
                true => vec![format!("{who} gets mode drain: it is no candidate any more.")],
                false => vec![format!("{who} gets mode active: it may take addresses again.")],
            };
            for of in report.clusters.iter().filter(|_| drain) {
                let held = of.addresses.iter().filter(|address| address.holder.as_ref() == Some(node));
                let held: Vec<String> = held.map(|address| address.public_ip.to_string()).collect();
                let others: Vec<&NodeReport> = of.nodes.iter().filter(|one| one.candidate).collect();
                let held = held.join(" and ");
                match others.as_slice() {
                    _ if held.is_empty() => {}
                    [] => will.push(format!("It keeps {held} until another node can take it: none can now.")),
                    [one] => will.push(format!("{held} goes to {}.", label(of, &one.id))),
                    several => will.push(format!("{held} goes to the best of {} candidates.", several.len())),
                }
            }
            will
        }
        Command::Pause { r#for, .. } => {
            let until = r#for
                .map_or_else(|| "until `eipwatch resume`".to_owned(), |time| format!("for {}", duration_text(time)));
            addresses()
                .map(|address| format!("{} stays where it is {until}, whatever happens.", address.public_ip))
                .collect()
        }
        Command::Resume { .. } => addresses()
            .map(|address| match address.decision.as_ref().and_then(|decision| decision.would.as_deref()) {
                Some(would) if would.kind == Kind::Move => format!("At once: {}", would.text),
                _ => format!("{} moves by itself again when it has to.", address.public_ip),
            })
            .collect(),
        _ => addresses()
            .filter_map(|address| address.decision.as_ref())
            .filter(|decision| decision.kind == Kind::Move)
            .map(|decision| decision.text.clone())
            .collect(),
    };
    Ok(if will.is_empty() { Prospect::Nothing } else { Prospect::Will(will) })
}

/// Whether somebody sits at a terminal who could be asked.
pub fn can_confirm() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Shows what will happen and waits for a yes.
pub fn confirm(will: &[String]) -> bool {
    let mut err = std::io::stderr().lock();
    let mut lines = String::new();
    for line in will {
        Page::for_stderr().wrap(&mut lines, "", None, line);
    }
    let _ = err.write_all(lines.as_bytes());
    let _ = write!(err, "Go on? [y/N] ");
    let _ = err.flush();
    let mut answer = String::new();
    // A yes is short. Nothing can be read: no.
    let read = std::io::Read::take(std::io::stdin().lock(), 1_000).read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes" | "Yes")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::core::model::{Answer, InstanceId, ProbeTarget};
    use crate::embedded::ec2::{InstanceSpec, Place, tags};
    use crate::embedded::{Ec2, EmbeddedCloud};

    struct Well;
    impl Prober for Well {
        async fn probe(&self, _: ProbeTarget) -> Answer {
            Answer::Connected
        }
    }

    #[test]
    fn what_will_happen_is_said_and_nothing_happens() {
        let clock = SystemClock::start();
        let mut world = Ec2::new(1);
        world.advance(clock.now().as_millis() - 600_000);
        let cluster = ("eipwatch:cluster", "web");
        let policy = ("eipwatch:policy", "interval=100ms fast=50ms");
        let address = world.add_address(tags([cluster, ("eipwatch:check", "tcp:80"), policy]));
        let mut add = || world.add_instance(InstanceSpec { tags: tags([cluster]), ..Default::default() });
        let (holder, peer) = (add(), add());
        world.move_by_hand(&address, Place::Instance(&holder), world.now_ms());
        world.settle();
        let ip = world.elastic_ip(&address).unwrap();
        let world = Rc::new(RefCell::new(world));
        let cloud = EmbeddedCloud::new(world.clone(), 1, move || clock.now().as_millis());
        let here = Here { cloud, prober: Well, settings: Settings::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let foresee = |command: Command| runtime.block_on(prospect(&here, &command));
        let will = |command: Command| match foresee(command) {
            Ok(Prospect::Will(lines)) => lines.join(" "),
            other => panic!("{other:?}"),
        };

        let node = InstanceId::from(&*holder);
        let drain = will(Command::Drain { node: node.clone() });
        assert!(drain.contains("mode drain") && drain.contains(&ip.to_string()), "{drain}");
        let moved = will(Command::Move { cluster: None, address: None, to: None, force: false, dry_run: false });
        assert!(moved.contains(&*peer), "{moved}");
        let pause = will(Command::Pause { cluster: None, r#for: Some(Duration::from_secs(7200)) });
        assert!(pause.contains("for 2h"), "{pause}");
        let nothing = foresee(Command::Sweep { cluster: None, dry_run: false });
        assert!(matches!(nothing, Ok(Prospect::Nothing)), "all is well: {nothing:?}");
        let outsider = Some(InstanceId::from("i-0123456789abcdef0"));
        let refused =
            foresee(Command::Move { cluster: None, address: None, to: outsider, force: false, dry_run: false });
        assert!(matches!(&refused, Ok(Prospect::Refused(report)) if !report.ok), "{refused:?}");
        let unknown = Some(crate::core::tags::cluster_name("mail").unwrap());
        let bad = foresee(Command::Resume { cluster: unknown });
        assert!(matches!(&bad, Err(Failed::BadRequest(why)) if why.contains("mail")), "{bad:?}");

        assert!(world.borrow().calls().iter().all(|call| !call.changed));
    }
}
