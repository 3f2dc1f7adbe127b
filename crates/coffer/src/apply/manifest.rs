//! Manifests from files: YAML and JSON, streams and Lists, and JSON with small mistakes.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use coffer_api::{Document, yaml};
use serde_json::Value;
use zeroize::Zeroizing;

/// Extensions of manifests in a directory, as in kubectl.
const ENDINGS: [&str; 3] = ["json", "yaml", "yml"];
/// Maximum nesting of Lists.
const NESTING_MAX: usize = 8;

/// The objects of a file, directory or standard input, and what had to be repaired to read them.
///
/// # Errors
/// When a file cannot be read: names the file and the line, never its text.
pub(super) fn read(path: &Path) -> Result<(Vec<Document>, Vec<String>)> {
    let (mut objects, mut repairs) = (Vec::new(), Vec::new());
    for file in files(path)? {
        let bytes = content(&file)?;
        let shown = file.display();
        let text = std::str::from_utf8(&bytes).with_context(|| format!("{shown} is not text"))?;
        let (found, repair) = documents(text).with_context(|| format!("cannot read {shown}"))?;
        repairs.extend(repair.map(|repair| format!("{shown}: {repair}")));
        objects.extend(found);
    }
    Ok((objects, repairs))
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries =
        std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry?.path();
        let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if file.is_file() && ENDINGS.contains(&ending) {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn content(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
    } else {
        let mut file =
            std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        file.read_to_end(&mut bytes).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(bytes)
}

/// The objects of a text. If only closing brackets at its end are missing, they are added and the addition is
/// returned.
fn documents(text: &str) -> Result<(Vec<Document>, Option<String>)> {
    let (all, repair) = match yaml::parse_all(text.as_bytes()) {
        Ok(all) => (all, None),
        Err(error) => {
            let Some(closers) = yaml::missing_closers(text) else { return Err(error.into()) };
            let whole = Zeroizing::new(format!("{text}{closers}"));
            let repair = format!("added the missing \"{closers}\" at the end");
            (yaml::parse_all(whole.as_bytes())?, Some(repair))
        }
    };
    let mut objects = Vec::new();
    for document in all {
        flatten(document, &mut objects, 0)?;
    }
    Ok((objects, repair))
}

/// The items of a List, or the object itself.
fn flatten(mut document: Document, objects: &mut Vec<Document>, depth: usize) -> Result<()> {
    if depth > NESTING_MAX {
        bail!("Lists are nested more than {NESTING_MAX} deep");
    }
    let is_list = document.value()["kind"].as_str().is_some_and(|kind| kind.ends_with("List"))
        && document.value()["items"].is_array();
    if !is_list {
        objects.push(document);
        return Ok(());
    }
    if let Value::Array(items) = document.value_mut()["items"].take() {
        for item in items {
            flatten(Document::new(item), objects, depth + 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guides_last_example_is_read_despite_trailing_commas_and_a_missing_bracket() {
        let text = "{\n\"kind\": \"Pod\",\n\"spec\": {\n  \"containers\": [\n    {\n      \"image\": \"x\",\n    }\n  ]\n}\n";
        let (objects, repair) = documents(text).unwrap();
        assert_eq!(objects[0].value()["spec"]["containers"][0]["image"], "x");
        assert_eq!(repair.unwrap(), "added the missing \"}\" at the end");
    }

    #[test]
    fn a_list_is_replaced_by_its_items() {
        let text = "kind: List\napiVersion: v1\nitems:\n- kind: Secret\n- kind: List\n  items: [{kind: Pod}]\n";
        let (objects, repair) = documents(text).unwrap();
        let kinds: Vec<_> = objects.iter().map(|object| object.value()["kind"].as_str()).collect();
        assert_eq!(kinds, [Some("Secret"), Some("Pod")]);
        assert!(repair.is_none());
    }

    #[test]
    fn a_text_that_ends_inside_a_value_is_rejected_without_quoting_it() {
        let error = documents("{\"data\": {\"password\": \"hunter2").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
