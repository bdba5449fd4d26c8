//! Rebuilds when a migration is added or changed, which `include_dir` cannot see by itself.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations");
}
