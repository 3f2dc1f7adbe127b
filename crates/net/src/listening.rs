//! Listening sockets.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// The length of the accept queue, subject to the kernel's own limit (`somaxconn`). The kernel drops further
/// connections, and their clients retry after a second at the earliest.
pub const BACKLOG: u32 = 4096;

/// Listens at an address.
///
/// # Errors
/// The system's error.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
