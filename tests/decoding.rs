//! What one row can hold and a host cannot read, or Postgres cannot take, costs that row and no
//! other.

use std::fmt::Write as _;
use std::process::Command;

use fastrand::Rng;
use host_core::message::PayloadType;
use serde_json::Value;

use crate::harness::postgres::OwnServer;
use crate::harness::server::scratch_dir;
use crate::harness::sql_host::{create_queue, deploy, sqlstate, value};
use crate::harness::{Deployment, Scene, SqlHost, TestDb, seed};

/// A jsonb nested far deeper than the JSON library goes, as SQL.
const DEEP: &str = r#"('{"n": ' || repeat('[', 2000) || repeat(']', 2000) || '}')"#;

/// Messages of `work` that say `ack`, those in the midst with headers that the library refuses.
async fn enqueue_strange(scene: &Scene) {
    for headers in
        ["NULL".to_owned(), r#"'{"n": 1e400}'"#.to_owned(), DEEP.to_owned(), "NULL".to_owned()]
    {
        let insert = "INSERT INTO queue.work (payload, headers)
            SELECT '\"ack\"', ";
        scene.run(&format!("{insert} {headers}::jsonb FROM generate_series(1, 50)")).await;
    }
}

#[tokio::test]
async fn headers_that_no_json_library_holds_are_given_as_text() {
    for settings in ["", "p_keyed_lanes => 4", "p_ordered_lanes => 4"] {
        let scene = Scene::new(settings).await;
        scene.deploy("work", "misbehave", Deployment::default()).await;
        enqueue_strange(&scene).await;
        let _host = scene.serve("host", &[]);
        scene.wait_done("work").await;
        assert_eq!(scene.number("SELECT count(*) FROM host.work__dead_letter").await, 0);
    }
}

#[tokio::test]
async fn an_operator_sees_messages_with_such_headers() {
    let scene = Scene::new("p_keep_ms => 3600000").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    scene.pause("work", true).await;
    scene.run("INSERT INTO queue.work (payload, headers) VALUES ('\"ack\"', '{\"n\": 1e400, \"a\": 5}')").await;
    scene
        .run(&format!(
            "INSERT INTO queue.work (payload, headers) VALUES ('\"dead\"', {DEEP}::jsonb)"
        ))
        .await;
    let host = async |args: &[&str]| scene.db.host(args).await.ok();
    let shown: Value = serde_json::from_str(&host(&["peek", "work", "--json"]).await).unwrap();
    assert_eq!(shown[0]["headers"]["a"], 5);
    assert!(shown[0]["headers"]["n"].as_str().unwrap().starts_with("1000"), "{shown}");
    assert!(shown[1]["headers"]["n"].as_str().unwrap().starts_with("[[["), "{shown}");
    for id in ["1", "2"] {
        host(&["message", "work", id]).await;
    }
    host(&["cancel", "work", "1"]).await;
    let _host = scene.serve("host", &[]);
    scene.pause("work", false).await;
    scene.wait_done("work").await;
    let shown = host(&["dead", "show", "work", "1"]).await;
    assert!(shown.contains("[[["), "{shown}");
}

/// Whatever lanes a queue has, and however many messages a call takes.
#[tokio::test]
async fn a_row_that_cannot_be_read_is_a_failed_message() {
    for (settings, plugin) in [
        ("", "misbehave"),
        ("p_ordered_lanes => 4", "misbehave"),
        ("p_keyed_lanes => 4", "misbehave-batch"),
        ("", "misbehave-batch"),
    ] {
        let settings = format!(
            "p_max_attempts => 2, p_delays_ms => '{{1}}'{}{settings}",
            if settings.is_empty() { "" } else { ", " }
        );
        let scene = Scene::new(&settings).await;
        scene.deploy("work", plugin, Deployment::default()).await;
        scene.run("ALTER TABLE queue.work DROP CONSTRAINT headers_is_an_object").await;
        let payload = if plugin == "misbehave-batch" { r#"{"n": 1}"# } else { r#""ack""# };
        let insert = async |count: u32, headers: &str| {
            scene
                .run(&format!(
                    "INSERT INTO queue.work (payload, headers)
                     SELECT '{payload}', {headers}::jsonb FROM generate_series(1, {count})"
                ))
                .await;
        };
        insert(20, "NULL").await;
        insert(1, "'[1]'").await;
        insert(20, "NULL").await;
        let _host = scene.serve("host", &[]);
        scene.wait_done("work").await;
        let dead = "SELECT attempt || ' ' || reason || ': ' || error FROM host.work__dead_letter";
        let dead = scene.texts(dead).await;
        assert_eq!(dead.len(), 1, "{settings} {plugin}");
        let why = "2 attempts used up: the message cannot be read: ";
        assert!(dead[0].starts_with(why) && dead[0].contains("a JSON object"), "{dead:?}");
    }
}

#[tokio::test]
async fn messages_that_were_deleted_by_hand_hold_up_no_lease() {
    for settings in ["", "p_ordered_lanes => 4"] {
        let scene = Scene::new(settings).await;
        scene.deploy("work", "misbehave", Deployment::default()).await;
        scene
            .run("INSERT INTO queue.work (payload) SELECT '\"ack\"' FROM generate_series(1, 20)")
            .await;
        let handler: i32 = value(&scene.client, "SELECT id FROM host.handler").await;
        let hand = SqlHost::new(&scene.db, "work", handler).await;
        let mut held = None;
        let mut hands: Vec<_> = Vec::new();
        for lane in 0..4 {
            let mut of_lane = hand.beside(&scene.db).await;
            of_lane.lane = lane;
            if settings.is_empty() && lane > 0 {
                break;
            }
            held = of_lane.lease(100).await.or(held);
            hands.push(of_lane);
        }
        assert!(held.is_some());
        let delete = "DELETE FROM host.work__message_0 WHERE id % 3 = 0";
        let refused = scene.client.batch_execute(delete).await;
        assert_eq!(sqlstate(refused), "P0001", "no owner does that by accident");
        let disable = "ALTER TABLE host.work__message_0 DISABLE TRIGGER ALL";
        scene.run(&format!("{disable}; {delete}")).await;
        hand.end(true).await;
        let host = scene.serve("host", &[]);
        scene.wait_done("work").await;
        assert!(host.log().contains("messages were deleted by hand"), "{}", host.log());
    }
}

#[tokio::test]
async fn a_lease_counts_headers_as_it_counts_payloads() {
    let db = TestDb::new().await;
    let client = db.client().await;
    for (queue, settings) in
        [("plain", ""), ("keyed", ", p_keyed_lanes => 2"), ("ordered", ", p_ordered_lanes => 2")]
    {
        create_queue(&client, queue, settings).await;
        let handler = deploy(&client, queue, "default").await;
        // One that Postgres compresses, and one that it cannot.
        for text in [
            "repeat('x', 60000)",
            "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 1900))",
        ] {
            let key = if settings.is_empty() { "NULL" } else { "'k'" };
            client
                .batch_execute(&format!(
                    "INSERT INTO queue.{queue} (payload, headers, key)
                     SELECT to_jsonb(g), jsonb_build_object('h', {text}), {key} FROM generate_series(1, 50) g"
                ))
                .await
                .unwrap();
        }
        let mut hand = SqlHost::new(&db, queue, handler).await;
        let mut leases = 0;
        for lane in 0..2 {
            hand.lane = lane;
            while let Some(held) = hand.try_lease(1_000, 1 << 20).await.unwrap() {
                assert!(held.count <= 18, "{queue}: {held:?}");
                hand.ack(&held).await;
                leases += 1;
                if settings.is_empty() {
                    hand.lane = 0;
                }
            }
            if settings.is_empty() {
                break;
            }
        }
        assert!((6..=20).contains(&leases), "{queue}: {leases}");
    }
}

/// JSON of all kinds, sound or not, and sometimes far out.
fn random_json(rng: &mut Rng, depth: u32) -> String {
    const STRANGE: [&str; 18] = [
        "1e400",
        "-1E-400",
        "1e131071",
        "1e131072",
        "1e-16383",
        "1e-16384",
        "0e999999",
        "0e-16384",
        "-0.0",
        "1.50",
        r#""\u0000""#,
        r#""\ud83d\ude00""#,
        r#""\ud83d""#,
        r#""\ude00\ud83d""#,
        r#""é\/\b\u001f\u007f\n""#,
        "1E+2",
        "tru",
        "01",
    ];
    match rng.u32(0..if depth > 3 { 6 } else { 9 }) {
        0 => STRANGE[rng.usize(..STRANGE.len())].to_owned(),
        1 => ["true", "false", "null"][rng.usize(..3)].to_owned(),
        2 => rng.i64(..).to_string(),
        3 => format!("{}e{}", rng.f64(), rng.i32(-400..400)),
        4 => format!("{}.{}", rng.u32(..), rng.u32(..)),
        5 => Value::from(
            (0..rng.usize(..5)).map(|_| rng.char('\u{1}'..'\u{2fff}')).collect::<String>(),
        )
        .to_string(),
        6 => {
            let parts: Vec<_> = (0..rng.usize(..4)).map(|_| random_json(rng, depth + 1)).collect();
            format!("[{}]", parts.join(" ,"))
        }
        _ => {
            let mut text = String::from("{ ");
            for n in 0..rng.usize(..4) {
                let comma = if n > 0 { "," } else { "" };
                write!(text, "{comma}\"k{n}\":{}", random_json(rng, depth + 1)).unwrap();
            }
            text + "}"
        }
    }
}

/// Neither more nor less than Postgres takes, and of the length that its check counts.
#[tokio::test]
async fn a_guest_is_told_at_once_what_postgres_would_refuse() {
    let db = TestDb::new().await;
    let client = db.client().await;
    let mut rng = Rng::with_seed(seed());
    let deep = |n| "[".repeat(n) + &"]".repeat(n);
    let mut texts: Vec<String> = (0..1_500).map(|_| random_json(&mut rng, 0)).collect();
    texts.extend([
        deep(1_000),
        format!("{{\"a\": {}}}", deep(999)),
        "9".repeat(131_072),
        "9".repeat(131_073),
    ]);
    let (mut taken, mut refused) = (0, 0);
    for text in texts {
        for kind in [PayloadType::Jsonb, PayloadType::Json] {
            let cast = format!("SELECT octet_length($1::text::{}::text)::bigint", kind.sql_name());
            let stored = client.query_one(&cast, &[&text]).await;
            let stored = stored.map(|row| row.get::<_, i64>(0).cast_unsigned());
            match (kind.check(text.as_bytes()), &stored) {
                (Ok(bytes), Ok(stored)) => {
                    assert_eq!(bytes, *stored, "{kind:?} {text}");
                    taken += 1;
                }
                (Err(_), Err(_)) => refused += 1,
                (check, _) => panic!("{kind:?} {text}: {check:?}, Postgres: {stored:?}"),
            }
        }
    }
    assert!(taken > 500 && refused > 100, "{taken} taken, {refused} refused");
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused_with_what_to_do() {
    let db = TestDb::empty().await;
    let client = db.client().await;
    for encoding in ["LATIN1", "WIN1252", "SQL_ASCII"] {
        let name = format!("{}_{}", db.name, encoding.to_lowercase());
        client
            .batch_execute(&format!(
                "CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"
            ))
            .await
            .unwrap();
        let url = db.url.replace(&db.name, &name);
        let other = TestDb::elsewhere(name, url);
        for command in ["migrate", "serve"] {
            let error = other.host(&[command]).await.error(1);
            assert!(
                error.contains(&format!(
                    "the database's encoding is {encoding}, and host needs UTF8"
                )) && error.contains("--encoding=UTF8"),
                "{error}"
            );
        }
    }
}

/// A host's prepared statements are of no use then. It knows that whatever language the server
/// speaks.
#[tokio::test]
async fn a_queue_that_is_made_again_with_another_payload_type_is_served() {
    made_again(&Scene::new("").await).await;
}

/// Only where the system has that language: `localedef -i de_DE -f UTF-8 de_DE.UTF-8`.
#[tokio::test]
async fn a_server_that_speaks_german_is_understood() {
    let locales = Command::new("locale").arg("-a").output().map(|all| all.stdout);
    if !String::from_utf8_lossy(&locales.unwrap_or_default()).contains("de_DE.utf8") {
        eprintln!("SKIPPED: the locale de_DE.UTF-8 is not installed");
        return;
    }
    let server = OwnServer::start(&scratch_dir(), &[("lc_messages", "de_DE.UTF-8")]).await;
    let scene = server.migrated().await;
    let error = scene.client.batch_execute("SELECT 1 / 0").await.unwrap_err();
    assert_eq!(error.as_db_error().unwrap().message(), "Division durch Null");
    scene.queue("work", "").await;
    made_again(&scene).await;
    let status = scene.db.host(&["status"]).await.ok();
    assert!(status.contains("work"), "{status}");
    // The server's fsync is off.
    assert_eq!(scene.db.host(&["doctor"]).await.code, 5);
}

async fn made_again(scene: &Scene) {
    scene.deploy("work", "misbehave", Deployment::default()).await;
    let host = scene.serve("host", &[]);
    for payload in [r#""ack""#, "ack", r#""ack""#] {
        scene.run(&format!("INSERT INTO queue.work (payload) VALUES ('{payload}')")).await;
        scene.wait_done("work").await;
        scene.run("SELECT host.drop_queue('work', true)").await;
        let kind = if payload == "ack" { "jsonb" } else { "text" };
        scene.queue("work", &format!("p_payload_type => '{kind}'")).await;
        scene.deploy("work", "misbehave", Deployment::default()).await;
        scene.wait_loaded("work", 1, 1).await;
    }
    assert!(!host.log().contains("trying again until it works"), "{}", host.log());
}
