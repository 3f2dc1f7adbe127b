//! The image whose one process holds a pod's namespaces open: see `pause/main.rs`.

use crate::image::{Image, Layer, Run};

/// The image reference of sandboxes. Its host does not exist, so that a lost image is an error and never a
/// download; the tag changes with the program.
pub(crate) const REFERENCE: &str = "coffer.invalid/pause:1";

const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

pub(crate) fn image() -> Image {
    let layer = Layer::new().file("pause", PROGRAM, 0o755);
    Image::new(vec![layer], &Run { entrypoint: vec!["/pause".to_owned()], ..Run::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    #[test]
    fn the_program_is_a_small_static_elf() {
        assert!(PROGRAM.starts_with(b"\x7fELF"));
        assert!(PROGRAM.len() < 64 << 10, "{} bytes", PROGRAM.len());
        assert!(!PROGRAM.windows(3).any(|window| window == b"ld-"), "asks for a dynamic linker");
    }

    /// A sandbox that ignored SIGTERM would make every pod with a host PID namespace linger.
    #[test]
    fn the_program_waits_and_exits_with_success_at_sigterm() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pause");
        std::fs::write(&path, PROGRAM).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = Command::new(&path).stdin(Stdio::null()).spawn().unwrap();
        // It sleeps nowhere but where it waits for signals.
        let stat = format!("/proc/{}/stat", child.id());
        let waits = || std::fs::read_to_string(&stat).unwrap().contains("(pause) S ");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !waits() {
            assert!(std::time::Instant::now() < deadline, "it does not wait");
            std::thread::yield_now();
        }
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(0), None));
    }
}
