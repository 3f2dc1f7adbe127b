//! `/healthz`, `/livez` and `/readyz`: one word for machines, and with `?verbose` each check by name.
//!
//! Any client may ask, so that a failed check says that it failed and never why.

use std::fmt::Write as _;

use http::StatusCode;
use tokio_util::sync::CancellationToken;

use crate::registry::Registry;
use crate::request::Query;
use crate::respond::{self, Response};

/// A health check, with upstream's name: programs exclude checks by these names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Check {
    /// The server responds at all.
    Ping,
    /// Something can be logged; nothing that logs can block here.
    Log,
    /// The store can be read.
    Store,
    /// The watch cache has what the store has.
    CacheSync,
    /// The server is not about to stop.
    Shutdown,
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Log => "log",
            Self::Store => "etcd",
            Self::CacheSync => "informer-sync",
            Self::Shutdown => "shutdown",
        }
    }

    async fn passes(self, registry: &Registry, shutdown: &CancellationToken) -> bool {
        match self {
            Self::Ping | Self::Log => true,
            Self::Store => registry.store_is_ready().await,
            Self::CacheSync => registry.fresh().await.is_ok(),
            Self::Shutdown => !shutdown.is_cancelled(),
        }
    }
}

/// The checks below a path.
fn checks(root: &str) -> Option<&'static [Check]> {
    match root {
        "healthz" | "livez" => Some(&[Check::Ping, Check::Log, Check::Store]),
        "readyz" => {
            Some(&[Check::Ping, Check::Log, Check::Store, Check::CacheSync, Check::Shutdown])
        }
        _ => None,
    }
}

/// The response at a health path; `None` at another one.
pub(crate) async fn response(
    path: &str,
    query: &Query,
    registry: &Registry,
    shutdown: &CancellationToken,
) -> Option<Response> {
    let path = path.strip_prefix('/')?;
    let (root, one) = path.split_once('/').map_or((path, None), |(root, one)| (root, Some(one)));
    let checks = checks(root)?;
    let Some(one) = one.filter(|one| !one.is_empty()) else {
        return Some(all(root, checks, query, registry, shutdown).await);
    };
    let Some(check) = checks.iter().find(|check| check.name() == one) else {
        return Some(respond::text(StatusCode::NOT_FOUND, "404 page not found\n"));
    };
    Some(if check.passes(registry, shutdown).await {
        respond::text(StatusCode::OK, "ok")
    } else {
        let failed = "internal server error: reason withheld\n";
        respond::text(StatusCode::INTERNAL_SERVER_ERROR, failed)
    })
}

async fn all(
    root: &str,
    checks: &[Check],
    query: &Query,
    registry: &Registry,
    shutdown: &CancellationToken,
) -> Response {
    let excluded = query.all("exclude");
    let (mut lines, mut failed) = (String::new(), false);
    for check in checks {
        let name = check.name();
        let line = if excluded.iter().any(|excluded| excluded == name) {
            format!("[+]{name} excluded: ok\n")
        } else if check.passes(registry, shutdown).await {
            format!("[+]{name} ok\n")
        } else {
            failed = true;
            format!("[-]{name} failed: reason withheld\n")
        };
        lines.push_str(&line);
    }
    let known = |name: &String| checks.iter().any(|check| check.name() == name);
    let mut unknown: Vec<String> =
        excluded.iter().filter(|name| !known(name)).map(|name| format!("{name:?}")).collect();
    unknown.sort();
    if !unknown.is_empty() {
        let unknown = unknown.join(",");
        lines +=
            &format!("warn: some health checks cannot be excluded: no matches for {unknown}\n");
    }
    if failed {
        let _ = writeln!(lines, "{root} check failed");
        return respond::text(StatusCode::INTERNAL_SERVER_ERROR, lines);
    }
    if !query.given("verbose") {
        return respond::text(StatusCode::OK, "ok");
    }
    let _ = writeln!(lines, "{root} check passed");
    respond::text(StatusCode::OK, lines)
}
