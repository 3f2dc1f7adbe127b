//! An image that is here is for those who could have pulled it.

use coffer_testkit::Recorder;

use crate::stage::{PASSWORD, Pod, Stage, builder, private_registry};

#[tokio::test]
async fn what_somebodys_secret_pulled_is_for_those_who_have_it_across_restarts() {
    let registry = private_registry().await;
    let recorder = Recorder::before(registry.url()).start().await.unwrap();
    let image = format!("{}/private/app:1", recorder.host());
    let mut stage = Stage::new(builder()).await;
    for namespace in ["one", "two"] {
        stage.kubectl.ok(&["create", "namespace", namespace]).await.unwrap();
    }
    stage.create_secret("one/pull", &recorder.host(), PASSWORD).await;
    let pod = |name, namespace| Pod::new(name, &*image).within(namespace).policy("IfNotPresent");
    stage.run(&pod("first", "one").secret("pull")).await;

    // Pods without it must pull for themselves, and fail; they do not learn that the image is present.
    let stranger = pod("stranger", "two");
    stage.fail(&stranger, "ImagePullBackOff").await;
    let failed = stage.until_event(&stranger, "Warning Failed Failed to pull image").await;
    assert!(failed.contains("401 Unauthorized"), "{failed}");
    let never = pod("never", "two").policy("Never");
    stage.fail(&never, "ErrImageNeverPull").await;

    // Neither a restart nor a crash forgets it.
    assert!(stage.coffer.stop().await.unwrap().success());
    stage.coffer.start().await.unwrap();
    stage.fail(&pod("stranger-after-restart", "two"), "ImagePullBackOff").await;
    stage.coffer.kill().await.unwrap();
    stage.coffer.start().await.unwrap();
    stage.fail(&pod("stranger-after-crash", "two"), "ImagePullBackOff").await;

    // Those with it need no registry.
    recorder.set_down(true);
    let mine = pod("mine", "one").secret("pull");
    stage.run(&mine).await;
    let event = stage.until_event(&mine, "Normal Pulled").await;
    let present = format!(
        "Normal Pulled Container image \"{image}\" already present on machine and can be accessed \
         by the pod"
    );
    assert_eq!(event, present);
    // Another secret with the same credential is as good, also where nothing is ever pulled.
    stage.create_secret("two/same", &recorder.host(), PASSWORD).await;
    stage.run(&pod("same", "two").secret("same")).await;
    stage.run(&pod("same-never", "two").policy("Never").secret("same")).await;
    // A wrong one is not.
    stage.create_secret("two/wrong", &recorder.host(), "guessed").await;
    stage
        .fail(&pod("wrong-never", "two").policy("Never").secret("wrong"), "ErrImageNeverPull")
        .await;

    // Once it is there for everybody, it is.
    recorder.set_down(false);
    stage.assert_no_leak().await;
}
