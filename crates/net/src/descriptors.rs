//! How many files this process may have open, and how many of them connections may be.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Of the descriptors, the part that is left to files, outgoing connections and the like, …
const RESERVE_PART: usize = 4;
/// … and no less than this.
const RESERVE_MIN: usize = 128;
/// A limit so low that this is not left is shared in halves.
const HALF: usize = 2;

/// What a process was started with and has changed for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// How many it may open now; `None` without a limit.
    pub limit: Option<u64>,
    /// How many it was started with, for programs that it starts: some look through all the
    /// descriptors that they might have, and some wait for those up to 1024 only.
    pub inherited: Option<u64>,
}

/// Raises the soft limit to the hard one, as Go programs do. Programs that are started afterwards
/// inherit it: give them [`OpenFiles::inherited`] back.
pub fn raise() -> OpenFiles {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => OpenFiles { limit: maximum, inherited: current },
        Err(error) => {
            tracing::debug!(%error, "cannot raise the limit of open files");
            OpenFiles { limit: current, inherited: current }
        }
    }
}

/// How many connections a process with this limit of open files may hold, at most `wanted`.
pub fn connections(limit: Option<u64>, wanted: usize) -> usize {
    let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { return wanted };
    let reserve = (limit / RESERVE_PART).max(RESERVE_MIN).min(limit / HALF);
    (limit - reserve).clamp(1, wanted)
}

/// The same for this process as it is now.
pub fn connections_now(wanted: usize) -> usize {
    connections(getrlimit(Resource::Nofile).current, wanted)
}

/// How many connections that a process opens for its clients it may hold in addition to theirs, at most `wanted`:
/// half of what [`connections`] leaves.
pub fn outgoing(limit: Option<u64>, wanted: usize) -> usize {
    let Some(all) = limit.and_then(|limit| usize::try_from(limit).ok()) else { return wanted };
    (all.saturating_sub(connections(limit, usize::MAX)) / HALF).clamp(1, wanted)
}

/// The same for this process as it is now.
pub fn outgoing_now(wanted: usize) -> usize {
    outgoing(getrlimit(Resource::Nofile).current, wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_to_everything_else() {
        let found =
            [0, 8, 256, 1024, 20_000, 1 << 20].map(|limit| connections(Some(limit), 16_384));
        assert_eq!(found, [1, 4, 128, 768, 15_000, 16_384]);
        assert_eq!(connections(None, 16_384), 16_384);
    }

    #[test]
    fn outgoing_connections_leave_descriptors_to_files() {
        let found = [0, 8, 256, 1024, 20_000, 1 << 20].map(|limit| outgoing(Some(limit), 2048));
        assert_eq!(found, [1, 2, 64, 128, 2048, 2048]);
        assert_eq!(outgoing(None, 2048), 2048);
    }
}
