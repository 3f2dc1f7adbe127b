//! The parts for people and scripts: `make demo` takes its registry from here, and a caller that works on
//! the kubelet a containerd.

#![allow(clippy::print_stdout, reason = "what it prints is its answer")]

use anyhow::Result;
use clap::{Parser, Subcommand};
use coffer_testkit::{Kubectl, Registry, Runtime, images};
use tokio::signal::unix::{SignalKind, signal};

/// Real parts for trying Coffer without a network.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Run a registry with the images library/busybox and library/redis; print its URL.
    Registry,
    /// Run a containerd with the images busybox and redis; print its CRI endpoint.
    Containerd,
    /// Run Debian's kubectl 1.20 with the arguments that follow.
    #[command(disable_help_flag = true)]
    Kubectl {
        /// Arguments of kubectl.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[tokio::main]
async fn main() -> Result<std::process::ExitCode> {
    match Arguments::parse().part {
        Part::Registry => {
            let registry = Registry::open().await?;
            registry.push(&images::busybox()?, "library/busybox", "latest").await?;
            registry.push(&images::redis()?, "library/redis", "latest").await?;
            println!("{}", registry.url());
            until_stopped().await?;
        }
        Part::Containerd => {
            let runtime = Runtime::start().await?;
            println!("{}", runtime.endpoint());
            until_stopped().await?;
        }
        Part::Kubectl { arguments } => {
            let kubeconfig = std::env::var("KUBECONFIG").unwrap_or_default();
            let kubectl = Kubectl::debian(kubeconfig).await?;
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let status = kubectl.command(&arguments).status().await?;
            return Ok(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1).into());
        }
    }
    Ok(std::process::ExitCode::SUCCESS)
}

async fn until_stopped() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
