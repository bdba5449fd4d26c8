//! What a benchmark says to Postgres: the load that it makes, the account of what was delivered,
//! the counters that it reports. Never decides whether a run was good.

use std::time::SystemTime;

use tokio_postgres::Client;

use super::connect::{Alone, Database};
use super::constants;
use super::error::QueueError;
use host_core::id::{QueueId, SessionId};
use host_core::name::QueueName;

pub mod load;
pub mod relay;

/// A benchmark's queue.
#[derive(Clone, Debug)]
pub struct BenchQueue {
    /// Its name.
    pub name: QueueName,
    /// Its number.
    pub id: QueueId,
}

/// What the account says of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deliveries {
    /// First deliveries of the whole run: how many, the sum of their numbers and of the squares.
    pub checksum: (u64, u128, u128),
    /// When the first lease of the measured time was made, by the server's clock.
    pub first_leased: Option<SystemTime>,
    /// When the last of its settlements was made.
    pub last_settled: Option<SystemTime>,
    /// Messages that were settled in it.
    pub settled: u64,
    /// Leases that were settled in it.
    pub leases: u64,
}

/// Counters of the server. Only differences mean something, but for what is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauges {
    /// By the server's clock.
    pub now: SystemTime,
    /// The whole cluster's write-ahead log, in bytes.
    pub wal_bytes: i64,
    /// Transactions of this database that committed.
    pub commits: i64,
    /// Of the tables whose rows are never touched.
    pub log_updates: i64,
    /// Of the tables whose rows are never touched.
    pub log_deletes: i64,
    /// Dead rows of the tables whose rows are never touched, now.
    pub log_dead: i64,
    /// Updates and deletes of the product's other tables.
    pub control_changes: i64,
    /// Dead rows of the product's other tables, now.
    pub control_dead: i64,
    /// Dead rows of `pg_class`, now.
    pub catalog_dead: i64,
}

/// Who else works in a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Others {
    /// Hosts that are connected.
    pub hosts: i64,
    /// Queues that have handlers.
    pub queues: Vec<String>,
    /// Queues of benchmarks that were killed.
    pub left_behind: Vec<String>,
}

/// Something in the way. Ends when it is dropped.
pub struct HeldTransaction {
    hold: Hold,
    /// Its transaction lives as long as it does.
    alone: Alone,
}

/// A transaction that is in the way of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It keeps a snapshot.
    Snapshot,
    /// It has a transaction id.
    Xid,
    /// It holds `ACCESS SHARE` on every table of the queue, and a snapshot.
    Lock,
}

/// How far the hosts are, from one look to the next.
#[derive(Debug, Default)]
pub struct Progress {
    /// All leases up to this one are settled,
    lease: i64,
    /// and had so many positions.
    settled: i64,
}

impl BenchQueue {
    /// `{q}`, `{queue_id}` and the constants of a statement, filled in.
    fn render(&self, sql: &str) -> String {
        let number = self.id.get().to_string();
        constants::fill(sql).replace("{q}", self.name.as_str()).replace("{queue_id}", &number)
    }

    /// Begins the account: before any host knows the queue.
    pub async fn begin_account(&self, client: &Client) -> Result<(), QueueError> {
        let sql = self.render(include_str!("bench/audit.sql"));
        Ok(client.batch_execute(&sql).await?)
    }

    /// Removes what there is beside the queue; the queue's own tables and functions go with it.
    pub async fn end(&self, client: &Client) -> Result<(), QueueError> {
        let sql = self.render(include_str!("bench/end.sql"));
        Ok(client.batch_execute(&sql).await?)
    }

    /// Puts all that there is into the account. No host must run.
    pub async fn finish_account(&self, client: &Client) -> Result<(), QueueError> {
        client.execute(&self.render("SELECT host.{q}__audit(NULL, NULL, NULL)"), &[]).await?;
        Ok(())
    }

    /// What the account says, of the time from `from` to `to`.
    pub async fn deliveries(
        &self,
        client: &Client,
        from: SystemTime,
        to: SystemTime,
    ) -> Result<Deliveries, QueueError> {
        let sql = self.render(include_str!("bench/deliveries.sql"));
        let row = client.query_one(&sql, &[&from, &to]).await?;
        let count =
            |column: &str| Ok::<_, QueueError>(row.try_get::<_, i64>(column)?.max(0) as u64);
        let sum = |column: &str| {
            let text: String = row.try_get(column)?;
            text.parse().map_err(|_| QueueError::Unexpected(format!("{column} is {text:?}")))
        };
        Ok(Deliveries {
            checksum: (count("delivered")?, sum("sum")?, sum("sum_of_squares")?),
            first_leased: row.try_get("first_leased")?,
            last_settled: row.try_get("last_settled")?,
            settled: count("settled")?,
            leases: count("leases")?,
        })
    }

    /// Messages settled in each whole interval of so many seconds.
    pub async fn settled_per_interval(
        &self,
        client: &Client,
        from: SystemTime,
        seconds: u32,
        intervals: usize,
    ) -> Result<Vec<u64>, QueueError> {
        let to = from + std::time::Duration::from_secs(u64::from(seconds) * intervals as u64);
        let sql = self.render(include_str!("bench/settled_per_interval.sql"));
        let rows = client.query(&sql, &[&from, &f64::from(seconds), &to]).await?;
        let mut settled = vec![0; intervals];
        for row in rows {
            let at = row.try_get::<_, i32>(0)?.max(0) as usize;
            if let Some(interval) = settled.get_mut(at) {
                *interval = row.try_get::<_, i64>(1)?.max(0) as u64;
            }
        }
        Ok(settled)
    }

    /// How many positions have been settled so far, of whatever kind. `account`: and puts their
    /// leases into the account, little by little. All at once, before a leaf is truncated, could
    /// take longer than a statement may.
    pub async fn settled(
        &self,
        client: &Client,
        progress: &mut Progress,
        account: bool,
    ) -> Result<u64, QueueError> {
        let call = self.render("SELECT lease, settled, beyond FROM host.{q}__progress($1)");
        let row = client.query_one(&call, &[&progress.lease]).await?;
        let settled_upto: i64 = row.try_get("lease")?;
        if account {
            let audit = self.render("SELECT host.{q}__audit_upto($1, $2)");
            client.execute(&audit, &[&progress.lease, &settled_upto]).await?;
        }
        progress.lease = settled_upto;
        progress.settled += row.try_get::<_, i64>("settled")?;
        let beyond: i64 = row.try_get("beyond")?;
        Ok((progress.settled + beyond).max(0) as u64)
    }

    /// Messages that are still to be handled; zero or not is what counts.
    pub async fn left(&self, client: &Client) -> Result<u64, QueueError> {
        let row = client.query_one(&self.render(include_str!("bench/left.sql")), &[]).await?;
        Ok(row.try_get::<_, i64>(0)?.max(0) as u64)
    }

    /// The generation that it is in, and its bytes on disk.
    pub async fn rotation(&self, client: &Client) -> Result<(i64, u64), QueueError> {
        let row = client.query_one(&self.render(include_str!("bench/rotation.sql")), &[]).await?;
        Ok((row.try_get(0)?, row.try_get::<_, i64>(1)?.max(0) as u64))
    }

    /// Gets in the way.
    pub async fn hold(
        &self,
        database: &Database,
        hold: Hold,
    ) -> Result<HeldTransaction, QueueError> {
        let alone = database.connect_alone().await?;
        let sql = match hold {
            Hold::Snapshot => include_str!("bench/hold_snapshot.sql"),
            Hold::Xid => include_str!("bench/hold_xid.sql"),
            Hold::Lock => include_str!("bench/hold_lock.sql"),
        };
        alone.client.batch_execute(&self.render(sql)).await?;
        Ok(HeldTransaction { hold, alone })
    }

    /// Leases so many messages of the handler `default` to a session, as a host does.
    pub async fn lease(
        &self,
        client: &Client,
        session: SessionId,
        messages: u64,
    ) -> Result<(), QueueError> {
        let sql = self.render(include_str!("bench/lease.sql"));
        let (mut left, mut seq) = (messages.cast_signed(), 1i64);
        while left > 0 {
            let row = client.query_one(&sql, &[&session.get(), &seq, &left.min(1_000)]).await?;
            let Some(leased) = row.try_get::<_, Option<i32>>(0)? else {
                return Err(QueueError::Unexpected(format!("{left} messages are not there")));
            };
            left -= i64::from(leased);
            seq += 1;
        }
        Ok(())
    }

    /// Whether the handler `stuck` has a message in hand.
    pub async fn is_stuck(&self, client: &Client) -> Result<bool, QueueError> {
        let sql = self.render(include_str!("bench/stuck.sql"));
        Ok(client.query_one(&sql, &[]).await?.try_get(0)?)
    }
}

impl HeldTransaction {
    /// What it is.
    #[must_use]
    pub const fn hold(&self) -> Hold {
        self.hold
    }

    /// Whether its connection is gone, and its transaction with it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.alone.client.is_closed()
    }
}

/// Reads the counters. What other connections have counted shows up to a second later, unless they
/// are closed.
pub async fn gauges(client: &Client) -> Result<Gauges, QueueError> {
    let row = client.query_one(include_str!("bench/gauges.sql"), &[]).await?;
    Ok(Gauges {
        now: row.try_get("now")?,
        wal_bytes: row.try_get("wal_bytes")?,
        commits: row.try_get("commits")?,
        log_updates: row.try_get("log_updates")?,
        log_deletes: row.try_get("log_deletes")?,
        log_dead: row.try_get("log_dead")?,
        control_changes: row.try_get("control_changes")?,
        control_dead: row.try_get("control_dead")?,
        catalog_dead: row.try_get("catalog_dead")?,
    })
}

/// The process number of the backend of a connection, as the server's machine counts.
pub async fn backend_pid(client: &Client) -> Result<i32, QueueError> {
    Ok(client.query_one("SELECT pg_backend_pid()", &[]).await?.try_get(0)?)
}

/// The server's version, as it says it.
pub async fn server_version(client: &Client) -> Result<String, QueueError> {
    Ok(client.query_one("SELECT current_setting('server_version')", &[]).await?.try_get(0)?)
}

/// Who else works in this database.
pub async fn others(client: &Client) -> Result<Others, QueueError> {
    let row = client.query_one(include_str!("bench/others.sql"), &[]).await?;
    Ok(Others {
        hosts: row.try_get("hosts")?,
        queues: row.try_get("queues")?,
        left_behind: row.try_get("left_behind")?,
    })
}

/// Connections of hosts and producers that are open.
pub async fn connections(client: &Client) -> Result<i64, QueueError> {
    Ok(client.query_one(include_str!("bench/connections.sql"), &[]).await?.try_get(0)?)
}
