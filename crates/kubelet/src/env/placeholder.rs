//! Secret values kept away from the container runtime, which writes down what it is given.
//!
//! containerd keeps every container's environment and command line in its database on disk. So the
//! kubelet tells it a placeholder for each text that comes from a Secret, and keeps the text itself in
//! the pod's snapshot, on tmpfs. What the runtime calls to make a container or to run a command in
//! one is then not runc but [`OciRuntime`], which puts the texts back on their way: into the bundle's
//! `config.json`, which is on tmpfs as well, or into a file without a name on the snapshot's.
//!
//! ```text
//! {coffer-secret:<pod uid>/<name>}     <name>: 64 hex digits, `Snapshot::keep_value`
//! ```
//!
//! A name cannot be guessed, and is good in its own pod only: no pod gets another pod's text. One that
//! stands for nothing fails the call.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use coffer_api::Document;
use rustix::fs::OFlags;
use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::Value as Json;
use zeroize::{Zeroize as _, Zeroizing};

use crate::mount::tmpfs;
use crate::pod::{Layout, is_path_component};
use crate::redact;
use crate::snapshot::{Snapshot, is_value_name};

const LOG: &str = "--log";
/// How far back the reason of a failure is looked for in the real runtime's log.
const LOG_LINES_MAX: usize = 16;
/// What is said of a real runtime that a signal has ended.
const EXIT_SIGNALLED: i32 = 1;
const PREFIX: &str = "{coffer-secret:";
const SUFFIX: &str = "}";

/// The placeholder for a kept value.
pub(super) fn text(uid: &str, name: &str) -> String {
    format!("{PREFIX}{uid}/{name}{SUFFIX}")
}

/// The pod's uid and the value's name, if the whole text is a placeholder.
fn parse(text: &str) -> Option<(&str, &str)> {
    let (uid, name) = text.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split_once('/')?;
    (is_path_component(uid) && is_value_name(name)).then_some((uid, name))
}

/// Why a call was not passed on. No message quotes a value.
#[derive(Debug, thiserror::Error)]
pub enum OciRuntimeError {
    /// The call says what no OCI runtime understands.
    #[error("{0} has no value")]
    NoValue(&'static str),
    /// The bundle or the command's description cannot be read or written.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// It is not JSON.
    #[error("{0} is not an OCI configuration")]
    Malformed(PathBuf),
    /// The bundle is on a disk, where values must not come.
    #[error("{0} is not on a tmpfs, and a value from a Secret would be written there")]
    OnDisk(PathBuf),
    /// A placeholder of a pod that is not here, or of nothing.
    #[error("the value of an environment variable or argument is not kept for pod {uid}")]
    NotKept {
        /// The pod.
        uid: String,
    },
    /// A value could not be read.
    #[error("the kept values of pod {uid}: {cause}")]
    Kept {
        /// The pod.
        uid: String,
        /// What the system says.
        cause: io::Error,
    },
    /// A value that JSON, and with it the runtime, cannot carry.
    #[error("the kept values of pod {uid}: not UTF-8")]
    NotText {
        /// The pod.
        uid: String,
    },
    /// The real runtime does not start.
    #[error("cannot run {program}: {cause}")]
    Exec {
        /// The real runtime.
        program: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
}

/// What must stay open until the real runtime has read it, or has written into it.
#[derive(Debug, Default)]
struct Prepared {
    process: Option<File>,
    private_log: Option<File>,
}

/// An OCI runtime that puts values back in place of their placeholders and leaves the rest to another.
#[derive(Clone, Debug)]
pub struct OciRuntime {
    /// Root directories of the kubelets whose pods are run.
    pub root_dirs: Vec<PathBuf>,
    /// The runtime that does the work, such as `/usr/sbin/runc`.
    pub program: PathBuf,
}

impl OciRuntime {
    /// Becomes the real runtime, called with `arguments`. Comes back only with an error.
    ///
    /// A container whose program's very name comes from a Secret is an exception: the real runtime,
    /// whose errors quote that name, then runs as a child, and its output is shown without it.
    pub fn run(&self, mut arguments: Vec<OsString>) -> OciRuntimeError {
        let failed = |cause| OciRuntimeError::Exec { program: self.program.clone(), cause };
        let error = match self.prepare(&mut arguments) {
            Ok(Prepared { private_log: Some(private), .. }) => {
                match self.run_with(&arguments, private) {
                    Ok(code) => std::process::exit(code),
                    Err(cause) => failed(cause),
                }
            }
            Ok(_process) => failed(Command::new(&self.program).args(&arguments).exec()),
            Err(error) => error,
        };
        log(&arguments, &error.to_string());
        error
    }

    /// Runs the real runtime with a log that no one else sees, and puts the words of it that are known
    /// into the one that its caller reads. Its standard error is the container's.
    fn run_with(&self, arguments: &[OsString], mut private: File) -> io::Result<i32> {
        let mut own = arguments.to_vec();
        if let Ok(Some((at, _))) = option(arguments, LOG) {
            let path = format!("/proc/self/fd/{}", private.as_raw_fd());
            replace(&mut own[at], &path);
        }
        fcntl_setfd(&private, FdFlags::empty())?;
        let status = Command::new(&self.program).args(&own).status()?;
        if !status.success() {
            let mut said = Zeroizing::new(String::new());
            private.read_to_string(&mut said)?;
            log(arguments, &known_words(&said));
        }
        Ok(status.code().unwrap_or(EXIT_SIGNALLED))
    }

    /// Puts the values in.
    fn prepare(&self, arguments: &mut [OsString]) -> Result<Prepared, OciRuntimeError> {
        let mut prepared = Prepared::default();
        match subcommand(arguments) {
            Some("create" | "run") => {
                let bundle = option(arguments, "--bundle")?;
                let bundle = bundle.map_or_else(|| PathBuf::from("."), |(_, it)| PathBuf::from(it));
                if let Some(uid) = self.fill_bundle(&bundle.join("config.json"))? {
                    prepared.private_log = Some(self.unnamed_file(&uid)?);
                }
            }
            Some("exec") => {
                let Some((at, path)) = option(arguments, "--process")? else {
                    return Ok(prepared);
                };
                if let Some(file) = self.filled_process(Path::new(&path))? {
                    replace(&mut arguments[at], &format!("/proc/self/fd/{}", file.as_raw_fd()));
                    prepared.process = Some(file);
                }
            }
            _ => {}
        }
        Ok(prepared)
    }

    /// A bundle is its container's own, and on tmpfs: it is filled in place. Returns the pod if the
    /// program's name is one of the values.
    fn fill_bundle(&self, path: &Path) -> Result<Option<String>, OciRuntimeError> {
        let failed = |cause| OciRuntimeError::File { path: path.to_owned(), cause };
        let mut config = read(path)?;
        let owner = owner(config.value());
        let program = config.value().pointer("/process/args/0").and_then(Json::as_str);
        let program_of = program.and_then(parse).map(|(uid, _)| uid.to_owned());
        let filled = config.value_mut().get_mut("process").map(|process| self.fill(process, true));
        let pods = filled.transpose()?.unwrap_or_default();
        if pods.is_empty() {
            return Ok(None);
        }
        if let Some(uid) = pods.into_iter().find(|uid| owner.as_ref().is_some_and(|it| it != uid)) {
            return Err(OciRuntimeError::NotKept { uid });
        }
        require_tmpfs(&File::open(path).map_err(failed)?, path)?;
        let next = path.with_extension("json.filled");
        let _ = fs::remove_file(&next);
        let mut options = fs::OpenOptions::new();
        let made = options.write(true).create_new(true).mode(0o600).open(&next);
        let written = made
            .and_then(|mut made| made.write_all(&config.to_json()))
            .and_then(|()| fs::rename(&next, path));
        written.map(|()| program_of).map_err(|cause| {
            // Half of it is there no longer than this process.
            let _ = fs::remove_file(&next);
            failed(cause)
        })
    }

    /// A file in the pod's memory that has no name, and goes with the last process that has it open.
    fn unnamed_file(&self, uid: &str) -> Result<File, OciRuntimeError> {
        let failed = |cause| OciRuntimeError::Kept { uid: uid.to_owned(), cause };
        let directory = self.snapshot(uid)?.values();
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).mode(0o600).custom_flags(OFlags::TMPFILE.bits() as i32);
        let file = options.open(&directory).map_err(failed)?;
        require_tmpfs(&file, &directory)?;
        Ok(file)
    }

    /// A command's description may lie anywhere, so the filled one is a file without a name next to
    /// the kept values. `None` if there is nothing to fill in.
    fn filled_process(&self, path: &Path) -> Result<Option<File>, OciRuntimeError> {
        let mut process = read(path)?;
        // The arguments are what a client asked for by `exec`: nothing of ours is among them.
        let pods = self.fill(process.value_mut(), false)?;
        let Some(uid) = pods.into_iter().next() else { return Ok(None) };
        let failed = |cause| OciRuntimeError::Kept { uid: uid.clone(), cause };
        let mut file = self.unnamed_file(&uid)?;
        file.write_all(&process.to_json()).map_err(failed)?;
        // The runtime inherits it, to read, and closes it before it becomes the container's command.
        let file = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(failed)?;
        fcntl_setfd(&file, FdFlags::empty()).map_err(|errno| failed(errno.into()))?;
        Ok(Some(file))
    }

    /// Fills in a process; returns the pods whose values came in.
    fn fill(&self, process: &mut Json, arguments: bool) -> Result<Vec<String>, OciRuntimeError> {
        let mut pods = Vec::new();
        for variable in items(process, "env") {
            let Some((name, value)) = variable.split_once('=') else { continue };
            if let Some((uid, kept)) = parse(value) {
                let value = self.kept(uid, kept)?;
                pods.push(uid.to_owned());
                // Of the right size from the start: a buffer that grows leaves copies behind.
                let mut filled = String::with_capacity(name.len() + 1 + value.len());
                filled.extend([name, "=", &value]);
                *variable = filled;
            }
        }
        for word in items(process, "args").filter(|_| arguments) {
            if let Some((uid, kept)) = parse(word) {
                let value = self.kept(uid, kept)?;
                pods.push(uid.to_owned());
                *word = (*value).clone();
            }
        }
        Ok(pods)
    }

    fn kept(&self, uid: &str, name: &str) -> Result<Zeroizing<String>, OciRuntimeError> {
        let kept = self.snapshot(uid)?.kept_value(name);
        let mut bytes = kept.map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => OciRuntimeError::NotKept { uid: uid.to_owned() },
            _ => OciRuntimeError::Kept { uid: uid.to_owned(), cause },
        })?;
        String::from_utf8(std::mem::take(&mut *bytes)).map(Zeroizing::new).map_err(|error| {
            error.into_bytes().zeroize();
            OciRuntimeError::NotText { uid: uid.to_owned() }
        })
    }

    fn snapshot(&self, uid: &str) -> Result<Snapshot, OciRuntimeError> {
        let of = |root: &PathBuf| Snapshot::of(&Layout::new(root), uid);
        let found = self.root_dirs.iter().map(of).find(|snapshot| snapshot.values().exists());
        found.ok_or_else(|| OciRuntimeError::NotKept { uid: uid.to_owned() })
    }
}

/// The pod that a container belongs to, as containerd and CRI-O write it: values of others are not
/// for it.
fn owner(config: &Json) -> Option<String> {
    let annotations = config.get("annotations")?;
    let of = |key: &str| annotations.get(key)?.as_str().map(str::to_owned);
    of("io.kubernetes.cri.sandbox-uid").or_else(|| of("io.kubernetes.pod.uid"))
}

fn require_tmpfs(file: &File, path: &Path) -> Result<(), OciRuntimeError> {
    match tmpfs::holds(file) {
        Ok(true) => Ok(()),
        Ok(false) => Err(OciRuntimeError::OnDisk(path.to_owned())),
        Err(errno) => Err(OciRuntimeError::File { path: path.to_owned(), cause: errno.into() }),
    }
}

fn read(path: &Path) -> Result<Document, OciRuntimeError> {
    let failed = |cause| OciRuntimeError::File { path: path.to_owned(), cause };
    let bytes = Zeroizing::new(fs::read(path).map_err(failed)?);
    // serde's error quotes what it could not read.
    let config = serde_json::from_slice(&bytes).map(Document::new);
    config.map_err(|_| OciRuntimeError::Malformed(path.to_owned()))
}

fn items<'a>(process: &'a mut Json, key: &str) -> impl Iterator<Item = &'a mut String> {
    let list = process.get_mut(key).and_then(Json::as_array_mut);
    list.into_iter().flatten().filter_map(|item| match item {
        Json::String(text) => Some(text),
        _ => None,
    })
}

/// The first word that is neither an option nor an option's value.
fn subcommand(arguments: &[OsString]) -> Option<&str> {
    const VALUED: &[&str] =
        &["--root", "--log", "--log-format", "--criu", "--rootless", "--cgroup-manager"];
    let mut words = arguments.iter().map(|word| word.to_str().unwrap_or_default());
    while let Some(word) = words.next() {
        if VALUED.contains(&word) {
            words.next();
        } else if !word.starts_with('-') {
            return Some(word);
        }
    }
    None
}

/// Says what went wrong where runc would say it, and where its callers look: in the file of `--log`,
/// in JSON. If that fails, too, there is no other way to report it.
fn log(arguments: &[OsString], error: &str) {
    let Ok(Some((_, path))) = option(arguments, LOG) else { return };
    let time = k8s_openapi::jiff::Timestamp::now().to_string();
    let line = serde_json::json!({ "level": "error", "msg": error, "time": time });
    let file = fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    let _ = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
}

/// What the real runtime's log says last, in words that no value has brought in.
fn known_words(log: &str) -> String {
    let lines = log.lines().rev().map(|line| Zeroizing::new(line.to_owned()));
    let said = lines.take(LOG_LINES_MAX).find_map(|line| {
        let message = serde_json::from_str::<Json>(&line).ok()?;
        message.get("msg")?.as_str().map(str::to_owned)
    });
    let said = said.unwrap_or_else(|| "the container was not created".to_owned());
    redact::known_words(&said)
}

fn replace(word: &mut OsString, value: &str) {
    *word = match word.to_string_lossy().split_once('=') {
        Some((name, _)) => format!("{name}={value}").into(),
        None => value.into(),
    };
}

/// Where an option's value stands, and the value: `--name VALUE` or `--name=VALUE`. Runtimes write
/// the long names; a short one may as well be a word of a command.
fn option(
    arguments: &[OsString],
    name: &'static str,
) -> Result<Option<(usize, OsString)>, OciRuntimeError> {
    for (at, word) in arguments.iter().enumerate() {
        if word == OsStr::new(name) {
            let value = arguments.get(at + 1).ok_or(OciRuntimeError::NoValue(name))?;
            return Ok(Some((at + 1, value.clone())));
        }
        let text = word.to_string_lossy();
        if let Some((_, value)) = text.split_once('=').filter(|(found, _)| *found == name) {
            return Ok(Some((at, value.into())));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    /// A kubelet's root directory with one kept value, and its placeholder.
    fn kubelet() -> (tempfile::TempDir, OciRuntime, String) {
        let root = tempfile::tempdir_in("/dev/shm").expect("a directory on tmpfs");
        let layout = Layout::new(root.path());
        fs::create_dir_all(layout.snapshot("u-1")).expect("made");
        let snapshot = Snapshot::of(&layout, "u-1");
        let name = snapshot.keep_value("pass=word\n\"").expect("kept");
        let runtime = OciRuntime { root_dirs: vec![root.path().to_owned()], program: "x".into() };
        (root, runtime, text("u-1", &name))
    }

    #[test]
    fn a_placeholder_is_a_whole_text_and_nothing_like_one() {
        let name = "0123456789abcdef".repeat(4);
        assert_eq!(parse(&text("u-1", &name)), Some(("u-1", name.as_str())));
        for other in [
            text("u-1", "0123"),
            text("..", &name),
            text("u/1", &name),
            format!("x{}", text("u-1", &name)),
            format!("{}x", text("u-1", &name)),
            text("u-1", &"g".repeat(64)),
        ] {
            assert_eq!(parse(&other), None, "{other}");
        }
    }

    #[test]
    fn the_subcommand_is_found_behind_the_options() {
        let line = "--root /r --log=/l --log-format json --systemd-cgroup create --bundle /b exec";
        assert_eq!(subcommand(&words(line)), Some("create"));
        assert_eq!(subcommand(&words("--root exec")), None);
        assert_eq!(subcommand(&words("--version")), None);
    }

    #[test]
    fn a_bundle_gets_its_values_in_place() {
        let (_root, runtime, placeholder) = kubelet();
        let bundle = tempfile::tempdir_in("/dev/shm").expect("a directory on tmpfs");
        let path = bundle.path().join("config.json");
        let mut config = json!({ "process": {
            "env": ["A=1", format!("B={placeholder}")], "args": ["sh", placeholder],
        } });
        config["annotations"] = json!({ "io.kubernetes.cri.sandbox-uid": "u-1" });
        fs::write(&path, config.to_string()).expect("written");
        let mut call = words("--root /r create --bundle");
        call.push(bundle.path().into());
        let prepared = runtime.prepare(&mut call).expect("filled");
        assert!(prepared.process.is_none() && prepared.private_log.is_none());
        let filled: Json = serde_json::from_slice(&fs::read(&path).expect("there")).expect("JSON");
        let value = "pass=word\n\"";
        let env = json!(["A=1", format!("B={value}")]);
        assert_eq!(filled["process"], json!({ "env": env, "args": ["sh", value] }));
    }

    #[test]
    fn a_command_gets_its_values_by_a_file_without_a_name() {
        let (root, runtime, placeholder) = kubelet();
        let path = root.path().join("process.json");
        let before = json!({ "env": [format!("B={placeholder}")], "args": ["echo", placeholder] });
        fs::write(&path, before.to_string()).expect("written");
        let mut call = words("exec --process");
        call.push(path.clone().into());
        let file = runtime.prepare(&mut call).expect("filled").process.expect("a file");
        let shown = call[2].to_str().expect("text");
        assert_eq!(shown, format!("/proc/self/fd/{}", file.as_raw_fd()));
        let filled: Json = serde_json::from_slice(&fs::read(shown).expect("there")).expect("JSON");
        assert_eq!(filled["env"], json!(["B=pass=word\n\""]));
        assert_eq!(
            filled["args"],
            json!(["echo", placeholder]),
            "what exec asks for is not a placeholder"
        );
        assert_eq!(fs::read_to_string(&path).expect("there"), before.to_string());
    }

    #[test]
    fn what_goes_wrong_is_said_in_the_log_that_the_caller_reads() {
        let (root, runtime, placeholder) = kubelet();
        let unknown = placeholder.replace("u-1", "u-2");
        let config = json!({ "process": { "env": [format!("A={unknown}")] } });
        fs::write(root.path().join("config.json"), config.to_string()).expect("written");
        let path = root.path().join("log.json");
        let mut call = words("--log-format json create");
        call.extend(["--log".into(), path.clone().into(), "--bundle".into(), root.path().into()]);
        let error = runtime.run(call).to_string();
        let line: Json = serde_json::from_slice(&fs::read(path).expect("there")).expect("JSON");
        assert_eq!((&line["level"], &line["msg"]), (&json!("error"), &json!(error)));
        assert!(error.contains("is not kept for pod u-2"), "{error}");
    }

    /// runc quotes the program that it does not find, and containerd writes that to its disk.
    #[test]
    fn a_program_whose_name_is_a_value_is_not_quoted_to_the_caller() {
        use std::os::unix::fs::PermissionsExt as _;
        let (root, mut runtime, placeholder) = kubelet();
        let config = json!({ "process": { "args": [placeholder, "x"] } });
        fs::write(root.path().join("config.json"), config.to_string()).expect("written");
        // It says what runc says, where it is configured to.
        runtime.program = root.path().join("runc");
        let script = r#"#!/bin/sh
printf '%s\n' '{"level":"error","msg":"runc create failed: unable to start container process: exec: \"pass=word\\n\\\"\": executable file not found in $PATH"}' > "$2"
exit 3
"#;
        fs::write(&runtime.program, script).expect("written");
        let executable = fs::Permissions::from_mode(0o700);
        fs::set_permissions(&runtime.program, executable).expect("set");
        let path = root.path().join("log.json");
        let mut call = words("--log");
        call.extend([path.clone().into(), "create".into(), "--bundle".into()]);
        call.push(root.path().into());
        let private = runtime.prepare(&mut call).expect("filled").private_log.expect("a log");
        assert_eq!(runtime.run_with(&call, private).expect("ran"), 3);
        let line: Json = serde_json::from_slice(&fs::read(path).expect("there")).expect("JSON");
        let expected = "runc create failed: unable to start container process: exec: \
                        \"<redacted>\": executable file not found in $PATH";
        assert_eq!(line["msg"], expected);
    }

    #[test]
    fn what_is_not_kept_fails_the_call_and_so_does_a_bundle_on_a_disk() {
        let (root, runtime, placeholder) = kubelet();
        let path = root.path().join("config.json");
        let call = |env: String| {
            fs::write(&path, json!({ "process": { "env": [env] } }).to_string()).expect("written");
            let mut call = words("create --bundle");
            call.push(root.path().into());
            runtime.prepare(&mut call)
        };
        for unknown in [placeholder.replace("u-1", "u-2"), text("u-1", &"0".repeat(64))] {
            let refused = call(format!("A={unknown}"));
            assert!(matches!(refused, Err(OciRuntimeError::NotKept { .. })), "{refused:?}");
        }
        assert!(call("A=plain".to_owned()).expect("passed on").process.is_none());
        // What is kept for one pod is not for another.
        let theirs = json!({
            "process": { "args": [placeholder] },
            "annotations": { "io.kubernetes.cri.sandbox-uid": "u-9" },
        });
        fs::write(&path, theirs.to_string()).expect("written");
        let mut foreign = words("create --bundle");
        foreign.push(root.path().into());
        let refused = runtime.prepare(&mut foreign);
        assert!(matches!(refused, Err(OciRuntimeError::NotKept { .. })), "{refused:?}");
        assert_eq!(fs::read_to_string(&path).expect("there"), theirs.to_string());
        // The build's directory is on a disk, whatever /tmp is.
        let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
        let config = json!({ "process": { "env": [format!("A={placeholder}")] } });
        fs::write(disk.path().join("config.json"), config.to_string()).expect("written");
        let mut call = words("create --bundle");
        call.push(disk.path().into());
        let refused = runtime.prepare(&mut call);
        assert!(matches!(refused, Err(OciRuntimeError::OnDisk(_))), "{refused:?}");
        let untouched = fs::read_to_string(disk.path().join("config.json")).expect("there");
        assert_eq!(untouched, config.to_string());
    }
}
