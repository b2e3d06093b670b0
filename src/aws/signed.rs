//! A signed request to a service of AWS whose SDK crate would be a hundred thousand lines more for one call.

use aws_config::SdkConfig;
use aws_sdk_ec2::config::ProvideCredentials;
use aws_sdk_ec2::config::http::HttpRequest;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Connector, tls};
use aws_smithy_runtime_api::client::http::HttpConnector;
use http_body_util::{BodyExt, Limited};

/// How much of an answer that cannot be read is shown.
const MAX_SHOWN_CHARS: usize = 300;

/// What a service answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Whether Lambda says that the function failed.
    pub function_error: bool,
    /// The body.
    pub body: Vec<u8>,
}

/// The Region that is set.
///
/// # Errors
/// None is.
pub fn region(config: &SdkConfig) -> Result<String, String> {
    config
        .region()
        .map(ToString::to_string)
        .ok_or_else(|| "no Region is set: set AWS_REGION, or AWS_PROFILE".to_owned())
}

/// Where a service is: as the environment says for it (`AWS_ENDPOINT_URL_…`) or for all, or else AWS's own endpoint.
pub fn endpoint(config: &SdkConfig, variable: &str, name: &str, region: &str) -> String {
    let own = std::env::var(format!("AWS_ENDPOINT_URL_{variable}")).ok().filter(|url| !url.is_empty());
    match own.or_else(|| config.endpoint_url().map(str::to_owned)) {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None if config.use_dual_stack() == Some(true) => format!("https://{name}.{region}.api.aws"),
        None if region.starts_with("cn-") => format!("https://{name}.{region}.amazonaws.com.cn"),
        None => format!("https://{name}.{region}.amazonaws.com"),
    }
}

/// A request, before it is signed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The service, as signatures name it.
    pub service: &'a str,
    /// The HTTP method.
    pub method: &'a str,
    /// Where to.
    pub uri: &'a str,
    /// Headers that are signed.
    pub headers: &'a [(&'static str, &'static str)],
    /// The body.
    pub body: &'a str,
}

/// Signs a request, sends it, and reads the answer, of at most so many bytes.
///
/// # Errors
/// There was no answer: a sentence that says why.
pub async fn send(config: &SdkConfig, request: Request<'_>, max_bytes: usize) -> Result<Answer, String> {
    answer(sign_request(config, request).await?, max_bytes).await
}

/// Makes and signs a request, and sends nothing.
///
/// # Errors
/// Why it cannot be made: a sentence.
pub async fn sign_request(config: &SdkConfig, request: Request<'_>) -> Result<HttpRequest, String> {
    let Request { service, method, uri, headers, body: payload } = request;
    let region = region(config)?;
    let provider = config.credentials_provider().ok_or("there are no credentials")?;
    let credentials =
        provider.provide_credentials().await.map_err(|error| format!("there are no credentials: {}", chain(&error)))?;
    let identity = credentials.into();
    let settings = v4::SigningParams::builder()
        .identity(&identity)
        .region(&region)
        .name(service)
        .time(std::time::SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| format!("the request cannot be signed: {error}"))?;
    let signable = SignableRequest::new(method, uri, headers.iter().copied(), SignableBody::Bytes(payload.as_bytes()))
        .map_err(|error| format!("the request cannot be signed: {}", chain(&error)))?;
    let signed =
        sign(signable, &settings.into()).map_err(|error| format!("the request cannot be signed: {}", chain(&error)))?;
    let (instructions, _) = signed.into_parts();
    let (signatures, _) = instructions.into_parts();

    let mut request = HttpRequest::empty();
    request.set_method(method).map_err(|error| chain(&error))?;
    request.set_uri(uri).map_err(|error| format!("'{uri}' is no URL: {}", chain(&error)))?;
    *request.body_mut() = payload.as_bytes().to_vec().into();
    for (name, value) in headers {
        request.headers_mut().insert(*name, *value);
    }
    for signature in &signatures {
        request.headers_mut().insert(signature.name(), signature.value().to_owned());
    }
    Ok(request)
}

/// Sends a request, and reads the answer, of at most so many bytes.
///
/// # Errors
/// There was no answer: a sentence that says why.
pub async fn answer(request: HttpRequest, max_bytes: usize) -> Result<Answer, String> {
    let uri = request.uri().to_owned();
    let connector = Connector::builder()
        .proxy_config(ProxyConfig::from_env())
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build();
    let response = connector.call(request).await.map_err(|error| format!("no answer from {uri}: {}", chain(&error)))?;
    let status = response.status().as_u16();
    let function_error = response.headers().get("x-amz-function-error").is_some();
    let body = Limited::new(response.into_body(), max_bytes).collect().await;
    let body = body.map_err(|error| format!("its answer broke off: {error}"))?.to_bytes().to_vec();
    Ok(Answer { status, function_error, body })
}

/// The service's own words for why it refuses.
pub fn words(body: &[u8]) -> String {
    let message = serde_json::from_slice::<serde_json::Value>(body).ok().and_then(|body| {
        let message = body.get("Message").or_else(|| body.get("message"))?;
        message.as_str().map(str::to_owned)
    });
    message.unwrap_or_else(|| String::from_utf8_lossy(body).chars().take(MAX_SHOWN_CHARS).collect())
}

/// The error and what is behind it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}
