//! The `bootstrap-kubeconfig` verb: a bootstrap token, and a kubeconfig with it for a new node.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use coffer_api::well_known;
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use crate::kubeconfig::Login;
use crate::{client, kubeconfig};

/// Maximum lifetime of a bootstrap token, in hours.
const TTL_HOURS_MAX: i64 = 87_600;

/// Create a bootstrap token, and print a kubeconfig with it for a new node.
#[derive(Debug, Args)]
pub(crate) struct BootstrapOptions {
    /// The kubeconfig of an administrator.
    #[arg(long, value_name = "FILE", default_value = "/var/lib/coffer/admin.kubeconfig")]
    pub(crate) kubeconfig: PathBuf,
    /// Lifetime of the token, such as 24h or 30m.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = ttl)]
    ttl: SignedDuration,
    /// The former flag for the lifetime, in hours.
    #[arg(long, value_name = "HOURS", hide = true, conflicts_with = "ttl")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=TTL_HOURS_MAX))]
    ttl_hours: Option<u32>,
}

impl BootstrapOptions {
    fn ttl(&self) -> SignedDuration {
        self.ttl_hours.map_or(self.ttl, |hours| SignedDuration::from_hours(hours.into()))
    }
}

fn ttl(text: &str) -> Result<SignedDuration, String> {
    let ttl: SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    if !ttl.is_positive() || ttl > SignedDuration::from_hours(TTL_HOURS_MAX) {
        return Err(format!("must be greater than 0 and at most {TTL_HOURS_MAX}h"));
    }
    Ok(ttl)
}

/// The `bootstrap-kubeconfig` verb.
pub(crate) async fn bootstrap(options: BootstrapOptions) -> Result<()> {
    let config = client::config(&options.kubeconfig).await?;
    let (id, secret) = (random(6), random(16));
    let end = Timestamp::now() + options.ttl();
    let object = Zeroizing::new(serde_json::to_vec(&serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": format!("bootstrap-token-{}", id.as_str()) },
        "type": well_known::secret_type::BOOTSTRAP_TOKEN,
        "stringData": {
            "token-id": id.as_str(),
            "token-secret": secret.as_str(),
            "expiration": Timestamp::from_second(end.as_second())?.to_string(),
            "usage-bootstrap-authentication": "true",
        },
    }))?);
    let path = format!("/api/v1/namespaces/{}/secrets", well_known::namespace::KUBE_SYSTEM);
    let request = http::Request::post(path)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(object.to_vec())?;
    let client = client::connecting(config.clone())?;
    client.request_text(request).await.context("cannot create the token")?;
    let token = Zeroizing::new(format!("{}.{}", id.as_str(), secret.as_str()));
    let server = config.cluster_url.to_string();
    #[expect(clippy::print_stdout, reason = "what the verb is for")]
    {
        let (server, login) = (server.trim_end_matches('/'), Login::Token(&token));
        print!("{}", *kubeconfig::render("bootstrap", server, &client::ca_pem(&config)?, &login));
    }
    Ok(())
}

/// Letters and digits, as bootstrap tokens have them.
fn random(length: usize) -> Zeroizing<String> {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let character = |_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())]);
    Zeroizing::new((0..length).map(character).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: BootstrapOptions,
    }

    #[test]
    fn a_token_lifetime_is_a_bounded_duration_and_the_former_flag_still_works() {
        let ttl = |flags: &[&str]| {
            let line = Line::try_parse_from([&["coffer"], flags].concat());
            line.map(|line| line.options.ttl()).ok()
        };
        assert_eq!(ttl(&[]), Some(SignedDuration::from_hours(24)));
        assert_eq!(ttl(&["--ttl", "90m"]), Some(SignedDuration::from_mins(90)));
        assert_eq!(ttl(&["--ttl-hours", "48"]), Some(SignedDuration::from_hours(48)));
        for flags in [
            &["--ttl", "0s"][..],
            &["--ttl", "-1h"],
            &["--ttl", "87601h"],
            &["--ttl", "soon"],
            &["--ttl-hours", "0"],
            &["--ttl-hours", "4294967295"],
            &["--ttl", "1h", "--ttl-hours", "1"],
        ] {
            assert_eq!(ttl(flags), None, "{flags:?}");
        }
    }
}
