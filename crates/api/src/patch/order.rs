//! The order of a list after a strategic merge: patched items in the patch's order, the others in
//! the live object's, interleaved as the live order suggests.

use std::collections::HashMap;

use serde_json::Value;

/// What tells a list's items apart, in a form that hashes: scalars are few bytes.
pub(super) type Key = String;

pub(super) fn key_of_scalar(value: &Value) -> Key {
    value.to_string()
}

/// Rearranges `items`, whose keys are `keys`.
///
/// `patch_order` and `live_order` are keys; an item is a patched one if its key is in `patch_order`.
pub(super) fn rearrange(
    items: &mut Vec<Value>,
    keys: &[Key],
    patch_order: &[Key],
    live_order: &[Key],
) {
    let patch_rank = ranks(patch_order);
    let live_rank = ranks(live_order);
    let (mut patched, mut others): (Vec<usize>, Vec<usize>) =
        (0..items.len()).partition(|at| patch_rank.contains_key(&keys[*at]));
    let rank_in = |ranks: &HashMap<&Key, usize>, at: usize| ranks.get(&keys[at]).copied();
    patched.sort_by_key(|at| rank_in(&patch_rank, *at));
    others.sort_by_key(|at| rank_in(&live_rank, *at));

    let mut order = Vec::with_capacity(items.len());
    let (mut patched, mut others) = (patched.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(one), Some(other)) = (patched.peek(), others.peek()) {
        let other_first = match (rank_in(&live_rank, *other), rank_in(&live_rank, *one)) {
            (Some(other), Some(one)) => other < one,
            _ => false,
        };
        order.extend(if other_first { others.next() } else { patched.next() });
    }
    order.extend(patched);
    order.extend(others);
    let rearranged: Vec<Value> = order.into_iter().map(|at| items[at].take()).collect();
    *items = rearranged;
}

/// Each key's first place.
fn ranks(keys: &[Key]) -> HashMap<&Key, usize> {
    let mut ranks = HashMap::with_capacity(keys.len());
    for (rank, key) in keys.iter().enumerate() {
        ranks.entry(key).or_insert(rank);
    }
    ranks
}
