//! The change: what can be done to the names of files.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::open_file::invalid;
use crate::flight::Flight;

/// The mode of a new directory, of which the process's umask takes away.
const MODE: u32 = 0o777;

/// Something to be done to a name: see the functions of [`fs`](crate::fs), which await it. A service asks for it by
/// [`Control::change_names`](crate::Control::change_names).
#[derive(Debug, Clone)]
pub struct Change {
    kind: ChangeKind,
    /// `None` if there is a zero byte in it, which no name has.
    path: Option<CString>,
    to: Option<CString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    RemoveFile,
    RemoveDir,
    Rename,
    CreateDir { mode: u32 },
}

impl Change {
    /// Takes the name away from a file, or from a link. The file is gone with its last name, once nobody has it open.
    #[must_use]
    pub fn remove_file(path: impl AsRef<Path>) -> Change {
        Change { kind: ChangeKind::RemoveFile, path: name(path.as_ref()), to: None }
    }

    /// Removes a directory in which nothing is.
    #[must_use]
    pub fn remove_dir(path: impl AsRef<Path>) -> Change {
        Change { kind: ChangeKind::RemoveDir, path: name(path.as_ref()), to: None }
    }

    /// Gives a file, or a directory, another name within its file system, at once in place of whatever has that.
    #[must_use]
    pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Change {
        Change { kind: ChangeKind::Rename, path: name(from.as_ref()), to: name(to.as_ref()) }
    }

    /// Makes a directory. The umask of the process takes away of its mode, 0o777.
    #[must_use]
    pub fn create_dir(path: impl AsRef<Path>) -> Change {
        Change { kind: ChangeKind::CreateDir { mode: MODE }, path: name(path.as_ref()), to: None }
    }

    /// What the kernel is told; an error if it makes no sense.
    pub(crate) fn into_flight(self) -> io::Result<Flight> {
        let zero = || invalid("the path of a file has a zero byte in it");
        let path = self.path.ok_or_else(zero)?;
        let to = match self.kind {
            ChangeKind::Rename => self.to.ok_or_else(zero)?,
            _ => CString::default(),
        };
        Ok(Flight::Change { kind: self.kind, path, to })
    }
}

fn name(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}
