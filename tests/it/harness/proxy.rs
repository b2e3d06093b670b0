//! What stands between the function and EC2: records every call, and fails as EC2 and networks do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use eipwatch::aws::Call as Allowed;

use super::http::{self, Request, Response, Server};
use super::moto;

/// For [`Proxy::fault`]: until [`Proxy::heal`].
pub const ALWAYS: usize = usize::MAX;

/// How a call goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// EC2 answers this HTTP status and error code, and does nothing.
    Error(u16, &'static str),
    /// The connection ends before the call reached EC2.
    CutBefore,
    /// EC2 does it; the connection ends before its answer arrives.
    CutAfter,
    /// EC2 says that it did, and does nothing.
    Pretend,
    /// EC2 answers with this XML.
    Answer(String),
    /// EC2 takes so long, then does it.
    Delay(Duration),
}

pub const THROTTLED: Fault = Fault::Error(503, "RequestLimitExceeded");
pub const BROKEN: Fault = Fault::Error(500, "InternalError");
pub const FORBIDDEN: Fault = Fault::Error(403, "UnauthorizedOperation");

/// A call that the function made.
#[derive(Clone, Debug)]
pub struct Call {
    pub action: String,
    pub params: BTreeMap<String, String>,
    pub at: Instant,
    /// The HTTP status that it got; `None` if its connection was cut.
    pub status: Option<u16>,
}

impl Call {
    /// Whether it could have changed something.
    pub fn changes(&self) -> bool {
        !self.action.starts_with("Describe") && self.param("DryRun") != Some("true")
    }

    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.get(name).map(String::as_str)
    }
}

#[derive(Default)]
struct State {
    faults: Vec<(String, Fault, usize)>,
    calls: Vec<Call>,
    /// The actions of all calls, those that were forgotten as well.
    seen: BTreeSet<String>,
    /// Whether only the function calls here.
    of_the_function: bool,
    stale_for: Duration,
    /// The last answer to DescribeAddresses, by its parameters.
    addresses: BTreeMap<Vec<u8>, Response>,
    /// DescribeAddresses is answered from `addresses` until then.
    stale_until: Option<Instant>,
}

pub struct Proxy {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// Forwards to moto, into this account.
    pub fn start(account: &str) -> Proxy {
        let state = Arc::new(Mutex::new(State::default()));
        let (account, shared) = (account.to_owned(), state.clone());
        let server = Server::start(move |request| handle(&shared, &account, request));
        Proxy { server, state }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The next `times` calls of `action` (`*`: of any) go wrong so. Earlier faults come first.
    pub fn fault(&self, action: &str, fault: Fault, times: usize) {
        self.state.lock().unwrap().faults.push((action.to_owned(), fault, times));
    }

    /// For so long after an AssociateAddress, DescribeAddresses shows what it showed before.
    pub fn stale_reads(&self, time: Duration) {
        self.state.lock().unwrap().stale_for = time;
    }

    /// The function calls here: at the end none of its calls may be one that its role does not allow. A test in `infra.rs`
    /// holds the role against the same list.
    pub fn is_the_functions(&self) {
        self.state.lock().unwrap().of_the_function = true;
    }

    /// Ends all faults and stale reads.
    pub fn heal(&self) {
        let mut state = self.state.lock().unwrap();
        state.faults.clear();
        state.stale_for = Duration::ZERO;
        state.stale_until = None;
    }

    /// All calls since the start, or since [`Proxy::forget`].
    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().unwrap().calls.clone()
    }

    pub fn calls_of(&self, action: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.action == action).collect()
    }

    /// The actions of the calls that could have changed something, in order.
    pub fn changes(&self) -> Vec<String> {
        self.calls().into_iter().filter(Call::changes).map(|call| call.action).collect()
    }

    /// Forgets the calls so far.
    pub fn forget(&self) {
        self.state.lock().unwrap().calls.clear();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        let (of_the_function, seen) = {
            let state = self.state.lock().unwrap();
            (state.of_the_function, state.seen.clone())
        };
        if of_the_function {
            let allowed = Allowed::ALL.map(|call| format!("{call:?}"));
            let strange: Vec<_> = seen.iter().filter(|action| !allowed.contains(action)).collect();
            assert!(strange.is_empty(), "calls that the function's role does not allow: {strange:?}");
        }
    }
}

fn handle(state: &Mutex<State>, account: &str, request: Request) -> Option<Response> {
    let params = http::form(&request.body);
    let action = params.get("Action").cloned().unwrap_or_else(|| format!("{} {}", request.method, request.path));
    let (index, fault, stale) = {
        let mut state = state.lock().unwrap();
        let at = Instant::now();
        state.seen.insert(action.clone());
        state.calls.push(Call { action: action.clone(), params, at, status: None });
        let stale = (action == "DescribeAddresses" && state.stale_until.is_some_and(|until| at < until))
            .then(|| state.addresses.get(&request.body).cloned())
            .flatten();
        (state.calls.len() - 1, take_fault(&mut state.faults, &action), stale)
    };
    let answer = match fault {
        Some(Fault::Error(status, code)) => Some(error(status, code)),
        Some(Fault::CutBefore) => None,
        Some(Fault::CutAfter) => {
            forward(state, account, &action, &request);
            None
        }
        Some(Fault::Pretend) => Some(pretend(&action)),
        Some(Fault::Answer(xml)) => Some(Response::new(200, "text/xml", xml)),
        Some(Fault::Delay(time)) => {
            thread::sleep(time);
            Some(forward(state, account, &action, &request))
        }
        None => Some(stale.unwrap_or_else(|| forward(state, account, &action, &request))),
    };
    // Not there if the test has forgotten the calls meanwhile.
    if let Some(call) = state.lock().unwrap().calls.get_mut(index).filter(|call| call.action == action) {
        call.status = answer.as_ref().map(|answer| answer.status);
    }
    answer
}

fn take_fault(faults: &mut Vec<(String, Fault, usize)>, action: &str) -> Option<Fault> {
    let index = faults.iter().position(|(of, ..)| of == action || of == "*")?;
    let (_, fault, times) = &mut faults[index];
    let taken = fault.clone();
    if *times != ALWAYS {
        *times -= 1;
        if *times == 0 {
            faults.remove(index);
        }
    }
    Some(taken)
}

fn forward(state: &Mutex<State>, account: &str, action: &str, request: &Request) -> Response {
    if action == "AssociateAddress" {
        let mut state = state.lock().unwrap();
        if !state.stale_for.is_zero() {
            state.stale_until = Some(Instant::now() + state.stale_for);
        }
    }
    let kept = request.headers.iter().filter(|(name, _)| matches!(name.as_str(), "authorization" | "content-type"));
    let mut headers: Vec<_> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    headers.push((moto::ACCOUNT_HEADER.to_owned(), account.to_owned()));
    let answer = http::call(moto::addr(), &request.method, &request.path, &headers, &request.body);
    let mut answer = answer.unwrap_or_else(|error| panic!("moto does not answer {action}: {error}"));
    answer.headers.retain(|(name, _)| name == "content-type");
    if action == "DescribeAddresses" {
        state.lock().unwrap().addresses.insert(request.body.clone(), answer.clone());
    }
    answer
}

fn error(status: u16, code: &str) -> Response {
    let xml = format!(
        "<Response><Errors><Error><Code>{code}</Code><Message>Said by the fault proxy.</Message></Error></Errors>\
         <RequestID>fault-proxy</RequestID></Response>"
    );
    Response::new(status, "text/xml", xml)
}

fn pretend(action: &str) -> Response {
    let inside = match action {
        "AssociateAddress" => "<return>true</return><associationId>eipassoc-0123456789abcdef0</associationId>",
        "CreateTags" => "<return>true</return>",
        other => panic!("the proxy cannot pretend {other}"),
    };
    let xml = format!("<{action}Response><requestId>fault-proxy</requestId>{inside}</{action}Response>");
    Response::new(200, "text/xml", xml)
}

/// A running instance for [`instance_status`].
#[derive(Clone, Copy, Debug)]
pub struct Status<'a> {
    pub id: &'a str,
    /// The host's check: `ok`, `impaired`, …
    pub system: &'a str,
    /// The instance's own check.
    pub instance: &'a str,
    /// A scheduled event's code and start (RFC 3339).
    pub event: Option<(&'a str, &'a str)>,
}

impl Status<'_> {
    /// All is well with it.
    pub fn ok(id: &str) -> Status<'_> {
        Status { id, system: "ok", instance: "ok", event: None }
    }
}

/// DescribeInstanceStatus answers this.
pub fn instance_status(instances: &[Status]) -> Fault {
    let items = instances.iter().map(|Status { id, system, instance, event }| {
        let event = event.map_or_else(String::new, |(code, start)| {
            format!(
                "<eventsSet><item><instanceEventId>instance-event-0123456789abcdef0</instanceEventId><code>{code}</code>\
                 <description>Planned by the fault proxy</description><notBefore>{start}</notBefore></item></eventsSet>"
            )
        });
        format!(
            "<item><instanceId>{id}</instanceId><availabilityZone>eu-west-1a</availabilityZone>{event}\
             <instanceState><code>16</code><name>running</name></instanceState>\
             <systemStatus><status>{system}</status></systemStatus>\
             <instanceStatus><status>{instance}</status></instanceStatus></item>"
        )
    });
    Fault::Answer(format!(
        "<DescribeInstanceStatusResponse><requestId>fault-proxy</requestId><instanceStatusSet>{}</instanceStatusSet>\
         </DescribeInstanceStatusResponse>",
        items.collect::<String>()
    ))
}
