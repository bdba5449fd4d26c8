//! Producers that insert all the while, each message together with a row of an ordinary table that
//! says what is to become of it. So what was committed is known even where a COMMIT's reply was
//! lost.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use futures_util::SinkExt as _;
use tokio_postgres::{Client, Error, NoTls};

/// What producers share.
#[derive(Default)]
pub struct Producers {
    next: AtomicI64,
    /// They stop when this is set.
    pub stop: AtomicBool,
    /// The numbers that Postgres has said are committed.
    pub acknowledged: Mutex<Vec<i64>>,
}

/// A message, and what is to become of it.
struct Message {
    number: i64,
    payload: String,
    delay_ms: u64,
    fate: &'static str,
}

impl Producers {
    /// Inserts until told to stop, connecting again whenever the connection is lost.
    pub async fn produce(&self, url: String, mut rng: Rng) {
        while !self.stop.load(Ordering::Relaxed) {
            if let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await {
                let connection = tokio::spawn(connection);
                // Whatever it was, the next connection tells.
                let _ = self.transactions(&client, &mut rng).await;
                connection.abort();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A number of messages in one transaction, on a connection that is there.
    pub async fn insert(&self, client: &Client, many: usize, rng: &mut Rng) -> Result<(), Error> {
        let messages: Vec<Message> = (0..many).map(|_| self.message(rng)).collect();
        client.batch_execute("BEGIN").await?;
        put(client, &messages, rng).await?;
        self.commit(client, &messages).await
    }

    async fn transactions(&self, client: &Client, rng: &mut Rng) -> Result<(), Error> {
        while !self.stop.load(Ordering::Relaxed) {
            client.batch_execute("BEGIN").await?;
            let mut messages = Vec::new();
            for _ in 0..rng.u8(1..4) {
                let many = if rng.u8(..20) == 0 { 300 } else { 30 };
                let part: Vec<_> = (0..rng.u16(1..many)).map(|_| self.message(rng)).collect();
                put(client, &part, rng).await?;
                messages.extend(part);
                if rng.u8(..50) == 0 {
                    // Held open, while others come and go.
                    tokio::time::sleep(Duration::from_millis(rng.u64(500..4_000))).await;
                }
            }
            if rng.u8(..10) == 0 {
                client.batch_execute("ROLLBACK").await?;
            } else {
                self.commit(client, &messages).await?;
            }
            tokio::time::sleep(Duration::from_millis(rng.u64(20..120))).await;
        }
        Ok(())
    }

    async fn commit(&self, client: &Client, messages: &[Message]) -> Result<(), Error> {
        client.batch_execute("COMMIT").await?;
        let numbers = messages.iter().map(|m| m.number);
        self.acknowledged.lock().expect("the acknowledged").extend(numbers);
        Ok(())
    }

    fn message(&self, rng: &mut Rng) -> Message {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (what, ms, n, fate) = match rng.u16(..1_000) {
            0..10 => ("dead", 0, 0, "rejected"),
            10..20 => ("retry", 50, 0, "attempts used up"),
            20..25 => ("trap", 0, 0, "attempts used up"),
            25..60 => ("watch", 0, rng.u64(1..3), "done"),
            60..65 => ("watch", rng.u64(1_000..4_000), 0, "done"),
            65..400 => ("watch", rng.u64(1..400), 0, "done"),
            _ => ("watch", 0, 0, "done"),
        };
        let delay_ms = if rng.u8(..50) == 0 { rng.u64(1..4_000) } else { 0 };
        let payload = format!(
            r#"{{"do": "{what}", "ms": {ms}, "n": {n}, "queue": "sink", "text": "{number}"}}"#
        );
        Message { number, payload, delay_ms, fate }
    }
}

/// Inserts messages in one of the ways there are, in the transaction that is open.
async fn put(client: &Client, messages: &[Message], rng: &mut Rng) -> Result<(), Error> {
    let mut rows = String::new();
    let mut sent = String::from("INSERT INTO public.sent VALUES ");
    let copied = rng.u8(..4) == 0;
    for (i, Message { number, payload, delay_ms, fate }) in messages.iter().enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        write!(sent, "{comma}({number}, '{fate}')").expect("text");
        if copied {
            writeln!(rows, "{payload}").expect("text");
        } else {
            let run_at = match delay_ms {
                0 => "NULL".to_owned(),
                ms => format!("now() + interval '{ms} ms'"),
            };
            write!(rows, "{comma}('{payload}', {run_at})").expect("text");
        }
    }
    if copied {
        let copy = client.copy_in("COPY queue.work (payload) FROM STDIN").await?;
        let mut copy = std::pin::pin!(copy);
        copy.send(Bytes::from(rows)).await?;
        copy.finish().await?;
    } else {
        let insert = format!("INSERT INTO queue.work (payload, run_at) VALUES {rows}");
        client.batch_execute(&insert).await?;
    }
    client.batch_execute(&sent).await
}
