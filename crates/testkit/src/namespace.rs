//! A mount namespace for one test, so that tests mount what they need without root.
//!
//! The kernel lets any user mount a tmpfs in a user namespace of their own, where they are root. A
//! process enters one only while it has a single thread, which a test's process never has. So a test
//! that mounts is run again, alone, in a process that `unshare(1)` of util-linux has put there:
//!
//! ```text
//! cargo test ─▶ #[test] a_volume() ─▶ unshare --user --map-root-user --mount
//!                                          └─▶ the same test program --exact a_volume ─▶ the test
//! ```
//!
//! The mounts go with the process, also when the test fails. Root needs no user namespace and gets a
//! mount namespace alone.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// Set in the process that runs the test.
const INSIDE: &str = "COFFER_TEST_IN_NAMESPACE";

/// Runs `test` as root of a mount namespace. To be called as all that a `#[test]` function does, with
/// a closure written there: its type's name tells the test's.
///
/// # Panics
/// When the test fails; when there can be no namespace, the message says what forbids it.
pub fn in_namespace<F: FnOnce()>(test: F) {
    in_namespace_as(std::any::type_name::<F>(), test);
}

/// The same for a harness that wraps the test's closure, whose type has this name.
///
/// # Panics
/// As [`in_namespace`].
pub fn in_namespace_as(closure: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let name = test_name(closure);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = std::env::current_exe().expect("the test's own program");
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args([OsStr::new("--mount"), OsStr::new("--"), program.as_os_str()]);
    unshare.args(["--exact", name, "--nocapture", "--include-ignored"]);
    unshare.env(INSIDE, "1").env("TMPDIR", directory.path()).stdin(Stdio::null());
    let ran = unshare.output().expect("unshare(1) of util-linux is there");
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    // A name that matches no test would pass without having run.
    let has_run = out.contains("running 1 test\n");
    assert!(
        ran.status.success() && has_run,
        "{name} failed in its namespace ({}). Where unshare(1) is refused, the kernel forbids user \
         namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns): \
         run the tests as root.\n{out}\n{err}",
        ran.status
    );
}

/// `crate::module::test::{{closure}}` is the type of a closure in the test `module::test`.
fn test_name(closure: &str) -> &str {
    let (_, path) = closure.split_once("::").expect("a crate and a path");
    path.split_once("::{{closure}}").map_or(path, |(test, _)| test)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_in_a_namespace_is_root_and_may_mount() {
        in_namespace(|| {
            assert!(rustix::process::geteuid().is_root());
            let directory = tempfile::tempdir().expect("a directory");
            let flags = rustix::mount::MountFlags::empty();
            rustix::mount::mount("none", directory.path(), "tmpfs", flags, None::<&std::ffi::CStr>)
                .expect("mounted");
        });
    }

    #[test]
    #[should_panic(expected = "failed in its namespace")]
    fn a_test_that_fails_in_a_namespace_fails() {
        in_namespace(|| panic!("on purpose"));
    }

    #[test]
    fn the_name_of_a_closures_type_tells_its_test() {
        assert_eq!(test_name("node::start::a_pod::{{closure}}"), "start::a_pod");
        assert_eq!(test_name("node::a_pod::{{closure}}::{{closure}}"), "a_pod");
    }
}
