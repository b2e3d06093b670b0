//! Every row of the event table: what it is about, what it announces, and how long that is believed.

use eipwatch::embedded::ec2::{AlarmState, Id, InstanceSpec, State, Tags, tags};
use eipwatch::embedded::faults::{Fault, Rule, Shown};
use eipwatch::sim::world::{Behaviour, lifecycle_event, schedule_event, spot_event, state_event};
use serde_json::{Value, json};

use super::{A, B, Scene};

/// Two clusters: `web`, and `db` of one node and one address of its own.
fn two_clusters() -> (Scene, Id) {
    let mut scene = Scene::pair();
    let spec = InstanceSpec { tags: tags([("eipwatch:cluster", "db")]), ..InstanceSpec::default() };
    let node = scene.ec2.add_instance(spec);
    scene.ec2.add_address(tags([("eipwatch:cluster", "db")]));
    (scene, node)
}

fn clusters(told: &super::Told) -> Vec<&str> {
    told.report.clusters.iter().map(|cluster| cluster.cluster.as_str()).collect()
}

fn tag_event(resource: &str, kind: &str, changed: &[&str], all: &Tags) -> Value {
    json!({
        "version": "0", "detail-type": "Tag Change on Resource", "source": "aws.tag", "time": "2026-11-22T07:31:00Z",
        "resources": [format!("arn:aws:ec2:eu-west-1:123456789012:{kind}/{resource}")],
        "detail": {"changed-tag-keys": changed, "service": "ec2", "resource-type": kind, "version": 4.0, "tags": all},
    })
}

fn rebalance(instance: &str) -> Value {
    json!({
        "version": "0", "detail-type": "EC2 Instance Rebalance Recommendation", "source": "aws.ec2",
        "time": "2026-11-22T07:31:00Z", "detail": {"instance-id": instance},
    })
}

fn health(instance: &str) -> Value {
    json!({
        "version": "0", "detail-type": "AWS Health Event", "source": "aws.health", "time": "2026-11-22T07:31:00Z",
        "detail": {
            "service": "EC2", "eventTypeCode": "AWS_EC2_INSTANCE_STOP_SCHEDULED", "eventTypeCategory": "scheduledChange",
            "affectedEntities": [{"entityValue": instance}],
        },
    })
}

fn alarm_direct(name: &str, instance: Option<&str>) -> Value {
    let dimensions = instance.map_or(json!({}), |id| json!({"InstanceId": id}));
    json!({
        "source": "aws.cloudwatch", "alarmArn": format!("arn:aws:cloudwatch:eu-west-1:123456789012:alarm:{name}"),
        "time": "2026-11-22T07:31:00.000+0000",
        "alarmData": {
            "alarmName": name, "state": {"value": "ALARM"},
            "configuration": {"metrics": [{"id": "m", "metricStat": {"metric": {"name": "x", "dimensions": dimensions}}}]},
        },
    })
}

/// Each event sweeps the clusters that it is about, and says what woke it.
#[test]
fn each_event_sweeps_the_clusters_that_it_is_about() {
    let (mut scene, db) = two_clusters();
    let all = tags([("eipwatch:cluster", "db"), ("eipwatch:mode", "active")]);
    let cases = [
        ("schedule", schedule_event(), vec!["db", "web"]),
        ("instance-state", state_event(&db, State::Running, 0), vec!["db"]),
        ("spot", spot_event(&db, 0), vec!["db"]),
        ("rebalance", rebalance(&db), vec!["db"]),
        ("lifecycle", lifecycle_event(&db, 0), vec!["db"]),
        ("health", health(&db), vec!["db"]),
        ("alarm", alarm_direct("Other", Some(&db)), vec!["db"]),
        ("tag", tag_event(&db, "instance", &["eipwatch:mode"], &all), vec!["db"]),
        ("manual", json!({"action": "sweep", "cluster": "db"}), vec!["db"]),
        ("manual", json!({"action": "status"}), vec!["db", "web"]),
    ];
    for (trigger, payload, expected) in cases {
        let told = scene.send(&payload);
        assert_eq!((told.report.trigger.as_str(), clusters(&told)), (trigger, expected), "{payload}");
        assert_eq!(told.report.sweeps, 1, "{payload}");
    }
}

/// A sweep goes on probing until it can decide, reads EC2 once more before it moves, and is one sweep. A watch sweeps every 5 s.
#[test]
fn a_sweep_that_moves_is_one_sweep() {
    let mut scene = Scene::pair();
    scene.service(A, Behaviour::Silent);
    let told = scene.sweep();
    scene.ends(&told, "move holder-unhealthy to B", "B");
    assert_eq!((told.report.sweeps, told.problems()), (1, String::new()));
    assert_eq!(Scene::pair().watch(19).report.sweeps, 4);
}

/// An event that concerns no cluster answers `clusters: []`.
#[test]
fn an_event_that_concerns_no_cluster_answers_no_clusters() {
    let mut scene = Scene::pair();
    let stranger = "i-0123456789abcdef0";
    for payload in
        [state_event(stranger, State::Stopped, 0), spot_event(stranger, 0), alarm_direct("Nobody.Checks", None)]
    {
        let told = scene.send(&payload);
        assert_eq!((clusters(&told), told.calls.len(), told.report.ok), (vec![], 0, true), "{payload}");
    }
}

/// A schedule watches; every other event is one sweep.
#[test]
fn only_a_schedule_watches() {
    let mut scene = Scene::pair();
    let spot = spot_event(&scene.node(B), scene.now_ms());
    let told = scene.tell(&spot, 55);
    assert!(told.took_ms() < 5_000, "{} ms", told.took_ms());
    let told = scene.tell(&json!({"shard": "0/1"}), 55);
    assert!(told.took_ms() >= 55_000 && told.report.trigger == "schedule", "{} ms", told.took_ms());
}

/// A state-change event counts as `gone` at once, even while DescribeInstances still says running.
#[test]
fn an_event_of_every_stopping_state_is_gone_at_once() {
    for state in [State::Stopping, State::Stopped, State::ShuttingDown, State::Terminated] {
        let mut scene = Scene::pair();
        let event = state_event(&scene.node(A), state, scene.now_ms());
        let told = scene.send(&event);
        let (says, holder) = (scene.says(&told, 0), scene.holder(0));
        assert_eq!((says.as_str(), holder.as_str()), ("move holder-gone to B", "B"), "{state:?}");
    }
    for state in [State::Pending, State::Running] {
        let mut scene = Scene::pair();
        let event = state_event(&scene.node(A), state, scene.now_ms());
        scene.expect_of(&event, "stay healthy", &[], "A");
    }
}

/// Rule 1, rule 8: an announcement that is over, delivered once more, hides no later one that only the tag remembers.
#[test]
fn an_old_notice_hides_no_newer_one() {
    let mut scene = Scene::pair();
    let (undrained, noticed) = (scene.time_in(-240), scene.time_in(-120));
    let since = scene.time_in(-50);
    let health = format!("verdict=healthy since={since} leaving=asg noticed={noticed} undrained={undrained}");
    scene.tag_node(B, "health", &health);
    // Launched long ago, so that all of that is of this life.
    let first = lifecycle_event(&scene.node(B), scene.now_ms().saturating_sub(300_000));
    let told = scene.send(&first);
    assert_eq!((told.node(B).leaving.as_deref(), told.node(B).candidate), (Some("asg"), false));
    assert!(scene.node_tag(B, "health").contains("leaving=asg"), "{}", scene.node_tag(B, "health"));
}

/// A state-change event is not believed once it is 60 s old, nor if the instance was launched again after it.
#[test]
fn a_late_event_of_a_running_instance_moves_nothing() {
    let mut scene = Scene::pair();
    let event = state_event(&scene.node(A), State::Stopping, scene.now_ms() - 60_000);
    scene.expect_of(&event, "stay healthy", &[], "A");
    // Stopped and started again within the minute.
    let mut scene = Scene::pair();
    scene.stop_and_start_within(1_000);
    let at_ms = scene.now_ms();
    scene.stop_node(A);
    scene.pass(2_000);
    scene.start_node(A);
    scene.pass(10_000);
    let event = state_event(&scene.node(A), State::Stopped, at_ms + 1_000);
    // That it is healthy is written anew: the tag tells of its life before.
    scene.expect_of(&event, "stay healthy", &["tag health A"], "A");
    scene.expect_of(&event, "stay healthy", &[], "A");
}

/// A spot notice is written down, so that the next invocation honours it; it ends with a new launch.
#[test]
fn a_spot_notice_outlives_the_invocation_that_heard_it() {
    let mut scene = Scene::pair();
    scene.refuse(B);
    scene.sweep();
    let spot = spot_event(&scene.node(A), scene.now_ms());
    let told = scene.send(&spot);
    scene.ends(&told, "stay no-candidate", "A");
    assert_eq!(told.node(A).leaving.as_deref(), Some("spot"));
    // Somebody else's sweep, later: it is still leaving.
    scene.serve(B);
    scene.pass(10_000);
    let told = scene.sweep();
    scene.ends(&told, "move holder-leaving to B", "B");
    // Stopped and launched anew.
    scene.stop_node(A);
    scene.pass(60_000);
    scene.start_node(A);
    scene.pass(60_000);
    let told = scene.watch(10);
    assert_eq!((told.node(A).leaving.as_deref(), told.node(A).candidate), (None, true));
    assert!(!scene.node_tag(A, "health").contains("leaving="), "{}", scene.node_tag(A, "health"));
}

/// A spot notice ends with `undrain`; delivered once more afterwards, it does not come back.
#[test]
fn undrain_ends_a_spot_notice_for_good() {
    let mut scene = Scene::pair();
    let (b, noticed_ms) = (scene.node(B), scene.now_ms());
    let spot = spot_event(&b, noticed_ms);
    let told = scene.send(&spot);
    assert_eq!((told.node(B).leaving.as_deref(), told.node(B).candidate), (Some("spot"), false));
    scene.pass(5_000);
    let told = scene.send(&json!({"action": "undrain", "node": &*b}));
    assert_eq!((told.node(B).leaving.as_deref(), told.node(B).candidate), (None, true));
    scene.pass(5_000);
    let told = scene.send(&spot);
    assert_eq!((told.node(B).leaving.as_deref(), told.node(B).candidate), (None, true), "the same notice again");
}

/// A notice of an earlier life, or far too late, announces nothing.
#[test]
fn a_notice_of_an_earlier_life_announces_nothing() {
    let mut scene = Scene::pair();
    scene.stop_and_start_within(1_000);
    let (spot, noticed) = (spot_event(&scene.node(A), scene.now_ms()), scene.time_in(0));
    scene.stop_node(A);
    scene.pass(5_000);
    scene.start_node(A);
    scene.pass(10_000);
    let told = scene.send(&spot);
    assert_eq!(told.node(A).leaving, None);
    assert_eq!(scene.holder(0), "A");
    // Nor does it stay on record, whoever wrote it there.
    let healthy = scene.node_tag(A, "health");
    scene.tag_node(A, "health", &format!("{healthy} leaving=spot noticed={noticed}"));
    let told = scene.sweep();
    assert_eq!((told.node(A).leaving.as_deref(), scene.node_tag(A, "health")), (None, healthy));
}

/// Ten minutes after it a spot instance's notice announces nothing any more, though its node has run all the time. Auto Scaling's is never
/// taken back: it counts until its node is gone.
#[test]
fn a_spot_notice_that_is_ten_minutes_late_announces_nothing() {
    for (kind, late_s, believed) in [("spot", 599, true), ("spot", 600, false), ("asg", 7_200, true)] {
        let mut scene = Scene::pair();
        scene.pass(7_200_000);
        let (a, at_ms) = (scene.node(A), scene.now_ms() - late_s * 1_000);
        let notice = if kind == "spot" { spot_event(&a, at_ms) } else { lifecycle_event(&a, at_ms) };
        let told = scene.send(&notice);
        assert_eq!(told.node(A).leaving.as_deref(), believed.then_some(kind), "{late_s} s");
        assert_eq!(scene.holder(0), if believed { "B" } else { "A" }, "{kind} {late_s} s: {}", told.text());
    }
}

/// An alarm that no event and no dimension ties to a node sweeps the clusters whose checks name it: all nodes', or one's own.
#[test]
fn an_alarm_sweeps_whose_checks_name_it() {
    for own in [false, true] {
        let (mut scene, db) = two_clusters();
        if own {
            scene.tag_node(A, "check", "alarm:High.Load")
        } else {
            scene.tag_address(0, "check", "alarm:High.Load")
        }
        let told = scene.send(&alarm_direct("High.Load", None));
        assert_eq!(clusters(&told), ["web"], "own {own}");
        // Nobody inherits what all nodes override.
        for n in [A, B] {
            scene.tag_node(n, "check", if own { "alarm:High.Load" } else { "http:8080/health" });
        }
        scene.tag(&db, "check", "ec2");
        let told = scene.send(&alarm_direct("High.Load", None));
        assert_eq!(clusters(&told), ["web"], "own {own}");
    }
}

/// Several notifications at once: each says of its own node what it says.
#[test]
fn a_rebalance_recommendation_is_told_of_its_own_cluster() {
    let (mut scene, db) = two_clusters();
    let record = |inner: Value| json!({"EventSource": "aws:sns", "Sns": {"Message": inner.to_string()}});
    let told = scene.send(&json!({"Records": [record(rebalance(&scene.node(A))), record(health(&db))]}));
    let of = |name: &str| {
        let cluster = told.report.clusters.iter().find(|cluster| cluster.cluster.as_str() == name);
        cluster.is_some_and(|cluster| cluster.problems.iter().any(|problem| problem.contains("rebalance")))
    };
    assert_eq!((clusters(&told).len(), of("web"), of("db")), (2, true, false));
}

/// A rebalance recommendation is reported only.
#[test]
fn a_rebalance_recommendation_is_reported_only() {
    let mut scene = Scene::pair();
    let event = rebalance(&scene.node(A));
    let told = scene.expect_of(&event, "stay healthy", &[], "A");
    told.problem("rebalance");
    assert_eq!(told.node(A).leaving, None);
}

/// A lifecycle action makes a node leave until it is gone, in later invocations, too.
#[test]
fn a_lifecycle_action_makes_a_node_leave_until_it_is_gone() {
    let mut scene = Scene::pair();
    let a = scene.node(A);
    let event = lifecycle_event(&a, scene.now_ms());
    scene.expect_of(&event, "move holder-leaving to B", &["associate B", "tag health A", "tag state 0"], "B");
    scene.pass(3_600_000);
    let told = scene.sweep();
    assert_eq!((told.node(A).leaving.as_deref(), told.node(A).candidate), (Some("asg"), false));
    let told = scene.send(&json!({"action": "undrain", "node": &*a}));
    assert_eq!((told.node(A).leaving.as_deref(), told.node(A).candidate), (None, true));
}

/// A Health event is a hint: what DescribeInstanceStatus shows counts.
#[test]
fn a_health_event_is_a_hint_only() {
    let mut scene = Scene::pair();
    let event = health(&scene.node(A));
    scene.expect_of(&event, "stay healthy", &[], "A");
}

/// An alarm event sweeps the clusters that check it; the state that CloudWatch shows counts, not the event's.
#[test]
fn an_alarm_event_is_a_hint_to_read_the_alarm() {
    let mut scene = Scene::pair();
    scene.tag_address(0, "check", "http:8080/health alarm:High.Load");
    let direct = alarm_direct("High.Load", None);
    scene.alarm(AlarmState::Ok, &[A]);
    scene.expect_of(&direct, "stay healthy", &[], "A");
    scene.alarm(AlarmState::Alarm, &[A]);
    scene.expect_of(&direct, "move holder-unhealthy to B", &["associate B", "tag health A", "tag state 0"], "B");
}

/// The software's own tags cause neither a sweep nor a call, nor does a tag that is nobody's.
#[test]
fn tag_events_of_its_own_tags_cause_no_call() {
    let mut scene = Scene::pair();
    let (a, ip) = (scene.node(A), scene.address(0));
    let beat = tags([
        ("eipwatch:cluster", "web"),
        ("eipwatch:heartbeat", "seq=7 at=2026-11-22T07:31:00Z status=ok every=5s"),
        ("eipwatch:mode", "drain"),
    ]);
    let calls = scene.ec2.calls().len();
    for (resource, kind, key) in [
        (&a, "instance", "eipwatch:health"),
        (&a, "instance", "eipwatch:health:web"),
        (&a, "instance", "eipwatch:heartbeat"),
        (&a, "instance", "Name"),
        (&ip, "elastic-ip", "eipwatch:state"),
        (&Id::from("vol-0123456789abcdef0"), "volume", "eipwatch:mode"),
    ] {
        let told = scene.send(&tag_event(resource, kind, &[key], &beat));
        assert_eq!((clusters(&told), told.report.ok), (vec![], true), "{key}");
    }
    assert_eq!(scene.ec2.calls().len(), calls);
}

/// Every configuration tag causes a sweep, and a heartbeat that now says `fail` or `leaving`.
#[test]
fn tag_events_of_configuration_cause_a_sweep() {
    let mut scene = Scene::pair();
    let (a, ip) = (scene.node(A), scene.address(0));
    for (resource, kind, key) in [
        (&a, "instance", "cluster"),
        (&a, "instance", "priority"),
        (&a, "instance", "mode"),
        (&a, "instance", "check"),
        (&a, "instance", "address"),
        (&ip, "elastic-ip", "cluster"),
        (&ip, "elastic-ip", "check"),
        (&ip, "elastic-ip", "policy"),
        (&ip, "elastic-ip", "mode"),
        (&ip, "elastic-ip", "prefer"),
    ] {
        let told = scene.send(&tag_event(resource, kind, &[&format!("eipwatch:{key}")], &tags([])));
        assert_eq!(clusters(&told), ["web"], "{key}");
    }
    for status in ["fail", "leaving"] {
        let beat = format!("seq=7 at=2026-11-22T07:31:00Z status={status} every=5s");
        let all = tags([("eipwatch:heartbeat", &beat)]);
        let told = scene.send(&tag_event(&a, "instance", &["eipwatch:heartbeat"], &all));
        assert_eq!(clusters(&told), ["web"], "{status}");
    }
}

/// The truth of a tag event is what EC2 shows: a drain that was taken back meanwhile moves nothing.
#[test]
fn a_tag_event_is_a_hint_only() {
    let mut scene = Scene::pair();
    let all = tags([("eipwatch:cluster", "web"), ("eipwatch:mode", "drain")]);
    let event = tag_event(&scene.node(A), "instance", &["eipwatch:mode"], &all);
    scene.expect_of(&event, "stay healthy", &[], "A");
}

/// An SNS message around an event is that event.
#[test]
fn sns_around_an_event_is_that_event() {
    let mut scene = Scene::pair();
    let inner = state_event(&scene.node(A), State::Stopping, scene.now_ms());
    let event = json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": inner.to_string()}}]});
    let told = scene.send(&event);
    scene.ends(&told, "move holder-gone to B", "B");
}

/// Of several commands in one event the first is carried out; that the others were not is said.
#[test]
fn of_several_commands_in_one_event_the_first_is_carried_out() {
    let mut scene = Scene::pair();
    let record = |command: Value| json!({"EventSource": "aws:sns", "Sns": {"Message": command.to_string()}});
    let (pause, resume) = (json!({"action": "pause", "cluster": "web"}), json!({"action": "resume", "cluster": "web"}));
    let told = scene.send(&json!({"Records": [record(pause), record(resume.clone()), record(resume)]}));
    assert_eq!(told.address(0).mode, "manual");
    told.problem("2 NOT carried out");
}

/// An event arrives before DescribeInstances and tags agree: it counts, under stale reads of all kinds.
#[test]
fn an_event_counts_under_stale_reads() {
    let mut scene = Scene::pair();
    for what in [Shown::Associations, Shown::States, Shown::Tags] {
        scene.ec2.faults_mut().push(Rule::new(Fault::Stale { what, up_to_ms: 5_000 }));
    }
    scene.stop_node(A);
    let event = state_event(&scene.node(A), State::Stopping, scene.now_ms());
    let told = scene.send(&event);
    scene.ends(&told, "move holder-gone to B", "B");
    assert_eq!(scene.world.moves(&scene.address(0)).len(), 1);
}
