//! Durations as Go prints them, since messages have them.

use std::time::Duration;

/// A duration as Go prints it, to the millisecond: `1.234s`, `35ms`, `2m3.5s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let mut seconds = format!("{}.{:03}", rest / 1000, rest % 1000);
    seconds.truncate(seconds.trim_end_matches('0').trim_end_matches('.').len());
    let hours = minutes / 60;
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{}m{seconds}s", minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_writes_them() {
        let write = |millis| go_duration(Duration::from_millis(millis));
        assert_eq!(write(35), "35ms");
        assert_eq!(write(1234), "1.234s");
        assert_eq!(write(2000), "2s");
        assert_eq!(write(160_000), "2m40s");
        assert_eq!(write(300_000), "5m0s");
        assert_eq!(write(123_500), "2m3.5s");
        assert_eq!(write(3_600_000), "1h0m0s");
    }
}
