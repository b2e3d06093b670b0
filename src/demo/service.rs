//! The way of the demo's clients to the service: a forwarder in the place of the Elastic IP, and a client that measures.

use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, MissedTickBehavior, timeout};

use crate::embedded::Ec2;
use crate::embedded::ec2::Id;
use crate::probe::HyperIo;

/// The client's pace: 50 requests a second.
pub const REQUEST_EVERY: Duration = Duration::from_millis(20);
/// How long the client waits for an answer.
pub const REQUEST_LIMIT: Duration = Duration::from_millis(500);
/// How long the forwarder keeps a connection.
const FORWARD_LIMIT: Duration = Duration::from_secs(2);
/// The most of an answer's body that is read.
const MAX_BODY_BYTES: usize = 100;
/// The most requests that are remembered: a minute's, and some more.
const MAX_TRIES: usize = 5_000;

/// Takes connections in the place of the Elastic IP and leads each to the private address that the address is
/// associated with at that moment, as EC2's own translation would. Never ends.
pub async fn forward(listener: TcpListener, world: Rc<RefCell<Ec2>>, address: Id, port: u16) {
    loop {
        let Ok((mut outer, _)) = listener.accept().await else {
            tokio::time::sleep(REQUEST_EVERY).await;
            continue;
        };
        let associated: Option<Ipv4Addr> = world.borrow().association(&address).map(|with| with.private_ip);
        let Some(ip) = associated else { continue };
        tokio::task::spawn_local(timeout(FORWARD_LIMIT, async move {
            let mut inner = TcpStream::connect(SocketAddr::from((ip, port))).await?;
            tokio::io::copy_bidirectional(&mut outer, &mut inner).await
        }));
    }
}

/// One request.
#[derive(Clone, Debug)]
struct Try {
    sent: Instant,
    done: Instant,
    /// The node that answered.
    by: Option<String>,
}

/// What a span of time was like for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Requests that were sent.
    pub asked: usize,
    /// Of these, how many had no good answer.
    pub lost: usize,
    /// From the last good answer before requests were lost to the first good one after; zero if none was lost.
    pub length: Duration,
}

/// The client's record.
#[derive(Debug, Default)]
pub struct Client {
    tries: RefCell<Vec<Try>>,
}

impl Client {
    /// Asks at its pace through the forwarder. Never ends.
    pub async fn run(self: Rc<Client>, forwarder: SocketAddr) {
        let mut pace = tokio::time::interval(REQUEST_EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            pace.tick().await;
            let client = self.clone();
            tokio::task::spawn_local(async move {
                let sent = Instant::now();
                let by = timeout(REQUEST_LIMIT, ask(forwarder)).await.ok().and_then(Result::ok);
                let mut tries = client.tries.borrow_mut();
                if tries.len() < MAX_TRIES {
                    tries.push(Try { sent, done: Instant::now(), by });
                }
            });
        }
    }

    /// Who gave the newest good answer.
    pub fn served_by(&self) -> Option<String> {
        self.tries.borrow().iter().rev().find_map(|one| one.by.clone())
    }

    /// Whether each of the newest requests was answered well, oldest first, at most `count`.
    pub fn newest(&self, count: usize) -> Vec<bool> {
        let tries = self.tries.borrow();
        tries.iter().skip(tries.len().saturating_sub(count)).map(|one| one.by.is_some()).collect()
    }

    /// What the time from `from` to `until` was like.
    pub fn outage(&self, from: Instant, until: Instant) -> Outage {
        let tries = self.tries.borrow();
        let within: Vec<&Try> = tries.iter().filter(|one| one.sent >= from && one.sent <= until).collect();
        let lost: Vec<&&Try> = within.iter().filter(|one| one.by.is_none()).collect();
        // By the time of the answer. A request that was lost was unanswered all the time since it was sent.
        let mut good: Vec<Instant> = tries.iter().filter(|one| one.by.is_some()).map(|one| one.done).collect();
        good.sort_unstable();
        let length = lost.iter().filter_map(|one| {
            let before = good.iter().rev().find(|done| **done <= one.sent)?;
            let after = good.iter().find(|done| **done > one.sent).copied().unwrap_or(until);
            Some(after.saturating_duration_since(*before))
        });
        Outage { asked: within.len(), lost: lost.len(), length: length.max().unwrap_or_default() }
    }
}

/// One request over a new connection; the answer is the node's name.
async fn ask(forwarder: SocketAddr) -> io::Result<String> {
    let stream = TcpStream::connect(forwarder).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(HyperIo(stream)).await.map_err(io::Error::other)?;
    let request = hyper::Request::get("/")
        .header(hyper::header::HOST, forwarder.to_string())
        .header(hyper::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(io::Error::other)?;
        if !response.status().is_success() {
            return Err(io::Error::other(response.status().to_string()));
        }
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await.map_err(io::Error::other)?;
        String::from_utf8(body.to_bytes().to_vec()).map_err(io::Error::other)
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // Over already: what it brought has been handed on.
        _ = connection => answer.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(start: Instant, tries: &[(u64, u64, Option<&str>)]) -> Client {
        let at = |ms: u64| start + Duration::from_millis(ms);
        let tries = tries
            .iter()
            .map(|(sent, done, by)| Try { sent: at(*sent), done: at(*done), by: by.map(str::to_owned) })
            .collect();
        Client { tries: RefCell::new(tries) }
    }

    #[test]
    fn an_outage_lasts_from_the_last_good_answer_to_the_next() {
        let start = Instant::now();
        let client = record(
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
        let all = client.outage(start, start + Duration::from_secs(1));
        assert_eq!(all, Outage { asked: 6, lost: 2, length: Duration::from_millis(60) });
        assert_eq!(client.served_by().as_deref(), Some("b"));
        let after = client.outage(start + Duration::from_millis(70), start + Duration::from_secs(1));
        assert_eq!(after, Outage { asked: 2, lost: 0, length: Duration::ZERO });
    }

    #[test]
    fn an_outage_that_does_not_end_lasts_until_now() {
        let start = Instant::now();
        let client = record(start, &[(0, 2, Some("a")), (20, 21, None), (900, 901, None)]);
        let outage = client.outage(start, start + Duration::from_secs(1));
        assert_eq!((outage.lost, outage.length), (2, Duration::from_millis(998)));
    }
}
