//! Invoking the deployed function, and asking how it is set up, for `eipwatch --function`: one signed request each.
//!
//! Lambda's own SDK crate would be a hundred thousand lines more for this one call.

use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig};

use super::signed::{self, Answer};

/// How long the function may take: as long as the template lets it, and its start. A command's tag that AWS throttles is tried until then.
const LIMIT: Duration = Duration::from_secs(190);
/// How long Lambda may take to tell how the function is set up.
const CONFIGURATION_LIMIT: Duration = Duration::from_secs(10);
/// What to do where nobody knows what became of a command.
pub const IN_DOUBT: &str = "A command that changes something may have been carried out: look (`eipwatch status --function NAME`; if that fails, too: `aws ec2 describe-addresses`) before you type it again";
/// The largest answer that Lambda gives.
const MAX_ANSWER_BYTES: usize = 6 << 20;

/// What became of an invocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invoked {
    /// The function answered.
    Answered(Vec<u8>),
    /// The function failed; its error as JSON, with `errorType` and `errorMessage`.
    Failed(Vec<u8>),
}

/// A Lambda function.
pub struct Function {
    config: SdkConfig,
    name: String,
}

impl Function {
    /// By name or ARN, with the Region, credentials and endpoint of the process's surroundings.
    pub async fn from_env(name: String) -> Function {
        let config =
            aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(super::http_client()).load().await;
        Function { config, name }
    }

    /// Invokes it and waits for its answer.
    ///
    /// # Errors
    /// It was not invoked, or whether it was is not known: a sentence that says why.
    pub async fn invoke(&self, payload: &str) -> Result<Invoked, String> {
        match tokio::time::timeout(LIMIT, self.send("POST", "invocations", payload)).await {
            Ok(answer) => answer.map(|answer| match answer.function_error {
                true => Invoked::Failed(answer.body),
                false => Invoked::Answered(answer.body),
            }),
            Err(_) => Err(format!("no answer within {} s. {}", LIMIT.as_secs(), IN_DOUBT)),
        }
    }

    /// How it is set up: Lambda's GetFunctionConfiguration.
    ///
    /// # Errors
    /// A sentence that says why it cannot be told.
    pub async fn configuration(&self) -> Result<serde_json::Value, String> {
        let answer = tokio::time::timeout(CONFIGURATION_LIMIT, self.send("GET", "configuration", "")).await;
        let answer = answer.map_err(|_| format!("no answer within {} s", CONFIGURATION_LIMIT.as_secs()))??;
        serde_json::from_slice(&answer.body).map_err(|error| format!("Lambda's answer is no JSON: {error}"))
    }

    async fn send(&self, method: &str, what: &str, payload: &str) -> Result<Answer, String> {
        let region = signed::region(&self.config).map_err(|error| format!("{error}. Nothing was sent"))?;
        let uri = format!("{}/2015-03-31/functions/{}/{what}", self.endpoint(&region), escape(&self.name));
        let headers = [("content-type", "application/json"), ("x-amz-invocation-type", "RequestResponse")];
        let request = signed::Request { service: "lambda", method, uri: &uri, headers: &headers, body: payload };
        let request = signed::sign_request(&self.config, request).await;
        let request = request.map_err(|error| format!("{error}. Nothing was sent"))?;
        let in_doubt = |text: String| if method == "GET" { text } else { format!("{text}. {IN_DOUBT}") };
        let answer = signed::answer(request, MAX_ANSWER_BYTES).await.map_err(in_doubt)?;
        match answer.status {
            200 => Ok(answer),
            429 => Err(format!(
                "{}. Nothing was changed: Lambda holds calls back. Type it again; if that goes on: \"throttles\" in infra/RUNBOOK.md",
                refusal(429, &answer.body)
            )),
            status @ 400..500 => Err(format!(
                "{}. Nothing was changed. See that name, Region and credentials are right (--function, AWS_REGION, AWS_PROFILE), and that you may do this",
                refusal(status, &answer.body)
            )),
            status => Err(in_doubt(refusal(status, &answer.body))),
        }
    }

    fn endpoint(&self, region: &str) -> String {
        signed::endpoint(&self.config, "LAMBDA", "lambda", region)
    }
}

/// Lambda's own words for why it did not invoke the function, or could not.
fn refusal(status: u16, body: &[u8]) -> String {
    let verb = if status >= 500 { "failed" } else { "refuses" };
    format!("Lambda {verb} ({status}): {}", signed::words(body).trim_end_matches('.'))
}

/// A name or ARN as one piece of a path.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_is_one_piece_of_the_path() {
        assert_eq!(
            escape("arn:aws:lambda:eu-west-1:1:function:x"),
            "arn%3Aaws%3Alambda%3Aeu-west-1%3A1%3Afunction%3Ax"
        );
        assert_eq!(escape("../a?b"), "..%2Fa%3Fb");
    }

    #[test]
    fn a_refusal_is_told_in_lambdas_words() {
        let body = br#"{"Type":"User","Message":"Function not found: x"}"#;
        assert_eq!(refusal(404, body), "Lambda refuses (404): Function not found: x");
        assert_eq!(refusal(502, b"<html>"), "Lambda failed (502): <html>");
        assert_eq!(refusal(429, br#"{"Message":"Rate Exceeded."}"#), "Lambda refuses (429): Rate Exceeded");
    }
}
