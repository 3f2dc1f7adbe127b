//! The server under test, which other crates' tests use too.

#![allow(unused_imports)]

pub(crate) use coffer_testkit::apiserver::{TestServer, access, config};
