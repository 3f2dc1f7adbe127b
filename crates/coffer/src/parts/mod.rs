//! The parts, each as `coffer PART` runs it and as `coffer up` puts it together.

pub(crate) mod apiserver;
pub(crate) mod kubelet;

use std::path::Path;

use anyhow::{Context, Result};
use coffer_controllers::{Manager, Options, Signer};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::cli::{ClientOptions, ControllerManagerOptions};
use crate::{client, join, signals};

/// The scheduler alone, until a signal.
pub(crate) async fn scheduler(options: ClientOptions) -> Result<()> {
    let shutdown = signals::shutdown()?;
    let client = client(&options.kubeconfig).await?;
    coffer_controllers::scheduler(client).run(shutdown).await;
    Ok(())
}

/// The controllers alone, until a signal.
pub(crate) async fn controller_manager(options: ControllerManagerOptions) -> Result<()> {
    let shutdown = signals::shutdown()?;
    let kubeconfig = &options.client.kubeconfig;
    let certificate = options.cluster_signing_cert_file.as_deref();
    let clients = certificate.zip(options.cluster_signing_key_file.as_deref());
    let certificate = options.cluster_signing_kubelet_serving_cert_file.as_deref();
    let kubelet_serving =
        certificate.zip(options.cluster_signing_kubelet_serving_key_file.as_deref());
    let signer = match (clients, kubelet::beside(kubeconfig)) {
        (Some(clients), _) => Some(join::signer(clients, kubelet_serving)?),
        (_, Some(pki)) => Some(join::signer_in(&pki)?),
        _ => None,
    };
    let signer = signer.map(|it| it.lasting(options.signing.duration()));
    controllers(kubeconfig, signer).await?.run(shutdown).await;
    Ok(())
}

/// All controllers but the scheduler, around one set of informers.
pub(crate) async fn controllers(kubeconfig: &Path, signer: Option<Signer>) -> Result<Manager> {
    let options = Options { signer, ..Options::of_config(&config(kubeconfig).await?) };
    Ok(coffer_controllers::controller_manager(client(kubeconfig).await?, options))
}

/// A client that is who a kubeconfig says, and goes on to be. Each part has its own, also inside one
/// process.
pub(crate) async fn client(kubeconfig: &Path) -> Result<Client> {
    client::following(kubeconfig).await
}

/// A kubeconfig, read and checked.
pub(crate) async fn config(kubeconfig: &Path) -> Result<Config> {
    let load = || format!("cannot use kubeconfig {}", kubeconfig.display());
    let parsed = Kubeconfig::read_from(kubeconfig).with_context(load)?;
    Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await.with_context(load)
}
