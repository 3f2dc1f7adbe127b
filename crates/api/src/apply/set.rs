//! A set of fields: a tree of path steps, in which some nodes are members.
//!
//! That `spec.replicas` is a member says nothing of `spec`: a parent belongs to the set only if it
//! was put there. In managedFields a member with members below it is marked by `"."`.

use std::collections::BTreeMap;
use std::collections::btree_map;

use serde_json::{Map, Value};

use super::element::{Element, ElementError};

/// A set of field paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(BTreeMap<Element, Node>);

/// A step that is a member, or leads to members, or both; never neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) member: bool,
    pub(super) children: FieldSet,
}

impl Node {
    /// A member with nothing below it.
    pub(super) fn leaf() -> Self {
        Self { member: true, children: FieldSet::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }
}

impl FieldSet {
    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A set with one member, for tests and constants.
    pub fn of_fields(path: &[&str]) -> Self {
        let mut set = Self::default();
        if let Some((first, rest)) = path.split_first() {
            let node = if rest.is_empty() {
                Node::leaf()
            } else {
                Node { member: false, children: Self::of_fields(rest) }
            };
            set.insert(Element::field(first), node);
        }
        set
    }

    pub(super) fn get(&self, element: &Element) -> Option<&Node> {
        self.0.get(element)
    }

    pub(super) fn iter(&self) -> btree_map::Iter<'_, Element, Node> {
        self.0.iter()
    }

    /// Puts in a node that is not there yet; an empty one is not put in.
    pub(super) fn insert(&mut self, element: Element, node: Node) {
        if node.is_empty() {
            return;
        }
        match self.0.entry(element) {
            btree_map::Entry::Vacant(place) => {
                place.insert(node);
            }
            btree_map::Entry::Occupied(mut place) => {
                let old = place.get_mut();
                old.member |= node.member;
                old.children.unite(node.children);
            }
        }
    }

    /// Adds the members of the other.
    pub(super) fn unite(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        for (element, node) in other.0 {
            self.insert(element, node);
        }
    }

    /// Takes away the members of the other; what is below them stays.
    pub(super) fn subtract(&mut self, other: &Self) {
        self.take_away(other, false);
    }

    /// Takes away the members of the other with all below them.
    pub(super) fn subtract_subtrees(&mut self, other: &Self) {
        self.take_away(other, true);
    }

    fn take_away(&mut self, other: &Self, subtrees: bool) {
        if self.is_empty() || other.is_empty() {
            return;
        }
        self.0.retain(|element, node| {
            let Some(gone) = other.get(element) else { return true };
            if gone.member && subtrees {
                return false;
            }
            node.member &= !gone.member;
            node.children.take_away(&gone.children, subtrees);
            !node.is_empty()
        });
    }

    /// The members of both.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for (element, node) in &self.0 {
            if let Some(same) = other.get(element) {
                let node = Node {
                    member: node.member && same.member,
                    children: node.children.intersection(&same.children),
                };
                both.insert(element.clone(), node);
            }
        }
        both
    }

    /// Whether a path, given from the root, is a member.
    pub(super) fn contains(&self, path: &[Element]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        let Some(node) = self.get(first) else { return false };
        if rest.is_empty() { node.member } else { node.children.contains(rest) }
    }

    /// Every member's path, parents first.
    pub(super) fn paths(&self) -> Vec<Vec<Element>> {
        let mut paths = Vec::new();
        self.collect_paths(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &mut Vec<Element>, paths: &mut Vec<Vec<Element>>) {
        for (element, node) in &self.0 {
            prefix.push(element.clone());
            if node.member {
                paths.push(prefix.clone());
            }
            node.children.collect_paths(prefix, paths);
            prefix.pop();
        }
    }

    /// The FieldsV1 form.
    pub fn encode(&self) -> Value {
        Value::Object(self.encode_members())
    }

    fn encode_members(&self) -> Map<String, Value> {
        self.0
            .iter()
            .map(|(element, node)| {
                let mut below = node.children.encode_members();
                if node.member && !below.is_empty() {
                    below.insert(".".to_owned(), Value::Object(Map::new()));
                }
                (element.encode(), Value::Object(below))
            })
            .collect()
    }

    /// Reads the FieldsV1 form. Steps of unknown kind are dropped.
    pub(super) fn decode(fields: &Value) -> Result<Self, FieldsError> {
        let fields = fields.as_object().ok_or(FieldsError::NoObject)?;
        let mut set = Self::default();
        for (name, below) in fields.iter().filter(|(name, _)| *name != ".") {
            let element = match Element::decode(name) {
                Err(ElementError::Unknown) => continue,
                element => element?,
            };
            let children = Self::decode(below)?;
            let member = children.is_empty() || below.get(".").is_some();
            set.insert(element, Node { member, children });
        }
        Ok(set)
    }
}

/// Why FieldsV1 cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FieldsError {
    #[error("expected an object")]
    NoObject,
    #[error(transparent)]
    Element(#[from] ElementError),
}
