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
use crate::hyper_io::HyperIo;
use crate::outage::{Tries, Try};

/// The client's pace: 50 requests a second.
pub const REQUEST_EVERY: Duration = Duration::from_millis(20);
/// How long the client waits for an answer.
pub const REQUEST_LIMIT: Duration = Duration::from_millis(500);
/// How long the forwarder keeps a connection.
const FORWARD_LIMIT: Duration = Duration::from_secs(2);
/// The most of an answer's body that is read.
const MAX_BODY_BYTES: usize = 100;

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

/// The client.
#[derive(Debug, Default)]
pub struct Client {
    /// Its record; who answered is the node's name.
    pub tries: RefCell<Tries>,
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
                client.tries.borrow_mut().push(Try { sent, done: Instant::now(), by });
            });
        }
    }

    /// Who gave the newest good answer.
    pub fn served_by(&self) -> Option<String> {
        self.tries.borrow().newest_good().and_then(|one| one.by.clone())
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
