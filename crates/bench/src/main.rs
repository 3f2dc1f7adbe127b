//! Placeholder of the measuring tool.

fn main() {}
