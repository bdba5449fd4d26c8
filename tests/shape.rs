//! `host/core/src/diagnosis/shape.txt` is what new queues are like, and so are queues of every
//! setting.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use tokio_postgres::Client;

use crate::harness::sql_host::create_queue;
use crate::harness::{TestDb, repository};

const KINDS: [(&str, &str); 4] = [
    ("plain", ""),
    ("priorities", ", p_priorities => true"),
    ("ordered", ", p_ordered_lanes => 8"),
    ("keyed", ", p_keyed_lanes => 8"),
];

/// What the other tests watch tables with is not the product's.
const WITHOUT_TRIPWIRE: &str = "DROP EVENT TRIGGER tripwire; DROP SCHEMA tripwire CASCADE";

#[tokio::test]
async fn the_schema_of_queues_is_current() {
    let db = TestDb::new().await;
    let client = db.client().await;
    client.batch_execute(WITHOUT_TRIPWIRE).await.unwrap();
    let mut kinds: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (kind, settings) in KINDS {
        create_queue(&client, kind, &format!("{settings}, p_keep_ms => 60000")).await;
        client.execute("SELECT host.set_unique($1, 0)", &[&kind]).await.unwrap();
        for row in client.query("SELECT part, line FROM host.shape($1)", &[&kind]).await.unwrap() {
            let (part, line): (&str, &str) = (row.get(0), row.get(1));
            let of = if part == "queue" { kind } else { part };
            kinds.entry(line.to_owned()).or_default().insert(if of == part {
                part_name(part)
            } else {
                kind
            });
        }
    }
    let all: BTreeSet<&str> = KINDS.map(|(kind, _)| kind).into();
    let mut now = String::new();
    for (line, of) in &kinds {
        let of = if *of == all {
            "all".to_owned()
        } else {
            of.iter().copied().collect::<Vec<_>>().join(",")
        };
        writeln!(now, "{of}|{line}").unwrap();
    }

    let path = repository().join("host/core/src/diagnosis/shape.txt");
    if std::env::var_os("SCHEMA").is_some_and(|v| v == "write") {
        std::fs::write(&path, now).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    let change = kept.lines().zip(now.lines()).find(|(kept, now)| kept != now);
    assert!(
        kept == now,
        "host/core/src/diagnosis/shape.txt is not what queues are like (first difference: {change:?}): \
         run `make schema`, and look at what changed"
    );
}

fn part_name(part: &str) -> &'static str {
    match part {
        "history" => "history",
        "unique" => "unique",
        other => panic!("no part {other}"),
    }
}

async fn damage(client: &Client) -> Vec<String> {
    let found = host_queue::inspect::shape::damage(client, client).await.unwrap();
    found.iter().map(ToString::to_string).collect()
}

/// Nothing that an operator may set makes a queue another than doctor expects.
#[tokio::test]
async fn a_queue_of_any_setting_is_as_expected() {
    let db = TestDb::new().await;
    let client = db.client().await;
    client.batch_execute(WITHOUT_TRIPWIRE).await.unwrap();
    let settings = [
        "a --payload bytea --max-bytes 5MiB --no-wake-up",
        "id --payload text --keep 1h",
        "payload --payload json --priorities",
        "host --ordered=64 --unique 1h",
        "queue_1 --per-key=2 --rate 10/1s --max-bytes 1KiB",
    ];
    for create in settings {
        db.host(&[&["queue", "create"], &create.split(' ').collect::<Vec<_>>()[..]].concat())
            .await
            .ok();
    }
    assert_eq!(damage(&client).await, [""; 0]);
    for set in [
        "a --wake-up",
        "id --keep off",
        "id --unique 1h",
        "host --unique off",
        "payload --no-wake-up",
        "queue_1 --rate off",
        "queue_1 --keep 1h",
    ] {
        db.host(&[&["queue", "set"], &set.split(' ').collect::<Vec<_>>()[..]].concat()).await.ok();
        assert_eq!(damage(&client).await, [""; 0], "after {set}");
    }
    client
        .batch_execute("UPDATE host.migration_functions SET sha256 = 'of an earlier release'")
        .await
        .unwrap();
    db.host(&["migrate"]).await.ok();
    assert_eq!(damage(&client).await, [""; 0]);
}

/// Tools show comments; what has none looks as if nobody needed it.
#[tokio::test]
async fn every_table_and_column_has_a_comment() {
    let db = TestDb::new().await;
    let client = db.client().await;
    for (kind, settings) in KINDS {
        create_queue(&client, kind, &format!("{settings}, p_keep_ms => 60000")).await;
    }
    let bare = "SELECT c.oid::regclass::text || coalesce('.' || a.attname, '')
        FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            AND NOT c.relispartition
        WHERE c.relnamespace::regnamespace::text IN ('host', 'queue') AND c.relkind IN ('r', 'p', 'v')
            AND (obj_description(c.oid, 'pg_class') IS NULL
                OR a.attnum IS NOT NULL AND col_description(c.oid, a.attnum) IS NULL)
        UNION ALL
        SELECT nspname FROM pg_namespace n WHERE nspname IN ('host', 'queue')
            AND obj_description(n.oid, 'pg_namespace') IS NULL
        UNION ALL
        SELECT relation || '.' || key FROM host.comments(), jsonb_object_keys(columns) key
            WHERE NOT EXISTS (SELECT FROM pg_attribute a
                WHERE a.attrelid = ANY (ARRAY(SELECT to_regclass(replace(relation, '{q}', x))
                    FROM unnest(ARRAY['plain', 'ordered']) x)) AND a.attname = key)";
    let rows = client.query(bare, &[]).await.unwrap();
    let bare: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(bare, [""; 0], "no comment in migrations/functions/comments.sql, or one on nothing");

    // Queues of an earlier release.
    let gone =
        "COMMENT ON TABLE queue.plain IS NULL; COMMENT ON COLUMN host.plain__lease.tat IS NULL;
        UPDATE host.migration_functions SET sha256 = 'of an earlier release'";
    client.batch_execute(gone).await.unwrap();
    db.host(&["migrate"]).await.ok();
    let rows = client.query(
        "SELECT obj_description('queue.plain'::regclass), col_description('host.plain__lease'::regclass, attnum)
             FROM pg_attribute WHERE attrelid = 'host.plain__lease'::regclass AND attname = 'tat'", &[]).await.unwrap();
    let (table, column): (Option<&str>, Option<&str>) = (rows[0].get(0), rows[0].get(1));
    assert!(table.is_some_and(|text| text.contains("Producers insert payload")), "{table:?}");
    assert!(column.is_some());
}
