//! The pods' network: our own bridge with a private /24, with the standard CNI plugins `bridge`, `host-local`
//! and `portmap`.
//!
//! The bridge's name and the preferred subnet are derived from the data directory, so that several Coffers on
//! a machine do not conflict. The chosen subnet is read back from the configuration file.

use std::mem::size_of;
use std::net::Ipv4Addr;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType};
use serde_json::{Value, json};

use crate::error::Error;
use crate::files::write_if_changed;
use crate::layout::Layout;

/// Pods live in 10.128.0.0/9, in one of its /24s.
const BASE: u32 = u32::from_be_bytes([10, 128, 0, 0]);
const BASE_MASK: u32 = 0xff80_0000;
const SUBNETS: u32 = 1 << 15;
const SUBNET_MASK: u32 = 0xffff_ff00;

/// The bridge of a data directory: 15 characters, as many as an interface's name may have.
pub(crate) fn bridge(layout: &Layout) -> String {
    format!("cof{}", layout.tag())
}

/// The network of pods that do not use the host's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodNetwork {
    /// This machine's address in that network: the address of the bridge, once it exists.
    pub gateway: Ipv4Addr,
    /// The prefix length of the network.
    pub prefix_bits: u8,
}

/// The network of a data directory's pods, chosen now unless it was before. Nothing is started.
///
/// # Errors
/// When there is no free network, or a file cannot be written.
pub fn pod_network(data_dir: &Path) -> Result<PodNetwork, Error> {
    let subnet = configure(&Layout::create(data_dir)?)?;
    // `host-local` gives a bridge that is a gateway the first address.
    Ok(PodNetwork { gateway: Ipv4Addr::from(u32::from(subnet) | 1), prefix_bits: 24 })
}

/// Writes the network's configuration unless it exists; returns its /24.
pub(crate) fn configure(layout: &Layout) -> Result<Ipv4Addr, Error> {
    let path = layout.cni().join("10-coffer.conflist");
    let known = std::fs::read(&path).ok().and_then(|bytes| subnet_of(&bytes));
    let subnet = match known {
        Some(subnet) => subnet,
        None => {
            let table = std::fs::read_to_string("/proc/net/route")
                .map_err(Error::file("read", "/proc/net/route"))?;
            let preferred = u32::from_str_radix(&layout.tag()[..8], 16).unwrap_or(0);
            // If the data directory was removed and created again, its bridge still exists and keeps its
            // address.
            let kept = subnet_on(&table, &bridge(layout));
            let subnet = kept.or_else(|| free_subnet(&routes(&table), preferred));
            subnet.ok_or(Error::NoSubnet)?
        }
    };
    write_if_changed(&path, conflist(layout, subnet).to_string().as_bytes())?;
    Ok(subnet)
}

fn conflist(layout: &Layout, subnet: Ipv4Addr) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "coffer",
        "plugins": [
            {
                "type": "bridge",
                "bridge": bridge(layout),
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": format!("{subnet}/24") }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                    "dataDir": layout.leases(),
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true },
        ],
    })
}

fn subnet_of(conflist: &[u8]) -> Option<Ipv4Addr> {
    let conflist: Value = serde_json::from_slice(conflist).ok()?;
    let text = conflist.pointer("/plugins/0/ipam/ranges/0/0/subnet")?.as_str()?;
    text.strip_suffix("/24")?.parse().ok()
}

/// (network, mask) of every route in the kernel's table but the default ones.
fn routes(table: &str) -> Vec<(u32, u32)> {
    table.lines().skip(1).filter_map(|line| Some(route(line)?.1)).collect()
}

/// The /24 of ours that a bridge already has.
fn subnet_on(table: &str, bridge: &str) -> Option<Ipv4Addr> {
    let mut on_it = table.lines().skip(1).filter_map(route).filter(|(link, _)| *link == bridge);
    let ours = |network: u32| network & BASE_MASK == BASE;
    let (_, (network, _)) =
        on_it.find(|(_, (network, mask))| *mask == SUBNET_MASK && ours(*network))?;
    Some(Ipv4Addr::from(network))
}

/// The interface, the network and the mask of a route, unless it is a default one.
fn route(line: &str) -> Option<(&str, (u32, u32))> {
    let fields: Vec<_> = line.split_whitespace().collect();
    // The kernel prints the address as the machine word that holds its network bytes.
    let word = |at: usize| {
        let word = u32::from_str_radix(fields.get(at)?, 16).ok()?;
        Some(u32::from_be_bytes(word.to_ne_bytes()))
    };
    let (network, mask) = (word(1)?, word(7)?);
    (mask != 0).then_some((fields[0], (network, mask)))
}

/// The first /24 at or after the preferred one that overlaps no route.
fn free_subnet(routes: &[(u32, u32)], preferred: u32) -> Option<Ipv4Addr> {
    let overlaps = |subnet: u32| {
        routes.iter().any(|(network, mask)| (subnet ^ network) & mask & SUBNET_MASK == 0)
    };
    (0..SUBNETS)
        .map(|step| BASE | ((preferred.wrapping_add(step) % SUBNETS) << 8))
        .find(|subnet| !overlaps(*subnet))
        .map(Ipv4Addr::from)
}

/// Removes the bridge. It is not an error if it does not exist.
///
/// The kernel is asked directly, with one RTM_DELLINK message, because neither `ip` nor `brctl` is
/// on every machine:
///
/// ```text
/// 0   nlmsghdr   u32 length, u16 type, u16 flags, u32 sequence, u32 port
/// 16  ifinfomsg  u8 family, u8 pad, u16 type, i32 index, u32 flags, u32 change: all zero
/// 32  rtattr     u16 length, u16 IFLA_IFNAME, then the name and a NUL, padded to 4 bytes
/// ```
pub(crate) fn remove_bridge(layout: &Layout) -> Result<(), Error> {
    let name = bridge(layout);
    match delete_link(&name) {
        Ok(()) | Err(Errno::NODEV) => Ok(()),
        Err(errno) => {
            let path = Path::new("/sys/class/net").join(name);
            Err(Error::file("remove network bridge", path)(errno.into()))
        }
    }
}

fn delete_link(name: &str) -> Result<(), Errno> {
    const RTM_DELLINK: u16 = 17;
    const NLM_F_REQUEST_ACK: u16 = 5;
    const IFLA_IFNAME: u16 = 3;
    const HEADERS_BYTES: usize = 32;

    let attribute_bytes = 4 + name.len() + 1;
    let total_bytes = HEADERS_BYTES + attribute_bytes.next_multiple_of(4);
    let mut message = Vec::with_capacity(total_bytes);
    message.extend(u32::try_from(total_bytes).map_err(|_| Errno::INVAL)?.to_ne_bytes());
    message.extend(RTM_DELLINK.to_ne_bytes());
    message.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    message.resize(HEADERS_BYTES, 0);
    message.extend(u16::try_from(attribute_bytes).map_err(|_| Errno::INVAL)?.to_ne_bytes());
    message.extend(IFLA_IFNAME.to_ne_bytes());
    message.extend(name.as_bytes());
    message.resize(total_bytes, 0);

    // The default protocol, 0, is NETLINK_ROUTE.
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    rustix::net::sendto(&socket, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut reply = [0_u8; 256];
    let (received, _) = rustix::net::recv(&socket, &mut reply[..], RecvFlags::empty())?;
    // An acknowledgement is a header and a negative errno, or zero.
    let error = reply[..received].get(16..16 + size_of::<i32>()).ok_or(Errno::PROTO)?;
    match i32::from_ne_bytes(error.try_into().map_err(|_| Errno::PROTO)?) {
        0 => Ok(()),
        negative => Err(Errno::from_raw_os_error(negative.saturating_neg())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
wg0\t0000800A\t00000000\t0001\t0\t0\t0\t0000F0FF\t0\t0\t0
";

    #[test]
    fn the_default_route_takes_no_subnet_away() {
        let routes = routes(TABLE);
        let networks: Vec<_> = routes
            .iter()
            .map(|(net, mask)| (Ipv4Addr::from(*net), Ipv4Addr::from(*mask)))
            .collect();
        assert_eq!(
            networks,
            [
                (Ipv4Addr::new(192, 0, 2, 0), Ipv4Addr::new(255, 255, 255, 0)),
                (Ipv4Addr::new(10, 128, 0, 0), Ipv4Addr::new(255, 240, 0, 0)),
            ]
        );
    }

    #[test]
    fn a_bridge_that_is_there_already_keeps_its_subnet() {
        let table = format!(
            "{TABLE}cof1\t007DAE0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
             br0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
        );
        assert_eq!(subnet_on(&table, "cof1"), Some(Ipv4Addr::new(10, 174, 125, 0)));
        assert_eq!(subnet_on(&table, "cof2"), None);
        assert_eq!(subnet_on(&table, "wg0"), None, "no /24");
        assert_eq!(subnet_on(&table, "br0"), None, "none of ours");
    }

    /// A VPN that routes 10.128.0.0/12 must keep reaching its hosts.
    #[test]
    fn a_subnet_inside_a_route_of_the_machine_is_passed_over() {
        let routes = routes(TABLE);
        assert_eq!(free_subnet(&routes, 0), Some(Ipv4Addr::new(10, 144, 0, 0)));
        assert_eq!(free_subnet(&routes, SUBNETS - 1), Some(Ipv4Addr::new(10, 255, 255, 0)));
        assert_eq!(free_subnet(&[(10 << 24, 0xff00_0000)], 7), None);
    }

    #[test]
    fn removing_a_bridge_that_is_not_there_is_no_error() {
        assert_eq!(delete_link("cofnonexistent"), Err(Errno::NODEV));
    }

    #[test]
    fn the_subnet_is_read_back_from_the_file_that_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let subnet = Ipv4Addr::new(10, 200, 7, 0);
        assert_eq!(subnet_of(conflist(&layout, subnet).to_string().as_bytes()), Some(subnet));
        assert_eq!(bridge(&layout).len(), 15);
        let network = pod_network(directory.path()).unwrap();
        assert_eq!(pod_network(directory.path()).unwrap(), network, "a choice once made stays");
        assert_eq!(network.gateway.octets()[3], 1);
        let _ = std::fs::remove_dir_all(layout.runtime());
    }
}
