//! The files that settings are read from, each bounded: the settings file, and those that hold secrets.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{Problem, SettingsArgs, table};

/// Looked for in the current directory where no other file is named.
const DEFAULT_CONFIG_FILE: &str = "watchpost.toml";
/// Settings files and files of secrets are small; whatever is longer was named by mistake.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// The settings file that was named, or the default one where it exists.
pub(super) fn settings_file(
    flags: &SettingsArgs,
    environment: &[(OsString, OsString)],
    problems: &mut Vec<Problem>,
) -> Option<(PathBuf, String)> {
    let variable = table::variable(table::CONFIG_FILE_KEY);
    let from_environment = || {
        let (_, path) =
            environment.iter().find(|(name, path)| name == variable.as_str() && !path.is_empty())?;
        Some(PathBuf::from(path))
    };
    let named = flags.config_file.clone().or_else(from_environment);
    let path = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG_FILE));
    match read_bounded(&path) {
        Ok(text) => Some((path, text)),
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            problems.push(Problem::File { path, reason: error.to_string() });
            None
        }
    }
}

pub(super) fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes <= FILE_BYTES_MAX) {
        Ok(text)
    } else {
        Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {FILE_BYTES_MAX} bytes")))
    }
}
