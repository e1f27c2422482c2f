//! What a daemon is asked by signals.

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM or ctrl-c. From its making on, neither ends the program by itself.
#[cfg(unix)]
#[derive(Debug)]
pub struct Terminate(Signal);

#[cfg(unix)]
impl Terminate {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self(signal(SignalKind::terminate())?))
    }

    pub async fn received(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
}

#[cfg(not(unix))]
#[derive(Debug)]
pub struct Terminate;

#[cfg(not(unix))]
impl Terminate {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    pub async fn received(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// Calls `told` at each reload, or end of the terminal, instead of ending the program.
#[cfg(unix)]
pub async fn hangups(mut told: impl FnMut()) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return;
    };
    while hangup.recv().await.is_some() {
        told();
    }
}

#[cfg(not(unix))]
pub async fn hangups(_told: impl FnMut()) {}
