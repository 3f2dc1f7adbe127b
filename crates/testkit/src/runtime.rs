//! A containerd for tests that need a CRI endpoint and no Coffer.

use anyhow::Result;
use coffer_containerd::{Containerd, RegistryMirror, Settings};
use tempfile::TempDir;

use crate::images;
use coffer_containerd::image::Image;

/// A containerd below a temporary directory, ended with its pods when dropped.
pub struct Runtime {
    containerd: Option<Containerd>,
    directory: TempDir,
}

impl Runtime {
    /// Starts it with the images `busybox` and `redis`.
    ///
    /// # Errors
    /// When a program is missing or the daemon does not become ready.
    pub async fn start() -> Result<Self> {
        let runtime = Self::start_with_mirrors(Vec::new()).await?;
        runtime.import(&images::busybox()?, "docker.io/library/busybox:latest").await?;
        runtime.import(&images::redis()?, "docker.io/library/redis:latest").await?;
        Ok(runtime)
    }

    /// Starts it without images, with registries to pull from.
    ///
    /// # Errors
    /// When a program is missing or the daemon does not become ready.
    pub async fn start_with_mirrors(registry_mirrors: Vec<RegistryMirror>) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("coffer-runtime-").tempdir()?;
        let settings = Settings {
            data_dir: directory.path().to_owned(),
            registry_mirrors,
            oci_runtime: None,
            inherited: Default::default(),
            log_filter: None,
        };
        let containerd = Containerd::start(&settings).await?;
        Ok(Self { containerd: Some(containerd), directory })
    }

    /// `unix:///…`
    pub fn endpoint(&self) -> String {
        self.containerd().endpoint()
    }

    /// Brings in an image under its full name, such as `docker.io/library/busybox:latest`.
    ///
    /// # Errors
    /// When containerd refuses it.
    pub async fn import(&self, image: &Image, reference: &str) -> Result<()> {
        Ok(self.containerd().import(image, reference).await?)
    }

    fn containerd(&self) -> &Containerd {
        self.containerd.as_ref().expect("there until dropped")
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.containerd = None;
        end_containerd_of(self.directory.path());
    }
}

/// Ends the containerd of a data directory from a place that cannot await.
pub(crate) fn end_containerd_of(data_dir: &std::path::Path) {
    let stop = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(coffer_containerd::stop_with_pods(data_dir, 0))?;
        coffer_containerd::mounts::unmount_below(data_dir)?;
        anyhow::Ok(())
    };
    // A thread of its own, because a runtime cannot block on another inside itself.
    match std::thread::scope(|scope| scope.spawn(stop).join()) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => eprintln!("coffer-testkit: containerd was not ended: {error:#}"),
        Err(_) => eprintln!("coffer-testkit: ending containerd panicked"),
    }
}
