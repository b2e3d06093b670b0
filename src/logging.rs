//! The log: one JSON object a line, the watch's own records and what the AWS SDK says alike.

use std::io::Write;

use serde::Serialize;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::core::log::{Level, Line, Record};
use crate::core::time::Time;
use crate::env::{BadVariable, LOG};

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct Logging {
    targets: Targets,
}

impl Logging {
    /// Reads `EIPWATCH_LOG`: a level, or a list of `target=level`.
    ///
    /// # Errors
    /// What cannot be read of it.
    pub fn parse(text: Option<&str>) -> Result<Logging, BadVariable> {
        let text = text.map(str::trim).filter(|text| !text.is_empty()).unwrap_or("info");
        let bad = |problem: String| BadVariable { name: LOG, value: text.to_owned(), problem };
        let what = "it is a level such as `info`, or a list such as `info,aws_smithy_runtime=debug`";
        // A word alone would be a target of which all is logged, and of anything else nothing: one that is meant for a level
        // and misspelt silenced the log.
        let is_read = |part: &str| part.contains('=') || part.trim().parse::<LevelFilter>().is_ok();
        let targets = text.parse().ok().filter(|_| text.split(',').all(is_read));
        targets.map(|targets| Logging { targets }).ok_or_else(|| bad(what.to_owned()))
    }

    /// Sends what libraries log to standard output, as JSON.
    pub fn install(&self) {
        let json = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stdout);
        // A second call, as in tests, leaves the first in place.
        let _ = tracing_subscriber::registry().with(json).with(self.targets.clone()).try_init();
    }

    fn enabled(&self, level: Level) -> bool {
        let level = match level {
            Level::Debug => tracing::Level::DEBUG,
            Level::Info => tracing::Level::INFO,
            Level::Warn => tracing::Level::WARN,
            Level::Error => tracing::Level::ERROR,
        };
        self.targets.would_enable("eipwatch", &level)
    }

    /// Writes a record, if its level is logged. A log that can't be written is no reason to stop.
    pub fn tell(&self, record: &Record, request_id: Option<&str>, now: Time) {
        if self.enabled(record.level()) {
            self.line(&Line::new(record, request_id, now));
        }
    }

    /// Writes anything as one line.
    pub fn line(&self, line: &impl Serialize) {
        if let Ok(mut text) = serde_json::to_string(line) {
            text.push('\n');
            let _ = std::io::stdout().lock().write_all(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_level_is_an_error_and_never_silence() {
        for text in ["warning", "inof", "info,eipwatch", "eipwatch=loud"] {
            let error = Logging::parse(Some(text)).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
        for text in ["warn", "INFO", "off", "info,eipwatch=debug", "info, aws_config=trace"] {
            assert!(Logging::parse(Some(text)).is_ok(), "{text}");
        }
        assert!(Logging::parse(None).is_ok_and(|logging| logging.enabled(Level::Info)));
    }
}
