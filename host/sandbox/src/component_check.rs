//! Looks at a component before it is compiled: is it one at all, does it export what a host calls,
//! does it import only what a host has. Never compiles, never runs anything.

use wasmparser::{ComponentTypeRef, Parser, Payload, TypeBounds};
use wasmtime::Engine;

use super::error::SandboxError;
use super::image::Image;
use super::measure::Measure;
use host_core::limits::COMPONENT_BYTES_MAX;

/// Functions of all modules together. The compiler takes some kilobytes for each, also for an empty
/// one; the largest scripting runtimes have tens of thousands.
const FUNCTIONS_MAX: u64 = 250_000;
/// Entries that all modules together set in tables. The compiler makes a second function of each
/// function there.
const ELEMENTS_MAX: u64 = 250_000;
/// What making one sandbox may copy, in bytes: nothing interrupts that. A module that is started
/// once has its bytes in the file.
const START_BYTES_MAX: u64 = COMPONENT_BYTES_MAX;

/// The function that a host calls with one message, and the one that it calls with many.
const EXPORT: &str = "handle";
const BATCH_EXPORT: &str = "handle-batch";

/// The interfaces that a guest may import, by package and the part of the version that must agree.
const OFFERED: &[(&str, &str, &[&str])] = &[
    ("host:jobs", "1", &["types", "log", "queue", "results", "config", "secrets"]),
    ("wasi:io", "0.2", &["error", "poll", "streams"]),
    ("wasi:clocks", "0.2", &["wall-clock", "monotonic-clock"]),
    ("wasi:random", "0.2", &["random", "insecure", "insecure-seed"]),
    (
        "wasi:cli",
        "0.2",
        &[
            "environment",
            "exit",
            "stdin",
            "stdout",
            "stderr",
            "terminal-input",
            "terminal-output",
            "terminal-stdin",
            "terminal-stdout",
            "terminal-stderr",
        ],
    ),
    ("wasi:http", "0.2", &["types", "outgoing-handler"]),
    // There, so that a guest's standard library can start; without a directory or an address they
    // grant nothing.
    ("wasi:filesystem", "0.2", &["types", "preopens"]),
    (
        "wasi:sockets",
        "0.2",
        &[
            "network",
            "instance-network",
            "ip-name-lookup",
            "tcp",
            "tcp-create-socket",
            "udp",
            "udp-create-socket",
        ],
    ),
];

/// Why a component cannot be deployed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Not WebAssembly.
    #[error(
        "this is not a WebAssembly component but {0}; build the handler for the target \
         wasm32-wasip2 and deploy the .wasm file"
    )]
    NotWasm(&'static str),
    /// A WebAssembly module without the component model's interface.
    #[error(
        "this is a core WebAssembly module, not a component; build it for the target wasm32-wasip2 \
         (`cargo build --target wasm32-wasip2`), or turn it into one with `wasm-tools component new`"
    )]
    CoreModule,
    /// A component in a format that this host does not know.
    #[error(
        "this is WebAssembly of an unknown version (header {0}); build it with a toolchain that \
         makes components of the released format, such as the target wasm32-wasip2"
    )]
    Version(String),
    /// More bytes than are accepted.
    #[error(
        "the component has {0} bytes and at most {COMPONENT_BYTES_MAX} are accepted; strip debug \
         information, optimize for size, or take embedded data out"
    )]
    TooLarge(usize),
    /// Small, but dear for the compiler.
    #[error(
        "the component has {count} {what} and at most {max} are accepted; leave out what it does not use"
    )]
    TooMany {
        /// What it has.
        what: &'static str,
        /// How many of them.
        count: u64,
        /// How many there may be.
        max: u64,
    },
    /// A sandbox of it would take too long to make.
    #[error(
        "starting the component copies {0} bytes into memories and tables and at most {START_BYTES_MAX} \
         are accepted; instantiate each of its modules once"
    )]
    Start(u64),
    /// Cut off or damaged.
    #[error("the component is damaged or cut off: {0}; build or copy it again")]
    Malformed(String),
    /// It lacks a function that a host calls.
    #[error(
        "the component exports neither `{EXPORT}` nor `{BATCH_EXPORT}`, so it targets neither the world \
         `handler` nor `batch-handler` of host:jobs@1.0.0; it exports {}",
        listed(.0)
    )]
    MissingExport(Vec<String>),
    /// It needs what no host has.
    #[error(
        "the component imports what this host lacks: {}; build it without them (see wit/ for what \
         a handler may import)",
        listed(.0)
    )]
    MissingImports(Vec<String>),
    /// A name is right, but what is behind it differs.
    #[error(
        "the component's imports or exports differ from the interface of host:jobs@1.0.0: {0}; \
         build it against this host's wit/"
    )]
    Interface(String),
    /// The compiler, or the pool of sandboxes, refuses it.
    #[error("the component does not compile: {0}")]
    Compile(String),
    /// It starts with more memory than its deployment allows.
    #[error(
        "the component starts with {needed_bytes} bytes of memory and its limit is {limit_bytes}; \
         deploy it with a higher --memory"
    )]
    Memory {
        /// What the component declares.
        needed_bytes: u64,
        /// What the deployment allows.
        limit_bytes: u64,
    },
    /// What its compile check in another process found, in words of that.
    #[error("{0}")]
    Found(String),
    /// Its compile check was broken off.
    #[error(
        "compiling the component was stopped: {0}; make it smaller, or split its largest functions"
    )]
    GivenUp(String),
    /// The fault is the host's.
    #[error(transparent)]
    Host(#[from] SandboxError),
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nothing".into() } else { format!("`{}`", names.join("`, `")) }
}

/// What a look at a component shows before it is compiled.
pub(super) struct Inspected {
    /// Which engine suits it.
    pub(super) image: Image,
    /// Whether it can make HTTP requests, granted or not.
    pub(super) has_http: bool,
    /// Whether it takes many messages a call.
    pub(super) takes_batches: bool,
}

/// Checks all that can be checked without compiling.
pub(super) fn inspect(wasm: &[u8]) -> Result<Inspected, Refusal> {
    if wasm.len() as u64 > COMPONENT_BYTES_MAX {
        return Err(Refusal::TooLarge(wasm.len()));
    }
    check_header(wasm)?;
    let surface = Surface::read(wasm).map_err(|error| Refusal::Malformed(error.to_string()))?;
    let exports = |wanted| surface.exports.iter().any(|name| name == wanted);
    let takes_batches = exports(BATCH_EXPORT);
    if !takes_batches && !exports(EXPORT) {
        return Err(Refusal::MissingExport(surface.exports));
    }
    if !surface.missing.is_empty() {
        return Err(Refusal::MissingImports(surface.missing));
    }
    let measure = Measure::of(wasm);
    check_measure(&measure)?;
    Ok(Inspected {
        image: Image::of(measure.data_bytes),
        has_http: surface.has_http,
        takes_batches,
    })
}

fn check_measure(measure: &Measure) -> Result<(), Refusal> {
    for (what, count, max) in [
        ("functions", measure.functions, FUNCTIONS_MAX),
        ("table entries", measure.elements, ELEMENTS_MAX),
    ] {
        if count > max {
            return Err(Refusal::TooMany { what, count, max });
        }
    }
    if measure.start_bytes > START_BYTES_MAX {
        return Err(Refusal::Start(measure.start_bytes));
    }
    Ok(())
}

/// Tells components from what else people upload by mistake.
fn check_header(wasm: &[u8]) -> Result<(), Refusal> {
    if Parser::is_component(wasm) {
        return Ok(());
    }
    if Parser::is_core_wasm(wasm) {
        return Err(Refusal::CoreModule);
    }
    match wasm {
        [] => Err(Refusal::NotWasm("an empty file")),
        [0, b'a', b's', b'm', version @ ..] => {
            Err(Refusal::Version(hex::encode(&version[..version.len().min(4)])))
        }
        _ if Engine::detect_precompiled(wasm).is_some() => {
            Err(Refusal::NotWasm("code that was compiled already (.cwasm)"))
        }
        [0x7f, b'E', b'L', b'F', ..] => Err(Refusal::NotWasm("a native executable")),
        [0x1f, 0x8b, ..] => Err(Refusal::NotWasm("a gzip archive")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Err(Refusal::NotWasm("a zstd archive")),
        [b'P', b'K', 3, 4, ..] => Err(Refusal::NotWasm("a zip archive")),
        _ if std::str::from_utf8(wasm).is_ok() => Err(Refusal::NotWasm("text")),
        _ => Err(Refusal::NotWasm("some other file")),
    }
}

/// What a component shows to its host.
#[derive(Default)]
struct Surface {
    exports: Vec<String>,
    missing: Vec<String>,
    has_http: bool,
}

impl Surface {
    fn read(wasm: &[u8]) -> wasmparser::Result<Self> {
        let mut surface = Self::default();
        // Modules and components within the component have imports of their own.
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(imports) if depth == 0 => {
                    for import in imports {
                        let import = import?;
                        let name = import.name.name;
                        surface.has_http |= name.starts_with("wasi:http/");
                        if !is_offered(name, import.ty) {
                            surface.missing.push(name.into());
                        }
                    }
                }
                Payload::ComponentExportSection(exports) if depth == 0 => {
                    for export in exports {
                        surface.exports.push(export?.name.name.into());
                    }
                }
                _ => {}
            }
        }
        Ok(surface)
    }
}

fn is_offered(name: &str, ty: ComponentTypeRef) -> bool {
    match ty {
        ComponentTypeRef::Instance(_) => is_offered_interface(name),
        // A name for a type of an interface: nothing that a host would have to bring.
        ComponentTypeRef::Type(TypeBounds::Eq(_)) => true,
        _ => false,
    }
}

/// `name` is like `wasi:cli/stdout@0.2.6`. Versions that agree in their first nonzero number are
/// compatible, and the linker treats them so.
fn is_offered_interface(name: &str) -> bool {
    let Some((path, version)) = name.split_once('@') else { return false };
    let Some((package, interface)) = path.split_once('/') else { return false };
    OFFERED.iter().any(|(offered, major, interfaces)| {
        *offered == package
            && interfaces.contains(&interface)
            && version.strip_prefix(major).is_some_and(|rest| rest.starts_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compatible_versions_are_offered_and_others_are_not() {
        assert!(is_offered_interface("wasi:cli/stdout@0.2.0"));
        assert!(is_offered_interface("wasi:cli/stdout@0.2.99"));
        assert!(is_offered_interface("host:jobs/queue@1.4.0"));
        assert!(!is_offered_interface("wasi:cli/stdout@0.20.0"));
        assert!(!is_offered_interface("wasi:cli/stdout@0.3.0"));
        assert!(!is_offered_interface("wasi:cli/stdout"));
        assert!(!is_offered_interface("host:jobs/queue@2.0.0"));
        assert!(!is_offered_interface("wasi:http/incoming-handler@0.2.0"));
    }
}
