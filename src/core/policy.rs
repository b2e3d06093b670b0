//! The policy of a cluster: how it is probed, when a verdict changes, what holds a move back.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::tags::{quote, words};
use super::time::duration_text;

/// Which of a node's addresses is probed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// The private address that carries, or would carry, the Elastic IP.
    #[default]
    Private,
    /// The node's public address.
    Public,
}

/// HTTP status codes that pass, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRange {
    /// The lowest.
    pub from: u16,
    /// The highest.
    pub to: u16,
}

impl fmt::Display for StatusRange {
    /// As the policy writes it: `200-399`, or `200`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to { self.from.fmt(f) } else { write!(f, "{}-{}", self.from, self.to) }
    }
}

/// The value of `eipwatch:policy`, complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Time between two probes of a node in a watch.
    pub interval: Duration,
    /// Time between the starts of probes while a verdict is changing; and how long a probe may stay unanswered before the
    /// next one is started beside it.
    pub fast: Duration,
    /// One probe's time limit.
    pub timeout: Duration,
    /// Consecutive failed probes to become unhealthy, per check.
    pub fall: u32,
    /// Consecutive passed probes to become healthy, per check.
    pub rise: u32,
    /// A heartbeat that has not advanced for so long has stopped.
    pub deadtime: Duration,
    /// HTTP status codes that pass.
    pub expect: StatusRange,
    /// Host header and TLS server name; `None`: the address probed.
    pub host: Option<Arc<str>>,
    /// The address probed.
    pub via: Via,
    /// Whether the address goes back to the preferred node by itself.
    pub failback: bool,
    /// How long the preferred node must have been healthy, and the last move past, before a failback; and how long the
    /// evidence must hold when `max_moves` is used up.
    pub stable: Duration,
    /// Automatic failovers and failbacks within `window` before the brake.
    pub max_moves: u32,
    /// The brake's window.
    pub window: Duration,
}

/// One key of `eipwatch:policy`, as the documentation shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key, as the tag writes it.
    pub name: &'static str,
    /// What it sets.
    pub meaning: &'static str,
    /// What is used where the tag does not say; a value of the key, except for `host`.
    pub default: &'static str,
    /// `LOW to HIGH`, both included, or the words to choose from. [`parse`] takes its limits from here.
    pub range: &'static str,
}

/// All keys of `eipwatch:policy`, in the order in which they are documented and written.
pub const KEYS: &[Key] = &[
    Key {
        name: "interval",
        meaning: "time between two probes of a node in a watch",
        default: "1s",
        range: "100ms to 60s",
    },
    Key {
        name: "fast",
        meaning: "time between the starts of probes while a verdict is changing, and how long a probe may stay unanswered \
                  before the next one is started beside it",
        default: "500ms",
        range: "50ms to 10s",
    },
    Key { name: "timeout", meaning: "one probe's time limit", default: "1s", range: "50ms to 30s" },
    Key {
        name: "fall",
        meaning: "consecutive failed probes to become unhealthy, per check",
        default: "3",
        range: "1 to 20",
    },
    Key {
        name: "rise",
        meaning: "consecutive passed probes to become healthy, per check",
        default: "2",
        range: "1 to 20",
    },
    Key {
        name: "deadtime",
        meaning: "a heartbeat that has not advanced for so long has stopped",
        default: "20s",
        range: "3s to 1h",
    },
    Key {
        name: "expect",
        meaning: "HTTP status codes that pass, one or a range",
        default: "200-399",
        range: "100 to 599",
    },
    Key {
        name: "host",
        meaning: "Host header, and TLS server name",
        default: "the address probed",
        range: "a DNS name or an IPv4 address",
    },
    Key {
        name: "via",
        meaning: "the address probed: the private one that carries, or would carry, the Elastic IP, or the node's public one",
        default: "private",
        range: "private or public",
    },
    Key {
        name: "failback",
        meaning: "whether the address goes back to the preferred node by itself",
        default: "off",
        range: "auto or off",
    },
    Key {
        name: "stable",
        meaning: "how long the preferred node must have been healthy, and the last move past, before a failback; and how \
                  long the evidence must hold when max_moves is used up",
        default: "60s",
        range: "0s to 24h",
    },
    Key {
        name: "max_moves",
        meaning: "automatic failovers and failbacks within the window before the brake",
        default: "3",
        range: "1 to 5",
    },
    Key { name: "window", meaning: "the brake's window", default: "10m", range: "1m to 24h" },
];

impl Key {
    /// The ends of the range, where it has any.
    fn ends(&self) -> (&'static str, &'static str) {
        self.range.split_once(" to ").unwrap_or((self.range, self.range))
    }

    /// Reads a value of the key with `read`, and holds it to the range. `what` says what it is not, if `read` cannot.
    fn within<T: PartialOrd>(&self, value: &str, read: fn(&str) -> Option<T>, what: &str) -> Result<T, String> {
        let (low, high) = self.ends();
        let Some(number) = read(value) else { return Err(what.to_owned()) };
        // The table's own ends can be read: the tests try each of them.
        if read(low).is_some_and(|end| number < end) {
            return Err(format!("is below {low}"));
        }
        if read(high).is_some_and(|end| number > end) {
            return Err(format!("is above {high}"));
        }
        Ok(number)
    }

    fn duration(&self, value: &str) -> Result<Duration, String> {
        self.within(value, duration, "is not a duration such as 500ms, 1s, 10m or 24h")
    }

    fn number(&self, value: &str) -> Result<u32, String> {
        let digits = value.bytes().any(|byte| byte.is_ascii_digit());
        self.within(value, whole, if digits { "is not a whole number" } else { "is not a number" })
    }

    fn status(&self, value: &str) -> Result<u16, String> {
        let code = self.within(value, whole, "is not a status code such as 200, or a range such as 200-399")?;
        Ok(u16::try_from(code).unwrap_or(u16::MAX))
    }
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            interval: Duration::from_secs(1),
            fast: Duration::from_millis(500),
            timeout: Duration::from_secs(1),
            fall: 3,
            rise: 2,
            deadtime: Duration::from_secs(20),
            expect: StatusRange { from: 200, to: 399 },
            host: None,
            via: Via::Private,
            failback: false,
            stable: Duration::from_secs(60),
            max_moves: 3,
            window: Duration::from_secs(600),
        }
    }
}

impl Policy {
    /// The pairs that are not default, as the tag writes them, in the order of [`KEYS`]; empty where all are.
    ///
    /// [`parse`] makes the same policy of it. Durations are written to the millisecond.
    pub fn differences(&self) -> String {
        let mut text = String::new();
        for ((name, value), (_, default)) in self.pairs().into_iter().zip(Policy::default().pairs()) {
            if value != default {
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(name);
                text.push('=');
                text.push_str(&value);
            }
        }
        text
    }

    /// Every key with its value, in the order of [`KEYS`]; `host` is empty where it is the address probed.
    fn pairs(&self) -> [(&'static str, String); 13] {
        // Without `..`: a new field must be written, too.
        let Policy {
            interval,
            fast,
            timeout,
            fall,
            rise,
            deadtime,
            expect,
            host,
            via,
            failback,
            stable,
            max_moves,
            window,
        } = self;
        let expect = match expect {
            StatusRange { from, to } if from == to => from.to_string(),
            StatusRange { from, to } => format!("{from}-{to}"),
        };
        let via = match via {
            Via::Private => "private",
            Via::Public => "public",
        };
        [
            ("interval", duration_text(*interval)),
            ("fast", duration_text(*fast)),
            ("timeout", duration_text(*timeout)),
            ("fall", fall.to_string()),
            ("rise", rise.to_string()),
            ("deadtime", duration_text(*deadtime)),
            ("expect", expect),
            ("host", host.as_deref().unwrap_or_default().to_owned()),
            ("via", via.to_owned()),
            ("failback", if *failback { "auto" } else { "off" }.to_owned()),
            ("stable", duration_text(*stable)),
            ("max_moves", max_moves.to_string()),
            ("window", duration_text(*window)),
        ]
    }

    /// What stands for a key now, as the documentation writes it where it is the default.
    fn in_use(&self, key: &Key) -> String {
        let of = |policy: &Policy| policy.pairs().into_iter().find(|(name, _)| *name == key.name);
        match of(self) {
            Some((_, value)) if of(&Policy::default()).is_none_or(|(_, default)| value != default) => value,
            _ => key.default.to_owned(),
        }
    }

    /// Sets one key, or says why the value will not do.
    fn set(&mut self, key: &Key, value: &str) -> Result<(), String> {
        match key.name {
            "interval" => self.interval = key.duration(value)?,
            "fast" => self.fast = key.duration(value)?,
            "timeout" => self.timeout = key.duration(value)?,
            "fall" => self.fall = key.number(value)?,
            "rise" => self.rise = key.number(value)?,
            "deadtime" => self.deadtime = key.duration(value)?,
            "expect" => {
                let (from, to) = value.split_once('-').unwrap_or((value, value));
                let (from, to) = (key.status(from)?, key.status(to)?);
                if from > to {
                    return Err("ends before it begins".to_owned());
                }
                self.expect = StatusRange { from, to };
            }
            "host" if is_host(value) => self.host = Some(Arc::from(value)),
            "host" => return Err(format!("is not {}", key.range)),
            "via" => {
                self.via = match value {
                    "private" => Via::Private,
                    "public" => Via::Public,
                    _ => return Err("is neither private nor public".to_owned()),
                }
            }
            "failback" => {
                self.failback = match value {
                    "auto" => true,
                    "off" => false,
                    _ => return Err("is neither auto nor off".to_owned()),
                }
            }
            "stable" => self.stable = key.duration(value)?,
            "max_moves" => self.max_moves = key.number(value)?,
            "window" => self.window = key.duration(value)?,
            _ => return Err("is not a policy key".to_owned()),
        }
        Ok(())
    }
}

/// A problem of [`parse`] without what is used instead.
pub fn only_what_is_wrong(problem: &str) -> &str {
    problem.rsplit_once("; ").map_or(problem, |(what, _)| what)
}

/// Reads the value of `eipwatch:policy`.
///
/// A pair that cannot be used (unreadable, unknown, out of range, given before) leaves the policy as it is and gives a
/// problem, which names the pair and says what is used instead: `'fall=three' is not a number; 3 is used`. The other
/// pairs apply.
pub fn parse(text: &str) -> (Policy, Vec<String>) {
    let mut policy = Policy::default();
    let mut problems = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for pair in words(text) {
        let (name, value) = pair.split_once('=').map_or((pair, None), |(name, value)| (name, Some(value)));
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            problems.push(format!("{} is not a policy key; it is ignored", quote(pair)));
            continue;
        };
        let done = match value {
            _ if seen.contains(&key.name) => Err("comes a second time".to_owned()),
            None => Err(format!("lacks a value, as in {name}=VALUE")),
            Some(value) => policy.set(key, value),
        };
        if let Err(reason) = done {
            problems.push(format!("{} {reason}; {} is used", quote(pair), policy.in_use(key)));
        }
        seen.push(key.name);
    }
    (policy, problems)
}

/// Reads a duration of one unit, `100ms`, `1s`, `10m`, `24h`. What is too large to be counted is the largest one.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(whole_u64(number)?.saturating_mul(unit_ms)))
}

/// Reads digits and nothing else. What is too large to be counted is the largest number.
pub(super) fn whole_u64(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// [`whole_u64`] for smaller numbers; a sign is not read.
fn whole(text: &str) -> Option<u32> {
    whole_u64(text).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}

/// Whether it can stand in a Host header and be a TLS server name: a DNS name (RFC 1123, and underscores) or an IPv4
/// address. A name whose last label is a number is read as an address, and a broken one. Source: URL Standard, "ends in a
/// number checker"; the TLS library refuses it.
fn is_host(text: &str) -> bool {
    const MAX_NAME_CHARS: usize = 253;
    const MAX_LABEL_CHARS: usize = 63;
    if text.parse::<Ipv4Addr>().is_ok() {
        return true;
    }
    let label = |label: &str| {
        (1..=MAX_LABEL_CHARS).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let number = |label: &str| {
        let hex = label.strip_prefix("0x").or(label.strip_prefix("0X"));
        label.bytes().all(|byte| byte.is_ascii_digit())
            || hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    text.len() <= MAX_NAME_CHARS && text.split('.').all(label) && !text.rsplit('.').next().is_some_and(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn only_problem(text: &str) -> String {
        let (_, problems) = parse(text);
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        problems[0].clone()
    }

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(parse(""), (Policy::default(), vec![]));
        assert_eq!(parse("  \t\n "), (Policy::default(), vec![]));
        assert_eq!(Policy::default().differences(), "");
    }

    #[test]
    fn every_key_is_read() {
        let text = "interval=2s fast=100ms timeout=3s fall=4 rise=5 deadtime=1m expect=200 host=www.example.com via=public \
                    failback=auto stable=0s max_moves=5 window=1h";
        let policy = Policy {
            interval: Duration::from_secs(2),
            fast: Duration::from_millis(100),
            timeout: Duration::from_secs(3),
            fall: 4,
            rise: 5,
            deadtime: Duration::from_secs(60),
            expect: StatusRange { from: 200, to: 200 },
            host: Some("www.example.com".into()),
            via: Via::Public,
            failback: true,
            stable: Duration::ZERO,
            max_moves: 5,
            window: Duration::from_secs(3600),
        };
        assert_eq!(parse(text), (policy.clone(), vec![]));
        assert_eq!(policy.differences(), text);
    }

    #[test]
    fn the_table_names_the_pairs_in_their_order() {
        let names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(names, Policy::default().pairs().map(|(name, _)| name));
    }

    #[test]
    fn the_table_s_defaults_are_the_defaults() {
        for key in KEYS.iter().filter(|key| key.name != "host") {
            // Before it, another value, so that nothing that ignores the pair could pass.
            let mut policy = Policy::default();
            let other = key.range.split_once(" to ").or(key.range.split_once(" or ")).unwrap();
            for other in [other.0, other.1] {
                policy.set(key, other).unwrap();
            }
            policy.set(key, key.default).unwrap();
            assert_eq!(policy, Policy::default(), "{}", key.name);
        }
    }

    #[test]
    fn both_ends_of_a_range_are_in_it_and_nothing_beyond() {
        let ranges: Vec<_> = KEYS.iter().filter_map(|key| Some((key, key.range.split_once(" to ")?))).collect();
        assert_eq!(ranges.len(), KEYS.len() - 3, "all but host, via, failback");
        for (key, (low, high)) in ranges {
            for end in [low, high] {
                let (policy, problems) = parse(&format!("{}={end}", key.name));
                assert_eq!(problems, Vec::<String>::new(), "{}", key.name);
                let (_, written) = policy.pairs().into_iter().find(|(name, _)| *name == key.name).unwrap();
                assert!(duration(end).map_or(written == end, |end| duration(&written) == Some(end)), "{written}");
            }
            let step = |end: &str, by: i128| match duration(end) {
                Some(end) => format!("{}ms", i128::try_from(end.as_millis()).unwrap() + by),
                None => (end.parse::<i128>().unwrap() + by).to_string(),
            };
            let used = format!("; {} is used", key.default);
            let beyond = format!("{}={}", key.name, step(high, 1));
            assert_eq!(only_problem(&beyond), format!("'{beyond}' is above {high}{used}"));
            if low != "0s" {
                let beyond = format!("{}={}", key.name, step(low, -1));
                assert_eq!(only_problem(&beyond), format!("'{beyond}' is below {low}{used}"));
            }
        }
    }

    #[test]
    fn a_problem_names_the_pair_and_what_is_used() {
        for (text, problem) in [
            ("fall=three", "'fall=three' is not a number; 3 is used"),
            ("fall=", "'fall=' is not a number; 3 is used"),
            ("fall=-1", "'fall=-1' is not a whole number; 3 is used"),
            ("fall=+4", "'fall=+4' is not a whole number; 3 is used"),
            ("fall=2.5", "'fall=2.5' is not a whole number; 3 is used"),
            ("fall=99999999999999999999999", "'fall=99999999999999999999999' is above 20; 3 is used"),
            ("interval=5ms", "'interval=5ms' is below 100ms; 1s is used"),
            ("interval=5", "'interval=5' is not a duration such as 500ms, 1s, 10m or 24h; 1s is used"),
            ("stable=1m30s", "'stable=1m30s' is not a duration such as 500ms, 1s, 10m or 24h; 60s is used"),
            ("stable=s", "'stable=s' is not a duration such as 500ms, 1s, 10m or 24h; 60s is used"),
            ("stable=99999999999999999999h", "'stable=99999999999999999999h' is above 24h; 60s is used"),
            ("via=vpn", "'via=vpn' is neither private nor public; private is used"),
            ("failback=yes", "'failback=yes' is neither auto nor off; off is used"),
            ("expect=399-200", "'expect=399-200' ends before it begins; 200-399 is used"),
            ("expect=200-600", "'expect=200-600' is above 599; 200-399 is used"),
            (
                "expect=2xx",
                "'expect=2xx' is not a status code such as 200, or a range such as 200-399; 200-399 is used",
            ),
            ("host=a:80", "'host=a:80' is not a DNS name or an IPv4 address; the address probed is used"),
            ("fal=3", "'fal=3' is not a policy key; it is ignored"),
            ("Fall=3", "'Fall=3' is not a policy key; it is ignored"),
            ("=3", "'=3' is not a policy key; it is ignored"),
            ("fall", "'fall' lacks a value, as in fall=VALUE; 3 is used"),
            ("fall=5 fall=6", "'fall=6' comes a second time; 5 is used"),
            ("host=a.example host=b.example", "'host=b.example' comes a second time; a.example is used"),
        ] {
            assert_eq!(only_problem(text), problem);
        }
    }

    #[test]
    fn what_cannot_be_read_does_not_take_the_rest_with_it() {
        let (policy, problems) = parse("fall=three bogus rise=4 interval=5ms fall=9 failback=auto");
        assert_eq!(policy, Policy { rise: 4, failback: true, ..Policy::default() });
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert_eq!(problems[3], "'fall=9' comes a second time; 3 is used");
    }

    #[test]
    fn hosts() {
        for host in
            ["example.com", "a", "10.0.0.1", "xn--bcher-kva.example", "_http.web_1.internal", "1.example", "0xen"]
        {
            assert_eq!(parse(&format!("host={host}")).1, Vec::<String>::new());
        }
        let long = format!("{}.example", "a".repeat(64));
        for host in [
            "",
            ".",
            "a..b",
            "a.",
            ".a",
            "-a",
            "a-",
            "a/b",
            "a@b",
            "a=b",
            "b\u{fc}cher.example",
            "10.0.0",
            "a.0x1F",
            "0x",
            &long,
        ] {
            assert!(!is_host(host), "{host}");
        }
    }

    fn any_policy() -> impl Strategy<Value = Policy> {
        let ms = |low: u64, high: u64| (low..=high).prop_map(Duration::from_millis);
        (
            (ms(100, 60_000), ms(50, 10_000), ms(50, 30_000), 1..=20u32, 1..=20u32, ms(3_000, 3_600_000)),
            (100..=599u16, 100..=599u16),
            proptest::option::of("[a-z0-9_]{1,9}(\\.[a-z]{1,9}){0,3}\\.[a-z]{2}"),
            (any::<bool>(), any::<bool>(), ms(0, 86_400_000), 1..=5u32, ms(60_000, 86_400_000)),
        )
            .prop_map(|((interval, fast, timeout, fall, rise, deadtime), (a, b), host, last)| Policy {
                interval,
                fast,
                timeout,
                fall,
                rise,
                deadtime,
                expect: StatusRange { from: a.min(b), to: a.max(b) },
                host: host.map(Arc::from),
                via: if last.0 { Via::Public } else { Via::Private },
                failback: last.1,
                stable: last.2,
                max_moves: last.3,
                window: last.4,
            })
    }

    proptest! {
        #[test]
        fn differences_read_back_as_the_same_policy(policy in any_policy()) {
            prop_assert_eq!(parse(&policy.differences()), (policy, vec![]));
        }

        #[test]
        fn any_text_gives_a_policy_that_can_be_written(
            text in prop_oneof![
                ".*",
                "((interval|fast|fall|expect|host|via|stable|max_moves|window)(=[0-9]{0,30}(ms|s|h|-|\\PC)?)? ?){0,20}",
            ],
        ) {
            let (policy, problems) = parse(&text);
            let (again, none) = parse(&policy.differences());
            prop_assert_eq!(&again, &policy);
            prop_assert_eq!(none, Vec::<String>::new());
            for problem in problems {
                prop_assert!(problem.chars().count() < 256 && !problem.contains(char::is_control), "{}", problem);
            }
        }

        /// The TLS library is the one that would refuse it in the middle of a failover.
        #[test]
        fn a_host_that_is_accepted_is_a_tls_server_name(host in "[a-z0-9_.-]{1,12}(\\.(0[xX])?[a-zA-Z0-9-]{0,5})?") {
            if is_host(&host) {
                prop_assert!(rustls::pki_types::ServerName::try_from(host.as_str()).is_ok(), "{}", host);
            }
        }
    }
}
