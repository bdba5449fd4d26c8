//! Has the memory of sandboxes that ended go back to the system. wasmtime's pool gives it back many
//! regions at a time, which halves the cost of a fresh sandbox. Until then the host keeps it. That
//! is little for a sandbox of ordinary size; what others had beyond that is counted, and is given
//! back before it is much.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use wasmtime::{Engine, Instance, Module, Store};

use super::image::Image;
use super::state::State;

/// The pool gives so many regions back together. Each memory and each table of a sandbox is one.
/// Each processor has a batch of its own, 16 at most, and each thread adds to one of them.
pub(super) const BATCH: u32 = 64;

/// The memory of a sandbox of ordinary size, in bytes: its part of a batch is not counted.
const ORDINARY_BYTES: u64 = 2 << 20;

/// What may wait beyond that for each thread and engine, in bytes.
const WAITING_BYTES_MAX: u64 = 16 << 20;

thread_local! {
    /// What waits of sandboxes that ended on this thread, beyond their ordinary size; by [`Image`].
    static WAITING: [Cell<u64>; 2] = const { [Cell::new(0), Cell::new(0)] };
}

/// Gives back at once what else would wait for the rest of its batch.
pub(super) struct Reclaimer {
    engine: Engine,
    image: Image,
    /// A module of [`BATCH`] empty tables. Made when it is first needed.
    tables: OnceLock<Module>,
}

impl Reclaimer {
    pub(super) const fn new(engine: Engine, image: Image) -> Self {
        Self { engine, image, tables: OnceLock::new() }
    }

    /// A sandbox has ended on this thread whose memories and tables had so many bytes.
    fn ended(&self, bytes: u64) {
        if bytes <= ORDINARY_BYTES {
            return;
        }
        WAITING.with(|waiting| {
            let waiting = &waiting[self.image as usize];
            waiting.set(waiting.get().saturating_add(bytes - ORDINARY_BYTES));
            if waiting.get() > WAITING_BYTES_MAX {
                self.end_batch();
                waiting.set(0);
            }
        });
    }

    /// Ends the batch to which this thread adds. wasmtime has no other call for that than to fill
    /// it up.
    fn end_batch(&self) {
        let compile = || Module::new(&self.engine, empty_tables()).expect("a valid module");
        let tables = self.tables.get_or_init(compile);
        // If the pool has no tables left, it ends all batches before it says so.
        let _ = Instance::new(Store::new(&self.engine, ()), tables, &[]);
    }
}

/// The binary format of a module with [`BATCH`] times `(table 0 funcref)`, and nothing else.
fn empty_tables() -> Vec<u8> {
    const TABLE: [u8; 3] = [0x70, 0, 0];
    let count = u8::try_from(BATCH).expect("a number of one byte");
    let bytes = 1 + TABLE.len() * BATCH as usize;
    // A number of two bytes, the lower seven bits first.
    let size = [(bytes & 0x7f) as u8 | 0x80, (bytes >> 7) as u8];
    let mut module = b"\0asm\x01\0\0\0\x04".to_vec();
    module.extend(size);
    module.push(count);
    module.extend(TABLE.repeat(BATCH as usize));
    module
}

/// A store whose memory goes back in time.
pub(super) struct Reclaimed {
    // Ends before what looks after it.
    store: Store<State>,
    after: After,
}

struct After {
    reclaimer: Arc<Reclaimer>,
    /// What the store had.
    bytes: u64,
}

impl Reclaimed {
    pub(super) fn new(reclaimer: &Arc<Reclaimer>, state: State) -> Self {
        let store = Store::new(&reclaimer.engine, state);
        Self { store, after: After { reclaimer: reclaimer.clone(), bytes: 0 } }
    }
}

impl Deref for Reclaimed {
    type Target = Store<State>;

    fn deref(&self) -> &Store<State> {
        &self.store
    }
}

impl DerefMut for Reclaimed {
    fn deref_mut(&mut self) -> &mut Store<State> {
        &mut self.store
    }
}

impl Drop for Reclaimed {
    fn drop(&mut self) {
        self.after.bytes = self.store.data().usage.bytes();
    }
}

impl Drop for After {
    fn drop(&mut self) {
        self.reclaimer.ended(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_of_tables_fills_a_batch() {
        let module = Module::new(&Engine::default(), empty_tables()).expect("a valid module");
        assert_eq!(module.resources_required().num_tables, BATCH);
    }
}
