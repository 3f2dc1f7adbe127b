//! Images built from what the distribution has installed: there may be no network to pull from.
//!
//! `busybox` is Debian's static busybox with its applets. `redis` is Debian's redis-server with the
//! libraries it is linked to, on top of that busybox, laid out as Docker Hub's image is: `/data` to
//! work in, port 6379, an entrypoint that turns protected mode off.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::image::{Image, Layer, Run};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const REDIS_ENTRYPOINT: &str = r#"#!/bin/sh
set -e
# Arguments alone are for redis-server.
case "$1" in -*|*.conf) set -- redis-server "$@" ;; esac
# A container's port is reachable only where it is published: redis need not guard it again.
if [ "$1" = redis-server ]; then set -- "$@" --protected-mode no; fi
exec "$@"
"#;

/// A shell and the usual small programs. Runs `sh`, which ends at once without a terminal: give a
/// command.
///
/// # Errors
/// When busybox-static is not installed.
pub fn busybox() -> Result<Image> {
    let run = Run { cmd: words(&["sh"]), env: words(&[PATH]), ..Run::default() };
    Ok(Image::new(vec![busybox_layer()?], &run))
}

/// A redis that answers on port 6379.
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
fn libraries(programs: &[&str]) -> Result<Vec<PathBuf>> {
    let listing = output(Command::new("ldd").args(programs))?;
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
