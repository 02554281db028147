//! Where an embedded store may lie. SQLite's locks and its WAL need a file system of this machine: on a network
//! one they are not reliable, and a lost lock is a lost event.

use std::path::{Path, PathBuf};

/// Kinds that live elsewhere, as `/proc/self/mountinfo` names them.
const NETWORK: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "glusterfs",
    "fuse.sshfs",
    "fuse.glusterfs",
];

#[derive(Debug, thiserror::Error)]
#[error(
    "{path} lies on a network file system ({kind}), where SQLite can lose committed writes; WATCHPOST_NETWORK_FILE_SYSTEM=true insists"
)]
pub struct OnNetwork {
    path: PathBuf,
    kind: String,
}

/// Fails where `database` would lie on a network file system. A system without mount information is trusted.
pub fn refuse_network(database: &Path) -> Result<(), OnNetwork> {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return Ok(()) };
    // The file may not be there yet: its folder decides, with links followed.
    let absolute = std::path::absolute(database).unwrap_or_else(|_| database.to_owned());
    let place = absolute.ancestors().find_map(|part| part.canonicalize().ok()).unwrap_or(absolute);
    match kind_at(&mounts, &place) {
        Some(kind) if NETWORK.contains(&kind) => {
            Err(OnNetwork { path: database.to_owned(), kind: kind.to_owned() })
        }
        _ => Ok(()),
    }
}

/// The kind of the file system mounted nearest above `place`; of several at one point the last is on top.
fn kind_at<'m>(mounts: &'m str, place: &Path) -> Option<&'m str> {
    let mut nearest: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let (Some(point), Some(kind)) = (before.split(' ').nth(4), after.split(' ').next()) else { continue };
        let point = PathBuf::from(point.replace("\\040", " "));
        if place.starts_with(&point) && nearest.is_none_or(|(length, _)| point.as_os_str().len() >= length) {
            nearest = Some((point.as_os_str().len(), kind));
        }
    }
    nearest.map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_decides() {
        let mounts = "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                      30 21 0:40 / /srv/share rw shared:1 - nfs4 host:/x rw\n\
                      31 30 0:41 / /srv/share/local rw - xfs /dev/sdb rw\n\
                      32 21 0:42 / /mnt/my\\040disk rw - cifs //host/d rw\n";
        let kind = |place: &str| kind_at(mounts, Path::new(place));
        assert_eq!(kind("/var/lib/w.db"), Some("ext4"));
        assert_eq!(kind("/srv/share/w.db"), Some("nfs4"));
        assert_eq!(kind("/srv/shared/w.db"), Some("ext4"), "a name that only begins alike");
        assert_eq!(kind("/srv/share/local/w.db"), Some("xfs"));
        assert_eq!(kind("/mnt/my disk/w.db"), Some("cifs"));
        assert!(refuse_network(&std::env::temp_dir().join("w.db")).is_ok());
    }
}
