//! The demo's nodes: this program again, as processes of their own that serve HTTP on loopback addresses.
//!
//! No node outlives the demo: one is killed when it is dropped, and ends by itself when its standard input does.

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener as StdListener};
use std::process::Stdio;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Error;
use crate::hyper_io::HyperIo;

/// The hidden subcommand that runs a node.
pub const SUBCOMMAND: &str = "demo-node";
const HANG: &str = "hang\n";
const GO_ON: &str = "go on\n";
/// How long a node may take to start.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How often a port is looked for that is free on all addresses.
const MAX_PORT_TRIES: u32 = 20;
/// The most connections that a node serves at once.
const MAX_CONNECTIONS: usize = 500;
/// How long a node keeps a connection.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// A node process.
pub struct Node {
    /// Its name.
    pub name: &'static str,
    /// Where it serves.
    pub at: SocketAddrV4,
    child: Child,
}

impl Node {
    /// Starts the process and waits until it serves.
    ///
    /// # Errors
    /// [`Error::Node`] if it does not within 10 s.
    pub async fn start(name: &'static str, at: SocketAddrV4) -> Result<Node, Error> {
        let failed = |what: String| Error::Node { name, what };
        let program = std::env::current_exe().map_err(|error| failed(format!("this program's own path: {error}")))?;
        let mut child = Command::new(program)
            .args([SUBCOMMAND, "--name", name, "--listen"])
            .arg(at.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(format!("its process could not be started: {error}")))?;
        let stdout = child.stdout.take().ok_or_else(|| failed("its process has no output".to_owned()))?;
        let mut line = String::new();
        // A node of ours writes one short line.
        let mut stdout = BufReader::new(stdout.take(1_000));
        match tokio::time::timeout(START_LIMIT, stdout.read_line(&mut line)).await {
            Ok(Ok(read)) if read > 0 => Ok(Node { name, at, child }),
            Ok(Ok(_)) => Err(failed("its process ended at once".to_owned())),
            Ok(Err(error)) => Err(failed(format!("its process cannot be read: {error}"))),
            Err(_) => Err(failed(format!("it does not serve after {} s", START_LIMIT.as_secs()))),
        }
    }

    /// Its process id; `None` once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills the process, as a crash does.
    ///
    /// # Errors
    /// [`Error::Node`] if it cannot be killed.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.child
            .kill()
            .await
            .map_err(|error| Error::Node { name: self.name, what: format!("it could not be killed: {error}") })
    }

    /// Hangs the process, or lets it go on: the kernel accepts connections for it, and nothing is answered.
    ///
    /// # Errors
    /// [`Error::Node`] if it cannot be told.
    pub async fn hang(&mut self, hang: bool) -> Result<(), Error> {
        let failed = |what: &str| Error::Node { name: self.name, what: what.to_owned() };
        let order = if hang { HANG } else { GO_ON };
        let stdin = self.child.stdin.as_mut().ok_or_else(|| failed("its process cannot be told anything"))?;
        let told = async {
            stdin.write_all(order.as_bytes()).await?;
            stdin.flush().await
        };
        told.await.map_err(|error| failed(&format!("its process cannot be told to {}: {error}", order.trim())))
    }
}

/// Finds a port that is free on all of these addresses.
///
/// # Errors
/// [`Error::Loopback`] if an address cannot be used at all, [`Error::NoPort`] if there is no such port.
pub fn free_port(addresses: &[Ipv4Addr]) -> Result<u16, Error> {
    let bind = |ip: Ipv4Addr, port: u16| StdListener::bind(SocketAddr::from((ip, port)));
    for _ in 0..MAX_PORT_TRIES {
        // All are held until each is known to be free.
        let mut held: Vec<StdListener> = Vec::with_capacity(addresses.len());
        let mut port = 0;
        for ip in addresses {
            match bind(*ip, port).and_then(|listener| Ok((listener.local_addr()?.port(), listener))) {
                Ok((bound, listener)) => {
                    port = bound;
                    held.push(listener);
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => break,
                Err(error) => return Err(Error::Loopback { ip: *ip, error }),
            }
        }
        if held.len() == addresses.len() {
            return Ok(port);
        }
    }
    Err(Error::NoPort)
}

/// What the hidden subcommand does: serves `name` at `at` until its standard input ends.
///
/// # Errors
/// If the address cannot be bound.
pub async fn serve(name: String, at: SocketAddrV4) -> io::Result<()> {
    let listener = TcpListener::bind(SocketAddr::V4(at)).await?;
    if writeln!(io::stdout(), "serving").is_err() {
        // Whoever started it has gone.
        return Ok(());
    }
    let name = Bytes::from(name);
    let mut connections = JoinSet::new();
    let (hang, mut hangs) = mpsc::channel(1);
    let (go_on, goes_on) = std::sync::mpsc::channel();
    std::thread::spawn(move || obey(&hang, &go_on));
    loop {
        tokio::select! {
            // The only thread that serves waits: nothing is accepted, read or answered any more.
            Some(()) = hangs.recv() => { let _ = goes_on.recv(); }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                let name = name.clone();
                connections.spawn(async move {
                    let answer = service_fn(move |_: hyper::Request<Incoming>| {
                        std::future::ready(Ok::<_, Infallible>(hyper::Response::new(Full::new(name.clone()))))
                    });
                    // What became of one connection is its client's to see.
                    let served = http1::Builder::new().serve_connection(HyperIo(stream), answer);
                    let _ = tokio::time::timeout(CONNECTION_LIMIT, served).await;
                });
            }
        }
    }
}

/// Takes orders from standard input, on a thread of its own. The process ends with them: no node outlives the demo.
fn obey(hang: &mpsc::Sender<()>, go_on: &std::sync::mpsc::Sender<()>) {
    for line in io::stdin().lines() {
        match line {
            Ok(line) if line == HANG.trim() => drop(hang.blocking_send(())),
            Ok(line) if line == GO_ON.trim() => drop(go_on.send(())),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    std::process::exit(0);
}
