//! What a request to the kubelet's server asks for. Pure.

use coffer_api::go;
use http::Method;
use k8s_openapi::jiff::Timestamp;
use percent_encoding::percent_decode_str;

/// One of the things the server does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Health,
    /// The pods of this node, as the API server has them.
    Pods,
    /// A manifest to run: the kubelet's own input of pods.
    PutPod,
    /// Ends a pod that came by [`Self::PutPod`].
    RemovePod(Target),
    Logs(Target, LogOptions),
    Exec(Target, ExecOptions),
    Attach(Target, ExecOptions),
    PortForward(Target, Vec<i32>),
}

/// A container, or a pod where `container` is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) uid: Option<String>,
    pub(super) container: String,
}

/// Which part of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LogOptions {
    pub(super) follow: bool,
    pub(super) previous: bool,
    pub(super) timestamps: bool,
    pub(super) tail_lines: Option<u64>,
    pub(super) limit_bytes: Option<u64>,
    pub(super) since: Option<Since>,
}

/// From when on a log is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Since {
    Seconds(i64),
    Time(Timestamp),
}

/// What to run, and which streams to connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ExecOptions {
    pub(super) command: Vec<String>,
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

/// Why a request is not one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RouteError {
    NotFound,
    MethodNotAllowed,
    /// What is wrong, for the client.
    BadRequest(String),
}

impl Route {
    pub(super) fn of(method: &Method, path: &str, query: Option<&str>) -> Result<Self, RouteError> {
        let decoded: Option<Vec<String>> = path
            .trim_start_matches('/')
            .split('/')
            .map(|part| percent_decode_str(part).decode_utf8().ok().map(Into::into))
            .collect();
        let parts = decoded.ok_or(RouteError::NotFound)?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let query = Query::parse(query.unwrap_or_default());
        let only_get = |route: Result<Self, RouteError>| {
            if method == Method::GET { route } else { Err(RouteError::MethodNotAllowed) }
        };
        let streams = |route: Result<Self, RouteError>| {
            let allowed = method == Method::GET || method == Method::POST;
            if allowed { route } else { Err(RouteError::MethodNotAllowed) }
        };
        match parts.as_slice() {
            ["healthz"] => only_get(Ok(Self::Health)),
            ["pods"] if method == Method::POST => Ok(Self::PutPod),
            ["pods"] => only_get(Ok(Self::Pods)),
            ["pods", namespace, pod] if method == Method::DELETE => {
                Ok(Self::RemovePod(target(namespace, pod, None, "")))
            }
            ["containerLogs", namespace, pod, container] => only_get(
                log_options(&query)
                    .map(|options| Self::Logs(target(namespace, pod, None, container), options)),
            ),
            ["exec", rest @ ..] => {
                streams(container(rest).map(|target| Self::Exec(target, exec_options(&query))))
            }
            ["attach", rest @ ..] => {
                streams(container(rest).map(|target| Self::Attach(target, exec_options(&query))))
            }
            ["portForward", namespace, pod] => streams(
                ports(&query).map(|p| Self::PortForward(target(namespace, pod, None, ""), p)),
            ),
            ["portForward", namespace, pod, uid] => streams(
                ports(&query).map(|p| Self::PortForward(target(namespace, pod, Some(uid), ""), p)),
            ),
            _ => Err(RouteError::NotFound),
        }
    }
}

fn container(parts: &[&str]) -> Result<Target, RouteError> {
    match parts {
        [namespace, pod, container] => Ok(target(namespace, pod, None, container)),
        [namespace, pod, uid, container] => Ok(target(namespace, pod, Some(uid), container)),
        _ => Err(RouteError::NotFound),
    }
}

fn target(namespace: &str, pod: &str, uid: Option<&str>, container: &str) -> Target {
    Target {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        uid: uid.map(str::to_owned),
        container: container.to_owned(),
    }
}

/// The API server says `input`, `output` and `error`; the API's own names are taken as well.
fn exec_options(query: &Query) -> ExecOptions {
    let either = |a, b| query.flag(a) || query.flag(b);
    let tty = query.flag("tty");
    ExecOptions {
        command: query.all("command").map(str::to_owned).collect(),
        stdin: either("input", "stdin"),
        stdout: either("output", "stdout"),
        // A terminal has one output.
        stderr: either("error", "stderr") && !tty,
        tty,
    }
}

fn ports(query: &Query) -> Result<Vec<i32>, RouteError> {
    let listed = query.all("ports").chain(query.all("port")).flat_map(|list| list.split(','));
    let port = |text: &str| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(i32::from(port)),
        _ => Err(RouteError::BadRequest(format!("invalid port {text:?}"))),
    };
    listed.map(port).collect()
}

fn log_options(query: &Query) -> Result<LogOptions, RouteError> {
    let invalid = |name: &str, text: &str| {
        RouteError::BadRequest(format!("invalid value {text:?} for {name}"))
    };
    let number = |name: &'static str| match query.first(name) {
        None | Some("") => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| invalid(name, text)),
    };
    let seconds = query.first("sinceSeconds").filter(|text| !text.is_empty());
    let time = query.first("sinceTime").filter(|text| !text.is_empty());
    let since = match (seconds, time) {
        (Some(text), None) => match text.parse::<i64>() {
            Ok(seconds) if seconds > 0 => Some(Since::Seconds(seconds)),
            _ => return Err(invalid("sinceSeconds", text)),
        },
        (None, Some(text)) => {
            Some(Since::Time(text.parse().map_err(|_| invalid("sinceTime", text))?))
        }
        (None, None) => None,
        (Some(_), Some(_)) => {
            let message = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            return Err(RouteError::BadRequest(message.to_owned()));
        }
    };
    let limit_bytes = number("limitBytes")?;
    if limit_bytes == Some(0) {
        return Err(invalid("limitBytes", "0"));
    }
    Ok(LogOptions {
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        timestamps: query.flag("timestamps"),
        tail_lines: number("tailLines")?.or(number("tail")?),
        limit_bytes,
        since,
    })
}

/// A query string, decoded.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        let pairs = form_urlencoded::parse(text.as_bytes());
        Self(pairs.map(|(key, value)| (key.into_owned(), value.into_owned())).collect())
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn first<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next()
    }

    fn flag(&self, name: &str) -> bool {
        self.first(name).and_then(go::parse_bool) == Some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(uri: &str) -> Result<Route, RouteError> {
        let (path, query) = uri.split_once('?').map_or((uri, None), |(p, q)| (p, Some(q)));
        Route::of(&Method::GET, path, query)
    }

    #[test]
    fn an_exec_is_read_in_the_api_servers_words_and_in_the_apis() {
        let options = ExecOptions {
            command: vec!["ls".to_owned(), "/etc/foo bar".to_owned()],
            stdin: true,
            stdout: true,
            stderr: true,
            tty: false,
        };
        for uri in [
            "/exec/ns/p/c?command=ls&command=%2Fetc%2Ffoo+bar&input=1&output=1&error=1",
            "/exec/ns/p/c?command=ls&command=%2Fetc%2Ffoo%20bar&stdin=true&stdout=true&stderr=true",
        ] {
            let expected = Route::Exec(target("ns", "p", None, "c"), options.clone());
            assert_eq!(get(uri), Ok(expected));
        }
        let Ok(Route::Exec(target, options)) = get("/exec/ns/p/u-1/c?tty=1&output=1&error=1")
        else {
            panic!("an exec with a uid");
        };
        assert_eq!(target.uid.as_deref(), Some("u-1"));
        assert!(options.tty && !options.stderr);
    }

    #[test]
    fn log_options_are_read_and_wrong_ones_refused() {
        let Ok(Route::Logs(_, options)) =
            get("/containerLogs/ns/p/c?follow=true&tailLines=5&sinceSeconds=60&timestamps=true")
        else {
            panic!("a log");
        };
        assert!(options.follow && options.timestamps && !options.previous);
        assert_eq!((options.tail_lines, options.since), (Some(5), Some(Since::Seconds(60))));
        for wrong in [
            "tailLines=-1",
            "sinceSeconds=0",
            "sinceTime=x",
            "limitBytes=0",
            "sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z",
        ] {
            let result = get(&format!("/containerLogs/ns/p/c?{wrong}"));
            assert!(matches!(result, Err(RouteError::BadRequest(_))), "{wrong}");
        }
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        assert_eq!(get("/"), Err(RouteError::NotFound));
        assert_eq!(get("/run/ns/p/c"), Err(RouteError::NotFound));
        assert_eq!(get("/exec/ns/p"), Err(RouteError::NotFound));
        assert_eq!(get("/pods/ns/p"), Err(RouteError::NotFound));
        assert_eq!(Route::of(&Method::POST, "/pods", None), Ok(Route::PutPod));
        let delete = Route::of(&Method::DELETE, "/exec/ns/p/c", None);
        assert_eq!(delete, Err(RouteError::MethodNotAllowed));
        let post = Route::of(&Method::POST, "/containerLogs/ns/p/c", None);
        assert_eq!(post, Err(RouteError::MethodNotAllowed));
    }
}
