//! The command line: reads what was typed, runs it, says what came of it.
//!
//! Architecture invariant: nothing is decided here. A command is the payload that the function would be sent, carried out by the same
//! watch, and its answer is shown.

pub mod args;
pub mod ask;
pub mod doctor;
pub mod drill;
pub mod metrics;
pub mod paint;
pub mod render;
pub mod replay;
pub mod simulate;
pub mod standing;
pub mod timeline;
pub mod watch;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use futures_util::FutureExt;

use crate::core::event;
use crate::core::report::Report;
use args::{Cli, Command, Consent, DemoNode, Output};
use ask::{Backend, Failed, Prospect};
use render::Page;
use standing::Standing;
use timeline::Wrong;

/// It failed.
const FAILED: u8 = 1;
/// Where the answer was no.
const DECLINED: &str = "nothing was changed: the answer was not yes";

/// The whole of the program `eipwatch`.
pub fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == crate::demo::nodes::SUBCOMMAND) {
        let DemoNode { name, listen } = DemoNode::parse_from(std::env::args_os().skip(1));
        return block_on(async move {
            match crate::demo::nodes::serve(name, listen).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&format!("{listen}: {error}")),
            }
        });
    }
    block_on(run(Cli::parse().command))
}

fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("the system gives no event queue: {error}. Nothing was done.")),
    };
    let code = runtime.block_on(work);
    // A thread may still wait for standard input, or for a name to be resolved.
    runtime.shutdown_background();
    code
}

async fn run(command: Command) -> ExitCode {
    let no_consent = Consent { yes: true };
    let (command, consent, output) = match command {
        Command::Demo { json } => {
            let outcome = crate::demo::run(stop_signal(), json).await;
            if json {
                let (steps, error) = match &outcome {
                    Ok(steps) => (steps.as_slice(), None),
                    Err(error) => (&[][..], Some(error.to_string())),
                };
                put(to_json(&serde_json::json!({"ok": error.is_none(), "error": error, "steps": steps})).as_bytes());
            }
            return match outcome {
                Ok(_) => ExitCode::SUCCESS,
                Err(error) => fail(&format!("the demo failed: {error}")),
            };
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "eipwatch", &mut script);
            return put(&script);
        }
        Command::Man => {
            let mut page = Vec::new();
            return match man(&mut page) {
                Ok(()) => put(&page),
                Err(error) => fail(&format!("the manual page cannot be written: {error}")),
            };
        }
        Command::Watch { metrics } => return code_of(backend::watch(metrics).await),
        Command::Doctor { cluster, json, function } => {
            return code_of(backend::doctor(cluster.name(), json, function).await);
        }
        Command::Simulate { scenario, policy, vary, seed, list, show, log, picture } => {
            let scenario = scenario.unwrap_or_default();
            let order = simulate::Order { scenario, policies: policy, vary, seed, log };
            return told(if list {
                Ok(list_scenarios(picture.json))
            } else if show {
                simulate::text_of(&order.scenario).map(|text| put(text.as_bytes()))
            } else {
                play(&order, &picture)
            });
        }
        Command::Replay { log, policy, cluster, function, log_group, since, from, to, picture } => {
            let mut order = replay::Order { policies: policy, cluster, from, to, since };
            let log = match (log, function) {
                (Some(name), _) => replay::log_of(&name).map(|log| (log, name)),
                (None, name) => {
                    let name = name.unwrap_or_default();
                    let group = log_group.unwrap_or_else(|| format!("/aws/lambda/{name}"));
                    // The time is asked for there.
                    (order.from, order.to, order.since) = (None, None, None);
                    backend::function_log(&group, since, from, to).await.map(|log| (log, group))
                }
            };
            return told(log.and_then(|(log, name)| show_replay(log, &order, &name, &picture)));
        }
        Command::Drill { cluster, address, to, probe, html, consent, output } => {
            let order = drill::Order { cluster: cluster.name(), address, to, probe };
            let picture = args::Picture { json: output.json, html };
            let run = async |backend: &backend::Aws| rehearse(backend, &order, &consent, &picture).await;
            return code_of(backend::with(&output, run).await);
        }
        Command::Status { cluster, watch, every, output } => {
            let command = event::Command::Status { cluster: cluster.name() };
            if watch {
                return code_of(
                    backend::with(&output, async |backend| status_again(backend, &command, every).await).await,
                );
            }
            (command, no_consent, output)
        }
        Command::Sweep { cluster, dry_run, consent, output } => {
            (event::Command::Sweep { cluster: cluster.name(), dry_run }, consent, output)
        }
        Command::Move { cluster, address, to, force, dry_run, consent, output } => {
            (event::Command::Move { cluster, address, to, force, dry_run }, consent, output)
        }
        Command::Drain { node, consent, output } => (event::Command::Drain { node }, consent, output),
        Command::Undrain { node, consent, output } => (event::Command::Undrain { node }, consent, output),
        Command::Pause { cluster, length, consent, output } => {
            (event::Command::Pause { cluster: cluster.name(), r#for: length }, consent, output)
        }
        Command::Resume { cluster, consent, output } => {
            (event::Command::Resume { cluster: cluster.name() }, consent, output)
        }
    };
    let json = output.json;
    code_of(backend::with(&output, async |backend| manual(backend, &command, &consent, json).await).await)
}

fn told(outcome: Result<ExitCode, Wrong>) -> ExitCode {
    outcome.unwrap_or_else(|wrong| {
        // An example in it keeps its lines.
        let text: Vec<String> = wrong.to_string().lines().map(render::clean).collect();
        eprintln!("eipwatch: {}", text.join("\n"));
        ExitCode::from(wrong.code())
    })
}

fn list_scenarios(json: bool) -> ExitCode {
    let names: Vec<&str> = crate::simulate::CLASSICS.iter().map(|(name, _)| *name).collect();
    put(if json { to_json(&names) } else { simulate::list(Page::for_stdout()) }.as_bytes())
}

/// Plays a scenario and shows what came of it.
fn play(order: &simulate::Order, picture: &args::Picture) -> Result<ExitCode, Wrong> {
    let began = std::time::Instant::now();
    let (shown, played) = simulate::run(order)?;
    if let Some(path) = &picture.html {
        timeline::write_page(&shown, path)?;
    }
    if picture.json {
        return Ok(put(to_json(&shown).as_bytes()));
    }
    let page = Page::for_stdout();
    let days = shown.to.since(shown.from).as_secs_f64() / 86_400.0;
    let mut text = timeline::text(&shown, page);
    if shown.trade_off.is_some() {
        text.push('\n');
        text.push_str(&simulate::table(&played, days, page));
    }
    eprint!("{}", simulate::effort(&played, began.elapsed()));
    Ok(put(text.as_bytes()))
}

/// Shows a log, and what would have been decided under other policies.
fn show_replay(
    log: crate::replay::read::Log,
    order: &replay::Order,
    name: &str,
    picture: &args::Picture,
) -> Result<ExitCode, Wrong> {
    let shown = replay::run(log, order, name)?;
    if let Some(path) = &picture.html {
        timeline::write_page(&shown, path)?;
    }
    Ok(put(if picture.json { to_json(&shown) } else { timeline::text(&shown, Page::for_stdout()) }.as_bytes()))
}

fn code_of(outcome: Result<Standing, Failed>) -> ExitCode {
    match outcome {
        Ok(standing) => ExitCode::from(standing.code()),
        Err(failed) => {
            render::complain(&failed.to_string());
            ExitCode::from(failed.code())
        }
    }
}

fn fail(text: &str) -> ExitCode {
    render::complain(text);
    ExitCode::from(FAILED)
}

/// Writes to standard output. A reader that went away had enough.
fn put(text: &[u8]) -> ExitCode {
    match std::io::stdout().lock().write_all(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            fail(&format!("the output cannot be written: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

/// The manual page: of the program, and then of each command.
fn man(out: &mut Vec<u8>) -> std::io::Result<()> {
    let mut cli = Cli::command();
    cli.build();
    clap_mangen::Man::new(cli.clone()).render(out)?;
    for command in cli.get_subcommands() {
        let man = clap_mangen::Man::new(command.clone());
        writeln!(out, ".SH \"EIPWATCH {}\"", command.get_name().to_uppercase())?;
        let mut text = Vec::new();
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        man.render_options_section(&mut text)?;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            // Sections of the command stand under its own heading.
            match line.strip_prefix(b".SH ") {
                Some(heading) => out.extend([b".SS ", heading].concat()),
                None => out.extend(line),
            }
        }
    }
    Ok(())
}

/// Carries out one command and shows its answer.
async fn manual(
    backend: &impl Backend,
    command: &event::Command,
    consent: &Consent,
    json: bool,
) -> Result<Standing, Failed> {
    if !consent.yes && ask::changes(command) && ask::can_confirm() {
        match ask::prospect(backend, command).await? {
            Prospect::Nothing => {}
            Prospect::Refused(mut report) => {
                // It was found out by a dry run, which nobody asked for.
                report.dry_run = false;
                return Ok(show(command, &report, json));
            }
            Prospect::Will(will) if ask::confirm(&will) => {}
            Prospect::Will(_) => return Err(Failed::NoAnswer(DECLINED.to_owned())),
        }
    }
    let report = backend.ask(command).await?;
    Ok(show(command, &report, json))
}

/// Rehearses a switchover and shows what it cost.
async fn rehearse(
    backend: &impl Backend,
    order: &drill::Order,
    consent: &Consent,
    picture: &args::Picture,
) -> Result<Standing, Failed> {
    if let Some(path) = &picture.html {
        // Found out before anything moves.
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        file.map_err(|error| {
            Failed::NoAnswer(format!("{} cannot be written: {error}. Nothing was changed", path.display()))
        })?;
    }
    let plan = match drill::plan(backend, order).await? {
        Ok(plan) => plan,
        Err(why) => {
            render::complain(&format!("no drill: {why}. Nothing was moved"));
            return Ok(Standing::Attention);
        }
    };
    if !consent.yes && ask::can_confirm() && !ask::confirm(&plan.will()) {
        return Err(Failed::NoAnswer(DECLINED.to_owned()));
    }
    let tell = |text: &str| eprintln!("{}", render::clean(text));
    let report = drill::run(backend, &crate::probe::Sockets::new(), plan, stop_signal(), tell).await;
    let text = if picture.json { to_json(&report) } else { drill::render(&report, Page::for_stdout()) };
    put(text.as_bytes());
    if let Some(path) = &picture.html {
        timeline::write_page(&drill::timeline(&report), path).map_err(|wrong| Failed::NoAnswer(wrong.to_string()))?;
    }
    Ok(if report.ok { Standing::Well } else { Standing::Failed })
}

fn show(command: &event::Command, report: &Report, json: bool) -> Standing {
    let text = if json { to_json(report) } else { render::report(report, Page::for_stdout()) };
    put(text.as_bytes());
    if let Some(error) = &report.error {
        render::complain(error);
    }
    ask::standing(command, report)
}

fn to_json(value: &impl serde::Serialize) -> String {
    // Plain data with string keys can always be written.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

/// `status --watch`: until somebody ends it, with the last answer's standing.
async fn status_again(backend: &impl Backend, command: &event::Command, every: Duration) -> Result<Standing, Failed> {
    let stop = stop_signal().shared();
    // What was there before stays to be scrolled back to.
    let clear = if paint::is_screen() { "\x1b[H\x1b[2J" } else { "" };
    let mut last = Standing::Well;
    loop {
        tokio::select! {
            report = backend.ask(command) => {
                let at = crate::drive::Clock::now(&crate::drive::SystemClock::start());
                let (shown, error) = match report {
                    Ok(report) => {
                        last = ask::standing(command, &report);
                        (render::report(&report, Page::for_stdout()), report.error)
                    }
                    Err(Failed::NoAnswer(why)) => {
                        last = Standing::Failed;
                        (String::new(), Some(why))
                    }
                    Err(bad @ Failed::BadRequest(_)) => return Err(bad),
                };
                put(format!("{clear}{at}, again every {}\n\n{shown}", crate::core::time::duration_text(every)).as_bytes());
                if let Some(error) = error {
                    render::complain(&error);
                }
            }
            () = stop.clone() => return Ok(last),
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = stop.clone() => return Ok(last),
        }
    }
}

/// Resolves when somebody asks the program to end: Ctrl-C, SIGTERM.
async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let term = async {
            match signal(SignalKind::terminate()) {
                Ok(mut term) => term.recv().await,
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = term => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    #[cfg(not(unix))]
    {
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// Who carries commands out, in a build with the AWS SDK.
#[cfg(feature = "aws")]
mod backend {
    use std::cell::RefCell;
    use std::net::SocketAddr;
    use std::rc::Rc;
    use std::time::Duration;

    use serde_json::Value;
    use tokio::net::TcpListener;

    use super::ask::{Backend, Failed, Here};
    use super::doctor::Sources;
    use super::metrics::{Metrics, serve};
    use super::{Output, Standing};
    use crate::aws::AwsCloud;
    use crate::aws::invoke::{Function, IN_DOUBT, Invoked};
    use crate::core::event::Command;
    use crate::core::log::Record;
    use crate::core::model::ClusterName;
    use crate::core::report::Report;
    use crate::core::time::Time;
    use crate::drive::{Clock, SystemClock};
    use crate::env;
    use crate::logging::Logging;
    use crate::probe::Sockets;

    /// This process, or the deployed function.
    pub enum Aws {
        Here(Box<Here<AwsCloud, Sockets>>),
        There(Box<Function>),
    }

    impl Backend for Aws {
        async fn ask(&self, command: &Command) -> Result<Report, Failed> {
            match self {
                Aws::Here(here) => here.ask(command).await,
                Aws::There(function) => {
                    let payload = serde_json::to_string(command)
                        .map_err(|error| Failed::NoAnswer(format!("the command cannot be written: {error}")))?;
                    let invoked = function.invoke(&payload).await;
                    read(invoked.map_err(|error| Failed::NoAnswer(format!("no answer from the function: {error}")))?)
                }
            }
        }
    }

    /// What the function said.
    pub fn read(invoked: Invoked) -> Result<Report, Failed> {
        match invoked {
            Invoked::Answered(answer) => serde_json::from_slice(&answer).map_err(|error| {
                Failed::NoAnswer(format!("the function's answer is none of eipwatch's ({error}); see that it is the right function, of this version"))
            }),
            Invoked::Failed(error) => {
                let error: Value = serde_json::from_slice(&error).unwrap_or_default();
                let word = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                let said = word("errorMessage");
                let said = said.trim_end_matches('.');
                const LOG: &str = "Its log says more: aws logs tail /aws/lambda/NAME --since 10m";
                match word("errorType").as_str() {
                    "BadRequest" => {
                        let told = word("errorMessage");
                        // The example of a payload is of no use here.
                        let told = told.split(". Nothing was changed.").next().unwrap_or_default();
                        Err(Failed::BadRequest(told.to_owned()))
                    }
                    "Configuration" => Err(Failed::NoAnswer(format!(
                        "the function failed: {said}. Nothing was changed. Set that variable right where the function is deployed (EIPWATCH_LOG: the parameter LogLevel)"
                    ))),
                    "Cloud" => Err(Failed::NoAnswer(format!("the function failed: {said}. Nothing was changed. {LOG}"))),
                    // It could not observe EC2, and has said what that means for the command.
                    "Sweep" => Err(Failed::NoAnswer(format!("the function failed: {said}. {LOG}"))),
                    kind => Err(Failed::NoAnswer(format!(
                        "the function failed ({kind}): {said}. {IN_DOUBT}. {LOG}"
                    ))),
                }
            }
        }
    }

    async fn here() -> Result<Here<AwsCloud, Sockets>, Failed> {
        let settings = env::settings().map_err(|error| Failed::NoAnswer(error.to_string()))?;
        let cloud = AwsCloud::from_env()
            .await
            .map_err(|error| Failed::NoAnswer(format!("AWS cannot be asked: {error}. Nothing was changed")))?;
        Ok(Here { cloud, prober: Sockets::new(), settings })
    }

    pub async fn with(
        output: &Output,
        run: impl AsyncFnOnce(&Aws) -> Result<Standing, Failed>,
    ) -> Result<Standing, Failed> {
        let backend = match output.function.clone() {
            Some(name) => Aws::There(Box::new(Function::from_env(name).await)),
            None => Aws::Here(Box::new(here().await?)),
        };
        run(&backend).await
    }

    pub async fn doctor(
        cluster: Option<ClusterName>,
        json: bool,
        function: Option<String>,
    ) -> Result<Standing, Failed> {
        let here = here().await?;
        let keys = here.settings.keys.clone();
        let now = SystemClock::start().now();
        let diagnoses = match function {
            None => {
                let from = Sources { backend: &here, cloud: &here.cloud, keys, function: None };
                super::doctor::examine(&from, cluster, now).await?
            }
            Some(name) => {
                let function = Function::from_env(name).await;
                let configuration = function.configuration().await;
                let configuration = configuration.map(|answer| crate::network::Function::read(&answer));
                let backend = Aws::There(Box::new(function));
                let from = Sources { backend: &backend, cloud: &here.cloud, keys, function: Some(configuration) };
                super::doctor::examine(&from, cluster, now).await?
            }
        };
        let text = match json {
            true => super::to_json(&diagnoses),
            false => super::doctor::render(&diagnoses, super::Page::for_stdout()),
        };
        super::put(text.as_bytes());
        Ok(diagnoses.standing())
    }

    /// How much of a function's log is read where nobody says.
    const USUAL_LENGTH: Duration = Duration::from_secs(3_600);

    /// A deployed function's log.
    pub async fn function_log(
        group: &str,
        since: Option<Duration>,
        from: Option<Time>,
        to: Option<Time>,
    ) -> Result<crate::replay::read::Log, super::Wrong> {
        let now = crate::drive::SystemClock::start().now();
        let to = to.unwrap_or(now);
        let from = from.unwrap_or_else(|| to - since.unwrap_or(USUAL_LENGTH));
        crate::aws::logs::read(group, from, to).await.map_err(super::Wrong::Failed)
    }

    pub async fn watch(metrics: Option<SocketAddr>) -> Result<Standing, Failed> {
        let here = here().await?;
        let logging = Logging::parse(std::env::var(env::LOG).ok().as_deref())
            .map_err(|error| Failed::NoAnswer(error.to_string()))?;
        let listener = match metrics {
            None => None,
            Some(at) => Some(listen(at).await?),
        };
        logging.install();
        let measured = Rc::new(RefCell::new(Metrics::default()));
        let tell = |record: &Record, clock: &SystemClock| logging.tell(record, None, clock.now());
        let ended = |report: &Report, effort, now| measured.borrow_mut().take(report, effort, now);
        let watch = super::watch::run(&here, super::stop_signal(), tell, ended);
        match listener {
            None => watch.await,
            Some(listener) => tokio::select! {
                () = watch => {}
                () = serve(listener, measured.clone()) => {}
            },
        }
        Ok(Standing::Well)
    }

    async fn listen(at: SocketAddr) -> Result<TcpListener, Failed> {
        let refused = |error: std::io::Error| {
            Failed::NoAnswer(format!(
                "metrics cannot be served on {at}: {error}. Nothing is watched. Choose another address with --metrics, or leave it out"
            ))
        };
        let listener = TcpListener::bind(at).await.map_err(refused)?;
        let at = listener.local_addr().map_err(refused)?;
        eprintln!("eipwatch: metrics on http://{at}/metrics");
        Ok(listener)
    }
}

/// Who carries commands out, in a build without the AWS SDK: nobody.
#[cfg(not(feature = "aws"))]
mod backend {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::ask::{Backend, Failed};
    use super::{Output, Standing};
    use crate::core::event::Command;
    use crate::core::model::ClusterName;
    use crate::core::report::Report;
    use crate::core::time::Time;

    /// Never made.
    pub enum Aws {}

    impl Backend for Aws {
        async fn ask(&self, _: &Command) -> Result<Report, Failed> {
            match *self {}
        }
    }

    fn no_aws() -> Failed {
        let text = "this build cannot ask AWS: it was made with --no-default-features, for the demo. Nothing was done. Build with the default features, as by `cargo build --release`";
        Failed::NoAnswer(text.to_owned())
    }

    pub async fn with(_: &Output, _: impl AsyncFnOnce(&Aws) -> Result<Standing, Failed>) -> Result<Standing, Failed> {
        Err(no_aws())
    }

    pub async fn doctor(_: Option<ClusterName>, _: bool, _: Option<String>) -> Result<Standing, Failed> {
        Err(no_aws())
    }

    pub async fn watch(_: Option<SocketAddr>) -> Result<Standing, Failed> {
        Err(no_aws())
    }

    pub async fn function_log(
        _: &str,
        _: Option<Duration>,
        _: Option<Time>,
        _: Option<Time>,
    ) -> Result<crate::replay::read::Log, super::Wrong> {
        Err(super::Wrong::Failed(no_aws().to_string()))
    }
}
