//! Which node is related to which object: pod → node, and secret, config map, account → pod.
//!
//! Kept current by the cache under the lock that makes a pod visible: a kubelet that learns of its
//! pod may read the pod's secrets in the same instant, and no longer once the pod is deleted.

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use coffer_api::kinds::pod::is_mirror;
use coffer_api::references::{self, ReferenceKind};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::RwLock;

use crate::cache::{CacheEvent, CachedObject, Facts, Observer};

/// Marks a pod that only mirrors what a node runs by itself.
pub(crate) const MIRROR: &str = coffer_api::well_known::annotation::MIRROR;

/// An object that a node may be related to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Vertex {
    kind: VertexKind,
    namespace: String,
    name: String,
}

/// What a vertex stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum VertexKind {
    Pod,
    Referred(ReferenceKind),
}

/// A pod that runs somewhere.
struct Bound {
    node: String,
    refers_to: Vec<Vertex>,
}

#[derive(Default)]
struct State {
    /// By the pod's key in the cache.
    pods: HashMap<Arc<str>, Arc<Bound>>,
    /// For each object the nodes it is needed on, and by how many pods.
    needed: HashMap<Vertex, HashMap<String, usize>>,
}

/// The relations of all pods that are bound to a node.
#[derive(Default)]
pub(crate) struct Graph(RwLock<State>);

impl Graph {
    /// Whether a node runs something that refers to this object (or is this pod).
    pub(crate) fn related(
        &self,
        node: &str,
        kind: VertexKind,
        namespace: &str,
        name: &str,
    ) -> bool {
        let vertex = Vertex { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        let state = self.0.read();
        state.needed.get(&vertex).is_some_and(|nodes| nodes.contains_key(node))
    }
}

/// Feeds a [`Graph`] from the pods' part of the cache.
pub(crate) struct PodFollower(pub(crate) Arc<Graph>);

impl Observer for PodFollower {
    fn makes_facts(&self) -> bool {
        true
    }

    fn facts(&self, object: &dyn Any, _: usize) -> Option<Facts> {
        let bound = bound(object.downcast_ref::<Pod>()?)?;
        Some(Arc::new(bound))
    }

    fn reset(&self, objects: &mut dyn Iterator<Item = (&CachedObject, Option<&Facts>)>) {
        let mut state = self.0.0.write();
        *state = State::default();
        for (object, facts) in objects {
            state.add(object, facts);
        }
    }

    fn changed(&self, event: &CacheEvent, facts: Option<&Facts>) {
        let mut state = self.0.0.write();
        state.remove(&event.subject().key);
        if let Some(new) = &event.new {
            state.add(new, facts);
        }
    }
}

impl State {
    /// Adds a pod's edges. One that is not bound has none; one that cannot be read gives no rights.
    fn add(&mut self, object: &CachedObject, facts: Option<&Facts>) {
        let Some(bound) = facts.and_then(|facts| facts.clone().downcast::<Bound>().ok()) else {
            return;
        };
        for vertex in &bound.refers_to {
            let nodes = self.needed.entry(vertex.clone()).or_default();
            *nodes.entry(bound.node.clone()).or_default() += 1;
        }
        self.pods.insert(object.key.clone(), bound);
    }

    fn remove(&mut self, key: &str) {
        let Some(bound) = self.pods.remove(key) else { return };
        for vertex in &bound.refers_to {
            let Some(nodes) = self.needed.get_mut(vertex) else { continue };
            if let Some(count) = nodes.get_mut(&bound.node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&bound.node);
                }
            }
            if nodes.is_empty() {
                self.needed.remove(vertex);
            }
        }
    }
}

/// The edges of one pod: itself, and what it refers to. A mirror pod is made by its node and
/// gives it no rights.
fn bound(pod: &Pod) -> Option<Bound> {
    let spec = pod.spec.as_ref()?;
    let node = spec.node_name.clone().filter(|node| !node.is_empty())?;
    let vertex = |kind, name: &str| Vertex {
        kind,
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: name.to_owned(),
    };
    let own_name = pod.metadata.name.as_deref().unwrap_or_default();
    let mut refers_to = vec![vertex(VertexKind::Pod, own_name)];
    if !is_mirror(pod) {
        let found = references::of(spec).into_iter();
        refers_to.extend(found.map(|it| vertex(VertexKind::Referred(it.kind), it.name)));
    }
    Some(Bound { node, refers_to })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn pod(name: &str, node: &str, secret: &str, mirror: bool) -> Arc<CachedObject> {
        let annotations = if mirror { json!({ MIRROR: "x" }) } else { json!({}) };
        let value = json!({
            "metadata": { "name": name, "namespace": "n", "annotations": annotations },
            "spec": {
                "nodeName": node,
                "containers": [],
                "volumes": [{ "name": "v", "secret": { "secretName": secret } }],
            },
        });
        Arc::new(CachedObject {
            key: format!("/registry/pods/n/{name}").into(),
            revision: 1,
            bytes: value.to_string().into(),
            namespace: "n".to_owned(),
            name: name.to_owned(),
            labels: BTreeMap::new(),
            fields: vec![("spec.nodeName", node.to_owned())],
            is_decoded: true,
        })
    }

    impl PodFollower {
        /// The facts as the cache has them made.
        fn read(&self, object: &CachedObject) -> Option<Facts> {
            let pod: Pod = serde_json::from_slice(&object.bytes).unwrap();
            self.facts(&pod, object.bytes.len())
        }

        fn observe(&self, event: &CacheEvent) {
            let facts = event.new.as_ref().and_then(|new| self.read(new));
            self.changed(event, facts.as_ref());
        }
    }

    fn event(old: Option<&Arc<CachedObject>>, new: Option<&Arc<CachedObject>>) -> CacheEvent {
        CacheEvent { revision: 2, old: old.cloned(), new: new.cloned() }
    }

    const SECRET: VertexKind = VertexKind::Referred(ReferenceKind::Secret);

    #[test]
    fn a_node_is_related_to_a_secret_while_one_of_its_pods_needs_it() {
        let graph = Arc::new(Graph::default());
        let follower = PodFollower(graph.clone());
        let (first, second) = (pod("p", "a", "s", false), pod("q", "a", "s", false));
        follower.observe(&event(None, Some(&first)));
        follower.observe(&event(None, Some(&second)));
        assert!(graph.related("a", SECRET, "n", "s"));
        assert!(!graph.related("b", SECRET, "n", "s"));
        assert!(!graph.related("a", SECRET, "other", "s"));
        assert!(graph.related("a", VertexKind::Pod, "n", "p"));
        follower.observe(&event(Some(&first), None));
        assert!(graph.related("a", SECRET, "n", "s"));
        follower.observe(&event(Some(&second), None));
        assert!(!graph.related("a", SECRET, "n", "s"));
        assert!(graph.0.read().needed.is_empty());
    }

    #[test]
    fn a_pod_gives_its_node_nothing_before_it_is_bound() {
        let graph = Arc::new(Graph::default());
        let follower = PodFollower(graph.clone());
        let (waiting, bound) = (pod("p", "", "s", false), pod("p", "a", "s", false));
        let facts = follower.read(&waiting);
        follower.reset(&mut [(&*waiting, facts.as_ref())].into_iter());
        assert!(!graph.related("", SECRET, "n", "s"));
        follower.observe(&event(Some(&waiting), Some(&bound)));
        assert!(graph.related("a", SECRET, "n", "s"));
    }

    #[test]
    fn a_mirror_pod_gives_its_node_itself_only() {
        let graph = Arc::new(Graph::default());
        PodFollower(graph.clone()).observe(&event(None, Some(&pod("p", "a", "s", true))));
        assert!(graph.related("a", VertexKind::Pod, "n", "p"));
        assert!(!graph.related("a", SECRET, "n", "s"));
    }
}
