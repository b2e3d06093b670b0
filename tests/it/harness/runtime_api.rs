//! The function, run as Lambda runs it: the real binary behind a Lambda Runtime API of our own.
//!
//! Lambda freezes the process between two invocations; this does not.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::http::{Request, Response, Server};

/// How long a cold start may take until the first poll.
const START: Duration = Duration::from_secs(10);

/// How much later than its deadline a function may answer on a busy machine. Lambda gives it nothing.
const GRACE: Duration = Duration::from_millis(500);

/// How soon the end of the process is noticed.
const LOOK_UP: Duration = Duration::from_millis(50);

/// What the function said to Lambda when it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionError {
    pub error_type: String,
    pub error_message: String,
}

/// An invocation that has ended.
#[derive(Debug)]
pub struct Invocation {
    pub outcome: Result<Value, FunctionError>,
    /// What was written to standard output and error meanwhile, a JSON object a line.
    pub logs: Vec<Value>,
    pub took: Duration,
}

impl Invocation {
    /// The answer. Panics if the invocation failed.
    pub fn answer(&self) -> &Value {
        self.outcome.as_ref().unwrap_or_else(|error| panic!("the invocation failed: {error:?}\n{}", self.log_text()))
    }

    /// The error. Panics if the invocation succeeded.
    pub fn error(&self) -> &FunctionError {
        match &self.outcome {
            Ok(answer) => panic!("the invocation succeeded: {answer:#}\n{}", self.log_text()),
            Err(error) => error,
        }
    }

    /// The log as it stands.
    pub fn log_text(&self) -> String {
        self.logs.iter().map(|line| format!("{line}\n")).collect()
    }
}

struct Event {
    id: String,
    payload: String,
    deadline: SystemTime,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    /// How often the function has asked for an event: one more than it has finished.
    polls: u64,
    first_poll: Option<Instant>,
    outcome: Option<(String, Result<Value, FunctionError>)>,
    init_error: Option<FunctionError>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A running execution environment. Killed when dropped.
pub struct Function {
    child: Mutex<Child>,
    shared: Arc<Shared>,
    log: PathBuf,
    invocations: AtomicU64,
    spawned: Instant,
    _server: Server,
}

/// An invocation that is under way.
pub struct Pending<'a> {
    function: &'a Function,
    id: String,
    begun: Instant,
    limit: Duration,
    log_from: u64,
    polls: u64,
}

impl Function {
    /// Starts the function's binary with these variables beside those that Lambda sets, and no others.
    pub fn start(env: &[(&str, &str)]) -> Function {
        // The benches take this file without that feature, and start programs of their own.
        let Some(program) = option_env!("CARGO_BIN_EXE_eipwatch-lambda") else {
            panic!("built without the feature `aws`")
        };
        Function::start_program(Path::new(program), &[], env)
    }

    /// Starts any program in the function's place.
    pub fn start_program(program: &Path, args: &[&str], env: &[(&str, &str)]) -> Function {
        static FUNCTIONS: AtomicU64 = AtomicU64::new(0);
        let shared = Arc::new(Shared::default());
        let api = shared.clone();
        let server = Server::start(move |request| Some(serve(&api, &request)));
        let number = FUNCTIONS.fetch_add(1, Ordering::SeqCst);
        let log =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("function-{}-{number}.log", std::process::id()));
        // A file for both streams, not pipes: what the function has written is there to read at once.
        let file = File::options().create_new(true).append(true).open(&log).unwrap();
        let spawned = Instant::now();
        let child = Command::new(program)
            .args(args)
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", server.addr.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "eipwatch")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/eipwatch")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "2026/11/22/[$LATEST]0123456789abcdef")
            .envs(env.iter().copied())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Function { child: Mutex::new(child), shared, log, invocations: AtomicU64::new(0), spawned, _server: server }
    }

    /// Invokes the function with so much time left, and waits for its answer. Panics if it has none by then, or dies.
    pub fn invoke(&self, payload: Value, deadline: Duration) -> Invocation {
        self.send(payload, deadline).wait()
    }

    /// Invokes the function, and does not wait.
    pub fn send(&self, payload: Value, deadline: Duration) -> Pending<'_> {
        // Lambda too waits for the first poll before the clock of an invocation starts.
        let state =
            self.wait_until("starting", Instant::now() + START, |state| state.polls > 0 || state.init_error.is_some());
        assert_eq!(state.init_error, None, "the function did not start");
        drop(state);
        let number = self.invocations.fetch_add(1, Ordering::SeqCst);
        let id = format!("00000000-0000-4000-8000-{number:012}");
        let log_from = fs::metadata(&self.log).unwrap().len();
        let mut state = self.shared.state.lock().unwrap();
        let event = Event { id: id.clone(), payload: payload.to_string(), deadline: SystemTime::now() + deadline };
        state.events.push_back(event);
        self.shared.changed.notify_all();
        Pending { function: self, id, begun: Instant::now(), limit: deadline + GRACE, log_from, polls: state.polls }
    }

    /// How long it took from the start of its process to its first poll.
    pub fn started_in(&self) -> Duration {
        let state = self.wait_until("starting", Instant::now() + START, |state| state.first_poll.is_some());
        state.first_poll.unwrap().duration_since(self.spawned)
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// The largest memory that the process has had resident, in KiB.
    pub fn peak_memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Kills the process, as a crash would.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn wait_until(&self, what: &str, until: Instant, done: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.shared.state.lock().unwrap();
        while !done(&state) {
            let left = until.saturating_duration_since(Instant::now());
            let ended = self.child.lock().unwrap().try_wait().unwrap();
            if ended.is_some() || left.is_zero() {
                drop(state);
                let what = match ended {
                    Some(status) => format!("the function ended while {what}: {status}"),
                    None => format!("out of time while {what}: Lambda would have killed the function"),
                };
                panic!("{what}\n{}", fs::read_to_string(&self.log).unwrap_or_default());
            }
            // Now and then it looks whether the process is still there.
            state = self.shared.changed.wait_timeout(state, left.min(LOOK_UP)).unwrap().0;
        }
        state
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.changed.notify_all();
        if !std::thread::panicking() {
            let _ = fs::remove_file(&self.log);
        }
    }
}

impl Pending<'_> {
    /// Waits for the outcome. Panics if there is none by the deadline, or the function dies.
    pub fn wait(self) -> Invocation {
        let function = self.function;
        let until = self.begun + self.limit;
        let has_outcome = |state: &State| state.outcome.as_ref().is_some_and(|(id, _)| *id == self.id);
        let mut state = function.wait_until("waiting for the answer", until, has_outcome);
        let took = self.begun.elapsed();
        let outcome = state.outcome.take().unwrap().1;
        drop(state);
        // With the next poll the invocation is over: all that it logged is written.
        drop(
            function.wait_until("waiting for the next poll", Instant::now() + START, |state| state.polls > self.polls),
        );
        let log = fs::read(&function.log).unwrap();
        let log = String::from_utf8_lossy(&log[usize::try_from(self.log_from).unwrap()..]).into_owned();
        let logs = log.lines().map(|line| match serde_json::from_str(line) {
            Ok(value @ Value::Object(_)) => value,
            _ => panic!("a log line that is not a JSON object: {line}\n{log}"),
        });
        Invocation { outcome, logs: logs.collect(), took }
    }
}

fn serve(shared: &Shared, request: &Request) -> Response {
    let path = request.path.strip_prefix("/2018-06-01/runtime/").unwrap_or_default();
    let accepted = Response::new(202, "application/json", r#"{"status":"OK"}"#);
    let mut state = shared.state.lock().unwrap();
    let response = match (request.method.as_str(), path.split('/').collect::<Vec<_>>().as_slice()) {
        ("GET", ["invocation", "next"]) => {
            state.polls += 1;
            state.first_poll.get_or_insert_with(Instant::now);
            shared.changed.notify_all();
            let mut state = shared.changed.wait_while(state, |state| state.events.is_empty() && !state.closed).unwrap();
            let Some(event) = state.events.pop_front() else { return Response::new(500, "text/plain", "closed") };
            let deadline_ms = event.deadline.duration_since(UNIX_EPOCH).unwrap().as_millis();
            return Response::new(200, "application/json", event.payload)
                .header("Lambda-Runtime-Aws-Request-Id", &event.id)
                .header("Lambda-Runtime-Deadline-Ms", &deadline_ms.to_string())
                .header(
                    "Lambda-Runtime-Invoked-Function-Arn",
                    "arn:aws:lambda:eu-west-1:123456789012:function:eipwatch",
                )
                .header("Lambda-Runtime-Trace-Id", "Root=1-65f2c0a1-0123456789abcdef01234567;Sampled=0");
        }
        ("POST", ["invocation", id, "response"]) => {
            let answer = serde_json::from_slice(&request.body).expect("the answer is JSON");
            state.outcome = Some(((*id).to_owned(), Ok(answer)));
            accepted
        }
        ("POST", ["invocation", id, "error"]) => {
            state.outcome = Some(((*id).to_owned(), Err(function_error(&request.body))));
            accepted
        }
        ("POST", ["init", "error"]) => {
            state.init_error = Some(function_error(&request.body));
            accepted
        }
        _ => Response::new(404, "application/json", json!({"errorType": "NotFound"}).to_string()),
    };
    shared.changed.notify_all();
    response
}

fn function_error(body: &[u8]) -> FunctionError {
    let body: Value = serde_json::from_slice(body).expect("the error is JSON");
    let text = |key: &str| body[key].as_str().unwrap_or_else(|| panic!("no {key} in {body}")).to_owned();
    FunctionError { error_type: text("errorType"), error_message: text("errorMessage") }
}
