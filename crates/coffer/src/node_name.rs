//! The name of this machine as a node.

use anyhow::{Result, bail};

/// The given name, or the host name in lower case, as in upstream's kubelet.
pub(crate) fn resolve(asked: Option<&str>) -> Result<String> {
    let host = rustix::system::uname();
    let name = match asked {
        Some(name) => name.to_owned(),
        None => host.nodename().to_string_lossy().trim().to_lowercase(),
    };
    match coffer_api::names::dns1123_subdomain(&name).first() {
        Some(problem) => bail!("{name:?} is not a valid node name: {problem}; give --node-name"),
        None => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_host_name_is_an_error_that_suggests_the_flag() {
        assert_eq!(resolve(Some("node-1.example")).unwrap(), "node-1.example");
        let error = resolve(Some("Node_1")).unwrap_err().to_string();
        assert!(error.contains("--node-name"), "{error}");
    }
}
