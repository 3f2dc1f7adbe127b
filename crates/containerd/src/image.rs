//! Container images made from files at hand, in the OCI image format, without a build tool.
//!
//! A [`Layer`] is a tar of what it should hold; an [`Image`] is layers and how to run them. It
//! leaves as blobs and a manifest (for a registry) or as one archive (for `ctr images import`).
//! The same content always gives the same digests: no clock, no user name, no file order gets in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

/// The media type of [`Image::manifest`].
pub const MANIFEST_MEDIA_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_MEDIA_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_MEDIA_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const INDEX_MEDIA_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// Bytes and the name they go by.
#[derive(Clone, Debug)]
pub struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        let hex: String = HEXLOWER.encode(digest(&SHA256, &bytes).as_ref());
        Self { digest: format!("sha256:{hex}"), bytes }
    }

    /// `sha256:…`
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": self.digest, "size": self.bytes.len() })
    }
}

/// Files of one layer, owned by root. Paths are relative to the image's root; directories above
/// them are made as needed.
pub struct Layer {
    tar: tar::Builder<Vec<u8>>,
    directories: BTreeSet<PathBuf>,
}

impl Default for Layer {
    fn default() -> Self {
        Self { tar: tar::Builder::new(Vec::new()), directories: BTreeSet::new() }
    }
}

impl Layer {
    /// An empty layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory.
    #[must_use]
    pub fn directory(mut self, path: impl AsRef<Path>, mode: u32) -> Self {
        let path = path.as_ref();
        self.parents(path);
        self.add_directory(path, mode);
        self
    }

    /// Adds a regular file.
    #[must_use]
    pub fn file(mut self, path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Self {
        let path = path.as_ref();
        self.parents(path);
        let mut header = header(tar::EntryType::Regular, mode);
        header.set_size(bytes.len() as u64);
        self.tar.append_data(&mut header, path, bytes).expect("a Vec takes every write");
        self
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        self.parents(path);
        let mut header = header(tar::EntryType::Symlink, 0o777);
        header.set_size(0);
        self.tar.append_link(&mut header, path, target).expect("a Vec takes every write");
        self
    }

    fn parents(&mut self, path: &Path) {
        let mut above: Vec<_> = path.ancestors().skip(1).collect();
        above.reverse();
        for directory in above {
            if !directory.as_os_str().is_empty() {
                self.add_directory(directory, 0o755);
            }
        }
    }

    fn add_directory(&mut self, path: &Path, mode: u32) {
        if self.directories.insert(path.to_owned()) {
            let mut header = header(tar::EntryType::Directory, mode);
            header.set_size(0);
            let name = path.join("");
            self.tar.append_data(&mut header, name, &[][..]).expect("a Vec takes every write");
        }
    }

    fn finish(self) -> Blob {
        Blob::new(self.tar.into_inner().expect("a Vec takes every write"))
    }
}

fn header(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// How a container of the image runs when the pod does not say otherwise.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, which a pod's `args` replace.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where it starts; the root if empty.
    pub working_dir: String,
    /// `6379/tcp`.
    pub exposed_ports: Vec<String>,
}

/// A single-platform image for the machine that this runs on.
#[derive(Clone, Debug)]
pub struct Image {
    config: Blob,
    layers: Vec<Blob>,
    manifest: Blob,
}

impl Image {
    /// Puts layers, lowest first, and their way of running together.
    pub fn new(layers: Vec<Layer>, run: &Run) -> Self {
        let layers: Vec<Blob> = layers.into_iter().map(Layer::finish).collect();
        let config = Blob::new(config(&layers, run).to_string().into_bytes());
        let described: Vec<_> =
            layers.iter().map(|layer| layer.descriptor(LAYER_MEDIA_TYPE)).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_MEDIA_TYPE,
            "config": config.descriptor(CONFIG_MEDIA_TYPE),
            "layers": described,
        });
        Self { config, layers, manifest: Blob::new(manifest.to_string().into_bytes()) }
    }

    /// What a registry must hold before it takes the manifest.
    pub fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.layers.iter().chain([&self.config])
    }

    /// What names all the rest.
    pub fn manifest(&self) -> &Blob {
        &self.manifest
    }

    /// The image as one tar in the OCI image layout, named `reference` for containerd.
    pub fn archive(&self, reference: &str) -> Vec<u8> {
        let mut described = self.manifest.descriptor(MANIFEST_MEDIA_TYPE);
        described["annotations"] = json!({ "io.containerd.image.name": reference });
        let index = json!({
            "schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": [described],
        });
        let mut layout = Layer::new()
            .file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)
            .file("index.json", index.to_string().as_bytes(), 0o644);
        for blob in self.blobs().chain([&self.manifest]) {
            layout = layout.file(blob_path(&blob.digest), &blob.bytes, 0o644);
        }
        layout.finish().bytes
    }
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn config(layers: &[Blob], run: &Run) -> Value {
    let diff_ids: Vec<_> = layers.iter().map(Blob::digest).collect();
    let ports: serde_json::Map<_, _> =
        run.exposed_ports.iter().map(|port| (port.clone(), json!({}))).collect();
    json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": run.entrypoint, "Cmd": run.cmd, "Env": run.env,
            "WorkingDir": run.working_dir, "ExposedPorts": ports,
        },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
}

/// Go's name for the machine, which is what image configurations use.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Image {
        let layer = Layer::new().file("a/b/c", b"text", 0o644).symlink("a/d", "b/c");
        Image::new(vec![layer], &Run { entrypoint: vec!["/a/b/c".into()], ..Run::default() })
    }

    #[test]
    fn the_same_content_gives_the_same_digest() {
        assert_eq!(small().manifest().digest(), small().manifest().digest());
    }

    #[test]
    fn directories_above_a_file_come_before_it_and_once() {
        let layer = Layer::new().file("a/b/c", b"text", 0o644).symlink("a/d", "b/c").finish();
        let mut archive = tar::Archive::new(layer.bytes());
        let paths: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(paths, ["a/", "a/b/", "a/b/c", "a/d"]);
    }

    #[test]
    fn an_archive_holds_every_blob_that_its_index_leads_to() {
        let image = small();
        let mut archive = tar::Archive::new(std::io::Cursor::new(image.archive("x.test/y:1")));
        let names: BTreeSet<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned())
            .collect();
        for blob in image.blobs().chain([image.manifest()]) {
            assert!(names.contains(&blob_path(blob.digest())), "{names:?}");
        }
    }
}
