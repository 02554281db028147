//! Files that only one process may hold: the embedded store's lock, which also tells the running server's
//! address, and a node's identity on a shared database.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

/// Nodes of one database on one machine, at most.
const NODES_MAX: u32 = 16;

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another watchpost uses this store{}", .0.as_deref().map(|at| format!(" (listening on {at})")).unwrap_or_default())]
    Held(Option<String>),
    #[error("{NODES_MAX} nodes of this database run on this machine already")]
    TooManyNodes,
    #[error("{path} cannot be locked")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// An exclusive lock that ends with the process, however it ends.
#[derive(Debug)]
pub struct StoreLock {
    file: File,
    path: PathBuf,
}

impl StoreLock {
    /// Locks the embedded store at `database`, in `<database>.lock`.
    pub fn take(database: &Path) -> Result<Self, LockError> {
        let path = lock_path(database);
        let mut lock = Self::try_take(&path)?.ok_or_else(|| LockError::Held(read_address(&path)))?;
        // The address of a server that is gone must not be taken for this one's.
        lock.write_address("")?;
        Ok(lock)
    }

    /// Takes the first free identity of this machine for the database named by `key`, in `folder`. Whoever gets
    /// a lock is the node that had it before, so it may retake that node's lease at once.
    pub fn take_identity(folder: &Path, key: &str) -> Result<(Self, String), LockError> {
        let failed = |source| LockError::Io { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        for slot in 0..NODES_MAX {
            let path = folder.join(format!("{key}.{slot}.node"));
            if let Some(mut lock) = Self::try_take(&path)? {
                let node = lock.node_name().map_err(failed)?;
                return Ok((lock, node));
            }
        }
        Err(LockError::TooManyNodes)
    }

    /// Writes the server's address where commands beside it look for it.
    pub fn write_address(&mut self, address: &str) -> Result<(), LockError> {
        self.rewrite(address).map_err(|source| LockError::Io { path: self.path.clone(), source })
    }

    fn try_take(path: &Path) -> Result<Option<Self>, LockError> {
        let failed = |source| LockError::Io { path: path.to_owned(), source };
        let file = private_file(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file, path: path.to_owned() })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// The name in the file, made up once from the file's own place and time of birth.
    fn node_name(&mut self) -> io::Result<String> {
        let mut name = String::new();
        self.file.read_to_string(&mut name)?;
        if name.is_empty() {
            let born =
                self.file.metadata()?.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            name = format!("{}:{}:{}", host.trim(), self.path.display(), born.as_nanos());
            self.rewrite(&name)?;
        }
        Ok(name)
    }

    fn rewrite(&mut self, text: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(text.as_bytes())?;
        self.file.sync_all()
    }
}

/// The address of the server that holds the store at `database`, if one does.
pub fn running_server(database: &Path) -> Option<String> {
    let path = lock_path(database);
    let file = File::open(&path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => read_address(&path),
        _ => None,
    }
}

fn lock_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    PathBuf::from(path)
}

fn read_address(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().filter(|address| !address.is_empty())
}

/// Opens or makes a file that only its owner may read.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_has_one_holder_whose_address_is_told() {
        let folder = std::env::temp_dir().join(format!("watchpost-lock-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let database = folder.join("a.db");
        assert_eq!(running_server(&database), None);
        let mut lock = StoreLock::take(&database).unwrap();
        lock.write_address("127.0.0.1:1").unwrap();
        assert!(matches!(StoreLock::take(&database), Err(LockError::Held(Some(at))) if at == "127.0.0.1:1"));
        assert_eq!(running_server(&database).as_deref(), Some("127.0.0.1:1"));
        drop(lock);
        assert_eq!(running_server(&database), None);

        let (first, name) = StoreLock::take_identity(&folder, "k").unwrap();
        let (_second, other) = StoreLock::take_identity(&folder, "k").unwrap();
        assert_ne!(name, other);
        drop(first);
        assert_eq!(StoreLock::take_identity(&folder, "k").unwrap().1, name, "the identity is inherited");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
