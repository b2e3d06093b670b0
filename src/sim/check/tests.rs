//! Every rule of the judge is shown to fire for a plain breach, and to be silent at the lawful act beside it.

use std::collections::BTreeSet;

use super::*;
use crate::embedded::Rule;
use crate::embedded::ec2::{InstanceSpec, Place, Plan, Request, tags};

/// When the judge begins: everything that was built before is old.
const BEGIN_MS: u64 = 10_000_000;
/// Longer than any watch needs to find anything out, shorter than the brake's window.
const LONG_MS: u64 = 100_000;
/// Watches, and who was told to move the address.
const ONE: u32 = 1;
const OTHER: u32 = 2;
const COMMAND: u32 = 3;
const FORCE: u32 = 4;
const THIRD: u32 = 5;

const BOUNDS: Bounds = Bounds {
    interval_ms: 1_000,
    fast_ms: 500,
    timeout_ms: 1_000,
    fall: 2,
    rise: 1,
    stable_ms: 60_000,
    failback: false,
    max_moves: 1,
    window_ms: 600_000,
    slack_ms: 1_000,
    paced_ms: 0,
};

/// A cluster `web` of nodes `a`, `b` and `c`, its address on `a`; an instance and an address that are none of its.
struct Court {
    ec2: Ec2,
    now_ms: u64,
    a: Id,
    b: Id,
    c: Id,
    outsider: Id,
    address: Id,
    foreign: Id,
    views: Vec<NodeView>,
    passed: bool,
    watched_since_ms: Option<u64>,
    /// When the invocations began.
    began_ms: u64,
    judge: Checker,
}

impl Court {
    fn new(bounds: Bounds) -> Court {
        let mut ec2 = Ec2::new(1);
        let web = || tags([("eipwatch:cluster", "web")]);
        let mut node = || ec2.add_instance(InstanceSpec { tags: web(), ..InstanceSpec::default() });
        let (a, b, c) = (node(), node(), node());
        let outsider = ec2.add_instance(InstanceSpec::default());
        let (address, foreign) = (ec2.add_address(web()), ec2.add_address(tags([])));
        assert!(ec2.move_by_hand(&address, Place::Instance(&a), 0));
        ec2.advance(BEGIN_MS);
        let views: Vec<NodeView> = [&a, &b, &c].map(view).into();
        let mut judge = Checker::new("web", bounds, &ec2, &views, BEGIN_MS);
        judge.role(COMMAND, Role::Command);
        judge.role(FORCE, Role::Force);
        let (passed, watched_since_ms, now_ms, began_ms) = (true, None, BEGIN_MS, u64::MAX);
        let mut this = Court {
            ec2,
            now_ms,
            a,
            b,
            c,
            outsider,
            address,
            foreign,
            views,
            passed,
            watched_since_ms,
            began_ms,
            judge,
        };
        this.pass(LONG_MS);
        this
    }

    /// Something that was done to the world is seen; then so much time goes by.
    fn pass(&mut self, for_ms: u64) {
        self.look();
        self.judge.disturbed(self.now_ms);
        self.wait(for_ms);
    }

    fn wait(&mut self, for_ms: u64) {
        self.now_ms += for_ms;
        self.ec2.advance(self.now_ms);
        self.look();
    }

    fn look(&mut self) {
        let passed = |_: u32, _: &Id| self.passed;
        let began_ms = |_: u32| Some(self.began_ms).filter(|at_ms| *at_ms < u64::MAX);
        let (watched_since_ms, now_ms) = (self.watched_since_ms, self.now_ms);
        let (ec2, views) = (&self.ec2, &self.views);
        self.judge.observe(&Moment { ec2, views, passed: &passed, began_ms: &began_ms, watched_since_ms, now_ms });
    }

    fn view(&mut self, id: &Id) -> &mut NodeView {
        self.views.iter_mut().find(|view| view.id == *id).unwrap()
    }

    fn condition(&mut self, id: &Id, condition: Condition) {
        self.view(id).condition = condition;
    }

    fn tag(&mut self, id: &Id, key: &str, value: &str) {
        self.ec2.set_tags(id, tags([(key, value)]), self.now_ms);
    }

    /// A tag is edited, and that is seen; then a moment goes by.
    fn edit(&mut self, id: &Id, key: &str, value: &str) {
        self.tag(id, key, value);
        self.look();
        self.wait(1);
    }

    fn by_hand(&mut self, id: &Id, place: Place<'_>) {
        assert!(self.ec2.move_by_hand(id, place, self.now_ms));
    }

    /// A call moves the address to a node's first place.
    fn moves(&mut self, caller: u32, to: &Id) {
        let call = self.sends(caller, to);
        self.takes_effect(&call);
    }

    /// A caller reads the addresses.
    fn reads(&mut self, caller: u32) {
        self.ec2.call(caller, &Request::DescribeAddresses, self.now_ms).unwrap();
    }

    /// Such a call is on its way.
    fn sends(&mut self, caller: u32, to: &Id) -> (Plan, Request) {
        let nic = self.ec2.interfaces_of(to).next().unwrap().clone();
        let request = associate(&self.address, &nic.id, nic.private_ips[0]);
        (self.ec2.plan(caller, &request, self.now_ms), request)
    }

    fn takes_effect(&mut self, (plan, request): &(Plan, Request)) {
        self.ec2.run(plan, request, self.now_ms).unwrap();
        self.look();
    }

    fn claim(&self, to: &Id) -> Claim {
        Claim {
            caller: ONE,
            started_ms: self.now_ms - 1_000,
            ended_ms: self.now_ms,
            allocation: self.address.clone(),
            to: Some(to.clone()),
        }
    }

    /// The address on an interface of `a` that is then attached to nothing.
    fn loose(&mut self) {
        let interface = self.ec2.add_interface(&self.a, 1).unwrap();
        let ip = self.ec2.interfaces_of(&interface).next().unwrap().private_ips[0];
        let address = self.address.clone();
        self.by_hand(&address, Place::Interface(&interface, ip));
        self.look();
        assert!(self.ec2.detach_interface(&interface, self.now_ms));
        self.pass(0);
    }

    /// `a` has been bad for long.
    fn a_is_bad(&mut self) {
        let a = self.a.clone();
        self.condition(&a, Condition::Bad);
        self.pass(LONG_MS);
    }

    /// The address has been on nothing for long.
    fn is_nowhere(&mut self) {
        let address = self.address.clone();
        self.by_hand(&address, Place::Nowhere);
        self.pass(LONG_MS);
    }

    /// As often as the brake allows, by hand, and back to `a`.
    fn was_moved_to_and_fro(&mut self) {
        let (address, a, b) = (self.address.clone(), self.a.clone(), self.b.clone());
        self.by_hand(&address, Place::Instance(&b));
        self.pass(1_000);
        self.by_hand(&address, Place::Instance(&a));
        self.pass(1_000);
    }

    fn is_handed_to_the_outsider(&mut self) {
        let (address, outsider) = (self.address.clone(), self.outsider.clone());
        self.by_hand(&address, Place::Instance(&outsider));
        self.pass(LONG_MS);
    }

    fn record(&mut self, value: &str) {
        let address = self.address.clone();
        let value = value.replace('A', &self.a).replace('B', &self.b);
        self.judge.judge_record(&self.ec2, ONE, &address, &value, self.now_ms);
    }
}

fn view(id: &Id) -> NodeView {
    NodeView {
        id: id.clone(),
        condition: Condition::Good,
        bad_by: BadBy::default(),
        impaired: false,
        announced: false,
        scheduled: false,
        due: false,
        elsewhere: false,
        undescribed: false,
        outlived: false,
    }
}

fn associate(allocation: &Id, interface: &Id, private_ip: Ipv4Addr) -> Request {
    let (allocation, interface) = (allocation.clone(), interface.clone());
    Request::AssociateAddress { allocation, interface, private_ip, allow_reassociation: true, dry_run: false }
}

/// What is tried in a court of its own.
type Deed = fn(&mut Court);

/// A rule, what is lawful beside it, and what breaks it.
const CASES: &[(&str, Deed, Deed)] = &[
    (
        "displaces",
        |it| {
            it.a_is_bad();
            // It came there a moment ago: nobody need have seen it.
            let (foreign, b) = (it.foreign.clone(), it.b.clone());
            it.by_hand(&foreign, Place::Instance(&b));
            it.pass(1_000);
            it.moves(ONE, &b);
        },
        |it| {
            let (foreign, b) = (it.foreign.clone(), it.b.clone());
            it.by_hand(&foreign, Place::Instance(&b));
            it.a_is_bad();
            it.moves(ONE, &b);
        },
    ),
    (
        "moves in manual mode",
        |it| {
            it.tag(&it.address.clone(), "eipwatch:mode", "manual");
            it.a_is_bad();
            it.moves(COMMAND, &it.b.clone());
        },
        |it| {
            it.tag(&it.address.clone(), "eipwatch:mode", "manual");
            it.a_is_bad();
            it.moves(ONE, &it.b.clone());
        },
    ),
    (
        "moves off an outsider",
        |it| {
            it.is_handed_to_the_outsider();
            it.moves(COMMAND, &it.b.clone());
        },
        |it| {
            it.is_handed_to_the_outsider();
            it.moves(ONE, &it.b.clone());
        },
    ),
    (
        "moves off an outsider",
        |it| {
            it.loose();
            it.wait(LOOSE_FOR_MS);
            it.judge.judge_attempt(ONE, &it.address, it.now_ms);
        },
        |it| {
            let gateway = it.ec2.nat_gateway_interface();
            let ip = it.ec2.interfaces_of(&gateway).next().unwrap().private_ips[0];
            it.by_hand(&it.address.clone(), Place::Interface(&gateway, ip));
            it.pass(LONG_MS);
            it.judge.judge_attempt(ONE, &it.address, it.now_ms);
        },
    ),
    (
        "takes a loose interface too soon",
        |it| {
            it.loose();
            it.wait(LOOSE_FOR_MS);
            it.moves(ONE, &it.b.clone());
        },
        |it| {
            it.loose();
            it.wait(LOOSE_FOR_MS / 2);
            it.moves(ONE, &it.b.clone());
        },
    ),
    (
        "to no node",
        |it| {
            it.a_is_bad();
            it.moves(FORCE, &it.outsider.clone());
        },
        |it| {
            it.a_is_bad();
            it.moves(ONE, &it.outsider.clone());
        },
    ),
    (
        "rescued to what does not run",
        |it| {
            it.is_nowhere();
            // An event or an old reading may still say otherwise.
            it.ec2.stop_instance(&it.b, it.now_ms);
            it.pass(EVENT_BELIEVED_MS / 2);
            it.moves(ONE, &it.b.clone());
        },
        |it| {
            it.is_nowhere();
            it.ec2.stop_instance(&it.b, it.now_ms);
            it.pass(LONG_MS);
            it.moves(ONE, &it.b.clone());
        },
    ),
    (
        "rescued to a worse node",
        |it| {
            // All of them are.
            let all = [it.a.clone(), it.b.clone(), it.c.clone()];
            all.iter().for_each(|id| it.condition(id, Condition::Bad));
            it.is_nowhere();
            it.moves(ONE, &it.b.clone());
        },
        |it| {
            it.condition(&it.b.clone(), Condition::Bad);
            it.is_nowhere();
            it.moves(ONE, &it.b.clone());
        },
    ),
    (
        // Nobody knows whether an application check outlives a start.
        "rescued to a worse node",
        |it| {
            it.condition(&it.b.clone(), Condition::Bad);
            for id in [it.a.clone(), it.c.clone()] {
                it.view(&id).outlived = true;
            }
            it.is_nowhere();
            it.moves(ONE, &it.b.clone());
        },
        |it| {
            it.condition(&it.b.clone(), Condition::Bad);
            it.view(&it.a.clone()).outlived = true;
            it.is_nowhere();
            it.moves(ONE, &it.b.clone());
        },
    ),
    (
        "moves off a healthy holder",
        |it| {
            it.a_is_bad();
            it.moves(ONE, &it.b.clone());
        },
        |it| it.moves(ONE, &it.b.clone()),
    ),
    (
        "failback undoes others' move",
        |it| {
            goes_back(it);
            it.pass(LONG_MS);
            it.moves(ONE, &it.b.clone());
        },
        |it| {
            goes_back(it);
            let (address, c) = (it.address.clone(), it.c.clone());
            it.by_hand(&address, Place::Instance(&c));
            it.tag(&address, "eipwatch:state", &format!("holder={c} since=2026-11-22T07:30:00Z why=external"));
            it.pass(LONG_MS);
            it.moves(ONE, &it.b.clone());
        },
    ),
    (
        "failback too soon",
        |it| {
            goes_back(it);
            goes_back_after(it, ONE, BOUNDS.stable_ms);
        },
        |it| {
            goes_back(it);
            goes_back_after(it, ONE, BOUNDS.stable_ms / 2);
        },
    ),
    (
        // By another, that died before it could write it down: only what is on record of it can be known.
        "failback too soon",
        |it| {
            goes_back(it);
            goes_back_after(it, OTHER, BOUNDS.stable_ms / 2);
        },
        |it| {
            goes_back(it);
            let text = format!("holder={} since=2026-11-22T07:30:00Z from={} why=holder-gone", it.a, it.c);
            it.tag(&it.address.clone(), "eipwatch:state", &text);
            goes_back_after(it, OTHER, BOUNDS.stable_ms / 2);
        },
    ),
    (
        // What cannot be read is no record.
        "failback too soon",
        |it| {
            goes_back(it);
            it.tag(&it.address.clone(), "eipwatch:state", "holder=");
            goes_back_after(it, OTHER, BOUNDS.stable_ms / 2);
        },
        |it| {
            goes_back(it);
            it.tag(&it.address.clone(), "eipwatch:state", "holder=");
            goes_back_after(it, ONE, BOUNDS.stable_ms / 2);
        },
    ),
    (
        // Nor can it by who did not run yet when it came.
        "failback too soon",
        |it| {
            goes_back(it);
            it.began_ms = it.now_ms;
            it.a_is_bad();
            it.began_ms = it.now_ms;
            it.moves(OTHER, &it.c.clone());
            it.pass(BOUNDS.stable_ms / 2);
            it.moves(ONE, &it.b.clone());
        },
        |it| {
            goes_back(it);
            it.began_ms = it.now_ms;
            goes_back_after(it, OTHER, BOUNDS.stable_ms / 2);
        },
    ),
    (
        "ignores the brake",
        |it| {
            one_move_and_bad_again(it);
            it.pass(BOUNDS.stable_ms);
            it.moves(ONE, &it.c.clone());
        },
        |it| {
            one_move_and_bad_again(it);
            it.pass(BOUNDS.stable_ms / 2);
            it.moves(ONE, &it.c.clone());
        },
    ),
    (
        // Somebody may have written that it has failed for long.
        "ignores the brake",
        |it| {
            one_move_and_bad_again(it);
            it.judge.health_forged(&it.b, it.now_ms);
            it.pass(BOUNDS.stable_ms / 2);
            it.moves(ONE, &it.c.clone());
        },
        |it| {
            // Long ago, or of another.
            it.judge.health_forged(&it.b, it.now_ms - BOUNDS.window_ms);
            it.judge.health_forged(&it.a, it.now_ms);
            one_move_and_bad_again(it);
            it.pass(BOUNDS.stable_ms / 2);
            it.moves(ONE, &it.c.clone());
        },
    ),
    (
        // One, and one by racing.
        "too many moves",
        two_race,
        |it| {
            two_race(it);
            it.moves(ONE, &it.b.clone());
        },
    ),
    (
        // And whatever was sent before the last took effect.
        "too many moves",
        |it| {
            it.a_is_bad();
            it.moves(ONE, &it.b.clone());
            let sent_before = it.sends(ONE, &it.b.clone());
            it.wait(1);
            it.moves(OTHER, &it.c.clone());
            it.takes_effect(&sent_before);
        },
        |it| {
            it.a_is_bad();
            it.moves(ONE, &it.b.clone());
            it.wait(1);
            it.moves(OTHER, &it.c.clone());
            let sent_after = it.sends(ONE, &it.b.clone());
            it.takes_effect(&sent_after);
        },
    ),
    (
        // Its own it knows of.
        "too many moves",
        two_race,
        |it| {
            it.a_is_bad();
            it.moves(ONE, &it.b.clone());
            let own = it.sends(OTHER, &it.b.clone());
            it.wait(1);
            it.moves(OTHER, &it.c.clone());
            it.takes_effect(&own);
        },
    ),
    (
        // And of each that once.
        "too many moves",
        |it| overlapping(it, 4),
        |it| overlapping(it, 5),
    ),
    (
        // An operator's order is another matter.
        "too many moves",
        |it| {
            two_race(it);
            it.edit(&it.c.clone(), "eipwatch:mode", "drain");
            it.moves(ONE, &it.b.clone());
        },
        |it| {
            two_race(it);
            it.edit(&it.c.clone(), "eipwatch:priority", "5");
            it.moves(ONE, &it.b.clone());
        },
    ),
    (
        // Of which the other knew, and this one not yet.
        "too many moves",
        one_has_not_heard,
        |it| {
            one_has_not_heard(it);
            it.moves(OTHER, &it.b.clone());
        },
    ),
    (
        // And one where a place may be raced for.
        "too many moves",
        |it| {
            let nic = it.ec2.primary_interface(&it.c).unwrap();
            let ip = it.ec2.add_private_ip(&nic, None).unwrap();
            it.by_hand(&it.foreign.clone(), Place::Interface(&nic, ip));
            two_race(it);
            it.moves(ONE, &it.b.clone());
        },
        |it| {
            let nic = it.ec2.primary_interface(&it.c).unwrap();
            let ip = it.ec2.add_private_ip(&nic, None).unwrap();
            it.by_hand(&it.foreign.clone(), Place::Interface(&nic, ip));
            two_race(it);
            it.moves(ONE, &it.b.clone());
            it.moves(OTHER, &it.c.clone());
        },
    ),
    (
        // Who has read the address before another moved it need not know of that; once, and for a second.
        "too many moves",
        |it| {
            a_third_has_read_it_before_the_second_move(it);
            it.wait(500);
            it.moves(THIRD, &it.b.clone());
        },
        |it| {
            a_third_has_read_it_before_the_second_move(it);
            it.wait(1);
            it.reads(THIRD);
            it.wait(500);
            it.moves(THIRD, &it.b.clone());
        },
    ),
    (
        "too many moves",
        |it| {
            a_third_has_read_it_before_the_second_move(it);
            it.wait(READ_BEFORE_MOVE_MS - 1);
            it.moves(THIRD, &it.b.clone());
        },
        |it| {
            a_third_has_read_it_before_the_second_move(it);
            it.wait(READ_BEFORE_MOVE_MS);
            it.moves(THIRD, &it.b.clone());
        },
    ),
    (
        // Within a millisecond by the order of the calls.
        "too many moves",
        |it| {
            it.a_is_bad();
            it.moves(ONE, &it.b.clone());
            it.reads(THIRD);
            it.moves(OTHER, &it.c.clone());
            it.moves(THIRD, &it.b.clone());
        },
        |it| {
            it.a_is_bad();
            it.moves(ONE, &it.b.clone());
            it.moves(OTHER, &it.c.clone());
            it.reads(THIRD);
            it.moves(THIRD, &it.b.clone());
        },
    ),
    (
        // The fault itself excuses nothing; what comes of it later is another.
        "too many moves",
        |it| {
            it.judge.disturbed(it.now_ms);
            it.wait(1);
            it.condition(&it.a.clone(), Condition::Bad);
            it.look();
            two_watches_move_thrice(it);
        },
        |it| {
            it.condition(&it.a.clone(), Condition::Bad);
            it.look();
            it.judge.disturbed(it.now_ms);
            it.wait(1);
            two_watches_move_thrice(it);
        },
    ),
    (
        // Nor does a rescue count that had its reason before, to a node that the fault has harmed unseen.
        "too many moves",
        rescued_in_vain,
        |it| {
            rescued_in_vain(it);
            it.moves(ONE, &it.a.clone());
        },
    ),
    (
        // But not one from where it came only after the fault.
        "too many moves",
        two_race,
        |it| {
            it.a_is_bad();
            it.condition(&it.b.clone(), Condition::Bad);
            it.pass(LONG_MS);
            it.ec2.stop_instance(&it.a, it.now_ms);
            it.condition(&it.c.clone(), Condition::Bad);
            it.look();
            it.judge.disturbed(it.now_ms);
            it.wait(1);
            it.moves(ONE, &it.b.clone());
            it.wait(1);
            it.moves(OTHER, &it.c.clone());
            it.wait(1);
            it.moves(ONE, &it.b.clone());
        },
    ),
    (
        // What fails one check until another fails has to be found out anew.
        "to no candidate",
        |it| {
            fails_by_service(it);
            it.view(&it.b.clone()).bad_by = BadBy { agent: true, ..BadBy::default() };
            it.look();
            it.moves(ONE, &it.b.clone());
        },
        |it| {
            fails_by_service(it);
            let bad_by = &mut it.view(&it.b.clone()).bad_by;
            (bad_by.agent, bad_by.alarm) = (true, true);
            it.look();
            it.moves(ONE, &it.b.clone());
        },
    ),
    (
        "left unrescued",
        |it| {
            it.watched_since_ms = Some(BEGIN_MS);
            it.condition(&it.a.clone(), Condition::Bad);
            it.pass(TO_MOVE_MS);
        },
        |it| {
            it.watched_since_ms = Some(BEGIN_MS);
            it.condition(&it.a.clone(), Condition::Bad);
            it.pass(TO_MOVE_MS + BOUNDS.found_out_ms() + 1);
        },
    ),
    (
        // A mode that cannot be read makes it no candidate, and moves nothing.
        "left unrescued",
        |it| {
            it.watched_since_ms = Some(BEGIN_MS);
            it.tag(&it.a.clone(), "eipwatch:mode", "maintenance");
            it.pass(LONG_MS);
        },
        |it| {
            it.watched_since_ms = Some(BEGIN_MS);
            it.tag(&it.a.clone(), "eipwatch:mode", "drain");
            it.pass(LONG_MS);
        },
    ),
    (
        // What was announced is over once it is started anew.
        "left unrescued",
        |it| {
            it.tag(&it.a.clone(), "eipwatch:health", "verdict=healthy since=T leaving=spot until=T");
            it.pass(1);
            assert!(it.ec2.stop_instance(&it.a, it.now_ms));
            it.wait(LONG_MS);
            assert!(it.ec2.start_instance(&it.a, it.now_ms));
            it.wait(LONG_MS);
            it.watched_since_ms = Some(it.now_ms);
            it.pass(LONG_MS);
        },
        |it| {
            it.tag(&it.a.clone(), "eipwatch:health", "verdict=healthy since=T leaving=spot until=T");
            it.watched_since_ms = Some(it.now_ms);
            it.pass(LONG_MS);
        },
    ),
    (
        // The brake holds what is on a node that runs, and nothing else.
        "left unrescued",
        |it| {
            it.was_moved_to_and_fro();
            it.watched_since_ms = Some(it.now_ms);
            it.condition(&it.a.clone(), Condition::Bad);
            it.pass(LONG_MS);
            assert!(it.ec2.stop_instance(&it.a, it.now_ms));
            it.pass(TO_MOVE_MS);
        },
        |it| {
            it.was_moved_to_and_fro();
            it.watched_since_ms = Some(it.now_ms);
            it.is_nowhere();
        },
    ),
    (
        "not rescued in time",
        |it| it.judge.judge_recovery(&it.ec2, it.now_ms),
        |it| {
            it.a_is_bad();
            it.judge.judge_recovery(&it.ec2, it.now_ms);
        },
    ),
    (
        "not rescued",
        |it| it.judge.judge_rest(&it.ec2, it.now_ms),
        |it| {
            it.a_is_bad();
            it.judge.judge_rest(&it.ec2, it.now_ms);
        },
    ),
    (
        "not rescued",
        |it| {
            // Nobody could take it.
            let (b, c) = (it.b.clone(), it.c.clone());
            [b, c].iter().for_each(|id| it.condition(id, Condition::Bad));
            it.a_is_bad();
            it.judge.judge_rest(&it.ec2, it.now_ms);
        },
        |it| {
            it.is_nowhere();
            it.judge.judge_rest(&it.ec2, it.now_ms);
        },
    ),
    (
        "remembers another holder",
        |it| {
            let text = format!("holder={} since=2026-11-22T07:30:00Z from={} why=holder-gone", it.a, it.b);
            it.tag(&it.address.clone(), "eipwatch:state", &text);
            it.pass(LONG_MS);
            it.judge.judge_rest(&it.ec2, it.now_ms);
        },
        |it| {
            let text = format!("holder={} since=2026-11-22T07:30:00Z from={} why=holder-gone", it.b, it.a);
            it.tag(&it.address.clone(), "eipwatch:state", &text);
            it.pass(LONG_MS);
            it.judge.judge_rest(&it.ec2, it.now_ms);
        },
    ),
    (
        "claims what it did not do",
        |it| it.judge.judge_claim(&it.ec2, &it.claim(&it.a)),
        |it| it.judge.judge_claim(&it.ec2, &it.claim(&it.b)),
    ),
    (
        "reports a holder that it was not",
        |it| {
            // It has been moved on since that was read.
            it.a_is_bad();
            it.moves(ONE, &it.b.clone());
            it.pass(SETTLING_MS);
            it.judge.judge_holder(&it.ec2, &it.claim(&it.a));
        },
        |it| {
            it.a_is_bad();
            it.moves(ONE, &it.b.clone());
            it.pass(LONG_MS);
            it.judge.judge_holder(&it.ec2, &it.claim(&it.a));
        },
    ),
    ("records what was not", |it| it.record("holder=A since=T"), |it| it.record("holder=B since=T")),
    (
        "counts moves that were not",
        |it| it.record("holder=A since=T moves=T/T"),
        |it| it.record("holder=A since=T moves=T/T/T"),
    ),
    // What is found out at once, and what only later.
    (
        "to no candidate",
        |it| {
            it.a_is_bad();
            it.condition(&it.b.clone(), Condition::Bad);
            it.pass(BOUNDS.found_out_ms());
            it.moves(ONE, &it.b.clone());
        },
        |it| {
            it.a_is_bad();
            it.condition(&it.b.clone(), Condition::Bad);
            it.pass(BOUNDS.found_out_ms() + 1);
            it.moves(ONE, &it.b.clone());
        },
    ),
    (
        "to no candidate",
        |it| {
            // Where there is nothing to lose it need not be one.
            it.tag(&it.b.clone(), "eipwatch:mode", "drain");
            it.is_nowhere();
            it.moves(ONE, &it.b.clone());
        },
        |it| {
            it.tag(&it.b.clone(), "eipwatch:mode", "drain");
            it.a_is_bad();
            it.moves(ONE, &it.b.clone());
        },
    ),
    (
        "to no candidate",
        |it| {
            it.tag(&it.b.clone(), "eipwatch:mode", "drain");
            it.a_is_bad();
            it.moves(FORCE, &it.b.clone());
        },
        |it| {
            it.tag(&it.b.clone(), "eipwatch:mode", "drain");
            it.a_is_bad();
            it.moves(COMMAND, &it.b.clone());
        },
    ),
];

/// What speaks against a target, each long enough ago to have been seen.
const AGAINST: &[(&str, Deed)] = &[
    ("of which no probe has passed", |it| it.passed = false),
    ("is in another border group", |it| it.judge.nodes.get_mut(&it.b).unwrap().elsewhere = true),
    ("does not run", |it| assert!(it.ec2.stop_instance(&it.b, it.now_ms))),
    ("cannot be described", |it| it.view(&it.b.clone()).undescribed = true),
    ("is no member", |it| it.tag(&it.b.clone(), "eipwatch:cluster", "db")),
    ("is not active", |it| it.tag(&it.b.clone(), "eipwatch:mode", "drain")),
    ("is leaving", |it| it.tag(&it.b.clone(), "eipwatch:health", "verdict=healthy since=T leaving=spot until=T")),
    ("is scheduled to stop", |it| it.view(&it.b.clone()).due = true),
    ("fails its checks", |it| it.condition(&it.b.clone(), Condition::Bad)),
    ("is impaired", |it| it.view(&it.b.clone()).impaired = true),
];

/// The begin of a failback: `b` is the preferred node. The brake is far.
fn goes_back(it: &mut Court) {
    it.judge.bounds.failback = true;
    it.judge.bounds.max_moves = 5;
    it.tag(&it.b.clone(), "eipwatch:priority", "200");
    it.pass(LONG_MS);
}

/// `a` fails and is left for `c` by this one; so much later the address goes back to `b`.
fn goes_back_after(it: &mut Court, by: u32, ms: u64) {
    it.a_is_bad();
    it.moves(by, &it.c.clone());
    it.pass(ms);
    it.moves(ONE, &it.b.clone());
}

/// Two watches that choose differently.
fn two_race(it: &mut Court) {
    it.a_is_bad();
    it.moves(ONE, &it.b.clone());
    it.moves(OTHER, &it.c.clone());
}

/// The address is on nobody; then `b` fails, and no watch can know that when it puts the address there.
fn rescued_in_vain(it: &mut Court) {
    it.is_nowhere();
    it.condition(&it.b.clone(), Condition::Bad);
    it.look();
    it.judge.disturbed(it.now_ms);
    it.wait(1);
    it.moves(ONE, &it.b.clone());
    it.wait(1);
    it.moves(ONE, &it.a.clone());
    it.moves(OTHER, &it.c.clone());
}

/// So does `b`, and for as long as `a` does.
fn fails_by_service(it: &mut Court) {
    it.condition(&it.b.clone(), Condition::Bad);
    it.view(&it.b.clone()).bad_by.service = true;
    it.a_is_bad();
}

fn a_third_has_read_it_before_the_second_move(it: &mut Court) {
    it.a_is_bad();
    it.moves(ONE, &it.b.clone());
    it.reads(THIRD);
    it.wait(1);
    it.moves(OTHER, &it.c.clone());
}

fn two_watches_move_thrice(it: &mut Court) {
    it.moves(ONE, &it.b.clone());
    it.moves(OTHER, &it.c.clone());
    it.moves(ONE, &it.b.clone());
}

/// So many moves of two in turn, each sent before the last took effect.
fn overlapping(it: &mut Court, moves: usize) {
    it.a_is_bad();
    let mut sent = it.sends(ONE, &it.b.clone());
    for n in 1..=moves {
        let next = if n % 2 == 1 { it.sends(OTHER, &it.c.clone()) } else { it.sends(ONE, &it.b.clone()) };
        it.wait(1);
        it.takes_effect(&sent);
        sent = next;
    }
}

/// `b` is drained, and moments later one that does not know it yet moves the address there, from where the other had it and has it again.
fn one_has_not_heard(it: &mut Court) {
    it.a_is_bad();
    it.edit(&it.b.clone(), "eipwatch:mode", "drain");
    it.moves(ONE, &it.c.clone());
    it.moves(OTHER, &it.b.clone());
    it.moves(ONE, &it.c.clone());
}

/// One move, as many as there may be; then its target fails, which a watch has seen well for long.
fn one_move_and_bad_again(it: &mut Court) {
    it.a_is_bad();
    it.moves(ONE, &it.b.clone());
    it.watched_since_ms = Some(it.now_ms);
    it.pass(LONG_MS);
    it.condition(&it.b.clone(), Condition::Bad);
}

fn found(deed: Deed) -> Vec<Violation> {
    let mut court = Court::new(BOUNDS);
    deed(&mut court);
    court.judge.violations
}

#[test]
fn each_rule_fires_for_its_breach_and_not_for_what_is_lawful_beside_it() {
    for (at, (rule, lawful, breach)) in CASES.iter().enumerate() {
        assert_eq!(found(*lawful), [], "{at}: {rule}: what is lawful");
        let broken = found(*breach);
        assert!(broken.iter().any(|it| it.rule == *rule), "{at}: {rule}: {broken:?}");
    }
}

#[test]
fn whatever_speaks_against_a_target_is_told() {
    for (text, deed) in AGAINST {
        let mut court = Court::new(BOUNDS);
        deed(&mut court);
        court.a_is_bad();
        court.moves(ONE, &court.b.clone());
        let told = court.judge.violations.iter().any(|it| it.rule == "to no candidate" && it.text.contains(text));
        assert!(told, "{text}: {:?}", court.judge.violations);
    }
}

/// A search for the nodes that EC2 can describe, cut short, tells of none of them.
#[test]
fn who_is_throttled_need_not_know_what_cannot_be_described() {
    let objects = |throttled_ms_ago: Option<u64>, caller: u32| {
        let mut court = Court::new(BOUNDS);
        court.view(&court.b.clone()).undescribed = true;
        court.a_is_bad();
        if let Some(ms) = throttled_ms_ago {
            court.ec2.faults_mut().push(Rule::error("RequestLimitExceeded").on(Api::DescribeInstances));
            assert!(court.ec2.call(caller, &Request::DescribeInstances(Filter::All), court.now_ms).is_err());
            court.wait(ms);
        }
        court.moves(ONE, &court.b.clone());
        court.judge.violations.iter().any(|it| it.rule == "to no candidate" && it.text.contains("cannot be described"))
    };
    assert!(objects(None, ONE) && objects(Some(100), OTHER) && objects(Some(BOUNDS.slack_ms + SEARCHED_MS + 1), ONE));
    assert!(!objects(Some(100), ONE));
}

/// What one caller is shown, and what it asks for so long after.
fn objection(after_ms: u64, request: impl Fn(&Court, &mut Shown) -> Request) -> Option<&'static str> {
    let mut court = Court::new(BOUNDS);
    let mut shown = Shown::default();
    let answer = court.ec2.call(ONE, &Request::DescribeAddresses, court.now_ms).unwrap();
    shown.take(&Request::DescribeAddresses, &answer, court.now_ms);
    let request = request(&court, &mut shown);
    shown.objection(&request, court.now_ms + after_ms).map(|(rule, _)| rule)
}

fn to(court: &Court, allocation: &Id, node: &Id) -> Request {
    let nic = court.ec2.interfaces_of(node).next().unwrap();
    associate(allocation, &nic.id, nic.private_ips[0])
}

fn renames(court: &Court, cluster: &str) -> Request {
    let tags = vec![("eipwatch:cluster".to_owned(), cluster.to_owned())];
    Request::CreateTags { resources: vec![court.address.clone()], tags, dry_run: false }
}

/// Though nothing was seen between the two.
#[test]
fn a_pause_that_was_over_before_another_began_is_another() {
    let objections = |changed_ms: i64| {
        let mut court = Court::new(BOUNDS);
        let (address, a, b) = (court.address.clone(), court.a.clone(), court.b.clone());
        court.condition(&a, Condition::Bad);
        let until_ms = (court.now_ms + LONG_MS) / 1_000 * 1_000;
        let until = humantime::format_rfc3339(std::time::UNIX_EPOCH + std::time::Duration::from_millis(until_ms));
        court.edit(&address, "eipwatch:mode", &format!("manual until={until}"));
        court.now_ms = until_ms.saturating_add_signed(changed_ms);
        court.edit(&address, "eipwatch:mode", "manual");
        court.moves(ONE, &b);
        court.judge.violations.iter().filter(|it| it.rule == "moves in manual mode").count()
    };
    assert_eq!((objections(-10), objections(500)), (1, 0));
}

#[test]
fn what_a_caller_asks_for_is_measured_by_what_it_was_shown() {
    let moves = |court: &Court, _: &mut Shown| to(court, &court.address, &court.b);
    assert_eq!(objection(READ_BEFORE_MOVE_MS, moves), None);
    assert_eq!(objection(READ_BEFORE_MOVE_MS + 1, moves), Some("moves blindly"));
    let unread = |court: &Court, shown: &mut Shown| {
        *shown = Shown::default();
        to(court, &court.address, &court.b)
    };
    assert_eq!(objection(0, unread), Some("moves blindly"));
    assert_eq!(objection(0, |court, _| to(court, &court.address, &court.a)), Some("changes nothing"));
    assert_eq!(objection(0, |court, _| to(court, &court.foreign, &court.a)), Some("displaces"));
    assert_eq!(objection(0, |court, _| renames(court, "web")), Some("changes nothing"));
    assert_eq!(objection(0, |court, _| renames(court, "db")), None);
    // What it wrote itself it may write again: what it is shown may be older.
    let again = |court: &Court, shown: &mut Shown| {
        shown.take(&renames(court, "web"), &Response::Tagged, court.now_ms);
        renames(court, "web")
    };
    assert_eq!(objection(OWN_WRITES_BELIEVED_MS - 1, again), None);
    assert_eq!(objection(OWN_WRITES_BELIEVED_MS, again), Some("changes nothing"));
}

#[test]
fn a_move_is_necessary_by_the_truth_and_by_a_watchs_own_decision() {
    let necessary = |caller: u32, deed: Deed| {
        let mut court = Court::new(BOUNDS);
        deed(&mut court);
        court.moves(caller, &court.b.clone());
        (court.judge.moves, court.judge.necessary)
    };
    assert_eq!(necessary(ONE, Court::a_is_bad), (1, 1));
    assert_eq!(necessary(ONE, Court::is_nowhere), (1, 1));
    assert_eq!(necessary(ONE, |it| it.tag(&it.a.clone(), "eipwatch:mode", "drain")), (1, 1));
    assert_eq!(necessary(COMMAND, Court::a_is_bad), (1, 0));
    assert_eq!(necessary(ONE, |_| {}), (1, 0));
    assert_eq!(necessary(ONE, Court::is_handed_to_the_outsider), (1, 0));
    // It may still be taken for bad, and is well.
    let just_well: Deed = |it| {
        it.a_is_bad();
        it.condition(&it.a.clone(), Condition::Good);
        it.pass(1_000);
    };
    assert_eq!(necessary(ONE, just_well), (1, 0));
}

#[test]
fn a_recovery_is_what_a_watch_did() {
    let recovered = |deed: Deed| {
        let mut court = Court::new(BOUNDS);
        court.is_nowhere();
        let (ill, since_ms) = (court.judge.ill(), court.now_ms);
        assert_eq!(ill, [court.address.clone()]);
        deed(&mut court);
        court.look();
        court.judge.recovered(&ill, since_ms)
    };
    assert_eq!(recovered(|it| it.moves(ONE, &it.b.clone())), 1);
    assert_eq!(recovered(|_| {}), 0);
    assert_eq!(recovered(|it| it.by_hand(&it.address.clone(), Place::Instance(&it.b.clone()))), 0);
    let to_a_bad_one: Deed = |it| {
        it.condition(&it.b.clone(), Condition::Bad);
        it.moves(ONE, &it.b.clone());
    };
    assert_eq!(recovered(to_a_bad_one), 0);
}

/// The names that stand in the source where a rule is found broken.
fn rules_of(source: &'static str) -> BTreeSet<&'static str> {
    let literal = |text: &'static str| text.trim_start().strip_prefix('"').and_then(|text| text.split('"').next());
    let objects = source.split(".object(").skip(1).filter_map(|text| literal(text.split_once(',')?.1));
    let shown = source.split("Some((").skip(1).filter_map(literal);
    objects.chain(shown).collect()
}

#[test]
fn no_rule_is_without_a_case() {
    let rules = rules_of(include_str!("../check.rs"));
    let shown = ["changes nothing", "displaces", "moves blindly"];
    let tried = CASES.iter().map(|(rule, ..)| *rule).chain(shown);
    assert!(rules.contains("left unrescued") && rules.contains("changes nothing"), "{rules:?}");
    assert_eq!(rules, tried.collect());
}
