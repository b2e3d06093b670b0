//! A move on its way: sent, doubted, verified.
//!
//! Architecture invariant: success is what EC2 shows afterwards, never what the call answered. A call is sent again only while EC2 still
//! shows the old holder.

use std::time::Duration;

use crate::core::decide::{EXTERNAL, Plan, SETTLING, Why};
use crate::core::model::{CloudError, Failure, InstanceId};
use crate::core::report::MoveReport;
use crate::core::snapshot::{Holder, Slot};
use crate::core::tags::State;
use crate::core::time::Time;

use super::looks::{BACKOFF_MAX_URGENT, backoff};

/// How long EC2 is asked to show the new holder.
pub const VERIFY_FOR: Duration = Duration::from_secs(10);
/// The first wait between two of these reads; it doubles up to [`BACKOFF_MAX_URGENT`].
pub const VERIFY_FIRST: Duration = Duration::from_millis(250);
/// An address is read at most this long before it is moved.
pub const READ_BEFORE_MOVE: Duration = Duration::from_secs(1);
/// Nodes are read at most this long before an address is moved, as long as EC2 answers; before a planned move also while it is searched for
/// those that it can describe.
pub const NODES_BEFORE_MOVE: Duration = Duration::from_secs(6);
/// The decision to move an address may rest on a reading that was answered at most so long before; else the address is read once more
/// before the call. Watches that see the same holder fail decide within moments of each other, and need not choose alike.
pub const READ_BEFORE_DECISION: Duration = Duration::from_millis(250);
/// An address that was moved less than this ago is read once more before the call in any case: others may be about to move it, too. Longer
/// than [`SETTLING`], at whose end all believe what they see.
pub const RACED_FOR: Duration = SETTLING.saturating_mul(2);
/// Before it reads an address once more that was moved less than [`RACED_FOR`] ago and whose move can wait (its holder leaves, is drained,
/// or another is preferred), each watch waits for a time of its own, up to this.
pub const MAX_TURN: Duration = Duration::from_secs(1);
/// How old the last of these reads may be at their end to tell how it ended: while EC2 does not answer, the end is put off.
pub const LAST_LOOK_WITHIN: Duration = Duration::from_secs(2);
/// How far apart two reads must show a third holder before the move is given up: one alone may be stale.
pub const ELSEWHERE_AFTER: Duration = Duration::from_secs(1);
/// How often a move is sent though EC2 says each time that it does not know the address, or the credentials.
pub const MAX_UNKNOWN: u32 = 5;
/// How long EC2 may refuse, as held, an address that it shows on nobody, before it is moved whoever holds it: what it shows is taken as the truth
/// then, and nothing holds back a rescue.
pub const HELD_FOR: Duration = SETTLING;
/// How often a move to one node is sent before its address is judged afresh.
pub const MAX_TRIES: u32 = 100;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waits for its turn, and for a fresh read.
    Waiting { not_before: Time },
    /// The call is on its way.
    Sent { id: u64 },
    /// The call was answered, well or not: reads whose number is above `after` were asked for later, and tell.
    Looking {
        after: u64,
        until: Time,
        doubted: bool,
        /// The reading judged last, when the next is due, and how many there were.
        judged: Option<u64>,
        judged_at: Time,
        next: Time,
        looks: u32,
        /// Since when readings have shown it with a third.
        elsewhere: Option<Time>,
    },
}

/// A move on its way.
#[derive(Clone, Debug)]
pub struct Moving {
    pub plan: Plan,
    /// When it was decided.
    pub began: Time,
    /// From the first sign to the decision.
    pub detect: Option<Duration>,
    pub tries: u32,
    /// How often EC2 has said that it does not know the address, or the credentials.
    pub unknown: u32,
    /// Whether the last call was to take it only from nobody.
    pub only_if_unheld: bool,
    /// Since when EC2 has refused that.
    pub held_since: Option<Time>,
    pub error: Option<String>,
    /// Whether a call may have had its effect: it was not turned down.
    pub may_have_acted: bool,
    pub phase: Phase,
    /// Who held it until moments ago, before the one that it is to leave: a read that shows that one may be older than that, and proves
    /// nothing while the call's effect is in doubt.
    pub held_before: Option<InstanceId>,
    /// Of when the last move on record was when this one was begun: the same record tells of that one still.
    pub last_recorded: Option<Time>,
}

/// What a reading means for a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing yet; look again then.
    LookAt(Time),
    /// EC2 shows the new holder.
    Arrived,
    /// EC2 still shows the old holder and the call failed: send it again, not before then.
    Again(Time),
    /// EC2 did not show it in time, but something else.
    Never,
    /// Another invocation or somebody moved it.
    Elsewhere,
}

impl Moving {
    pub fn new(plan: Plan, now: Time, detect: Option<Duration>) -> Moving {
        Moving {
            plan,
            began: now,
            detect,
            tries: 0,
            unknown: 0,
            only_if_unheld: false,
            held_since: None,
            error: None,
            may_have_acted: false,
            phase: Phase::Waiting { not_before: now },
            held_before: None,
            last_recorded: None,
        }
    }

    /// The last call's effect is in doubt, and what was read does not tell: it is looked at for as long as after a call.
    pub fn doubt(&mut self, last_id: u64, now: Time) {
        self.phase = Moving::look(true, last_id, now);
    }

    fn look(doubted: bool, last_id: u64, now: Time) -> Phase {
        Phase::Looking {
            after: last_id,
            until: now + VERIFY_FOR,
            doubted,
            judged: None,
            judged_at: now,
            next: now,
            looks: 0,
            elsewhere: None,
        }
    }

    /// Whether a call of now is to take it only from nobody, where that is what `shown` says: whoever was faster keeps it. From an interface
    /// that is attached to nothing it has to be taken.
    pub fn takes_from_nobody(&self, shown: Option<&Holder>, now: Time) -> bool {
        let refused_for_long = self.held_since.is_some_and(|since| now.since(since) >= HELD_FOR);
        shown == Some(&Holder::Nobody) && !refused_for_long
    }

    /// It goes to this place, for this reason: that another place carries an Elastic IP says nothing of this one.
    pub fn aim(&mut self, slot: Slot, why: Why) {
        if self.plan.slot != slot {
            self.held_since = None;
        }
        (self.plan.slot, self.plan.why) = (slot, why);
    }

    pub fn sent(&mut self, id: u64, only_if_unheld: bool) {
        self.only_if_unheld = only_if_unheld;
        self.tries = self.tries.saturating_add(1);
        self.phase = Phase::Sent { id };
    }

    /// Takes in the call's answer. `Some`: the move has failed for good with this target.
    pub fn answered(&mut self, result: Result<(), CloudError>, last_id: u64, now: Time) -> Option<CloudError> {
        let look = |doubted| Moving::look(doubted, last_id, now);
        match result {
            Ok(()) => {
                self.may_have_acted = true;
                self.phase = look(false);
                None
            }
            Err(error) => {
                self.error = Some(error.to_string());
                // An address that EC2 shows and does not know is a new one, and will be known; so it is with credentials.
                let unknown = error.failure == Failure::AddressGone || error.is_of_credentials();
                self.unknown += u32::from(unknown);
                match error.failure {
                    _ if unknown && self.unknown >= MAX_UNKNOWN => Some(error),
                    // Refused at the door: it has had no effect.
                    _ if unknown || error.failure == Failure::Throttled => {
                        self.phase = Phase::Waiting { not_before: now + backoff(self.tries, BACKOFF_MAX_URGENT) };
                        None
                    }
                    Failure::Transient => {
                        self.may_have_acted = true;
                        self.phase = look(true);
                        None
                    }
                    Failure::Held if self.only_if_unheld => {
                        self.held_since.get_or_insert(now);
                        self.phase = look(true);
                        None
                    }
                    _ => Some(error),
                }
            }
        }
    }

    /// Whether a reading shows it with a third: with none of those between whom it moves, nor with nobody. What is no instance is one, too.
    pub fn is_elsewhere(&self, shown: &Holder) -> bool {
        let known = [Some(&self.plan.to), self.plan.from.as_ref(), self.held_before.as_ref()];
        match shown {
            _ if shown.is_unheld() => false,
            _ => shown.instance().is_none_or(|holder| !known.contains(&Some(holder))),
        }
    }

    /// Judges the reading of number `asked`, which shows `shown`.
    pub fn seen(&mut self, shown: &Holder, asked: Option<u64>, now: Time) -> Progress {
        let tries = self.tries;
        let returns = self.held_before.as_ref() == Some(&self.plan.to);
        let unheld = shown.is_unheld();
        let third = self.is_elsewhere(shown);
        let Phase::Looking { after, until, doubted, judged, judged_at, next, looks, elsewhere } = &mut self.phase
        else {
            return Progress::LookAt(now);
        };
        let after_the_call = asked.is_some_and(|asked| asked > *after);
        let holder = shown.instance();
        let arrived = holder == Some(&self.plan.to);
        if after_the_call && asked != *judged {
            (*judged, *judged_at) = (asked, now);
            if arrived && (!returns || !*doubted) {
                return Progress::Arrived;
            }
            if *doubted && (unheld || holder == self.plan.from.as_ref()) {
                return Progress::Again(now + backoff(tries, BACKOFF_MAX_URGENT));
            }
            match elsewhere {
                Some(since) if third => {
                    if now.since(*since) >= ELSEWHERE_AFTER {
                        return Progress::Elsewhere;
                    }
                }
                _ => *elsewhere = third.then_some(now),
            }
            *looks = looks.saturating_add(1);
            let pause = VERIFY_FIRST.saturating_mul(1 << looks.saturating_sub(1).min(4)).min(BACKOFF_MAX_URGENT);
            *next = now + pause;
        }
        // What has not been read lately, as EC2 does not answer, tells nothing: then it stays open. Of a third, one reading is not enough.
        let read = judged.is_some() && now.since(*judged_at) <= LAST_LOOK_WITHIN;
        if now < *until || !read || third {
            return Progress::LookAt((*next).max(now));
        }
        // It is still shown there at the end of that time.
        if arrived { Progress::Arrived } else { Progress::Never }
    }

    /// What is to be on record now that EC2 shows the new holder, where `before` is on record; and whether that has to be written.
    pub fn record(&self, before: Option<&State>, now: Time) -> (State, bool) {
        let plan = &self.plan;
        if let Some(state) = before.filter(|state| self.is_recorded(state, now)) {
            let mut state = state.clone();
            // It may have been taken for a move by others before it could be recorded.
            let hidden = state.why == EXTERNAL && state.from == plan.from;
            if hidden {
                let since = state.since;
                state.moves.retain(|at| plan.why.counted() || *at != since);
                state.why = plan.why.as_str().to_owned();
            }
            return (state, hidden);
        }
        let mut moves = before.map(|state| state.moves.clone()).unwrap_or_default();
        if before.is_some_and(|state| self.came_after_another(state)) {
            moves.push(self.began.whole_second());
        }
        if plan.why == Why::Manual {
            moves.clear();
        } else if plan.why.counted() {
            moves.push(now.whole_second());
        }
        let why = plan.why.as_str().to_owned();
        (State { holder: plan.to.clone(), since: now, from: plan.from.clone(), why, moves }, true)
    }

    /// Whether another invocation has made the same move at the same time, and recorded it: it counts once.
    fn is_recorded(&self, state: &State, now: Time) -> bool {
        let plan = &self.plan;
        let alike = state.holder == plan.to && plan.why != Why::Manual && self.last_recorded != Some(state.since);
        let same = state.from == plan.from && self.began.since(state.since) < SETTLING;
        // Or brought it there from elsewhere, since this one was begun.
        let since = state.since >= self.began.whole_second();
        alike && (same || since) && state.since.since(now) < SETTLING
    }

    /// Whether somebody else's move, which is not on record, had brought it to whom this one took it from: that counts, too.
    fn came_after_another(&self, state: &State) -> bool {
        let raced = state.from == self.plan.from && self.began.since(state.since) < SETTLING;
        let from_another = self.plan.from.as_ref().is_some_and(|from| &state.holder != from);
        from_another && state.since < self.began.whole_second() && !raced
    }

    /// Whether EC2 has accepted the last call.
    fn is_accepted(&self) -> bool {
        matches!(self.phase, Phase::Looking { doubted: false, .. })
    }

    /// What went wrong with the last call, if anything did.
    pub fn trouble(&self) -> Option<&String> {
        self.error.as_ref().filter(|_| !self.is_accepted())
    }

    /// Whether the last call may have its effect, or have had it.
    pub fn is_in_doubt(&self) -> bool {
        match self.phase {
            Phase::Sent { .. } => true,
            Phase::Waiting { .. } => false,
            Phase::Looking { .. } => self.may_have_acted,
        }
    }

    /// EC2 accepted it and never showed it, but `shown` has the address on nobody now: as it has left its holder, the move was most likely
    /// made, and undone by somebody. What is to be remembered then, where `before` is: the brake counts it.
    pub fn count_undone(&self, shown: &Holder, before: Option<&State>, now: Time) -> Option<State> {
        let left =
            self.plan.from.as_ref().filter(|_| self.is_accepted() && shown.is_unheld() && self.plan.why.counted())?;
        // A time to come was not written by us.
        let before = before.filter(|state| state.since.since(now) < SETTLING);
        if before.is_some_and(|state| self.is_recorded(state, now)) {
            return None;
        }
        let mut state = before.cloned().unwrap_or_else(|| State {
            holder: left.clone(),
            since: self.began.whole_second(),
            from: Some(left.clone()),
            why: EXTERNAL.to_owned(),
            moves: Vec::new(),
        });
        state.moves.push(now.whole_second());
        Some(state)
    }

    /// Why it is given up where EC2 did not show it in time, but `shown`, which people call `shows`.
    pub fn never(&self, shown: &Holder, shows: &str, now: Time) -> String {
        let late = match self.phase {
            Phase::Looking { until, .. } => now.since(until),
            _ => Duration::ZERO,
        };
        let seconds = (VERIFY_FOR + late).as_secs();
        let still = if shown.instance() == self.plan.from.as_ref() { "still shows" } else { "shows" };
        match self.trouble() {
            Some(error) => format!("{error}; after {seconds} s EC2 {still} {shows} as the holder"),
            None => {
                let before = self.error.as_ref().map(|error| format!(" (an earlier try: {error})")).unwrap_or_default();
                format!("EC2 accepted the move, but after {seconds} s {still} {shows} as the holder{before}")
            }
        }
    }

    /// How it ended.
    pub fn report(&self, error: Option<String>, benign: bool, now: Time) -> MoveReport {
        MoveReport {
            from: self.plan.from.clone(),
            to: self.plan.to.clone(),
            why: self.plan.why,
            ok: error.is_none(),
            took_ms: u64::try_from(now.since(self.began).as_millis()).unwrap_or(u64::MAX),
            error,
            benign,
            detect_ms: self.detect.map(|detect| u64::try_from(detect.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn moving() -> Moving {
        let slot = Slot { interface: "eni-2".into(), private_ip: Ipv4Addr::new(10, 0, 0, 2) };
        let plan = Plan { from: Some("i-1".into()), to: "i-2".into(), slot, why: Why::HolderUnhealthy, forced: false };
        let mut moving = Moving::new(plan, Time::from_millis(0), None);
        moving.sent(1, false);
        assert_eq!(moving.answered(Ok(()), 1, Time::from_millis(0)), None);
        moving
    }

    /// Feeds readings: when, and who is shown.
    fn see(moving: &mut Moving, readings: &[(u64, &str)]) -> Vec<Progress> {
        let mut number = 1;
        let mut each = |(at_ms, holder): &(u64, &str)| {
            number += 1;
            moving.seen(&Holder::Node((*holder).into()), Some(number), Time::from_millis(*at_ms))
        };
        readings.iter().map(&mut each).collect()
    }

    #[test]
    fn only_a_third_holder_that_stays_is_a_move_by_others() {
        let told = see(&mut moving(), &[(250, "i-3"), (1_400, "i-1"), (1_700, "i-3"), (2_600, "i-3"), (2_700, "i-3")]);
        let waits = |progress: &Progress| matches!(progress, Progress::LookAt(_));
        assert!(told.iter().take(4).all(waits), "{told:?}");
        assert_eq!(told.last(), Some(&Progress::Elsewhere));
        // Whichever third it is.
        let told = see(&mut moving(), &[(250, "i-3"), (1_400, "i-4")]);
        assert_eq!(told.last(), Some(&Progress::Elsewhere));
    }

    #[test]
    fn what_was_read_too_long_before_the_end_tells_nothing_of_it() {
        let mut moving = moving();
        let mut look =
            |number: u64, at_ms: u64| moving.seen(&Holder::Node("i-1".into()), Some(number), Time::from_millis(at_ms));
        assert!(matches!(look(2, 7_900), Progress::LookAt(_)));
        // EC2 does not answer, and the last answer is no news.
        assert!(matches!(look(2, 10_000), Progress::LookAt(_)));
        assert_eq!(look(3, 13_000), Progress::Never);
        let text = moving.never(&Holder::Node("i-1".into()), "i-1", Time::from_millis(13_000));
        assert!(text.contains("after 13 s still shows i-1"), "{text}");
        let text = moving.never(&Holder::Nobody, "nobody", Time::from_millis(13_000));
        assert!(text.contains("after 13 s shows nobody"), "{text}");
    }

    #[test]
    fn a_third_holder_that_was_an_old_answer_is_forgotten() {
        let told = see(&mut moving(), &[(250, "i-3"), (600, "i-2")]);
        assert_eq!(told.last(), Some(&Progress::Arrived));
    }

    /// On record: a move to `to` from `from` at that second, and the seconds of moves.
    fn on_record(to: &str, from: &str, at_s: u64, why: &str, moves: &[u64]) -> State {
        let second = |s: &u64| Time::from_millis(s * 1_000);
        let (since, moves) = (second(&at_s), moves.iter().map(second).collect());
        State { holder: to.into(), since, from: Some(from.into()), why: why.to_owned(), moves }
    }

    /// A move from i-1 to i-2, begun at 100.5 s, that EC2 shows at 101.7 s: what is then on record, and whether it is written.
    fn recorded(before: Option<&State>, why: Why) -> (State, bool) {
        let mut moving = moving();
        moving.began = Time::from_millis(100_500);
        moving.plan.why = why;
        moving.last_recorded = Some(Time::from_millis(95_000));
        moving.record(before, Time::from_millis(101_700))
    }

    #[test]
    fn a_move_is_recorded_with_those_before_it_in_mind() {
        let ours = |moves: &[u64]| {
            let since = Time::from_millis(101_700);
            (State { since, ..on_record("i-2", "i-1", 0, "holder-unhealthy", moves) }, true)
        };
        let cases = [
            // Nothing on record; what brought it to i-1, long ago, just now, or the last that was known when this one was begun.
            (None, ours(&[101])),
            (Some(on_record("i-1", "i-3", 20, "failback", &[20])), ours(&[20, 101])),
            (Some(on_record("i-1", "i-3", 100, "failback", &[100])), ours(&[100, 101])),
            (Some(on_record("i-2", "i-1", 95, "holder-gone", &[95])), ours(&[95, 101])),
            // Somebody else, who did not record it, brought it to i-1 in between: from i-2, or from i-3, to which it had come.
            (Some(on_record("i-2", "i-1", 70, "holder-gone", &[70])), ours(&[70, 100, 101])),
            (Some(on_record("i-3", "i-2", 99, "holder-gone", &[99])), ours(&[99, 100, 101])),
            (Some(on_record("i-3", "i-1", 99, "holder-gone", &[99])), ours(&[99, 101])),
            (Some(on_record("i-3", "i-2", 100, "holder-gone", &[100])), ours(&[100, 101])),
            // A time to come was not written by us.
            (Some(on_record("i-2", "i-1", 132, "holder-gone", &[])), ours(&[101])),
        ];
        for (before, expected) in cases {
            assert_eq!(recorded(before.as_ref(), Why::HolderUnhealthy), expected, "{before:?}");
        }
    }

    #[test]
    fn a_move_that_another_invocation_has_recorded_counts_once() {
        let alike = [
            // The same move, recorded before this one was even begun, or from elsewhere since.
            on_record("i-2", "i-1", 71, "holder-unhealthy", &[71]),
            on_record("i-2", "i-1", 101, "holder-unhealthy", &[101]),
            on_record("i-2", "i-3", 100, "holder-gone", &[]),
            on_record("i-2", "i-3", 131, "holder-gone", &[]),
            // From elsewhere, and by others: that is what it was.
            on_record("i-2", "i-3", 100, EXTERNAL, &[100]),
        ];
        for before in alike {
            assert_eq!(recorded(Some(&before), Why::HolderUnhealthy), (before.clone(), false), "{before:?}");
        }
        let elsewhere_before = on_record("i-2", "i-3", 99, "holder-gone", &[99]);
        assert!(recorded(Some(&elsewhere_before), Why::HolderUnhealthy).1);
        let same = on_record("i-2", "i-1", 101, "holder-unhealthy", &[20, 101]);
        let (state, is_new) = recorded(Some(&same), Why::Manual);
        assert_eq!((state.why.as_str(), state.moves, is_new), ("manual", vec![], true));
    }

    #[test]
    fn a_move_that_was_undone_before_ec2_showed_it_counts() {
        let before = on_record("i-1", "i-3", 20, "failback", &[20]);
        let counted = |moving: &Moving, shown: Holder, before: Option<&State>| {
            moving.count_undone(&shown, before, Time::from_millis(101_700))
        };
        let of_two = on_record("i-1", "i-3", 20, "failback", &[20, 101]);
        assert_eq!(counted(&moving(), Holder::Nobody, Some(&before)), Some(of_two));
        // Nothing is on record: it was there, and left.
        let first = on_record("i-1", "i-1", 0, EXTERNAL, &[101]);
        assert_eq!(counted(&moving(), Holder::Nobody, None), Some(first.clone()));
        // Nor is a time to come.
        let edited = on_record("i-1", "i-3", 900, "failback", &[20]);
        assert_eq!(counted(&moving(), Holder::Loose("eni-2".into(), Time::default()), Some(&edited)), Some(first));
        // Another watch has made the same move, and seen it.
        let seen = on_record("i-2", "i-1", 0, "holder-unhealthy", &[0]);
        assert_eq!(counted(&moving(), Holder::Nobody, Some(&seen)), None);
        assert_eq!(counted(&moving(), Holder::Node("i-1".into()), Some(&before)), None, "it has not left");
        let mut planned = moving();
        planned.plan.why = Why::HolderDraining;
        assert_eq!(counted(&planned, Holder::Nobody, Some(&before)), None, "the brake does not count it");
        let mut rescue = moving();
        rescue.plan.from = None;
        assert_eq!(counted(&rescue, Holder::Nobody, Some(&before)), None, "nobody held it before");
        let mut failed = moving();
        failed.doubt(1, Time::from_millis(100_500));
        assert_eq!(counted(&failed, Holder::Nobody, Some(&before)), None, "EC2 did not accept it");
    }

    #[test]
    fn who_took_it_for_a_move_by_others_does_not_hide_its_reason() {
        let hidden = on_record("i-2", "i-1", 101, EXTERNAL, &[20, 101]);
        for (why, moves) in [(Why::HolderUnhealthy, vec![20, 101]), (Why::HolderDraining, vec![20])] {
            let told = on_record("i-2", "i-1", 101, why.as_str(), &moves);
            assert_eq!(recorded(Some(&hidden), why), (told, true));
        }
    }

    #[test]
    fn what_is_thirty_seconds_away_is_another_move() {
        let ms = Time::from_millis;
        let mut moving = moving();
        moving.began = ms(100_500);
        let recorded = |state: &State| moving.record(Some(state), ms(101_700)).1;
        let same = on_record("i-2", "i-1", 0, "holder-unhealthy", &[]);
        assert!(!recorded(&State { since: ms(70_501), ..same.clone() }), "the same move");
        assert!(recorded(&State { since: ms(70_500), ..same.clone() }), "another, 30 s before");
        assert!(!recorded(&State { since: ms(131_699), ..same.clone() }), "the same, by a clock that is ahead");
        assert!(recorded(&State { since: ms(131_700), ..same }), "a time to come was not written by us");
        // One that was raced for is no move by somebody else.
        let moves = |at_ms: u64| {
            let other = State { since: ms(at_ms), ..on_record("i-3", "i-1", 0, "holder-gone", &[]) };
            moving.record(Some(&other), ms(101_700)).0.moves.len()
        };
        assert_eq!((moves(70_501), moves(70_500)), (1, 2));
    }

    #[test]
    fn a_call_in_doubt_is_looked_at_for_as_long_as_after_a_call() {
        let mut moving = moving();
        // It was there before, so that seeing it there proves nothing.
        moving.held_before = Some("i-2".into());
        moving.phase = Phase::Waiting { not_before: Time::from_millis(0) };
        moving.doubt(5, Time::from_millis(1_000));
        let holder = Holder::Node("i-2".into());
        assert!(matches!(moving.seen(&holder, Some(6), Time::from_millis(10_900)), Progress::LookAt(_)));
        assert_eq!(moving.seen(&holder, Some(7), Time::from_millis(11_000)), Progress::Arrived);
    }

    #[test]
    fn an_address_that_ec2_does_not_know_is_given_up_at_the_fifth_time() {
        let mut moving = moving();
        assert!(!is_over(&mut moving, Failure::Throttled, "Code"), "this one does not count");
        let told: Vec<bool> = (0..MAX_UNKNOWN).map(|_| is_over(&mut moving, Failure::AddressGone, "Code")).collect();
        assert_eq!(told, [false, false, false, false, true]);
    }

    fn is_over(moving: &mut Moving, failure: Failure, code: &str) -> bool {
        let error = CloudError { failure, code: code.to_owned(), message: "a message".to_owned() };
        moving.answered(Err(error), 1, Time::from_millis(0)).is_some()
    }

    #[test]
    fn what_ec2_accepted_after_an_earlier_refusal_is_told_so() {
        let mut moving = moving();
        moving.sent(1, true);
        assert!(!is_over(&mut moving, Failure::Held, "Resource.AlreadyAssociated"));
        let refused = moving.never(&Holder::Nobody, "nobody", Time::from_millis(10_000));
        assert_eq!(refused, "Resource.AlreadyAssociated: a message; after 10 s EC2 shows nobody as the holder");
        assert_eq!(moving.trouble().map(String::as_str), Some("Resource.AlreadyAssociated: a message"));
        assert_eq!(moving.answered(Ok(()), 2, Time::from_millis(0)), None);
        let accepted = moving.never(&Holder::Nobody, "nobody", Time::from_millis(10_000));
        let text = "EC2 accepted the move, but after 10 s shows nobody as the holder (an earlier try: Resource.AlreadyAssociated: a message)";
        assert_eq!((accepted.as_str(), moving.trouble()), (text, None));
    }

    #[test]
    fn an_address_that_somebody_has_taken_by_then_is_looked_at() {
        let refused = || {
            let mut moving = moving();
            (moving.may_have_acted, moving.plan.from) = (false, None);
            moving.sent(1, true);
            let over = is_over(&mut moving, Failure::Held, "Resource.AlreadyAssociated");
            assert!(!over && !moving.may_have_acted);
            moving
        };
        let at = Time::from_millis;
        let third = Holder::Node("i-3".into());
        let mut elsewhere = refused();
        assert!(matches!(elsewhere.seen(&third, Some(2), at(100)), Progress::LookAt(_)));
        assert_eq!(elsewhere.seen(&third, Some(3), at(1_100)), Progress::Elsewhere);
        assert_eq!(refused().seen(&Holder::Node("i-2".into()), Some(2), at(100)), Progress::Arrived);
        // An old answer; or it was released again.
        assert!(matches!(refused().seen(&Holder::Nobody, Some(2), at(100)), Progress::Again(_)));
        let takes = |shown: Holder, ms| refused().takes_from_nobody(Some(&shown), at(ms));
        assert!(takes(Holder::Nobody, 29_999) && !takes(Holder::Nobody, 30_000) && !takes(third.clone(), 0));
        // Another place may be free.
        let mut aimed = refused();
        let (slot, why) = (aimed.plan.slot.clone(), aimed.plan.why);
        aimed.aim(slot.clone(), why);
        assert!(!aimed.takes_from_nobody(Some(&Holder::Nobody), at(30_000)));
        aimed.aim(Slot { interface: "eni-9".into(), ..slot }, why);
        assert!(aimed.takes_from_nobody(Some(&Holder::Nobody), at(30_000)));
        // It was refused: nothing of it is on its way.
        assert!(!refused().is_in_doubt());
        assert!(!takes(Holder::Loose("eni-1".into(), at(0)), 0));
        // Who may take it from whoever holds it, and may not: the target cannot have it.
        let mut moving = moving();
        assert!(is_over(&mut moving, Failure::Held, "Resource.AlreadyAssociated"));
    }

    #[test]
    fn credentials_that_ec2_does_not_know_are_given_up_at_the_fifth_time_and_a_refusal_at_once() {
        let mut to_be_known = moving();
        let mut told = || is_over(&mut to_be_known, Failure::NotPermitted, "AuthFailure");
        assert_eq!([told(), told(), told(), told(), told()], [false, false, false, false, true]);
        assert!(is_over(&mut moving(), Failure::NotPermitted, "UnauthorizedOperation"));
    }
}
