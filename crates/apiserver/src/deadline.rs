//! How long a request may take: as its client says with `timeout`, and never longer than upstream
//! lets any request take that is not long by nature.

use std::time::Duration;

use coffer_api::reason::Reason;
use coffer_api::status::Failure;

use crate::request::RequestInfo;

/// Longest time of a request, whatever its client says.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// The time a request has; `None` for watches and tunnels.
///
/// # Errors
/// 400 for a `timeout` that is no duration as Go writes them.
pub(crate) fn of(info: &RequestInfo) -> Result<Option<Duration>, Failure> {
    if info.resource.is_none() || info.is_long_running() {
        return Ok(None);
    }
    let asked = info.query.get("timeout").map(parse).transpose().map_err(|why| {
        Failure::bad_request(format!("invalid timeout specified in the request URL - time: {why}"))
    })?;
    // No time at all means that the client leaves it to the server.
    Ok(Some(asked.filter(|asked| !asked.is_zero()).unwrap_or(LONGEST).min(LONGEST)))
}

/// 504 for a request that did not end in time.
pub(crate) fn exceeded() -> Failure {
    let why =
        "Timeout: request did not complete within requested timeout - context deadline exceeded";
    let mut failure = Failure::plain(Reason::Timeout, why);
    failure.details = Some(Box::default());
    failure
}

/// Reads `1m30s`, `1.5h`, `300ms`. A negative one is over at once, and so is none at all.
fn parse(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid duration {text:?}");
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "" => return Err(format!("missing unit in duration {text:?}")),
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            other => return Err(format!("unknown unit {other:?} in duration {text:?}")),
        };
        seconds += number * unit;
        rest = &rest[letters..];
    }
    if negative {
        return Ok(Duration::ZERO);
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| invalid())
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
        for (text, why) in [
            ("soon", "invalid duration \"soon\""),
            ("30", "missing unit in duration \"30\""),
            ("30x", "unknown unit \"x\" in duration \"30x\""),
            ("-", "invalid duration \"-\""),
            ("1.2.3s", "invalid duration \"1.2.3s\""),
        ] {
            assert_eq!(parse(text), Err(why.to_owned()));
        }
    }
}
