//! The Node authorizer: what a kubelet's credential may do.
//!
//! A node reads the secrets and config maps of pods that run on it and of no others, its own Node
//! and Lease, and its own pods. A stolen node key gives access to what that node runs and no more.
//! Admission decides what a node may write into the objects that it may write.

pub(crate) mod graph;

use std::sync::Arc;

use coffer_api::references::ReferenceKind;
use coffer_api::subresource::SubresourceName;
use coffer_api::well_known::api_group;
use k8s_openapi::api::rbac::v1::PolicyRule;

use self::graph::{Graph, VertexKind};
use super::attributes::{Attributes, ResourceTarget, Target};
use super::decision::Decision;
use super::rbac::{policy, rule};
use crate::identity::Identity;

/// Where nodes keep their leases.
pub(crate) const LEASES: &str = coffer_api::well_known::namespace::NODE_LEASE;

/// Decides on requests of nodes.
pub(crate) struct NodeAuthorizer {
    graph: Arc<Graph>,
    rules: Vec<PolicyRule>,
}

impl NodeAuthorizer {
    pub(crate) fn new(graph: Arc<Graph>) -> Self {
        Self { graph, rules: policy::node_rules() }
    }

    /// Decides for a node; has no opinion on other callers.
    pub(crate) fn decide(&self, identity: &Identity, asked: &Attributes<'_>) -> Decision {
        let Some(node) = identity.node() else { return Decision::no_opinion() };
        if node.is_empty() {
            return Decision::denied(format!("unknown node for user {:?}", identity.user));
        }
        let verb = &*asked.verb;
        if let Target::Resource(target) = &asked.target {
            match (&*target.group, &*target.resource) {
                ("", "secrets") => return self.read(node, verb, ReferenceKind::Secret, target),
                ("", "configmaps") => {
                    return self.read(node, verb, ReferenceKind::ConfigMap, target);
                }
                ("", "serviceaccounts") => return self.account(node, verb, target),
                (api_group::COORDINATION, "leases") => return lease(node, verb, target),
                ("", "nodes") => return own_node(node, verb, target),
                ("", "pods") => return self.pod(node, verb, target),
                _ => {}
            }
        }
        if self.rules.iter().any(|own| rule::allows(own, asked)) {
            return Decision::Allow;
        }
        Decision::no_opinion()
    }

    fn related(&self, node: &str, kind: VertexKind, target: &ResourceTarget<'_>) -> Decision {
        if target.name.is_empty() {
            return Decision::denied("No Object name found");
        }
        if self.graph.related(node, kind, &target.namespace, &target.name) {
            return Decision::Allow;
        }
        unrelated(node)
    }

    /// One named object that a pod of the node refers to.
    fn read(
        &self,
        node: &str,
        verb: &str,
        kind: ReferenceKind,
        target: &ResourceTarget<'_>,
    ) -> Decision {
        if !matches!(verb, "get" | "list" | "watch") {
            return Decision::denied("can only read resources of this type");
        }
        if !target.subresource.is_empty() {
            return Decision::denied("cannot read subresource");
        }
        if target.namespace.is_empty() {
            return Decision::denied("can only read namespaced object of this type");
        }
        self.related(node, VertexKind::Referred(kind), target)
    }

    /// The account of a pod of the node: a token for it, and the account itself, whose annotations
    /// credential providers for images ask for.
    fn account(&self, node: &str, verb: &str, target: &ResourceTarget<'_>) -> Decision {
        let kind = VertexKind::Referred(ReferenceKind::ServiceAccount);
        if verb == "get" && target.subresource.is_empty() {
            return self.related(node, kind, target);
        }
        if verb != "create" || target.name.is_empty() {
            return Decision::denied("can only create tokens for individual service accounts");
        }
        if target.subresource != SubresourceName::Token.as_str() {
            return Decision::denied("can only create token subresource of serviceaccount");
        }
        self.related(node, kind, target)
    }

    fn pod(&self, node: &str, verb: &str, target: &ResourceTarget<'_>) -> Decision {
        match (&*target.subresource, verb) {
            ("", "get") => self.related(node, VertexKind::Pod, target),
            ("", "list" | "watch") => {
                if target.fields.exact("spec.nodeName") == Some(node) {
                    return Decision::Allow;
                }
                if !target.name.is_empty() {
                    return self.related(node, VertexKind::Pod, target);
                }
                Decision::denied("can only list/watch pods with spec.nodeName field selector")
            }
            // Mirror pods, status and evictions: NodeRestriction narrows them to the node's own.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                Decision::Allow
            }
            _ => Decision::no_opinion(),
        }
    }
}

fn unrelated(node: &str) -> Decision {
    Decision::denied(format!("no relationship found between node '{node}' and this object"))
}

fn lease(node: &str, verb: &str, target: &ResourceTarget<'_>) -> Decision {
    if !matches!(verb, "get" | "create" | "update" | "patch" | "delete") {
        return Decision::denied("can only get, create, update, patch, or delete a node lease");
    }
    if target.namespace != LEASES {
        return Decision::denied(format!(
            "can only access leases in the {LEASES:?} system namespace"
        ));
    }
    // The name of a new lease is in its body: NodeRestriction looks at it.
    if verb != "create" && target.name != node {
        return Decision::denied(
            "can only access node lease with the same name as the requesting node",
        );
    }
    Decision::Allow
}

fn own_node(node: &str, verb: &str, target: &ResourceTarget<'_>) -> Decision {
    match (&*target.subresource, verb) {
        // NodeRestriction narrows the first two to the node's own object.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Decision::Allow,
        ("", "get" | "list" | "watch") => match &*target.name {
            // By name and not by graph: a kubelet looks for its Node before it makes it.
            name if name == node => Decision::Allow,
            "" => Decision::denied(format!(
                "node '{node}' cannot read all nodes, only its own Node object"
            )),
            other => Decision::denied(format!(
                "node '{node}' cannot read '{other}', only its own Node object"
            )),
        },
        _ => Decision::no_opinion(),
    }
}
