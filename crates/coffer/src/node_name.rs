//! What this machine is called as a node.

use anyhow::{Result, bail};

/// The name asked for, or the host's as upstream's kubelet takes it: in lower case.
pub(crate) fn resolve(asked: Option<&str>) -> Result<String> {
    let host = rustix::system::uname();
    let name = match asked {
        Some(name) => name.to_owned(),
        None => host.nodename().to_string_lossy().trim().to_lowercase(),
    };
    match coffer_api::names::dns1123_subdomain(&name).first() {
        Some(problem) => bail!("{name:?} cannot be a node's name: {problem}; give --node-name"),
        None => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_that_no_node_may_have_is_told_with_the_way_out() {
        assert_eq!(resolve(Some("node-1.example")).unwrap(), "node-1.example");
        let error = resolve(Some("Node_1")).unwrap_err().to_string();
        assert!(error.contains("--node-name"), "{error}");
    }
}
