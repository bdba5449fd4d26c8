//! A benchmark's load: producers, each a connection that inserts as any producer does, and what the
//! same Postgres can do with bare tables. Never looks at what a message says.

use std::collections::HashMap;
use std::pin::pin;
use std::time::SystemTime;

use futures_util::TryStreamExt as _;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Statement};

use super::BenchQueue;
use crate::connect::{Alone, Database};
use crate::error::QueueError;
use crate::lease::fetch;
use crate::producer::Payload;
use host_core::health::progress::Progress;

/// What producers' connections are called.
pub const APPLICATION_NAME: &str = "host bench";

/// A connection that inserts into a table with a column `payload` of type jsonb, or reads from it.
pub struct Producer {
    client: Client,
    table: String,
    /// By the number of their rows.
    inserts: HashMap<usize, Statement>,
}

impl Producer {
    /// Connects. The table is named with its schema.
    pub async fn connect(
        database: &Database,
        table: &str,
        synchronous_commit: bool,
    ) -> Result<Self, QueueError> {
        let database = database.named_as(APPLICATION_NAME, 1, &Progress::default())?;
        let Alone { client, .. } = database.connect_alone().await?;
        if !synchronous_commit {
            client.batch_execute("SET synchronous_commit = off").await?;
        }
        Ok(Self { client, table: table.to_owned(), inserts: HashMap::new() })
    }

    /// Inserts rows by one INSERT, in a transaction of its own.
    pub async fn insert(&mut self, payloads: &[String]) -> Result<(), QueueError> {
        let statement = if let Some(statement) = self.inserts.get(&payloads.len()) {
            statement.clone()
        } else {
            let values: Vec<_> = (1..=payloads.len()).map(|n| format!("(${n})")).collect();
            let sql = self.render(include_str!("insert.sql"));
            let sql = sql.replace("{values}", &values.join(", "));
            let statement = self.client.prepare(&sql).await?;
            self.inserts.insert(payloads.len(), statement.clone());
            statement
        };
        let payloads: Vec<_> = payloads.iter().map(|p| Payload(p.as_bytes())).collect();
        let row: Vec<_> = payloads.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
        self.client.execute(&statement, &row).await?;
        Ok(())
    }

    /// Inserts rows by one COPY, in a transaction of its own.
    pub async fn copy(&mut self, payloads: impl Iterator<Item = String>) -> Result<(), QueueError> {
        let copy = self.render(include_str!("copy_in.sql"));
        let sink = self.client.copy_in(&copy).await?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &[Type::JSONB]));
        for payload in payloads {
            writer.as_mut().write(&[&Payload(payload.as_bytes())]).await?;
        }
        writer.finish().await?;
        Ok(())
    }

    /// Inserts messages that are due later, in one transaction.
    pub async fn insert_due(
        &self,
        payloads: &[String],
        due: &[SystemTime],
    ) -> Result<(), QueueError> {
        let sql = self.render(include_str!("due.sql"));
        self.client.execute(&sql, &[&payloads, &due]).await?;
        Ok(())
    }

    /// Inserts so many messages that are due in a day.
    pub async fn schedule(&self, messages: u64) -> Result<(), QueueError> {
        let sql = self.render(include_str!("schedule.sql"));
        self.client.execute(&sql, &[&(messages as i64)]).await?;
        Ok(())
    }

    /// The pages of the table.
    pub async fn pages(&self) -> Result<u64, QueueError> {
        let call =
            "SELECT pg_relation_size($1::text::regclass) / current_setting('block_size')::int";
        let row = self.client.query_one(call, &[&self.table]).await?;
        Ok(row.try_get::<_, i64>(0)?.max(0) as u64)
    }

    /// Reads the rows on some of the pages, payloads and all, and says how many there were.
    pub async fn read_out(&self, pages: std::ops::Range<u64>) -> Result<u64, QueueError> {
        let sql = self.render(include_str!("read_out.sql"));
        let place = |page: u64| format!("({page},0)");
        let places = [place(pages.start), place(pages.end)];
        let mut rows = pin!(self.client.query_raw(&sql, &places).await?);
        let mut count = 0;
        while let Some(row) = rows.try_next().await? {
            let _: fetch::Payload<'_> = row.try_get(1)?;
            count += 1;
        }
        Ok(count)
    }

    fn render(&self, sql: &str) -> String {
        sql.replace("{table}", &self.table)
    }
}

impl BenchQueue {
    /// The table with the least that can be stored.
    #[must_use]
    pub fn baseline_table(&self) -> String {
        format!("host.{}__floor", self.name)
    }

    /// The table with the queue's columns and its index.
    #[must_use]
    pub fn bare_table(&self) -> String {
        format!("host.{}__bare", self.name)
    }

    /// Makes both.
    pub async fn create_bare(&self, client: &Client) -> Result<(), QueueError> {
        Ok(client.batch_execute(&self.render(include_str!("bare.sql"))).await?)
    }

    /// Empties both.
    pub async fn empty_bare(&self, client: &Client) -> Result<(), QueueError> {
        Ok(client.batch_execute(&self.render(include_str!("empty_bare.sql"))).await?)
    }

    /// Switches the wake-up on or off.
    pub async fn set_wake_up(&self, client: &Client, on: bool) -> Result<(), QueueError> {
        let sql = self.render(include_str!("wake_up.sql"));
        let sql = sql.replace("{enable}", if on { "ENABLE" } else { "DISABLE" });
        Ok(client.batch_execute(&sql).await?)
    }
}
