//! Ends what the tests started and removes what they left, however this process ends: a static is
//! never dropped, and nobody cleans up after a kill -9.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{LazyLock, Mutex};

/// Its input ends when this process does. A process is ended only if it still runs the program that
/// it was started with: numbers are used again.
const SCRIPT: &str = r#"
started= mounted=
while read -r what first rest; do
    case $what in
        remove) set -- "$@" "$first${rest:+ $rest}" ;;
        unmount) mounted="$mounted $first" ;;
        *) started="$started $what:$first:$rest" ;;
    esac
done
for entry in $started; do
    signal=${entry%%:*} pid=${entry#*:} program=${entry##*:}
    pid=${pid%%:*}
    [ "$(readlink "/proc/$pid/exe")" = "$program" ] && kill "-$signal" "$pid"
    # Not kill -0: a zombie that nobody has reaped is gone enough.
    while [ "$(readlink "/proc/$pid/exe")" = "$program" ]; do sleep 0.1; done
done
for folder in $mounted; do umount "$folder"; done
rm -rf "$@"
"#;

static INPUT: LazyLock<Mutex<ChildStdin>> = LazyLock::new(|| Mutex::new(start()));

#[expect(clippy::zombie_processes, reason = "it outlives this process: that is its purpose")]
fn start() -> ChildStdin {
    let child = Command::new("/bin/sh")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A Ctrl-C at the terminal is for the tests.
        .process_group(0)
        .spawn()
        .expect("the watchdog");
    child.stdin.expect("the watchdog's input")
}

fn tell(line: &str) {
    writeln!(INPUT.lock().expect("the watchdog's input"), "{line}").expect("tell the watchdog");
}

/// Has a child killed with this process, should the test not come to it.
pub fn kill_with_us(pid: u32, program: &Path) {
    tell(&format!("KILL {pid} {}", program.display()));
}

/// Has a Postgres server ended with this process; gently enough that it frees its shared memory.
pub fn quit_with_us(postmaster: i32) {
    if let Ok(program) = std::fs::read_link(format!("/proc/{postmaster}/exe")) {
        tell(&format!("QUIT {postmaster} {}", program.display()));
    }
}

/// Has a file system unmounted after this process.
pub fn unmount_after_us(folder: &Path) {
    tell(&format!("unmount {}", folder.display()));
}

/// Has a folder removed after this process.
pub fn remove_after_us(folder: &Path) {
    tell(&format!("remove {}", folder.display()));
}
