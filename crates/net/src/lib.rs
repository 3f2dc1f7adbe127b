//! Connections of a server: which are let in, how long they may be silent, and how they end.
//!
//! ```text
//! accept ─▶ Gate::admit ─▶ Connection::serve: TLS ─▶ HTTP/1.1, HTTP/2 ─▶ the server's own service
//!             table (who has a place)   │ deadline to the first request, idle limit
//!                                       ├ Incoming (a body that is refused is read to its end)
//!                                       └ Sending (an answer of which nothing is taken is dropped)
//! ```
//!
//! A client proves itself by a request that is authenticated. Until then it has one of few places, and
//! loses it to one that comes later when they run out: silence locks nobody out. What is served, and who
//! is authenticated how, is the server's.

mod activity;
pub mod descriptors;
mod gate;
mod holding;
mod incoming;
mod lingering;
mod listening;
mod outgoing;
mod peer;
mod sending;
mod serve;
mod table;
mod tally;

pub use activity::Connected;
pub use gate::{Connection, Gate};
pub use holding::Holding;
pub use incoming::Incoming;
pub use listening::{BACKLOG, listen};
pub use sending::MayPause;
pub use serve::{Fault, Protocols, Settings};
pub use table::Bounds;
