//! The current time, as object metadata has it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Now, in whole seconds.
pub(crate) fn now() -> Time {
    let seconds = jiff::Timestamp::now().as_second();
    Time(jiff::Timestamp::from_second(seconds).expect("the present is in range"))
}
