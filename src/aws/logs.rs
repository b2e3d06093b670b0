//! The function's log out of CloudWatch Logs, for `eipwatch replay --function`: FilterLogEvents, page by page.

use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::signed;
use crate::core::time::Time;
use crate::replay::read::{Log, Reader};

/// The most pages that are asked for: each has up to 1 MB, or 10,000 events.
pub const MAX_PAGES: u32 = 5_000;
/// How long one page may take.
const PAGE_LIMIT: Duration = Duration::from_secs(60);
/// The largest page: 1 MB of events, and what JSON adds to it.
const MAX_PAGE_BYTES: usize = 16 << 20;
/// How often a page is tried while CloudWatch Logs throttles.
const MAX_TRIES: u32 = 6;
/// Before the second try; then twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    events: Vec<Event>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    log_stream_name: Option<String>,
    message: Option<String>,
}

/// Reads a log group from one time to another.
///
/// # Errors
/// It cannot be read to its end: a sentence that says why. Nothing is changed by asking.
pub async fn read(group: &str, from: Time, to: Time) -> Result<Log, String> {
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(super::http_client()).load().await;
    let region = signed::region(&config)?;
    let uri = format!("{}/", signed::endpoint(&config, "CLOUDWATCH_LOGS", "logs", &region));
    let mut reader = Reader::default();
    let mut token: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let page = page(&config, &uri, group, from, to, token.as_deref()).await?;
        for event in &page.events {
            if let Some(message) = &event.message {
                reader.line(message, event.log_stream_name.as_deref());
            }
        }
        match page.next_token {
            Some(next) if !reader.is_full() => token = Some(next),
            Some(_) => return Err("the log is too long for one replay: ask for a shorter time".to_owned()),
            None => return Ok(reader.end()),
        }
    }
    Err(format!("the log has more than {MAX_PAGES} pages: ask for a shorter time"))
}

async fn page(
    config: &SdkConfig,
    uri: &str,
    group: &str,
    from: Time,
    to: Time,
    token: Option<&str>,
) -> Result<Page, String> {
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", "Logs_20140328.FilterLogEvents")];
    let mut body = Map::new();
    body.insert("logGroupName".to_owned(), json!(group));
    body.insert("startTime".to_owned(), json!(from.as_millis()));
    body.insert("endTime".to_owned(), json!(to.as_millis()));
    if let Some(token) = token {
        body.insert("nextToken".to_owned(), json!(token));
    }
    let body = Value::Object(body).to_string();
    let request = signed::Request { service: "logs", method: "POST", uri, headers: &headers, body: &body };
    let mut pause = FIRST_PAUSE;
    for tries in 1..=MAX_TRIES {
        let asked = signed::send(config, request, MAX_PAGE_BYTES);
        let answer = tokio::time::timeout(PAGE_LIMIT, asked)
            .await
            .map_err(|_| format!("CloudWatch Logs gave no answer within {} s", PAGE_LIMIT.as_secs()))??;
        let text = String::from_utf8_lossy(&answer.body);
        let again = answer.status >= 500 || (answer.status == 400 && text.contains("Throttling"));
        match answer.status {
            200 => {
                return serde_json::from_slice(&answer.body)
                    .map_err(|error| format!("CloudWatch Logs answers what is no page of a log: {error}"));
            }
            _ if again && tries < MAX_TRIES => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            400 if text.contains("ResourceNotFoundException") => {
                return Err(format!(
                    "there is no log group {group} in this Region and account; --log-group names another"
                ));
            }
            status => return Err(format!("CloudWatch Logs refuses ({status}): {}", signed::words(&answer.body))),
        }
    }
    Err("CloudWatch Logs throttles".to_owned())
}
