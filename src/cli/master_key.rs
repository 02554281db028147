//! The master key: from the settings, or in a file beside an embedded database, made on first start.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::server::BoxError;
use crate::{
    config::{Config, Database, MasterKey, Secret},
    entropy::Entropy,
    signing::Keys,
    store::Store,
};

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("WATCHPOST_MASTER_KEY is required with PostgreSQL: make one with `openssl rand -base64 32`")]
    Required,
    #[error("{path} does not hold a master key")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("there is no master key yet in {0}: start the server once, or set WATCHPOST_MASTER_KEY")]
    NotYet(PathBuf),
    #[error(
        "the store's master key is gone: restore {0} from a copy, or set WATCHPOST_MASTER_KEY to what it held"
    )]
    Lost(PathBuf),
    #[error(
        "WATCHPOST_MASTER_KEY, or its file, is not the key that this store was made with: its secrets would not open"
    )]
    Another,
    #[error(
        "the store is being sealed under a new master key: finish that with `watchpost keys rewrap` first"
    )]
    Rewrapping,
    #[error("{path} cannot be written")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The keys of a store: made where an embedded one is new, refused where they are not those it was made with.
pub async fn of_store(config: &Config, store: &Store, entropy: &dyn Entropy) -> Result<Keys, BoxError> {
    if store.is_rewrapping().await? {
        return Err(KeyError::Rewrapping.into());
    }
    let known = store.master_key_fingerprint().await?;
    let master = match load(config) {
        Err(KeyError::NotYet(path)) if known.is_some() => return Err(KeyError::Lost(path).into()),
        Err(KeyError::NotYet(path)) => make(&path, entropy)?,
        loaded => loaded?,
    };
    let keys = Keys::new(master.as_bytes(), config.jwt_secret.as_ref().map(Secret::reveal));
    if store.remember_master_key(keys.fingerprint.clone()).await? != keys.fingerprint {
        return Err(KeyError::Another.into());
    }
    Ok(keys)
}

/// The key, from the settings or from its file.
pub fn load(config: &Config) -> Result<MasterKey, KeyError> {
    if let Some(key) = &config.master_key {
        return Ok(key.clone());
    }
    let Database::Sqlite(database) = &config.database else { return Err(KeyError::Required) };
    let path = key_path(database);
    match std::fs::read_to_string(&path) {
        Ok(text) => MasterKey::from_base64(text.trim())
            .map_err(|error| KeyError::Unreadable { path, source: error.into() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(KeyError::NotYet(path)),
        Err(error) => Err(KeyError::Unreadable { path, source: error.into() }),
    }
}

fn make(path: &Path, entropy: &dyn Entropy) -> Result<MasterKey, KeyError> {
    let key = MasterKey::from_bytes(entropy.bytes());
    write(path, &key).map_err(|source| KeyError::Write { path: path.to_owned(), source })?;
    Ok(key)
}

/// Puts a new key in the place of the one beside an embedded database, and keeps that one beside it: returns where.
/// `None`: the key comes from the settings.
pub fn replace(config: &Config, new: &MasterKey) -> Result<Option<PathBuf>, KeyError> {
    let (None, Database::Sqlite(database)) = (&config.master_key, &config.database) else { return Ok(None) };
    let (path, old) = (key_path(database), beside(database, ".key.old"));
    let present = load(config)?;
    // Run again after it was done: the old key must not be lost under the new one.
    if present.as_bytes() == new.as_bytes() {
        return Ok(Some(old));
    }
    let next = beside(database, ".key.new");
    let failed = |path: &Path, source| KeyError::Write { path: path.to_owned(), source };
    for (path, key) in [(&old, &present), (&next, new)] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(path, error)),
            _ => write(path, key).map_err(|source| failed(path, source))?,
        }
    }
    // At every moment one of both is there.
    std::fs::rename(&next, &path)
        .and_then(|()| sync_folder(&path))
        .map_err(|source| failed(&path, source))?;
    Ok(Some(old))
}

fn write(path: &Path, key: &MasterKey) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{}", key.to_base64())?;
    file.sync_all()?;
    sync_folder(path)
}

/// A name has to survive a power loss as well as its content.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn key_path(database: &Path) -> PathBuf {
    beside(database, ".key")
}

fn beside(database: &Path, end: &str) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(end);
    PathBuf::from(path)
}
