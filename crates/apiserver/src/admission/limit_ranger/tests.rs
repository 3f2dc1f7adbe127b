use serde_json::{Value, json};

use super::*;

fn ranges(all: &[Value]) -> Named<Limits> {
    let range = |(at, limits): (usize, &Value)| {
        let mut range: LimitRange =
            serde_json::from_value(json!({ "spec": { "limits": limits } })).unwrap();
        coffer_api::kinds::Kind::set_defaults(&mut range);
        (format!("range-{at}"), Limits::of(range).map(Arc::new))
    };
    all.iter().enumerate().map(range).collect()
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({ "metadata": { "name": "p", "namespace": "n" }, "spec": spec }))
        .unwrap()
}

fn one(resources: Value) -> Value {
    json!({ "containers": [{ "name": "c", "resources": resources }] })
}

fn refusal(range: Value, spec: Value) -> String {
    apply(&ranges(&[json!([range])]), &mut pod(spec)).err().unwrap_or_default()
}

fn admitted(all: &[Value], spec: Value) -> Value {
    let mut pod = pod(spec);
    assert_eq!(apply(&ranges(all), &mut pod), Ok(()));
    serde_json::to_value(&pod).unwrap()
}

#[test]
fn containers_and_init_containers_get_defaults() {
    let range = json!([{ "type": "Container", "default": { "cpu": "1", "memory": "64Mi" },
        "defaultRequest": { "cpu": "500m" } }]);
    let made = admitted(
        &[range],
        json!({
            "containers": [
                { "name": "c" },
                { "name": "d", "resources": { "limits": { "cpu": "2" }, "requests": { "cpu": "2" } } },
                { "name": "e", "resources": { "limits": { "cpu": "2", "memory": "1" }, "requests": { "cpu": "2", "memory": "1" } } },
            ],
            "initContainers": [{ "name": "i", "resources": { "requests": { "cpu": "100m", "memory": "1Mi" } } }],
        }),
    );
    let resources = |at: &str| made["spec"].pointer(at).unwrap()["resources"].clone();
    assert_eq!(
        resources("/containers/0"),
        json!({ "limits": { "cpu": "1", "memory": "64Mi" }, "requests": { "cpu": "500m", "memory": "64Mi" } })
    );
    assert_eq!(
        resources("/containers/1"),
        json!({ "limits": { "cpu": "2", "memory": "64Mi" }, "requests": { "cpu": "2", "memory": "64Mi" } })
    );
    assert_eq!(
        resources("/initContainers/0"),
        json!({ "limits": { "cpu": "1", "memory": "64Mi" }, "requests": { "cpu": "100m", "memory": "1Mi" } })
    );
    assert_eq!(
        made["metadata"]["annotations"][ANNOTATION],
        "LimitRanger plugin set: cpu, memory request for container c; cpu, memory limit for container c; \
         memory request for container d; memory limit for container d; cpu, memory limit for init container i"
    );
}

#[test]
fn defaults_come_from_the_first_range_by_name_and_limits_from_every_range() {
    let default = |cpu: &str| json!([{ "type": "Container", "default": { "cpu": cpu } }]);
    let made = admitted(&[default("1"), default("2")], one(json!({})));
    let cpu = json!({ "cpu": "1" });
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({ "limits": cpu, "requests": cpu })
    );
    let max = json!([{ "type": "Pod", "max": { "cpu": "500m" } }]);
    let refused = apply(&ranges(&[max, default("1")]), &mut pod(one(json!({}))));
    assert_eq!(refused.unwrap_err(), "maximum cpu usage per Pod is 500m, but limit is 1");
}

#[test]
fn a_pod_without_defaults_gets_no_annotation() {
    let made = admitted(
        &[
            json!([{ "type": "PersistentVolumeClaim", "max": { "storage": "1" } }, { "type": "Pod", "max": { "cpu": "1" } }]),
        ],
        one(json!({ "limits": { "cpu": "1" }, "requests": { "cpu": "1" } })),
    );
    assert_eq!(made["metadata"].get("annotations"), None);
}

#[test]
fn a_pod_beyond_the_limits_is_refused_with_upstreams_message() {
    let cpu = |amount: &str| json!({ "cpu": amount });
    let both =
        |request: &str, limit: &str| one(json!({ "requests": cpu(request), "limits": cpu(limit) }));
    let pod_item = |field: &str, amount: &str| json!({ "type": "Pod", field: cpu(amount) });
    let item = |field: &str, amount: &str| json!({ "type": "Container", field: cpu(amount) });
    for (range, spec, why) in [
        (item("max", "1"), both("1", "2"), "maximum cpu usage per Container is 1, but limit is 2"),
        (item("max", "1"), both("1", "1"), ""),
        // Validation refuses a request above its limit, after this.
        (
            item("max", "1"),
            both("2", "1"),
            "maximum cpu usage per Container is 1, but request is 2",
        ),
        (
            item("max", "1"),
            both("1", "1001m"),
            "maximum cpu usage per Container is 1, but limit is 1001m",
        ),
        (
            pod_item("max", "1"),
            one(json!({})),
            "maximum cpu usage per Pod is 1.  No limit is specified",
        ),
        (
            item("min", "500m"),
            both("100m", "1"),
            "minimum cpu usage per Container is 500m, but request is 100m",
        ),
        (
            item("min", "500m"),
            both("500m", "100m"),
            "minimum cpu usage per Container is 500m, but limit is 100m",
        ),
        (
            pod_item("min", "1"),
            one(json!({})),
            "minimum cpu usage per Pod is 1.  No request is specified",
        ),
        (item("maxLimitRequestRatio", "2"), both("1", "2"), ""),
        (
            item("maxLimitRequestRatio", "2"),
            both("1", "3"),
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
        (
            item("maxLimitRequestRatio", "1500m"),
            both("300m", "451m"),
            "cpu max limit to request ratio per Container is 1500m, but provided ratio is 1.503333",
        ),
        (
            item("maxLimitRequestRatio", "2"),
            one(json!({ "limits": cpu("1") })),
            "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
        ),
        (
            item("maxLimitRequestRatio", "2"),
            both("1", "0"),
            "cpu max limit to request ratio per Container is 2, but no limit is specified or limit is 0",
        ),
        // Beyond what 64 bits hold.
        (
            json!({ "type": "Container", "maxLimitRequestRatio": { "memory": "2" } }),
            one(json!({ "requests": { "memory": "1e25" }, "limits": { "memory": "3e25" } })),
            "memory max limit to request ratio per Container is 2, but provided ratio is 1.000000",
        ),
        (
            json!({ "type": "Container", "max": { "memory": "1e25" } }),
            one(json!({ "limits": { "memory": "2e25" }, "requests": { "memory": "1" } })),
            "maximum memory usage per Container is 10e24, but limit is 20e24",
        ),
    ] {
        assert_eq!(refusal(range.clone(), spec.clone()), why, "{range} {spec}");
    }
}

#[test]
fn a_pod_is_its_containers_together_or_an_init_container_that_needs_more() {
    let max = json!({ "type": "Pod", "max": { "cpu": "2" } });
    let container =
        |name: &str, cpu: &str| json!({ "name": name, "resources": { "limits": { "cpu": cpu } } });
    let spec = |containers: &[&str], init: &[&str]| {
        let of = |all: &[&str]| all.iter().map(|cpu| container("c", cpu)).collect::<Vec<_>>();
        json!({ "containers": of(containers), "initContainers": of(init) })
    };
    assert_eq!(refusal(max.clone(), spec(&["1", "1"], &["2"])), "");
    assert_eq!(
        refusal(max.clone(), spec(&["1", "1500m"], &[])),
        "maximum cpu usage per Pod is 2, but limit is 2500m"
    );
    assert_eq!(
        refusal(max.clone(), spec(&["1"], &["1", "3"])),
        "maximum cpu usage per Pod is 2, but limit is 3"
    );
    // The sandbox does not count, what the pod says as a whole does.
    let mut own = spec(&["1"], &[]);
    own["overhead"] = json!({ "cpu": "5" });
    assert_eq!(refusal(max.clone(), own.clone()), "");
    own["resources"] = json!({ "limits": { "cpu": "3" } });
    assert_eq!(refusal(max, own), "maximum cpu usage per Pod is 2, but limit is 3");
}

#[test]
fn each_violation_is_reported_once() {
    let range = json!({ "type": "Container", "max": { "cpu": "1", "memory": "1Mi" } });
    let resources = json!({ "limits": { "cpu": "2", "memory": "2Mi" } });
    let spec = json!({ "containers": [
        { "name": "a", "resources": resources }, { "name": "b", "resources": resources } ] });
    assert_eq!(
        refusal(range, spec),
        "[maximum cpu usage per Container is 1, but limit is 2, maximum memory usage per Container is 1Mi, but limit is 2Mi]"
    );
}

#[test]
fn a_range_that_cannot_be_read_refuses_every_pod_of_its_namespace() {
    let why = "unable to CREATE /v1, Resource=pods at this time because there was an error enforcing limit ranges";
    for limits in [
        json!([{ "type": "Container", "max": { "cpu": "x" } }]),
        json!([{ "type": "Pod", "min": { "cpu": "" } }]),
        json!([{ "type": "Container", "default": { "cpu": "1.2.3" } }]),
    ] {
        let refused = apply(&ranges(&[json!([]), limits.clone()]), &mut pod(one(json!({}))));
        assert_eq!(refused.unwrap_err(), why, "{limits}");
    }
}

/// What a pod says as a whole hides nothing of what its containers say, nor of what they leave out.
#[test]
fn a_pod_as_a_whole_counts_as_much_as_its_containers_may_take() {
    let most = json!({ "type": "Pod", "max": { "memory": "4Gi" } });
    let whole = |containers: Value, memory: &str| {
        json!({ "containers": containers,
            "resources": { "limits": { "memory": memory }, "requests": { "memory": "1Mi" } } })
    };
    let own = json!([{ "name": "c", "resources": { "limits": { "memory": "100Gi" } } }]);
    assert_eq!(
        refusal(most.clone(), whole(own, "1Mi")),
        "maximum memory usage per Pod is 4Gi, but limit is 100Gi"
    );
    let silent = json!([{ "name": "c" }, { "name": "d" }]);
    assert_eq!(
        refusal(most.clone(), whole(silent.clone(), "3Gi")),
        "maximum memory usage per Pod is 4Gi, but limit is 6Gi"
    );
    assert_eq!(refusal(most, whole(silent, "2Gi")), "");
}

#[test]
fn a_ratio_of_absurd_amounts_is_judged_as_any_other() {
    let ratio = json!({ "type": "Container", "maxLimitRequestRatio": { "cpu": "2" } });
    let spec = |limit: &str| {
        one(json!({ "limits": { "cpu": limit }, "requests": { "cpu": "1000000000000000000000" } }))
    };
    let limit = "17000000000000000000000000000000000000";
    let refused = "cpu max limit to request ratio per Container is 2, but provided ratio is ";
    assert!(refusal(ratio.clone(), spec(limit)).starts_with(refused));
    assert_eq!(refusal(ratio, spec("1500000000000000000000")), "");
}
