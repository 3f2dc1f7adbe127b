//! What a runtime says when it cannot create or start a container that has values of Secrets.
//!
//! Its errors quote what they are about: the program, a variable. Every form of quoting that it may
//! use is not known, so here the words are known instead: those of runc, containerd, CRI-O and the
//! kernel's errors, and what the container's own specification says in the open. All others go. Pure.

use std::collections::HashSet;

use super::{FOREIGN_BYTES_MAX, Foreign, MESSAGE_BYTES_MAX, REDACTED};

/// Words of errors that tell what went wrong. Lower case.
const KNOWN: &str = "\
    a able access address again allocate already an any apply argument arguments as at attach available \
    bad because become been being bind block broken busy by can cannot cancelled canceled capabilities \
    capability cgroup cgroups change changed character chdir child client close closed cmd code command \
    config configuration connect connection container containerd context copy could cpu create created \
    creating crun cwd deadline decode denied dependency desc description descriptor device devices did \
    directory disk does doesn't due empty entry env environment eof error errors exceeded exec executable \
    execute exist exists exit exited expected fail failed failure fatal feature fifo file files \
    filesystem find for format found from function generate get gid got group groups handle has have \
    host hostname hook hooks id identifier if illegal image implemented in inappropriate init \
    initialization initialize input instance interrupted into invalid io ioctl is it joining kernel key \
    kill killed label large layer level library limit link list load loading long lookup make many \
    masked memory message missing mkdir mode mount mounting mounts name named namespace namespaces needed \
    network no not null number object oci of on only oom open opening operation option or out output \
    overlay owner parent passing path paths permission permitted pid pids pipe plugin point port possible \
    prepare prestart privileges procready process profile program propagation proto protocol quota read \
    reading read-only readonly ready received references refused registered relabel remount remove \
    rename request requested required reserve reset resolve resource resources restrict \
    rlimit rlimits root rootfs rpc run runc runtime running runtimes sandbox search seccomp selinux \
    send service session set setenv setgid setgroups setns setting setuid shim shm signal size small snapshot snapshotter socket \
    space spec specified start started starting stat state stderr stdin stdout still stop stopped such \
    supported symbolic symlink syscall sysctl system systemd table task temporarily terminated text that \
    the this time timed timeout to too try type uid umask umount unable unavailable unexpected \
    unimplemented unit unknown unmount unsupported update use used user using value variable version \
    wait waiting was while with without working write writing wrong yet \
    $path \
    and are be but done during each more must next no nor other retries should status than then \
    there these those when where which will would yet \
    authorize authorization authentication basic bearer blob certificate content denied digest dial \
    download eof fetch gateway get head http https i/o internal layer lookup manifest manifests many \
    matching media oauth parse post pull pulling push pullimage reference refused registry repository \
    requests resolve response retry scope server signed tcp tls token unauthorized unpack unsupported \
    verify x509 forbidden bad 400 401 403 404 429 500 502 503 504";

/// The words that may be shown of one container's errors. What is quoted is never one that is known for
/// the errors' sake: there it would be a value.
pub(crate) struct RuntimeWords<'a> {
    known: HashSet<&'a str>,
    open: HashSet<&'a str>,
}

impl<'a> RuntimeWords<'a> {
    /// `open` is what the specification says in the open: paths, words of the command line.
    pub(crate) fn new(open: impl IntoIterator<Item = &'a str>) -> Self {
        let known = KNOWN.split_whitespace().collect();
        Self { known, open: open.into_iter().filter(|word| !word.is_empty()).collect() }
    }

    /// The text with each word that is not known replaced.
    pub(crate) fn only(&self, text: &Foreign) -> Foreign {
        let text = String::from_utf8_lossy(&text.bytes[..text.bytes.len().min(FOREIGN_BYTES_MAX)]);
        let mut out = String::new();
        let mut rest: &str = &text;
        while !rest.is_empty() && out.len() < MESSAGE_BYTES_MAX {
            let length = match rest.as_bytes()[0] {
                b'"' => quoted_len(rest),
                byte if is_separator(char::from(byte)) => {
                    out.push(char::from(byte));
                    rest = &rest[1..];
                    continue;
                }
                _ => rest.find(is_separator).unwrap_or(rest.len()),
            };
            let (word, after) = rest.split_at(length);
            self.push(&mut out, word);
            rest = after;
        }
        out.into()
    }

    fn push(&self, out: &mut String, word: &str) {
        if let Some(inner) = word.strip_prefix('"') {
            let inner = inner.strip_suffix('"').unwrap_or(inner);
            let shown = if self.open.contains(inner) { inner } else { REDACTED };
            out.extend(["\"", shown, "\""]);
        } else if self.is_known(word) {
            out.push_str(word);
        } else if !out.trim_end_matches([' ', ',', '=']).ends_with(REDACTED) {
            out.push_str(REDACTED);
        }
    }

    fn is_known(&self, word: &str) -> bool {
        self.open.contains(word) || self.known.contains(word.to_ascii_lowercase().as_str())
    }
}

fn is_separator(c: char) -> bool {
    matches!(c, ' ' | ':' | ',' | ';' | '(' | ')' | '\n' | '\t' | '=' | '"')
}

/// The length of a quoted text, as Go quotes: up to the next quotation mark without a backslash.
fn quoted_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    // A backslash before a character of several bytes steps into it; the end is one for certain.
    text.len()
}
