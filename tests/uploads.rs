//! Files that people and attackers upload instead of handlers. Each is a handler, or is refused
//! with what is wrong and what to do. Nobody waits for a compiler without end.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host_sandbox::{Bounds, Checked, CompileCheck, Terms};

use crate::harness::{TestDb, plugin};
use crate::sandbox::{ACKS, handler_of, handler_text};
use crate::tampered::compiled;

fn compile_check(bounds: Bounds) -> CompileCheck {
    CompileCheck::new(PathBuf::from(env!("CARGO_BIN_EXE_host")), bounds)
}

async fn tried(wasm: &[u8], bounds: Bounds) -> Result<Checked, String> {
    let terms = Terms { memory_bytes: 64 << 20, http: vec![], cache_dir: None };
    compile_check(bounds).run(wasm, &terms).await.map_err(|refusal| refusal.to_string())
}

/// Through the command, from the file: nothing of one that is too large is read.
#[tokio::test]
async fn files_that_are_no_handlers_are_refused_by_name() {
    let db = TestDb::new().await;
    db.host(&["queue", "create", "emails"]).await.ok();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let write = |name: &str, bytes: &[u8]| std::fs::write(file(name), bytes).unwrap();
    write("empty", b"");
    write("echo.cwasm", &compiled(&std::fs::read(plugin("echo")).unwrap()));
    // A few bytes that would be gigabytes, for one who unpacks them.
    write("bomb.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03");
    write("bomb.zst", b"\x28\xb5\x2f\xfd\xa4");
    write("bomb.zip", b"PK\x03\x04");
    // No byte of it is on disk.
    File::create(file("sparse")).unwrap().set_len(200 << 20).unwrap();
    File::create(file("largest")).unwrap().set_len(64 << 20).unwrap();
    let not = "this is not a WebAssembly component but";
    for (path, said) in [
        (file("empty"), format!("{not} an empty file")),
        (file("echo.cwasm"), format!("{not} code that was compiled already (.cwasm)")),
        (file("bomb.gz"), format!("{not} a gzip archive")),
        (file("bomb.zst"), format!("{not} a zstd archive")),
        (file("bomb.zip"), format!("{not} a zip archive")),
        (file("sparse"), "has 200.0 MiB or more and at most 64.0 MiB are accepted".into()),
        (file("largest"), format!("{not} text")),
        (Path::new("/dev/zero").into(), "has 64.0 MiB or more and at most".into()),
    ] {
        let path = path.display().to_string();
        let error = db.host(&["deploy", "--queue", "emails", &path]).await.error(1);
        assert!(error.starts_with(&path) && error.contains(&said), "{error}");
    }
    let path = folder.path().display().to_string();
    let error = db.host(&["deploy", "--queue", "emails", &path]).await.error(2);
    assert!(error.starts_with(&format!("cannot read {path}: ")), "{error}");
}

/// Each is more of something than any honest toolchain makes. Whatever comes of it, it is said.
#[tokio::test]
async fn components_of_monstrous_shapes_are_refused_or_handlers() {
    let memory = r#"(memory (export "memory") 1)"#;
    let nested = |open: &str, close: &str, n: usize| open.repeat(n) + &close.repeat(n);
    let before = |more: &str| {
        handler_text(memory, ACKS).replacen("(component", &format!("(component {more}"), 1)
    };
    // Each of the one before, one or two of it.
    let chain = |of: &dyn Fn(usize) -> String, n: usize| (0..n).map(of).collect::<String>();
    let lists = chain(&|i| format!("(type (list {}))", before_it(i)), 5_000);
    let pairs = chain(&|i| format!("(type (tuple {0} {0}))", before_it(i)), 100);
    for (shape, text) in [
        ("lists of lists", before(&lists)),
        ("pairs of pairs", before(&pairs)),
        ("many types", before(&"(type (list u8))".repeat(100_000))),
        ("many modules", before(&"(core module)".repeat(2_000))),
        ("a table without end", before("(core module (table 4000000000 funcref))")),
        ("a memory without end", before("(core module (memory 65536))")),
    ] {
        answered(shape, tried(&wat::parse_str(&text).unwrap(), Bounds::default()).await);
    }
    answered("components in components", tried(&in_components(20_000), Bounds::default()).await);
    let blocks = nested("(block ", ")", 20_000);
    let cases = format!("(block (br_table {} 0 (i32.const 0)))", "0 ".repeat(100_000));
    for (shape, core, handle) in [
        ("many functions", format!("{memory} {}", "(func)".repeat(50_000)), ACKS.to_owned()),
        (
            "much data",
            format!(r#"(memory (export "memory") 400) {}"#, data(20 << 20)),
            ACKS.to_owned(),
        ),
        (
            "many pieces of data",
            format!("{memory} {}", r#"(data (i32.const 0) "x")"#.repeat(90_000)),
            ACKS.to_owned(),
        ),
        ("blocks in blocks", memory.to_owned(), format!("{blocks} {ACKS}")),
        ("many branches", memory.to_owned(), format!("{cases} {ACKS}")),
        ("many locals", memory.to_owned(), format!("(local {}) {ACKS}", "i64 ".repeat(49_000))),
    ] {
        answered(shape, tried(&handler_of(&core, &handle), Bounds::default()).await);
    }
}

/// The index of the type before the i-th, as handlers written here number them; of the first it is
/// a byte.
fn before_it(i: usize) -> String {
    i.checked_sub(1).map_or_else(|| "u8".to_owned(), |before| before.to_string())
}

/// A component in a component in a component …
fn in_components(n: usize) -> Vec<u8> {
    const HEADER: [u8; 8] = *b"\0asm\x0d\0\x01\0";
    const SECTION: u8 = 4;
    // From the inside out, backwards: then nothing is moved.
    let mut reversed: Vec<u8> = HEADER.iter().rev().copied().collect();
    for _ in 1..n {
        let bytes = reversed.len() as u32;
        // Five bytes of seven bits, the least first.
        let size = (0..5).map(|i| (bytes >> (7 * i)) as u8 & 0x7f | if i < 4 { 0x80 } else { 0 });
        let front = HEADER.into_iter().chain([SECTION]).chain(size);
        reversed.extend(front.collect::<Vec<_>>().into_iter().rev());
    }
    reversed.reverse();
    reversed
}

fn data(bytes: usize) -> String {
    format!(r#"(data (i32.const 65536) "{}")"#, "x".repeat(bytes))
}

/// A refusal says what is wrong, not that something has crashed.
fn answered(shape: &str, answer: Result<Checked, String>) {
    println!("{shape}: {answer:?}");
    if let Err(text) = answer {
        assert!(text.len() > 20 && text.len() < 2_000, "{shape}: {text}");
        assert!(!text.contains("crashed") && !text.contains("panic"), "{shape}: {text}");
    }
}

#[tokio::test]
async fn a_compile_check_tells_the_worlds_apart() {
    for (name, takes_batches) in [("echo", false), ("tally", true)] {
        let wasm = std::fs::read(plugin(name)).unwrap();
        assert_eq!(tried(&wasm, Bounds::default()).await, Ok(Checked { takes_batches }), "{name}");
    }
}

#[tokio::test]
async fn a_compiler_that_takes_too_long_or_too_much_memory_is_given_up_on() {
    let wasm = std::fs::read(plugin("thumbnail")).unwrap();
    assert_eq!(tried(&wasm, Bounds::default()).await, Ok(Checked { takes_batches: false }));
    let no_time = Bounds { time: Duration::from_millis(1), ..Bounds::default() };
    let error = tried(&wasm, no_time).await.unwrap_err();
    let start = "compiling the component was stopped: compiling it takes more than 1ms; it has ";
    assert!(error.starts_with(start), "{error}");
    let end = " table entries; make it smaller, or split its largest functions";
    assert!(error.contains(" functions, the largest of ") && error.ends_with(end), "{error}");
    // The compiler copies its data.
    let memory = r#"(memory (export "memory") 800)"#;
    let large = handler_of(&format!("{memory} {}", data(40 << 20)), ACKS);
    let no_memory = Bounds { memory_bytes: 96 << 20, ..Bounds::default() };
    let error = tried(&large, no_memory).await.unwrap_err();
    assert!(error.contains("compiling it takes more than 96.0 MiB of memory"), "{error}");
}

/// What compiles a stranger's component is not told where the database is.
#[tokio::test]
async fn a_compile_check_sees_little_of_its_hosts_environment() {
    let dir = tempfile::tempdir().unwrap();
    let (program, seen) = (dir.path().join("program"), dir.path().join("seen"));
    std::fs::write(&program, format!("#!/bin/sh\nenv > {}\n", seen.display())).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let terms = Terms { memory_bytes: 64 << 20, http: vec![], cache_dir: None };
    CompileCheck::new(program, Bounds::default()).run(b"", &terms).await.unwrap_err();
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(seen.contains("PATH="), "{seen}");
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "the test has more");
    let may = ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "SSL_", "RAYON_", "RUST_BACKTRACE"];
    // The shell's own.
    let may = [&may[..], &["PWD", "OLDPWD", "SHLVL", "_="]].concat();
    for line in seen.lines() {
        assert!(may.iter().any(|name| line.starts_with(name)), "{line}");
    }
}
