//! Who watches over a pair: eipwatch's function, keepalived, Heartbeat; each as it is usually set up.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use crate::net;
use crate::pair::{PORT, Pair};
use crate::runtime_api::Function;

/// How long a function may watch in one case.
const WATCH: Duration = Duration::from_secs(100);
const KEEPALIVED: &str = "/usr/sbin/keepalived";
const HEARTBEAT: &str = "/usr/libexec/heartbeat/heartbeat";
/// Where the SDK looks for root certificates.
pub const CERTIFICATES: &str = "SSL_CERT_FILE";
/// How long an alternative may take to settle after its start. Heartbeat's own `initdead` is 20 s.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// A kind of watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Eipwatch {
        policy: &'static str,
    },
    /// With so many failed checks, and passed ones, that count.
    Keepalived {
        fall: u32,
        rise: u32,
    },
    Heartbeat,
}

impl Kind {
    /// Why it cannot be measured here.
    pub fn missing(self) -> Option<String> {
        match self {
            Kind::Eipwatch { .. } => (!binary().exists()).then(|| NO_FUNCTION.to_owned()),
            Kind::Keepalived { .. } | Kind::Heartbeat if !net::is_inside() => {
                Some("it needs network namespaces, and those need root".to_owned())
            }
            Kind::Keepalived { .. } => missing(KEEPALIVED, "keepalived"),
            Kind::Heartbeat => missing(HEARTBEAT, "heartbeat"),
        }
    }

    /// How the pair's address is to be watched.
    pub fn policy(self) -> &'static str {
        match self {
            Kind::Eipwatch { policy } => policy,
            _ => "",
        }
    }
}

fn missing(path: &str, package: &str) -> Option<String> {
    (!Path::new(path).exists()).then(|| format!("Debian's package {package} is not installed"))
}

/// Said where there is no such build.
pub const NO_FUNCTION: &str = "the release build of the function is missing: `make package` builds it";

/// The release build of the function.
pub fn binary() -> PathBuf {
    match std::env::var_os("EIPWATCH_BENCH_FUNCTION") {
        Some(path) => path.into(),
        None => target_dir().join("release/eipwatch-lambda"),
    }
}

/// Cargo's.
pub fn target_dir() -> PathBuf {
    // CARGO_TARGET_TMPDIR is its `tmp`.
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned()
}

/// A watcher at work.
pub enum Watcher {
    Eipwatch(Vec<Arc<Function>>),
    Processes(Vec<Child>, PathBuf),
}

/// Starts one and waits until it has settled.
pub async fn start(kind: Kind, pair: &Pair) -> Watcher {
    match kind {
        Kind::Eipwatch { .. } => {
            let function =
                invoke(pair, json!({"detail-type": "Scheduled Event", "source": "aws.events", "detail": {}})).await;
            // Verdicts, tags and the pace of a quiet watch.
            sleep(Duration::from_secs(4)).await;
            Watcher::Eipwatch(vec![function])
        }
        Kind::Keepalived { fall, rise } => keepalived(pair, fall, rise).await,
        Kind::Heartbeat => heartbeat(pair).await,
    }
}

/// A function of its own, as Lambda starts one for each event while another runs, and its first invocation, which is not waited for.
pub async fn invoke(pair: &Pair, payload: Value) -> Arc<Function> {
    let endpoint = pair.endpoint.clone();
    tokio::task::spawn_blocking(move || {
        let watch = WATCH.as_secs().to_string();
        let function = Function::start_program(&binary(), &[], &environment(&endpoint, &watch));
        drop(function.send(payload, WATCH + Duration::from_secs(10)));
        Arc::new(function)
    })
    .await
    .unwrap()
}

/// What the function finds in its environment beside what Lambda sets.
pub fn environment<'a>(endpoint: &'a str, watch_seconds: &'a str) -> [(&'static str, &'a str); 7] {
    [
        // Lambda sets both; boto3 reads the second.
        ("AWS_REGION", "eu-west-1"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_ENDPOINT_URL", endpoint),
        ("EIPWATCH_WATCH_SECONDS", watch_seconds),
        // One file of root certificates. Debian has each in a file of its own besides, and both would be read.
        (CERTIFICATES, "/etc/ssl/certs/ca-certificates.crt"),
    ]
}

impl Watcher {
    /// Tells the one on the first node that this node leaves, as an orderly shutdown does.
    pub async fn leave(&mut self, pair: &Pair) {
        match self {
            Watcher::Eipwatch(functions) => {
                functions.push(invoke(pair, json!({"action": "drain", "node": &*pair.nodes[0]})).await);
            }
            Watcher::Processes(processes, _) => {
                let first = processes.first().and_then(Child::id).unwrap();
                net::run("kill", &["-TERM", &first.to_string()]).unwrap();
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Watcher::Processes(processes, folder) = self {
            for process in processes {
                let _ = process.start_kill();
            }
            if std::env::var_os("EIPWATCH_BENCH_KEEP").is_none() {
                let _ = fs::remove_dir_all(folder);
            }
        }
    }
}

/// A folder of its own for the files of one pair.
fn folder(pair: &Pair) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{}", pair.hosts[0].name, std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What both alternatives call when a node is to have the address. The usual script calls `aws ec2 associate-address`, whose start alone takes
/// most of a second; curl spares them that. It tries again for a minute when EC2 fails, as the aws command does for some seconds.
fn associate(pair: &Pair, node: usize) -> String {
    format!(
        "curl --silent --output /dev/null --fail --max-time 5 --retry 20 --retry-max-time 60 --data \
         'Action=AssociateAddress&Version=2016-11-15&AllocationId={}&InstanceId={}&AllowReassociation=true' {}/",
        pair.address, pair.nodes[node], pair.endpoint
    )
}

/// Waits until a file says that a node has taken the address.
async fn settled(file: &Path) {
    let until = Instant::now() + SETTLE_LIMIT;
    while !file.exists() {
        assert!(Instant::now() < until, "{} was not written: nobody took the address", file.display());
        sleep(Duration::from_millis(50)).await;
    }
    sleep(Duration::from_secs(4)).await;
}

async fn keepalived(pair: &Pair, fall: u32, rise: u32) -> Watcher {
    let folder = folder(pair);
    let mut processes = Vec::new();
    for node in [0, 1] {
        let (host, peer) = (&pair.hosts[node], &pair.hosts[1 - node]);
        let path = |what: &str| folder.join(format!("{}.{what}", host.name));
        script(&path("notify"), &format!("#!/bin/sh\n{}\ntouch {}\n", associate(pair, node), path("took").display()));
        let conf = format!(
            "global_defs {{\n    script_user root\n}}\n\
             vrrp_script service {{\n    script \"/usr/bin/curl --silent --fail --max-time 1 --output /dev/null http://{ip}:{PORT}/health\"\n    \
             interval 1\n    timeout 1\n    fall {fall}\n    rise {rise}\n}}\n\
             vrrp_instance eip {{\n    state BACKUP\n    nopreempt\n    interface eth0\n    virtual_router_id 51\n    priority {priority}\n    \
             advert_int 1\n    unicast_src_ip {ip}\n    unicast_peer {{\n        {peer}\n    }}\n    \
             track_script {{\n        service\n    }}\n    notify_master {notify}\n}}\n",
            ip = host.ip,
            peer = peer.ip,
            priority = if node == 0 { 110 } else { 100 },
            notify = path("notify").display(),
        );
        fs::write(path("conf"), conf).unwrap();
        let log = fs::File::create(path("log")).unwrap();
        let mut command = host.command(KEEPALIVED);
        command.args(["--dont-fork", "--vrrp", "--log-console", "--log-detail", "--use-file"]).arg(path("conf"));
        command.arg("--pid").arg(path("pid")).arg("--vrrp_pid").arg(path("vrrp"));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        processes.push(command.spawn().unwrap());
        if node == 0 {
            settled(&path("took")).await;
        }
    }
    sleep(Duration::from_secs(4)).await;
    Watcher::Processes(processes, folder)
}

async fn heartbeat(pair: &Pair) -> Watcher {
    let folder = folder(pair);
    let mut processes = Vec::new();
    for node in [0, 1] {
        let (host, peer) = (&pair.hosts[node], &pair.hosts[1 - node]);
        let own = folder.join(&host.name);
        // Its folders are compiled in: each node has its own behind a mount.
        net::run("cp", &["-a", "/etc/ha.d", own.to_str().unwrap()]).unwrap();
        fs::write(
            own.join("ha.cf"),
            format!(
                "logfile {}\nkeepalive 1\nwarntime 5\ndeadtime 10\ninitdead 20\nudpport 694\nucast eth0 {}\nauto_failback off\n\
                 node {}\nnode {}\n",
                own.join("log").display(),
                peer.ip,
                pair.hosts[0].name,
                pair.hosts[1].name
            ),
        )
        .unwrap();
        fs::write(own.join("authkeys"), "auth 1\n1 sha1 benches\n").unwrap();
        fs::set_permissions(own.join("authkeys"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(own.join("haresources"), format!("{} elastic-ip\n", pair.hosts[0].name)).unwrap();
        let took = own.join("took");
        script(
            &own.join("resource.d/elastic-ip"),
            &format!(
                "#!/bin/sh\ncase $1 in\nstart) {} && touch {took} ;;\nstop) rm -f {took} ;;\nstatus) if [ -e {took} ]; then echo running; else echo stopped; fi ;;\nesac\nexit 0\n",
                associate(pair, node),
                took = took.display()
            ),
        );
        script(
            &own.join("start"),
            &format!(
                "#!/bin/sh\nset -e\ncp -a /var/lib/heartbeat {own}/var\nmount --bind {own} /etc/ha.d\nmount --bind {own}/var /var/lib/heartbeat\n\
                 mount -t tmpfs none /run\nmkdir -p /run/heartbeat/ccm /run/heartbeat/dopd /run/heartbeat/rsctmp /run/resource-agents\n\
                 chown -R hacluster:haclient /run/heartbeat\nhostname {name}\nexec {HEARTBEAT} -f\n",
                own = own.display(),
                name = host.name
            ),
        );
        let log = fs::File::create(folder.join(format!("{}.out", host.name))).unwrap();
        let mut command = host.command("unshare");
        command.args(["--mount", "--uts"]).arg(own.join("start"));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        processes.push(command.spawn().unwrap());
    }
    settled(&folder.join(&pair.hosts[0].name).join("took")).await;
    Watcher::Processes(processes, folder)
}
