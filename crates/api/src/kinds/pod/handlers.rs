//! Probes and lifecycle hooks.

use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler, Probe, SleepAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::field::{Error, ErrorList, Path};
use crate::kinds::meta::invalid_each;
use crate::kinds::optional::{list, text};
use crate::names;

/// Hooks and probes of a container that runs next to others (not of an ordinary init container).
pub(super) fn validate(container: &Container, grace_s: Option<i64>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(lifecycle) = &container.lifecycle {
        errors.extend(validate_lifecycle(lifecycle, grace_s, &path.child("lifecycle")));
    }
    if let Some(probe) = &container.liveness_probe {
        errors.extend(validate_single_success(probe, &path.child("livenessProbe")));
    }
    if let Some(probe) = &container.readiness_probe {
        let path = path.child("readinessProbe");
        errors.extend(validate_probe(probe, &path));
        if let Some(grace_s) = probe.termination_grace_period_seconds {
            let path = path.child("terminationGracePeriodSeconds");
            errors.push(Error::invalid(&path, grace_s, "must not be set for readinessProbes"));
        }
    }
    if let Some(probe) = &container.startup_probe {
        errors.extend(validate_single_success(probe, &path.child("startupProbe")));
    }
    errors
}

fn validate_single_success(probe: &Probe, path: &Path) -> ErrorList {
    let mut errors = validate_probe(probe, path);
    let threshold = probe.success_threshold.unwrap_or_default();
    if threshold != 1 {
        errors.push(Error::invalid(&path.child("successThreshold"), threshold, "must be 1"));
    }
    errors
}

fn validate_probe(probe: &Probe, path: &Path) -> ErrorList {
    let mut handlers = Handlers::new(path);
    handlers.exec(&probe.exec);
    handlers.http(&probe.http_get);
    let tcp = probe.tcp_socket.as_ref().map(|tcp| &tcp.port);
    handlers.add("tcpSocket", tcp, |port, path| port_or_name(port, &path.child("port")));
    let grpc = probe.grpc.as_ref().map(|grpc| IntOrString::Int(grpc.port));
    handlers.add("grpc", grpc.as_ref(), |port, path| port_or_name(port, &path.child("port")));
    let mut errors = handlers.finish();
    for (name, value) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        if let Some(value) = value.filter(|value| *value < 0) {
            let detail = "must be greater than or equal to 0";
            errors.push(Error::invalid(&path.child(name), value, detail));
        }
    }
    if let Some(grace_s) = probe.termination_grace_period_seconds.filter(|grace_s| *grace_s <= 0) {
        let path = path.child("terminationGracePeriodSeconds");
        errors.push(Error::invalid(&path, grace_s, "must be greater than 0"));
    }
    errors
}

fn validate_lifecycle(lifecycle: &Lifecycle, grace_s: Option<i64>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (name, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if let Some(hook) = hook {
            errors.extend(validate_hook(hook, grace_s, &path.child(name)));
        }
    }
    errors
}

fn validate_hook(hook: &LifecycleHandler, grace_s: Option<i64>, path: &Path) -> ErrorList {
    let mut handlers = Handlers::new(path);
    handlers.exec(&hook.exec);
    handlers.http(&hook.http_get);
    let tcp = hook.tcp_socket.as_ref().map(|tcp| &tcp.port);
    handlers.add("tcpSocket", tcp, |port, path| port_or_name(port, &path.child("port")));
    handlers.add("sleep", hook.sleep.as_ref(), |sleep, path| sleep_errors(sleep, grace_s, path));
    handlers.finish()
}

fn sleep_errors(sleep: &SleepAction, grace_s: Option<i64>, path: &Path) -> ErrorList {
    match grace_s {
        Some(grace_s) if !(0..=grace_s).contains(&sleep.seconds) => {
            let detail = format!(
                "must be non-negative and less than terminationGracePeriodSeconds ({grace_s})"
            );
            vec![Error::invalid(path, sleep.seconds, detail)]
        }
        _ => ErrorList::new(),
    }
}

/// Collects errors of handlers of which exactly one may be given.
struct Handlers<'a> {
    path: &'a Path,
    found: bool,
    errors: ErrorList,
}

impl<'a> Handlers<'a> {
    fn new(path: &'a Path) -> Self {
        Self { path, found: false, errors: ErrorList::new() }
    }

    fn add<T>(
        &mut self,
        name: &str,
        handler: Option<&T>,
        validate: impl Fn(&T, &Path) -> ErrorList,
    ) {
        let Some(handler) = handler else { return };
        let path = self.path.child(name);
        if self.found {
            self.errors.push(Error::forbidden(&path, "may not specify more than 1 handler type"));
        } else {
            self.errors.extend(validate(handler, &path));
        }
        self.found = true;
    }

    fn exec(&mut self, exec: &Option<ExecAction>) {
        self.add("exec", exec.as_ref(), |exec, path| {
            let empty = list(&exec.command).is_empty();
            empty.then(|| Error::required(&path.child("command"), "")).into_iter().collect()
        });
    }

    fn http(&mut self, http: &Option<HTTPGetAction>) {
        self.add("httpGet", http.as_ref(), http_errors);
    }

    fn finish(mut self) -> ErrorList {
        if !self.found {
            self.errors.push(Error::required(self.path, "must specify a handler type"));
        }
        self.errors
    }
}

fn http_errors(http: &HTTPGetAction, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if text(&http.path).is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
    }
    errors.extend(port_or_name(&http.port, &path.child("port")));
    let scheme = text(&http.scheme);
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.push(Error::not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]));
    }
    for header in list(&http.http_headers) {
        let found = names::http_header_name(&header.name);
        errors.extend(invalid_each(&path.child("httpHeaders"), &header.name, found));
    }
    errors
}

fn port_or_name(port: &IntOrString, path: &Path) -> ErrorList {
    match port {
        IntOrString::Int(number) => names::port_number((*number).into())
            .into_iter()
            .map(|detail| Error::invalid(path, *number, detail))
            .collect(),
        IntOrString::String(name) => invalid_each(path, name, names::port_name(name)),
    }
}
