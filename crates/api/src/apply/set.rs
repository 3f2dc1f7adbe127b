//! A set of fields: a tree of path steps, in which some nodes are members.
//!
//! That `spec.replicas` is a member says nothing of `spec`: a parent belongs to the set only if it
//! was put there. In managedFields a member with members below it is marked by `"."`.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::element::{Element, ElementError};

/// A set of field paths: steps in their order, each once. A list, because most nodes have one or two
/// steps below them, for which a tree would keep room for eleven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(Vec<(Element, Node)>);

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

    fn unite(&mut self, other: Self) {
        self.member |= other.member;
        self.children.unite(other.children);
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
        self.place(element).ok().map(|at| &self.0[at].1)
    }

    fn place(&self, element: &Element) -> Result<usize, usize> {
        self.0.binary_search_by(|(step, _)| step.cmp(element))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Element, &Node)> {
        self.0.iter().map(|(element, node)| (element, node))
    }

    /// Puts in a node that is not there yet; an empty one is not put in. Cheap in the order of the
    /// elements only: see [`FieldSet::of_steps`].
    pub(super) fn insert(&mut self, element: Element, node: Node) {
        if node.is_empty() {
            return;
        }
        let at = match self.0.last() {
            None => {
                // Mostly there is no second one.
                self.0.reserve_exact(1);
                Err(0)
            }
            Some((last, _)) if *last < element => Err(self.0.len()),
            Some(_) => self.place(&element),
        };
        match at {
            Ok(at) => self.0[at].1.unite(node),
            Err(at) => self.0.insert(at, (element, node)),
        }
    }

    /// The set of steps in any order, of which some may be alike.
    pub(super) fn of_steps(mut steps: Vec<(Element, Node)>) -> Self {
        steps.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut set = Self(Vec::with_capacity(steps.len()));
        steps.into_iter().for_each(|(element, node)| set.insert(element, node));
        set
    }

    /// Adds the members of the other.
    pub(super) fn unite(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        // Few into many, as a change is into all that its manager has.
        if other.0.len() < 8 {
            other.0.into_iter().for_each(|(element, node)| self.insert(element, node));
            return;
        }
        let mut own = std::mem::take(&mut self.0).into_iter().peekable();
        let mut others = other.0.into_iter().peekable();
        self.0.reserve_exact(own.len().max(others.len()));
        while let (Some((one, _)), Some((other, _))) = (own.peek(), others.peek()) {
            let order = one.cmp(other);
            let from = if order == Ordering::Greater { &mut others } else { &mut own };
            self.0.extend(from.next());
            if order == Ordering::Equal
                && let (Some((_, node)), Some((_, same))) = (self.0.last_mut(), others.next())
            {
                node.unite(same);
            }
        }
        self.0.extend(own);
        self.0.extend(others);
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
        self.0.retain_mut(|(element, node)| {
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

    /// The least length of the FieldsV1 form as JSON, in bytes, without making it.
    pub fn encoded_len(&self) -> usize {
        let of = |(element, node): &(Element, Node)| {
            element.encoded_len() + node.children.encoded_len() + r#""":{},"#.len()
        };
        self.0.iter().map(of).sum()
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
        let mut steps = Vec::with_capacity(fields.len());
        for (name, below) in fields.iter().filter(|(name, _)| *name != ".") {
            let element = match Element::decode(name) {
                Err(ElementError::Unknown) => continue,
                element => element?,
            };
            let children = Self::decode(below)?;
            let member = children.is_empty() || below.get(".").is_some();
            steps.push((element, Node { member, children }));
        }
        Ok(Self::of_steps(steps))
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
