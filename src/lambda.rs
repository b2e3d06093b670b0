//! The Lambda function: payload in, watch driven, answer out.

use std::time::Duration;

use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::{Value, json};

use crate::aws::AwsCloud;
use crate::core::event::{self, BadRequest, Request, Trigger};
use crate::core::log::Record;
use crate::core::model::CloudError;
use crate::core::report::Report;
use crate::core::time::Time;
use crate::core::watch::{Ending, Settings, Watch};
use crate::drive::{Clock, SystemClock, drive};
use crate::env::{self, BadVariable};
use crate::logging::Logging;
use crate::probe::Sockets;

/// How long before Lambda's own deadline an invocation ends, to answer and to log.
const DEADLINE_MARGIN: Duration = Duration::from_millis(1_000);
/// The time limit where Lambda gives none.
const DEADLINE_UNKNOWN: Duration = Duration::from_secs(60);

/// Why an invocation failed. Lambda's `errorType` is the variant's name.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The payload is none of the contract's.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// The environment cannot be read.
    #[error(transparent)]
    Configuration(#[from] BadVariable),
    /// There is no way to ask AWS.
    #[error("AWS cannot be asked: {0}. Nothing was moved.")]
    Cloud(#[from] CloudError),
    /// A cluster could not be observed, or a move that was decided was not made.
    #[error("{0} The full answer is in the log.")]
    Sweep(String),
}

impl From<Failed> for Diagnostic {
    fn from(failed: Failed) -> Diagnostic {
        let error_type = match failed {
            Failed::BadRequest(_) => "BadRequest",
            Failed::Configuration(_) => "Configuration",
            Failed::Cloud(_) => "Cloud",
            Failed::Sweep(_) => "Sweep",
        };
        Diagnostic { error_type: error_type.to_owned(), error_message: failed.to_string() }
    }
}

/// What an invocation answers; its members stay in the order of the contract.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Report(Box<Report>),
    Ignored { ignored: String },
}

/// What every invocation of one execution environment shares.
struct Function {
    settings: Result<Settings, BadVariable>,
    cloud: Result<AwsCloud, CloudError>,
    prober: Sockets,
    logging: Logging,
}

/// Serves invocations until Lambda ends the process. What is wrong with the environment is said to every invocation, not only at the start.
///
/// # Errors
/// Lambda's runtime API cannot be reached.
pub async fn run() -> Result<(), lambda_runtime::Error> {
    let (logging, log_error) = match Logging::parse(std::env::var(env::LOG).ok().as_deref()) {
        Ok(logging) => (logging, None),
        Err(error) => (Logging::parse(None)?, Some(error)),
    };
    logging.install();
    let settings = log_error.map_or_else(env::settings, Err);
    let function = Function { settings, cloud: AwsCloud::from_env().await, prober: Sockets::new(), logging };
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| function.invoke(event))).await
}

impl Function {
    async fn invoke(&self, event: LambdaEvent<Value>) -> Result<Answer, Failed> {
        let clock = SystemClock::start();
        let result = self.answer(event, &clock).await;
        if let Err(failed) = &result {
            self.logging.line(&json!({
                "timestamp": clock.now(), "level": "ERROR", "event": "failed", "message": failed.to_string()
            }));
        }
        result
    }

    async fn answer(&self, event: LambdaEvent<Value>, clock: &SystemClock) -> Result<Answer, Failed> {
        let settings = self.settings.as_ref().map_err(Clone::clone)?;
        let triggers = match event::parse(&event.payload)? {
            Request::Run(triggers) => triggers,
            Request::Ignored(what) => return Ok(Answer::Ignored { ignored: what }),
        };
        let cloud = self.cloud.as_ref().map_err(Clone::clone)?;
        let manual = triggers.iter().any(|trigger| matches!(trigger, Trigger::Command(_)));
        let now = clock.now();
        let deadline = match event.context.deadline {
            0 => now + DEADLINE_UNKNOWN,
            at => (Time::from_millis(at) - DEADLINE_MARGIN).max(now),
        };
        let mut watch = Watch::new(triggers, settings.clone(), now, deadline);
        let stop = std::future::pending();
        let tell = |record: &Record| self.logging.tell(record, Some(&event.context.request_id), clock.now());
        let ending = drive(&mut watch, cloud, &self.prober, clock, stop, tell).await;
        let report = match ending {
            Ending::Report(report) => report,
            Ending::BadRequest(bad) => return Err(bad.into()),
        };
        let now = clock.now();
        for line in report.metrics(watch.effort(now), now) {
            self.logging.line(&line);
        }
        self.judge(report, manual)
    }

    /// An event's invocation fails where its report does, so that Lambda's own error metric counts it; a command always answers, unless
    /// nothing at all could be observed.
    fn judge(&self, report: Report, manual: bool) -> Result<Answer, Failed> {
        match &report.error {
            Some(error) if !manual || !report.observed => Err(Failed::Sweep(error.clone())),
            _ => Ok(Answer::Report(Box::new(report))),
        }
    }
}
