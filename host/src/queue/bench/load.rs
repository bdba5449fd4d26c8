//! A benchmark's producers: each a connection that inserts as any producer does. Never looks at a message
//! again.

use std::pin::pin;

use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Statement};

use crate::queue::connect::{Alone, Database};
use crate::queue::error::QueueError;
use crate::queue::producer::Payload;

/// What producers' connections are called.
pub const APPLICATION_NAME: &str = "host bench";

/// A connection that inserts into a table with a column `payload` of type jsonb.
pub struct Producer {
    client: Client,
    table: String,
    insert: Option<(usize, Statement)>,
}

impl Producer {
    /// Connects. The table is named with its schema.
    pub async fn connect(database: &Database, table: &str) -> Result<Self, QueueError> {
        let Alone { client, .. } = database.named_as(APPLICATION_NAME, 1)?.connect_alone().await?;
        Ok(Self { client, table: table.to_owned(), insert: None })
    }

    /// Inserts rows by one INSERT, in a transaction of its own.
    pub async fn insert(&mut self, payloads: &[String]) -> Result<(), QueueError> {
        let statement = match &self.insert {
            Some((rows, statement)) if *rows == payloads.len() => statement.clone(),
            _ => {
                let values: Vec<_> = (1..=payloads.len()).map(|n| format!("(${n})")).collect();
                let sql = include_str!("../sql/bench/insert.sql")
                    .replace("{table}", &self.table)
                    .replace("{values}", &values.join(", "));
                let statement = self.client.prepare(&sql).await?;
                self.insert = Some((payloads.len(), statement.clone()));
                statement
            }
        };
        let payloads: Vec<_> = payloads.iter().map(|p| Payload(p.as_bytes())).collect();
        let row: Vec<_> = payloads.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
        self.client.execute(&statement, &row).await?;
        Ok(())
    }

    /// Inserts rows by one COPY, in a transaction of its own.
    pub async fn copy(&mut self, payloads: impl Iterator<Item = String>) -> Result<(), QueueError> {
        let copy = include_str!("../sql/bench/copy_in.sql").replace("{table}", &self.table);
        let sink = self.client.copy_in(&copy).await?;
        let mut writer = pin!(BinaryCopyInWriter::new(sink, &[Type::JSONB]));
        for payload in payloads {
            writer.as_mut().write(&[&Payload(payload.as_bytes())]).await?;
        }
        writer.finish().await?;
        Ok(())
    }
}
