//! The memory that a pod's body takes, in JSON, YAML and protobuf, on its way to the store.
//!
//! The first byte chooses the form. Every allocation of the process is counted; what a body takes at
//! most may be so many times its bytes and not more, whatever becomes of it.
#![no_main]

use coffer_fuzz::pods::{Media, create};
use peak_alloc::PeakAlloc;

/// Bytes at the same time for each byte of the body, at most: as in `crates/api/tests/memory`.
const PEAK_PER_BYTE_MAX: usize = 192;
/// And what any body may take.
const PEAK_BASE_BYTES: usize = 8 << 20;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

libfuzzer_sys::fuzz_target!(init: {
    // What is created once, at the first use, does not count for any body: mainly the schemas.
    create(Media::Json, br#"{"spec":{"containers":[{"name":"c","image":"i"}]}}"#);
}, |data: &[u8]| {
    let Some((first, body)) = data.split_first() else { return };
    let media = [Media::Json, Media::Yaml, Media::Protobuf][usize::from(*first) % 3];
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    create(media, body);
    let peak = MEMORY.peak_usage().saturating_sub(before);
    let bound = PEAK_PER_BYTE_MAX * body.len() + PEAK_BASE_BYTES;
    assert!(peak <= bound, "{media:?}: {peak} bytes for a body of {}", body.len());
});
