//! Files that are there as a whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use fedner_shared::crash;

/// Writes a file that only its owner may read.
pub fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    write_with(path, contents, 0o600)
}

/// Makes a directory that only its owner may enter.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    set_mode(path, 0o700)
}

/// Makes a rename or a new name in `directory` durable.
pub fn sync_dir(directory: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn write_with(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    // The parent of a bare file name is the empty path, which cannot be opened.
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let directory = parent.unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = directory.join(name);
    let mut file = create(&temporary, mode)?;
    file.write_all(contents)?;
    file.sync_all()?;
    crash::point("before rename", "file");
    fs::rename(&temporary, path)?;
    sync_dir(directory)
}

#[cfg(unix)]
fn create(path: &Path, mode: u32) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    // The mode above does nothing to a file that was left behind.
    set_mode(path, mode)?;
    Ok(file)
}

#[cfg(not(unix))]
fn create(path: &Path, _mode: u32) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
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

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn secrets_are_for_their_owner_only_even_over_an_old_file() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("key");
        fs::write(&path, "old").expect("old file");
        write(&path, b"secret").expect("written");
        let mode = fs::metadata(&path).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read(&path).expect("file"), b"secret");
    }
}
