//! The master key: from the settings, or in a file beside an embedded database, made on first start.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{
    config::{Config, Database, MasterKey},
    entropy::Entropy,
};

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("WATCHPOST_MASTER_KEY is required with PostgreSQL")]
    Required,
    #[error("{path} does not hold a master key")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("there is no master key yet in {0}: start the server once, or set WATCHPOST_MASTER_KEY")]
    NotYet(PathBuf),
    #[error("{path} cannot be written")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The key; made if the embedded database has none.
pub fn load_or_make(config: &Config, entropy: &dyn Entropy) -> Result<MasterKey, KeyError> {
    match load(config) {
        Err(KeyError::NotYet(path)) => make(&path, entropy),
        loaded => loaded,
    }
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
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path)?;
        writeln!(file, "{}", key.to_base64())?;
        file.sync_all()?;
        // The name has to survive a power loss as well as the content.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    };
    write().map_err(|source| KeyError::Write { path: path.to_owned(), source })?;
    Ok(key)
}

fn key_path(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push(".key");
    PathBuf::from(path)
}
