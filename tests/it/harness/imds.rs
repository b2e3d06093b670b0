//! The metadata service of an instance (IMDSv2), as far as the agent and the SDK ask it.

use std::sync::{Arc, Mutex};

use super::http::{Request, Response, Server};
use super::moto::REGION;

const TOKEN: &str = "a-session-token";
const ROLE: &str = "eipwatch-node";

#[derive(Default)]
struct State {
    spot: Option<String>,
    down: bool,
    spot_questions: usize,
}

pub struct Imds {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl Imds {
    pub fn start(instance: &str) -> Imds {
        let state = Arc::new(Mutex::new(State::default()));
        let (instance, shared) = (instance.to_owned(), state.clone());
        let server = Server::start(move |request| answer(&mut shared.lock().unwrap(), &instance, &request));
        Imds { server, state }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Announces a spot interruption, or takes it back.
    pub fn spot(&self, document: Option<&str>) {
        self.state.lock().unwrap().spot = document.map(str::to_owned);
    }

    /// Every connection is cut from now on, or no more.
    pub fn down(&self, down: bool) {
        self.state.lock().unwrap().down = down;
    }

    /// How often it was asked for a spot interruption.
    pub fn spot_questions(&self) -> usize {
        self.state.lock().unwrap().spot_questions
    }
}

fn answer(state: &mut State, instance: &str, request: &Request) -> Option<Response> {
    if state.down {
        return None;
    }
    let text = |text: &str| Some(Response::new(200, "text/plain", text));
    if (request.method.as_str(), request.path.as_str()) == ("PUT", "/latest/api/token") {
        let ttl = request.headers["x-aws-ec2-metadata-token-ttl-seconds"].clone();
        return text(TOKEN).map(|response| response.header("x-aws-ec2-metadata-token-ttl-seconds", &ttl));
    }
    if request.headers.get("x-aws-ec2-metadata-token").is_none_or(|token| token != TOKEN) {
        return Some(Response::new(401, "text/plain", ""));
    }
    let path = request.path.strip_prefix("/latest/meta-data/").unwrap_or_default();
    if path == "spot/instance-action" {
        state.spot_questions += 1;
    }
    match (path, &state.spot) {
        ("instance-id", _) => text(instance),
        ("placement/region", _) => text(REGION),
        ("iam/security-credentials/", _) => text(ROLE),
        ("spot/instance-action", Some(document)) => text(document),
        _ if path == format!("iam/security-credentials/{ROLE}") => text(
            r#"{"Code":"Success","LastUpdated":"2026-11-22T07:00:00Z","Type":"AWS-HMAC","AccessKeyId":"ASIATEST",
                "SecretAccessKey":"test","Token":"test","Expiration":"2036-11-22T07:00:00Z"}"#,
        ),
        _ => Some(Response::new(404, "text/plain", "")),
    }
}
