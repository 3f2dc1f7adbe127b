//! Compiles `pause/main.rs` for the target: see there.
//!
//! The same rustc and the same linker that build the rest are enough; no second toolchain, target
//! or C source. The result has no dynamic linker and no C library, so that it runs in an image
//! that holds nothing else.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=pause/main.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let output = PathBuf::from(variable("OUT_DIR")).join("pause");

    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--edition", "2024", "--crate-name", "pause", "--crate-type", "bin"]);
    rustc.args(["--target", &variable("TARGET")]);
    if let Ok(linker) = std::env::var("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={linker}"));
    }
    rustc.args(["-Copt-level=s", "-Cpanic=abort", "-Cstrip=symbols"]);
    rustc.args(["-Crelocation-model=static", "-Ctarget-feature=+crt-static"]);
    for argument in ["-nostdlib", "-nostartfiles", "-static", "-Wl,--build-id=none,-z,norelro"] {
        rustc.arg(format!("-Clink-arg={argument}"));
    }
    let status = rustc.arg("-o").arg(&output).arg("pause/main.rs").status();
    assert!(status.is_ok_and(|status| status.success()), "rustc could not build pause/main.rs");
}
