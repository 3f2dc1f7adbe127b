//! Puts into etcd itself, over its own gRPC: what a server that stores in it cannot exceed.
//!
//! A kube-apiserver sends a transaction that checks the key's revision; a plain put is less work.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args;
use http::uri::PathAndQuery;
use tokio::task::JoinSet;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::context::Context;
use crate::load::clients::{Clients, clients_text};
use crate::load::secrets;
use crate::measure::budget::Budget;
use crate::measure::progress;
use crate::measure::report::Phase;
use crate::measure::stats::Tally;
use crate::options::Options;

#[derive(Debug, Args)]
pub(crate) struct Etcd {
    #[command(flatten)]
    clients: Clients,
    /// Where etcd listens.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:2379")]
    endpoint: String,
}

/// `etcdserverpb.PutRequest`, as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `etcdserverpb.PutResponse`, of which nothing is used.
#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

/// `etcdserverpb.DeleteRangeRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct DeleteRangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    range_end: Vec<u8>,
}

/// `etcdserverpb.DeleteRangeResponse`, of which nothing is used.
#[derive(Clone, PartialEq, prost::Message)]
struct DeleteRangeResponse {}

const PUT: &str = "/etcdserverpb.KV/Put";
const DELETE_RANGE: &str = "/etcdserverpb.KV/DeleteRange";

async fn call<Q, A>(channel: &Channel, method: &'static str, request: Q) -> tonic::Result<A>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<Q, A>::default();
    let path = PathAndQuery::from_static(method);
    Ok(grpc.unary(tonic::Request::new(request), path, codec).await?.into_inner())
}

impl Etcd {
    pub(super) fn plan(&self, options: &Options) -> Vec<String> {
        vec![format!(
            "put keys below /coffer-bench/ with values of {} bytes into etcd at {} with {} clients, each \
             {}; delete them",
            options.size,
            self.endpoint,
            self.clients.text(),
            options.bounds_text()
        )]
    }

    pub(super) async fn measure(&self, context: &mut Context) -> Result<()> {
        let endpoint = Endpoint::from_shared(self.endpoint.clone())
            .with_context(|| format!("{:?} is not a URL", self.endpoint))?;
        let channel = endpoint
            .connect()
            .await
            .with_context(|| format!("cannot reach etcd at {}", self.endpoint))?;
        let prefix = format!("/coffer-bench/{:08x}/", secrets::random() as u32);
        for clients in self.clients.each() {
            let phase = puts(context, &channel, clients, &prefix).await;
            context.push(phase);
        }
        let mut range_end = prefix.clone().into_bytes();
        if let Some(last) = range_end.last_mut() {
            *last += 1;
        }
        let range = DeleteRangeRequest { key: prefix.into_bytes(), range_end };
        let deleted: tonic::Result<DeleteRangeResponse> = call(&channel, DELETE_RANGE, range).await;
        deleted.context("the keys were not deleted")?;
        Ok(())
    }
}

async fn puts(context: &Context, channel: &Channel, clients: usize, prefix: &str) -> Phase {
    let name = format!("etcd put, {}", clients_text(clients));
    let (count, time) = context.options.bounds();
    let budget = Arc::new(Budget::new(count, time));
    let tally = Arc::new(Tally::new(&["put"]));
    let metering = context.meter.start();
    let mut running = JoinSet::new();
    for _ in 0..clients {
        let (channel, budget, tally) = (channel.clone(), budget.clone(), tally.clone());
        let (prefix, size) = (format!("{prefix}{clients}-"), context.options.size as usize);
        running.spawn(async move {
            while let Some(number) = budget.take() {
                let key = format!("{prefix}{number}").into_bytes();
                let request = PutRequest { key, value: vec![0x5a; size] };
                let start = Instant::now();
                let answer: tonic::Result<PutResponse> = call(&channel, PUT, request).await;
                match answer {
                    Ok(_) => tally.record(0, start.elapsed()),
                    Err(status) => {
                        tally.fail(0, status.code().description());
                        return;
                    }
                }
            }
        });
    }
    let mut ticks = tokio::time::interval(progress::EVERY);
    while !running.is_empty() {
        tokio::select! {
            _ = running.join_next() => {}
            _ = ticks.tick() => context.progress.draw(&name, budget.spent(), ""),
        }
    }
    context.progress.clear();
    Phase::new(name, &tally, metering.stop())
}
