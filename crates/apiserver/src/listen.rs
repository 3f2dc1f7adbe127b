//! Where the server listens: at its address and, if configured, at a further one for the clients
//! of one network.
//!
//! The further address is for pods. It belongs to a bridge that need not exist yet, so the socket is
//! bound before the address exists. The kernel would take connections to it from any network; those
//! that do not come from the address's own are closed before anything is read, so that a server on loopback is still
//! reached from its own machine only.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// A network whose clients reach this machine at an address of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientNetwork {
    /// This machine's address on it.
    pub address: Ipv4Addr,
    /// How many bits of an address are the network's.
    pub prefix_bits: u8,
}

impl ClientNetwork {
    fn holds(&self, peer: IpAddr) -> bool {
        let IpAddr::V4(peer) = peer else { return false };
        let host_bits = 32_u32.saturating_sub(self.prefix_bits.into());
        (u32::from(peer) ^ u32::from(self.address)).checked_shr(host_bits).unwrap_or(0) == 0
    }
}

/// The sockets of a server.
pub(crate) struct Listeners {
    main: TcpListener,
    network: Option<(TcpListener, ClientNetwork)>,
}

impl Listeners {
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { main: coffer_net::listen(address)?, network: None })
    }

    /// Listens for a network's clients, too, at the same port.
    pub(crate) fn add(&mut self, network: ClientNetwork) -> io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        rustix::net::sockopt::set_ip_freebind(&socket, true)?;
        socket.bind((network.address, self.local_addr()?.port()).into())?;
        self.network = Some((socket.listen(coffer_net::BACKLOG)?, network));
        Ok(())
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.main.local_addr()
    }

    /// The next connection, and whose it is.
    pub(crate) async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let Some((listener, network)) = &self.network else {
            return self.main.accept().await;
        };
        loop {
            let (stream, peer) = tokio::select! {
                accepted = self.main.accept() => return accepted,
                accepted = listener.accept() => accepted?,
            };
            if network.holds(peer.ip()) {
                return Ok((stream, peer));
            }
            tracing::debug!(%peer, "a connection from outside of the pods' network is closed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_own_addresses_only() {
        let network = |prefix_bits| ClientNetwork { address: [10, 128, 3, 1].into(), prefix_bits };
        for (peer, prefix_bits, held) in [
            ("10.128.3.7", 24, true),
            ("10.128.4.7", 24, false),
            ("10.128.4.7", 16, true),
            ("127.0.0.1", 24, false),
            ("192.0.2.1", 0, true),
            ("::ffff:10.128.3.7", 24, false),
        ] {
            let found = network(prefix_bits).holds(peer.parse().unwrap());
            assert_eq!(found, held, "{peer}/{prefix_bits}");
        }
    }

    /// 198.51.100.0/24 is for documentation: no machine has an address of it.
    #[tokio::test]
    async fn an_address_that_does_not_exist_yet_can_be_bound() {
        let mut listeners = Listeners::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let network = ClientNetwork { address: [198, 51, 100, 1].into(), prefix_bits: 24 };
        listeners.add(network).unwrap();
        let (further, _) = listeners.network.as_ref().unwrap();
        let port = listeners.local_addr().unwrap().port();
        assert_eq!(further.local_addr().unwrap(), SocketAddr::from(([198, 51, 100, 1], port)));
    }

    #[tokio::test]
    async fn a_connection_from_another_network_is_closed() {
        let mut listeners = Listeners::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let network = ClientNetwork { address: [127, 1, 2, 3].into(), prefix_bits: 24 };
        listeners.add(network).unwrap();
        let port = listeners.local_addr().unwrap().port();
        let connect = async |from: [u8; 4]| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((from, 0).into()).unwrap();
            socket.connect(([127, 1, 2, 3], port).into()).await.unwrap()
        };
        let _stranger = connect([127, 9, 9, 9]).await;
        let own = connect([127, 1, 2, 4]).await;
        let accepted = listeners.accept().await.unwrap();
        assert_eq!(accepted.1, own.local_addr().unwrap());
    }
}
