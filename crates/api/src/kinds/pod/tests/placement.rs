//! The rest of the spec: policies, names, DNS, tolerations, affinity, spread.

use serde_json::{Value, json};

use super::guide;
use crate::kinds::testing::check_create;
use crate::kinds::{Kind as _, Pod};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

#[test]
fn policies_and_names() {
    let bad = |field: &str| format!("spec.{field}: Invalid value: \"A\": {SUBDOMAIN}");
    check_create::<Pod>(
        &guide(),
        &[
            (
                "spec.restartPolicy",
                json!("Sometimes"),
                &[
                    "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
                ],
            ),
            (
                "spec.dnsPolicy",
                json!("Any"),
                &[
                    "spec.dnsPolicy: Unsupported value: \"Any\": supported values: \"ClusterFirstWithHostNet\", \"ClusterFirst\", \"Default\", \"None\"",
                ],
            ),
            ("spec.serviceAccountName", json!("A"), &[&bad("serviceAccountName")]),
            ("spec.serviceAccount", json!("A"), &[&bad("serviceAccountName")]),
            ("spec.nodeName", json!("A"), &[&bad("nodeName")]),
            ("spec.priorityClassName", json!("A"), &[&bad("priorityClassName")]),
            ("spec.runtimeClassName", json!("A"), &[&bad("runtimeClassName")]),
            (
                "spec.hostname",
                json!("a.b"),
                &["spec.hostname: Invalid value: \"a.b\": must not contain dots"],
            ),
            (
                "spec.subdomain",
                json!("a.b"),
                &["spec.subdomain: Invalid value: \"a.b\": must not contain dots"],
            ),
            (
                "spec.activeDeadlineSeconds",
                json!(0),
                &[
                    "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
                ],
            ),
            (
                "spec.preemptionPolicy",
                json!("Now"),
                &[
                    "spec.preemptionPolicy: Unsupported value: \"Now\": supported values: \"PreemptLowerPriority\", \"Never\"",
                ],
            ),
            ("spec.imagePullSecrets", json!([{"name": "any Name"}]), &[]),
            ("spec.os", json!({"name": ""}), &["spec.os.name: Required value: cannot be empty"]),
            (
                "spec.os",
                json!({"name": "plan9"}),
                &[
                    "spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\"",
                ],
            ),
            ("spec.hostUsers", json!(false), &[]),
            (
                "spec.nodeSelector",
                json!({"a": "b c"}),
                &[
                    "spec.nodeSelector: Invalid value: \"b c\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
                ],
            ),
            (
                "spec.hostAliases",
                json!([{"ip": "1.2.3", "hostnames": ["a"]}]),
                &[&format!("spec.hostAliases[0].ip: Invalid value: \"1.2.3\": {IP}")],
            ),
            ("spec.hostAliases", json!([{"ip": "010.2.3.4", "hostnames": ["a"]}]), &[]),
            (
                "spec.schedulingGates",
                json!([{"name": "a/b"}, {"name": "a/b"}]),
                &["spec.schedulingGates[1]: Duplicate value: \"a/b\""],
            ),
            (
                "spec.resourceClaims",
                json!([{"name": "c"}]),
                &[
                    "spec.resourceClaims[0]: Invalid value: {\"Name\":\"c\",\"ResourceClaimName\":null,\"ResourceClaimTemplateName\":null}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
                ],
            ),
            (
                "metadata.annotations.kubernetes~io/config~mirror",
                json!("x"),
                &[
                    "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"x\": must set spec.nodeName if mirror pod annotation is set",
                ],
            ),
            (
                "metadata.annotations.controller~kubernetes~io/pod-deletion-cost",
                json!("+1"),
                &[
                    "metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: \"+1\": must be a 32bit integer",
                ],
            ),
        ],
    );
}

#[test]
fn dns_without_a_policy_names_its_servers() {
    let none = |config: Value| json!({"containers": guide()["spec"]["containers"], "volumes": guide()["spec"]["volumes"], "dnsPolicy": "None", "dnsConfig": config});
    check_create::<Pod>(
        &guide(),
        &[
            ("spec", none(json!({"nameservers": ["1.1.1.1"]})), &[]),
            (
                "spec.dnsPolicy",
                json!("None"),
                &[
                    "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
                ],
            ),
            (
                "spec",
                none(json!({})),
                &[
                    "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None",
                ],
            ),
            (
                "spec.dnsConfig.nameservers",
                json!(["dns"]),
                &[&format!("spec.dnsConfig.nameservers[0]: Invalid value: \"dns\": {IP}")],
            ),
            (
                "spec.dnsConfig.nameservers",
                json!(["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]),
                &[
                    "spec.dnsConfig.nameservers: Invalid value: [\"1.1.1.1\",\"1.1.1.2\",\"1.1.1.3\",\"1.1.1.4\"]: must not have more than 3 nameservers",
                ],
            ),
            ("spec.dnsConfig.searches", json!(["_srv.example.com.", "."]), &[]),
            (
                "spec.dnsConfig.options",
                json!([{"value": "1"}]),
                &["spec.dnsConfig.options[0]: Required value: must not be empty"],
            ),
        ],
    );
}

#[test]
fn tolerations_are_consistent() {
    let one = |toleration: Value| json!([toleration]);
    check_create::<Pod>(
        &guide(),
        &[
            ("spec.tolerations", one(json!({"operator": "Exists"})), &[]),
            (
                "spec.tolerations",
                one(json!({})),
                &[
                    "spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
                ],
            ),
            (
                "spec.tolerations",
                one(json!({"key": "a", "operator": "Exists", "value": "v"})),
                &[
                    "spec.tolerations[0].operator: Invalid value: \"v\": value must be empty when `operator` is 'Exists'",
                ],
            ),
            (
                "spec.tolerations",
                one(json!({"key": "a", "operator": "In"})),
                &[
                    "spec.tolerations[0].operator: Unsupported value: \"In\": supported values: \"Equal\", \"Exists\"",
                ],
            ),
            (
                "spec.tolerations",
                one(json!({"key": "a", "effect": "Leave"})),
                &[
                    "spec.tolerations[0].effect: Unsupported value: \"Leave\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
                ],
            ),
            (
                "spec.tolerations",
                one(json!({"key": "a", "tolerationSeconds": 1})),
                &[
                    "spec.tolerations[0].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set",
                ],
            ),
        ],
    );
}

#[test]
fn affinity_and_spread_are_well_formed() {
    let required = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";
    let node =
        |requirement: Value| json!({"nodeSelectorTerms": [{"matchExpressions": [requirement]}]});
    let at = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let pods = "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution";
    let spread = "spec.topologySpreadConstraints";
    let constraint =
        json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
    check_create::<Pod>(
        &guide(),
        &[
            (required, node(json!({"key": "a", "operator": "In", "values": ["b"]})), &[]),
            (
                required,
                json!({"nodeSelectorTerms": []}),
                &[&format!("{at}: Required value: must have at least one node selector term")],
            ),
            (
                required,
                node(json!({"key": "a", "operator": "In"})),
                &[&format!(
                    "{at}[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
                )],
            ),
            (
                required,
                node(json!({"key": "a", "operator": "Exists", "values": ["b"]})),
                &[&format!(
                    "{at}[0].matchExpressions[0].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                )],
            ),
            (
                required,
                node(json!({"key": "a", "operator": "Gt"})),
                &[&format!(
                    "{at}[0].matchExpressions[0].values: Required value: must be specified single value when `operator` is 'Lt' or 'Gt'"
                )],
            ),
            (
                required,
                node(json!({"key": "a", "operator": "Like"})),
                &[&format!(
                    "{at}[0].matchExpressions[0].operator: Invalid value: \"Like\": not a valid selector operator"
                )],
            ),
            (
                pods,
                json!([{"weight": 0, "podAffinityTerm": {"topologyKey": "zone"}}]),
                &[
                    "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100",
                ],
            ),
            (spread, json!([constraint]), &[]),
            (
                spread,
                json!([constraint, constraint]),
                &[
                    "spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{zone, DoNotSchedule}\"",
                ],
            ),
            (
                spread,
                json!([{"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "x"}]),
                &[
                    "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                    "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty",
                    "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"x\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
                ],
            ),
        ],
    );
}

#[test]
fn label_keys_of_affinity_terms_become_requirements_of_the_selector_at_creation() {
    let term = |selector: Value| {
        json!({ "topologyKey": "zone", "labelSelector": selector,
                "matchLabelKeys": ["hash", "absent"], "mismatchLabelKeys": ["tenant"] })
    };
    let web = json!({ "matchLabels": { "app": "web" } });
    let weighted = json!([{ "weight": 1, "podAffinityTerm": term(web.clone()) }]);
    let both = json!({
        "requiredDuringSchedulingIgnoredDuringExecution": [term(web.clone())],
        "preferredDuringSchedulingIgnoredDuringExecution": weighted,
    });
    let mut pod = guide();
    pod["metadata"]["labels"] = json!({ "hash": "1", "tenant": "t" });
    pod["spec"]["affinity"] = json!({ "podAffinity": both, "podAntiAffinity": both });
    let mut pod: Pod = serde_json::from_value(pod).unwrap();
    pod.prepare_for_create();
    let all = serde_json::to_value(&pod).unwrap()["spec"]["affinity"].clone();
    let expected = json!({ "matchLabels": { "app": "web" }, "matchExpressions": [
        { "key": "hash", "operator": "In", "values": ["1"] },
        { "key": "tenant", "operator": "NotIn", "values": ["t"] },
    ] });
    for kind in ["podAffinity", "podAntiAffinity"] {
        let required = &all[kind]["requiredDuringSchedulingIgnoredDuringExecution"][0];
        let preferred = &all[kind]["preferredDuringSchedulingIgnoredDuringExecution"][0];
        assert_eq!(required["labelSelector"], expected, "{kind}");
        assert_eq!(preferred["podAffinityTerm"]["labelSelector"], expected, "{kind}");
    }
    // A key that the selector had before is refused.
    let mut twice = guide();
    twice["metadata"]["labels"] = json!({ "app": "web" });
    let mut term = term(web);
    term["matchLabelKeys"] = json!(["app"]);
    twice["spec"]["affinity"] = json!({ "podAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [term] } });
    let mut twice: Pod = serde_json::from_value(twice).unwrap();
    twice.set_defaults();
    twice.prepare_for_create();
    let errors: Vec<String> = twice.validate().iter().map(ToString::to_string).collect();
    let path = "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0][0]";
    let detail = "exists in both matchLabelKeys and labelSelector";
    assert_eq!(errors, [format!("{path}: Invalid value: \"app\": {detail}")]);
}
