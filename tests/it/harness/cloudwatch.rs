//! CloudWatch's DescribeAlarms, in the protocol that the Rust SDK speaks (Smithy's rpc-v2-cbor) and moto does not.

use std::sync::{Arc, Mutex};

use super::http::{Request, Response, Server};

const PATH: &str = "/service/GraniteServiceVersion20100801/operation/DescribeAlarms";

/// An alarm as CloudWatch holds it.
#[derive(Clone, Debug)]
pub struct Alarm {
    pub name: String,
    /// `OK`, `ALARM`, `INSUFFICIENT_DATA`.
    pub state: String,
    /// Its `InstanceId` dimension.
    pub instance: Option<String>,
    pub composite: bool,
}

#[derive(Default)]
struct State {
    alarms: Vec<Alarm>,
    broken: bool,
    calls: usize,
}

pub struct CloudWatch {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl CloudWatch {
    pub fn start() -> CloudWatch {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let server = Server::start(move |request| Some(handle(&mut shared.lock().unwrap(), &request)));
        CloudWatch { server, state }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Adds a metric alarm, or replaces the one of this name.
    pub fn set(&self, name: &str, state: &str, instance: Option<&str>) {
        let instance = instance.map(str::to_owned);
        self.put(Alarm { name: name.into(), state: state.into(), instance, composite: false });
    }

    /// Adds an alarm, or replaces the one of its name.
    pub fn put(&self, alarm: Alarm) {
        let mut state = self.state.lock().unwrap();
        state.alarms.retain(|other| other.name != alarm.name);
        state.alarms.push(alarm);
    }

    /// Every call fails with an HTTP 500 from now on, or no more.
    pub fn broken(&self, broken: bool) {
        self.state.lock().unwrap().broken = broken;
    }

    pub fn calls(&self) -> usize {
        self.state.lock().unwrap().calls
    }
}

fn handle(state: &mut State, request: &Request) -> Response {
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("POST", PATH),
        "CloudWatch plays DescribeAlarms only"
    );
    state.calls += 1;
    if state.broken {
        let mut body = Vec::new();
        map(&mut body, 2);
        text(&mut body, "__type");
        text(&mut body, "com.amazonaws.cloudwatch#InternalServiceFault");
        text(&mut body, "message");
        text(&mut body, "Said by the stand-in.");
        return reply(500, body);
    }
    // Names and types stand in the request as they are: no CBOR reader is needed.
    let asked = |word: &str| request.body.windows(word.len()).any(|window| window == word.as_bytes());
    let named = asked("AlarmNames");
    let of_type = |composite: bool| -> Vec<&Alarm> {
        let wanted = state.alarms.iter().filter(|alarm| alarm.composite == composite);
        wanted.filter(|alarm| !named || asked(&alarm.name)).collect()
    };
    // As CloudWatch does it: composite alarms only to those who ask for them.
    let (metric, composite) = if asked("AlarmTypes") {
        (
            if asked("MetricAlarm") { of_type(false) } else { Vec::new() },
            if asked("CompositeAlarm") { of_type(true) } else { Vec::new() },
        )
    } else {
        (of_type(false), Vec::new())
    };
    let mut body = Vec::new();
    map(&mut body, 2);
    for (key, alarms) in [("MetricAlarms", metric), ("CompositeAlarms", composite)] {
        text(&mut body, key);
        array(&mut body, alarms.len());
        for alarm in alarms {
            map(&mut body, 2 + usize::from(alarm.instance.is_some()));
            text(&mut body, "AlarmName");
            text(&mut body, &alarm.name);
            text(&mut body, "StateValue");
            text(&mut body, &alarm.state);
            if let Some(instance) = &alarm.instance {
                text(&mut body, "Dimensions");
                array(&mut body, 1);
                map(&mut body, 2);
                text(&mut body, "Name");
                text(&mut body, "InstanceId");
                text(&mut body, "Value");
                text(&mut body, instance);
            }
        }
    }
    reply(200, body)
}

fn reply(status: u16, body: Vec<u8>) -> Response {
    Response::new(status, "application/cbor", body).header("Smithy-Protocol", "rpc-v2-cbor")
}

// CBOR (RFC 8949): a major type and a length, then the content.

fn text(out: &mut Vec<u8>, text: &str) {
    head(out, 3, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn array(out: &mut Vec<u8>, length: usize) {
    head(out, 4, length);
}

fn map(out: &mut Vec<u8>, pairs: usize) {
    head(out, 5, pairs);
}

fn head(out: &mut Vec<u8>, major: u8, length: usize) {
    match u16::try_from(length).expect("at most 65,535 of anything") {
        short @ 0..=23 => out.push(major << 5 | short as u8),
        byte @ 24..=255 => out.extend_from_slice(&[major << 5 | 24, byte as u8]),
        long => {
            out.push(major << 5 | 25);
            out.extend_from_slice(&long.to_be_bytes());
        }
    }
}
