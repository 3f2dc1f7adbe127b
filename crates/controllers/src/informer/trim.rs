//! What is not kept of nodes. They are changed by patch only, so that nothing that is cut out here gets
//! lost.

use k8s_openapi::api::core::v1::Node;

/// Drops what a node has of images: their names are most of it.
pub(super) fn node(node: &mut Node) {
    let meta = &mut node.metadata;
    meta.managed_fields = None;
    if let Some(status) = &mut node.status {
        (status.images, status.volumes_in_use, status.volumes_attached) = (None, None, None);
    }
}
