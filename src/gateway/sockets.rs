//! Unix sockets of the operator's doors: open to nobody else from their first moment, and gone when they are.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The socket as it was made, in a folder of its own until it is opened. It goes when this goes.
#[derive(Debug)]
pub struct SocketFile {
    listener: Option<UnixListener>,
    owner: u32,
    path: PathBuf,
    folder: PathBuf,
    /// The socket in its place: another one may have taken that since.
    inode: Option<(u64, u64)>,
}

impl SocketFile {
    /// Makes sure of the place, for a socket of this mode. Nobody can call there before it is opened.
    ///
    /// # Errors
    /// When another gateway answers there, or the socket cannot be made.
    pub(super) fn take(path: &Path, mode: u32) -> io::Result<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(data) if data.file_type().is_socket() => {
                if UnixStream::connect(path).is_ok() {
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, "another gateway answers there"));
                }
            }
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else is there")),
            Err(_) => {}
        }
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let folder = PathBuf::from(name);
        let make = || std::fs::DirBuilder::new().mode(0o700).create(&folder);
        make().or_else(|error| match error.kind() {
            // A process of this number died over it.
            io::ErrorKind::AlreadyExists => {
                clear(&folder);
                make()
            }
            _ => Err(error),
        })?;
        let mut place = Self { listener: None, owner: 0, path: path.to_owned(), folder, inode: None };
        let inner = place.folder.join(INNER);
        let listener = UnixListener::bind(&inner)?;
        listener.set_nonblocking(true)?;
        place.listener = Some(listener);
        std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(mode))?;
        place.owner = std::fs::metadata(&inner)?.uid();
        Ok(place)
    }

    /// Moves it to its place, so that it is never open to others, and what a process that died has left there is replaced.
    pub(super) fn open(&mut self) -> io::Result<UnixListener> {
        let listener = self.listener.take().ok_or(io::ErrorKind::NotConnected)?;
        let inner = self.folder.join(INNER);
        let inode = inode(&inner)?;
        std::fs::rename(&inner, &self.path)?;
        self.inode = Some(inode);
        clear(&self.folder);
        Ok(listener)
    }

    /// Takes it away, if it is still the one that was made.
    pub(super) fn remove(&self) {
        let Some(ours) = self.inode else { return clear(&self.folder) };
        match inode(&self.path) {
            Ok(here) if here == ours => {
                if let Err(error) = std::fs::remove_file(&self.path) {
                    tracing::debug!(path = %self.path.display(), %error, "a socket cannot be removed");
                }
            }
            _ => tracing::debug!(path = %self.path.display(), "a socket was gone already"),
        }
    }

    /// Where it is, or will be.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The user that owns it: ourselves.
    pub(super) const fn owner(&self) -> u32 {
        self.owner
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Best effort: the folder is ours, and empty but for the socket.
fn clear(folder: &Path) {
    let _left = std::fs::remove_file(folder.join(INNER));
    let _left = std::fs::remove_dir(folder);
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|data| (data.dev(), data.ino()))
}

/// Whether a socket can be made at this path by its looks: what is wrong with it, and what to do.
pub(super) fn unfit(path: &Path) -> Option<(String, &'static str)> {
    let length = path.as_os_str().len();
    // The socket is made under a longer name than it has later.
    let most = LONGEST - format!(".{}/{INNER}", std::process::id()).len();
    if length > most {
        let message = format!("the path of this socket has {length} octets, and {most} are the most");
        return Some((message, SHORTER));
    }
    let other = std::fs::symlink_metadata(path).is_ok_and(|data| !data.file_type().is_socket());
    other.then(|| ("something that is no socket is there".to_owned(), "remove it, or write another path"))
}

/// What to do where no socket could be made for this key.
pub(super) fn remedy(error: &io::Error, key: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("end that one, or give this one a socket of its own (`{key}`)"),
        io::ErrorKind::InvalidInput => SHORTER.to_owned(),
        io::ErrorKind::AlreadyExists => format!("remove it, or write another path (`{key}`)"),
        _ => "let the gateway's user write in its folder".to_owned(),
    }
}

/// The name of a socket that is not open yet.
const INNER: &str = "s";

/// What the kernel takes, in octets.
const LONGEST: usize = 107;

const SHORTER: &str = "write a shorter path";
