//! `Holder`: who listens on a TCP address that we asked for and did not get.
//!
//! The kernel says "address in use" and no more. Its table of sockets has the owning user and an inode of each, and
//! the process is the one that has a descriptor of that inode. Other users' descriptors are hidden from all but root.

use std::{
    collections::HashMap,
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

/// Who listens on a TCP address.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The user that the listening socket belongs to.
    pub uid: u32,
    /// Its process: the one with the lowest number, if several share the socket. `None` if this process may not see
    /// it, as it is another user's.
    pub process: Option<Process>,
}

/// A process, by number and name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name, cut by the kernel to 15 bytes.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some(Process { pid, name }) => write!(f, "{name} (pid {pid})"),
            None => write!(f, "a process of user {} (`sudo ss -ltnp` names it)", self.uid),
        }
    }
}

impl Holder {
    /// Whether it may be about to let go: a process of ours that is not there to be seen any more, or a child of this
    /// one, which has a copy of everything until it executes its program.
    pub(crate) fn is_passing(&self) -> bool {
        match &self.process {
            Some(process) => parent_of(process.pid) == Some(std::process::id()),
            None => self.uid == rustix::process::geteuid().as_raw(),
        }
    }
}

fn parent_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// A listening socket of the kernel's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listening {
    bound: SocketAddr,
    uid: u32,
    inode: u64,
}

/// Finds who listens on `asked`, or on an address that shuts it out, as a wildcard does.
///
/// Reads all of `/proc`: only for wording an error. `None` if there is no such listener in this network namespace (the
/// port may be held by a socket that is bound but does not listen), or `/proc` cannot be read.
pub(crate) fn holder_of_port(asked: SocketAddr) -> Option<Holder> {
    let mut rivals: Vec<Listening> = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .into_iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|text| listening(&text))
        .filter(|listening| closeness(listening.bound, asked).is_some())
        .collect();
    // The most exact match first.
    rivals.sort_by_key(|listening| closeness(listening.bound, asked));
    let processes = processes_of(&rivals);
    let visible = rivals.iter().find(|rival| processes.contains_key(&rival.inode));
    let rival = visible.or(rivals.first())?;
    Some(Holder { uid: rival.uid, process: processes.get(&rival.inode).cloned() })
}

/// How exactly `bound` is the address that was asked for, the smallest being the closest; `None` if both fit side by
/// side.
fn closeness(bound: SocketAddr, asked: SocketAddr) -> Option<u8> {
    // An IPv4 address that listens through an IPv6 socket is written as ::ffff:a.b.c.d.
    let (bound_ip, asked_ip) = (bound.ip().to_canonical(), asked.ip().to_canonical());
    let same_family = bound_ip.is_ipv4() == asked_ip.is_ipv4();
    // Only the IPv6 wildcard reaches over to the other family, and only if it is not IPV6_V6ONLY, which is not told.
    let reaches_over = |ip: IpAddr| ip.is_ipv6() && ip.is_unspecified();
    if bound.port() != asked.port() {
        None
    } else if bound_ip == asked_ip {
        Some(0)
    } else if same_family && (bound_ip.is_unspecified() || asked_ip.is_unspecified()) {
        Some(1)
    } else if !same_family && (reaches_over(bound_ip) || reaches_over(asked_ip)) {
        Some(2)
    } else {
        None
    }
}

/// The listening sockets of `/proc/net/tcp` or `/proc/net/tcp6`.
fn listening(table: &str) -> Vec<Listening> {
    // The first line is the heading, and is left out because it does not parse.
    table.lines().filter_map(parse_row).collect()
}

/// One row of the table, if it is of a socket that listens.
fn parse_row(row: &str) -> Option<Listening> {
    const LISTEN: &str = "0A";
    // sl, local, remote, state, queues, timer, retransmits, uid, timeout, inode ...
    let fields: Vec<&str> = row.split_whitespace().collect();
    let [_, local, _, LISTEN, _, _, _, uid, _, inode, ..] = fields[..] else { return None };
    let (ip, port) = local.split_once(':')?;
    let bound = SocketAddr::new(parse_ip(ip)?, u16::from_str_radix(port, 16).ok()?);
    Some(Listening { bound, uid: uid.parse().ok()?, inode: inode.parse().ok()? })
}

/// The kernel prints an address as numbers of 32 bits, each read from memory in the machine's own byte order.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let word = |index: usize| {
        let digits = hex.get(index * 8..index * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let mut octets = [0; 16];
            octets.copy_from_slice(words.as_flattened());
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

/// The processes that have a descriptor of one of these sockets, by inode, as far as they can be seen.
fn processes_of(sockets: &[Listening]) -> HashMap<u64, Process> {
    let mut processes = HashMap::new();
    if sockets.is_empty() {
        return processes;
    }
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    for pid in pids {
        let directory = format!("/proc/{pid}");
        // What cannot be listed belongs to another user, or has ended meanwhile.
        let descriptors = fs::read_dir(format!("{directory}/fd")).into_iter().flatten().flatten();
        for inode in descriptors.filter_map(|descriptor| socket_inode(&descriptor.path())) {
            if sockets.iter().any(|socket| socket.inode == inode) {
                processes.entry(inode).or_insert_with(|| Process { pid, name: name_of(&directory) });
            }
        }
    }
    processes
}

/// The inode of a descriptor that is a socket: its link reads `socket:[inode]`.
fn socket_inode(descriptor: &Path) -> Option<u64> {
    let target = fs::read_link(descriptor).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn name_of(directory: &str) -> String {
    let name = fs::read(format!("{directory}/comm")).unwrap_or_default();
    String::from_utf8_lossy(&name).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[track_caller]
    fn assert_held_by_this_process(asked: SocketAddr) {
        let holder = holder_of_port(asked).expect("a holder");
        let process = holder.process.as_ref().expect("its process");
        assert_eq!(process.pid, std::process::id());
        assert!(!process.name.is_empty());
        assert_eq!(holder.to_string(), format!("{} (pid {})", process.name, process.pid));
    }

    #[test]
    fn finds_a_listener_of_this_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let held = listener.local_addr().unwrap();
        assert_held_by_this_process(held);
        assert_held_by_this_process(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), held.port()));
        assert_held_by_this_process(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), held.port()));
    }

    #[test]
    fn finds_a_listener_on_ipv6() {
        // Not every machine has IPv6.
        let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
        assert_held_by_this_process(listener.local_addr().unwrap());
    }

    #[test]
    fn a_connection_is_no_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(holder_of_port(client.local_addr().unwrap()), None);
    }

    #[test]
    fn reads_the_kernel_table() {
        let ipv4 = format!(
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: {:08X}:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 4711 1 0 100\n   \
             1: {:08X}:1F91 00000000:0000 01 00000000:00000000 00:00000000 00000000    33        0 4712 1 0 100\n",
            u32::from_ne_bytes([127, 0, 0, 1]),
            u32::from_ne_bytes([127, 0, 0, 1]),
        );
        let expected = Listening { bound: address("127.0.0.1:8080"), uid: 33, inode: 4711 };
        assert_eq!(listening(&ipv4), [expected]);

        let loopback = format!("{:024X}{:08X}", 0, u32::from_ne_bytes([0, 0, 0, 1]));
        let ipv6 = format!("0: {loopback}:0016 {:032X}:0000 0A 0:0 0:0 0 0 0 12 1 0", 0);
        let expected = Listening { bound: address("[::1]:22"), uid: 0, inode: 12 };
        assert_eq!(listening(&ipv6), [expected]);

        for broken in [
            "",
            "0: 7F:1F90 0 0A 0 0 0 0 0 1",
            "0: 0100007F 0 0A 0 0 0 0 0 1",
            "0: é100007F:1 0 0A 0 0 0 0 0 1",
        ] {
            assert_eq!(listening(broken), []);
        }
    }

    #[test]
    fn knows_which_addresses_shut_each_other_out() {
        for (bound, asked, expected) in [
            ("10.0.0.1:80", "10.0.0.1:80", Some(0)),
            ("[::ffff:10.0.0.1]:80", "10.0.0.1:80", Some(0)),
            ("0.0.0.0:80", "10.0.0.1:80", Some(1)),
            ("10.0.0.1:80", "0.0.0.0:80", Some(1)),
            ("[::]:80", "[::1]:80", Some(1)),
            ("[::]:80", "10.0.0.1:80", Some(2)),
            ("0.0.0.0:80", "[::]:80", Some(2)),
            ("0.0.0.0:80", "[::1]:80", None),
            ("10.0.0.1:80", "10.0.0.2:80", None),
            ("10.0.0.1:80", "10.0.0.1:81", None),
        ] {
            assert_eq!(closeness(address(bound), address(asked)), expected, "{bound} and {asked}");
        }
    }

    #[test]
    fn a_holder_that_cannot_be_seen_is_named_by_its_user() {
        let holder = Holder { uid: 33, process: None };
        assert_eq!(holder.to_string(), "a process of user 33 (`sudo ss -ltnp` names it)");
    }
}
