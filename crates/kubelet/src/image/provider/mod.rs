//! Credentials from plugins: upstream's exec credential providers, for registries whose passwords
//! are made on demand (`--image-credential-provider-config`, `--image-credential-provider-bin-dir`).
//!
//! A plugin is asked only for images that its `matchImages` cover, and what it returns is kept as
//! long as it says. What it returns for other registries goes through the keyring like any other
//! file: it is used for what it matches. A plugin that fails leaves the pull to go on without it.

mod cache;
mod config;
mod plugin;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use coffer_api::image_name::ImageName;
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use zeroize::Zeroizing;

use self::cache::{Account, Cache, Key, Scope};
pub use self::config::ProviderConfigError;
use self::config::TokenAttributes;
use self::plugin::{CacheKeyType, Plugin, PluginError, Question};
use super::credential::{Coordinates, Source};
use super::docker_config::Entry;
use super::keyring::Keyring;
use super::location::Location;
use crate::objects::{FetchError, Kind, Objects, Referent, ServiceAccountRef};
use crate::pod::PodId;

/// How long a token for a plugin is good; the API server's default.
const TOKEN_EXPIRATION_S: i64 = 3600;
/// Anyone may run a plugin's file if one of these bits is set.
const EXECUTABLE: u32 = 0o111;

/// All plugins of the node.
#[derive(Default)]
pub(super) struct Providers {
    all: Vec<Provider>,
}

struct Provider {
    plugin: Plugin,
    locations: Vec<Location>,
    cache: Cache,
    /// One run at a time: pods that wait for the same credentials find them in the cache then.
    turn: Semaphore,
}

/// Whose image is pulled.
pub(super) struct Asker<'a> {
    pub(super) objects: &'a Objects,
    pub(super) pod: &'a PodId,
    pub(super) spec: &'a PodSpec,
}

/// What a plugin gets of a pod's service account.
struct Identity {
    account: Account,
    token: Zeroizing<String>,
}

/// What is read of a service account.
#[derive(Deserialize)]
struct ServiceAccountMeta {
    metadata: ObjectMeta,
}

impl Referent for ServiceAccountMeta {
    const KIND: Kind = Kind::ServiceAccount;
}

impl Providers {
    /// Reads the configuration and finds the plugins.
    pub(super) fn open(config: &Path, directory: &Path) -> Result<Self, ProviderConfigError> {
        if !directory.is_dir() {
            return Err(ProviderConfigError::NoDirectory(directory.to_owned()));
        }
        let open = |config: config::ProviderConfig| {
            let program = directory.join(&config.name);
            let meta = program
                .metadata()
                .map_err(|_| ProviderConfigError::NoExecutable(program.clone()))?;
            if !meta.is_file() || meta.permissions().mode() & EXECUTABLE == 0 {
                return Err(ProviderConfigError::NotExecutable(program));
            }
            let locations = config.locations();
            let plugin = Plugin { config, program };
            Ok(Provider { plugin, locations, cache: Cache::default(), turn: Semaphore::new(1) })
        };
        let all = config::read(config)?.into_iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { all })
    }

    /// What the plugins have for an image.
    pub(super) async fn keyring(&self, asker: &Asker<'_>, image: &ImageName) -> Keyring {
        let mut keyring = Keyring::default();
        for provider in &self.all {
            match provider.credentials(asker, image).await {
                Ok(Some((entries, source))) => keyring.add(entries, &source),
                Ok(None) => {}
                Err(error) => tracing::warn!(
                    plugin = provider.plugin.config.name,
                    image = image.repository(),
                    %error,
                    "no credentials from the credential provider plugin"
                ),
            }
        }
        keyring
    }

    /// The service account by which a plugin's answer was granted to this pod, if there may be one.
    pub(super) async fn service_account(
        &self,
        asker: &Asker<'_>,
        image: &ImageName,
    ) -> Option<Coordinates> {
        let repository = image.repository();
        let provider = self.all.iter().find(|provider| {
            provider.plugin.config.token_attributes.is_some() && provider.covers(&repository)
        })?;
        let attributes = provider.plugin.config.token_attributes.as_ref()?;
        account(asker, attributes).await.ok().flatten().map(|account| account.coordinates)
    }
}

/// Why a plugin gave no credentials.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("{0}")]
    ServiceAccount(#[from] FetchError),
    #[error("{0}")]
    Plugin(#[from] PluginError),
}

impl Provider {
    fn covers(&self, repository: &str) -> bool {
        self.locations.iter().any(|location| location.covers(repository))
    }

    /// `None` where the plugin is not to be asked.
    async fn credentials(
        &self,
        asker: &Asker<'_>,
        image: &ImageName,
    ) -> Result<Option<(Vec<Entry>, Source)>, AskError> {
        let repository = image.repository();
        if !self.covers(&repository) {
            return Ok(None);
        }
        let attributes = self.plugin.config.token_attributes.as_ref();
        let identity = match attributes {
            Some(attributes) => match identity(asker, attributes).await {
                Ok(Some(identity)) => Some(identity),
                Ok(None) if attributes.requires_service_account() => return Ok(None),
                Ok(None) => None,
                Err(error) => return Err(error.into()),
            },
            None => None,
        };
        let source = identity.as_ref().map_or(Source::Node, |identity| {
            Source::ServiceAccount(identity.account.coordinates.clone())
        });
        let entries = self.ask(image, identity).await?;
        Ok(Some((entries, source)))
    }

    async fn ask(
        &self,
        image: &ImageName,
        identity: Option<Identity>,
    ) -> Result<Vec<Entry>, AskError> {
        let repository = image.repository();
        let attributes = self.plugin.config.token_attributes.as_ref();
        // A token is new for each pull, so what is good for one token only is not kept at all.
        let caches = !attributes.is_some_and(TokenAttributes::caches_by_token);
        let account = identity.as_ref().map(|identity| identity.account.clone());
        let scopes =
            [Scope::Image(repository.clone()), Scope::Registry(registry(image)), Scope::Global];
        let keys = scopes.map(|scope| Key { scope, account: account.clone() });
        let _turn = self.turn.acquire().await;
        if caches && let Some(entries) = self.cache.find(&keys, Instant::now()) {
            return Ok(entries);
        }
        let none = BTreeMap::new();
        let question = Question {
            image: &repository,
            service_account_token: identity.as_ref().map(|identity| identity.token.as_str()),
            service_account_annotations: account
                .as_ref()
                .map_or(&none, |account| &account.annotations),
        };
        let answer = self.plugin.run(&question).await?;
        let kept = answer.cache_duration.unwrap_or(self.plugin.config.default_cache_duration());
        if caches && !kept.is_zero() {
            let [image, registry, global] = keys;
            let key = match answer.cache_key_type {
                CacheKeyType::Image => image,
                CacheKeyType::Registry => registry,
                CacheKeyType::Global => global,
            };
            self.cache.put(key, duplicate(&answer.auth), kept, Instant::now());
        }
        Ok(answer.auth)
    }
}

fn registry(image: &ImageName) -> String {
    image.registry().to_owned()
}

fn duplicate(entries: &[Entry]) -> Vec<Entry> {
    let copy = |entry: &Entry| (entry.0.clone(), entry.1.duplicate(), entry.2.duplicate());
    entries.iter().map(copy).collect()
}

async fn identity(
    asker: &Asker<'_>,
    attributes: &TokenAttributes,
) -> Result<Option<Identity>, FetchError> {
    let Some(account) = account(asker, attributes).await? else { return Ok(None) };
    let reference = ServiceAccountRef {
        name: &account.coordinates.name,
        pod: asker.pod,
        audience: Some(&attributes.service_account_token_audience),
        expiration_s: TOKEN_EXPIRATION_S,
    };
    let token = asker.objects.service_account_token(&reference).await?;
    Ok(Some(Identity { account, token }))
}

/// The pod's service account with the annotations that the plugin asks for; `None` where the pod
/// has none, or it lacks a required one, which is how workloads opt in.
async fn account(
    asker: &Asker<'_>,
    attributes: &TokenAttributes,
) -> Result<Option<Account>, FetchError> {
    let Some(name) = asker.spec.service_account_name.as_deref().filter(|name| !name.is_empty())
    else {
        return Ok(None);
    };
    let found: ServiceAccountMeta = asker.objects.get(asker.pod.namespace(), name).await?;
    let present = found.metadata.annotations.unwrap_or_default();
    let mut annotations = BTreeMap::new();
    for key in &attributes.required_service_account_annotation_keys {
        let Some(value) = present.get(key) else { return Ok(None) };
        annotations.insert(key.clone(), value.clone());
    }
    for key in &attributes.optional_service_account_annotation_keys {
        if let Some(value) = present.get(key) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let coordinates = Coordinates {
        namespace: asker.pod.namespace().to_owned(),
        name: name.to_owned(),
        uid: found.metadata.uid.unwrap_or_default(),
    };
    Ok(Some(Account { coordinates, annotations }))
}

#[cfg(test)]
mod tests {
    use super::super::credential::Hidden;
    use super::*;

    const CONFIG: &str = "
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: plugin
  matchImages: ['*.r.io']
  defaultCacheDuration: 0s
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  args: [credentials]
  env: [{name: WHO, value: env}]
";

    struct Fixture {
        directory: tempfile::TempDir,
        provider: Provider,
    }

    impl Fixture {
        fn new(script: &str) -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let config = directory.path().join("config.yaml");
            std::fs::write(&config, CONFIG).expect("written");
            let error = Providers::open(&config, directory.path()).err().expect("no plugin yet");
            assert!(error.to_string().ends_with("/plugin did not exist"), "{error}");
            let plugin = directory.path().join("plugin");
            std::fs::write(&plugin, format!("#!/bin/sh\ncd {:?}\n{script}", directory.path()))
                .expect("written");
            let error = Providers::open(&config, directory.path()).err().expect("no rights yet");
            assert!(error.to_string().contains("not an executable file"), "{error}");
            std::fs::set_permissions(&plugin, PermissionsExt::from_mode(0o755)).expect("changed");
            let mut providers = Providers::open(&config, directory.path()).expect("opens");
            Self { directory, provider: providers.all.remove(0) }
        }

        async fn ask(&self, image: &str) -> Result<Vec<(String, String)>, String> {
            let image = ImageName::parse(image).expect("valid");
            let entries =
                self.provider.ask(&image, None).await.map_err(|error| error.to_string())?;
            let shown = |entry: &Entry| (entry.0.clone(), entry.2.expose().to_owned());
            Ok(entries.iter().map(shown).collect())
        }

        fn runs(&self) -> usize {
            let log = std::fs::read_to_string(self.directory.path().join("log"));
            log.unwrap_or_default().lines().count()
        }
    }

    fn respond(key_type: &str, duration: &str) -> String {
        format!(
            r#"request=$(cat); echo "$request" >> log
cat <<END
{{"kind":"CredentialProviderResponse","apiVersion":"credentialprovider.kubelet.k8s.io/v1",
"cacheKeyType":"{key_type}",{duration}"auth":{{"*.r.io":{{"username":"$1","password":"$WHO"}}}}}}
END"#
        )
    }

    #[tokio::test]
    async fn a_plugin_gets_request_arguments_and_environment_and_its_answer_is_used() {
        let fixture = Fixture::new(&respond("Image", ""));
        assert!(fixture.provider.covers("a.r.io/team/app"));
        assert!(!fixture.provider.covers("r.io/team/app"));
        let entries = fixture.ask("a.r.io/team/app:1").await.expect("entries");
        assert_eq!(entries, [("*.r.io".to_owned(), "env".to_owned())]);
        let log = std::fs::read_to_string(fixture.directory.path().join("log")).expect("a log");
        assert_eq!(
            log,
            "{\"kind\":\"CredentialProviderRequest\",\
             \"apiVersion\":\"credentialprovider.kubelet.k8s.io/v1\",\
             \"image\":\"a.r.io/team/app\"}\n"
        );
        // The configuration's default is not to keep responses.
        fixture.ask("a.r.io/team/app:1").await.expect("entries");
        assert_eq!(fixture.runs(), 2);
    }

    #[tokio::test]
    async fn responses_are_kept_for_what_the_plugin_says() {
        let images = ["a.r.io/x:1", "a.r.io/x:2", "a.r.io/y:1", "b.r.io/x:1"];
        for (key_type, runs) in [("Image", 3), ("Registry", 2), ("Global", 1)] {
            let fixture = Fixture::new(&respond(key_type, r#""cacheDuration":"1h","#));
            for image in images {
                let entries = fixture.ask(image).await.expect("entries");
                assert_eq!(entries.len(), 1);
            }
            assert_eq!(fixture.runs(), runs, "{key_type}");
        }
        let fixture = Fixture::new(&respond("Global", r#""cacheDuration":"0s","#));
        for image in images {
            fixture.ask(image).await.expect("entries");
        }
        assert_eq!(fixture.runs(), images.len(), "an answer that is not to be kept");
    }

    #[tokio::test]
    async fn a_plugin_that_fails_is_named_by_its_failure_and_not_quoted() {
        for (script, expected) in [
            ("echo canary; echo canary >&2; exit 3", "exit status: 3; what it said"),
            ("echo canary", "error decoding credential provider plugin response from stdout"),
            ("kill -9 $$", "signal: 9"),
            ("yes canary", "its response is too long"),
        ] {
            let fixture = Fixture::new(script);
            let error = fixture.ask("a.r.io/x").await.expect_err(script);
            assert!(error.contains(expected) && !error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn hidden_values_are_duplicated_whole() {
        let hidden = |text: &str| Hidden::new(text.to_owned());
        let copies = duplicate(&[("r".to_owned(), hidden("u"), hidden("p"))]);
        assert_eq!((copies[0].1.expose(), copies[0].2.expose()), ("u", "p"));
    }
}
