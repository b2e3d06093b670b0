//! What a node asks itself: `http:8080/health`, `https:…`, `tcp:5432`, `unit:nginx.service`, `exec:/usr/local/bin/ok`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::core::model::Scheme;
use crate::core::tags::{self, Check};

/// A check that the agent makes on its own machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalCheck {
    /// A connection, or a GET, as the watcher's probes make it.
    Probe {
        /// What is asked.
        scheme: Scheme,
        /// The port.
        port: u16,
        /// The request's path; empty for `tcp`.
        path: Arc<str>,
    },
    /// A systemd unit that is to be active.
    Unit(String),
    /// A program that is to exit with status 0; it gets no arguments and no shell.
    Exec(PathBuf),
}

/// systemd's own limit for the name of a unit.
const MAX_UNIT_CHARS: usize = 255;

const EXAMPLES: &str =
    "a check is http:8080/health, https:443/, tcp:5432, unit:nginx.service or exec:/usr/local/bin/ok";

impl FromStr for LocalCheck {
    type Err = String;

    fn from_str(text: &str) -> Result<LocalCheck, String> {
        if let Some(unit) = text.strip_prefix("unit:") {
            let good = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
            return match unit.len() {
                0 => Err(format!("'{text}' lacks the unit's name, such as unit:nginx.service")),
                1..=MAX_UNIT_CHARS if unit.chars().all(good) && !unit.starts_with('-') => {
                    Ok(LocalCheck::Unit(unit.to_owned()))
                }
                _ => Err(format!("'{text}' does not name a systemd unit, such as unit:nginx.service")),
            };
        }
        if let Some(program) = text.strip_prefix("exec:") {
            return if Path::new(program).is_absolute() {
                Ok(LocalCheck::Exec(PathBuf::from(program)))
            } else {
                Err(format!("'{text}' lacks a program's whole path, such as exec:/usr/local/bin/ok"))
            };
        }
        match tags::checks(text) {
            (checks, problems) if problems.is_empty() => match checks.as_slice() {
                [Check::Probe { scheme, port, path }] => {
                    Ok(LocalCheck::Probe { scheme: *scheme, port: *port, path: path.clone() })
                }
                _ => Err(format!("'{text}' is not for a node to ask itself: {EXAMPLES}")),
            },
            // The watcher's list of examples would leave out the agent's own kinds.
            (_, problems) if text.starts_with("tcp:") || text.starts_with("http:") || text.starts_with("https:") => {
                Err(problems.join(", "))
            }
            _ => Err(format!("'{text}' is not a check: {EXAMPLES}")),
        }
    }
}

impl fmt::Display for LocalCheck {
    /// As it is configured.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LocalCheck::Probe { scheme, port, path } => {
                Check::Probe { scheme: *scheme, port: *port, path: path.clone() }.fmt(f)
            }
            LocalCheck::Unit(unit) => write!(f, "unit:{unit}"),
            LocalCheck::Exec(program) => write!(f, "exec:{}", program.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_kind_and_writes_it_back() {
        for text in [
            "http:8080/health",
            "https:443/",
            "tcp:5432",
            "unit:nginx.service",
            "unit:getty@tty1.service",
            "exec:/bin/true",
        ] {
            assert_eq!(text.parse::<LocalCheck>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn says_what_is_wrong_with_the_others() {
        for (text, part) in [
            ("heartbeat", "not for a node to ask itself"),
            ("alarm:high", "not for a node to ask itself"),
            ("ec2", "not for a node to ask itself"),
            ("", "not for a node to ask itself"),
            ("tcp:", "lacks a port"),
            ("tcp:80/x", "tcp:80"),
            ("ping", "unit:nginx.service"),
            ("unit:", "lacks the unit's name"),
            ("unit:--help", "does not name a systemd unit"),
            ("unit:a b", "does not name a systemd unit"),
            ("exec:ok", "whole path"),
            ("exec:", "whole path"),
        ] {
            let problem = text.parse::<LocalCheck>().unwrap_err();
            assert!(problem.contains(part), "{text}: {problem}");
        }
    }
}
