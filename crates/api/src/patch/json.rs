//! JSON patch, RFC 6902, with the liberties that `evanphx/json-patch` v4 takes and upstream has
//! therefore promised: negative indices count from the end, `replace` sets an absent member, `test`
//! and `copy` take an absent member for null, what stands before a pointer's first slash is ignored.

use serde_json::{Map, Value};

use super::{
    COPY_BYTES_MAX, COPY_MEMORY_BYTES_MAX, NESTING_MAX, OPERATIONS_MAX, PatchError, STEPS_MAX,
    decode_json, discard, wrong_type,
};
use crate::document::{Document, json_len};
use crate::schema::read::memory_bytes;

/// The operations of a body, each checked when its turn comes.
pub(super) fn decode(body: &[u8]) -> Result<Document, PatchError> {
    let document = decode_json(body)?;
    let operations = match document.value() {
        Value::Array(operations) => operations,
        // Go decodes null into a patch without operations.
        Value::Null => return Ok(Document::new(Value::Array(Vec::new()))),
        other => return Err(PatchError::Malformed(wrong_type(other, "jsonpatch.Patch"))),
    };
    if let Some(other) = operations.iter().find(|operation| !operation.is_object()) {
        return Err(PatchError::Malformed(wrong_type(other, "jsonpatch.Operation")));
    }
    if operations.len() > OPERATIONS_MAX {
        return Err(PatchError::TooManyOperations(operations.len()));
    }
    Ok(document)
}

/// Applies each operation in turn; the first that fails ends it.
pub(super) fn apply(target: &mut Value, operations: &Document) -> Result<(), PatchError> {
    let Value::Array(operations) = operations.value() else { return Ok(()) };
    let mut work = Work::default();
    for operation in operations.iter().filter_map(Value::as_object) {
        one(target, operation, &mut work).map_err(PatchError::NotApplicable)?;
    }
    Ok(())
}

/// What the operations so far have cost.
#[derive(Default)]
struct Work {
    copied_bytes: usize,
    copied_memory_bytes: usize,
    steps: usize,
}

impl Work {
    fn step(&mut self, steps: usize) -> Result<(), String> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > STEPS_MAX {
            return Err(format!("the patch takes more than {STEPS_MAX} steps"));
        }
        Ok(())
    }
}

fn one(target: &mut Value, operation: &Map<String, Value>, work: &mut Work) -> Result<(), String> {
    let value = || operation.get("value").unwrap_or(&Value::Null);
    let text = |name| operation.get(name).and_then(Value::as_str);
    let op = text("op").unwrap_or("unknown");
    let path = || {
        text("path").ok_or_else(|| format!("{op} operation failed to decode path: missing value"))
    };
    let from = || {
        text("from").ok_or_else(|| {
            format!(
                "{op} operation failed to decode from: operation, missing from field: missing value"
            )
        })
    };
    match op {
        "add" => add(target, path()?, value().clone(), work),
        "remove" => remove(target, path()?, work),
        "replace" => replace(target, path()?, value(), work),
        "move" => move_(target, from()?, path()?, work),
        "test" => test(target, path()?, value()),
        "copy" => copy(target, from()?, path()?, work),
        _ => Err("Unexpected kind: unknown".to_owned()),
    }
}

fn add(target: &mut Value, path: &str, value: Value, work: &mut Work) -> Result<(), String> {
    check_depth(path, &value, work)?;
    let (mut container, key) = find(target, path).ok_or_else(|| {
        format!("add operation does not apply: doc is missing path: \"{path}\": missing value")
    })?;
    container
        .add(&key, value, work)
        .map_err(|error| format!("error in add for path: '{path}': {error}"))
}

fn remove(target: &mut Value, path: &str, work: &mut Work) -> Result<(), String> {
    let (mut container, key) = find(target, path).ok_or_else(|| {
        format!("remove operation does not apply: doc is missing path: \"{path}\": missing value")
    })?;
    let removed = container
        .remove(&key, work)
        .map_err(|error| format!("error in remove for path: '{path}': {error}"))?;
    discard(Some(removed));
    Ok(())
}

fn replace(target: &mut Value, path: &str, value: &Value, work: &mut Work) -> Result<(), String> {
    check_depth(path, value, work)?;
    if path.is_empty() {
        if !value.is_object() && !value.is_array() {
            return Err("replace operation value must be object or array".to_owned());
        }
        discard(Some(std::mem::replace(target, value.clone())));
        return Ok(());
    }
    let (container, key) = find(target, path).ok_or_else(|| {
        format!("replace operation does not apply: doc is missing path: {path}: missing value")
    })?;
    match container {
        Container::Object(members) => discard(members.insert(key, value.clone())),
        Container::Array(items) => {
            let at = index(&key, items.len()).map_err(|_| {
                format!(
                    "replace operation does not apply: doc is missing key: {path}: missing value"
                )
            })?;
            discard(Some(std::mem::replace(&mut items[at], value.clone())));
        }
    }
    Ok(())
}

fn move_(target: &mut Value, from: &str, path: &str, work: &mut Work) -> Result<(), String> {
    let (mut container, key) = find(target, from).ok_or_else(|| {
        format!("move operation does not apply: doc is missing from path: {from}: missing value")
    })?;
    let value = container
        .remove(&key, work)
        .map_err(|error| format!("error in move for path: '{key}': {error}"))?;
    // Held in a document meanwhile: if there is no place for it, it is erased.
    let mut value = Document::new(value);
    check_depth(path, value.value(), work)?;
    let (mut container, key) = find(target, path).ok_or_else(|| {
        format!(
            "move operation does not apply: doc is missing destination path: {path}: missing value"
        )
    })?;
    container
        .add(&key, value.value_mut().take(), work)
        .map_err(|error| format!("error in move for path: '{path}': {error}"))
}

fn test(target: &mut Value, path: &str, value: &Value) -> Result<(), String> {
    let found = if path.is_empty() {
        &*target
    } else {
        let (container, key) = find(target, path).ok_or_else(|| {
            format!("test operation does not apply: is missing path: {path}: missing value")
        })?;
        container
            .into_member(&key)
            .map_err(|error| format!("error in test for path: '{path}': {error}"))?
    };
    if found == value { Ok(()) } else { Err(format!("testing value {path} failed: test failed")) }
}

fn copy(target: &mut Value, from: &str, path: &str, work: &mut Work) -> Result<(), String> {
    let (container, key) = find(target, from).ok_or_else(|| {
        format!("copy operation does not apply: doc is missing from path: {from}: missing value")
    })?;
    let found = container
        .into_member(&key)
        .map_err(|error| format!("error in copy for from: '{from}': {error}"))?;
    work.copied_bytes = work.copied_bytes.saturating_add(json_len(found));
    let copied_bytes = work.copied_bytes;
    if copied_bytes > COPY_BYTES_MAX {
        return Err(format!(
            "Unable to complete the copy, the accumulated size increase of copy is {copied_bytes}, \
             exceeding the limit {COPY_BYTES_MAX}"
        ));
    }
    work.copied_memory_bytes = work.copied_memory_bytes.saturating_add(memory_bytes(found));
    if work.copied_memory_bytes > COPY_MEMORY_BYTES_MAX {
        return Err("Unable to complete the copy, it takes too much memory".to_owned());
    }
    check_depth(path, found, work)?;
    let mut value = Document::new(found.clone());
    let (mut container, key) = find(target, path).ok_or_else(|| {
        format!(
            "copy operation does not apply: doc is missing destination path: {path}: missing value"
        )
    })?;
    container
        .add(&key, value.value_mut().take(), work)
        .map_err(|error| format!("error while adding value during copy: {error}"))
}

/// Moves and copies can put a document deeper and deeper into itself, and whatever walks it later,
/// be it only to drop it, does so on the stack.
fn check_depth(path: &str, value: &Value, work: &mut Work) -> Result<(), String> {
    fn depth(value: &Value, steps: &mut usize) -> usize {
        *steps += 1;
        match value {
            Value::Object(members) => {
                1 + members.values().map(|member| depth(member, steps)).max().unwrap_or(0)
            }
            Value::Array(items) => {
                1 + items.iter().map(|item| depth(item, steps)).max().unwrap_or(0)
            }
            _ => 0,
        }
    }

    let above = path.matches('/').count();
    let mut steps = 0;
    let depth = depth(value, &mut steps);
    work.step(steps)?;
    if above + depth > NESTING_MAX { Err("exceeded max depth".to_owned()) } else { Ok(()) }
}

/// What a pointer's last step is taken in.
enum Container<'a> {
    Object(&'a mut Map<String, Value>),
    Array(&'a mut Vec<Value>),
}

/// The container a pointer ends in and the last key; `None` if there is no such container, also for
/// the whole document.
fn find<'a>(target: &'a mut Value, path: &str) -> Option<(Container<'a>, String)> {
    let (_, steps) = path.split_once('/')?;
    let mut steps: Vec<String> = steps.split('/').map(unescape).collect();
    let last = steps.pop()?;
    let mut at = target;
    for step in steps {
        at = match at {
            Value::Object(members) => members.get_mut(&step)?,
            Value::Array(items) => {
                let at = index(&step, items.len()).ok()?;
                &mut items[at]
            }
            _ => return None,
        };
    }
    match at {
        Value::Object(members) => Some((Container::Object(members), last)),
        Value::Array(items) => Some((Container::Array(items), last)),
        _ => None,
    }
}

fn unescape(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

/// An existing item's place.
fn index(key: &str, len: usize) -> Result<usize, String> {
    let at = parse_index(key)?;
    let from_start = if at < 0 { at.checked_add_unsigned(len as u64) } else { Some(at) };
    from_start
        .and_then(|at| usize::try_from(at).ok())
        .filter(|at| *at < len)
        .ok_or_else(|| invalid_index(at))
}

fn parse_index(key: &str) -> Result<i64, String> {
    key.parse().map_err(|_| format!("strconv.Atoi: parsing \"{key}\": invalid syntax"))
}

fn invalid_index(at: i64) -> String {
    format!("Unable to access invalid index: {at}: invalid index referenced")
}

impl<'a> Container<'a> {
    fn into_member(self, key: &str) -> Result<&'a Value, String> {
        match self {
            Self::Object(members) => Ok(members.get(key).unwrap_or(&Value::Null)),
            Self::Array(items) => {
                let at = index(key, items.len())?;
                Ok(&items[at])
            }
        }
    }

    fn add(&mut self, key: &str, value: Value, work: &mut Work) -> Result<(), String> {
        match self {
            Self::Object(members) => {
                discard(members.insert(key.to_owned(), value));
                Ok(())
            }
            Self::Array(items) if key == "-" => {
                items.push(value);
                Ok(())
            }
            Self::Array(items) => {
                // One more place than there are items: behind the last is a place, too.
                let at = parse_index(key)
                    .map_err(|error| {
                        format!("value was not a proper array index: '{key}': {error}")
                    })
                    .and_then(|_| index(key, items.len() + 1));
                match at {
                    Ok(at) => {
                        work.step(items.len() - at)?;
                        items.insert(at, value);
                        Ok(())
                    }
                    Err(error) => {
                        discard(Some(value));
                        Err(error)
                    }
                }
            }
        }
    }

    fn remove(&mut self, key: &str, work: &mut Work) -> Result<Value, String> {
        match self {
            Self::Object(members) => members
                .remove(key)
                .ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value")),
            Self::Array(items) => {
                let at = index(key, items.len())?;
                work.step(items.len() - at)?;
                Ok(items.remove(at))
            }
        }
    }
}
