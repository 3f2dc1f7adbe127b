//! For each level and version a pod that passes, and for each rule pods that do not, in every list of
//! containers and at every place of the rule, with upstream's words.

use serde_json::{Value, json};

use super::*;
use k8s_openapi::api::core::v1::Pod;

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// What `restricted` wants set.
fn hardened() -> Value {
    json!({
        "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
        "initContainers": [hardened_container("i")],
        "containers": [hardened_container("c")],
        "ephemeralContainers": [hardened_container("e")],
    })
}

fn hardened_container(name: &str) -> Value {
    json!({
        "name": name,
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
        },
    })
}

fn of(level: Level, minor: u64) -> LevelVersion {
    LevelVersion { level, version: Version::Minor(minor) }
}

fn newest(level: Level) -> LevelVersion {
    LevelVersion { level, version: Version::Latest }
}

fn judged(of: LevelVersion, spec: &Value, annotations: &Value) -> String {
    let pod: Pod =
        serde_json::from_value(json!({ "metadata": { "annotations": annotations }, "spec": spec }))
            .unwrap();
    details(&violations(of, &pod.metadata, &pod.spec.unwrap()))
}

fn report(of: LevelVersion, spec: &Value) -> String {
    judged(of, spec, &json!({}))
}

/// A copy with one member set; null takes it away.
fn set(object: &Value, path: &str, value: Value) -> Value {
    let mut changed = object.clone();
    let mut at = &mut changed;
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    for step in parents.split('.').filter(|step| !step.is_empty()) {
        at = match step.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[step],
        };
    }
    if value.is_null() {
        at.as_object_mut().unwrap().remove(last);
    } else {
        at[last] = value;
    }
    changed
}

fn plain() -> Value {
    json!({ "containers": [{ "name": "c" }] })
}

#[test]
fn a_minimal_pod_passes_in_every_version() {
    for minor in 0..=NEWEST_MINOR + 3 {
        assert_eq!(report(of(Level::Privileged, minor), &plain()), "", "v1.{minor}");
        assert_eq!(report(of(Level::Baseline, minor), &plain()), "", "v1.{minor}");
        assert_eq!(report(of(Level::Restricted, minor), &hardened()), "", "v1.{minor}");
    }
    for level in [Level::Privileged, Level::Baseline, Level::Restricted] {
        assert_eq!(report(newest(level), &hardened()), "");
    }
}

/// What `restricted` demands came over time.
#[test]
fn a_plain_pod_is_restricted_by_what_its_version_knows() {
    let non_root =
        "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)";
    let escalation = "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false)";
    let capabilities = "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"])";
    let seccomp = "seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    for (minors, expected) in [
        (0..=7, vec![non_root]),
        (8..=18, vec![escalation, non_root]),
        (19..=21, vec![escalation, non_root, seccomp]),
        (22..=NEWEST_MINOR, vec![escalation, capabilities, non_root, seccomp]),
    ] {
        for minor in minors {
            let found = report(of(Level::Restricted, minor), &plain());
            assert_eq!(found, expected.join(", "), "v1.{minor}");
        }
    }
    let newest = report(newest(Level::Restricted), &plain());
    assert_eq!(newest, [escalation, capabilities, non_root, seccomp].join(", "));
}

/// Rules on a container's security context: the member, the wrong value, and what is said of it
/// between the names of the containers and the end.
fn in_containers() -> Vec<(Level, &'static str, Value, &'static str, String)> {
    let must_not = |what: &str| format!("must not set securityContext.{what}");
    vec![
        (
            Level::Baseline,
            "privileged",
            json!(true),
            "privileged",
            must_not("privileged=true"),
        ),
        (
            Level::Baseline,
            "capabilities",
            json!({ "add": ["SYS_ADMIN", "CHOWN", "NET_RAW", "ALL"], "drop": ["ALL"] }),
            "non-default capabilities",
            "must not include \"ALL\", \"NET_RAW\", \"SYS_ADMIN\" in securityContext.capabilities.add"
                .to_owned(),
        ),
        (
            Level::Baseline,
            "procMount",
            json!("Unmasked"),
            "procMount",
            must_not("procMount to \"Unmasked\""),
        ),
        (
            Level::Baseline,
            "seccompProfile",
            json!({ "type": "Unconfined" }),
            "seccompProfile",
            must_not("seccompProfile.type to \"Unconfined\""),
        ),
        (
            Level::Baseline,
            "appArmorProfile",
            json!({ "type": "Unconfined" }),
            "forbidden AppArmor profile",
            "must not set AppArmor profile type to \"Unconfined\"".to_owned(),
        ),
        (
            Level::Baseline,
            "seLinuxOptions",
            json!({ "type": "spc_t", "user": "u", "role": "r", "level": "s0" }),
            "seLinuxOptions",
            "set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set; role may not be set"
                .to_owned(),
        ),
        (
            Level::Baseline,
            "windowsOptions",
            json!({ "hostProcess": true }),
            "hostProcess",
            must_not("windowsOptions.hostProcess=true"),
        ),
        (
            Level::Restricted,
            "allowPrivilegeEscalation",
            json!(true),
            "allowPrivilegeEscalation != false",
            "must set securityContext.allowPrivilegeEscalation=false".to_owned(),
        ),
        (
            Level::Restricted,
            "allowPrivilegeEscalation",
            json!(null),
            "allowPrivilegeEscalation != false",
            "must set securityContext.allowPrivilegeEscalation=false".to_owned(),
        ),
        (
            Level::Restricted,
            "capabilities",
            json!({ "drop": ["NET_RAW"] }),
            "unrestricted capabilities",
            "must set securityContext.capabilities.drop=[\"ALL\"]".to_owned(),
        ),
        (
            Level::Restricted,
            "capabilities",
            json!({ "drop": ["all"] }),
            "unrestricted capabilities",
            "must set securityContext.capabilities.drop=[\"ALL\"]".to_owned(),
        ),
        (
            Level::Restricted,
            "capabilities",
            json!({ "add": ["CHOWN", "NET_BIND_SERVICE"], "drop": ["ALL"] }),
            "unrestricted capabilities",
            "must not include \"CHOWN\" in securityContext.capabilities.add".to_owned(),
        ),
        (Level::Restricted, "runAsNonRoot", json!(false), "runAsNonRoot != true", must_not("runAsNonRoot=false")),
        (Level::Restricted, "runAsUser", json!(0), "runAsUser=0", "must not set runAsUser=0".to_owned()),
    ]
}

#[test]
fn each_rule_on_a_container_counts_in_every_list_of_containers() {
    for (level, member, value, reason, detail) in in_containers() {
        for list in LISTS {
            let path = format!("{list}.0.securityContext.{member}");
            let spec = set(&hardened(), &path, value.clone());
            let name = spec[list][0]["name"].as_str().unwrap();
            let found = report(newest(level), &spec);
            assert_eq!(found, format!("{reason} (container \"{name}\" {detail})"), "{path}");
            if level == Level::Restricted {
                assert_eq!(report(newest(Level::Baseline), &spec), "", "{path}");
            }
            assert_eq!(report(newest(Level::Privileged), &spec), "", "{path}");
        }
        let mut all = hardened();
        for list in LISTS {
            all = set(&all, &format!("{list}.0.securityContext.{member}"), value.clone());
        }
        let found = report(newest(level), &all);
        let expected = format!("{reason} (containers \"i\", \"c\", \"e\" {detail})");
        assert_eq!(found, expected, "{member}");
    }
}

/// Rules that also count for the pod as a whole.
#[test]
fn each_rule_on_the_pods_security_context_counts_there_and_for_containers() {
    let pods = [
        "seccompProfile",
        "appArmorProfile",
        "seLinuxOptions",
        "windowsOptions",
        "runAsNonRoot",
        "runAsUser",
    ];
    for (level, member, value, reason, detail) in in_containers() {
        if !pods.contains(&member) {
            continue;
        }
        let pod = set(&hardened(), &format!("securityContext.{member}"), value.clone());
        assert_eq!(report(newest(level), &pod), format!("{reason} (pod {detail})"), "{member}");
        let both = set(&pod, &format!("containers.0.securityContext.{member}"), value);
        let expected = format!("{reason} (pod and container \"c\" {detail})");
        assert_eq!(report(newest(level), &both), expected, "{member}");
    }
}

#[test]
fn unset_and_empty_contexts_are_distinguished_as_the_rule_wants() {
    let restricted = newest(Level::Restricted);
    let without = |path: &str| set(&hardened(), path, json!(null));
    // All containers lean on the pod for these two.
    assert_eq!(
        report(restricted, &without("securityContext.runAsNonRoot")),
        "runAsNonRoot != true (pod or containers \"i\", \"c\", \"e\" must set securityContext.runAsNonRoot=true)"
    );
    assert_eq!(
        report(restricted, &without("securityContext.seccompProfile")),
        "seccompProfile (pod or containers \"i\", \"c\", \"e\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    for empty in [json!({}), json!(null)] {
        let spec = set(&hardened(), "containers.0.securityContext", empty);
        assert_eq!(
            report(restricted, &spec),
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"])"
        );
        assert_eq!(report(newest(Level::Baseline), &spec), "");
    }
    // A container's own word counts where the pod has none.
    let mut own = hardened();
    own["securityContext"] = json!({});
    for list in LISTS {
        own[list][0]["securityContext"]["runAsNonRoot"] = json!(true);
        own[list][0]["securityContext"]["seccompProfile"] = json!({ "type": "Localhost" });
    }
    assert_eq!(report(restricted, &own), "");
    let one = set(&own, "initContainers.0.securityContext.runAsNonRoot", json!(null));
    assert_eq!(
        report(restricted, &one),
        "runAsNonRoot != true (pod or container \"i\" must set securityContext.runAsNonRoot=true)"
    );
    for (member, value) in [
        ("capabilities", json!({ "drop": ["ALL"] })),
        ("capabilities", json!({ "add": [], "drop": ["X", "ALL"] })),
        ("capabilities", json!({ "add": ["NET_BIND_SERVICE"], "drop": ["ALL"] })),
        ("procMount", json!("Default")),
        ("privileged", json!(false)),
        ("seLinuxOptions", json!({ "type": "", "level": "s0" })),
        ("windowsOptions", json!({ "hostProcess": false })),
        ("runAsUser", json!(1)),
    ] {
        let spec = set(&hardened(), &format!("containers.0.securityContext.{member}"), value);
        assert_eq!(report(restricted, &spec), "", "{member}");
    }
    assert_eq!(
        report(
            restricted,
            &set(&hardened(), "containers.0.securityContext.capabilities", json!({ "add": ["X"] }))
        ),
        "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]; container \"c\" must not include \"X\" in securityContext.capabilities.add)"
    );
}

#[test]
fn what_is_the_hosts_is_not_the_pods() {
    let baseline = newest(Level::Baseline);
    for (member, shown) in [
        ("hostNetwork", "hostNetwork=true"),
        ("hostPID", "hostPID=true"),
        ("hostIPC", "hostIPC=true"),
    ] {
        let spec = set(&plain(), member, json!(true));
        assert_eq!(report(baseline, &spec), format!("host namespaces ({shown})"));
        assert_eq!(report(baseline, &set(&plain(), member, json!(false))), "");
    }
    let mut all = plain();
    for member in ["hostNetwork", "hostPID", "hostIPC"] {
        all[member] = json!(true);
    }
    assert_eq!(
        report(baseline, &all),
        "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)"
    );
    let ports = json!([{ "containerPort": 1, "hostPort": 80 }, { "containerPort": 2, "hostPort": 8080 },
                       { "containerPort": 3, "hostPort": 0 }, { "containerPort": 4 }]);
    for list in LISTS {
        let spec = set(&hardened(), &format!("{list}.0.ports"), ports.clone());
        let name = spec[list][0]["name"].as_str().unwrap();
        let expected = format!("hostPort (container \"{name}\" uses hostPorts 80, 8080)");
        assert_eq!(report(baseline, &spec), expected);
        let one =
            set(&spec, &format!("{list}.0.ports"), json!([{ "containerPort": 1, "hostPort": 80 }]));
        let expected = format!("hostPort (container \"{name}\" uses hostPort 80)");
        assert_eq!(report(baseline, &one), expected);
    }
    let two = json!({ "containers": [{ "name": "a", "ports": [{ "containerPort": 1, "hostPort": 9 }] },
                                     { "name": "b", "ports": [{ "containerPort": 1, "hostPort": 10 }] }] });
    assert_eq!(report(baseline, &two), "hostPort (containers \"a\", \"b\" use hostPorts 10, 9)");
}

#[test]
fn probes_and_hooks_go_to_the_pod_itself_since_1_34() {
    let baseline = newest(Level::Baseline);
    for (member, action) in [
        ("livenessProbe", json!({ "httpGet": { "port": 1, "host": "10.0.0.1" } })),
        ("readinessProbe", json!({ "tcpSocket": { "port": 1, "host": "10.0.0.1" } })),
        ("startupProbe", json!({ "httpGet": { "port": 1, "host": "10.0.0.1" } })),
        ("lifecycle", json!({ "postStart": { "httpGet": { "port": 1, "host": "10.0.0.1" } } })),
        ("lifecycle", json!({ "preStop": { "tcpSocket": { "port": 1, "host": "10.0.0.1" } } })),
    ] {
        for list in LISTS {
            let spec = set(&hardened(), &format!("{list}.0.{member}"), action.clone());
            let name = spec[list][0]["name"].as_str().unwrap();
            let expected = format!(
                "probe or lifecycle host (container \"{name}\" uses probe or lifecycle host \"10.0.0.1\")"
            );
            assert_eq!(report(baseline, &spec), expected, "{list} {member}");
            assert_eq!(report(of(Level::Restricted, 34), &spec), expected);
            assert_eq!(report(of(Level::Restricted, 33), &spec), "");
        }
    }
    let empty = json!({ "httpGet": { "port": 1, "host": "" } });
    assert_eq!(report(baseline, &set(&hardened(), "containers.0.livenessProbe", empty)), "");
    let mut two = json!({ "containers": [{ "name": "b" }, { "name": "a" }] });
    two["containers"][0]["livenessProbe"] = json!({ "httpGet": { "port": 1, "host": "y" } });
    two["containers"][1]["livenessProbe"] = json!({ "httpGet": { "port": 1, "host": "x" } });
    assert_eq!(
        report(baseline, &two),
        "probe or lifecycle host (containers \"a\", \"b\" use probe or lifecycle hosts \"x\", \"y\")"
    );
}

#[test]
fn volumes_are_of_the_allowed_kinds() {
    let (baseline, restricted) = (newest(Level::Baseline), newest(Level::Restricted));
    let volume = |kind: &str, source: Value| {
        set(&hardened(), "volumes", json!([{ "name": "v", kind: source }]))
    };
    for (kind, source) in [
        ("configMap", json!({})),
        ("csi", json!({ "driver": "d" })),
        ("downwardAPI", json!({})),
        ("emptyDir", json!({})),
        ("ephemeral", json!({})),
        ("image", json!({})),
        ("persistentVolumeClaim", json!({ "claimName": "p" })),
        ("projected", json!({})),
        ("secret", json!({})),
    ] {
        assert_eq!(report(restricted, &volume(kind, source)), "", "{kind}");
    }
    for (kind, source) in [
        ("hostPath", json!({ "path": "/" })),
        ("gcePersistentDisk", json!({ "pdName": "p" })),
        ("awsElasticBlockStore", json!({ "volumeID": "v" })),
        ("gitRepo", json!({ "repository": "r" })),
        ("nfs", json!({ "path": "p", "server": "s" })),
        ("iscsi", json!({ "iqn": "i", "lun": 0, "targetPortal": "t" })),
        ("glusterfs", json!({ "endpoints": "e", "path": "p" })),
        ("rbd", json!({ "image": "i", "monitors": [] })),
        ("flexVolume", json!({ "driver": "d" })),
        ("cinder", json!({ "volumeID": "v" })),
        ("cephfs", json!({ "monitors": [] })),
        ("flocker", json!({})),
        ("fc", json!({})),
        ("azureFile", json!({ "secretName": "s", "shareName": "s" })),
        ("vsphereVolume", json!({ "volumePath": "v" })),
        ("quobyte", json!({ "registry": "r", "volume": "v" })),
        ("azureDisk", json!({ "diskName": "d", "diskURI": "u" })),
        ("photonPersistentDisk", json!({ "pdID": "p" })),
        ("portworxVolume", json!({ "volumeID": "v" })),
        ("scaleIO", json!({ "gateway": "g", "system": "s", "secretRef": {} })),
        ("storageos", json!({})),
    ] {
        let spec = volume(kind, source);
        assert_eq!(
            report(restricted, &spec),
            format!(
                "restricted volume types (volume \"v\" uses restricted volume type \"{kind}\")"
            )
        );
        let of_baseline = if kind == "hostPath" { "hostPath volumes (volume \"v\")" } else { "" };
        assert_eq!(report(baseline, &spec), of_baseline, "{kind}");
    }
    let unknown = set(&hardened(), "volumes", json!([{ "name": "v" }]));
    assert_eq!(
        report(restricted, &unknown),
        "restricted volume types (volume \"v\" uses restricted volume type \"unknown\")"
    );
    let two = json!([{ "name": "b", "hostPath": { "path": "/" } }, { "name": "a", "nfs": { "path": "p", "server": "s" } },
                     { "name": "z", "hostPath": { "path": "/" } }]);
    let two = set(&hardened(), "volumes", two);
    assert_eq!(
        report(restricted, &two),
        "restricted volume types (volumes \"b\", \"a\", \"z\" use restricted volume types \"hostPath\", \"nfs\")"
    );
    assert_eq!(report(baseline, &two), "hostPath volumes (volumes \"b\", \"z\")");
}

#[test]
fn kernel_parameters_are_those_of_the_version() {
    let all = [
        (0, "kernel.shm_rmid_forced"),
        (0, "net.ipv4.ip_local_port_range"),
        (0, "net.ipv4.tcp_syncookies"),
        (0, "net.ipv4.ping_group_range"),
        (0, "net.ipv4.ip_unprivileged_port_start"),
        (27, "net.ipv4.ip_local_reserved_ports"),
        (29, "net.ipv4.tcp_keepalive_time"),
        (29, "net.ipv4.tcp_fin_timeout"),
        (29, "net.ipv4.tcp_keepalive_intvl"),
        (29, "net.ipv4.tcp_keepalive_probes"),
        (32, "net.ipv4.tcp_rmem"),
        (32, "net.ipv4.tcp_wmem"),
        (99, "net.ipv4.tcp_notsent_lowat"),
        (99, "kernel.msgmax"),
        (99, "net/ipv4/tcp_rmem"),
    ];
    for minor in 0..=NEWEST_MINOR {
        for (since, name) in all {
            let mut spec = plain();
            spec["securityContext"] = json!({ "sysctls": [{ "name": name, "value": "1" }] });
            let expected =
                if minor >= since { String::new() } else { format!("forbidden sysctls ({name})") };
            assert_eq!(report(of(Level::Baseline, minor), &spec), expected, "v1.{minor}");
        }
    }
    let mut spec = plain();
    spec["securityContext"] =
        json!({ "sysctls": [{ "name": "b", "value": "" }, { "name": "a", "value": "" }] });
    assert_eq!(report(newest(Level::Baseline), &spec), "forbidden sysctls (b, a)");
}

#[test]
fn profiles_by_annotation_and_by_version() {
    let baseline = newest(Level::Baseline);
    let prefix = "container.apparmor.security.beta.kubernetes.io";
    for value in ["", "runtime/default", "localhost/p"] {
        let annotations = json!({ format!("{prefix}/c"): value });
        assert_eq!(judged(baseline, &plain(), &annotations), "", "{value}");
    }
    let annotations = json!({ format!("{prefix}/c"): "unconfined" });
    assert_eq!(
        judged(baseline, &plain(), &annotations),
        format!(
            "forbidden AppArmor profile (annotation must not set AppArmor profile type to \"{prefix}/c=\"unconfined\"\")"
        )
    );
    let mut spec = plain();
    spec["securityContext"] = json!({ "appArmorProfile": { "type": "Unconfined" } });
    let annotations = json!({ format!("{prefix}/b"): "x", format!("{prefix}/a"): "y" });
    assert_eq!(
        judged(baseline, &spec, &annotations),
        format!(
            "forbidden AppArmor profiles (pod and annotations must not set AppArmor profile type to \"Unconfined\", \"{prefix}/a=\"y\"\", \"{prefix}/b=\"x\"\")"
        )
    );
    // Seccomp's annotations count before the field did, for containers that are there.
    let annotations = json!({
        "seccomp.security.alpha.kubernetes.io/pod": "unconfined",
        "container.seccomp.security.alpha.kubernetes.io/c": "",
        "container.seccomp.security.alpha.kubernetes.io/other": "unconfined",
    });
    for level in [Level::Baseline, Level::Restricted] {
        let found = judged(of(level, 18), &hardened(), &annotations);
        assert_eq!(
            found,
            "seccompProfile (forbidden annotations container.seccomp.security.alpha.kubernetes.io/c=\"\", seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")"
        );
        assert_eq!(judged(of(level, 19), &hardened(), &annotations), "");
    }
    let docker = json!({ "seccomp.security.alpha.kubernetes.io/pod": "docker/default" });
    assert_eq!(judged(of(Level::Baseline, 0), &plain(), &docker), "");
    let unconfined = set(&hardened(), "securityContext.seccompProfile.type", json!("Unconfined"));
    assert_eq!(report(of(Level::Baseline, 18), &unconfined), "");
    // SELinux has one more type since 1.31.
    let engine = json!({ "type": "container_engine_t" });
    let engine = set(&hardened(), "securityContext.seLinuxOptions", engine);
    assert_eq!(
        report(of(Level::Baseline, 30), &engine),
        "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"container_engine_t\")"
    );
    assert_eq!(report(of(Level::Baseline, 31), &engine), "");
    let mut two = engine;
    two["containers"][0]["securityContext"]["seLinuxOptions"] = json!({ "type": "a" });
    assert_eq!(
        report(of(Level::Baseline, 0), &two),
        "seLinuxOptions (pod and container \"c\" set forbidden securityContext.seLinuxOptions: types \"a\", \"container_engine_t\")"
    );
}

#[test]
fn a_windows_pod_needs_nothing_that_only_linux_has_since_1_25() {
    let mut windows = plain();
    windows["os"] = json!({ "name": "windows" });
    windows["securityContext"] = json!({ "runAsNonRoot": true });
    assert_eq!(report(of(Level::Restricted, 25), &windows), "");
    assert_eq!(report(newest(Level::Restricted), &windows), "");
    assert_ne!(report(of(Level::Restricted, 24), &windows), "");
    windows["os"]["name"] = json!("linux");
    assert_ne!(report(newest(Level::Restricted), &windows), "");
}

/// 1.35 relaxes some checks for pods in a user namespace of their own; here no pod has one.
#[test]
fn a_pod_that_asks_for_a_user_namespace_is_judged_like_any_other() {
    for minor in [33, 34, 35, 40] {
        let mut spec = set(&hardened(), "hostUsers", json!(false));
        assert_eq!(report(of(Level::Restricted, minor), &spec), "");
        spec["containers"][0]["securityContext"]["procMount"] = json!("Unmasked");
        spec["containers"][0]["securityContext"]["runAsUser"] = json!(0);
        spec["containers"][0]["securityContext"]["runAsNonRoot"] = json!(false);
        assert_eq!(
            report(of(Level::Restricted, minor), &spec),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\"), runAsNonRoot != true (container \"c\" must not set securityContext.runAsNonRoot=false), runAsUser=0 (container \"c\" must not set runAsUser=0)"
        );
    }
}
