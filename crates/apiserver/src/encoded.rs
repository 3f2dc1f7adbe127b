//! Objects as bytes: what the store keeps, and what clients get.
//!
//! An object is encoded once ([`encode`](crate::encode)), at its write, without its resourceVersion, which is not known until
//! the store returns. Every encoding starts with the same head for its kind, so the version is put
//! in at a fixed place by copying, never by parsing:
//!
//! ```text
//! {"apiVersion":"v1","kind":"Secret","metadata":{                          head
//!                                                "resourceVersion":"42",   stamp
//!                                                "name":"mysecret",…       tail
//! ```

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

/// Whether stamped bytes are those of what is to be stored: a write that changes nothing.
pub(crate) fn is_stamped(head: &Head, stored: &[u8], revision: Revision, stamped: &[u8]) -> bool {
    let (head, stamp) = (head.0.as_bytes(), stamp_text(revision));
    let tail = stamped.strip_prefix(head).and_then(|rest| rest.strip_prefix(stamp.as_bytes()));
    tail.is_some_and(|tail| stored.strip_prefix(head) == Some(tail))
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

    #[test]
    fn bytes_are_the_same_if_only_the_stamp_differs() {
        let head = Head::new("v1", "Secret");
        let stored = |data| {
            format!(
                r#"{{"apiVersion":"v1","kind":"Secret","metadata":{{"name":"a"}},"data":{data}}}"#
            )
        };
        let (one, other) = (stored(1), stored(2));
        let stamped = stamp(&head, one.as_bytes(), 9).unwrap();
        assert!(is_stamped(&head, one.as_bytes(), 9, &stamped));
        assert!(!is_stamped(&head, one.as_bytes(), 8, &stamped));
        assert!(!is_stamped(&head, other.as_bytes(), 9, &stamped));
        assert!(!is_stamped(&head, b"", 9, b""));
        assert!(!is_stamped(&Head::new("v1", "Pod"), one.as_bytes(), 9, &stamped));
    }
}
