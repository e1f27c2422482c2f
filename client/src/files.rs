//! Files that are there as a whole or not at all.

use std::fs;
use std::io;
use std::path::Path;

pub use fedner_shared::private::sync_dir;
use fedner_shared::private::write_secret;

/// Writes a file that only its owner may read.
pub fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    write_secret(path, contents)
}

/// Makes a directory that only its owner may enter.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    set_mode(path, 0o700)
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn set_mode(_path: &Path, _mode: u32) -> io::Result<()> {
    Ok(())
}
