//! A server that the bench starts itself, to see how long it takes to be ready.
//!
//! `{dir}` in its command line and in the kubeconfig's path stands for a directory that is new and
//! empty at each cold start.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use http::Method;

use super::program::Program;
use crate::options::{Options, Protocol};
use crate::transport::client::Client;
use crate::transport::target::Target;

/// What stands for the directory.
const DIR: &str = "{dir}";
/// How often it is asked whether it is ready.
const POLL: Duration = Duration::from_millis(3);
/// How long it may take to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// A running server.
pub(crate) struct Launched {
    program: Program,
    kubeconfig: PathBuf,
    context: Option<String>,
}

/// Puts the directory in its place.
fn in_directory(text: &str, directory: &Path) -> String {
    text.replace(DIR, &directory.display().to_string())
}

impl Launched {
    /// Starts the command line.
    pub(crate) fn start(command: &[String], directory: &Path, options: &Options) -> Result<Self> {
        let words: Vec<_> = command.iter().map(|word| in_directory(word, directory)).collect();
        let kubeconfig = options.kubeconfig.as_ref();
        let kubeconfig =
            kubeconfig.context("say how to reach the server: give --kubeconfig FILE")?;
        let kubeconfig = in_directory(&kubeconfig.to_string_lossy(), directory).into();
        Ok(Self { context: options.context.clone(), ..Self::of(&words, kubeconfig)? })
    }

    /// Starts a command line that writes this kubeconfig, whose current context is used.
    pub(crate) fn of(words: &[String], kubeconfig: PathBuf) -> Result<Self> {
        Ok(Self { program: Program::start(words)?, kubeconfig, context: None })
    }

    /// The process that was started.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.program.pid()
    }

    /// When it was started.
    pub(crate) fn at(&self) -> Instant {
        self.program.at
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<String>> {
        self.program.ended()
    }

    /// Waits until /readyz returns 200; the target then.
    pub(crate) async fn ready(&mut self) -> Result<Arc<Target>> {
        let end = Instant::now() + READY_TIMEOUT;
        loop {
            let error = match self.try_ready().await {
                Ok(target) => return Ok(target),
                Err(error) => error,
            };
            if let Some(how) = self.program.ended()? {
                bail!("the server ended before it was ready {how}");
            }
            if Instant::now() >= end {
                let within = READY_TIMEOUT.as_secs();
                return Err(error.context(format!("the server was not ready within {within} s")));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn try_ready(&self) -> Result<Arc<Target>> {
        let target = Target::load(&self.kubeconfig, self.context.as_deref()).await?;
        let mut client = Client::connect(&target, Protocol::Http1).await?;
        client.call(Method::GET, "/readyz", None).await?;
        Ok(target)
    }

    /// Ends it.
    pub(crate) async fn end(self) -> Result<ExitStatus> {
        self.program.end().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_put_wherever_it_is_asked_for() {
        let directory = Path::new("/x");
        assert_eq!(in_directory("--a={dir}/b,{dir}", directory), "--a=/x/b,/x");
    }
}
