//! How much memory a program may still take.

use std::fs;
use std::path::Path;

/// Bytes that are free on this machine, and in the control group that a service or a container is held to;
/// nothing where the platform does not say.
pub fn available() -> Option<u64> {
    least("MemAvailable:", |most, taken| most.saturating_sub(taken))
}

/// Bytes that this machine has, or that the control group may take; nothing where the platform does not say.
pub fn whole() -> Option<u64> {
    least("MemTotal:", |most, _| most)
}

/// The machine's figure of that name, or what the control group leaves, whichever is less.
fn least(name: &str, left: impl Fn(u64, u64) -> u64) -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| of_meminfo(&text, name));
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.and_then(|text| of_groups(Path::new("/sys/fs/cgroup"), &text, left));
    match (machine, group) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (one, other) => one.or(other),
    }
}

fn of_meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The least that the group (version 2) and those above it leave, of what they may take and have taken; nothing
/// where none of them has a limit.
fn of_groups(root: &Path, text: &str, left: impl Fn(u64, u64) -> u64) -> Option<u64> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let number = |folder: &Path, file: &str| -> Option<u64> {
        fs::read_to_string(folder.join(file))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let whole = root.join(path.trim());
    let groups = whole.ancestors().take_while(|path| path.starts_with(root));
    let of_each = groups.filter_map(|folder| {
        let most = number(folder, "memory.max")?;
        let taken = number(folder, "memory.current").unwrap_or_default();
        Some(left(most, taken))
    });
    of_each.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_of_the_limits_counts() {
        let text = "MemTotal:       100 kB\nMemAvailable:    50 kB\n";
        assert_eq!(of_meminfo(text, "MemAvailable:"), Some(50 * 1024));
        assert_eq!(of_meminfo(text, "MemTotal:"), Some(100 * 1024));
        assert_eq!(of_meminfo("MemFree: 50 kB\n", "MemAvailable:"), None);
        let root = tempfile::tempdir().expect("folder");
        let inner = root.path().join("system.slice/fedner.service");
        fs::create_dir_all(&inner).expect("groups");
        let write = |folder: &Path, most: &str, taken: &str| {
            fs::write(folder.join("memory.max"), most).expect("written");
            fs::write(folder.join("memory.current"), taken).expect("written");
        };
        let of = |text: &str| of_groups(root.path(), text, u64::saturating_sub);
        let service = "0::/system.slice/fedner.service\n";
        assert_eq!(of(service), None, "no limits");
        write(&inner, "max\n", "7\n");
        assert_eq!(of(service), None, "no limit");
        write(&inner, "1000\n", "300\n");
        assert_eq!(of(service), Some(700));
        write(&root.path().join("system.slice"), "900\n", "899\n");
        assert_eq!(of(service), Some(1), "of the slice");
        assert_eq!(of_groups(root.path(), service, |most, _| most), Some(900));
        assert_eq!(of("4:memory:/docker/1\n"), None, "the first version");
    }
}
