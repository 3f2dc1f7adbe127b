//! Objects as bytes: what the store keeps, and what clients get.
//!
//! An object is encoded once, at its write, without its resourceVersion, which is not known until
//! the store answers. Every encoding starts with the same head for its kind, so the version is put
//! in at a fixed place by copying, never by parsing:
//!
//! ```text
//! {"apiVersion":"v1","kind":"Secret","metadata":{                          head
//!                                                "resourceVersion":"42",   stamp
//!                                                "name":"mysecret",…       tail
//! ```

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use coffer_store::Revision;
use zeroize::Zeroizing;

/// The fixed beginning of every object of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head(Arc<str>, usize);

impl Head {
    /// The head of a kind's encoding.
    pub(crate) fn new(api_version: &str, kind: &str) -> Self {
        let type_meta = format!("{{\"apiVersion\":\"{api_version}\",\"kind\":\"{kind}\",");
        let item_at = type_meta.len();
        Self(format!("{type_meta}\"metadata\":{{").into(), item_at)
    }

    /// The item of a list: the object without apiVersion and kind, as typed lists have it, in two
    /// pieces to send one after the other.
    pub(crate) fn list_item(&self, object: &Bytes) -> (&'static [u8], Bytes) {
        (b"{", object.slice(self.1..))
    }
}

/// Puts the revision into stored bytes. `None` where the bytes are not this kind's encoding.
pub(crate) fn stamp(head: &Head, stored: &[u8], revision: Revision) -> Option<Bytes> {
    let tail = stored.strip_prefix(head.0.as_bytes())?;
    Some(assemble(head, tail, revision))
}

/// Replaces the revision in stamped bytes: a deleted object carries the deletion's.
pub(crate) fn restamp(head: &Head, stamped: &[u8], old: Revision, new: Revision) -> Bytes {
    let skip = head.0.len() + stamp_text(old).len();
    assemble(head, &stamped[skip..], new)
}

fn assemble(head: &Head, tail: &[u8], revision: Revision) -> Bytes {
    let stamp = stamp_text(revision);
    let mut out = Zeroizing::new(Vec::with_capacity(head.0.len() + stamp.len() + tail.len()));
    out.extend_from_slice(head.0.as_bytes());
    out.extend_from_slice(stamp.as_bytes());
    out.extend_from_slice(tail);
    erasing(out)
}

fn stamp_text(revision: Revision) -> String {
    format!("\"resourceVersion\":\"{revision}\",")
}

/// Moves `metadata` to the front of a typed object's JSON, behind apiVersion and kind: the types
/// encode their fields by alphabet, and [`stamp`] wants one place for all kinds.
pub(crate) fn metadata_first(json: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    let is_metadata = |member: &Range<usize>| json[member.clone()].starts_with(b"\"metadata\":");
    // So it is for most kinds, secrets among them: the rest of the object need not be looked at.
    if members(&json).nth(2).as_ref().is_some_and(is_metadata) {
        return json;
    }
    let members: Vec<_> = members(&json).collect();
    let Some(place) = members.iter().position(is_metadata) else { return json };
    let mut out = Zeroizing::new(Vec::with_capacity(json.len()));
    out.push(b'{');
    let order = (0..2).chain([place]).chain((2..members.len()).filter(|at| *at != place));
    for (nth, at) in order.enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&json[members[at].clone()]);
    }
    out.push(b'}');
    out
}

/// The byte ranges of a compact JSON object's members, `"key":value` each, found one by one.
fn members(json: &[u8]) -> impl Iterator<Item = Range<usize>> + '_ {
    let end = json.len() - 1;
    let mut start = 1;
    std::iter::from_fn(move || {
        if start > end {
            return None;
        }
        let member = start..member_end(&json[..end], start);
        start = member.end + 1;
        Some(member)
    })
}

/// Where the member that begins at `start` ends: at a comma outside of it, or with the object.
fn member_end(json: &[u8], start: usize) -> usize {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in json.iter().enumerate().skip(start) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return at,
            _ => {}
        }
    }
    json.len()
}

/// Shared bytes that are erased when the last holder drops them.
pub(crate) fn erasing(bytes: Zeroizing<Vec<u8>>) -> Bytes {
    struct Owner(Zeroizing<Vec<u8>>);

    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    Bytes::from_owner(Owner(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_moves_in_front_of_fields_that_sort_before_it() {
        let json = br#"{"apiVersion":"v1","kind":"ConfigMap","data":{"a,":"\"},{"},"metadata":{"name":"x"},"z":[1,{}]}"#;
        let moved = metadata_first(Zeroizing::new(json.to_vec()));
        let wanted = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a,":"\"},{"},"z":[1,{}]}"#;
        assert_eq!(moved.as_slice(), wanted);
    }

    #[test]
    fn an_object_whose_metadata_is_in_front_or_missing_stays_as_it_is() {
        for json in [
            r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"},"data":{"a":"b"}}"#,
            r#"{"apiVersion":"v1","kind":"Secret","metadata":{}}"#,
            r#"{"apiVersion":"v1","kind":"Secret"}"#,
            r#"{"apiVersion":"v1"}"#,
        ] {
            let same = metadata_first(Zeroizing::new(json.as_bytes().to_vec()));
            assert_eq!(same.as_slice(), json.as_bytes());
        }
    }

    #[test]
    fn a_stamp_goes_to_the_front_of_metadata_and_can_be_replaced() {
        let head = Head::new("v1", "Secret");
        let stored = br#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"data":{}}"#;
        let stamped = stamp(&head, stored, 9).unwrap();
        assert_eq!(
            stamped,
            &br#"{"apiVersion":"v1","kind":"Secret","metadata":{"resourceVersion":"9","name":"a"},"data":{}}"#[..]
        );
        let again = restamp(&head, &stamped, 9, 1000);
        assert_eq!(again, stamp(&head, stored, 1000).unwrap());
        let (open, rest) = head.list_item(&again);
        assert_eq!(open, b"{");
        assert!(rest.starts_with(br#""metadata":{"resourceVersion":"1000""#));
        assert!(stamp(&Head::new("v1", "Pod"), stored, 1).is_none());
    }
}
