//! The parts of the program, as `coffer PART` and `coffer up` run them.

pub(crate) mod apiserver;
pub(crate) mod kubelet;

use std::path::Path;

use anyhow::Result;
use coffer_controllers::{Manager, Options, Signer};

use crate::cli::{ClientOptions, ControllerManagerOptions};
pub(crate) use crate::client::{Component, config, following as client};
use crate::{signals, signing};

/// The scheduler alone, until a signal.
pub(crate) async fn scheduler(options: ClientOptions) -> Result<()> {
    let shutdown = signals::shutdown()?;
    let client = client(&options.kubeconfig, Component::Scheduler).await?;
    Ok(coffer_controllers::scheduler(client).run(shutdown).await?)
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
    let signer = match (clients, kubelet::pki_near(kubeconfig)) {
        (Some(clients), _) => Some(signing::signer(clients, kubelet_serving)?),
        (_, Some(pki)) => Some(signing::signer_in(&pki)?),
        _ => None,
    };
    let signer = signer.map(|it| it.lasting(options.signing.duration()));
    Ok(controllers(kubeconfig, signer).await?.run(shutdown).await?)
}

/// All controllers but the scheduler, around one set of informers.
pub(crate) async fn controllers(kubeconfig: &Path, signer: Option<Signer>) -> Result<Manager> {
    let options = Options { signer, ..Options::of_config(&config(kubeconfig).await?) };
    let client = client(kubeconfig, Component::ControllerManager).await?;
    Ok(coffer_controllers::controller_manager(client, options))
}
