//! A machine whose clock jumps, whose disk fails and whose power goes out when told to.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use fedner_host::machine::Machine;
use fedner_shared::time::Time;

/// Writes at one instant of a machine that does nothing else any more.
const WITHOUT_END: u32 = 5000;

/// Transactions of a client that write what it has said of its masks.
const SAID: [&str; 2] = ["save secure attempt", "release update"];

/// When every simulation begins.
pub(crate) const EPOCH: Time = Time::from_millis(1_767_225_600_000);

/// One simulated machine. It outlives the programs that run on it.
#[derive(Debug)]
pub(crate) struct SimMachine {
    /// By how many milliseconds its clock is ahead of the simulation's.
    ahead: AtomicI64,
    powered: AtomicBool,
    /// When in the simulation it was suspended, and who waits for it to go on.
    asleep: Mutex<Option<(Duration, Vec<Waker>)>>,
    starts: AtomicU64,
    seed: u64,
    disk: Mutex<Disk>,
    /// What was said under masks was written since somebody looked.
    said: AtomicBool,
}

#[derive(Debug, Default)]
struct Disk {
    /// The instant of the newest write, and how many there were at it.
    busy: (Duration, u32),
    /// How many of the next writes fail for want of room.
    full_for: u32,
    outage: Option<Outage>,
    /// Failed writes and outages that happened, by the write they hit.
    happened: BTreeMap<String, u64>,
}

/// The power goes out at a write.
#[derive(Debug, Clone, Copy)]
struct Outage {
    /// Writes until then.
    left: u32,
    side: Side,
}

/// Where in a write a machine stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Nothing of the write is there afterwards.
    Before,
    /// The write is durable, and nobody has heard of it.
    After,
}

impl SimMachine {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            ahead: AtomicI64::new(0),
            powered: AtomicBool::new(true),
            asleep: Mutex::default(),
            starts: AtomicU64::new(0),
            seed,
            disk: Mutex::default(),
            said: AtomicBool::new(false),
        }
    }

    /// Its clock when the simulation has run for `elapsed`.
    pub(crate) fn at(&self, elapsed: Duration) -> Time {
        let elapsed = self.sleep().as_ref().map_or(elapsed, |(since, _)| *since);
        let passed = elapsed.as_millis() as i64 + self.ahead.load(Ordering::Relaxed);
        Time::from_millis(EPOCH.as_millis() + passed)
    }

    pub(crate) fn set_clock(&self, by_seconds: i64) {
        self.ahead.fetch_add(by_seconds * 1000, Ordering::Relaxed);
    }

    /// By how many seconds its clock is ahead.
    pub(crate) fn ahead(&self) -> i64 {
        self.ahead.load(Ordering::Relaxed) / 1000
    }

    /// Its clock stands still, and nothing goes in or out, until it is woken.
    pub(crate) fn suspend(&self, elapsed: Duration) {
        self.sleep().get_or_insert((elapsed, Vec::new()));
    }

    pub(crate) fn wake(&self) {
        let (_, waiting) = self.sleep().take().unwrap_or_default();
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether it is suspended; whoever asks is woken with it.
    pub(crate) fn is_asleep(&self, waker: &Waker) -> bool {
        let mut asleep = self.sleep();
        let waiting = asleep
            .as_mut()
            .map(|(_, waiting)| waiting.push(waker.clone()));
        waiting.is_some()
    }

    fn sleep(&self) -> MutexGuard<'_, Option<(Duration, Vec<Waker>)>> {
        self.asleep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn start(&self) {
        self.starts.fetch_add(1, Ordering::Relaxed);
        self.powered.store(true, Ordering::Relaxed);
        self.disk().outage = None;
    }

    pub(crate) fn is_powered(&self) -> bool {
        self.powered.load(Ordering::Relaxed)
    }

    pub(crate) fn fill_disk(&self, writes: u32) {
        self.disk().full_for = writes;
    }

    pub(crate) fn stop_at_write(&self, left: u32, side: Side) {
        self.disk().outage = Some(Outage { left, side });
    }

    /// The disk has room again, and the power is safe.
    pub(crate) fn mend(&self) {
        let mut disk = self.disk();
        disk.full_for = 0;
        disk.outage = None;
    }

    pub(crate) fn happened(&self) -> BTreeMap<String, u64> {
        self.disk().happened.clone()
    }

    /// Whether what its institution said in secure aggregations was written since the last call.
    pub(crate) fn has_said(&self) -> bool {
        self.said.swap(false, Ordering::Relaxed)
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self, disk: &mut Disk, what: &str) -> io::Error {
        self.powered.store(false, Ordering::Relaxed);
        disk.outage = None;
        disk.count("stopped", what);
        dark()
    }
}

impl Disk {
    /// Time stands still while a machine works: one that never waits would hold it for ever.
    fn note(&mut self, instant: Duration) {
        if self.busy.0 != instant {
            self.busy = (instant, 0);
        }
        self.busy.1 += 1;
        assert!(self.busy.1 < WITHOUT_END, "a machine writes without end");
    }

    fn count(&mut self, how: &str, what: &str) {
        *self.happened.entry(format!("{how} {what}")).or_default() += 1;
    }
}

fn dark() -> io::Error {
    io::Error::other("the power is out")
}

impl Machine for SimMachine {
    fn now(&self) -> Time {
        self.at(turmoil::sim_elapsed().unwrap_or_default())
    }

    fn seed(&self) -> Result<u64, getrandom::Error> {
        Ok(self.seed ^ self.starts.load(Ordering::Relaxed))
    }

    fn before_write(&self, what: &'static str) -> io::Result<()> {
        if !self.is_powered() {
            return Err(dark());
        }
        let mut disk = self.disk();
        disk.note(turmoil::sim_elapsed().unwrap_or_default());
        if disk.full_for > 0 {
            disk.full_for -= 1;
            disk.count("disk full at", what);
            return Err(io::ErrorKind::StorageFull.into());
        }
        if matches!(
            disk.outage,
            Some(Outage {
                left: 0,
                side: Side::Before
            })
        ) {
            return Err(self.cut(&mut disk, &format!("before {what}")));
        }
        Ok(())
    }

    fn before_sync(&self) -> io::Result<()> {
        if self.is_powered() {
            Ok(())
        } else {
            Err(dark())
        }
    }

    fn after_write(&self, what: &'static str) -> io::Result<()> {
        if SAID.contains(&what) {
            self.said.store(true, Ordering::Relaxed);
        }
        let mut disk = self.disk();
        let Some(outage) = disk.outage.as_mut() else {
            return Ok(());
        };
        if outage.left > 0 {
            outage.left -= 1;
            return Ok(());
        }
        Err(self.cut(&mut disk, &format!("after {what}")))
    }
}
