//! How long a request may take: as its client says with `timeout`, and never longer than upstream's
//! limit for requests that are not long-running.

use std::time::Duration;

use coffer_api::go::duration::{self, DurationError};
use coffer_api::reason::Reason;
use coffer_api::status::Failure;

use crate::request::RequestInfo;

/// The longest timeout of a request, whatever its client says.
pub(crate) const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// The timeout of a request; `None` for watches and tunnels.
///
/// # Errors
/// 400 for a `timeout` that is not a duration in Go's syntax.
pub(crate) fn of(info: &RequestInfo) -> Result<Option<Duration>, Failure> {
    if info.resource.is_none() || info.is_long_running() {
        return Ok(None);
    }
    let asked = info.query.get("timeout").map(parse).transpose().map_err(|why| {
        Failure::bad_request(format!("invalid timeout specified in the request URL - {why}"))
    })?;
    // Zero means the server's default.
    Ok(Some(
        asked
            .filter(|asked| !asked.is_zero())
            .unwrap_or(REQUEST_TIMEOUT_MAX)
            .min(REQUEST_TIMEOUT_MAX),
    ))
}

/// 504 for a request that did not end in time.
pub(crate) fn exceeded() -> Failure {
    let why =
        "Timeout: request did not complete within requested timeout - context deadline exceeded";
    let mut failure = Failure::plain(Reason::Timeout, why);
    failure.details = Some(Box::default());
    failure
}

/// A negative one counts as 0.
fn parse(text: &str) -> Result<Duration, DurationError> {
    duration::parse(text).map(|asked| asked.try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, milliseconds) in [
            ("30s", 30_000),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
            ("300ms", 300),
            ("0", 0),
            ("-5s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(parse("30").unwrap_err().to_string(), "time: missing unit in duration \"30\"");
    }
}
