//! Identifiers. A number of one kind cannot be passed for another. Never does I/O.

use std::fmt;

use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name($inner);

        impl $name {
            /// The identifier that the database knows by this number.
            #[must_use]
            pub const fn new(raw: $inner) -> Self {
                Self(raw)
            }

            /// The number, for the database.
            #[must_use]
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// A message on its queue, over all attempts. Outgrows 2^53: text in JSON and WIT.
    MessageId(i64);
    /// A queue.
    QueueId(i32);
    /// A handler: a component deployed on a queue under a name.
    HandlerId(i32);
    /// A running host process as the database knows it.
    SessionId(i32);
    /// A cron entry; one that replaces another is another.
    CronId(i32);
    /// A row of a queue's lease log.
    LeaseId(i64);
}

/// A lease as its holder knows it. The number alone can be given out again after a crash of the
/// server; the token cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseKey {
    /// Its number.
    pub id: LeaseId,
    /// What proves that it is ours.
    pub token: Uuid,
}
