//! `kubernetes.io/enforce-mountable-secrets`: pods of such an account use its secrets and no others.

use coffer_api::go;
use coffer_api::kinds::ServiceAccount;
use k8s_openapi::api::core::v1::{EnvFromSource, EnvVar, PodSpec};

const ENFORCE: &str = coffer_api::well_known::annotation::ENFORCE_MOUNTABLE_SECRETS;

/// Whether the account lets its pods use what the spec refers to.
///
/// # Errors
/// The first secret that it does not, in upstream's words.
pub(super) fn check(account: &ServiceAccount, spec: &PodSpec) -> Result<(), String> {
    let annotations = account.metadata.annotations.as_ref();
    let enforced = annotations
        .and_then(|all| all.get(ENFORCE))
        .is_some_and(|value| go::parse_bool(value) == Some(true));
    if !enforced {
        return Ok(());
    }
    let limit = Limit(account);
    limit.volumes(spec)?;
    for container in spec.init_containers.iter().flatten() {
        let (env, env_from) = (container.env.as_deref(), container.env_from.as_deref());
        limit.environment("init container", &container.name, env, env_from)?;
    }
    for container in &spec.containers {
        let (env, env_from) = (container.env.as_deref(), container.env_from.as_deref());
        limit.environment("container", &container.name, env, env_from)?;
    }
    for container in spec.ephemeral_containers.iter().flatten() {
        let (env, env_from) = (container.env.as_deref(), container.env_from.as_deref());
        limit.environment("ephemeral container", &container.name, env, env_from)?;
    }
    limit.pull_secrets(spec)
}

struct Limit<'a>(&'a ServiceAccount);

impl Limit<'_> {
    fn name(&self) -> &str {
        self.0.metadata.name.as_deref().unwrap_or_default()
    }

    fn holds(&self, secret: &str) -> bool {
        let own = self.0.secrets.iter().flatten();
        own.filter_map(|reference| reference.name.as_deref()).any(|name| name == secret)
    }

    fn refusal(&self, what: &str, secret: &str) -> String {
        format!(
            "{what} secret.secretName=\"{secret}\" is not allowed because service account {} does not reference that secret",
            self.name()
        )
    }

    fn volumes(&self, spec: &PodSpec) -> Result<(), String> {
        for volume in spec.volumes.iter().flatten() {
            let whole = volume.secret.as_ref().and_then(|secret| secret.secret_name.as_deref());
            let parts = volume.projected.iter().flat_map(|it| it.sources.iter().flatten());
            let parts = parts.filter_map(|source| source.secret.as_ref());
            let named = whole.into_iter().chain(parts.map(|secret| secret.name.as_str()));
            if let Some(secret) = named.into_iter().find(|secret| !self.holds(secret)) {
                return Err(self.refusal("volume with", secret));
            }
        }
        Ok(())
    }

    fn environment(
        &self,
        kind: &str,
        container: &str,
        env: Option<&[EnvVar]>,
        env_from: Option<&[EnvFromSource]>,
    ) -> Result<(), String> {
        for variable in env.into_iter().flatten() {
            let source = variable.value_from.as_ref();
            let secret = source.and_then(|source| source.secret_key_ref.as_ref());
            if let Some(secret) = secret.filter(|secret| !self.holds(&secret.name)) {
                let name = &variable.name;
                let what = format!("{kind} {container} with envVar {name} referencing");
                return Err(self.refusal(&what, &secret.name));
            }
        }
        let mut sources = env_from.into_iter().flatten().filter_map(|it| it.secret_ref.as_ref());
        if let Some(secret) = sources.find(|secret| !self.holds(&secret.name)) {
            let what = format!("{kind} {container} with envFrom referencing");
            return Err(self.refusal(&what, &secret.name));
        }
        Ok(())
    }

    fn pull_secrets(&self, spec: &PodSpec) -> Result<(), String> {
        let own: Vec<&str> =
            self.0.image_pull_secrets.iter().flatten().map(|it| &*it.name).collect();
        for (at, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
            if !own.contains(&secret.name.as_str()) {
                return Err(format!(
                    "imagePullSecrets[{at}].name=\"{}\" is not allowed because service account {} does not reference that imagePullSecret",
                    secret.name,
                    self.name()
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refused(spec: Value) -> Result<(), String> {
        let account: ServiceAccount = serde_json::from_value(json!({
            "metadata": { "name": "app", "annotations": { ENFORCE: "true" } },
            "secrets": [{ "name": "own" }],
            "imagePullSecrets": [{ "name": "pull" }],
        }))
        .unwrap();
        let mut spec = spec;
        if spec.get("containers").is_none() {
            spec["containers"] = json!([]);
        }
        check(&account, &serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn what_the_account_lists_passes_and_the_rest_is_named() {
        let volume =
            |name: &str| json!({ "volumes": [{ "name": "v", "secret": { "secretName": name } }] });
        assert_eq!(refused(volume("own")), Ok(()));
        assert_eq!(refused(json!({ "imagePullSecrets": [{ "name": "pull" }] })), Ok(()));
        let env =
            json!([{ "name": "A", "valueFrom": { "secretKeyRef": { "name": "x", "key": "k" } } }]);
        let projected = json!({ "sources": [{ "secret": { "name": "x" } }] });
        for (spec, message) in [
            (
                volume("x"),
                "volume with secret.secretName=\"x\" is not allowed because service account app does not reference that secret",
            ),
            (
                json!({ "volumes": [{ "name": "v", "projected": projected }] }),
                "volume with secret.secretName=\"x\" is not allowed because service account app does not reference that secret",
            ),
            (
                json!({ "containers": [{ "name": "c", "env": env }] }),
                "container c with envVar A referencing secret.secretName=\"x\" is not allowed because service account app does not reference that secret",
            ),
            (
                json!({ "initContainers": [{ "name": "i", "envFrom": [{ "secretRef": { "name": "x" } }] }] }),
                "init container i with envFrom referencing secret.secretName=\"x\" is not allowed because service account app does not reference that secret",
            ),
            (
                json!({ "imagePullSecrets": [{ "name": "own" }] }),
                "imagePullSecrets[0].name=\"own\" is not allowed because service account app does not reference that imagePullSecret",
            ),
        ] {
            assert_eq!(refused(spec), Err(message.to_owned()));
        }
    }
}
