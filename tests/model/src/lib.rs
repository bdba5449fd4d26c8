//! The protocol of the queue as a model: what `migrations/` does in SQL, as a state and functions
//! on it that are small enough to go through everything that can happen, in every order.
//!
//! Two things are done with it. `tests/check` (here) goes through **all** states that small scenes
//! can come to, and looks in each of them whether I1 and I2 of `ARCHITECTURE.md` hold.
//! `tests/replay.rs` of the product does the same steps at random with the real SQL functions on
//! real connections, and compares the database with the model after each one. A proof about the
//! model is true of the SQL as far as the two have been seen to agree.
//!
//! # State [`World`] is the database. [`Db`] is what is committed: what a snapshot taken now would
//! see. `open` are the transactions that are not over. Each has the rows that it will have added,
//! and the locks of its action. The tables are those of `migrations/queue/tables.sql`, without
//! columns that only inform.
//! - A **snapshot** is the set of transactions that are over in it. The window between two is the
//!   difference. That the ranges of `host.txid_window` and `host.parts_after` are that difference
//!   is for the replay to show.
//! - An **id** is a generation and a number in it; the generation says which leaf it is in.
//! - A **message** is followed by its payload, which no other message ever has, whatever ids are
//!   given out twice.
//!
//! # Actions, and the SQL that they are
//! - [`World::produce`], [`World::draw_message`], [`World::insert`] are a producer's `BEGIN` and
//!   `INSERT INTO queue.{q}`. An id may be drawn long before its row is there.
//! - [`World::deploy`] is `host.deploy` of a new handler.
//! - [`World::lease`], [`World::read`] are `host.{q}__lease`, `host.{q}__read`.
//! - [`World::settle_read`], [`World::settle_write`] are `host.{q}__settle`, up to its INSERT into
//!   the settlement log, and from there. In between, another session may have written.
//! - [`World::take_over_read`], [`World::take_over_write`] are `host.{q}__take_over`, in the same
//!   way.
//! - [`World::end_session`] is `host.end_session`. The session need not be dead, and need not know.
//! - [`World::promote`] is `host.{q}__promote`.
//! - [`World::truncate_look`], [`World::truncate_finish`] are `host.{q}__truncate`, up to the LOCK
//!   TABLE, and from there.
//! - [`World::advance_begin`], [`World::advance_carry`] are `host.{q}__advance`. First its setval,
//!   which everybody sees at once and no rollback undoes; then the rest.
//! - [`World::truncate_schedule`] is `host.{q}__truncate_schedule` of a leaf, at any time.
//! - [`World::commit`], [`World::abort`] are the end of the transaction of any of these. A
//!   connection that is cut aborts.
//!
//! The checker adds what happens around the database:
//! - A **crash** goes back to any of the states since the last commit that waited for the disk.
//!   Leases, promotions and producers do not wait; the ids and transaction ids of what is lost are
//!   given out again.
//! - A **host** that dies, freezes or wakes up needs no action. A session forgets nothing: what it
//!   has leased it may settle at any time, in as many parts as there are messages, and each request
//!   may arrive late, never or again and again. A host that does less is covered by one that could
//!   do more. A lease or take-over is asked for with a number and a token that are used once, so
//!   the same request does not come twice.
//!
//! # What must hold
//! - **Each message is in one place** for each handler ([`World::each_in_one_place`]): in the
//!   queue, in one open lease, on the schedule, or settled for good. Zero places is a lost message
//!   (I1), two is one that is done twice (I2).
//! - **Each effect happens once** ([`World::each_effect_once`]): no attempt of a message has two
//!   outcomes (I2).
//! - **Nothing is settled but what was run**: a settlement means the messages that its sender has
//!   read (I1).
//! - **Nothing unsettled is truncated**.
//! - **One host can work everything off**, from every state: nothing is ever stuck, and every leaf
//!   can be truncated.
//!
//! A model that cannot fail shows nothing. [`Broken`] has the rules that can be left out, most of
//! which were once; the checker must find out what happens without each. Some events must be
//! possible: a lease lost, two writers of one settlement, a late message under a truncation. The
//! checker counts them, and each must have happened.
//!
//! # What is not in it
//! Sizes in bytes, pauses, wake-up, parking (a retry that counts no attempt), follow-ups (they go
//! with the ack in one transaction), dead letters that an operator retries, liveness (any session
//! may be called dead at any time).

mod lease;
mod promote;
mod rotate;
mod rows;
mod set;
mod settle;
mod truth;
mod world;

pub use rows::*;
pub use set::Set;
pub use world::*;
