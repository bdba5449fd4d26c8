//! Attacks on the interface itself: what no honest toolchain would send.

use std::hint::black_box;
use std::mem::forget;
use std::ptr::null;
use std::time::Duration;

use wasip2::cli::stdout::get_stdout;
use wasip2::clocks::monotonic_clock::{subscribe_duration, subscribe_instant};
use wasip2::http::types::{Fields, Method, OutgoingRequest, OutgoingResponse, Scheme};
use wasip2::io::poll::{Pollable, poll};
use wasip2::random::{insecure, random};
use wasip2::sockets::network::{ErrorCode, IpAddressFamily};
use wasip2::sockets::{tcp_create_socket, udp_create_socket};

use crate::Command;
use crate::host::jobs::log;
use crate::host::jobs::types::{Failure, Verdict};

// The calls behind the bindings, as the canonical ABI flattens them: any numbers can be passed.
#[link(wasm_import_module = "host:jobs/queue@1.0.0")]
unsafe extern "C" {
    #[link_name = "enqueue"]
    fn raw_enqueue(
        queue: *const u8,
        queue_len: usize,
        payload: *const u8,
        payload_len: usize,
        headers: *const [usize; 4],
        headers_len: usize,
        delay_ms: u64,
        has_key: i32,
        key: *const u8,
        key_len: usize,
        has_priority: i32,
        priority: i32,
        has_unique_key: i32,
        unique_key: *const u8,
        unique_key_len: usize,
        result: *mut [u64; 4],
    );
}
#[link(wasm_import_module = "host:jobs/log@1.0.0")]
unsafe extern "C" {
    #[link_name = "write"]
    fn raw_write(level: i32, text: *const u8, text_len: usize);
}

/// What the command asks for, if it is an attack.
pub(crate) fn obey(command: &Command) -> Option<Verdict> {
    let n = command.n as usize;
    match command.r#do.as_str() {
        // n headers, all of them the same kilobyte: small here, n kilobytes in a host that copies
        // them.
        "alias" => alias(n),
        // A text that is not UTF-8; one that lies outside of the memory.
        "mojibake" => unsafe { raw_write(2, [0xff_u8, 0xfe].as_ptr(), 2) },
        "outside" => unsafe { raw_write(2, usize::MAX as *const u8, 1 << 20) },
        // Things of the host's that are never given back.
        "leak" => (0..n).for_each(|_| forget(subscribe_duration(u64::MAX))),
        // Keeps memory, and its sandbox.
        "hoard" => {
            let hoard = vec![1_u8; n];
            std::thread::sleep(Duration::from_millis(command.ms));
            black_box(hoard);
        }
        "random" => drop(random::get_random_bytes(command.n)),
        "insecure" => drop(insecure::get_insecure_random_bytes(command.n)),
        // The end of time.
        "forever" => subscribe_instant(u64::MAX).block(),
        // Waits for the same thing n times over, in one call.
        "poll" => {
            let timer = subscribe_duration(0);
            let list: Vec<&Pollable> = vec![&timer; n];
            black_box(poll(&list));
        }
        // Has its host keep texts of n bytes in `ms` requests that are never sent.
        "unsent" => return Some(unsent(command)),
        // Hands n line ends to stdout at once.
        "spill" => drop(get_stdout().write(&vec![b'\n'; n])),
        "sockets" => return Some(sockets(n)),
        // Calls the host from ever deeper.
        "dig" => {
            black_box(dig(black_box(0)));
        }
        "payload" => {
            let (text, queue) = ("x".repeat(n), command.queue.clone());
            return Some(crate::enqueue(&Command { text, queue, n: 1, ..Command::default() }));
        }
        "reason" => return Some(Verdict::DeadLetter(Failure { reason: "x".repeat(n) })),
        _ => return None,
    }
    Some(Verdict::Ack)
}

fn alias(n: usize) {
    let text = [b'x'; 1 << 10];
    let header = [text.as_ptr() as usize, text.len(), text.as_ptr() as usize, text.len()];
    let headers = vec![header; n];
    let mut result = [0; 4];
    let (queue, payload) = ("text", "x");
    unsafe {
        raw_enqueue(
            queue.as_ptr(),
            queue.len(),
            payload.as_ptr(),
            payload.len(),
            headers.as_ptr(),
            headers.len(),
            0,
            0,
            null(),
            0,
            0,
            0,
            0,
            null(),
            0,
            &raw mut result,
        );
    }
}

/// Dead-letters with which of the requests were refused which part. `text` says what is long, or
/// what is made.
fn unsent(command: &Command) -> Verdict {
    let long = "x".repeat(command.n as usize);
    let made = (0..command.ms).map(|_| match command.text.as_str() {
        "response" => {
            forget(OutgoingResponse::new(Fields::new()));
            true
        }
        "field" => {
            let fields = Fields::new();
            let kept = fields.set("x", &[long.clone().into_bytes()]).is_ok();
            forget(fields);
            kept
        }
        part => {
            let request = OutgoingRequest::new(Fields::new());
            let kept = match part {
                "method" => request.set_method(&Method::Other(long.clone())),
                "scheme" => request.set_scheme(Some(&Scheme::Other(long.clone()))),
                "authority" => request.set_authority(Some(&long)),
                _ => request.set_path_with_query(Some(&format!("/{}", &long[1..]))),
            };
            forget(request);
            kept.is_ok()
        }
    });
    let reason = format!("kept {}", made.filter(|kept| *kept).count());
    Verdict::DeadLetter(Failure { reason })
}

/// Dead-letters with how many of n sockets of each kind it was denied.
fn sockets(n: usize) -> Verdict {
    let family = IpAddressFamily::Ipv4;
    let is_denied = |error: &ErrorCode| *error == ErrorCode::AccessDenied;
    let tcp = (0..n)
        .filter(|_| tcp_create_socket::create_tcp_socket(family).is_err_and(|e| is_denied(&e)));
    let udp = (0..n)
        .filter(|_| udp_create_socket::create_udp_socket(family).is_err_and(|e| is_denied(&e)));
    let reason = format!("denied {} and {}", tcp.count(), udp.count());
    Verdict::DeadLetter(Failure { reason })
}

#[expect(unconditional_recursion, reason = "on command")]
fn dig(depth: u64) -> u64 {
    log::write(log::Level::Trace, "deeper");
    dig(black_box(depth + 1)) + depth
}
