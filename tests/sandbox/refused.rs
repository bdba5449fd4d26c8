//! What is not a handler is refused, with what is wrong and what to do; and what is kept of a
//! component between two runs of a host.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn refusal(wasm: &[u8]) -> String {
    refused_with(wasm, settings()).to_string()
}

fn refused_with(wasm: &[u8], settings: HandlerSettings) -> Refusal {
    match made(&SANDBOX, wasm, settings) {
        Ok(_) => panic!("not refused"),
        Err(refusal) => refusal,
    }
}

#[test]
fn what_is_not_webassembly() {
    for (bytes, what) in [
        (&b""[..], "an empty file"),
        (b"fn main() {}", "text"),
        (b"(component)", "text"),
        (b"\x7fELF\x02\x01", "a native executable"),
        (b"\x89PNG\r\n", "some other file"),
    ] {
        assert_eq!(
            refusal(bytes),
            format!(
                "this is not a WebAssembly component but {what}; build the handler for the target \
                 wasm32-wasip2 and deploy the .wasm file"
            )
        );
    }
    insta::assert_snapshot!(
        refusal(b"\0asm\x0a\0\x01\0"),
        @"this is WebAssembly of an unknown version (header 0a000100); build it with a toolchain that makes components of the released format, such as the target wasm32-wasip2"
    );
}

#[test]
fn a_core_module() {
    insta::assert_snapshot!(
        refusal(&wat("(module)")),
        @"this is a core WebAssembly module, not a component; build it for the target wasm32-wasip2 (`cargo build --target wasm32-wasip2`), or turn it into one with `wasm-tools component new`"
    );
}

#[test]
fn a_component_that_was_cut_off_or_damaged() {
    let mut wasm = plugin("echo");
    let half = &wasm[..wasm.len() / 2];
    let text = refusal(half);
    assert!(text.starts_with("the component is damaged or cut off: "), "{text}");
    assert!(text.ends_with("; build or copy it again"), "{text}");

    // Anywhere else: refused, and nothing worse. A byte in data or names may be any.
    for at in (8..wasm.len()).step_by(wasm.len() / 40) {
        wasm[at] ^= 0xff;
        drop(made(&SANDBOX, &wasm, settings()));
        wasm[at] ^= 0xff;
    }
}

#[test]
fn a_component_that_exports_something_else() {
    let wasm = wat(r#"(component
        (core module $m (func (export "run")))
        (core instance $i (instantiate $m))
        (func (export "run") (canon lift (core func $i "run"))))"#);
    insta::assert_snapshot!(
        refusal(&wasm),
        @"the component exports neither `handle` nor `handle-batch`, so it targets neither the world `handler` nor `batch-handler` of host:jobs@1.0.0; it exports `run`"
    );
    insta::assert_snapshot!(
        refusal(&wat("(component)")),
        @"the component exports neither `handle` nor `handle-batch`, so it targets neither the world `handler` nor `batch-handler` of host:jobs@1.0.0; it exports nothing"
    );
}

#[test]
fn an_export_of_the_right_name_and_the_wrong_type() {
    let wasm = wat(r#"(component
        (core module $m (func (export "handle")))
        (core instance $i (instantiate $m))
        (func (export "handle") (canon lift (core func $i "handle"))))"#);
    let text = refusal(&wasm);
    assert!(
        text.starts_with("the component's imports or exports differ from the interface"),
        "{text}"
    );
}

#[test]
fn imports_that_a_host_lacks_are_all_named() {
    let wasm = wat(r#"(component
        (import "wasi:http/incoming-handler@0.2.0" (instance))
        (import "wasi:cli/stdout@0.2.3" (instance))
        (import "acme:bank/transfer@1.0.0" (instance))
        (import "launch" (func))
        (core module $m (func (export "handle")))
        (core instance $i (instantiate $m))
        (func (export "handle") (canon lift (core func $i "handle"))))"#);
    insta::assert_snapshot!(
        refusal(&wasm),
        @"the component imports what this host lacks: `wasi:http/incoming-handler@0.2.0`, `acme:bank/transfer@1.0.0`, `launch`; build it without them (see wit/ for what a handler may import)"
    );
}

/// The list of what a guest may import says no more than the host has: a component that imports
/// a function which is not there is refused by its name.
#[test]
fn an_import_whose_function_is_missing() {
    let wasm = wat(r#"(component
        (import "host:jobs/log@1.7.0" (instance (export "shout" (func))))
        (core module $m (func (export "handle")))
        (core instance $i (instantiate $m))
        (func (export "handle") (canon lift (core func $i "handle"))))"#);
    let text = refusal(&wasm);
    assert!(text.contains("host:jobs/log@1.7.0") && text.contains("`shout`"), "{text}");
}

#[test]
fn a_component_that_is_too_large() {
    let mut wasm = plugin("echo");
    wasm.resize((64 << 20) + 1, 0);
    insta::assert_snapshot!(
        refusal(&wasm),
        @"the component has 67108865 bytes and at most 67108864 are accepted; strip debug information, optimize for size, or take embedded data out"
    );
}

#[test]
fn a_component_that_needs_more_memory_than_it_gets() {
    let refusal =
        refused_with(&plugin("misbehave"), with_limits(|limits| limits.memory_bytes = 1 << 20));
    let Refusal::Memory { needed_bytes, limit_bytes } = refusal else { panic!("{refusal}") };
    assert!(needed_bytes > limit_bytes);
    assert_eq!(limit_bytes, 1 << 20);
}

/// Small files that would take the compiler gigabytes.
#[test]
fn a_component_with_too_many_of_something() {
    let memory = r#"(memory (export "memory") 1)"#;
    let functions = format!("{memory} {}", "(func)".repeat(250_000));
    insta::assert_snapshot!(
        refusal(&handler_of(&functions, ACKS)),
        @"the component has 250002 functions and at most 250000 are accepted; leave out what it does not use"
    );
    let elements = format!("{memory} (func $f) (elem func {})", "$f ".repeat(250_001));
    insta::assert_snapshot!(
        refusal(&handler_of(&elements, ACKS)),
        @"the component has 250001 table entries and at most 250000 are accepted; leave out what it does not use"
    );
}

/// Nothing interrupts the making of a sandbox.
#[test]
fn a_component_that_copies_much_to_start() {
    let data = "x".repeat(4 << 20);
    let module = format!(
        r#"(core module $data (import "m" "memory" (memory 80)) (data (i32.const 0) "{data}"))
        (core module $memory (memory (export "memory") 80))
        (core instance $m (instantiate $memory))"#
    );
    let one = r#"(core instance (instantiate $data (with "m" (instance $m))))"#;
    let started = |text: String| {
        let handler = handler_text(r#"(memory (export "memory") 1)"#, ACKS);
        wat(&handler.replacen("(component", &format!("(component {text}"), 1))
    };
    let times = |n| started(format!("{module} {}", one.repeat(n)));
    made(&SANDBOX, &times(16), settings()).expect("as much as a file may have");
    let said = format!(
        "starting the component copies {} bytes into memories and tables and at most 67108864 are accepted; instantiate each of its modules once",
        17 << 22
    );
    assert_eq!(refusal(&times(17)), said);
    // Through components that start components, and by other names of the same module.
    let nested = format!(
        r#"{module} (component $c (alias outer 1 $data (core module $d))
            (core module $memory (memory (export "memory") 80))
            (core instance $m (instantiate $memory)) {})
        {}"#,
        one.repeat(4).replace("$data", "$d"),
        "(instance (instantiate $c))".repeat(5)
    );
    let text = refusal(&started(nested));
    assert!(text.starts_with("starting the component copies 83886080 bytes"), "{text}");
}

async fn verdict_of(wasm: &[u8]) -> Verdict {
    made(&SANDBOX, wasm, settings()).expect("a handler").runner().run(&message("")).await.verdict
}

/// Found at the first message, and named as what it is.
#[tokio::test]
async fn a_component_that_cannot_start() {
    let traps = r#"(memory (export "memory") 1) (func $start unreachable) (start $start)"#;
    assert_eq!(
        verdict_of(&handler_of(traps, ACKS)).await,
        Verdict::Failed(Failure::Start("wasm `unreachable` instruction executed".into()))
    );
}

/// It goes to the engine for big images, and runs there as well.
#[tokio::test]
async fn a_component_with_megabytes_of_data() {
    let data = "x".repeat(2 << 20);
    let big = format!(r#"(memory (export "memory") 64) (data (i32.const 65536) "{data}")"#);
    assert_eq!(verdict_of(&handler_of(&big, ACKS)).await, Verdict::Ack);
}

fn cached(dir: &Path) -> Result<Sandbox, SandboxError> {
    Sandbox::new(&SandboxConfig { instances_max: 1, cache_dir: Some(dir.to_path_buf()) })
}

/// The cache's files that hold compiled code.
fn entries(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(entries(&path));
        } else if path.extension().is_none() {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn compiled_code_is_reused_and_a_damaged_file_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("compiled");
    let echo = plugin("echo");

    let first = cached(&dir).unwrap();
    made(&first, &echo, settings()).unwrap();
    assert_eq!(first.cache_hits(), 0);
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);

    let second = cached(&dir).unwrap();
    made(&second, &echo, settings()).unwrap();
    assert_eq!(second.cache_hits(), 1);

    for damage in [&b"not compiled code"[..], b""] {
        let files = entries(&dir);
        assert_eq!(files.len(), 1);
        fs::write(&files[0], damage).unwrap();
        let third = cached(&dir).unwrap();
        let handler = made(&third, &echo, settings()).unwrap();
        assert_eq!(third.cache_hits(), 0);
        assert_eq!(handler.runner().run(&message("")).await.verdict, Verdict::Ack);
    }
}

/// Compiled code runs as the host's own: whoever could have put it there, or the folder in its
/// place, is named.
#[test]
fn a_cache_that_others_may_write_to_is_refused() {
    let above = tempfile::tempdir().unwrap();
    let above = above.path().canonicalize().unwrap();
    let dir = above.join("compiled");
    made(&cached(&dir).unwrap(), &plugin("echo"), settings()).unwrap();
    let entry = entries(&dir).remove(0);
    let allow = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let said = || cached(&dir).err().map(|error| error.to_string());
    let writable = |path: &Path, mode: u32| {
        Some(format!(
            "cannot keep compiled code in {}: others may write to {} (mode {mode:o}); run `chmod go-w` \
             on it; choose another directory",
            dir.display(),
            path.display()
        ))
    };
    allow(&dir, 0o777);
    assert_eq!(said(), writable(&dir, 0o777));
    allow(&dir, 0o755);
    assert_eq!(said(), None);
    allow(&entry, 0o664);
    assert_eq!(said(), writable(&entry, 0o664));
    // Where nobody else can enter, no mode below matters.
    allow(&dir, 0o700);
    assert_eq!(said(), None);
    allow(&above, 0o777);
    assert_eq!(said(), writable(&above, 0o777));
    allow(&above, 0o1777);
    assert_eq!(said(), None);

    std::os::unix::fs::symlink("/etc/passwd", dir.join("link")).unwrap();
    let text = said().expect("it is refused");
    assert!(
        text.contains("link is a symbolic link, which host does not follow; remove it"),
        "{text}"
    );
    fs::remove_file(dir.join("link")).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&entry, Some(65_534), None).unwrap();
        let text = said().expect("it is refused");
        assert!(text.contains(&format!("{} belongs to user 65534", entry.display())), "{text}");
    }
}
