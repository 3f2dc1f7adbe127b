//! Which credentials each image was pulled with, kept below the kubelet's root directory so that a
//! restart does not forget it.
//!
//! ```text
//! image_manager/pulled/sha256-<of the image's id>     ImagePulledRecord
//! image_manager/pulling/sha256-<of the image's name>  ImagePullIntent: a pull has begun
//! image_manager/salt                                  32 random bytes
//! ```
//!
//! Names and JSON are upstream's. A record names secrets by namespace, name and uid, and has a hash
//! of each credential; never a credential. Upstream's hash is a plain SHA-256, from which a weak
//! password can be guessed by anyone who has the disk; this one is salted and slow (PBKDF2), so a
//! record that upstream wrote leads to one verification more, and nothing worse.
//!
//! The intent is written before the pull begins and removed after the record is written, both
//! synced: a crash in between leaves an image that must be verified, never one that passes for
//! preloaded.

mod disk;
mod format;
mod hash;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use coffer_api::image_name::ImageName;
use k8s_openapi::jiff::Timestamp;
use parking_lot::{Mutex, MutexGuard};

use self::disk::{file_name, files, read, remove, write};
use self::format::PullIntent;
pub(super) use self::format::{Grant, PullSecret, PullServiceAccount, PulledRecord};
use self::hash::Hasher;
use super::credential::{Coordinates, Credential};
use crate::runtime::Present;

/// The directory of records.
pub(super) struct PullRecords {
    pulling: PathBuf,
    pulled: PathBuf,
    hasher: Hasher,
    in_flight: Mutex<HashMap<String, InFlight>>,
}

/// The pulls of one image that run now.
struct InFlight {
    pulls: u32,
    /// One of them, or an earlier one, may have brought the image without anyone hearing of it:
    /// only a success takes the intent away.
    uncertain: bool,
}

/// How a pull has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Pulled,
    Failed,
    /// No one waited for the answer, or it did not get through.
    Unknown,
}

impl PullRecords {
    /// Opens the directory, or makes it.
    pub(super) fn open(root_dir: &Path) -> io::Result<Self> {
        let base = root_dir.join("image_manager");
        let (pulling, pulled) = (base.join("pulling"), base.join("pulled"));
        for directory in [&pulling, &pulled] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        Ok(Self { pulling, pulled, hasher: Hasher::open(&base)?, in_flight: Mutex::default() })
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<String, InFlight>> {
        self.in_flight.lock()
    }

    /// What is known of an image by its id; `None` where this kubelet has not pulled it.
    pub(super) fn find(&self, image_ref: &str) -> io::Result<Option<PulledRecord>> {
        let record: Option<PulledRecord> = read(&self.pulled.join(file_name(image_ref)))?;
        Ok(record.filter(|record| record.image_ref == image_ref))
    }

    /// Whether a pull of this name has begun of which nothing more is known.
    pub(super) fn has_begun(&self, image: &str) -> io::Result<bool> {
        let intent: Option<PullIntent> = read(&self.pulling.join(file_name(image)))?;
        Ok(intent.is_some_and(|intent| intent.image == image))
    }

    /// Writes down that a pull begins. It must not begin if that cannot be written.
    pub(super) fn begin(&self, image: &str) -> io::Result<Pulling<'_>> {
        let mut in_flight = self.in_flight();
        let path = self.pulling.join(file_name(image));
        if !in_flight.contains_key(image) {
            let uncertain = path.try_exists()?;
            write(&path, &PullIntent::new(image))?;
            in_flight.insert(image.to_owned(), InFlight { pulls: 0, uncertain });
        }
        if let Some(known) = in_flight.get_mut(image) {
            known.pulls += 1;
        }
        Ok(Pulling { records: self, image: image.to_owned(), ended: Ended::Unknown })
    }

    fn end(&self, image: &str, ended: Ended) {
        let mut in_flight = self.in_flight();
        let Some(known) = in_flight.get_mut(image) else { return };
        known.pulls -= 1;
        match ended {
            Ended::Pulled => known.uncertain = false,
            Ended::Failed => {}
            Ended::Unknown => known.uncertain = true,
        }
        if known.pulls > 0 {
            return;
        }
        let uncertain = known.uncertain;
        in_flight.remove(image);
        if !uncertain && let Err(error) = remove(&self.pulling.join(file_name(image))) {
            tracing::warn!(image, %error, "cannot remove the record of a pull");
        }
    }

    /// Adds to what is known of an image. Without a grant it is only known that it was pulled, by
    /// whom is not: everyone has to be verified.
    pub(super) fn add(
        &self,
        image_ref: &str,
        repository: &str,
        grant: Option<Grant>,
    ) -> io::Result<()> {
        // The lock also keeps two writers of one record from losing each other's grant.
        let _in_flight = self.in_flight();
        let known = self.find(image_ref).unwrap_or_default();
        let is_new = known.is_none();
        let mut record = known.unwrap_or_else(|| PulledRecord::new(image_ref));
        if record.grant(repository, grant) || is_new {
            record.last_updated_time = Timestamp::now();
            write(&self.pulled.join(file_name(image_ref)), &record)?;
        }
        Ok(())
    }

    /// Settles what an earlier kubelet left behind: what it was pulling and is here must be
    /// verified, and records of images that no longer exist go, too.
    pub(super) fn adopt(&self, images: &[Present]) -> io::Result<()> {
        for path in files(&self.pulling)? {
            let Ok(Some(intent)) = read::<PullIntent>(&path) else { continue };
            let Some(image) = images.iter().find(|image| image.names.contains(&intent.image))
            else {
                continue;
            };
            let repository =
                ImageName::parse(&intent.image).map(|name| name.repository()).unwrap_or_default();
            self.add(&image.id, &repository, None)?;
            remove(&path)?;
        }
        for path in files(&self.pulled)? {
            let Ok(Some(record)) = read::<PulledRecord>(&path) else { continue };
            if !images.iter().any(|image| image.id == record.image_ref) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// A secret as records name it.
    pub(super) fn pull_secret(&self, of: &Coordinates, credential: &Credential) -> PullSecret {
        PullSecret {
            namespace: of.namespace.clone(),
            name: of.name.clone(),
            uid: of.uid.clone(),
            credential_hash: self.hasher.hash(credential),
        }
    }
}

/// A pull that has begun. Dropped without a word of how it ended, as when no pod waits for it any
/// more, it leaves its intent behind.
pub(super) struct Pulling<'a> {
    records: &'a PullRecords,
    image: String,
    ended: Ended,
}

impl Pulling<'_> {
    /// The image is here: writes down who may use it.
    pub(super) fn pulled(mut self, image_ref: &str, repository: &str, grant: Grant) {
        match self.records.add(image_ref, repository, Some(grant)) {
            Ok(()) => self.ended = Ended::Pulled,
            // The intent stays and says that the image must be verified.
            Err(error) => tracing::warn!(image = self.image, %error, "pull not recorded"),
        }
    }

    /// The registry or the runtime refused: nothing new is here.
    pub(super) fn failed(mut self) {
        self.ended = Ended::Failed;
    }
}

impl Drop for Pulling<'_> {
    fn drop(&mut self) {
        self.records.end(&self.image, self.ended);
    }
}

#[cfg(test)]
mod tests {
    use super::super::credential::{Hidden, Source};
    use super::format::tests::secret;
    use super::*;

    fn credential(username: &str, password: &str) -> Credential {
        let hidden = |text: &str| Hidden::new(text.to_owned());
        Credential::new("r.io", hidden(username), hidden(password), Source::Node)
    }

    #[test]
    fn what_was_recorded_is_there_after_a_restart() {
        let root = tempfile::tempdir().expect("a directory");
        let hash = {
            let records = PullRecords::open(root.path()).expect("opens");
            let pulling = records.begin("r.io/a:1").expect("begins");
            assert!(records.has_begun("r.io/a:1").expect("reads"));
            pulling.pulled("sha256:1", "r.io/a", secret("one", "h1"));
            assert!(!records.has_begun("r.io/a:1").expect("reads"));
            records.hasher.hash(&credential("user", "canary"))
        };
        let records = PullRecords::open(root.path()).expect("opens again");
        assert_eq!(records.hasher.hash(&credential("user", "canary")), hash);
        assert_ne!(records.hasher.hash(&credential("userc", "anary")), hash);
        let record = records.find("sha256:1").expect("reads").expect("is there");
        assert_eq!(record.credential_mapping["r.io/a"].kubernetes_secrets.len(), 1);
        assert!(records.find("sha256:2").expect("reads").is_none());
        let path = root.path().join("image_manager/pulled").join(file_name("sha256:1"));
        let text = fs::read_to_string(path).expect("a file");
        assert!(text.starts_with(
            "{\"kind\":\"ImagePulledRecord\",\"apiVersion\":\"kubelet.config.k8s.io/v1beta1\","
        ));
        assert!(!text.contains("canary"));
    }

    /// No one waited for the answer, so the image may be here: it must not pass for preloaded.
    #[test]
    fn a_pull_of_unknown_end_leaves_its_intent_until_one_succeeds() {
        let root = tempfile::tempdir().expect("a directory");
        let records = PullRecords::open(root.path()).expect("opens");
        let begun = || records.has_begun("r.io/a:1").expect("reads");
        records.begin("r.io/a:1").expect("begins").failed();
        assert!(!begun(), "a failure is certain");
        drop(records.begin("r.io/a:1").expect("begins"));
        assert!(begun());
        records.begin("r.io/a:1").expect("begins").failed();
        assert!(begun(), "a later failure says nothing about the earlier pull");
        let (first, second) = (records.begin("r.io/a:1"), records.begin("r.io/a:1"));
        first.expect("begins").pulled("sha256:1", "r.io/a", Grant::Node);
        assert!(begun(), "the other one still runs");
        second.expect("begins").failed();
        assert!(!begun());
    }

    #[test]
    fn what_an_earlier_kubelet_was_pulling_has_to_be_verified() {
        let root = tempfile::tempdir().expect("a directory");
        let records = PullRecords::open(root.path()).expect("opens");
        drop(records.begin("r.io/a:1").expect("begins"));
        drop(records.begin("r.io/not-here:1").expect("begins"));
        records.add("sha256:deleted", "r.io/deleted", Some(Grant::Node)).expect("written");

        let records = PullRecords::open(root.path()).expect("opens again");
        let names = vec!["r.io/a:1".to_owned(), "r.io/a@sha256:x".to_owned()];
        records.adopt(&[Present { id: "sha256:1".to_owned(), names }]).expect("adopts");
        let record = records.find("sha256:1").expect("reads").expect("is there");
        assert!(record.credential_mapping.is_empty());
        assert!(!records.has_begun("r.io/a:1").expect("reads"));
        assert!(records.has_begun("r.io/not-here:1").expect("reads"));
        assert!(records.find("sha256:deleted").expect("reads").is_none());
    }

    #[test]
    fn a_broken_record_is_an_error_and_not_an_absent_one() {
        let root = tempfile::tempdir().expect("a directory");
        let records = PullRecords::open(root.path()).expect("opens");
        let path = root.path().join("image_manager/pulled").join(file_name("sha256:1"));
        fs::write(path, "{").expect("written");
        assert!(records.find("sha256:1").is_err());
        records.add("sha256:1", "r.io/a", Some(Grant::Node)).expect("replaces it");
        assert!(records.find("sha256:1").expect("reads").is_some());
    }
}
