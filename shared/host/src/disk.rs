//! The disk under a directory: its free space, and whether it is one of another machine.

use std::io;
use std::path::Path;

/// Bytes that the directory may still take; nothing where the platform does not say.
#[cfg(unix)]
pub fn free_space(path: &Path) -> io::Result<Option<u64>> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(Some(disk.f_bavail.saturating_mul(disk.f_frsize)))
}

/// Bytes that the directory may still take; nothing where the platform does not say.
#[cfg(not(unix))]
pub fn free_space(_path: &Path) -> io::Result<Option<u64>> {
    Ok(None)
}

/// The network file system that the directory lies on, where it does and the platform says so.
#[cfg(target_os = "linux")]
pub fn network(path: &Path) -> Option<&'static str> {
    of_magic(rustix::fs::statfs(path).ok()?.f_type as u32)
}

/// The network file system that the directory lies on, where it does and the platform says so.
#[cfg(not(target_os = "linux"))]
pub fn network(_path: &Path) -> Option<&'static str> {
    None
}

/// Why a directory should not lie there.
pub fn warning(path: &Path) -> Option<String> {
    let kind = network(path)?;
    Some(format!(
        "{} lies on {kind}: the database's lock and its log do not hold there, and what is paid for may be \
         lost; move the directory to a local disk",
        path.display()
    ))
}

/// By the numbers of statfs(2).
#[cfg(any(target_os = "linux", test))]
fn of_magic(magic: u32) -> Option<&'static str> {
    match magic {
        0x6969 => Some("NFS"),
        0x517B => Some("SMB"),
        0xFF53_4D42 => Some("CIFS"),
        0xFE53_4D42 => Some("SMB2"),
        0x5346_414F => Some("AFS"),
        0x00C3_6400 => Some("Ceph"),
        0x0BD0_0BD0 => Some("Lustre"),
        0x7375_7245 => Some("Coda"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_other_machines_are_named_and_local_disks_are_not() {
        assert_eq!(of_magic(0x6969), Some("NFS"));
        assert_eq!(of_magic(0xFF53_4D42), Some("CIFS"));
        // ext4, tmpfs, overlay
        for local in [0xEF53, 0x0102_1994, 0x794C_7630] {
            assert_eq!(of_magic(local), None);
        }
        let folder = tempfile::tempdir().expect("folder");
        assert!(
            free_space(folder.path())
                .expect("known")
                .is_none_or(|free| free > 0)
        );
    }
}
