//! Simulated rollouts: each plan is applied as the API server and the ReplicaSet controller would apply it,
//! until nothing is left to do.

use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

struct Simulation {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    /// The scalings, as events would report them.
    log: Vec<String>,
    /// The image whose pods never become available.
    broken: Option<String>,
    made: u32,
}

impl Simulation {
    fn new(spec: Value) -> Self {
        let mut all = json!({
            "replicas": 3, "selector": { "matchLabels": { "app": "web" } },
            "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
            "template": { "metadata": { "labels": { "app": "web" } },
                          "spec": { "containers": [{ "name": "c", "image": "v1" }] } },
        });
        for (key, value) in spec.as_object().expect("a spec") {
            all[key] = value.clone();
        }
        let deployment = json!({
            "metadata": { "name": "web", "namespace": "ns", "uid": "d", "generation": 1 },
            "spec": all });
        Self {
            deployment: serde_json::from_value(deployment).expect("a deployment"),
            sets: Vec::new(),
            log: Vec::new(),
            broken: None,
            made: 0,
        }
    }

    fn spec(&mut self) -> &mut k8s_openapi::api::apps::v1::DeploymentSpec {
        self.deployment.metadata.generation = self.deployment.metadata.generation.map(|g| g + 1);
        self.deployment.spec.as_mut().expect("a spec")
    }

    fn set_image(&mut self, image: &str) {
        let template = &mut self.spec().template;
        template.spec.as_mut().expect("a pod spec").containers[0].image = Some(image.to_owned());
    }

    fn image(set: &ReplicaSet) -> String {
        let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        let spec = template.and_then(|template| template.spec.as_ref()).expect("a pod spec");
        spec.containers[0].image.clone().unwrap_or_default()
    }

    /// One step of the controller, then one of the ReplicaSets. Returns whether anything happened.
    fn step(&mut self, running: &HashSet<String>) -> bool {
        let plan = plan(&self.deployment, self.sets.clone(), running, now());
        let acted = !plan.actions.is_empty();
        for action in plan.actions {
            self.apply(action);
        }
        let mut moved = false;
        for set in &mut self.sets {
            let works = self.broken.as_deref() != Some(&Self::image(set));
            let size = size(set);
            let status = json!({ "replicas": size, "readyReplicas": if works { size } else { 0 },
                "availableReplicas": if works { size } else { 0 },
                "observedGeneration": set.metadata.generation });
            let status = serde_json::from_value(status).expect("a status");
            moved |= set.status.as_ref() != Some(&status);
            set.status = Some(status);
        }
        acted || moved
    }

    fn settle(&mut self) -> Vec<String> {
        for _ in 0..50 {
            if !self.step(&HashSet::new()) {
                return std::mem::take(&mut self.log);
            }
        }
        panic!("it never settles: {:?}", self.log);
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Create(mut set) => {
                self.made += 1;
                set.metadata.uid = Some(format!("rs{}", self.made));
                set.metadata.generation = Some(1);
                set.metadata.creation_timestamp =
                    serde_json::from_value(json!(format!("2026-01-01T00:00:{:02}Z", self.made)))
                        .ok();
                self.log.push(format!("{} 0→{}", Self::image(&set), size(&set)));
                self.sets.push(*set);
            }
            Action::Update(set, scaled) => {
                if let Some((from, to)) = scaled {
                    self.log.push(format!("{} {from}→{to}", Self::image(&set)));
                }
                let at = self.sets.iter().position(|one| one.metadata.uid == set.metadata.uid);
                self.sets[at.expect("it exists")] = *set;
            }
            Action::Delete(set) => self.sets.retain(|one| one.metadata.uid != set.metadata.uid),
            Action::Annotate(revision) => {
                let annotations = self.deployment.metadata.annotations.get_or_insert_default();
                annotations.insert(REVISION.to_owned(), revision);
            }
            Action::Status(status) => self.deployment.status = Some(*status),
        }
    }

    fn revision(&self) -> i64 {
        revision(self.deployment.metadata.annotations.as_ref())
    }

    fn progress(&self) -> String {
        let status = self.deployment.status.as_ref().expect("a status");
        let mut conditions = status.conditions.iter().flatten();
        let condition = conditions.find(|condition| condition.type_ == "Progressing");
        condition.and_then(|condition| condition.reason.clone()).unwrap_or_default()
    }
}

#[test]
fn a_new_deployment_creates_one_set_with_all_pods() {
    let mut simulation = Simulation::new(json!({}));
    assert_eq!(simulation.settle(), ["v1 0→3"]);
    assert_eq!(simulation.revision(), 1);
    assert_eq!(simulation.progress(), "NewReplicaSetAvailable");
    let set = &simulation.sets[0];
    let hash = set.metadata.labels.as_ref().expect("labels")[TEMPLATE_HASH].clone();
    assert_eq!(set.metadata.name.as_deref(), Some(&*format!("web-{hash}")));
    let spec = set.spec.as_ref().expect("a spec");
    assert_eq!(spec.selector.match_labels.as_ref().expect("labels")[TEMPLATE_HASH], hash);
    let status = simulation.deployment.status.as_ref().expect("a status");
    assert_eq!((status.replicas, status.unavailable_replicas), (Some(3), None));
}

#[test]
fn a_new_image_replaces_one_pod_at_a_time() {
    let mut simulation = Simulation::new(json!({}));
    simulation.settle();
    simulation.set_image("v2");
    let expected = ["v2 0→1", "v1 3→2", "v2 1→2", "v1 2→1", "v2 2→3", "v1 1→0"];
    assert_eq!(simulation.settle(), expected);
    assert_eq!(simulation.revision(), 2);
    assert_eq!(simulation.progress(), "NewReplicaSetAvailable");
}

#[test]
fn without_surge_an_old_pod_is_removed_first() {
    let mut simulation = Simulation::new(json!({ "strategy": { "type": "RollingUpdate",
        "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 1 } } }));
    simulation.settle();
    simulation.set_image("v2");
    let expected = ["v2 0→0", "v1 3→2", "v2 0→1", "v1 2→1", "v2 1→2", "v1 1→0", "v2 2→3"];
    assert_eq!(simulation.settle(), expected);
}

/// A new image that never works must not replace pods that work.
#[test]
fn a_broken_image_stops_the_rollout_until_it_is_undone() {
    let mut simulation = Simulation::new(json!({}));
    simulation.settle();
    simulation.broken = Some("v2".to_owned());
    simulation.set_image("v2");
    assert_eq!(simulation.settle(), ["v2 0→1"]);
    assert_eq!(size(&simulation.sets[0]), 3, "all old pods are there");

    // What `kubectl rollout undo` does: the old template again.
    simulation.set_image("v1");
    assert_eq!(simulation.settle(), ["v2 1→0"]);
    assert_eq!(simulation.revision(), 3);
    assert_eq!(simulation.sets.len(), 2, "the old set is the new one again");
    let annotations = simulation.sets[0].metadata.annotations.as_ref().expect("annotations");
    assert_eq!(annotations["deployment.kubernetes.io/revision-history"], "1");
}

#[test]
fn a_third_image_during_a_rollout_replaces_both_others() {
    let mut simulation = Simulation::new(json!({}));
    simulation.settle();
    simulation.broken = Some("v2".to_owned());
    simulation.set_image("v2");
    simulation.settle();
    simulation.set_image("v3");
    simulation.settle();
    let sizes: Vec<i32> = simulation.sets.iter().map(size).collect();
    assert_eq!(sizes, [0, 0, 3]);
    assert_eq!(simulation.revision(), 3);
}

#[test]
fn scaling_does_not_start_a_rollout() {
    let mut simulation = Simulation::new(json!({}));
    simulation.settle();
    simulation.spec().replicas = Some(5);
    assert_eq!(simulation.settle(), ["v1 3→5"]);
    simulation.spec().replicas = Some(0);
    assert_eq!(simulation.settle(), ["v1 5→0"]);
    simulation.spec().replicas = Some(2);
    assert_eq!(simulation.settle(), ["v1 0→2"]);
    assert_eq!(simulation.revision(), 1);
}

#[test]
fn recreate_ends_all_old_pods_before_the_first_new_one() {
    let mut simulation = Simulation::new(json!({ "strategy": { "type": "Recreate" } }));
    simulation.settle();
    simulation.set_image("v2");
    let running: HashSet<String> = ["rs1".to_owned()].into();
    simulation.step(&running);
    simulation.step(&running);
    assert_eq!(std::mem::take(&mut simulation.log), ["v1 3→0"], "old pods are still ending");
    assert_eq!(simulation.settle(), ["v2 0→3"]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut simulation = Simulation::new(json!({}));
    simulation.settle();
    simulation.spec().paused = Some(true);
    simulation.set_image("v2");
    simulation.settle();
    assert_eq!(simulation.sets.len(), 1);
    assert_eq!(simulation.progress(), "DeploymentPaused");
    simulation.spec().replicas = Some(4);
    assert_eq!(simulation.settle(), ["v1 3→4"]);
    simulation.spec().paused = Some(false);
    simulation.settle();
    assert_eq!(simulation.sets.iter().map(size).collect::<Vec<_>>(), [0, 4]);
    assert_eq!(simulation.progress(), "NewReplicaSetAvailable");
}

#[test]
fn old_sets_beyond_the_history_limit_are_deleted() {
    let mut simulation = Simulation::new(json!({ "revisionHistoryLimit": 2 }));
    for image in ["v1", "v2", "v3", "v4", "v5"] {
        simulation.set_image(image);
        simulation.settle();
    }
    let images: Vec<String> = simulation.sets.iter().map(Simulation::image).collect();
    assert_eq!(images, ["v3", "v4", "v5"]);
}

#[test]
fn a_deployment_that_is_being_deleted_only_updates_its_counts() {
    let mut simulation = Simulation::new(json!({}));
    simulation.settle();
    simulation.set_image("v2");
    simulation.deployment.metadata.deletion_timestamp =
        serde_json::from_value(json!("2026-01-01T00:00:00Z")).ok();
    assert!(simulation.settle().is_empty());
    assert_eq!(simulation.sets.len(), 1);
}
