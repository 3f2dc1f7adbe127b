//! What is measured, and how it is shown: latencies, processor time and memory, as table and as JSON.

pub(crate) mod budget;
pub(crate) mod meter;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod stats;
pub(crate) mod table;
