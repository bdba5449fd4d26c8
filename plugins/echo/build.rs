//! Makes the guest's memory small: for a handler as short as this one, giving each message a fresh
//! memory is most of the work.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "wasm32") {
        // 16 KiB instead of 1 MiB; the stack is at the start of the memory, so that an overflow
        // traps instead of overwriting data.
        println!("cargo::rustc-link-arg=-zstack-size=16384");
        println!("cargo::rustc-link-arg=--stack-first");
    }
}
