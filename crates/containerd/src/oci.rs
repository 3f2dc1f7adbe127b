//! The program that containerd calls to create containers and to run commands in them: runc, or the caller's
//! program for the calls that contain a container's environment.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::files::replace_if_changed;
use crate::layout::Layout;

const EXECUTABLE: u32 = 0o700;

/// The program that is called instead of runc to create and run containers, and to run commands in them, with
/// these arguments, then runc's path, then runc's own arguments.
#[derive(Clone, Debug)]
pub struct OciRuntime {
    /// The program.
    pub program: PathBuf,
    /// Arguments before runc's path.
    pub arguments: Vec<OsString>,
}

/// Writes the script that containerd calls; returns its path. Changing it needs no restart.
pub(crate) fn install(
    layout: &Layout,
    runtime: &OciRuntime,
    runc: &Path,
) -> Result<PathBuf, Error> {
    let path = layout.runc();
    replace_if_changed(&path, script(runtime, runc).as_bytes(), EXECUTABLE)?;
    Ok(path)
}

/// Other calls, such as those for a container's state, go to runc directly.
fn script(runtime: &OciRuntime, runc: &Path) -> String {
    let mut between = quoted(&runtime.program.to_string_lossy());
    for argument in &runtime.arguments {
        between.push(' ');
        between.push_str(&quoted(&argument.to_string_lossy()));
    }
    let runc = quoted(&runc.to_string_lossy());
    format!(
        r#"#!/bin/sh
# Written by Coffer at every start; changes made here are lost.
for word in "$@"; do
  case "$word" in
    create | run | exec) exec {between} {runc} "$@" ;;
  esac
done
exec {runc} "$@"
"#
    )
}

/// A word quoted for the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_calls_with_an_environment_go_to_the_program() {
        let runtime = OciRuntime {
            program: "/bin/echo".into(),
            arguments: vec!["it's".into(), "a b".into(), "$HOME".into()],
        };
        let script = script(&runtime, Path::new("/usr/bin/printf"));
        let said = |arguments: &[&str]| {
            let mut shell = Command::new("/bin/sh");
            let output = shell.args(["-c", &script, "sh"]).args(arguments).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        for call in ["create", "run", "exec"] {
            let expected = format!("it's a b $HOME /usr/bin/printf --root /r {call} a  b\n");
            assert_eq!(said(&["--root", "/r", call, "a  b"]), expected);
        }
        assert_eq!(said(&["%s|", "state", "x"]), "state|x|");
    }
}
