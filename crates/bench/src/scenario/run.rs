//! What a scenario works on, and the steps that most of them share: a filled namespace, a client, a
//! phase for each number of clients.

use std::sync::Arc;

use anyhow::Result;

use crate::cluster::workspace::Workspace;
use crate::context::Context;
use crate::load::clients::{Clients, clients_text};
use crate::load::secrets::Secrets;
use crate::load::{self, Work};
use crate::measure::report::Phase;
use crate::transport::client::{CallError, Client};
use crate::transport::target::Target;
use crate::transport::wire::Versioned;

/// A run in a namespace of its own.
pub(super) struct Run<'a> {
    pub(super) context: &'a mut Context,
    pub(super) target: &'a Arc<Target>,
    pub(super) workspace: &'a mut Workspace,
}

impl Run<'_> {
    /// Secrets of the namespace, none of which is there yet.
    pub(super) fn secrets(&self, prefix: &'static str) -> Secrets {
        Secrets::new(&self.workspace.namespace, prefix, self.context)
    }

    /// So many secrets, created.
    pub(super) async fn populate(&self, prefix: &'static str, count: u64) -> Result<Secrets> {
        let secrets = self.secrets(prefix);
        secrets.populate(self.context, self.target, 0..count).await?;
        Ok(secrets)
    }

    /// A client for requests.
    pub(super) async fn client(&self) -> Result<Client, CallError> {
        Client::connect(self.target, self.context.options.for_requests()).await
    }

    /// The revision from which a watch of a collection sees all that comes.
    pub(super) async fn revision(&self, path: &str) -> Result<String, CallError> {
        let page: Versioned = self.client().await?.get(&format!("{path}?limit=1")).await?;
        Ok(page.metadata.resource_version)
    }

    /// Measures so many clients within the bounds of the command line.
    pub(super) async fn phase<W: Work>(
        &self,
        name: &str,
        clients: usize,
        work: Arc<W>,
    ) -> Result<Phase> {
        let bounds = self.context.options.bounds();
        load::run(self.context, self.target, name, clients, bounds, work).await
    }

    /// Measures the same work with each number of clients; `finish` adds to what is reported of each.
    pub(super) async fn for_each<W: Work>(
        &mut self,
        clients: &Clients,
        what: &str,
        work: Arc<W>,
        finish: impl Fn(&mut Phase),
    ) -> Result<()> {
        for clients in clients.each() {
            let name = format!("{what}, {}", clients_text(clients));
            let mut phase = self.phase(&name, clients, work.clone()).await?;
            finish(&mut phase);
            self.context.push(phase);
        }
        Ok(())
    }
}
