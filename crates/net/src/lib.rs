//! Connections of a server: which are admitted, how long they may be idle, and how they end.
//!
//! ```text
//! accept ─▶ Gate::admit ─▶ Connection::serve: TLS ─▶ HTTP/1.1, HTTP/2 ─▶ the server's own service
//!             table (who has a place)   │ deadline to the first request, idle limit
//!                                       ├ Incoming (a body that is refused is read to its end)
//!                                       └ Sending (a response that is not read is dropped)
//! ```
//!
//! A client proves itself with an authenticated request. Until then it has one of few places, and loses it to
//! a newer connection when they run out, so that idle connections cannot lock others out. The server decides
//! what is served, and how clients are authenticated.

mod activity;
pub mod descriptors;
mod gate;
mod holding;
mod incoming;
mod lingering;
mod listening;
mod outgoing;
mod peer;
mod request;
mod responses;
mod sending;
mod serve;
mod table;
mod tally;

pub use gate::{Connection, Gate};
pub use holding::Holding;
pub use incoming::Incoming;
pub use listening::{BACKLOG, listen};
pub use request::Connected;
pub use sending::{Fault, MayPause};
pub use serve::{Protocols, Settings};
pub use table::Bounds;
