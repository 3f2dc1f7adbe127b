//! Manifests in a directory, or in one file: read at the start, when the kernel says that
//! something changed, and every now and then (a change behind a link is not reported).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Intake;
use crate::changes::Changes;

/// Upstream's `fileCheckFrequency`.
const CHECK_PERIOD: Duration = Duration::from_secs(20);
/// A larger manifest is refused.
const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Lists what is at `path` until dropped.
pub(super) async fn run(path: PathBuf, intake: Intake) {
    let mut known = None;
    loop {
        // Watched before it is read, so that nothing falls in between.
        let changes = Changes::in_directory(if path.is_dir() { &path } else { parent(&path) });
        match read(&path) {
            Ok(manifests) if known.as_ref() != Some(&manifests) => {
                let pods = manifests
                    .iter()
                    .flat_map(|(place, bytes)| intake.pods(bytes, &place.to_string_lossy()));
                intake.list(pods.collect()).await;
                known = Some(manifests);
            }
            Ok(_) => {}
            // What ran from there goes on.
            Err(error) => tracing::warn!(path = %path.display(), %error, "manifests not read"),
        }
        let changed = async {
            match changes {
                Ok(mut changes) => changes.next().await.is_ok(),
                Err(_) => std::future::pending().await,
            }
        };
        let _ = tokio::time::timeout(CHECK_PERIOD, changed).await;
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

type Manifests = Vec<(PathBuf, Vec<u8>)>;

/// All manifests, by name. A file that is not there is no manifest, and no error.
fn read(path: &Path) -> io::Result<Manifests> {
    if !path.is_dir() {
        return Ok(read_file(path)?.map(|bytes| (path.to_owned(), bytes)).into_iter().collect());
    }
    let mut manifests = Manifests::new();
    for entry in std::fs::read_dir(path)? {
        let place = entry?.path();
        let hidden = place.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden || !place.is_file() {
            continue;
        }
        manifests.extend(read_file(&place)?.map(|bytes| (place, bytes)));
    }
    manifests.sort();
    Ok(manifests)
}

fn read_file(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::metadata(path) {
        Ok(found) if found.len() > MANIFEST_BYTES_MAX => {
            tracing::error!(path = %path.display(), "manifest refused: it is too large");
            Ok(None)
        }
        Ok(_) => std::fs::read(path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_files_and_directories_are_not_manifests() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        std::fs::write(path.join("b.yaml"), b"2").expect("written");
        std::fs::write(path.join("a.json"), b"1").expect("written");
        std::fs::write(path.join(".b.yaml.swp"), b"3").expect("written");
        std::fs::create_dir(path.join("c")).expect("made");
        let manifests = read(path).expect("readable");
        let names: Vec<_> =
            manifests.iter().map(|(place, _)| place.file_name().expect("a name")).collect();
        assert_eq!(names, ["a.json", "b.yaml"]);
        assert_eq!(read(&path.join("a.json")).expect("readable").len(), 1);
        assert!(read(&path.join("nosuch")).expect("no error").is_empty());
    }
}
