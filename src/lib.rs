//! eipwatch keeps an Elastic IP on a healthy EC2 instance. This page is its architecture; what users rely on is in `docs/reference.md`.
//!
//! # The way of the data
//!
//! ```text
//!   payload ──► event::parse ──► Trigger
//!                                   │
//!   ┌─ core: no clock, no I/O ──────▼───────────────────────────────────────────────────────┐
//!   │  Watch                                                                                │
//!   │    Facts ──► snapshot::clusters ──► Cluster ──► verdict::judge ──► Finding            │
//!   │    (what was read)    tags, policy      ▲                             │               │
//!   │                                         │                             ▼               │
//!   │    watch/looks.rs: what to read when    │                      decide::decide         │
//!   │    watch/moving.rs: sent, verified ◄────┴──────────────────────── Ruling              │
//!   └────▲───────────────────────────────────────────────────────────────────┬──────────────┘
//!        │ Input: Looked, Probed, Acted, Stop         Effect: Look, Probe, Act, Log
//!        │                                                                   ▼
//!   ┌────┴──── drive (Lambda, command line, demo) · sim::world (virtual time) ───────────────┐
//!   └──────────────┬─────────────────────────────┬──────────────────────────┬───────────────┘
//!             cloud::Cloud                 probe::Prober                drive::Clock
//!          aws · embedded::seam          probe::Sockets               SystemClock
//! ```
//!
//! An invocation is one [`core::watch::Watch`]. Whoever runs it carries out the effects that [`poll`](core::watch::Watch::poll) returns, feeds what came of
//! them, and polls again at [`next_wake`](core::watch::Watch::next_wake). It ends in a [`core::report::Report`], which is the answer.
//!
//! Everything is fetched first and decided then, synchronously, by functions of what was seen and of `now`. So the whole watch, with its retries, overlapping
//! probes and deadlines, runs in virtual time in tests, thousands of times faster than in life, and a seed gives the same run again.
//!
//! # The seams
//!
//! - [`cloud::Cloud`]: EC2 and CloudWatch. Behind it stand `aws` (the SDK) and [`embedded`] (EC2 in memory, with faults).
//! - [`probe::Prober`]: the nodes. Behind it stand [`probe::Sockets`], and in virtual time the simulated nodes of [`sim::world`].
//! - [`drive::Clock`]: the present.
//! - [`network::Network`]: what only `eipwatch doctor` asks, behind it `aws` and [`embedded`] again.
//!
//! # The modules, and what each must never do
//!
//! | module | what it is | Architecture invariant |
//! | --- | --- | --- |
//! | [`core`] | what was seen goes in, what to do comes out | no clock, async, environment, AWS, randomness, unordered iteration, panic. `clippy.toml` and `tests/it/tidy.rs` prove it |
//! | [`core::model`] | EC2's things, in our words: what can be asked, seen, done, and how it fails | knows no SDK; carries no rule |
//! | [`core::tags`], [`core::policy`] | tag values, read and written | nothing unreadable is an error: it gives a problem and leaves a default |
//! | [`core::event`] | payloads to triggers | never tries kinds in turn; knows nothing of clusters |
//! | [`core::snapshot`] | facts, and clusters read out of them | neither judges nor decides |
//! | [`core::verdict`] | evidence to verdicts | knows nothing of moves and modes |
//! | [`core::decide`] | what should happen to each address, and why | neither waits nor acts; the same question gives the same answer |
//! | [`core::watch`] | an invocation: scope, pacing, moves, records | there is no second way to a move than `decide` |
//! | `core::watch::cluster` | one cluster through an invocation | wants, and does not do; holds up no other cluster |
//! | `core::watch::looks` | what is read when, and retries of reads | knows nothing of what the answers mean |
//! | `core::watch::moving` | one move: sent, doubted, verified | never takes a call's success for the move's |
//! | `core::watch::command` | what a manual command names and writes | moves nothing itself |
//! | [`core::report`], [`core::log`] | the answer, metrics, log records | plain data; nothing is decided from them |
//! | [`drive`] | runs a watch against the seams | decides, retries and times nothing; nothing else acts |
//! | [`cloud`] | the seam to AWS | one call, one attempt |
//! | `aws` | that seam on the SDK, one function a call; errors classified | nothing else names an AWS SDK crate; no retry, no cache |
//! | [`embedded`] | that seam in memory | only [`embedded::seam`] knows the core: what is checked against its truth is checked independently |
//! | [`network`] | routes and security groups around the nodes, for `eipwatch doctor` | the function never comes here |
//! | [`probe`] | probes on real sockets | connects to nothing but the target; no node can make it exceed its time, bytes or sockets |
//! | [`sim`] | worlds in virtual time | decides and judges nothing; no wall clock, no thread |
//! | [`simulate`] | `eipwatch simulate`: a scenario file played under several policies | who served is told by the simulated nodes, never by the watch |
//! | [`replay`] | `eipwatch replay`: a log shown, and decided again under another policy | asks nobody; decides by [`core::watch::Watch`] alone |
//! | [`timeline`] | what happened, lane by lane, for people | plain data, and ways to show it |
//! | [`timeline::page`] | that as one HTML page; [`timeline::text`]: in the terminal | text from outside becomes markup nowhere; nothing is fetched |
//! | [`demo`] | `eipwatch demo` | stages nothing: what it tells of eipwatch are log records |
//! | `agent` (Linux) | the node agent: local checks, a heartbeat in its own instance's tag | reads nothing of EC2 and moves nothing; its only call writes its one tag. `agent::beat` decides, and knows no clock |
//! | [`mod@env`] | variables, beside what they set | what cannot be read is an error, never a default |
//! | `lambda`, `logging`, [`cli`] | shells | thin: payload in, watch driven, answer out |
//!
//! # Where is the rule about …
//!
//! | rule | where |
//! | --- | --- |
//! | which payload is what | `Kind::of` and `EVENT_TYPES` in `core/event.rs` |
//! | which clusters an event concerns | `concerns` in `core/watch/scope.rs` |
//! | what an event announces of a node (gone, leaving) | `notice` in `core/watch/scope.rs`; for how long it counts, `core/verdict.rs` |
//! | tag values, defaults, ranges | `core/tags.rs`, [`core::policy::KEYS`] |
//! | which check and policy serve where several addresses differ | `core/snapshot.rs` |
//! | which private address is free for an Elastic IP | `Node::slot_for` and [`core::snapshot::Taken`] in `core/snapshot.rs` |
//! | streaks, `fall`, `rise`, `fast`, overlapping probes, when a verdict is settled | `Probing` in `core/verdict.rs` |
//! | when an agent writes, and what | `agent/beat.rs` |
//! | heartbeats, alarms, impaired status checks, `gone` | [`core::verdict::judge`] |
//! | leaving, and what ends it | [`core::verdict::leaving`] |
//! | who is a candidate, and what speaks against a node | `objections` in `core/decide.rs` |
//! | the order of candidates | `rank` in `core/decide.rs` |
//! | no holder, a holder that is gone, last resort | `rescue` in `core/decide.rs` |
//! | the brake | `brake` and `failover` in `core/decide.rs`; what counts, [`core::decide::Why::counted`] |
//! | failback | `failback` in `core/decide.rs` |
//! | where AWS allows the move to some nodes only | `forbid` and `rule` in `core/decide.rs` |
//! | a node is asked once more when an address comes to it | `ask_new_holders` in `core/watch/cluster.rs` |
//! | manual mode, `would` | `rule` in `core/decide.rs` |
//! | settling: a read that is older than the last move | [`core::decide::is_stale`] |
//! | outsiders, interfaces attached to nothing | `Holder` in `core/snapshot.rs`, `rule_auto` in `core/decide.rs` |
//! | adoption of a holder that somebody else chose | `adopt` in `core/watch/cluster.rs` |
//! | when health and state are written | `record_health` in `core/watch/cluster.rs`, `arrived` in `core/watch/moves.rs` |
//! | the pace of reads, retries of reads, a zone's disruption | `core/watch/looks.rs` |
//! | the pace of moves, a fresh read before each | `launch_moves` and `is_read` in `core/watch/moves.rs` |
//! | verification, and when a move is sent again | `core/watch/moving.rs` |
//! | retries of tags | `tagged` in `core/watch/tagging.rs` |
//! | what a command names and refuses | `core/watch/command.rs`; of `move`, `rule_order` in `core/decide.rs` |
//! | when an invocation has failed | `what_failed` in `core/watch/answer.rs`, `judge` in `lambda.rs` |
//! | AWS's error codes | [`core::model::CloudError::from_code`] |
//! | how a probe is kept within bounds | `probe.rs` |
//!
//! # Limits
//!
//! Each loop, retry, read and call has a bound with a name, beside the code that it bounds:
//! [`core::watch::MAX_PROBES`], [`core::watch::ASSOCIATE_BURST`], [`core::watch::ASSOCIATE_PER_SECOND`], [`core::watch::MAX_TAGGING`],
//! [`core::watch::MAX_TAG_TRIES`], [`core::watch::MAX_RESOURCES`], [`core::watch::VERIFY_FOR`], [`core::watch::ROUND`],
//! [`core::decide::MAX_FORBIDDEN`], [`core::verdict::MAX_PROBES_PER_CHECK`], [`core::model::MAX_IDS`], [`core::event::MAX_SNS_RECORDS`], [`core::event::MAX_INSTANCES`],
//! [`core::tags::MAX_MOVES_KEPT`], [`timeline::page::MAX_PAGE_BYTES`], [`probe::MAX_HEAD_BYTES`], [`env::MAX_WATCH_SECONDS`], [`simulate::MAX_POLICIES`], [`simulate::scenario::MAX_DURATION`],
//! [`replay::read::MAX_RECORDS`], [`replay::read::MAX_LINE_BYTES`], `MAX_PAGES` in `aws/logs.rs`, and `MAX_TRIES` and `MAX_UNKNOWN` in `core/watch/moving.rs`, `MAX_BISECT_CALLS`,
//! `MAX_REFUSALS` and `MAX_OPTIONAL_TRIES` in `core/watch/looks.rs`. The values that operators meet are in `docs/reference.md`.
//!
//! # How to add …
//!
//! Each ends with its row in `docs/reference.md` (`tests/it/reference.rs` asks for it) and a scenario in `tests/it/scenarios.rs`.
//!
//! **A check.** Its word in [`core::tags::Check`], read and written. A probe: its [`core::model::Scheme`] and [`core::model::Answer`], how it is asked in
//! `probe.rs`, what passes in `read_answer` of `core/verdict.rs`. Anything else: what is to be read as a [`core::model::Look`] and [`core::model::Seen`], kept in
//! [`core::snapshot::Facts`], asked for in `core/watch/looks.rs`, answered in `aws` and [`embedded::seam`]; then its arm in [`core::verdict::judge`].
//!
//! **An event.** A [`core::event::Trigger`], a row of `EVENT_TYPES` and its reader in `core/event.rs`; whom it concerns and what it announces, `concerns` and
//! `notice` in `core/watch/scope.rs`; a sample in `events/`, and the rule that sends it in `infra/`. It must not move anything by itself: what EC2 shows decides.
//!
//! **A command.** A [`core::event::Command`] and a row of `ACTIONS` in `core/event.rs`; what it names and writes in `core/watch/command.rs`; a sample in `events/`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

#[cfg(target_os = "linux")]
pub mod agent;
#[cfg(feature = "aws")]
pub mod aws;
pub mod cli;
pub mod cloud;
pub mod core;
pub mod demo;
pub mod drive;
pub mod embedded;
pub mod env;
pub mod hyper_io;
#[cfg(feature = "aws")]
pub mod lambda;
#[cfg(feature = "aws")]
pub mod logging;
pub mod network;
pub mod outage;
pub mod probe;
pub mod replay;
pub mod sim;
pub mod simulate;
pub mod timeline;
