//! EC2 as moto plays it: one server for the whole test process, one AWS account for each test.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::http;

pub const REGION: &str = "eu-west-1";

/// moto takes the account of a call from this header.
pub const ACCOUNT_HEADER: &str = "x-moto-account-id";

struct Moto {
    addr: SocketAddr,
    /// It ends when its standard input does, at the latest with this process.
    _child: Child,
}

static MOTO: LazyLock<Moto> = LazyLock::new(|| {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = match std::env::var_os("EIPWATCH_TEST_PYTHON") {
        Some(path) => PathBuf::from(path),
        None => root.join(".venv/bin/python"),
    };
    let mut child = Command::new(&python)
        .arg(root.join("tests/tools/moto_server.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "moto, the EC2 emulator, is not installed ({}: {error}). Run `make test`, which installs it into .venv, \
                 or set EIPWATCH_TEST_PYTHON to a Python that has tests/requirements.txt",
                python.display()
            )
        });
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let port = line.trim().parse().unwrap_or_else(|_| {
        panic!("moto did not start ({}): its message is above; `make test` installs it anew", python.display())
    });
    Moto { addr: (Ipv4Addr::LOCALHOST, port).into(), _child: child }
});

/// Where moto listens.
pub fn addr() -> SocketAddr {
    MOTO.addr
}

/// An AWS account of its own, seen by an administrator: sets the stage, and reads the truth behind the proxy's back.
pub struct Ec2 {
    pub account: String,
}

impl Ec2 {
    pub fn new() -> Ec2 {
        static ACCOUNTS: AtomicU64 = AtomicU64::new(100_000_000_001);
        Ec2 { account: ACCOUNTS.fetch_add(1, Ordering::SeqCst).to_string() }
    }

    /// Calls EC2's query API. Panics unless it succeeds.
    pub fn call(&self, action: &str, params: &[(&str, &str)]) -> Xml {
        let all = [("Action", action), ("Version", "2016-11-15")];
        let body = http::to_form(all.iter().chain(params).copied());
        let credential = format!("AWS4-HMAC-SHA256 Credential=test/20261122/{REGION}/ec2/aws4_request");
        let headers = [
            ("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned()),
            ("Authorization".to_owned(), format!("{credential}, SignedHeaders=host, Signature=0")),
            (ACCOUNT_HEADER.to_owned(), self.account.clone()),
        ];
        let response = http::call(addr(), "POST", "/", &headers, body.as_bytes()).unwrap();
        assert_eq!(response.status, 200, "{action} {params:?}: {}", response.text());
        let text = response.text();
        let xml = text.split_once("?>").map_or(text.as_str(), |(_, rest)| rest);
        Xml(xml.to_owned()).children().into_iter().next().expect("an XML document").1
    }

    pub fn tag(&self, resource: &str, key: &str, value: &str) {
        self.call("CreateTags", &[("ResourceId.1", resource), ("Tag.1.Key", key), ("Tag.1.Value", value)]);
    }

    pub fn tags(&self, resource: &str) -> BTreeMap<String, String> {
        let answer = self.call("DescribeTags", &[("Filter.1.Name", "resource-id"), ("Filter.1.Value.1", resource)]);
        let tags = answer.items("tagSet").into_iter();
        tags.map(|tag| (tag.text("key").unwrap(), tag.text("value").unwrap_or_default())).collect()
    }

    /// The interface that carries the address. Asked for the instance, moto has none once an interface was named in the move.
    pub fn interface_of(&self, allocation: &str) -> Option<String> {
        let answer = self.call("DescribeAddresses", &[("AllocationId.1", allocation)]);
        answer.items("addressesSet").into_iter().next().unwrap().text("networkInterfaceId")
    }

    pub fn associate(&self, allocation: &str, interface: &str, private_ip: &str) {
        self.call(
            "AssociateAddress",
            &[
                ("AllocationId", allocation),
                ("NetworkInterfaceId", interface),
                ("PrivateIpAddress", private_ip),
                ("AllowReassociation", "true"),
            ],
        );
    }
}

/// What is inside an XML element. EC2's answers have no attributes that matter, and no element inside one of its own name but `item`.
#[derive(Clone, Debug)]
pub struct Xml(pub String);

impl Xml {
    /// The elements directly inside, in order.
    pub fn children(&self) -> Vec<(String, Xml)> {
        let mut children = Vec::new();
        let mut rest = self.0.as_str();
        while let Some((_, after)) = rest.split_once('<') {
            let (head, body) = after.split_once('>').expect("a closed tag");
            let name = head.split([' ', '/']).next().unwrap();
            if head.ends_with('/') {
                children.push((name.to_owned(), Xml(String::new())));
                rest = body;
                continue;
            }
            let (open, close) = (format!("<{name}>"), format!("</{name}>"));
            let mut end = body.find(&close).expect("an end tag");
            // Skip elements of the same name that lie inside.
            let mut inside = body[..end].matches(&open).count();
            while inside > 0 {
                let next = end + close.len();
                let further = next + body[next..].find(&close).expect("an end tag");
                inside = inside - 1 + body[next..further].matches(&open).count();
                end = further;
            }
            children.push((name.to_owned(), Xml(body[..end].to_owned())));
            rest = &body[end + close.len()..];
        }
        children
    }

    /// The first element of this name directly inside.
    pub fn child(&self, name: &str) -> Option<Xml> {
        self.children().into_iter().find(|(child, _)| child == name).map(|(_, xml)| xml)
    }

    /// The `item`s of the list of this name.
    pub fn items(&self, name: &str) -> Vec<Xml> {
        self.child(name).map_or_else(Vec::new, |list| list.children().into_iter().map(|(_, xml)| xml).collect())
    }

    /// The text of the element of this name; `None` if it is missing or empty.
    pub fn text(&self, name: &str) -> Option<String> {
        let text = self.child(name)?.0;
        let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&");
        (!text.is_empty()).then_some(text)
    }
}
