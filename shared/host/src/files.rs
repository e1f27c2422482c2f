//! Files that nobody but their owner reads: keys, ledgers, what stands in the database.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fedner_shared::refusal::{Code, Refusal};

use crate::crash;

/// What others on the machine may do with a file or directory, as bits of its mode.
const OTHERS: u32 = 0o077;

/// Whatever the process makes from here on is for its owner alone, from the first moment.
pub fn keep_to_owner() {
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::from_bits_truncate(OTHERS));
}

/// Takes from others what they may do with a directory of ours and with the files in it that have these
/// names, those in folders included; what was changed. An older version of the program left it open.
pub fn tighten(directory: &Path, names: &[&str]) -> io::Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    if !directory.exists() {
        return Ok(changed);
    }
    close(directory, &mut changed)?;
    for name in names {
        let path = directory.join(name);
        // A link leads elsewhere; what is there is not ours to change.
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        if metadata.is_symlink() {
            continue;
        }
        close(&path, &mut changed)?;
    }
    Ok(changed)
}

/// That nobody but its owner may read or write the file of a secret. One that others could read is no
/// secret any more: it is not enough to close it now.
pub fn check_secret(path: &Path) -> Result<(), Refusal> {
    match mode_of(path) {
        Ok(mode) if mode & OTHERS != 0 => {
            let message = format!(
                "{} has the mode {:04o}: expected 0600, for its owner alone",
                path.display(),
                mode & 0o7777
            );
            Err(Refusal::new(Code::SecretReadable, message))
        }
        // Whoever reads it will say what is wrong.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Writes a file for its owner alone: it is there as a whole or not at all.
pub fn write_secret(path: &Path, contents: &[u8]) -> io::Result<()> {
    // The parent of a bare file name is the empty path, which cannot be opened.
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    let directory = parent.unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = directory.join(name);
    let mut file = create(&temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    crash::point("before rename", "file");
    fs::rename(&temporary, path)?;
    sync_dir(directory)
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

/// Makes a rename or a new name in `directory` durable.
pub fn sync_dir(directory: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

#[cfg(unix)]
fn create(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    // The mode above does nothing to a file that was left behind.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

#[cfg(not(unix))]
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
}

/// Gives what was made in `directory` under these names to whom the directory belongs: an administrator who
/// looked at it leaves nothing behind that its owner cannot use. Only an administrator can, and needs to.
#[cfg(unix)]
pub fn keep_owner(directory: &Path, names: &[&str]) {
    use std::os::unix::fs::MetadataExt;
    let Ok(owner) = directory.metadata() else {
        return;
    };
    if rustix::process::geteuid().as_raw() == owner.uid() {
        return;
    }
    for name in names {
        give(&directory.join(name), owner.uid(), owner.gid());
    }
}

#[cfg(unix)]
fn give(path: &Path, user: u32, group: u32) {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = path.symlink_metadata() else {
        return;
    };
    if metadata.is_symlink() {
        return;
    }
    if metadata.uid() != user {
        // Who may not do this has made nothing here that is another's.
        let _ = std::os::unix::fs::lchown(path, Some(user), Some(group));
    }
    if metadata.is_dir()
        && let Ok(entries) = std::fs::read_dir(path)
    {
        for entry in entries.flatten() {
            give(&entry.path(), user, group);
        }
    }
}

#[cfg(not(unix))]
pub fn keep_owner(_directory: &Path, _names: &[&str]) {}

/// Whose a file is, where it is not the user's who runs this program.
#[cfg(unix)]
pub fn another_owner(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let ours = rustix::process::geteuid().as_raw();
    let theirs = path.metadata().ok()?.uid();
    (theirs != ours).then(|| {
        format!(
            "{} belongs to the user {theirs}, and this program runs as the user {ours}",
            path.display()
        )
    })
}

#[cfg(not(unix))]
pub fn another_owner(_path: &Path) -> Option<String> {
    None
}

#[cfg(unix)]
fn mode_of(path: &Path) -> io::Result<u32> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(path)?.permissions().mode())
}

#[cfg(not(unix))]
fn mode_of(_path: &Path) -> io::Result<u32> {
    Ok(0)
}

#[cfg(unix)]
fn close(path: &Path, changed: &mut Vec<PathBuf>) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = mode_of(path)?;
    if mode & OTHERS == 0 {
        return Ok(());
    }
    let closed = fs::Permissions::from_mode(mode & 0o700);
    fs::set_permissions(path, closed)?;
    changed.push(path.to_owned());
    Ok(())
}

#[cfg(not(unix))]
fn close(_path: &Path, _changed: &mut Vec<PathBuf>) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
    }

    #[test]
    fn what_was_left_open_is_closed_and_links_are_left_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let elsewhere = tempfile::NamedTempFile::new().expect("file");
        set(elsewhere.path(), 0o644);
        set(folder.path(), 0o755);
        for name in ["state.sqlite", "notes.txt"] {
            fs::write(folder.path().join(name), "x").expect("written");
            set(&folder.path().join(name), 0o644);
        }
        symlink(elsewhere.path(), folder.path().join("linked")).expect("link");
        let names = ["state.sqlite", "linked", "absent"];
        let changed = tighten(folder.path(), &names).expect("closed");
        assert_eq!(changed.len(), 2);
        let mode = |path: &Path| mode_of(path).expect("mode") & 0o777;
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&folder.path().join("state.sqlite")), 0o600);
        assert_eq!(mode(&folder.path().join("notes.txt")), 0o644, "not ours");
        assert_eq!(mode(elsewhere.path()), 0o644);
        assert!(tighten(folder.path(), &names).expect("closed").is_empty());
    }

    #[test]
    fn a_secret_that_others_may_read_or_write_is_refused() {
        let file = tempfile::NamedTempFile::new().expect("file");
        for (mode, open) in [
            (0o600, false),
            (0o400, false),
            (0o640, true),
            (0o604, true),
            (0o620, true),
        ] {
            set(file.path(), mode);
            let checked = check_secret(file.path());
            assert_eq!(checked.is_err(), open, "{mode:o}");
            if let Err(refusal) = checked {
                assert_eq!(refusal.code, Code::SecretReadable);
                assert!(
                    refusal.message.contains(&format!("{mode:04o}")),
                    "{refusal}"
                );
            }
        }
        check_secret(Path::new("/nowhere/at/all")).expect("said elsewhere");
    }

    #[test]
    fn secrets_are_for_their_owner_only_even_over_an_old_file() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("key");
        fs::write(&path, "old").expect("old file");
        write_secret(&path, b"secret").expect("written");
        assert_eq!(mode_of(&path).expect("file") & 0o777, 0o600);
        assert_eq!(fs::read(&path).expect("file"), b"secret");
    }
}
