//! The client against a server that does nothing: what it costs, and what it can measure at all.

use std::io::{BufRead as _, BufReader, Read as _, Take};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use clap::Args;
use http::Method;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use crate::context::Context;
use crate::load::clients::{Clients, clients_text};
use crate::load::{self, Failed, Work, in_row};
use crate::measure::meter::Meter;
use crate::measure::stats::Tally;
use crate::options::Options;
use crate::transport::client::{APPLICATION_JSON, Client};
use crate::transport::target::Target;

/// A certificate's text and more.
const GREETING_MAX: u64 = 64 << 10;

#[derive(Debug, Args)]
pub(crate) struct Baseline {
    #[command(flatten)]
    clients: Clients,
    /// Bytes of an answer to a GET; a secret of 1 KiB has about two, `get` says how many.
    #[arg(long, value_name = "BYTES", default_value_t = 2048)]
    bytes: u32,
}

/// Ends with this process, and when dropped: its standard input ends then.
struct Bare {
    child: Child,
    /// Open as long as it runs, so that it never writes into nothing.
    _out: BufReader<Take<ChildStdout>>,
    target: Arc<Target>,
}

impl Drop for Bare {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // Ends immediately; it is waited for so that no zombie is left.
        let _ = self.child.wait();
    }
}

impl Bare {
    fn start(threads: usize) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut child = Command::new(program)
            .args(["echo-server", "--threads", &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the bare server")?;
        let out = child.stdout.take().context("the bare server has no output")?;
        let mut out = BufReader::new(out.take(GREETING_MAX));
        let mut line = String::new();
        out.read_line(&mut line)?;
        let Ok(port) = line.trim().parse() else { bail!("the bare server did not start") };
        let mut pem = String::new();
        while !pem.contains("-----END CERTIFICATE-----") {
            if out.read_line(&mut pem)? == 0 {
                bail!("the bare server did not print its certificate");
            }
        }
        let target = Target::loopback(port, trusting(&pem)?)?;
        Ok(Self { child, _out: out, target })
    }
}

fn trusting(pem: &str) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

struct BareGet {
    path: String,
}

impl Work for BareGet {
    const ROWS: &'static [&'static str] = &["get"];

    async fn step(&self, client: &mut Client, _: u64, tally: &Tally) -> Result<(), Failed> {
        let start = Instant::now();
        client.drain(&self.path).await.map_err(in_row(0))?;
        tally.record(0, start.elapsed());
        Ok(())
    }
}

struct BarePost {
    body: Bytes,
}

impl Work for BarePost {
    const ROWS: &'static [&'static str] = &["post"];

    async fn step(&self, client: &mut Client, _: u64, tally: &Tally) -> Result<(), Failed> {
        let start = Instant::now();
        let body = Some((APPLICATION_JSON, self.body.clone()));
        client.call(Method::POST, "/echo", body).await.map_err(in_row(0))?;
        tally.record(0, start.elapsed());
        Ok(())
    }
}

impl Baseline {
    pub(super) fn plan(&self, options: &Options) -> Vec<String> {
        vec![format!(
            "start a bare TLS server on loopback; get {} bytes from it and post {} with {} clients, \
             each {}",
            self.bytes,
            self.bytes,
            self.clients.text(),
            options.bounds_text()
        )]
    }

    pub(super) async fn measure(&self, context: &mut Context) -> Result<()> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let bare = Bare::start(cores)?;
        context.meter = Meter::new(&[bare.child.id()])?;
        let get = Arc::new(BareGet { path: format!("/{}", self.bytes) });
        let post = Arc::new(BarePost { body: vec![b'x'; self.bytes as usize].into() });
        for clients in self.clients.each() {
            let (target, bounds) = (&bare.target, context.options.bounds());
            let name = format!("bare get, {}", clients_text(clients));
            let phase = load::run(context, target, &name, clients, bounds, get.clone()).await?;
            context.push(phase);
            let name = format!("bare post, {}", clients_text(clients));
            let phase = load::run(context, target, &name, clients, bounds, post.clone()).await?;
            context.push(phase);
        }
        Ok(())
    }
}
