//! The environment: one table of variables beside what they set. What cannot be read is an error, never a default.

use std::time::Duration;

use crate::core::event::Shard;
use crate::core::tags::{self, Keys};
use crate::core::watch::Settings;

/// A variable of the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it sets.
    pub meaning: &'static str,
    /// What holds without it.
    pub default: &'static str,
}

/// What every tag key begins with.
pub const TAG_PREFIX: &str = "EIPWATCH_TAG_PREFIX";
/// How long a scheduled invocation watches.
pub const WATCH_SECONDS: &str = "EIPWATCH_WATCH_SECONDS";
/// `manual` overrides every cluster.
pub const MODE: &str = "EIPWATCH_MODE";
/// Which part of all clusters.
pub const SHARD: &str = "EIPWATCH_SHARD";
/// What is logged.
pub const LOG: &str = "EIPWATCH_LOG";

/// All of them, for documentation. Everything of the AWS SDK applies besides.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: TAG_PREFIX,
        meaning: "what every tag key begins with, colon included; 1 to 57 characters",
        default: tags::DEFAULT_PREFIX,
    },
    Variable {
        name: WATCH_SECONDS,
        meaning: "how long a scheduled invocation watches, in seconds; 0: one sweep",
        default: "0",
    },
    Variable { name: MODE, meaning: "`manual`: nothing moves by itself in any cluster", default: "auto" },
    Variable {
        name: SHARD,
        meaning: "`0/4`: only the clusters whose name's FNV-1a 64 hash, modulo 4, is 0",
        default: "all clusters",
    },
    Variable {
        name: LOG,
        meaning: "a level (`error`, `warn`, `info`, `debug`, `trace`), or a list of `target=level`",
        default: "info",
    },
];

/// The longest watch: Lambda ends every invocation after 900 s, and a move may take some of them.
pub const MAX_WATCH_SECONDS: u64 = 840;

/// A variable that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}={value}: {problem}. Nothing is watched until it is put right.")]
pub struct BadVariable {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Reads the settings; an empty variable is as good as none.
///
/// # Errors
/// The first variable that cannot be read.
pub fn settings_from(vars: impl Fn(&str) -> Option<String>) -> Result<Settings, BadVariable> {
    let read = |name: &'static str| vars(name).filter(|value| !value.trim().is_empty());
    let bad = |name, value: &str, problem: String| BadVariable { name, value: value.to_owned(), problem };
    let mut settings = Settings::default();
    if let Some(value) = read(TAG_PREFIX) {
        settings.keys = Keys::new(&tags::prefix(&value).map_err(|problem| bad(TAG_PREFIX, &value, problem))?);
    }
    if let Some(value) = read(WATCH_SECONDS) {
        let seconds = value.trim().parse().ok().filter(|seconds| *seconds <= MAX_WATCH_SECONDS);
        let seconds = seconds.ok_or_else(|| {
            bad(WATCH_SECONDS, &value, format!("it is a number of seconds, 0 to {MAX_WATCH_SECONDS}"))
        })?;
        settings.watch = Duration::from_secs(seconds);
    }
    if let Some(value) = read(MODE) {
        settings.manual = match value.trim() {
            "manual" => true,
            "auto" => false,
            _ => return Err(bad(MODE, &value, "it is `auto` or `manual`".to_owned())),
        };
    }
    if let Some(value) = read(SHARD) {
        settings.shard = Some(Shard::parse(&value).map_err(|problem| bad(SHARD, &value, problem))?);
    }
    Ok(settings)
}

/// Reads the settings of this process.
///
/// # Errors
/// The first variable that cannot be read.
pub fn settings() -> Result<Settings, BadVariable> {
    settings_from(|name| std::env::var(name).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &'static [(&str, &str)]) -> Result<Settings, BadVariable> {
        settings_from(|name| pairs.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn without_variables_a_sweep_of_everything() {
        let settings = of(&[(MODE, " ")]).unwrap();
        assert_eq!((settings.watch, settings.manual, settings.shard), (Duration::ZERO, false, None));
        assert_eq!(settings.keys.cluster, "eipwatch:cluster");
    }

    #[test]
    fn reads_each() {
        let settings =
            of(&[(WATCH_SECONDS, "55"), (MODE, "manual"), (SHARD, "1/4"), (TAG_PREFIX, "team/eip:")]).unwrap();
        assert_eq!((settings.watch, settings.manual), (Duration::from_secs(55), true));
        assert_eq!(
            (settings.shard.unwrap().to_string(), settings.keys.cluster.as_str()),
            ("1/4".to_owned(), "team/eip:cluster")
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for pair in [
            &[(WATCH_SECONDS, "5m")],
            &[(WATCH_SECONDS, "900")],
            &[(MODE, "manul")],
            &[(SHARD, "4/4")],
            &[(TAG_PREFIX, "aws:x:")],
        ] {
            let error = of(pair).unwrap_err();
            assert_eq!((error.name, error.value.as_str()), pair[0]);
        }
    }
}
