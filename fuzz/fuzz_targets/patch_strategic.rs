//! Patches of the form that `PatchKind::Strategic` names.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    coffer_fuzz::patch(coffer_api::patch::PatchKind::Strategic, data);
});
