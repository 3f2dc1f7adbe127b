//! What a pod without the mark tries, on a file system with links that others have put there.

use std::os::unix::fs::symlink;

use coffer_testkit::{Attacks, in_namespace};
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use tempfile::TempDir;

use super::*;
use crate::volume::sub_path;

/// A machine's directories below a temporary one: `data` is protected, `shared` is everybody's.
struct Machine {
    directory: TempDir,
    protected: Protected,
}

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let base = directory.path().canonicalize().expect("it is there");
        for made in ["lib/data/pki", "shared/own", "lib/other", "elsewhere"] {
            fs::create_dir_all(base.join(made)).expect("made");
        }
        fs::write(base.join("lib/data/pki/ca.key"), "key").expect("written");
        fs::write(base.join("shared/own/file"), "mine").expect("written");
        symlink(base.join("lib/data"), base.join("data-link")).expect("linked");
        // As an operator names it, by a link.
        let protected = Protected::new([base.join("data-link")]);
        Self { directory, protected }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().canonicalize().expect("it is there").join(path)
    }

    fn open(&self, path: &Path, kind: &str) -> Result<Option<OwnedFd>, VolumeError> {
        let source = source(path, kind);
        self.protected.open(&source, true)
    }

    fn link(&self, to: &str, name: &str) -> PathBuf {
        let link = self.at("shared").join(name);
        symlink(to, &link).expect("linked");
        link
    }
}

fn source(path: &Path, kind: &str) -> HostPathVolumeSource {
    let type_ = Some(kind.to_owned()).filter(|kind| !kind.is_empty());
    HostPathVolumeSource { path: path.display().to_string(), type_ }
}

const KINDS: [&str; 8] = [
    "",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
    "CharDevice",
    "BlockDevice",
];

#[test]
fn no_path_reaches_what_is_protected() {
    let mut attacks = Attacks::group("host paths of the system, at the kubelet");
    let machine = Machine::new();
    let data = machine.at("lib/data");
    machine.link("../lib/data", "relative");
    machine.link(&data.display().to_string(), "absolute");
    machine.link("absolute", "twice");
    machine.link(&machine.at("lib").display().to_string(), "above");
    machine.link("/", "root");
    machine.link(&data.join("pki/ca.key").display().to_string(), "file");
    machine.link(&data.join("new").display().to_string(), "dangling");
    let pid = std::process::id();
    let beyond = |process: &str| PathBuf::from(format!("/proc/{process}/root{}", data.display()));
    let shared = |path: &str| machine.at("shared").join(path);
    let paths = [
        data.clone(),
        data.join("pki"),
        data.join("pki/ca.key"),
        data.join("."),
        machine.at("lib"),
        machine.at("data-link"),
        machine.at("data-link/pki"),
        shared("relative"),
        shared("absolute"),
        shared("twice"),
        shared("twice/pki"),
        shared("above"),
        shared("above/data/pki/ca.key"),
        shared("root"),
        shared("file"),
        shared("dangling"),
        shared("absolute/made"),
        shared("absolute/made/deeper"),
        shared("above/data/made"),
        PathBuf::from("/"),
        PathBuf::from("/run"),
        PathBuf::from("/var"),
        PathBuf::from("/var/run"),
        PathBuf::from("/var/run/coffer-test"),
        PathBuf::from("/run/coffer-test/new"),
        PathBuf::from("/proc"),
        PathBuf::from(format!("/proc/{pid}")),
        beyond("self"),
        beyond(&pid.to_string()),
        machine.directory.path().to_owned(),
    ];
    for path in paths {
        for kind in KINDS {
            let opened = machine.open(&path, kind);
            let failed = opened.is_err();
            attacks.attempt(&format!("{} {kind}", path.display()), failed, opened.map(|_| ()));
        }
    }
    // Nothing was made on the way.
    let made: Vec<PathBuf> = ["new", "made"].iter().map(|name| data.join(name)).collect();
    attacks.attempt("something made in it", made.iter().all(|path| !path.exists()), &made);
    // A link that is put there after the path was opened changes nothing.
    let own = machine.at("shared/own");
    let opened = machine.open(&own, "Directory").expect("nobody's but theirs").expect("there");
    fs::rename(&own, machine.at("shared/moved")).expect("moved");
    symlink(&data, &own).expect("linked");
    let here = path_of(opened.as_fd()).expect("readable");
    attacks.attempt(
        "a link instead of a directory",
        here == Some(machine.at("shared/moved")),
        here,
    );
    // Nor do links in a volume lead its subPath out.
    symlink(&data, machine.at("shared/moved/out")).expect("linked");
    for path in ["out", "out/pki", "../../lib/data", "/../lib/data"] {
        let volume = machine.open(&machine.at("shared/moved"), "").expect("theirs").expect("there");
        let found = sub_path::resolve(volume, path, true);
        let checked = found.map(|found| {
            machine.protected.check(&source(&machine.at("shared"), ""), found.as_fd())
        });
        let failed = !matches!(checked, Ok(Ok(())));
        attacks.attempt(&format!("subPath {path:?}"), failed, checked.map(|_| ()));
    }
    attacks.finish();
}

#[test]
fn other_paths_are_what_they_always_were() {
    let machine = Machine::new();
    for (path, kind) in [
        ("shared/own", ""),
        ("shared/own", "Directory"),
        ("shared/own", "DirectoryOrCreate"),
        ("shared/own/file", "File"),
        ("shared/own/file", "FileOrCreate"),
        ("shared/new/deep", "DirectoryOrCreate"),
        ("shared/made/deep", ""),
        ("shared/new/file", "FileOrCreate"),
        ("lib/other", "Directory"),
        ("lib/sibling", "DirectoryOrCreate"),
    ] {
        let opened =
            machine.open(&machine.at(path), kind).unwrap_or_else(|e| panic!("{path}: {e}"));
        let opened = path_of(opened.expect("opened").as_fd()).expect("readable");
        assert_eq!(opened, Some(machine.at(path)), "{path} {kind}");
    }
    let mode = |path: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(machine.at(path)).expect("made").permissions().mode() & 0o777
    };
    assert_eq!((mode("shared/new/deep"), mode("shared/new/file")), (0o755, 0o644));
    machine.link("own", "link");
    assert!(
        machine.open(&machine.at("shared/link"), "Directory").is_ok(),
        "links may lead elsewhere"
    );
    assert!(machine.open(Path::new("/dev/null"), "CharDevice").is_ok());
    // Before a container starts nothing is made for a path without a type.
    let source = source(&machine.at("shared/late"), "");
    assert!(machine.protected.open(&source, false).expect("not protected").is_none());
    assert!(!machine.at("shared/late").exists());
    for (path, kind, said) in [
        ("shared/own", "File", "is not a file"),
        ("shared/none", "Directory", "is not a directory"),
        ("shared/none", "Socket", "is not a socket file"),
        ("shared/own", "Bogus", "Bogus is an invalid volume type"),
        ("shared/none", "Bogus", "Bogus is an invalid volume type"),
    ] {
        let error = machine.open(&machine.at(path), kind).expect_err(path).to_string();
        assert!(
            error.starts_with("hostPath type check failed: ") && error.ends_with(said),
            "{error}"
        );
    }
    let error = machine.open(&machine.at("lib/data"), "").expect_err("protected").to_string();
    let path = machine.at("lib/data").display().to_string();
    assert_eq!(
        error,
        format!(
            "host path {path:?} reaches a protected directory of this node: this requires the verb \"use\" on \"hostpaths\" in the API group \"coffer.dev\""
        )
    );
}

/// The same directory may be seen in two places, and what is mounted below a path comes along.
#[test]
fn a_second_mount_of_what_is_protected_is_protected() {
    in_namespace(|| {
        let machine = Machine::new();
        let (data, elsewhere) = (machine.at("lib/data"), machine.at("elsewhere"));
        fs::create_dir_all(elsewhere.join("mounted")).expect("made");
        rustix::mount::mount_bind(&data, elsewhere.join("mounted")).expect("mounted");
        let found: Vec<bool> =
            ["elsewhere", "elsewhere/mounted", "elsewhere/mounted/pki", "elsewhere/sibling"]
                .iter()
                .map(|path| machine.open(&machine.at(path), "DirectoryOrCreate").is_ok())
                .collect();
        let made = machine.open(&machine.at("elsewhere/mounted/made"), "DirectoryOrCreate").is_ok();
        mountinfo::unmount_below(&elsewhere).expect("unmounted");
        assert_eq!((found, made), (vec![false, false, false, true], false));
        assert!(!data.join("made").exists());
    });
}

/// What the runtime is given is a mount of the kubelet's own. Taking it away takes nothing of the host's.
#[test]
fn a_mount_of_a_host_path_goes_without_what_is_mounted_below_the_original() {
    in_namespace(|| {
        let machine = Machine::new();
        let (own, pods) = (machine.at("shared/own"), machine.at("pods"));
        fs::create_dir_all(own.join("below")).expect("made");
        // As systemd makes all mounts: what happens to one happens to its copies.
        rustix::mount::mount_bind(&own, &own).expect("mounted");
        rustix::mount::mount_change(&own, MountPropagationFlags::SHARED).expect("shared");
        rustix::mount::mount_bind(machine.at("lib/other"), own.join("below")).expect("mounted");
        fs::write(machine.at("lib/other/deep"), "x").expect("written");
        let target = pods.join("0");
        for _ in 0..2 {
            let opened = machine.open(&own, "Directory").expect("theirs").expect("there");
            sub_path::replace(opened.as_fd(), &target).expect("mounted");
        }
        let seen = (target.join("file").exists(), target.join("below/deep").exists());
        mountinfo::unmount_below(&pods).expect("unmounted");
        let (gone, kept) = (!target.join("file").exists(), own.join("below/deep").exists());
        rustix::mount::unmount(own.join("below"), UnmountFlags::empty()).expect("unmounted");
        rustix::mount::unmount(&own, UnmountFlags::empty()).expect("unmounted");
        assert_eq!((seen, gone, kept), ((true, true), true, true));
    });
}
