//! Images built from what the distribution has installed: there may be no network to pull from.
//!
//! `busybox` is Debian's static busybox with its applets. `redis` is Debian's redis-server with the
//! libraries it is linked to, on top of that busybox, laid out as Docker Hub's image is: `/data` to
//! work in, port 6379, an entrypoint that turns protected mode off. `python_client` is Debian's Python
//! with its Kubernetes client; `program` is any program of this machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::debian;
use coffer_containerd::image::{Image, Layer, Run};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const REDIS_ENTRYPOINT: &str = r#"#!/bin/sh
set -e
# Arguments alone are for redis-server.
case "$1" in -*|*.conf) set -- redis-server "$@" ;; esac
# A container's port is reachable only where it is published: redis need not guard it again.
if [ "$1" = redis-server ]; then set -- "$@" --protected-mode no; fi
exec "$@"
"#;

/// Python's Kubernetes client, an interpreter for it, and all that the two are linked to or import.
const PYTHON_CLIENT: &[&str] = &[
    "libc6",
    "libexpat1",
    "libffi8",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libssl3",
    "python3-cachetools",
    "python3-certifi",
    "python3-charset-normalizer",
    "python3-chardet",
    "python3-dateutil",
    "python3-google-auth",
    "python3-idna",
    "python3-kubernetes",
    "python3-oauthlib",
    "python3-pkg-resources",
    "python3-pyasn1",
    "python3-pyasn1-modules",
    "python3-requests",
    "python3-requests-oauthlib",
    "python3-rsa",
    "python3-six",
    "python3-urllib3",
    "python3-websocket",
    "python3-yaml",
    "python3.11-minimal",
    "zlib1g",
];

/// A shell and the usual small programs. Runs `sh`, which ends immediately without a terminal: give a
/// command.
///
/// # Errors
/// When busybox-static is not installed.
pub fn busybox() -> Result<Image> {
    let run = Run { cmd: words(&["sh"]), env: words(&[PATH]), ..Run::default() };
    Ok(Image::new(vec![busybox_layer()?], &run))
}

/// A redis that responses on port 6379.
///
/// # Errors
/// When busybox-static or redis-server is not installed.
pub fn redis() -> Result<Image> {
    let run = Run {
        entrypoint: words(&["docker-entrypoint.sh"]),
        cmd: words(&["redis-server"]),
        env: words(&[PATH]),
        working_dir: "/data".to_owned(),
        exposed_ports: words(&["6379/tcp"]),
    };
    let mut layer = Layer::new().directory("data", 0o755).file(
        "usr/local/bin/docker-entrypoint.sh",
        REDIS_ENTRYPOINT.as_bytes(),
        0o755,
    );
    // redis-cli is the same program on Debian's redis-tools; check and bench tools are left out.
    for program in ["redis-server", "redis-cli"] {
        let path = Path::new("/usr/bin").join(program);
        layer = layer.file(Path::new("usr/local/bin").join(program), &read(&path)?, 0o755);
    }
    for library in libraries(&["/usr/bin/redis-server", "/usr/bin/redis-cli"])? {
        let inside = library.strip_prefix("/").unwrap_or(&library).to_owned();
        layer = layer.file(inside, &read(&library)?, 0o755);
    }
    Ok(Image::new(vec![busybox_layer()?, layer], &run))
}

/// A program of this machine with the libraries that it is linked to, and the usual small programs
/// next to it. Runs the program, as `/usr/local/bin/NAME`.
///
/// # Errors
/// When busybox-static is not installed, or there is no such program.
pub fn program(path: &Path) -> Result<Image> {
    let name = path.file_name().context("a program has a name")?;
    let inside = Path::new("usr/local/bin").join(name);
    let entrypoint = vec![format!("/{}", inside.display())];
    let run = Run { entrypoint, env: words(&[PATH]), ..Run::default() };
    let mut layer = Layer::new().file(&inside, &read(path)?, 0o755);
    for library in libraries(&[path])? {
        layer = layer.file(library.strip_prefix("/").unwrap_or(&library), &read(&library)?, 0o755);
    }
    Ok(Image::new(vec![busybox_layer()?, layer], &run))
}

/// A Python that can `import kubernetes`. Runs `python3.11`.
///
/// # Errors
/// When busybox-static is not installed, or apt cannot bring the packages.
pub async fn python_client() -> Result<Image> {
    let unpacked = debian::unpacked("python-client", PYTHON_CLIENT).await?;
    let run = Run { entrypoint: words(&["python3.11"]), env: words(&[PATH]), ..Run::default() };
    let mut layer = Layer::new();
    for part in ["lib", "lib64", "usr/bin", "usr/lib"] {
        layer = tree(layer, &unpacked, Path::new(part))?;
    }
    Ok(Image::new(vec![busybox_layer()?, layer], &run))
}

/// Adds what is at `path` below `root`, with all that is below it.
fn tree(layer: Layer, root: &Path, path: &Path) -> Result<Layer> {
    use std::os::unix::fs::PermissionsExt as _;
    let full = root.join(path);
    let meta = full.symlink_metadata().with_context(|| format!("no {}", full.display()))?;
    if meta.is_symlink() {
        return Ok(layer.symlink(path, std::fs::read_link(&full)?));
    }
    let mode = meta.permissions().mode() & 0o7777;
    if !meta.is_dir() {
        return Ok(layer.file(path, &read(&full)?, mode));
    }
    let mut names = std::fs::read_dir(&full)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    names
        .iter()
        .try_fold(layer.directory(path, mode), |layer, name| tree(layer, root, &path.join(name)))
}

fn busybox_layer() -> Result<Layer> {
    let program = Path::new("/bin/busybox");
    let applets = output(Command::new(program).arg("--list"))?;
    let mut layer = Layer::new()
        .file("bin/busybox", &read(program)?, 0o755)
        .file(
            "etc/passwd",
            b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
            0o644,
        )
        .file("etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)
        .directory("root", 0o700)
        .directory("tmp", 0o1777);
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        layer = layer.symlink(Path::new("bin").join(applet), "busybox");
    }
    Ok(layer)
}

/// The shared libraries that programs are linked to, the dynamic linker among them, at the paths
/// where it will look for them.
fn libraries<P: AsRef<Path> + std::fmt::Debug>(programs: &[P]) -> Result<Vec<PathBuf>> {
    let listing = output(Command::new("ldd").args(programs.iter().map(AsRef::as_ref)))?;
    // `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x…)` or `/lib64/ld-linux-x86-64.so.2 (0x…)`
    let path = |line: &str| {
        let found = line.split("=>").last()?.split_whitespace().next()?;
        (line.starts_with('\t') && found.starts_with('/')).then(|| PathBuf::from(found))
    };
    let mut paths: Vec<_> = listing.lines().filter_map(path).collect();
    paths.sort();
    paths.dedup();
    ensure!(!paths.is_empty(), "ldd found no libraries of {programs:?}");
    Ok(paths)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}: run `make deps`", path.display()))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
