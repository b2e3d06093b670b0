//! Points in time as the core knows them: milliseconds since 1970, always given from outside.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time, in milliseconds since 1970-01-01T00:00:00Z.
///
/// There is no way to ask for the present: whoever drives the core passes it in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

/// The latest instant that RFC 3339 can write, 9999-12-31T23:59:59.999Z.
const LATEST_MS: u64 = 253_402_300_799_999;

impl Time {
    /// From milliseconds since 1970; what RFC 3339 could not write is cut to its last instant.
    pub fn from_millis(millis: u64) -> Time {
        Time(millis.min(LATEST_MS))
    }

    /// Milliseconds since 1970.
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// Reads `2026-11-22T07:30:00Z`, with or without a fraction of a second.
    pub fn parse(text: &str) -> Option<Time> {
        let read = humantime::parse_rfc3339(text).ok()?;
        let since = read.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok().map(Time::from_millis)
    }

    /// How long `earlier` is past, zero if it is still to come.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The same instant without its fraction of a second, as tags write it.
    #[must_use]
    pub fn whole_second(self) -> Time {
        Time(self.0 / 1000 * 1000)
    }

    fn system(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0)
    }

    /// With milliseconds, as the log writes it.
    pub fn precise(self) -> impl fmt::Display {
        humantime::format_rfc3339_millis(self.system())
    }
}

impl fmt::Display for Time {
    /// RFC 3339 in UTC to the second, as tags and answers carry it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_seconds(self.system()).fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.precise())
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Time::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("'{text}' is not an RFC 3339 time")))
    }
}

/// A duration in whole milliseconds; what is too long to be counted is the longest there is.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, duration: Duration) -> Time {
        Time::from_millis(self.0.saturating_add(millis(duration)))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Time {
    type Output = Time;
    /// Stops at 1970.
    fn sub(self, duration: Duration) -> Time {
        Time(self.0.saturating_sub(millis(duration)))
    }
}

/// A duration as policies write it, in the largest unit that leaves no remainder: `500ms`, `90s`, `10m`, `2h`.
pub fn duration_text(duration: Duration) -> String {
    let ms = millis(duration);
    match ms {
        0 => "0s".to_owned(),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        _ => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_rfc_3339() {
        let time = Time::parse("2026-11-22T07:30:00.250Z").unwrap();
        assert_eq!(time.to_string(), "2026-11-22T07:30:00Z");
        assert_eq!(time.precise().to_string(), "2026-11-22T07:30:00.250Z");
        assert_eq!(time.whole_second().as_millis() % 1000, 0);
        assert_eq!(Time::parse("yyyy-mm-ddThh:mm:ssZ"), None);
        assert_eq!(Time::parse(""), None);
    }

    #[test]
    fn arithmetic_never_leaves_the_calendar() {
        let time = Time::from_millis(5);
        assert_eq!(time - Duration::from_secs(1), Time::from_millis(0));
        assert_eq!((time + Duration::MAX).to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(time.since(Time::from_millis(9)), Duration::ZERO);
    }
}
