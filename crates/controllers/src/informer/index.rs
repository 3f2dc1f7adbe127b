//! Indices of pods that several controllers share.

use super::IndexBy;
use crate::pod::{Pod, is_terminal, node_name};

/// Pods by the node that they are bound to.
pub(crate) struct ByNode;

impl IndexBy<Pod> for ByNode {
    type Key = String;

    fn keys(pod: &Pod, each: &mut dyn FnMut(String)) {
        node_name(pod).map(str::to_owned).into_iter().for_each(each);
    }
}

/// Pods that have ended.
pub(crate) struct Ended;

impl IndexBy<Pod> for Ended {
    type Key = ();

    fn keys(pod: &Pod, each: &mut dyn FnMut(())) {
        is_terminal(pod).then_some(()).into_iter().for_each(each);
    }
}
