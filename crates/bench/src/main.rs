//! Measures any Kubernetes API server through a kubeconfig, so that a claim about speed is a ratio
//! that anyone can repeat against another server.
//!
//! It needs nothing of Coffer: a scenario is requests of the Kubernetes API, sent by a client that is
//! lean enough (hyper on rustls, a bounded number of connections) not to be what is measured.
//! `baseline` says what that client costs against a server that does nothing.
//!
//! arguments → [`scenario`] → phases of [`load`] on [`transport`]'s clients → [`report`] as table and JSON.

mod cli;
mod cluster;
mod context;
mod load;
mod measure;
mod options;
mod scenario;
mod transport;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::Arguments;
use crate::context::Context;
use crate::options::Options;
use crate::scenario::Scenario;

/// What a program returns that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("coffer-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let Arguments { options, scenario } = arguments;
    if options.dry_run {
        let lines = scenario.plan(&options);
        std::io::stdout().write_all((lines.join("\n") + "\n").as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.threads())
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(async {
        if let Scenario::EchoServer(server) = &scenario {
            return transport::echo::serve(server).await.map(|()| ExitCode::SUCCESS);
        }
        run_scenario(options, scenario).await
    })
}

/// Runs the scenario, and reports what was measured also when it was cut short.
async fn run_scenario(options: Options, scenario: Scenario) -> Result<ExitCode> {
    let stop = stop_on_signal()?;
    let mut context = Context::new(options, scenario.name())?;
    let outcome = scenario::run(&scenario, &mut context, &stop).await;
    let report = context.into_report();
    if !report.phases.is_empty() {
        std::io::stdout().write_all(measure::table::render(&report).as_bytes())?;
        report.write_json()?;
    }
    outcome?;
    if stop.is_cancelled() {
        eprintln!("coffer-bench: interrupted");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    match report.failure() {
        Some(failure) => Err(failure),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Cancelled by the first SIGINT or SIGTERM; the second ends the process without cleaning up.
fn stop_on_signal() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let token = stop.clone();
    tokio::spawn(async move {
        for _ in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if token.is_cancelled() {
                std::process::exit(i32::from(INTERRUPTED));
            }
            eprintln!("\ncoffer-bench: stopping; cleaning up (again to leave everything as it is)");
            token.cancel();
        }
    });
    Ok(stop)
}
