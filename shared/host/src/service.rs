//! What a service manager is told: systemd's notify protocol, where `NOTIFY_SOCKET` names a socket.

use std::time::Duration;

/// Something that a manager waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// What the service does can be asked for.
    Ready,
    /// It ends.
    Stopping,
    /// It is alive.
    Alive,
}

impl Word {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "READY=1",
            Self::Stopping => "STOPPING=1",
            Self::Alive => "WATCHDOG=1",
        }
    }
}

/// Tells the manager, where there is one. That it could not be told changes nothing.
pub fn notify(word: Word) {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET") {
        let _ = send(&socket, word);
    }
}

/// How often the manager wants to hear that the service is alive; nothing where it does not ask.
pub fn watchdog() -> Option<Duration> {
    let micros: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    // Half the time, as the manager's manual advises.
    (micros > 0).then(|| Duration::from_micros(micros / 2))
}

#[cfg(target_os = "linux")]
fn send(socket: &std::ffi::OsStr, word: Word) -> std::io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(word.as_str().as_bytes(), &address)?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn send(_socket: &std::ffi::OsStr, _word: Word) -> std::io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_manager_hears_each_word() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).expect("socket");
        for word in [Word::Ready, Word::Alive, Word::Stopping] {
            send(path.as_os_str(), word).expect("told");
            let mut heard = [0; 64];
            let length = manager.recv(&mut heard).expect("heard");
            assert_eq!(&heard[..length], word.as_str().as_bytes());
        }
        drop(manager);
        assert!(
            send(path.as_os_str(), Word::Ready).is_err(),
            "nobody listens"
        );
    }
}
