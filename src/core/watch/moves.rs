//! All moves on their way: when they may be sent, what is read before that, and how they end.
//!
//! Architecture invariant: nothing is sent but the plan of the ruling that stands at that moment.

use std::time::Duration;

use crate::core::decide::{self, Why, remembered};
use crate::core::log::Record;
use crate::core::model::{Act, AllocationId, CloudError, ClusterName, Failure, InstanceId};
use crate::core::snapshot::{Holder, Reservation};
use crate::core::tags::{AddressMode, State};
use crate::core::time::{Time, millis};

use super::cluster::{self, Watched};
use super::command::Command;
use super::looks::{self, backoff};
use super::moving::{
    MAX_TRIES, MAX_TURN, Moving, NODES_BEFORE_MOVE, Phase, Progress, RACED_FOR, READ_BEFORE_DECISION, READ_BEFORE_MOVE,
};
use super::tagging::{Purpose, TagWrite};
use super::{Doing, Effect, Watch};

/// AssociateAddress: how many at once, and how many a second after that (EC2's own throttle, per account and Region).
pub const ASSOCIATE_BURST: u32 = 50;
/// See [`ASSOCIATE_BURST`].
pub const ASSOCIATE_PER_SECOND: u32 = 5;
/// The time in which one more may be sent, in milliseconds.
const PER_TOKEN_MS: u64 = 1000 / ASSOCIATE_PER_SECOND as u64;

impl Watch {
    /// What the newest reading says of the moves on their way.
    pub(super) fn progress_moves(&mut self, watched: &mut Watched, now: Time) {
        let asked = self.looks.addresses.asked_id;
        let ids: Vec<AllocationId> = watched.moving.keys().cloned().collect();
        for id in ids {
            let address = watched.cluster.addresses.iter().find(|address| address.id == id);
            let shown = address.map_or_else(|| self.shown_holder(&id), |address| address.holder.clone());
            let Some(moving) = watched.moving.get_mut(&id) else { continue };
            match moving.phase.clone() {
                Phase::Looking { .. } => match moving.seen(&shown, asked, now) {
                    Progress::LookAt(at) => {
                        self.looks.want_addresses(at.max(now));
                        if let Phase::Looking { until, .. } = moving.phase
                            && until > now
                        {
                            self.timers.insert((until, watched.cluster.name.clone()));
                        }
                    }
                    Progress::Arrived => self.arrived(watched, &id, now),
                    Progress::Again(at) => {
                        moving.phase = Phase::Waiting { not_before: at };
                        self.timers.insert((at, watched.cluster.name.clone()));
                    }
                    Progress::Never => {
                        let mut error = moving.never(&shown, &watched.cluster.holder_text(&shown), now);
                        if let Some(address) = address {
                            let before = remembered(address, watched.memory.get(&id));
                            if let Some(state) = moving.count_undone(&shown, before, now) {
                                error.push_str(". The address has left its holder: somebody may have taken it off, and the brake (max_moves) counts this move");
                                // The record of the next move tells of it.
                                watched.memory.entry(id.clone()).or_default().made(state, address.state.as_ref());
                            }
                            // A command is tried to its end once.
                            if moving.plan.why != Why::Manual {
                                error.push_str(". It is sent again if it still should move");
                            }
                        }
                        self.ended(watched, &id, Some(error), false, now);
                    }
                    Progress::Elsewhere => self.moved_elsewhere(watched, &id, &shown, now),
                },
                Phase::Waiting { .. } if self.stopped => {
                    let error = moving.error.clone().map_or_else(String::new, |error| format!(" ({error})"));
                    let error = format!("the watch was stopped before the move was sent again{error}");
                    self.ended(watched, &id, Some(error), false, now);
                }
                Phase::Waiting { not_before } if now < not_before => {
                    self.timers.insert((not_before, watched.cluster.name.clone()));
                }
                Phase::Waiting { .. } | Phase::Sent { .. } => {}
            }
        }
    }

    /// Who holds an address that is of no cluster any more.
    pub(super) fn shown_holder(&self, id: &AllocationId) -> Holder {
        let association = self.facts.addresses.get(id).and_then(|address| address.association.as_ref());
        association.and_then(|at| at.instance.clone()).map_or(Holder::Nobody, Holder::Node)
    }

    fn arrived(&mut self, watched: &mut Watched, id: &AllocationId, now: Time) {
        let Some(moving) = watched.moving.get(id) else { return };
        if !moving.may_have_acted {
            // No call of ours can have done that.
            watched.memory.entry(id.clone()).or_default().order = None;
            let error = moving.error.clone().unwrap_or_else(|| "it was not sent".to_owned());
            let to = watched.cluster.label(&moving.plan.to);
            let error = format!(
                "{error}; then EC2 showed it on {to} all the same: another invocation or somebody moved it there. Nothing is left to do"
            );
            self.ended(watched, id, Some(error), true, now);
            return;
        }
        watched.held.insert(id.clone(), moving.plan.to.clone());
        let address = watched.cluster.addresses.iter().find(|address| &address.id == id);
        let before = address.and_then(|address| remembered(address, watched.memory.get(id)));
        let shown = address.and_then(|address| address.state.clone());
        let (state, is_new) = moving.record(before, now);
        let memory = watched.memory.entry(id.clone()).or_default();
        memory.made(state.clone(), shown.as_ref());
        memory.order = None;
        if is_new {
            let since = state.since.whole_second();
            self.record_state(&watched.cluster.name, id, State { since, ..state }, now);
        }
        self.ended(watched, id, None, false, now);
        // What a command did is not undone by a decision in the same breath.
        watched.hold |= self.command.as_ref().is_some_and(Command::is_move);
    }

    /// A move is over, well or not.
    pub(super) fn ended(
        &mut self,
        watched: &mut Watched,
        id: &AllocationId,
        error: Option<String>,
        benign: bool,
        now: Time,
    ) {
        let Some(moving) = watched.moving.remove(id) else { return };
        self.moves_open = self.moves_open.saturating_sub(1);
        let report = moving.report(error, benign, now);
        let memory = watched.memory.entry(id.clone()).or_default();
        if report.ok {
            // What it has left since is no place of its own any more.
            self.reserved.retain(|slot, reservation| reservation.by != *id || *slot == moving.plan.slot);
            if let Some(reservation) = self.reserved.get_mut(&moving.plan.slot).filter(|of| of.by == *id) {
                reservation.until = now + decide::SETTLING;
            }
        } else {
            // What it was to take is free for others.
            self.wake_all(now);
            let best = memory.order.as_ref().is_some_and(|order| order.to.is_none());
            // Where AWS does not allow the best, the next may do.
            let next = best && memory.forbidden.contains_key(&moving.plan.to);
            if !benign && moving.plan.why == Why::Manual && !next {
                // A command is tried to its end once, not again and again.
                memory.order = None;
                watched.hold = true;
            }
        }
        self.out.push(Effect::Log(Record::Move {
            at: now,
            cluster: watched.cluster.name.clone(),
            address: id.clone(),
            result: report.clone(),
        }));
        watched.moves.entry(id.clone()).or_default().push(report);
        watched.dirty = true;
    }

    fn moved_elsewhere(&mut self, watched: &mut Watched, id: &AllocationId, shown: &Holder, now: Time) {
        let address = watched.cluster.addresses.iter().find(|address| &address.id == id);
        let Some(address) = address else {
            // It is of this cluster no longer.
            let who = watched.cluster.holder_text(shown);
            self.ended(watched, id, Some(format!("given up; EC2 shows it on {who}")), true, now);
            return;
        };
        let decision = cluster::moved_elsewhere(address.public_ip, &watched.cluster.holder_text(shown));
        self.out.push(Effect::Log(Record::Decision {
            at: now,
            cluster: watched.cluster.name.clone(),
            address: id.clone(),
            decision: decision.clone(),
        }));
        watched.memory.entry(id.clone()).or_default().order = None;
        self.ended(watched, id, Some(decision.text.clone()), true, now);
        watched.decisions.insert(id.clone(), decision);
    }

    fn refill(&mut self, now: Time) {
        let passed = u64::try_from(now.since(self.refilled).as_millis()).unwrap_or(u64::MAX) / PER_TOKEN_MS;
        let gained = u32::try_from(passed).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(gained).min(ASSOCIATE_BURST);
        self.refilled += Duration::from_millis(passed.saturating_mul(PER_TOKEN_MS));
    }

    /// When one may be sent; `None`: as soon as what it waits for is read.
    pub(super) fn move_possible_at(&self) -> Option<Time> {
        let held = self.held_until.filter(|until| *until > self.refilled);
        if self.tokens > 0 {
            held
        } else {
            Some((self.refilled + Duration::from_millis(PER_TOKEN_MS)).max(held.unwrap_or_default()))
        }
    }

    /// Sends the moves that are decided, those without a living holder first, at the pace that EC2 allows.
    pub(super) fn launch_moves(&mut self, now: Time) {
        if self.wanted.is_empty() || self.stopped {
            self.wanted.clear();
            return;
        }
        self.refill(now);
        if self.held_until.is_some_and(|until| now < until) {
            return;
        }
        let nodes_old = self.nodes_old(now);
        if self.facts.addresses_at.is_none_or(|at| now.since(at) > READ_BEFORE_MOVE) {
            self.read_before_move(now, now);
            if nodes_old {
                self.looks.want_instances(now);
            }
            return;
        }
        if nodes_old && !self.looks.instances.failing() {
            // Whoever was gone may be back, and whoever could take it may not any more. While EC2 does not answer, nothing waits for that
            // but planned moves, as long as those that can be described are searched for.
            self.looks.want_instances(now);
            self.looks.set_urgent(true);
            return;
        }
        while self.tokens > 0
            && let Some(next) = self.next_move(now)
        {
            self.wanted.remove(&next);
            let (_, address, name) = next;
            let Some(mut watched) = self.clusters.remove(&name) else { continue };
            if self.launch(&mut watched, &address, now) {
                self.tokens -= 1;
            }
            self.clusters.insert(name, watched);
        }
        let planned = self.wanted.first().map(|(planned, ..)| *planned);
        match planned.filter(|_| self.tokens > 0) {
            Some(true) if self.nodes_are_searched_for(now) => {
                self.looks.want_instances(now);
                self.looks.set_urgent(true);
            }
            // What is left waits for a reading.
            Some(planned) => {
                let left = self.wanted.iter().filter(|wanted| wanted.0 == planned);
                let at = left.map(|wanted| self.read_since(wanted, now).unwrap_or(now)).min();
                self.read_before_move(at.unwrap_or(now), now);
            }
            None => {}
        }
    }

    fn nodes_old(&self, now: Time) -> bool {
        self.facts.instances_at.is_none_or(|at| now.since(at) > NODES_BEFORE_MOVE)
    }

    fn nodes_are_searched_for(&self, now: Time) -> bool {
        self.nodes_old(now) && self.looks.may_find_nodes()
    }

    /// Has addresses read once more at `at`, or now if they are not being read.
    fn read_before_move(&mut self, at: Time, now: Time) {
        if at > now || !self.looks.addresses.busy() {
            self.looks.want_addresses(at.max(now));
        }
        self.looks.set_urgent(true);
    }

    /// The first move for which addresses were read as late as it asks for. While a rescue waits for that, nothing but rescues may go.
    fn next_move(&self, now: Time) -> Option<(bool, AllocationId, ClusterName)> {
        let (planned, ..) = self.wanted.first()?;
        self.wanted.iter().find(|wanted| wanted.0 == *planned && self.is_read(wanted, now)).cloned()
    }

    /// Whether addresses were read as late as a move asks for.
    fn is_read(&self, wanted: &(bool, AllocationId, ClusterName), now: Time) -> bool {
        // Somebody holds it: it is read again, and the private address that it is to go to. A rescue is not held up for that.
        if wanted.0 && (!self.looks.addresses_read_again() || self.nodes_are_searched_for(now)) {
            return false;
        }
        self.read_since(wanted, now).is_none_or(|since| self.looks.addresses.asked.is_some_and(|asked| asked >= since))
    }

    /// When the addresses that a move goes by must have been asked for, at the earliest.
    fn read_since(&self, (_, id, name): &(bool, AllocationId, ClusterName), now: Time) -> Option<Time> {
        let watched = self.clusters.get(name)?;
        let address = watched.cluster.addresses.iter().find(|address| &address.id == id);
        // A pause that is over may have been made longer in its last moments.
        let paused_until = address.and_then(|address| address.mode.until()).filter(|until| *until <= now);
        // Watches that move an address at the same time need not choose alike: who comes later is to see where it went. That is likely above
        // all for a last resort, and for what has been moved lately: it may have been displaced at once, and what was taken for an old answer
        // is believed by all at the same moment.
        let state = address.and_then(|address| remembered(address, watched.memory.get(id)));
        let decided = watched.intended.get(id).and_then(|intent| Some((intent.why, intent.since?)));
        let since = decided.and_then(|(why, decided)| {
            let moved_lately = decide::last_move(state, decided).is_some_and(|at| decided.since(at) < RACED_FOR);
            if !moved_lately && why != Why::LastResort {
                // While EC2 does not answer, what was last read has to do.
                let old = self.facts.addresses_at.is_none_or(|at| at + READ_BEFORE_DECISION < decided);
                return (old && !self.looks.addresses.failing()).then_some(decided);
            }
            Some(if why.can_wait() { decided + self.turn() } else { decided })
        });
        paused_until.max(since)
    }

    /// How long this watch lets others go first where nothing is lost by it. Watches that began milliseconds apart get turns far apart.
    fn turn(&self) -> Duration {
        const SPREAD: u64 = 617;
        let turns = millis(MAX_TURN);
        Duration::from_millis((self.started.as_millis() % turns) * SPREAD % turns)
    }

    fn launch(&mut self, watched: &mut Watched, id: &AllocationId, now: Time) -> bool {
        let ruling = watched.rulings.iter().find(|ruling| &ruling.address == id && !ruling.pending);
        let plan = ruling.and_then(|ruling| ruling.plan.clone());
        let shown =
            watched.cluster.addresses.iter().find(|address| &address.id == id).map(|address| address.holder.clone());
        let holder = shown.as_ref().and_then(Holder::instance).cloned();
        if let Some(moving) = watched.moving.get(id) {
            if holder.as_ref() == Some(&moving.plan.to) {
                if moving.held_before == holder
                    && moving.error.is_some()
                    && let Some(moving) = watched.moving.get_mut(id)
                {
                    moving.doubt(self.last_id, now);
                } else {
                    self.arrived(watched, id, now);
                }
                self.timers.insert((now, watched.cluster.name.clone()));
                return false;
            }
            if let Some(shown) = &shown
                && moving.is_elsewhere(shown)
            {
                self.moved_elsewhere(watched, id, shown, now);
                self.timers.insert((now, watched.cluster.name.clone()));
                return false;
            }
            let same = plan.as_ref().is_some_and(|plan| plan.to == moving.plan.to);
            if !same || moving.tries >= MAX_TRIES {
                let over = "it was no longer to be made";
                let error = match &moving.error {
                    Some(error) if same => error.clone(),
                    Some(error) => format!("{error}; then {over}"),
                    None => over.to_owned(),
                };
                self.ended(watched, id, Some(error), !same, now);
                self.timers.insert((now, watched.cluster.name.clone()));
                return false;
            }
        }
        let Some(plan) = plan else { return false };
        if self.reserved.get(&plan.slot).is_some_and(|reservation| &reservation.by != id) {
            // Another cluster of this node was first: it is decided again.
            self.timers.insert((now, watched.cluster.name.clone()));
            return false;
        }
        if plan.forced && !self.force_is_recorded(watched, id, now) {
            return false;
        }
        watched.intended.remove(id);
        let name = watched.cluster.name.clone();
        let detect = watched.failing_since(plan.from.as_ref()).map(|since| now.since(since));
        let (slot, why) = (plan.slot.clone(), plan.why);
        let act_id = self.new_id();
        let address = watched.cluster.addresses.iter().find(|address| &address.id == id);
        let state = address.and_then(|address| remembered(address, watched.memory.get(id)));
        let stale = |of: &InstanceId| decide::is_stale(&Holder::Node(of.clone()), state, now);
        let held_before = state.and_then(|state| state.from.clone()).filter(stale);
        let last_recorded = state.map(|state| state.since);
        let moving = watched.moving.entry(id.clone()).or_insert_with(|| {
            self.moves_open += 1;
            Moving { held_before, last_recorded, ..Moving::new(plan, now, detect) }
        });
        moving.aim(slot.clone(), why);
        let only_if_unheld = moving.takes_from_nobody(shown.as_ref(), now);
        moving.sent(act_id, only_if_unheld);
        watched.at_rest = false;
        // Also where nobody holds it any more: a reading from before may show it there again.
        let from = self.last_places.get(id).cloned();
        // As long as it is on its way it is kept in any case.
        let reservation = Reservation { by: id.clone(), until: now, from };
        self.reserved.insert(slot.clone(), reservation);
        let act = Act::Associate {
            address: id.clone(),
            interface: slot.interface,
            private_ip: slot.private_ip,
            only_if_unheld,
            dry_run: false,
        };
        self.api_calls += 1;
        self.out.push(Effect::Act(act_id, act.clone()));
        self.doing.insert(act_id, (now, act, Doing::Associate(name, id.clone())));
        true
    }

    /// A forced move waits until the address's mode is manual: a sweep elsewhere would undo it.
    fn force_is_recorded(&mut self, watched: &Watched, id: &AllocationId, now: Time) -> bool {
        let address = watched.cluster.addresses.iter().find(|address| &address.id == id);
        if address.is_some_and(|address| address.mode == AddressMode::Manual { until: None }) {
            return true;
        }
        let waiting = |of: &Purpose| matches!(of, Purpose::Force(address) if address == id);
        let queued = self.tags.iter().any(|(_, write)| write.of.iter().any(waiting));
        let sent =
            self.doing.values().any(|(_, _, doing)| matches!(doing, Doing::Tag(write) if write.of.iter().any(waiting)));
        if !queued && !sent {
            let value = AddressMode::Manual { until: None }.to_string();
            let key = self.settings.keys.mode.clone();
            let write = TagWrite::new(id.to_string(), key, value, Purpose::Force(id.clone()));
            self.tags.insert(0, (now, write));
        }
        false
    }

    /// Takes in the answer to a move.
    pub(super) fn associated(
        &mut self,
        name: ClusterName,
        address: AllocationId,
        result: Result<(), CloudError>,
        now: Time,
    ) {
        let Some(mut watched) = self.clusters.remove(&name) else { return };
        let throttled = result.as_ref().is_err_and(|error| error.failure == Failure::Throttled);
        if throttled {
            // The bucket is not ours alone: it is empty, whatever we counted.
            self.throttles = self.throttles.saturating_add(1);
            self.tokens = 0;
            self.refilled = now;
            self.held_until = Some(now + backoff(self.throttles.min(3), looks::BACKOFF_MAX_URGENT));
        } else {
            self.throttles = 0;
        }
        let failed = watched.moving.get_mut(&address).and_then(|moving| moving.answered(result, self.last_id, now));
        if let Some(error) = failed {
            let to = watched.moving.get(&address).map(|moving| moving.plan.to.clone());
            let memory = watched.memory.entry(address.clone()).or_default();
            match (error.failure, to) {
                (Failure::AddressGone, _) => memory.barred = Some(error.to_string()),
                (Failure::NotPermitted, Some(to)) => memory.forbid(to, error.to_string()),
                (_, Some(to)) => {
                    memory.refused.insert(to, error.to_string());
                }
                (_, None) => {}
            }
            self.ended(&mut watched, &address, Some(error.to_string()), false, now);
        }
        watched.dirty = true;
        self.timers.insert((now, name.clone()));
        self.clusters.insert(name, watched);
    }

    /// Asks EC2 whether it would allow what a dry run has decided.
    pub(super) fn ask_if_allowed(&mut self, now: Time) {
        let names: Vec<ClusterName> = self.clusters.keys().cloned().collect();
        for name in names {
            let Some(watched) = self.clusters.get_mut(&name) else { continue };
            let plans: Vec<(AllocationId, decide::Plan)> = watched
                .rulings
                .iter()
                .filter(|ruling| !ruling.pending)
                .filter_map(|ruling| Some((ruling.address.clone(), ruling.plan.clone()?)))
                .filter(|(id, plan)| watched.asked_if_allowed.insert((id.clone(), plan.to.clone())))
                .collect();
            for (id, plan) in plans {
                let act_id = self.new_id();
                let act = Act::Associate {
                    address: id.clone(),
                    interface: plan.slot.interface,
                    private_ip: plan.slot.private_ip,
                    only_if_unheld: false,
                    dry_run: true,
                };
                self.api_calls += 1;
                self.out.push(Effect::Act(act_id, act.clone()));
                self.doing.insert(act_id, (now, act, Doing::DryRun(name.clone(), id, plan.to)));
            }
        }
    }
}
