//! Fields of nodes that are not kept. Nodes are changed by patch only, which does not remove them from the
//! server.

use k8s_openapi::api::core::v1::Node;

/// Removes managed fields, images and volumes. The names of images are most of a node.
pub(super) fn node(node: &mut Node) {
    let meta = &mut node.metadata;
    meta.managed_fields = None;
    if let Some(status) = &mut node.status {
        (status.images, status.volumes_in_use, status.volumes_attached) = (None, None, None);
    }
}
