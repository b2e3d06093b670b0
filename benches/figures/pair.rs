//! A pair of nodes with a service each, EC2, and a client that asks through the Elastic IP.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use eipwatch::demo::service::{Client, forward};
use eipwatch::embedded::ec2::{Id, InstanceSpec, Place, tags};
use eipwatch::embedded::{Fault, Rule};
use tokio::net::TcpListener;
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::ec2::Served;
use crate::net::Host;

/// Where services listen.
pub const PORT: u16 = 8080;
/// How long a call to EC2 takes.
pub const LATENCY_MS: std::ops::RangeInclusive<u64> = 20..=60;
/// How long a node may take to serve.
const START_LIMIT: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The pair. What it started ends when it is dropped.
pub struct Pair {
    pub hosts: [Host; 2],
    /// Their instances.
    pub nodes: [Id; 2],
    pub address: Id,
    pub ec2: Rc<Served>,
    /// Where EC2 is.
    pub endpoint: String,
    pub client: Rc<Client>,
    services: [Child; 2],
    tasks: Vec<JoinHandle<()>>,
}

impl Pair {
    /// Starts everything but a watcher; the first node holds the address.
    pub async fn start(number: u8, hub: Ipv4Addr, policy: &str) -> Pair {
        let hosts = [Host::new(number, 1), Host::new(number, 2)];
        let ips = [hosts[0].ip, hosts[1].ip];
        let mut built = None;
        let (ec2, at) = Served::start(hub, |world| {
            let nodes = ips.map(|ip| {
                world.add_instance(InstanceSpec {
                    private_ips: vec![ip],
                    tags: tags([("eipwatch:cluster", "web")]),
                    ..InstanceSpec::default()
                })
            });
            let check = format!("http:{PORT}/health");
            let mut own = tags([("eipwatch:cluster", "web"), ("eipwatch:check", &check)]);
            if !policy.is_empty() {
                own.insert("eipwatch:policy".to_owned(), policy.to_owned());
            }
            let address = world.add_address(own);
            let now_ms = world.now_ms();
            world.move_by_hand(&address, Place::Instance(&nodes[0]), now_ms);
            let (min_ms, max_ms) = (*LATENCY_MS.start(), *LATENCY_MS.end());
            world.faults_mut().push(Rule::new(Fault::Latency { min_ms, max_ms }));
            built = Some((nodes, address));
        })
        .await;
        let (nodes, address) = built.unwrap();
        let services = [serve(&hosts[0]), serve(&hosts[1])];
        for host in &hosts {
            let until = Instant::now() + START_LIMIT;
            while tokio::net::TcpStream::connect((host.ip, PORT)).await.is_err() {
                assert!(Instant::now() < until, "{} does not serve", host.name);
                sleep(LOOK_EVERY).await;
            }
        }
        let forwarder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let through = forwarder.local_addr().unwrap();
        let client = Rc::new(Client::default());
        let tasks = vec![
            tokio::task::spawn_local(forward(forwarder, ec2.world.clone(), address.clone(), PORT)),
            tokio::task::spawn_local(client.clone().run(through)),
        ];
        Pair { hosts, nodes, address, ec2, endpoint: format!("http://{at}"), client, services, tasks }
    }

    /// The process of the first node's service dies.
    pub async fn kill(&mut self) {
        self.services[0].kill().await.unwrap();
    }

    /// It hangs: the kernel accepts connections for it, and nothing is answered.
    pub fn hang(&self) {
        let pid = self.services[0].id().unwrap();
        crate::net::run("kill", &["-STOP", &pid.to_string()]).unwrap();
    }

    /// Waits until the second node has served for a while, at most `limit`. False: it never did.
    pub async fn until_moved(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            if self.client.served_by().as_deref() == Some(self.hosts[1].name.as_str()) {
                // So that requests that were lost on the way are counted.
                sleep(Duration::from_secs(1)).await;
                return true;
            }
            sleep(LOOK_EVERY).await;
        }
        false
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        for service in &mut self.services {
            let _ = service.start_kill();
        }
    }
}

fn serve(host: &Host) -> Child {
    let mut command = host.command(std::env::current_exe().unwrap());
    // It ends with its standard input.
    command.args(["node", &host.name, &SocketAddrV4::new(host.ip, PORT).to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

/// What `node NAME ADDRESS` does.
pub fn node(name: &str, at: &str) {
    let at: SocketAddr = at.parse().unwrap();
    let SocketAddr::V4(at) = at else { panic!("an IPv6 address") };
    crate::block_on(eipwatch::demo::nodes::serve(name.to_owned(), at)).unwrap();
}
