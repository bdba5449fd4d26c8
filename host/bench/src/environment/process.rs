//! What processes have used, as `/proc` tells it: Linux only, `None` elsewhere. Never starts or
//! ends one.

use std::fs;
use std::time::Duration;

/// The kernel's unit of processor time: 100 a second on every machine that Linux runs on today.
const TICK: Duration = Duration::from_millis(10);

/// The most memory that a process has had at once, in bytes.
#[must_use]
pub(crate) fn peak_rss_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

/// Processor time of a process so far, of all its threads.
#[must_use]
pub(crate) fn cpu(pid: u32) -> Option<Duration> {
    Some(Stat::of(pid)?.own)
}

/// Processor time of a server of many processes so far, those that have ended included.
#[must_use]
pub(crate) fn tree_cpu(root: u32) -> Option<Duration> {
    let mut total = {
        let root = Stat::of(root)?;
        root.own + root.ended
    };
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(child) = pid.and_then(Stat::of).filter(|stat| stat.parent == root) {
            total += child.own;
        }
    }
    Some(total)
}

/// The process that started one whose program has this name; so a number from another machine is
/// told from one of this.
#[must_use]
pub(crate) fn parent_of(pid: u32, program: &str) -> Option<u32> {
    let stat = Stat::of(pid)?;
    (stat.program == program).then_some(stat.parent)
}

struct Stat {
    program: String,
    parent: u32,
    own: Duration,
    ended: Duration,
}

impl Stat {
    /// See proc_pid_stat(5).
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (head, tail) = text.rsplit_once(')')?;
        let program = head.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let ticks = |n: usize| Some(TICK * fields.get(n)?.parse::<u32>().ok()?);
        let (own, ended) = (ticks(11)? + ticks(12)?, ticks(13)? + ticks(14)?);
        Some(Self { program, parent: fields.get(1)?.parse().ok()?, own, ended })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_has_a_parent() {
        let me = std::process::id();
        assert!(peak_rss_bytes(me).unwrap() > 1 << 20);
        let parent = Stat::of(me).unwrap().parent;
        assert_eq!(parent_of(me, "no such program"), None);
        assert!(tree_cpu(parent).unwrap() >= cpu(me).unwrap());
    }
}
