//! The SDK's errors in the words of the core: what to do next, AWS's own code, one line of text.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};

use super::call::Call;
use crate::core::model::{CloudError, Failure};

/// The code by which EC2 answers a dry run: it would have been allowed.
pub(super) const DRY_RUN_ALLOWED: &str = "DryRunOperation";

/// Longest message kept. `UnauthorizedOperation` carries a kilobyte that only AWS can decode.
const MESSAGE_MAX_CHARS: usize = 300;

/// The code of a call that was not answered in time.
pub(super) const TIMEOUT: &str = "Timeout";

/// Most errors told of a chain of causes.
const CAUSES_MAX: usize = 8;

pub(super) fn no_region() -> CloudError {
    failed(
        Failure::Invalid,
        "NoRegion",
        "no AWS Region is set: set AWS_REGION, or AWS_PROFILE to a profile that has one",
    )
}

pub(super) fn too_many_pages(call: Call, max_pages: usize) -> CloudError {
    failed(Failure::Invalid, "TooManyPages", &format!("{call:?} has more than {max_pages} pages: none of them is used"))
}

/// What an error of the SDK means. Codes that are not AWS's own: `Timeout` (nothing within the time limit), `Connect`
/// (no connection), `Response` (no answer of AWS, or none that can be read), `NoCredentials`, `Request` (never sent).
pub(super) fn classify<E>(error: &SdkError<E, HttpResponse>) -> CloudError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ServiceError(answer) => {
            service(answer.err().code(), answer.err().message(), answer.raw().status().as_u16())
        }
        SdkError::TimeoutError(_) => failed(Failure::Transient, TIMEOUT, &causes(error)),
        SdkError::ResponseError(_) => failed(Failure::Transient, "Response", &causes(error)),
        SdkError::DispatchFailure(dispatch) if dispatch.is_timeout() => {
            failed(Failure::Transient, TIMEOUT, &causes(error))
        }
        SdkError::DispatchFailure(dispatch) => {
            if let Some(missing) = find::<CredentialsError>(error) {
                no_credentials(missing)
            } else if find::<hyper::Error>(error).is_some() {
                failed(Failure::Transient, "Response", &causes(error))
            } else if dispatch.is_io() || dispatch.as_other().is_some() {
                failed(Failure::Transient, "Connect", &causes(error))
            } else {
                // Not sent. That credentials took too long to load is told like this, too, by a type of the SDK's own.
                let failure = if dispatch.is_user() { Failure::Invalid } else { Failure::Transient };
                failed(failure, "Request", &causes(error))
            }
        }
        _ => failed(Failure::Invalid, "Request", &causes(error)),
    }
}

fn service(code: Option<&str>, message: Option<&str>, status: u16) -> CloudError {
    let server_fault = status >= 500;
    match code {
        Some(code) => CloudError::from_code(code, &one_line(message.unwrap_or("AWS gave no reason")), server_fault),
        // A page of something on the way: a proxy, a load balancer, an emulator's crash.
        None if server_fault || status < 400 || status == 408 || status == 429 => {
            failed(Failure::Transient, "Response", &format!("HTTP status {status}, but no error of AWS in the answer"))
        }
        None => failed(
            Failure::Invalid,
            "Response",
            &format!("HTTP status {status}, but no error of AWS in the answer: is the endpoint AWS's?"),
        ),
    }
}

fn no_credentials(missing: &CredentialsError) -> CloudError {
    // A source that was too slow, or failed, may do better next time; one that has none will not.
    let failure = match missing {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => Failure::NotPermitted,
        _ => Failure::Transient,
    };
    let text = format!(
        "no AWS credentials: give the function or the instance a role, or set AWS_PROFILE or AWS_ACCESS_KEY_ID and its secret ({})",
        causes(missing)
    );
    failed(failure, "NoCredentials", &text)
}

fn failed(failure: Failure, code: &str, message: &str) -> CloudError {
    CloudError { failure, code: code.to_owned(), message: one_line(message) }
}

/// One line of at most [`MESSAGE_MAX_CHARS`] characters.
pub(super) fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut line = String::new();
    for (count, c) in words.flat_map(|word| [" ", word]).flat_map(str::chars).skip(1).enumerate() {
        if count + 1 == MESSAGE_MAX_CHARS {
            line.push('…');
            break;
        }
        line.push(c);
    }
    line
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source()).take(CAUSES_MAX)
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|error| error.downcast_ref())
}

pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut told: Vec<String> = Vec::new();
    for cause in chain(error) {
        let text = cause.to_string();
        // Many errors already quote their cause.
        if !told.iter().any(|earlier| earlier.contains(&text)) {
            told.push(text);
        }
    }
    told.join(": ")
}
