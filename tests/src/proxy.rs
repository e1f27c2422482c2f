//! A network to break: a TCP proxy on loopback that can be slow, stand still, and be cut and mended.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// Bytes moved at a time: what a cut loses at most on its way.
const PIECE: usize = 16 * 1024;
/// How often it is looked whether a wire that stands still goes on.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Forwards connections to one address. It stops with the program.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    wire: Arc<Wire>,
}

#[derive(Debug, Default)]
struct Wire {
    broken: AtomicBool,
    /// Nothing moves, and no connection ends.
    still: AtomicBool,
    /// From the dialling side to the listening one.
    up: Lane,
    down: Lane,
    open: Mutex<Vec<Weak<Pair>>>,
    dialled: AtomicU64,
    /// Connections that are open now.
    live: AtomicU64,
    deserted: AtomicU64,
}

/// Both ends of one connection, which close together.
#[derive(Debug)]
struct Pair {
    near: TcpStream,
    far: TcpStream,
}

impl Pair {
    fn close(&self) {
        for stream in [&self.near, &self.far] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// One direction.
#[derive(Debug, Default)]
pub struct Lane {
    moved: AtomicU64,
    /// The wire breaks by itself once so many bytes have moved; 0: never.
    break_at: AtomicU64,
    /// Bytes a second; 0: no limit.
    speed: AtomicU64,
}

impl Lane {
    /// How many bytes have moved since the start.
    pub fn moved(&self) -> u64 {
        self.moved.load(Ordering::SeqCst)
    }

    /// Limits the speed of each connection, in bytes a second.
    pub fn slow_down(&self, speed: u64) {
        self.speed.store(speed, Ordering::SeqCst);
    }

    /// Breaks the wire once so many more bytes have moved.
    pub fn cut_after(&self, bytes: u64) {
        self.break_at.store(self.moved() + bytes, Ordering::SeqCst);
    }

    /// Notes bytes on their way; `false` where the wire breaks before them.
    fn carries(&self, count: usize) -> bool {
        let speed = self.speed.load(Ordering::SeqCst);
        if speed > 0 {
            thread::sleep(Duration::from_secs_f64(count as f64 / speed as f64));
        }
        let sum = self.moved.fetch_add(count as u64, Ordering::SeqCst) + count as u64;
        let limit = self.break_at.load(Ordering::SeqCst);
        limit == 0 || sum < limit
    }
}

impl Proxy {
    pub fn start(target: &str) -> Result<Self> {
        let target: SocketAddr = target.parse().context("read the target's address")?;
        let listener = TcpListener::bind("127.0.0.1:0").context("bind the proxy")?;
        let address = listener.local_addr()?;
        let wire = Arc::new(Wire::default());
        let accepting = Arc::clone(&wire);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A connection to a broken wire, or to nobody, is simply closed.
                let _ = accepting.connect(stream, target);
            }
        });
        Ok(Self { address, wire })
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From the dialling side to the listening one.
    pub fn up(&self) -> &Lane {
        &self.wire.up
    }

    pub fn down(&self) -> &Lane {
        &self.wire.down
    }

    /// How many connections were made since the start.
    pub fn dialled(&self) -> u64 {
        self.wire.dialled.load(Ordering::SeqCst)
    }

    /// How often the last open connection ended.
    pub fn deserted(&self) -> u64 {
        self.wire.deserted.load(Ordering::SeqCst)
    }

    /// Breaks every connection, now and until [`mend`](Self::mend).
    pub fn cut(&self) {
        self.wire.cut();
    }

    pub fn is_cut(&self) -> bool {
        self.wire.broken.load(Ordering::SeqCst)
    }

    /// Lets nothing pass, now and until [`mend`](Self::mend), as a network that loses everything: what was under way
    /// waits, and neither end learns of it.
    pub fn stall(&self) {
        self.wire.still.store(true, Ordering::SeqCst);
    }

    /// Everything passes again, as slowly as before.
    pub fn mend(&self) {
        for lane in [self.up(), self.down()] {
            lane.break_at.store(0, Ordering::SeqCst);
        }
        self.wire.still.store(false, Ordering::SeqCst);
        self.wire.broken.store(false, Ordering::SeqCst);
    }
}

impl Wire {
    fn cut(&self) {
        self.broken.store(true, Ordering::SeqCst);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for pair in open.drain(..).filter_map(|pair| pair.upgrade()) {
            pair.close();
        }
    }

    fn connect(self: &Arc<Self>, near: TcpStream, target: SocketAddr) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Ok(());
        }
        let far = TcpStream::connect(target)?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let pair = Arc::new(Pair { near, far });
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|pair| pair.strong_count() > 0);
        open.push(Arc::downgrade(&pair));
        drop(open);
        self.dialled.fetch_add(1, Ordering::SeqCst);
        self.live.fetch_add(1, Ordering::SeqCst);
        for up in [true, false] {
            let (wire, pair) = (Arc::clone(self), Arc::clone(&pair));
            thread::spawn(move || {
                // However one direction ends, the other one does too.
                let _ = wire.forward(&pair, up);
                pair.close();
                // Counted once of both directions.
                if up && wire.live.fetch_sub(1, Ordering::SeqCst) == 1 {
                    wire.deserted.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Ok(())
    }

    fn forward(&self, pair: &Pair, up: bool) -> io::Result<()> {
        let (mut from, mut to, lane) = if up {
            (&pair.near, &pair.far, &self.up)
        } else {
            (&pair.far, &pair.near, &self.down)
        };
        let mut buffer = vec![0; PIECE];
        loop {
            let count = from.read(&mut buffer)?;
            while self.still.load(Ordering::SeqCst) && !self.broken.load(Ordering::SeqCst) {
                thread::sleep(LOOK_EVERY);
            }
            if count > 0 && !lane.carries(count) {
                self.cut();
            }
            if count == 0 || self.broken.load(Ordering::SeqCst) {
                return Ok(());
            }
            to.write_all(&buffer[..count])?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_wire_breaks_what_is_open_and_a_mended_one_works_again() -> Result<()> {
        let echo = TcpListener::bind("127.0.0.1:0")?;
        let target = echo.local_addr()?.to_string();
        thread::spawn(move || {
            for mut stream in echo.incoming().flatten() {
                let mut all = [0; 3];
                while stream.read_exact(&mut all).is_ok() && stream.write_all(&all).is_ok() {}
            }
        });
        let proxy = Proxy::start(&target)?;
        let ask = || -> io::Result<[u8; 3]> {
            let mut stream = TcpStream::connect(proxy.address)?;
            stream.write_all(b"abc")?;
            let mut answer = [0; 3];
            stream.read_exact(&mut answer)?;
            Ok(answer)
        };
        assert_eq!(&ask()?, b"abc");
        proxy.up().cut_after(2);
        assert!(ask().is_err());
        assert!(proxy.is_cut());
        assert!(ask().is_err());
        proxy.mend();
        assert_eq!(&ask()?, b"abc");
        assert_eq!(proxy.up().moved(), 9);
        // One that stands still loses nothing.
        proxy.stall();
        thread::scope(|scope| {
            let asked = scope.spawn(ask);
            thread::sleep(Duration::from_millis(100));
            assert_eq!(proxy.up().moved(), 9);
            assert!(!asked.is_finished());
            proxy.mend();
            assert_eq!(&asked.join().expect("no panic")?, b"abc");
            Ok::<_, anyhow::Error>(())
        })?;
        assert_eq!(proxy.up().moved(), 12);
        Ok(())
    }
}
