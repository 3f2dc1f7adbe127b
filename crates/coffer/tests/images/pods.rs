//! What pods experience: both kinds of secret, none, a wrong one, one that comes later.

use coffer_testkit::{Recorder, SeenCredential};

use crate::stage::{PASSWORD, Pod, Stage, USER, builder, open_registry, private_registry};

#[tokio::test]
async fn both_kinds_of_secret_open_a_private_registry() {
    let registry = private_registry().await;
    let recorder = Recorder::before(registry.url()).start().await.unwrap();
    let image = format!("{}/private/app:1", recorder.host());
    let stage = Stage::new(builder()).await;

    stage.create_secret("json", &recorder.host(), PASSWORD).await;
    let json = Pod::new("json", &*image).secret("json");
    stage.run(&json).await;
    let pulled = stage.until_event(&json, "Normal Pulled").await;
    let start = format!("Normal Pulled Successfully pulled image \"{image}\" in ");
    let rest = pulled.strip_prefix(&start).expect(&pulled);
    let (times, size) = rest.split_once(" including waiting). Image size: ").expect(&pulled);
    assert!(times.contains("s (") && size.ends_with(" bytes."), "{pulled}");

    // The old type, written by hand: no scheme here, a path there, and `username`, not `auth`.
    let cfg = format!(
        "{{apiVersion: v1, kind: Secret, type: kubernetes.io/dockercfg, metadata: {{name: cfg}}, \
         stringData: {{.dockercfg: '{{\"{}/private\": {{\"username\": \"{USER}\", \
         \"password\": \"{PASSWORD}\"}}}}'}}}}",
        recorder.host()
    );
    stage.create(&cfg).await;
    stage.run(&Pod::new("cfg", &*image).secret("cfg")).await;

    // From the service account: the pod does not name a secret.
    stage.create("{apiVersion: v1, kind: ServiceAccount, metadata: {name: puller}, imagePullSecrets: [{name: json}]}").await;
    stage.run(&Pod::new("account", &*image).service_account("puller")).await;

    // Of several that match, the one that is right; the wrong one first.
    stage.create_secret("wrong", &format!("{}/private/app", recorder.host()), "guessed").await;
    stage.run(&Pod::new("several", &*image).secret("json").secret("wrong")).await;
    let basic = |password: &str| SeenCredential::Basic(format!("{USER}:{password}"));
    assert_eq!(recorder.credentials(), [basic(PASSWORD), basic("guessed")]);
    stage.assert_no_leak().await;
}

/// The story that `kubectl describe` tells, word for word.
#[tokio::test]
async fn a_pod_without_the_right_password_says_so_and_starts_when_it_is_corrected() {
    let registry = private_registry().await;
    let image = format!("{}/private/app:1", registry.host());
    let stage = Stage::new(builder()).await;

    let none = Pod::new("none", &*image);
    stage.fail(&none, "ImagePullBackOff").await;
    // The runtime's own words, which differ from one containerd to the next.
    let failed = format!("Warning Failed Failed to pull image \"{image}\": ");
    let event = stage.until_event(&none, &failed).await;
    let cause = event.strip_prefix(&failed).unwrap();
    let expected = format!(
        "failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": "
    );
    assert!(cause.starts_with(&expected) && cause.contains("401 Unauthorized"), "{cause}");
    stage.until_event(&none, "Warning Failed Error: ImagePullBackOff").await;
    let mut events = stage.events(&none).await;
    events.retain(|event| !event.starts_with("Normal Scheduled"));
    events.sort();
    assert_eq!(
        events,
        [
            format!("Normal BackOff Back-off pulling image \"{image}\""),
            format!("Normal Pulling Pulling image \"{image}\""),
            "Warning Failed Error: ErrImagePull".to_owned(),
            "Warning Failed Error: ImagePullBackOff".to_owned(),
            format!("Warning Failed Failed to pull image \"{image}\": {cause}"),
        ]
    );
    let message = stage.waiting_message(&none).await;
    assert_eq!(message, format!("Back-off pulling image \"{image}\": ErrImagePull: {cause}"));
    let line = stage.kubectl.ok(&["get", "pod", "none", "--no-headers"]).await.unwrap();
    let columns: Vec<_> = line.split_whitespace().collect();
    assert_eq!(columns[..4], ["none", "0/1", "ImagePullBackOff", "0"]);

    stage.create_secret("pull", &registry.host(), "guessed").await;
    let wrong = Pod::new("wrong", &*image).secret("pull");
    stage.fail(&wrong, "ImagePullBackOff").await;
    let failed = stage.until_event(&wrong, "Warning Failed Failed to pull image").await;
    assert!(failed.contains("401 Unauthorized") && !failed.contains("guessed"), "{failed}");
    // That a changed secret ends the back-off is tested with a clock in the kubelet's `image/failures.rs`.
    stage.until_events(&wrong, "Warning Failed Failed to pull image", 2).await;
    stage.replace_secret("pull", &registry.host(), PASSWORD).await;
    stage.until_running(&wrong).await;
    stage.assert_no_leak().await;
}

#[tokio::test]
async fn a_missing_or_broken_secret_does_not_stop_the_pull() {
    let (private, open) = (private_registry().await, open_registry().await);
    let stage = Stage::new(builder()).await;
    let broken = format!(
        "{{apiVersion: v1, kind: Secret, type: kubernetes.io/dockerconfigjson, \
         metadata: {{name: broken}}, \
         stringData: {{.dockerconfigjson: '{{\"auths\": {{\"{}\": {{\"auth\": \"!\"}}}}}}'}}}}",
        open.host()
    );
    stage.create(&broken).await;
    let public = Pod::new("public", format!("{}/private/app:1", open.host()));
    let public = public.secret("missing").secret("broken");
    stage.run(&public).await;
    let event = stage.until_event(&public, "Warning FailedToRetrieveImagePullSecret").await;
    assert_eq!(
        event,
        "Warning FailedToRetrieveImagePullSecret Unable to retrieve some image pull secrets \
         (missing, broken); attempting to pull the image may not succeed."
    );

    // One that comes later is seen when it comes.
    let later = Pod::new("later", format!("{}/private/app:1", private.host())).secret("later");
    stage.fail(&later, "ImagePullBackOff").await;
    stage.create_secret("later", &private.host(), PASSWORD).await;
    stage.until_running(&later).await;
}

/// The guide's own examples name images so.
#[tokio::test]
async fn an_invalid_name_and_an_image_that_is_never_pulled_have_different_reasons() {
    let stage = Stage::new(builder()).await;
    let invalid = Pod::new("invalid", "mySshImage");
    stage.fail(&invalid, "InvalidImageName").await;
    let message = "Failed to apply default image tag \"mySshImage\": couldn't parse image name \
                   \"mySshImage\": invalid reference format: repository name (library/mySshImage) \
                   must be lowercase";
    assert_eq!(stage.waiting_message(&invalid).await, message);
    let event = stage.until_event(&invalid, "Warning InspectFailed").await;
    assert_eq!(event, format!("Warning InspectFailed {message}"));
    stage.until_event(&invalid, "Warning Failed Error: InvalidImageName").await;

    let never = Pod::new("never", "127.0.0.1:9/app:1").policy("Never");
    stage.fail(&never, "ErrImageNeverPull").await;
    let message = "Container image \"127.0.0.1:9/app:1\" is not present with pull policy of Never";
    assert_eq!(stage.waiting_message(&never).await, message);
    let event = stage.until_event(&never, "Warning ErrImageNeverPull").await;
    assert_eq!(event, format!("Warning ErrImageNeverPull {message}"));
}
