//! The `/etc/hosts` of a pod, which has its address and its `hostAliases`.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use k8s_openapi::api::core::v1::PodSpec;

use crate::pod;

const MANAGED: &str = "# Kubernetes-managed hosts file.\n\
    127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    fe00::0\tip6-mcastprefix\n\
    fe00::1\tip6-allnodes\n\
    fe00::2\tip6-allrouters\n";

/// Writes the file, unless the runtime's own will do. Returns whether there is one.
pub(super) fn write(
    path: &Path,
    spec: &PodSpec,
    host_name: &str,
    ips: &[String],
) -> io::Result<bool> {
    let text = if pod::uses_host_network(spec) {
        if spec.host_aliases.as_deref().unwrap_or_default().is_empty() {
            return Ok(false);
        }
        fs::read_to_string("/etc/hosts")?
    } else if ips.is_empty() {
        return Ok(false);
    } else {
        own(host_name, ips)
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    // Written in place: containers that run have this file mounted, not this name.
    fs::write(path, text + &aliases(spec))?;
    // Any user the container runs as may read it, whatever this process' umask is.
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    Ok(true)
}

fn own(host_name: &str, ips: &[String]) -> String {
    let lines = ips.iter().map(|ip| format!("{ip}\t{host_name}\n"));
    MANAGED.to_owned() + &lines.collect::<String>()
}

fn aliases(spec: &PodSpec) -> String {
    let aliases = spec.host_aliases.as_deref().unwrap_or_default();
    if aliases.is_empty() {
        return String::new();
    }
    let lines = aliases.iter().map(|alias| {
        let names = alias.hostnames.as_deref().unwrap_or_default();
        format!("{}\t{}\n", alias.ip, names.join("\t"))
    });
    "\n# Entries added by HostAliases.\n".to_owned() + &lines.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_pods_address_and_its_aliases() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pod/etc-hosts");
        let spec: PodSpec = serde_json::from_value(serde_json::json!({
            "containers": [], "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["a", "b"]}]}))
        .expect("a spec");
        assert!(write(&path, &spec, "mypod", &["10.1.0.2".to_owned()]).expect("written"));
        let text = fs::read_to_string(&path).expect("readable");
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(
            text.ends_with("10.1.0.2\tmypod\n\n# Entries added by HostAliases.\n192.0.2.7\ta\tb\n")
        );
    }
}
