//! What an outage is, as a client sees it: from the last good answer before requests were lost to the first good one after.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// The most requests that are remembered: some minutes at 50 a second.
pub const MAX_TRIES: usize = 20_000;

/// One request.
#[derive(Clone, Debug)]
pub struct Try {
    /// When it was sent.
    pub sent: Instant,
    /// When it was answered, or given up.
    pub done: Instant,
    /// Who gave a good answer; `None`: nobody did.
    pub by: Option<String>,
}

/// What a span of time was like for the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outage {
    /// Requests that were sent.
    pub asked: usize,
    /// Of these, how many had no good answer.
    pub lost: usize,
    /// How long the longest outage was, in milliseconds; zero if no request was lost.
    pub outage_ms: u64,
    /// How long after the beginning of the span that one began, in milliseconds.
    pub outage_after_ms: u64,
}

/// A client's record of requests, in the order of their ends.
#[derive(Clone, Debug, Default)]
pub struct Tries(Vec<Try>);

impl Tries {
    /// Takes one in; beyond [`MAX_TRIES`] it is forgotten.
    pub fn push(&mut self, one: Try) {
        if self.0.len() < MAX_TRIES {
            self.0.push(one);
        }
    }

    /// The newest good answer.
    pub fn newest_good(&self) -> Option<&Try> {
        self.0.iter().rev().find(|one| one.by.is_some())
    }

    /// Whether each of the newest requests was answered well, oldest first, at most `count`.
    pub fn newest(&self, count: usize) -> Vec<bool> {
        self.0.iter().skip(self.0.len().saturating_sub(count)).map(|one| one.by.is_some()).collect()
    }

    /// What the time from `from` to `until` was like.
    pub fn outage(&self, from: Instant, until: Instant) -> Outage {
        let within: Vec<&Try> = self.0.iter().filter(|one| one.sent >= from && one.sent <= until).collect();
        let lost: Vec<&&Try> = within.iter().filter(|one| one.by.is_none()).collect();
        // By the time of the answer. A request that was lost was unanswered all the time since it was sent.
        let mut good: Vec<Instant> = self.0.iter().filter(|one| one.by.is_some()).map(|one| one.done).collect();
        good.sort_unstable();
        let length = lost.iter().map(|one| {
            let before = good.iter().rev().find(|done| **done <= one.sent).copied().unwrap_or(from);
            let after = good.iter().find(|done| **done > one.sent).copied().unwrap_or(until);
            (after.saturating_duration_since(before), before)
        });
        let (length, began) = length.max_by_key(|(length, _)| *length).unwrap_or((Duration::ZERO, from));
        let ms = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let outage_after_ms = ms(began.saturating_duration_since(from));
        Outage { asked: within.len(), lost: lost.len(), outage_ms: ms(length), outage_after_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(start: Instant, tries: &[(u64, u64, Option<&str>)]) -> Tries {
        let at = |ms: u64| start + Duration::from_millis(ms);
        Tries(
            tries
                .iter()
                .map(|(sent, done, by)| Try { sent: at(*sent), done: at(*done), by: by.map(str::to_owned) })
                .collect(),
        )
    }

    #[test]
    fn an_outage_lasts_from_the_last_good_answer_to_the_next() {
        let start = Instant::now();
        let tries = record(
            start,
            &[
                (0, 2, Some("a")),
                (20, 22, Some("a")),
                (40, 41, None),
                (80, 82, Some("b")),
                (60, 560, None),
                (100, 102, Some("b")),
            ],
        );
        let all = tries.outage(start, start + Duration::from_secs(1));
        assert_eq!(all, Outage { asked: 6, lost: 2, outage_ms: 60, outage_after_ms: 22 });
        assert_eq!(tries.newest_good().unwrap().by.as_deref(), Some("b"));
        let after = tries.outage(start + Duration::from_millis(70), start + Duration::from_secs(1));
        assert_eq!(after, Outage { asked: 2, lost: 0, outage_ms: 0, outage_after_ms: 0 });
    }

    #[test]
    fn an_outage_that_does_not_end_lasts_until_now() {
        let start = Instant::now();
        let tries = record(start, &[(0, 2, Some("a")), (20, 21, None), (900, 901, None)]);
        let outage = tries.outage(start, start + Duration::from_secs(1));
        assert_eq!((outage.lost, outage.outage_ms), (2, 998));
    }

    #[test]
    fn what_was_never_answered_was_out_all_the_time() {
        let start = Instant::now();
        let outage = record(start, &[(0, 500, None)]).outage(start, start + Duration::from_secs(2));
        assert_eq!((outage.lost, outage.outage_ms), (1, 2_000));
    }
}
