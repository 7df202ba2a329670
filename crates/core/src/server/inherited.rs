//! Inherited listeners: sockets that listen already when a process starts, given by systemd, by the process before it,
//! or by whoever opened them.
//!
//! Which worker serves which: all that were given are served, whatever the number of workers. Sockets that share their
//! address by SO_REUSEPORT are dealt out; workers beyond them open one more each. Any other is shared by all workers,
//! each arming an accept of its own.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::{FdFlags, fcntl_setfd};
use socket2::{Domain, SockRef, Type};

use crate::address::Address;
use crate::config::Config;
use crate::error::ServeError;
use crate::listener;
use crate::operation::Memory;
use crate::ring::Ring;

/// What a process says to the one that it starts in its place: its own number, the descriptor of the line between the
/// two, and those of the sockets, each with a `+` before it if a server opened it and a `=NAME` behind it if it has a
/// name; all separated by colons.
pub(super) const HANDED_OVER: &str = "CAMPANILE_LISTENERS";

/// The first descriptor that systemd passes: sd_listen_fds(3).
const FIRST: i32 = 3;

/// Listening sockets that this process was given: see [`Server::inherit`](crate::Server::inherit).
///
/// ```no_run
/// use campanile_core::{Flow, Inherited, Input, Output, Server};
///
/// # let echo = |input: &mut Input<'_>, output: &mut Output<'_>| {
/// #     input.consume_all();
/// #     Flow::More(1)
/// # };
/// // By systemd's socket unit, or by the process before this one; else it listens by itself.
/// Server::new().listen("127.0.0.1:7000").inherit(Inherited::from_env()?).serve(move || echo)?.wait()?;
/// # Ok::<(), campanile_core::ServeError>(())
/// ```
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<Socket>,
    /// To the process before this one, which waits for a word.
    pub(super) line: Option<UnixStream>,
}

#[derive(Debug)]
struct Socket {
    listener: OwnedFd,
    address: Address,
    name: String,
    /// A server opened it that went before this one; so nobody has it when this one ends.
    ours: bool,
}

/// Why something is not inherited.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InheritError {
    /// A variable of the environment says what it never should.
    #[error("{name}={value:?} cannot be understood: unset it, or start this by what sets it rightly")]
    Variable {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A descriptor is no socket that connections can be accepted from.
    #[error(
        "descriptor {descriptor} is no stream socket that listens on TCP or a Unix path: a unit needs \
         ListenStream= and Accept=no"
    )]
    NoListener {
        /// Its number.
        descriptor: i32,
    },
    /// Sockets are here that were handed over to another process, or by one that has ended.
    #[error(
        "the listening sockets here are for a child of process {from}, and this is none: that process has ended, or \
         what it started has to exec this one"
    )]
    Orphan {
        /// The process that handed them over.
        from: u32,
    },
}

impl Inherited {
    /// What the environment says, once per process: nothing at any further call, since the descriptors are taken.
    ///
    /// That is what systemd passes to the service of a socket unit (`LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES`,
    /// sd_listen_fds(3)), and what a server passes to the process that takes over from it
    /// ([`Stopper::start_successor`](crate::Stopper::start_successor)). Variables meant for another process are
    /// ignored.
    ///
    /// # Errors
    /// When a variable is garbled, a descriptor is no listening socket, or the sockets are here but the process that
    /// handed them over is not the one that started this: nobody would serve who waits in their queues.
    pub fn from_env() -> Result<Inherited, InheritError> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Ok(Inherited::default());
        }
        let variable = |name| std::env::var(name).unwrap_or_default();
        let from_parent = variable(HANDED_OVER);
        let parent = std::os::unix::process::parent_id();
        if let Some(from) = meant_for_another(&from_parent, parent, is_socket) {
            return Err(InheritError::Orphan { from });
        }
        if let Some((line, sockets)) = handed_over(&from_parent, parent)? {
            let line = UnixStream::from(adopt(line).ok_or_else(|| garbled(HANDED_OVER, &from_parent))?);
            let sockets = sockets.into_iter().map(|(number, name, ours)| {
                let socket = Inherited::adopted(number, name)?;
                Ok(Socket { ours, ..socket })
            });
            return Ok(Inherited { sockets: sockets.collect::<Result<_, _>>()?, line: Some(line) });
        }
        let names = activated(
            &variable("LISTEN_PID"),
            &variable("LISTEN_FDS"),
            &variable("LISTEN_FDNAMES"),
            std::process::id(),
        )?;
        let sockets = (FIRST..).zip(names).map(|(number, name)| Inherited::adopted(number, name));
        Ok(Inherited { sockets: sockets.collect::<Result<_, _>>()?, line: None })
    }

    /// One socket that listens already: a [`TcpListener`](std::net::TcpListener), a
    /// [`UnixListener`](std::os::unix::net::UnixListener), or any descriptor of one.
    ///
    /// # Errors
    /// When it is none.
    pub fn socket(listener: impl Into<OwnedFd>) -> Result<Inherited, InheritError> {
        let socket = Socket::new(listener.into(), String::new())?;
        Ok(Inherited { sockets: vec![socket], line: None })
    }

    /// Takes out those of that name (`FileDescriptorName=` of a socket unit), for a server of their own.
    #[must_use]
    pub fn named(&mut self, name: &str) -> Inherited {
        let (named, others) = self.sockets.drain(..).partition(|socket| socket.name == name);
        self.sockets = others;
        Inherited { sockets: named, line: None }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Where they listen. An address can be there several times.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.sockets.iter().map(|socket| &socket.address)
    }

    /// Adds others to these.
    pub(super) fn extend(&mut self, others: Inherited) {
        self.sockets.extend(others.sockets);
        self.line = self.line.take().or(others.line);
    }

    fn adopted(number: i32, name: String) -> Result<Socket, InheritError> {
        Socket::new(adopt(number).ok_or(InheritError::NoListener { descriptor: number })?, name)
    }

    /// Which are for which of `addresses`; those with an address that is not among them are given one more. Port 0
    /// takes what there is of its IP address that nobody else takes.
    pub(super) fn settle(self, addresses: &mut Vec<Address>) -> Vec<Listeners> {
        for at in 0..addresses.len() {
            let any_port = addresses[at].tcp().filter(|tcp| tcp.port() == 0);
            let fits = |socket: &&Socket| {
                let tcp = any_port.zip(socket.address.tcp());
                tcp.is_some_and(|(any, tcp)| any.ip() == tcp.ip()) && !addresses.contains(&socket.address)
            };
            if let Some(found) = self.sockets.iter().find(fits) {
                addresses[at] = found.address.clone();
            }
        }
        let mut all: Vec<Listeners> = addresses.iter().map(|_| Listeners::opened_here()).collect();
        for Socket { listener, address, name, ours } in self.sockets {
            let at = addresses.iter().position(|known| *known == address).unwrap_or_else(|| {
                addresses.push(address);
                all.push(Listeners::opened_here());
                all.len() - 1
            });
            all[at].sockets.push(listener);
            all[at].ours &= ours;
            all[at].name = name;
        }
        all
    }
}

impl Socket {
    fn new(listener: OwnedFd, name: String) -> Result<Socket, InheritError> {
        let refuse = |_| InheritError::NoListener { descriptor: listener.as_raw_fd() };
        let socket = SockRef::from(&listener);
        let is_right = socket.is_listener().map_err(refuse)?
            && socket.r#type().map_err(refuse)? == Type::STREAM
            && [Domain::IPV4, Domain::IPV6, Domain::UNIX].contains(&socket.domain().map_err(refuse)?);
        if !is_right {
            return Err(InheritError::NoListener { descriptor: listener.as_raw_fd() });
        }
        let address = listener::bound_address(&listener).map_err(refuse)?;
        Ok(Socket { listener, address, name, ours: false })
    }
}

/// The listeners of one address that the workers share or deal out; none if each opens its own.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) sockets: Vec<OwnedFd>,
    /// Nobody has them when this server ends; so the file of a Unix socket is to be removed then.
    pub(super) ours: bool,
    pub(super) name: String,
}

/// What one worker has of the listeners of an address.
#[derive(Debug)]
pub(super) struct Share {
    sockets: Vec<OwnedFd>,
    /// One more is to be opened, and only if that fails these are shared.
    opens: bool,
    /// Nobody has them when this server ends.
    pub(super) ours: bool,
}

impl Listeners {
    fn opened_here() -> Listeners {
        Listeners { sockets: Vec::new(), ours: true, name: String::new() }
    }

    /// The share of a worker.
    pub(super) fn share(&self, worker: usize, workers: usize) -> io::Result<Share> {
        let (count, ours) = (self.sockets.len(), self.ours);
        let Some(last) = count.checked_sub(1) else {
            return Ok(Share { sockets: Vec::new(), opens: true, ours });
        };
        if worker <= last {
            let dealt = self.sockets.iter().skip(worker).step_by(workers);
            let sockets = dealt.map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
            return Ok(Share { sockets, opens: false, ours });
        }
        let shared = &self.sockets[worker % count];
        let opens = SockRef::from(shared).reuse_port().unwrap_or(false);
        Ok(Share { sockets: vec![shared.try_clone()?], opens, ours })
    }
}

impl Share {
    /// The listeners, opened or there already.
    pub(super) fn open(
        self,
        address: &Address,
        config: &Config,
        ring: &mut dyn Ring,
        memory: &mut Memory,
    ) -> Result<Vec<OwnedFd>, ServeError> {
        if !self.opens {
            return Ok(self.sockets);
        }
        match listener::open_tcp(address, config, ring, memory) {
            Ok(listener) => Ok(vec![listener]),
            // Another user's, perhaps.
            Err(_) if !self.sockets.is_empty() => Ok(self.sockets),
            Err(error) => Err(error),
        }
    }
}

/// Makes a descriptor that this process was given its own; `None` if it is no socket at all.
fn adopt(number: i32) -> Option<OwnedFd> {
    if !is_socket(number) {
        return None;
    }
    let socket = listener::adopt(u32::try_from(number).ok()?);
    set_inheritable(&socket, false).ok()?;
    Some(socket)
}

fn is_socket(number: i32) -> bool {
    let target = std::fs::read_link(Path::new("/proc/self/fd").join(number.to_string()));
    target.is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
}

/// Whether a process that is started from here gets the descriptor too.
pub(super) fn set_inheritable(descriptor: impl AsFd, inheritable: bool) -> io::Result<()> {
    Ok(fcntl_setfd(descriptor, if inheritable { FdFlags::empty() } else { FdFlags::CLOEXEC })?)
}

fn garbled(name: &'static str, value: &str) -> InheritError {
    InheritError::Variable { name, value: value.into() }
}

/// A descriptor, its name, and whether a server opened it.
type Handed = (i32, String, bool);

/// The line and the sockets that a process before this one handed over; `None` if there was none.
fn handed_over(text: &str, parent: u32) -> Result<Option<(i32, Vec<Handed>)>, InheritError> {
    let mut parts = text.split(':');
    let number = |text: &str| text.parse().ok().filter(|&number: &i32| number >= FIRST);
    match parts.next().filter(|first| !first.is_empty()) {
        None => return Ok(None),
        Some(from) if from.parse() != Ok(parent) => return Ok(None),
        Some(_) => {}
    }
    let read = || {
        let line = number(parts.next()?)?;
        let sockets = parts.map(|part| {
            let (descriptor, name) = part.split_once('=').unwrap_or((part, ""));
            let plain = descriptor.strip_prefix('+');
            Some((number(plain.unwrap_or(descriptor))?, name.to_owned(), plain.is_some()))
        });
        Some((line, sockets.collect::<Option<_>>()?))
    };
    read().map(Some).ok_or_else(|| garbled(HANDED_OVER, text))
}

/// The process that handed over what is here, if that is not the parent. The variable alone says nothing, for children
/// of those who took over have it, too; the sockets they have not.
fn meant_for_another(text: &str, parent: u32, is_socket: impl Fn(i32) -> bool) -> Option<u32> {
    let from = text.split(':').next()?.parse().ok().filter(|&from| from != parent)?;
    let (line, sockets) = handed_over(text, from).ok()??;
    let numbers = || std::iter::once(line).chain(sockets.iter().map(|(number, ..)| *number));
    (!sockets.is_empty() && numbers().all(is_socket)).then_some(from)
}

/// What a process says to the one after it: the opposite of [`handed_over`].
pub(super) fn to_hand_over(line: i32, sockets: impl Iterator<Item = Handed>) -> String {
    let mut text = format!("{}:{line}", std::process::id());
    for (descriptor, name, ours) in sockets {
        let equals = if name.is_empty() { "" } else { "=" };
        text += &format!(":{}{descriptor}{equals}{name}", if ours { "+" } else { "" });
    }
    text
}

/// The names of the sockets that systemd passed.
fn activated(pid: &str, count: &str, names: &str, own_pid: u32) -> Result<Vec<String>, InheritError> {
    if pid.is_empty() || count.is_empty() || pid.parse() != Ok(own_pid) {
        return Ok(Vec::new());
    }
    let count: usize =
        count.parse().ok().filter(|&count| count <= 1 << 16).ok_or_else(|| garbled("LISTEN_FDS", count))?;
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    Ok(names.take(count).collect())
}

impl fmt::Display for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self.addresses().map(Address::to_string).collect();
        f.write_str(&addresses.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_is_for_others_is_ignored_and_what_is_garbled_is_said() {
        assert_eq!(activated("7", "2", "web:admin", 7).unwrap(), ["web", "admin"]);
        assert_eq!(activated("7", "2", "", 7).unwrap(), ["", ""]);
        assert_eq!(activated("8", "2", "web:admin", 7).unwrap(), [""; 0]);
        assert_eq!(activated("", "", "", 7).unwrap(), [""; 0]);
        for count in ["many", "-1", "99999999"] {
            let error = activated("7", count, "", 7).unwrap_err().to_string();
            assert!(error.contains("LISTEN_FDS") && error.contains(count), "{error}");
        }
        assert!(handed_over("", 7).unwrap().is_none());
        assert!(handed_over("8:nonsense", 7).unwrap().is_none(), "another's child");
        for text in ["7", "7:", "7:x", "7:4:x", "7:4:", "7:4:2", "7:4:+"] {
            let error = handed_over(text, 7).unwrap_err().to_string();
            assert!(error.contains(HANDED_OVER) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn sockets_that_another_process_was_to_have_are_not_left_unserved() {
        for (text, is_here, from) in [
            ("8:3:+4", [3, 4], Some(8)),
            ("8:3:+4:5=web", [3, 4], None),
            ("8:3:+4", [4, 5], None),
            ("8:3", [3, 4], None),
            ("7:3:+4", [3, 4], None),
            ("8:nonsense", [3, 4], None),
            ("", [3, 4], None),
        ] {
            assert_eq!(meant_for_another(text, 7, |number| is_here.contains(&number)), from, "{text}");
        }
    }

    #[test]
    fn what_is_handed_over_is_read_as_it_was_written() {
        let sockets = [(12, String::new(), false), (13, "web".into(), true), (14, "a b=c".into(), false)];
        let text = to_hand_over(11, sockets.clone().into_iter());
        assert_eq!(handed_over(&text, std::process::id()).unwrap(), Some((11, sockets.into())));
    }

    #[test]
    fn only_listening_sockets_are_inherited() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(matches!(Inherited::socket(client), Err(InheritError::NoListener { .. })));
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(Inherited::socket(null), Err(InheritError::NoListener { .. })));
        let address = listener.local_addr().unwrap().into();
        assert_eq!(Inherited::socket(listener).unwrap().addresses().collect::<Vec<_>>(), [&address]);
    }

    /// One that shares its address, as workers open them, or one that does not.
    fn listening(at: &str, shares: bool) -> Inherited {
        let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(shares).unwrap();
        socket.bind(&at.parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        socket.listen(8).unwrap();
        Inherited::socket(socket).unwrap()
    }

    #[test]
    fn every_socket_is_served_by_some_worker_and_every_worker_has_one() {
        for shares in [true, false] {
            let mut inherited = listening("127.0.0.1:0", shares);
            let address = inherited.sockets[0].address.clone();
            let more = if shares { 3 } else { 0 };
            (0..more).for_each(|_| inherited.extend(listening(&address.to_string(), true)));
            let all = inherited.settle(&mut vec![address]).remove(0);
            for workers in [1, 2, 3, 4, 5, 9] {
                let shares: Vec<_> = (0..workers).map(|worker| all.share(worker, workers).unwrap()).collect();
                let served: usize =
                    shares.iter().filter(|share| !share.opens).map(|share| share.sockets.len()).sum();
                let opened = shares.iter().filter(|share| share.opens).count();
                let count = all.sockets.len();
                let (dealt, more) = if count == 1 && !shares_port(&all) {
                    (workers, 0)
                } else {
                    (count, workers.saturating_sub(count))
                };
                assert_eq!((served, opened), (dealt, more), "{count} sockets, {workers} workers");
                assert!(shares.iter().all(|share| !share.sockets.is_empty()));
            }
        }
    }

    fn shares_port(listeners: &Listeners) -> bool {
        SockRef::from(&listeners.sockets[0]).reuse_port().unwrap()
    }

    #[test]
    fn addresses_take_what_is_theirs_and_the_rest_has_its_own() {
        let mut inherited = listening("127.0.0.1:0", true);
        inherited.extend(listening("127.0.0.1:0", true));
        inherited.extend(listening("127.0.0.2:0", true));
        let real: Vec<_> = inherited.addresses().cloned().collect();
        let any = "127.0.0.1:0".parse().unwrap();
        let other = "127.0.0.3:0".parse::<Address>().unwrap();
        let mut addresses = vec![real[1].clone(), other.clone(), any];
        let listeners = inherited.settle(&mut addresses);
        assert_eq!(addresses, [real[1].clone(), other, real[0].clone(), real[2].clone()]);
        assert_eq!(listeners.iter().map(|all| all.sockets.len()).collect::<Vec<_>>(), [1, 0, 1, 1]);
    }
}
