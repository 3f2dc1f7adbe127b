//! Durations in messages.

use std::time::Duration;

use coffer_api::go::duration::format;

/// A duration as Go prints it, to the millisecond: `1.234s`, `35ms`, `2m3.5s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let whole = Duration::from_secs(duration.as_secs());
    format(whole + Duration::from_millis(duration.subsec_millis().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shorter_than_a_millisecond_is_left_out() {
        assert_eq!(go_duration(Duration::from_micros(1_234_567)), "1.234s");
        assert_eq!(go_duration(Duration::from_micros(999)), "0s");
        assert_eq!(go_duration(Duration::from_secs(160)), "2m40s");
    }
}
