//! The list of controllers that `coffer controller-manager` and `coffer up` run, and the scheduler.

use std::time::Duration;

use coffer_wire::pem;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
use kube::Client;

use crate::accounts::default_account::DefaultAccounts;
use crate::accounts::root_ca::RootCaPublisher;
use crate::accounts::tokens::Tokens;
use crate::certificates::sign::Signer;
use crate::certificates::{Approver, Signing};
use crate::controller::add;
use crate::deployment::Deployments;
use crate::disruption::Disruption;
use crate::garbage::GarbageCollector;
use crate::manager::Manager;
use crate::namespace::Namespaces;
use crate::node_lifecycle::NodeLifecycle;
use crate::pod_gc::PodGc;
use crate::quota::Quotas;
use crate::replication::Replication;
use crate::scheduler::Scheduler;

/// Configuration of the controllers.
#[derive(Debug)]
pub struct Options {
    /// The CA bundle with which pods verify the API server, PEM. Without it neither `kube-root-ca.crt` nor
    /// the `ca.crt` of token Secrets is written.
    pub root_ca_pem: Option<Vec<u8>>,
    /// Signs certificates. Without it requests are approved only, and other programs sign them.
    pub signer: Option<Signer>,
    /// How long a node may send no heartbeat before it counts as unreachable: upstream's
    /// `--node-monitor-grace-period`.
    pub node_monitor_grace_period: Duration,
    /// How long a node may be missing before its pods are deleted.
    pub missing_node_grace_period: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root_ca_pem: None,
            signer: None,
            node_monitor_grace_period: Duration::from_secs(40),
            missing_node_grace_period: Duration::from_secs(40),
        }
    }
}

impl Options {
    /// With the CA bundle with which this process verifies the API server.
    pub fn of_config(config: &kube::Config) -> Self {
        let certificates = config.root_cert.as_deref().unwrap_or_default();
        let all: Vec<u8> =
            certificates.iter().flat_map(|der| pem::encode("CERTIFICATE", der).to_vec()).collect();
        Self { root_ca_pem: (!all.is_empty()).then_some(all), ..Self::default() }
    }
}

/// All controllers except the scheduler, to [run](Manager::run).
#[must_use]
pub fn controller_manager(client: Client, options: Options) -> Manager {
    let mut manager = Manager::new(client);
    let all = &mut manager;
    add(all, Namespaces::new);
    add(all, Replication::<ReplicaSet>::new);
    add(all, Replication::<ReplicationController>::new);
    add(all, Deployments::new);
    add(all, Disruption::new);
    add(all, GarbageCollector::new);
    add(all, DefaultAccounts::new);
    let root_ca_pem = options.root_ca_pem.clone();
    add(all, |setup| Tokens::new(setup, root_ca_pem));
    if let Some(pem) = &options.root_ca_pem {
        add(all, |setup| RootCaPublisher::new(setup, pem));
    }
    add(all, |setup| NodeLifecycle::new(setup, options.node_monitor_grace_period));
    add(all, |setup| PodGc::new(setup, options.missing_node_grace_period));
    add(all, Quotas::new);
    add(all, Approver::new);
    if let Some(signer) = options.signer {
        add(all, |setup| Signing::new(setup, signer));
    }
    manager
}

/// The scheduler, to [run](Manager::run).
#[must_use]
pub fn scheduler(client: Client) -> Manager {
    let mut manager = Manager::new(client);
    add(&mut manager, Scheduler::new);
    manager
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::certificates::sign::tests::authority;
    use crate::testing::unreachable_client;

    /// Every `impl Controller for …` below a directory, as the name of its type.
    fn implemented(directory: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(directory).expect("the sources are there") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                implemented(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("UTF-8");
            let heads = text.lines().filter(|line| line.starts_with("impl"));
            let types = heads.filter_map(|line| line.split_once(" Controller for "));
            found.extend(types.map(|(_, type_)| {
                type_.split(['<', ' ']).next().expect("a split has a first part").to_owned()
            }));
        }
    }

    /// A controller that is missing in the list would never run, and its own tests would not fail.
    #[tokio::test]
    async fn every_controller_is_in_the_list() {
        let options = Options {
            root_ca_pem: Some(Vec::new()),
            signer: Some(authority()),
            ..Options::default()
        };
        let manager = controller_manager(unreachable_client(), options);
        let scheduler = scheduler(unreachable_client());
        let listed = manager.controllers().iter().chain(scheduler.controllers());
        let listed: BTreeSet<String> = listed
            .map(|path| path.split('<').next().expect("a split has a first part"))
            .map(|path| path.rsplit("::").next().expect("a split has a last part").to_owned())
            .collect();
        let mut expected = BTreeSet::new();
        implemented(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut expected);
        assert!(expected.len() > 10, "{expected:?}");
        assert_eq!(listed, expected);
    }
}
