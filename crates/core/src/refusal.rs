//! `Refusal`: why the kernel would not give us a ring, who stands behind it, and the command that changes it.
//!
//! The kernel answers with a bare error number, and the same number has several causes: EPERM is the administrator's
//! sysctl or the container's filter, ENOSYS the filter or an old kernel. What tells them apart stands under `/proc`,
//! and [`Surroundings`] is what was read there.

use std::{error::Error, fmt, fs, io};

/// The oldest kernel whose io_uring has all that a ring here is built on.
const OLDEST: (u32, u32) = (6, 1);
/// The first kernel that had io_uring at all.
const FIRST: (u32, u32) = (5, 1);

/// Why the kernel refused a ring, its memory or its descriptors.
///
/// Displayed, it is one sentence that names who refused and the command that fixes it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The administrator's `kernel.io_uring_disabled` forbids it (EPERM; Linux 6.6 and newer).
    DisabledBySysctl {
        /// 1: only for `group` and CAP_SYS_ADMIN; 2: for nobody.
        value: u8,
        /// `kernel.io_uring_group`: the group that is exempt from 1, if there is one.
        group: Option<u32>,
    },
    /// A seccomp filter forbids the system calls, as the default profile of containers does (EPERM or ENOSYS).
    Seccomp,
    /// A security module such as SELinux forbids it (EACCES).
    SecurityModule,
    /// The kernel is older than Linux 6.1 (ENOSYS, EINVAL or EOPNOTSUPP).
    TooOld {
        /// As `uname -r` prints it.
        release: String,
    },
    /// The kernel is new enough but was built without io_uring (ENOSYS, and no filter).
    NotBuilt {
        /// As `uname -r` prints it.
        release: String,
    },
    /// RLIMIT_MEMLOCK leaves too little, counted over all rings of the user (ENOMEM).
    MemoryLock {
        /// What was asked for, in KiB.
        needed_kib: u64,
        /// The soft limit, in KiB.
        allowed_kib: u64,
    },
    /// RLIMIT_NOFILE leaves too few descriptors (EMFILE).
    Descriptors {
        /// How many were asked for.
        needed: u64,
        /// The soft limit. `None` where it could not be read, as when not even a descriptor for that is left.
        allowed: Option<u64>,
    },
    /// The whole machine has no file left to open (ENFILE).
    SystemDescriptors {
        /// `fs.file-max`, where it can be read.
        allowed: Option<u64>,
    },
    /// A cause that is none of the above.
    Other {
        /// The error number; 0 if the error carried none.
        errno: i32,
    },
}

/// What was asked of the kernel when it refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    /// Memory to be locked for the ring and its buffers, in KiB.
    pub memory_kib: u64,
    /// Descriptors, the table of direct ones included.
    pub descriptors: u64,
}

/// What stands around this process and may refuse it io_uring. `None` is what could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `kernel.io_uring_disabled`; older kernels than 6.6 have none.
    pub io_uring_disabled: Option<u8>,
    /// `kernel.io_uring_group`, unless it is -1: no group.
    pub io_uring_group: Option<u32>,
    /// The mode of seccomp: 0 off, 1 strict, 2 filter.
    pub seccomp: Option<u8>,
    /// The kernel's release, as `uname -r` prints it; empty if unknown.
    pub release: String,
    /// The soft RLIMIT_MEMLOCK in KiB; `None` also if unlimited.
    pub memlock_kib: Option<u64>,
    /// The soft RLIMIT_NOFILE; `None` also if unlimited.
    pub nofile: Option<u64>,
    /// `fs.file-max`: open files of the whole machine.
    pub file_max: Option<u64>,
    /// The groups of this process, the effective one included.
    pub groups: Vec<u32>,
    /// The effective capabilities, one bit each; 0 within a user namespace, as the kernel asks for those of the
    /// machine.
    pub capabilities: u64,
}

impl Refusal {
    /// Finds the cause of `error`, which the kernel gave when it was asked for `asked`.
    pub fn diagnose(error: &io::Error, asked: Asked, surroundings: &Surroundings) -> Self {
        let errno = error.raw_os_error().unwrap_or(0);
        let release = || surroundings.release.clone();
        let version = surroundings.version();
        let too_old = version.is_some_and(|version| version < OLDEST);
        match errno {
            // The sysctl comes first: where it forbids, lifting the filter would not help.
            libc::EPERM if surroundings.forbidden_by_sysctl() => Self::DisabledBySysctl {
                value: surroundings.io_uring_disabled.unwrap_or_default(),
                group: surroundings.io_uring_group,
            },
            libc::EPERM if surroundings.filtered() => Self::Seccomp,
            libc::EACCES => Self::SecurityModule,
            libc::ENOSYS if surroundings.filtered() && version.is_none_or(|version| version >= FIRST) => {
                Self::Seccomp
            }
            libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP if too_old => Self::TooOld { release: release() },
            libc::ENOSYS if version.is_some() => Self::NotBuilt { release: release() },
            libc::ENOMEM => surroundings.memory_lock(asked).unwrap_or(Self::Other { errno }),
            libc::EMFILE => Self::Descriptors { needed: asked.descriptors, allowed: surroundings.nofile },
            libc::ENFILE => Self::SystemDescriptors { allowed: surroundings.file_max },
            _ => Self::Other { errno },
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = OLDEST;
        match self {
            Self::DisabledBySysctl { value: 1, group: Some(group) } => write!(
                f,
                "the sysctl kernel.io_uring_disabled=1 keeps io_uring for group {group}: add this user to it, \
                 or run `sysctl -w kernel.io_uring_disabled=0` on the host"
            ),
            Self::DisabledBySysctl { value, group: _ } => write!(
                f,
                "the sysctl kernel.io_uring_disabled={value} forbids io_uring: \
                 run `sysctl -w kernel.io_uring_disabled=0` on the host"
            ),
            Self::Seccomp => write!(
                f,
                "a seccomp filter, such as the default profile of a container, forbids io_uring: allow \
                 io_uring_setup, io_uring_enter and io_uring_register in the profile given to \
                 `docker run --security-opt seccomp=profile.json` (`seccomp=unconfined` allows everything; under \
                 systemd it is `SystemCallFilter=@aio`)"
            ),
            Self::SecurityModule => write!(
                f,
                "a security module such as SELinux forbids io_uring: `ausearch -m avc -ts recent` shows the rule, \
                 and `audit2allow` makes the exception"
            ),
            Self::TooOld { release } => write!(
                f,
                "the kernel, Linux {release}, is too old for this use of io_uring: \
                 upgrade to Linux {major}.{minor} or newer"
            ),
            Self::NotBuilt { release } => write!(
                f,
                "the kernel, Linux {release}, was built without io_uring: boot one that has CONFIG_IO_URING=y"
            ),
            &Self::MemoryLock { needed_kib, allowed_kib } => {
                let enough_kib = enough(needed_kib, allowed_kib);
                write!(
                    f,
                    "the limit on locked memory refuses io_uring: {needed_kib} KiB are needed and {allowed_kib} KiB \
                     allowed, shared by all rings of this user; run `ulimit -l {enough_kib}` before the start, or \
                     set `LimitMEMLOCK={enough_kib}K` in the systemd unit"
                )
            }
            &Self::Descriptors { needed, allowed } => fmt_descriptors(f, needed, allowed),
            Self::SystemDescriptors { allowed: Some(allowed) } => write!(
                f,
                "the machine's limit on open files, {allowed}, is reached: run `sysctl -w fs.file-max={}` on the host",
                allowed.saturating_mul(2)
            ),
            Self::SystemDescriptors { allowed: None } => {
                write!(
                    f,
                    "the machine's limit on open files is reached: raise `sysctl fs.file-max` on the host"
                )
            }
            Self::Other { errno: 0 } => write!(f, "io_uring is refused without an error number"),
            Self::Other { errno } => {
                write!(f, "the kernel refuses io_uring: {}", io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

fn fmt_descriptors(f: &mut fmt::Formatter<'_>, needed: u64, allowed: Option<u64>) -> fmt::Result {
    let Some(allowed) = allowed else {
        return write!(
            f,
            "the limit on open files refuses io_uring: all descriptors that this process may have are open and \
             {needed} more are needed; raise the limit by as many with `ulimit -n` before the start, or with \
             `LimitNOFILE=` in the systemd unit"
        );
    };
    let enough = enough(needed, allowed);
    write!(
        f,
        "the limit on open files refuses io_uring: {needed} descriptors are needed and {allowed} allowed for the \
         whole process; run `ulimit -n {enough}` before the start, or set `LimitNOFILE={enough}` in the systemd unit"
    )
}

impl Error for Refusal {}

/// A limit that will do. What is needed may well be below the present limit: then others hold the rest of it.
fn enough(needed: u64, allowed: u64) -> u64 {
    if needed > allowed { needed } else { allowed.saturating_add(needed.max(1)) }
}

impl Surroundings {
    /// Reads `/proc`. What is not there, or may not be read, stays unknown; with no descriptor left that is all of it.
    pub fn read() -> Self {
        Self::gather(|path| fs::read_to_string(path).ok())
    }

    fn gather(file: impl Fn(&str) -> Option<String>) -> Self {
        fn number<T: std::str::FromStr>(text: Option<&str>) -> Option<T> {
            text?.trim().parse().ok()
        }
        let status = file("/proc/self/status").unwrap_or_default();
        let limits = file("/proc/self/limits").unwrap_or_default();
        let soft = |name| number::<u64>(line(&limits, name)?.split_whitespace().next());
        let capabilities =
            line(&status, "CapEff:").and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
        // The second number of Gid is the effective one.
        let effective = line(&status, "Gid:").unwrap_or_default().split_whitespace().nth(1);
        let supplementary = line(&status, "Groups:").unwrap_or_default().split_whitespace();
        let namespaced = file("/proc/self/uid_map")
            .is_some_and(|map| !map.split_whitespace().eq(["0", "0", "4294967295"]));
        Self {
            io_uring_disabled: number(file("/proc/sys/kernel/io_uring_disabled").as_deref()),
            io_uring_group: number(file("/proc/sys/kernel/io_uring_group").as_deref()),
            seccomp: number(line(&status, "Seccomp:")),
            release: file("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            memlock_kib: soft("Max locked memory").map(|bytes| bytes / 1024),
            nofile: soft("Max open files"),
            file_max: number(file("/proc/sys/fs/file-max").as_deref()),
            groups: effective.into_iter().chain(supplementary).filter_map(|id| id.parse().ok()).collect(),
            capabilities: if namespaced { 0 } else { capabilities },
        }
    }

    /// The kernel's own rule, `io_uring_allowed` in io_uring/io_uring.c.
    fn forbidden_by_sysctl(&self) -> bool {
        const CAP_SYS_ADMIN: u32 = 21;
        match self.io_uring_disabled {
            None | Some(0) => false,
            Some(1) => {
                let in_group = self.io_uring_group.is_some_and(|group| self.groups.contains(&group));
                !in_group && !self.capable(CAP_SYS_ADMIN)
            }
            Some(_) => true,
        }
    }

    fn filtered(&self) -> bool {
        self.seccomp == Some(2)
    }

    /// How much memory this process may lock, in KiB, if there is a limit and it is not exempt from it.
    pub(crate) fn limiting_memlock_kib(&self) -> Option<u64> {
        const CAP_IPC_LOCK: u32 = 14;
        self.memlock_kib.filter(|_| !self.capable(CAP_IPC_LOCK))
    }

    /// The refusal for want of lockable memory, if there is a limit and this process is not exempt from it.
    fn memory_lock(&self, asked: Asked) -> Option<Refusal> {
        let allowed_kib = self.limiting_memlock_kib()?;
        Some(Refusal::MemoryLock { needed_kib: asked.memory_kib, allowed_kib })
    }

    fn capable(&self, capability: u32) -> bool {
        self.capabilities & (1 << capability) != 0
    }

    /// Major and minor number of the release.
    fn version(&self) -> Option<(u32, u32)> {
        let (major, rest) = self.release.split_once('.')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        Some((major.parse().ok()?, rest[..digits].parse().ok()?))
    }
}

/// What follows `name` on the line that begins with it.
fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: u64 = 1 << 21;
    const IPC_LOCK: u64 = 1 << 14;
    const ASKED: Asked = Asked { memory_kib: 500, descriptors: 9_000 };

    /// An ordinary user on a kernel that refuses nothing.
    fn plain() -> Surroundings {
        Surroundings {
            io_uring_disabled: Some(0),
            io_uring_group: None,
            seccomp: Some(0),
            release: "6.12.9-amd64".to_owned(),
            memlock_kib: Some(64),
            nofile: Some(1_024),
            file_max: Some(100_000),
            groups: vec![1_000, 27],
            capabilities: 0,
        }
    }

    #[test]
    fn tells_the_causes_apart() {
        use Refusal::*;
        type Change = fn(&mut Surroundings);
        let disabled = |value, group| DisabledBySysctl { value, group };
        let old = |release: &str| TooOld { release: release.to_owned() };
        let not_built = NotBuilt { release: "6.12.9-amd64".to_owned() };
        let locked = MemoryLock { needed_kib: 500, allowed_kib: 64 };
        let cases: &[(i32, Change, Refusal)] = &[
            (libc::EPERM, |_| {}, Other { errno: libc::EPERM }),
            (libc::EPERM, |s| *s = Surroundings::default(), Other { errno: libc::EPERM }),
            (libc::EPERM, |s| s.seccomp = Some(2), Seccomp),
            (libc::EPERM, |s| s.io_uring_disabled = Some(2), disabled(2, None)),
            (libc::EPERM, |s| (s.io_uring_disabled, s.capabilities) = (Some(2), ADMIN), disabled(2, None)),
            (libc::EPERM, |s| (s.io_uring_disabled, s.seccomp) = (Some(2), Some(2)), disabled(2, None)),
            (libc::EPERM, |s| s.io_uring_disabled = Some(1), disabled(1, None)),
            (libc::EPERM, |s| (s.io_uring_disabled, s.seccomp) = (Some(1), Some(2)), disabled(1, None)),
            // The sysctl lets these two through, so it is the filter.
            (
                libc::EPERM,
                |s| (s.io_uring_disabled, s.seccomp, s.capabilities) = (Some(1), Some(2), ADMIN),
                Seccomp,
            ),
            (
                libc::EPERM,
                |s| (s.io_uring_disabled, s.seccomp, s.io_uring_group) = (Some(1), Some(2), Some(27)),
                Seccomp,
            ),
            (
                libc::EPERM,
                |s| (s.io_uring_disabled, s.io_uring_group) = (Some(1), Some(5)),
                disabled(1, Some(5)),
            ),
            (libc::EACCES, |_| {}, SecurityModule),
            (libc::ENOSYS, |s| s.seccomp = Some(2), Seccomp),
            (libc::ENOSYS, |s| (s.seccomp, s.release) = (Some(2), "5.1.0".into()), Seccomp),
            (libc::ENOSYS, |s| (s.seccomp, s.release) = (Some(2), "4.19.0".into()), old("4.19.0")),
            (libc::ENOSYS, |s| (s.seccomp, s.release) = (Some(2), String::new()), Seccomp),
            (libc::ENOSYS, |s| s.release = "4.19.0".into(), old("4.19.0")),
            (libc::ENOSYS, |s| s.release = String::new(), Other { errno: libc::ENOSYS }),
            (libc::ENOSYS, |_| {}, not_built),
            (libc::EINVAL, |s| s.release = "5.15.0-91-generic".into(), old("5.15.0-91-generic")),
            (libc::EOPNOTSUPP, |s| s.release = "6.0-rc1".into(), old("6.0-rc1")),
            (libc::EINVAL, |s| s.release = "6.1".into(), Other { errno: libc::EINVAL }),
            (libc::EINVAL, |s| s.release = "10.0.1".into(), Other { errno: libc::EINVAL }),
            (libc::ENOMEM, |_| {}, locked),
            (libc::ENOMEM, |s| s.capabilities = IPC_LOCK, Other { errno: libc::ENOMEM }),
            (libc::ENOMEM, |s| s.memlock_kib = None, Other { errno: libc::ENOMEM }),
            (libc::EMFILE, |_| {}, Descriptors { needed: 9_000, allowed: Some(1_024) }),
            (libc::EMFILE, |s| *s = Surroundings::default(), Descriptors { needed: 9_000, allowed: None }),
            (libc::ENFILE, |_| {}, SystemDescriptors { allowed: Some(100_000) }),
            (libc::EBUSY, |s| s.seccomp = Some(2), Other { errno: libc::EBUSY }),
        ];
        for (index, (errno, change, expected)) in cases.iter().enumerate() {
            let mut surroundings = plain();
            change(&mut surroundings);
            let refusal = Refusal::diagnose(&io::Error::from_raw_os_error(*errno), ASKED, &surroundings);
            assert_eq!(refusal, *expected, "case {index}, errno {errno}, {surroundings:?}");
        }
        let unnumbered = Refusal::diagnose(&io::Error::other("no number"), ASKED, &plain());
        assert_eq!(unnumbered, Other { errno: 0 });
    }

    #[test]
    fn each_sentence_names_the_culprit_and_the_command() {
        let cases = [
            (
                Refusal::DisabledBySysctl { value: 2, group: Some(5) },
                "=2",
                "sysctl -w kernel.io_uring_disabled=0",
            ),
            (
                Refusal::DisabledBySysctl { value: 1, group: None },
                "=1",
                "sysctl -w kernel.io_uring_disabled=0",
            ),
            (Refusal::DisabledBySysctl { value: 1, group: Some(5) }, "group 5", "add this user"),
            (Refusal::Seccomp, "seccomp filter", "docker run --security-opt seccomp="),
            (Refusal::SecurityModule, "SELinux", "ausearch"),
            (Refusal::TooOld { release: "5.4.0".to_owned() }, "Linux 5.4.0", "upgrade to Linux 6.1 or newer"),
            (Refusal::NotBuilt { release: "6.9.0".to_owned() }, "Linux 6.9.0", "CONFIG_IO_URING"),
            (Refusal::MemoryLock { needed_kib: 500, allowed_kib: 64 }, "64 KiB allowed", "ulimit -l 500`"),
            (Refusal::MemoryLock { needed_kib: 500, allowed_kib: 8192 }, "all rings", "LimitMEMLOCK=8692K"),
            (Refusal::Descriptors { needed: 9000, allowed: Some(1024) }, "1024 allowed", "ulimit -n 9000`"),
            (Refusal::Descriptors { needed: 9, allowed: Some(1024) }, "9 descriptors", "LimitNOFILE=1033`"),
            (Refusal::Descriptors { needed: 9, allowed: None }, "9 more", "ulimit -n`"),
            (Refusal::SystemDescriptors { allowed: Some(1000) }, "1000", "sysctl -w fs.file-max=2000"),
            (Refusal::SystemDescriptors { allowed: None }, "machine", "fs.file-max"),
            (Refusal::Other { errno: libc::EIO }, "the kernel", "os error 5"),
        ];
        for (refusal, culprit, command) in cases {
            let sentence = refusal.to_string();
            assert!(sentence.contains(culprit) && sentence.contains(command), "{sentence}");
            assert!(!sentence.contains('\n') && !sentence.contains("  "), "one line: {sentence}");
        }
    }

    #[test]
    fn reads_what_the_kernel_prints() {
        let surroundings = Surroundings::gather(|path| {
            let text = match path {
                "/proc/self/status" => {
                    "Name:\tserver\nUid:\t0\t0\t0\t0\nGid:\t7\t8\t9\t10\nGroups:\t4 24 \n\
                     CapEff:\t0000000000204000\nSeccomp:\t2\nSeccomp_filters:\t1\n"
                }
                "/proc/self/limits" => {
                    "Limit                     Soft Limit           Hard Limit           Units     \n\
                     Max open files            1024                 1048576              files     \n\
                     Max locked memory         65536                unlimited            bytes     \n\
                     Max file locks            unlimited            unlimited            locks     \n"
                }
                "/proc/self/uid_map" => "         0          0 4294967295\n",
                "/proc/sys/kernel/io_uring_disabled" => "1\n",
                "/proc/sys/kernel/io_uring_group" => "-1\n",
                "/proc/sys/kernel/osrelease" => "6.6.1\n",
                "/proc/sys/fs/file-max" => "9223372036854775807\n",
                _ => return None,
            };
            Some(text.to_owned())
        });
        let expected = Surroundings {
            io_uring_disabled: Some(1),
            io_uring_group: None,
            seccomp: Some(2),
            release: "6.6.1".to_owned(),
            memlock_kib: Some(64),
            nofile: Some(1_024),
            file_max: Some(9_223_372_036_854_775_807),
            groups: vec![8, 4, 24],
            capabilities: ADMIN | IPC_LOCK,
        };
        assert_eq!(surroundings, expected);
    }

    #[test]
    fn capabilities_within_a_user_namespace_do_not_count() {
        let surroundings = Surroundings::gather(|path| match path {
            "/proc/self/status" => Some("CapEff:\t000001ffffffffff\n".to_owned()),
            "/proc/self/uid_map" => Some("0 100000 65536\n".to_owned()),
            _ => None,
        });
        assert_eq!(surroundings.capabilities, 0);
    }

    #[test]
    fn without_proc_everything_is_unknown() {
        assert_eq!(Surroundings::gather(|_| None), Surroundings::default());
    }

    #[test]
    fn reads_this_machine() {
        let surroundings = Surroundings::read();
        assert!(surroundings.version().is_some_and(|version| version >= (2, 6)), "{surroundings:?}");
        assert!(surroundings.seccomp.is_some_and(|mode| mode <= 2), "{surroundings:?}");
        assert!(!surroundings.groups.is_empty(), "{surroundings:?}");
        assert!(surroundings.nofile.is_none_or(|limit| limit > 0), "{surroundings:?}");
        assert!(surroundings.file_max.is_some_and(|limit| limit > 0), "{surroundings:?}");
    }
}
