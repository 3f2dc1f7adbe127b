//! The parts, each as `coffer PART` runs it and as `coffer up` puts it together.

pub(crate) mod apiserver;
pub(crate) mod kubelet;

use std::path::Path;

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::cli::ClientOptions;
use crate::signals;

/// The scheduler alone, until a signal.
pub(crate) async fn scheduler(options: ClientOptions) -> Result<()> {
    let shutdown = signals::shutdown()?;
    let client = client(&options.kubeconfig).await?;
    coffer_controllers::scheduler::run(client, shutdown).await;
    Ok(())
}

/// The controllers alone, until a signal.
pub(crate) async fn controller_manager(options: ClientOptions) -> Result<()> {
    let shutdown = signals::shutdown()?;
    let client = client(&options.kubeconfig).await?;
    controllers(client).run(shutdown).await;
    Ok(())
}

/// All controllers but the scheduler, around one set of informers.
pub(crate) fn controllers(client: Client) -> coffer_controllers::Manager {
    let mut manager = coffer_controllers::Manager::new(client);
    coffer_controllers::namespace::register(&mut manager);
    manager
}

/// A client that is who a kubeconfig says. Each part has its own, also inside one process.
pub(crate) async fn client(kubeconfig: &Path) -> Result<Client> {
    let load = || format!("cannot use kubeconfig {}", kubeconfig.display());
    let parsed = Kubeconfig::read_from(kubeconfig).with_context(load)?;
    let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .with_context(load)?;
    Client::try_from(config).with_context(load)
}
