//! The datagram as a receive brings it: a head that tells who sent it and how much there was of it, then its bytes.
//!
//! This is what a multishot recvmsg writes into a provided buffer (`struct io_uring_recvmsg_out` of io_uring(7)), and
//! what the rings that play the kernel write there as well:
//!
//! ```text
//! | name len | control len | payload len | flags |  name: 28 bytes  |  payload ...
//! 0          4             8             12      16                 44
//! ```

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes that are kept for a sender's address: as long as the longest, of IPv6.
pub(crate) const NAME_LEN: usize = size_of::<libc::sockaddr_in6>();

/// Where the address is, and where the bytes begin.
const NAME_AT: usize = 16;
pub(crate) const HEAD_LEN: usize = NAME_AT + NAME_LEN;

/// A datagram in the memory it was received in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Datagram<'a> {
    pub(crate) from: SocketAddr,
    pub(crate) bytes: &'a [u8],
    /// It was longer than the buffer, and the rest is lost.
    pub(crate) is_cut: bool,
}

/// Reads what a receive has filled; `None` if that makes no sense.
pub(crate) fn read(filled: &[u8]) -> Option<Datagram<'_>> {
    let (head, bytes) = filled.split_at_checked(HEAD_LEN)?;
    let (figures, name) = head.split_at(NAME_AT);
    let figure = |at: usize| Some(u32::from_ne_bytes(*figures.get(at..)?.first_chunk()?));
    let (name_len, payload_len, flags) = (figure(0)?, figure(8)?, figure(12)?);
    let from = read_name(name.get(..name_len as usize)?)?;
    let is_cut = flags & libc::MSG_TRUNC as u32 != 0;
    // Whatever it was cut by, what is there is all that came.
    (is_cut || payload_len as usize == bytes.len()).then_some(Datagram { from, bytes, is_cut })
}

/// The address in a `sockaddr_in` or a `sockaddr_in6`.
fn read_name(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*name.first_chunk()?);
    let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
    match i32::from(family) {
        libc::AF_INET => {
            let ip: &[u8; 4] = name.get(4..)?.first_chunk()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(*ip), port).into())
        }
        libc::AF_INET6 => {
            let flow = u32::from_be_bytes(*name.get(4..)?.first_chunk()?);
            let ip: &[u8; 16] = name.get(8..)?.first_chunk()?;
            let scope = u32::from_ne_bytes(*name.get(24..)?.first_chunk()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(*ip), port, flow, scope).into())
        }
        _ => None,
    }
}

/// The places for the address and for the bytes in a buffer that is to be filled; `None` if it is too short for any.
pub(crate) fn places(buffer: &mut [u8]) -> Option<(&mut [u8], &mut [u8])> {
    let (head, payload) = buffer.split_at_mut_checked(HEAD_LEN)?;
    Some((&mut head[NAME_AT..], payload))
}

/// Writes the figures of a datagram whose address and bytes are in their places; says how long it is with its head.
pub(crate) fn finish(buffer: &mut [u8], name_len: u32, payload_len: usize, flags: i32) -> u32 {
    let figures = [name_len, 0, payload_len as u32, flags as u32];
    for (to, figure) in buffer.chunks_exact_mut(4).zip(figures) {
        to.copy_from_slice(&figure.to_ne_bytes());
    }
    (HEAD_LEN + payload_len) as u32
}

/// Writes a whole datagram, cut to what there is place for; `None` if there is none for any.
pub(crate) fn write(buffer: &mut [u8], from: SocketAddr, bytes: &[u8]) -> Option<u32> {
    let (name, payload) = places(buffer)?;
    let name_len = write_name(name, from);
    let len = bytes.len().min(payload.len());
    payload[..len].copy_from_slice(&bytes[..len]);
    let flags = if len < bytes.len() { libc::MSG_TRUNC } else { 0 };
    Some(finish(buffer, name_len, len, flags))
}

/// Writes a `sockaddr_in` or a `sockaddr_in6`; says how long it is.
fn write_name(name: &mut [u8], from: SocketAddr) -> u32 {
    name.fill(0);
    name[2..4].copy_from_slice(&from.port().to_be_bytes());
    let (family, len) = match from {
        SocketAddr::V4(from) => {
            name[4..8].copy_from_slice(&from.ip().octets());
            (libc::AF_INET, size_of::<libc::sockaddr_in>())
        }
        SocketAddr::V6(from) => {
            name[4..8].copy_from_slice(&from.flowinfo().to_be_bytes());
            name[8..24].copy_from_slice(&from.ip().octets());
            name[24..28].copy_from_slice(&from.scope_id().to_ne_bytes());
            (libc::AF_INET6, NAME_LEN)
        }
    };
    name[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    len as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(from: &str, bytes: &[u8], len: usize) -> Vec<u8> {
        let mut buffer = vec![0xff; len];
        let filled = write(&mut buffer, from.parse().expect("an address"), bytes).expect("a place");
        buffer.truncate(filled as usize);
        buffer
    }

    #[test]
    fn what_was_written_is_read() {
        for from in ["127.0.0.1:8080", "[::1]:53", "[fe80::1%7]:65535"] {
            for bytes in [&b""[..], b"x", b"hello"] {
                let buffer = written(from, bytes, 1000);
                let from = from.parse().expect("an address");
                assert_eq!(read(&buffer), Some(Datagram { from, bytes, is_cut: false }));
            }
            let buffer = written(from, b"hello", HEAD_LEN + 4);
            let from = from.parse().expect("an address");
            assert_eq!(read(&buffer), Some(Datagram { from, bytes: b"hell", is_cut: true }));
        }
    }

    /// As the kernel's own structures have it.
    #[test]
    fn an_address_lies_where_the_kernel_writes_it() {
        let buffer = written("1.2.3.4:258", b"", 100);
        assert_eq!(buffer[..NAME_AT], [16u32, 0, 0, 0].map(u32::to_ne_bytes).concat());
        assert_eq!(buffer[NAME_AT + 2..NAME_AT + 8], [1, 2, 1, 2, 3, 4]);
        assert_eq!(std::mem::offset_of!(libc::sockaddr_in, sin_addr), 4);
        assert_eq!(std::mem::offset_of!(libc::sockaddr_in6, sin6_addr), 8);
        assert_eq!(std::mem::offset_of!(libc::sockaddr_in6, sin6_scope_id), 24);
    }

    #[test]
    fn nonsense_is_none() {
        let good = written("127.0.0.1:1", b"hello", 100);
        assert!(read(&good).is_some());
        assert_eq!(read(&good[..HEAD_LEN - 1]), None);
        assert_eq!(read(&good[..=HEAD_LEN]), None, "less than it says");
        assert_eq!(read(&[0; HEAD_LEN]), None, "from nowhere");
        let mut long = good;
        long[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(read(&long), None, "an address longer than its place");
        assert_eq!(write(&mut [0; HEAD_LEN - 1], "127.0.0.1:1".parse().expect("an address"), b""), None);
    }
}
