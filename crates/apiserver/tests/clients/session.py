"""What users of the Python client do with secrets and what goes with them, each answer checked."""

import base64
import datetime
import json
import sys
import threading

from kubernetes import client, config, dynamic, utils, watch

NAMESPACE = "default"


def refused(code, reason, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except client.ApiException as error:
        status = json.loads(error.body)
        assert (error.status, status["reason"]) == (code, reason), status
        return status
    raise AssertionError(f"{call.__name__} was not refused")


def meta(name=None, **more):
    return client.V1ObjectMeta(name=name, **more)


def secrets(v1):
    made = v1.create_namespaced_secret(
        NAMESPACE, client.V1Secret(metadata=meta("s", labels={"a": "b"}), string_data={"k": "v"})
    )
    assert made.type == "Opaque" and base64.b64decode(made.data["k"]) == b"v"
    assert isinstance(made.metadata.creation_timestamp, datetime.datetime)
    listed = v1.list_namespaced_secret(NAMESPACE, label_selector="a=b", field_selector="type=Opaque")
    assert [one.metadata.name for one in listed.items] == ["s"]

    merged = v1.patch_namespaced_secret("s", NAMESPACE, {"stringData": {"k2": "v2"}})
    assert sorted(merged.data) == ["k", "k2"]
    removed = v1.patch_namespaced_secret("s", NAMESPACE, [{"op": "remove", "path": "/data/k2"}])
    assert sorted(removed.data) == ["k"]

    read = v1.read_namespaced_secret("s", NAMESPACE)
    read.string_data = {"k": "new"}
    v1.replace_namespaced_secret("s", NAMESPACE, read)
    refused(409, "Conflict", v1.replace_namespaced_secret, "s", NAMESPACE, read)
    refused(404, "NotFound", v1.read_namespaced_secret, "none", NAMESPACE)
    refused(409, "AlreadyExists", v1.create_namespaced_secret, NAMESPACE, client.V1Secret(metadata=meta("s")))
    wrong = client.V1Secret(metadata=meta("Not_A_Name"))
    assert "Not_A_Name" in refused(422, "Invalid", v1.create_namespaced_secret, NAMESPACE, wrong)["message"]

    v1.delete_namespaced_secret("s", NAMESPACE, dry_run="All")
    uid = client.V1Preconditions(uid="other")
    refused(409, "Conflict", v1.delete_namespaced_secret, "s", NAMESPACE, body=client.V1DeleteOptions(preconditions=uid))
    gone = v1.delete_namespaced_secret("s", NAMESPACE)
    assert gone["status"] == "Success" and gone["details"]["kind"] == "secrets", gone


def watches(v1):
    """A watch is resumed where it was left, and one that is too old says 410."""
    start = v1.list_namespaced_secret(NAMESPACE).metadata.resource_version
    seen = []
    watcher = watch.Watch()

    def write():
        v1.create_namespaced_secret(NAMESPACE, client.V1Secret(metadata=meta("w1")))
        v1.delete_namespaced_secret("w1", NAMESPACE)

    writer = threading.Thread(target=write)
    writer.start()
    stream = watcher.stream(v1.list_namespaced_secret, NAMESPACE, resource_version=start, timeout_seconds=30)
    for event in stream:
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            watcher.stop()
    writer.join()
    assert seen == [("ADDED", "w1"), ("DELETED", "w1")], seen
    left = watcher.resource_version
    v1.create_namespaced_secret(NAMESPACE, client.V1Secret(metadata=meta("w2")))
    again = watch.Watch().stream(v1.list_namespaced_secret, NAMESPACE, resource_version=left, timeout_seconds=1)
    assert [(event["type"], event["object"].metadata.name) for event in again] == [("ADDED", "w2")]
    # The server has been started anew since.
    try:
        list(watch.Watch().stream(v1.list_namespaced_secret, NAMESPACE, resource_version="1", timeout_seconds=1))
        raise AssertionError("a version that is too old was served")
    except client.ApiException as error:
        assert error.status == 410, error


def other_kinds(v1):
    spec = client.V1PodSpec(containers=[client.V1Container(name="c", image="redis")])
    pod = v1.create_namespaced_pod(NAMESPACE, client.V1Pod(metadata=meta(generate_name="p-"), spec=spec))
    assert pod.metadata.name.startswith("p-") and pod.status.phase == "Pending"
    v1.delete_collection_namespaced_pod(NAMESPACE)
    assert v1.list_pod_for_all_namespaces().items == []

    apps = client.AppsV1Api()
    template = client.V1PodTemplateSpec(metadata=meta(labels={"a": "b"}), spec=spec)
    wanted = client.V1DeploymentSpec(selector=client.V1LabelSelector(match_labels={"a": "b"}), template=template)
    apps.create_namespaced_deployment(NAMESPACE, client.V1Deployment(metadata=meta("d"), spec=wanted))
    assert apps.read_namespaced_deployment_scale("d", NAMESPACE).spec.replicas == 1
    assert apps.patch_namespaced_deployment_scale("d", NAMESPACE, {"spec": {"replicas": 4}}).spec.replicas == 4
    apps.delete_namespaced_deployment("d", NAMESPACE, propagation_policy="Background")

    now = datetime.datetime.now(datetime.timezone.utc)
    lease = client.V1Lease(metadata=meta("l"), spec=client.V1LeaseSpec(holder_identity="me", renew_time=now))
    kept = client.CoordinationV1Api().create_namespaced_lease(NAMESPACE, lease)
    assert kept.spec.renew_time == now, "microseconds are kept"

    v1.create_namespaced_service_account(NAMESPACE, client.V1ServiceAccount(metadata=meta("sa")))
    asked = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=3600))
    assert v1.create_namespaced_service_account_token("sa", NAMESPACE, asked).status.token
    attributes = client.V1ResourceAttributes(verb="get", resource="secrets")
    review = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes))
    assert client.AuthorizationV1Api().create_self_subject_access_review(review).status.allowed


def pages(v1):
    for at in range(7):
        v1.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(metadata=meta(f"c{at}")))
    names, token = [], None
    while token != "":
        page = v1.list_namespaced_config_map(NAMESPACE, limit=3, _continue=token)
        names += [one.metadata.name for one in page.items]
        token = page.metadata._continue or ""
    assert names == [f"c{at}" for at in range(7)], names


def dynamically():
    api = client.ApiClient()
    resource = dynamic.DynamicClient(api).resources.get(api_version="v1", kind="Secret")
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ssa"}, "data": {"a": "Yg=="}}
    applied = resource.server_side_apply(body=body, name="ssa", namespace=NAMESPACE, field_manager="py")
    assert [entry.manager for entry in applied.metadata.managedFields] == ["py"]
    body["data"] = {"b": "Yw=="}
    applied = resource.server_side_apply(body=body, name="ssa", namespace=NAMESPACE, field_manager="py")
    assert dict(applied.data) == {"b": "Yw=="}
    body["data"] = {"b": "ZA=="}
    try:
        resource.server_side_apply(body=body, name="ssa", namespace=NAMESPACE, field_manager="other")
        raise AssertionError("no conflict")
    except dynamic.exceptions.ConflictError as error:
        assert 'conflict with \\"py\\": .data.b' in error.body, error.body
    resource.server_side_apply(body=body, name="ssa", namespace=NAMESPACE, field_manager="other", force_conflicts=True)
    strategic = "application/strategic-merge-patch+json"
    resource.patch(body={"data": {"b": None}}, name="ssa", namespace=NAMESPACE, content_type=strategic)
    assert resource.get(name="ssa", namespace=NAMESPACE).data is None
    listed = {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "l1"}}]}
    utils.create_from_dict(api, listed)


config.load_kube_config(sys.argv[1])
core = client.CoreV1Api()
assert client.VersionApi().get_code().major == "1"
secrets(core)
other_kinds(core)
pages(core)
dynamically()
watches(core)
print("done")
