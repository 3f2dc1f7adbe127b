//! A client that is who its kubeconfig says, also after the kubeconfig has been replaced: that is how
//! a part that runs for years goes on under new certificates.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use anyhow::Result;
use kube::Client;

use crate::parts;

/// When a file was written, if it is there.
type Stamp = Option<SystemTime>;

struct Follower {
    kubeconfig: PathBuf,
    current: RwLock<(Client, Stamp)>,
}

/// A client by a kubeconfig. Each request goes out by what the file holds then.
pub(crate) async fn following(kubeconfig: &Path) -> Result<Client> {
    let stamp = stamp(kubeconfig);
    let config = parts::config(kubeconfig).await?;
    let namespace = config.default_namespace.clone();
    let current = RwLock::new((Client::try_from(config)?, stamp));
    let follower = Arc::new(Follower { kubeconfig: kubeconfig.to_owned(), current });
    let send = tower::service_fn(move |request| {
        let follower = follower.clone();
        async move { follower.client().await.send(request).await }
    });
    Ok(Client::new(send, namespace))
}

impl Follower {
    async fn client(&self) -> Client {
        let (known, seen) = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let stamp = stamp(&self.kubeconfig);
        // A file that is gone is no news: whoever was let in stays so.
        if stamp.is_none() || stamp == seen {
            return known;
        }
        let renewed =
            async { Ok::<_, anyhow::Error>(parts::config(&self.kubeconfig).await?.try_into()?) };
        let client = renewed.await.unwrap_or_else(|error: anyhow::Error| {
            let error = format!("{error:#}");
            tracing::warn!(error, "the kubeconfig has changed and cannot be used");
            known
        });
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = (client.clone(), stamp);
        client
    }
}

fn stamp(path: &Path) -> Stamp {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}
