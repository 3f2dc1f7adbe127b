//! Waiting for what nothing announces: looked at again and again until it is so, with one deadline and one
//! period for all tests.
//!
//! The deadline is for a test that fails. It says nothing about how long something may take.

use std::fmt::{Debug, Display};
use std::time::Duration;

use tokio::time::Instant;

/// How long a test waits before it fails.
pub const DEADLINE: Duration = Duration::from_secs(300);
/// How long it waits before it looks again.
const POLL: Duration = Duration::from_millis(50);

/// What a look returns: what was waited for, or why it is not there yet.
pub trait Look {
    /// What was waited for.
    type Found;
    /// What was waited for, or what there is instead.
    ///
    /// # Errors
    /// What there is instead, as the failed test shows it.
    fn found(self) -> Result<Self::Found, String>;
}

impl Look for bool {
    type Found = ();

    fn found(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("not so".to_owned()) }
    }
}

impl<T> Look for Option<T> {
    type Found = T;

    fn found(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing found".to_owned())
    }
}

impl<T, E: Debug> Look for Result<T, E> {
    type Found = T;

    fn found(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:#?}"))
    }
}

/// Looks until it finds, and returns what that is.
///
/// # Panics
/// After [`DEADLINE`], with `what` and the result of the last look.
pub async fn eventually<L: Look>(what: impl Display, mut look: impl AsyncFnMut() -> L) -> L::Found {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look().await.found() {
            Ok(found) => return found,
            Err(instead) => assert!(Instant::now() < deadline, "waited for {what}: {instead}"),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Looks until what it sees is right, and returns that.
///
/// # Panics
/// As [`eventually`].
pub async fn eventually_is<T: Debug>(
    what: impl Display,
    mut look: impl AsyncFnMut() -> T,
    is_right: impl Fn(&T) -> bool,
) -> T {
    eventually(what, async || {
        let seen = look().await;
        if is_right(&seen) { Ok(seen) } else { Err(seen) }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_look_that_fails_is_repeated_until_it_finds() {
        let mut left = 3;
        let look = async || {
            left -= 1;
            (left == 0).then_some("it")
        };
        assert_eq!(eventually("it", look).await, "it");
        let mut count = 0;
        let look = async || {
            count += 1;
            count
        };
        assert_eq!(eventually_is("a count", look, |count| *count == 5).await, 5);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "waited for the pod: \"Pending\"")]
    async fn what_never_comes_fails_with_what_was_seen_last() {
        eventually("the pod", async || Err::<(), _>("Pending")).await;
    }
}
