//! A user's trigger or constraint on a queue's table meets what hosts insert there. It stops the
//! messages that it refuses, and no others.

use serde_json::json;

use crate::harness::sql_host::{create_queue, deploy, sqlstate, value};
use crate::harness::{Deployment, Scene, SqlHost, TestDb, wait_until};

/// What a trigger of the other queue's owner lacks is the message's failure: its own queue is not
/// taken for dropped.
#[tokio::test]
async fn a_trigger_that_finds_no_function_fails_the_message_that_enqueues() {
    let scene = Scene::new("p_max_attempts => 2, p_delays_ms => '{1}'").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    // With the search path of producers it is found.
    scene
        .run(
            "CREATE FUNCTION public.audited() RETURNS int LANGUAGE sql AS 'SELECT 1';
             CREATE FUNCTION public.audit() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN PERFORM audited(); RETURN NEW; END';
             CREATE TRIGGER audit BEFORE INSERT ON queue.sink FOR EACH ROW EXECUTE FUNCTION public.audit();
             INSERT INTO queue.sink (payload) VALUES ('by hand')",
        )
        .await;
    let enqueues = json!({"do": "enqueue", "n": 1, "queue": "sink", "text": "x"});
    for payload in [json!("ack"), enqueues, json!("ack")] {
        let insert = "INSERT INTO queue.work (payload) VALUES ($1)";
        scene.client.execute(insert, &[&payload]).await.unwrap();
    }
    let _host = scene.serve("host", &[]);
    scene.wait_done("work").await;
    let dead = scene.texts("SELECT attempt || ' ' || error FROM host.work__dead_letter").await;
    let why = "2 follow-up refused: function audited() does not exist";
    assert!(dead.len() == 1 && dead[0].starts_with(why), "{dead:?}");
}

#[tokio::test]
async fn what_postgres_says_of_a_follow_up_is_without_its_secrets() {
    let scene = Scene::new("p_max_attempts => 1").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    // Postgres shows 64 bytes of a value in an error's detail.
    let secret = "correct horse ".repeat(8);
    scene.run(&format!("SELECT host.set_secret('key', '{secret}')")).await;
    scene.run("UPDATE host.handler_version SET secrets = '{key}'").await;
    scene
        .run("ALTER TABLE queue.sink ADD CONSTRAINT short CHECK (octet_length(payload) < 50)")
        .await;
    scene.run("SELECT host.set_unique('sink', 0, 'refuse')").await;
    scene
        .run(&format!("INSERT INTO queue.sink (payload, unique_key) VALUES ('first', '{secret}')"))
        .await;
    for command in [
        json!({"do": "tell", "text": "key", "queue": "sink"}),
        json!({"do": "tell", "text": "key", "queue": "sink", "unique_key": secret}),
    ] {
        let insert = "INSERT INTO queue.work (payload) VALUES ($1)";
        scene.client.execute(insert, &[&command]).await.unwrap();
    }
    let host = scene.serve("host", &[]);
    scene.wait_done("work").await;
    let dead = scene
        .texts("SELECT error || history::text FROM host.work__dead_letter ORDER BY message_id")
        .await;
    assert_eq!(dead.len(), 2);
    assert!(dead[0].contains("violates check constraint \"short\""), "{dead:?}");
    assert!(dead[1].contains("unique_key \"***\" is taken"), "{dead:?}");
    for said in [dead.concat(), host.log()] {
        assert!(!said.contains("horse"), "{said}");
    }
}

/// What somebody has put on a queue's table, and what it says of the number 5.
const IN_THE_WAY: [(&str, &str); 7] = [
    (
        "ALTER TABLE queue.q ADD CONSTRAINT five CHECK (payload <> '5') NOT VALID",
        "violates check constraint \"five\"",
    ),
    (
        "CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN IF NEW.payload = ''5'' THEN PERFORM 1 FROM audit; END IF; RETURN NEW; END';
         CREATE TRIGGER f BEFORE INSERT ON queue.q FOR EACH ROW EXECUTE FUNCTION public.f()",
        "relation \"audit\" does not exist",
    ),
    (
        "CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN IF NEW.payload = ''5'' THEN RETURN NULL; END IF; RETURN NEW; END';
         CREATE TRIGGER f BEFORE INSERT ON queue.q FOR EACH ROW EXECUTE FUNCTION public.f()",
        "a trigger of the table left it out",
    ),
    (
        "CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN IF NEW.payload = ''5'' THEN RAISE ''no five''; END IF; RETURN NULL; END';
         CREATE CONSTRAINT TRIGGER f AFTER INSERT ON queue.q DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION public.f()",
        "no five",
    ),
    // What Postgres would say of all messages alike, if it were Postgres that says it.
    (
        "CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN IF NEW.payload = ''5'' THEN RAISE ''not five'' USING ERRCODE = ''55P03''; END IF; RETURN NEW; END';
         CREATE TRIGGER f BEFORE INSERT ON queue.q FOR EACH ROW EXECUTE FUNCTION public.f()",
        "not five",
    ),
    (
        "CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN IF NEW.payload = ''5'' THEN RAISE query_canceled; END IF; RETURN NEW; END';
         CREATE TRIGGER f BEFORE INSERT ON queue.q FOR EACH ROW EXECUTE FUNCTION public.f()",
        "query_canceled",
    ),
    (
        "CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN ASSERT NEW.payload <> ''5'', ''five''; RETURN NEW; END';
         CREATE TRIGGER f BEFORE INSERT ON queue.q FOR EACH ROW EXECUTE FUNCTION public.f()",
        "five",
    ),
];

#[tokio::test]
async fn a_trigger_or_constraint_that_refuses_one_message_stops_no_other() {
    for (in_the_way, why) in IN_THE_WAY {
        let db = TestDb::new().await;
        let client = db.client().await;
        create_queue(
            &client,
            "q",
            ", p_max_attempts => 2, p_backoff_base_ms => 1, p_backoff_cap_ms => 1",
        )
        .await;
        let handler = deploy(&client, "q", "default").await;
        let hand = SqlHost::new(&db, "q", handler).await;
        // Some of them committed late, behind the cursor.
        let stalled = db.client().await;
        let schedule = |a: u32, b: u32| {
            format!(
                "INSERT INTO host.q__schedule (due, slot, origin, enqueued_at, handler_id, attempt, payload)
                 SELECT d, host.slot(d, now()), g, now(), {handler}, 1, to_jsonb(g)
                 FROM generate_series({a}, {b}) g, LATERAL (SELECT now() - interval '1 min') AS x (d)"
            )
        };
        stalled.batch_execute(&format!("BEGIN; {}", schedule(1, 10))).await.unwrap();
        client.batch_execute(&schedule(11, 20)).await.unwrap();
        let promote = async || -> (i32, i32, Option<String>) {
            let row = hand
                .query("SELECT promoted, refused, why FROM host.{q}__promote(100)", &[])
                .await
                .unwrap();
            (row.get(0), row.get(1), row.get(2))
        };
        assert_eq!(promote().await, (10, 0, None));
        client.batch_execute(in_the_way).await.unwrap();
        stalled.batch_execute("COMMIT").await.unwrap();
        let (promoted, refused, said) = promote().await;
        assert_eq!((promoted, refused), (10, 1));
        let said = said.unwrap();
        assert!(
            said.contains(why) && said.starts_with("cannot be put back on the queue: "),
            "{said}"
        );
        let dead = "SELECT count(*) FROM host.q__dead_letter";
        wait_until("it is given up on", async || {
            promote().await;
            value::<i64>(&client, dead).await == 1
        })
        .await;
        let mut done = hand.work_off().await;
        done.sort_unstable();
        let others: Vec<i64> = (1..=20).filter(|n| *n != 5).collect();
        assert_eq!(done, others, "{why}");
        let letter = "SELECT attempt || ' ' || reason || ' ' || jsonb_array_length(history) || ' ' || error FROM host.q__dead_letter";
        let letter: String = value(&client, letter).await;
        assert!(
            letter.starts_with("2 attempts used up 2 cannot be put back on the queue: "),
            "{letter}"
        );
        client.batch_execute("SELECT host.drop_queue('q', true)").await.unwrap();
    }
}

#[tokio::test]
async fn that_messages_cannot_be_put_back_is_in_the_log() {
    let scene = Scene::new("p_max_attempts => 2, p_delays_ms => '{1}'").await;
    scene.deploy("work", "misbehave", Deployment::default()).await;
    scene.run("INSERT INTO queue.work (payload) VALUES ('\"retry\"')").await;
    scene.run("ALTER TABLE queue.work ADD CONSTRAINT once CHECK (attempt = 1) NOT VALID").await;
    let host = scene.serve("host", &[]);
    scene.wait_done("work").await;
    let log = host.log();
    let line = log.lines().find(|line| line.contains("cannot be put on the queue"));
    let named = line.is_some_and(|line| line.contains("queue=work") && line.contains("once"));
    assert!(named, "{log}");
}

/// What an operator takes from the dead letters has to be on the queue, or it is a dead letter
/// still.
#[tokio::test]
async fn a_dead_letter_that_a_trigger_keeps_from_the_queue_stays() {
    let (_db, _client, hand) = SqlHost::with_queue(", p_max_attempts => 1").await;
    hand.run("SELECT host.create_queue('other')").await;
    hand.run("INSERT INTO queue.{q} (payload) VALUES ('5'), ('6')").await;
    let held = hand.must_lease(10).await;
    let dead = ", p_dead_pos => '{0,1}', p_dead_reason => '{rejected,rejected}',
        p_dead_entry => ARRAY['{\"attempt\": 1, \"error\": \"no\"}', '{\"attempt\": 1, \"error\": \"no\"}']::jsonb[]";
    assert!(hand.settle(&held, 0, "{[0,2)}", dead).await.unwrap());
    hand.run(
        "CREATE FUNCTION public.skip() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN IF NEW.payload = ''5'' THEN RETURN NULL; END IF; RETURN NEW; END';
         CREATE TRIGGER skip BEFORE INSERT ON queue.{q} FOR EACH ROW EXECUTE FUNCTION public.skip();
         CREATE TRIGGER skip BEFORE INSERT ON queue.other FOR EACH ROW EXECUTE FUNCTION public.skip()",
    )
    .await;
    let letters = "SELECT count(*) FROM host.{q}__dead_letter";
    for take in ["dead_retry(NULL, NULL)", "dead_move(NULL, NULL, 'other')"] {
        let sql = format!("SELECT count(*) FROM host.{{q}}__{take}").replace("{q}", &hand.queue);
        let refused = hand.client.query_one(&sql, &[]).await;
        assert_eq!(sqlstate(refused), "HQ012", "{take}");
        assert_eq!(hand.value::<i64>(letters).await, 2, "{take}");
    }
    hand.run("DROP TRIGGER skip ON queue.{q}; DROP TRIGGER skip ON queue.other").await;
    assert_eq!(hand.value::<i64>("SELECT count(*) FROM host.{q}__dead_retry(NULL, NULL)").await, 2);
    assert_eq!(
        hand.value::<i64>("SELECT count(*) FROM queue.{q} WHERE origin IS NOT NULL").await,
        2
    );
    assert_eq!(hand.value::<i64>(letters).await, 0);
}

/// A trigger waits for a row that somebody has locked: that costs the message an attempt, and the
/// schedule goes on.
#[tokio::test]
async fn a_lock_that_one_message_waits_for_stops_no_other() {
    let (db, client, hand) =
        SqlHost::with_queue(", p_backoff_base_ms => 1, p_backoff_cap_ms => 1").await;
    client
        .batch_execute(
            "CREATE TABLE public.customer (id int); INSERT INTO public.customer VALUES (5);
             CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN PERFORM FROM public.customer WHERE id = NEW.payload::int FOR UPDATE; RETURN NEW; END';
             CREATE TRIGGER look BEFORE INSERT ON queue.q FOR EACH ROW EXECUTE FUNCTION public.look()",
        )
        .await
        .unwrap();
    hand.run(&format!(
        "INSERT INTO host.{{q}}__schedule (due, slot, origin, enqueued_at, handler_id, attempt, payload)
         SELECT d, host.slot(d, now()), g, now(), {}, 1, to_jsonb(g)
         FROM generate_series(5, 8) g, LATERAL (SELECT now() - interval '1 min') AS x (d)",
        hand.handler
    ))
    .await;
    let holder = db.client().await;
    holder.batch_execute("BEGIN; SELECT FROM public.customer FOR UPDATE").await.unwrap();
    // As a host's connections are set.
    hand.run("SET lock_timeout = '500ms'").await;
    let promote = "SELECT refused, why FROM host.{q}__promote(100)";
    let row = hand.query(promote, &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 1);
    let why: String = row.get(1);
    assert!(why.contains("lock timeout"), "{why}");
    assert_eq!(hand.work_off().await, [6, 7, 8]);
    holder.batch_execute("COMMIT").await.unwrap();
    wait_until("its turn has come", async || {
        hand.query(promote, &[]).await.unwrap();
        hand.work_off().await == [5]
    })
    .await;
}

/// A message of no handler has no last attempt: its history keeps the newest.
#[tokio::test]
async fn the_history_of_a_message_of_no_handler_has_an_end() {
    let (_db, client, _hand) = SqlHost::with_queue("").await;
    let put = "INSERT INTO host.q__schedule (due, slot, origin, enqueued_at, attempt, payload, history)
        SELECT now(), host.slot(now(), now()), 1, now(), 1, '1', jsonb_agg(jsonb_build_object('n', n))
        FROM generate_series(1, 100) n";
    client.batch_execute(put).await.unwrap();
    let put_off = "SELECT host.q__put_off(due, id, 'no') FROM host.q__schedule WHERE history -> 0 ->> 'n' = '1'";
    client.batch_execute(put_off).await.unwrap();
    let kept = "SELECT concat_ws(' ', jsonb_array_length(history), history -> 0 ->> 'n', history -> -1 ->> 'error')
        FROM host.q__schedule ORDER BY id DESC LIMIT 1";
    assert_eq!(value::<String>(&client, kept).await, "100 2 cannot be put back on the queue: no");
}
