//! Whatever a caller gives as a name or a value stays a name or a value: it never becomes a
//! statement.

use crate::harness::{Scene, plugin};

/// Names and values that would do harm if they became part of a statement.
const HOSTILE: &[&str] = &[
    "'; DROP SCHEMA host CASCADE; --",
    "\"; DROP SCHEMA host CASCADE; --",
    "work__lease; DROP SCHEMA host CASCADE; --",
    "work__stored(1); DROP SCHEMA host CASCADE; --",
    "$$; DROP SCHEMA host CASCADE; $$",
    "{q}'\"%I%s$1\\",
    "jsonb); DROP SCHEMA host CASCADE; --",
];

/// The command line checks names by a type; whoever calls the functions themselves, is stopped as
/// well.
#[tokio::test]
async fn no_argument_of_a_function_becomes_a_statement() {
    let scene = Scene::new("").await;
    let client = &scene.client;
    let objects = "SELECT (SELECT count(*) FROM pg_class) + (SELECT count(*) FROM pg_proc)
        + (SELECT count(*) FROM host.queue)";
    let grants = "SELECT count(*) FROM pg_attribute a, aclexplode(a.attacl) g WHERE g.grantee = 0";
    let before = (scene.number(objects).await, scene.number(grants).await);
    let sha256 = "0".repeat(64);
    client.execute("SELECT host.upload($1, '')", &[&sha256]).await.unwrap();
    let deploy = "host.deploy(%, %, %, %, %, 1, 1, 1, 1, 1, 1, 1)";
    let with = |call: &str, n: usize, hostile: &str| {
        // Every argument but the n-th is as it should be.
        let good = ["'work'", "'other'", &format!("'{sha256}'"), "'{}'", "'message'"];
        let quoted = format!("E'{}'", hostile.replace('\\', "\\\\").replace('\'', "\\'"));
        let mut parts = call.split('%');
        let mut sql = parts.next().unwrap_or_default().to_owned();
        for (at, part) in parts.enumerate() {
            sql.push_str(if at == n { &quoted } else { good[at] });
            sql.push_str(part);
        }
        sql
    };
    for hostile in HOSTILE {
        let quoted = with("%", 0, hostile);
        let mut refused_calls = vec![
            format!("host.create_queue({quoted})"),
            format!("host.create_queue('new', p_payload_type => {quoted})"),
            format!("host.drop_queue({quoted}, true)"),
            format!("host.grant_producer({quoted}, 'postgres')"),
            format!("host.grant_producer('work', {quoted})"),
            format!("host.queue_status({quoted})"),
            format!("host.apply_queue_functions({quoted})"),
            format!(
                "host.enqueue_follow_ups(ARRAY[{quoted}], ARRAY['1'::bytea], ARRAY[NULL::jsonb], ARRAY[0])"
            ),
            format!("host.upload({quoted}, '')"),
            format!("host.work__dead_list(10, NULL, {quoted})"),
            format!("host.work__dead_retry(NULL, {quoted})"),
            format!("host.work__dead_move(NULL, {quoted}, 'sink')"),
            format!("host.work__dead_move(NULL, NULL, {quoted})"),
            format!("host.work__dead_purge(NULL, {quoted})"),
            format!(
                "host.cron_add('n', {quoted}, '@daily', 'UTC', 'one', '', '{{}}', now(), false)"
            ),
            format!(
                "host.cron_add({quoted}, 'work', '@daily', 'UTC', 'one', '', '{{}}', now(), false)"
            ),
            format!("host.set_secret({quoted}, 'x')"),
            format!("host.set_limits({quoted}, 1, NULL, NULL, NULL)"),
            format!("host.set_queue({quoted}, p_payload_bytes_max => 1)"),
            format!("host.set_unique({quoted}, 1)"),
            format!("host.set_unique('work', 1, {quoted})"),
        ];
        refused_calls.extend((0..5).map(|n| with(deploy, n, hostile)));
        for call in refused_calls {
            let error = client.batch_execute(&format!("SELECT {call}")).await.expect_err(&call);
            let code = error.code().unwrap_or_else(|| panic!("{call}: {error}")).code().to_owned();
            assert!(
                ["HQ004", "22023", "23514", "23503", "22P02", "42601", "42883", "P0002"]
                    .contains(&code.as_str()),
                "{call}: {code} {error:?}"
            );
        }
        // Filters that match nothing, and values that are kept as they are.
        for call in [
            format!("host.pause({quoted}, true)"),
            format!("host.queue_holds('work') WHERE why = {quoted}"),
            format!("host.status_of({quoted})"),
            format!("host.set_secret('s', {quoted})"),
            format!("host.read_secrets(ARRAY[{quoted}])"),
            format!(
                "host.cron_add('new', 'work', {quoted}, {quoted}, 'one', convert_to(to_json({quoted}::text)::text, 'UTF8'), jsonb_build_object({quoted}, {quoted}), now(), true)"
            ),
            "host.cron_enqueue((SELECT id FROM host.cron), ARRAY[now()])".to_owned(),
            format!("host.begin_session({quoted}, 1, {quoted})"),
            format!(
                "host.deploy('work', 'default', '{sha256}', jsonb_build_object({quoted}, {quoted}), 'message', 1, 1, 1, 1, 1, 1, 1)"
            ),
            format!(
                "host.enqueue_follow_ups(ARRAY['sink'], ARRAY[convert_to({quoted}, 'UTF8')], ARRAY[jsonb_build_object({quoted}, {quoted})], ARRAY[0])"
            ),
        ] {
            let sql = format!("SELECT * FROM {call}");
            client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        }
    }
    // Everybody, in a GRANT, however it is quoted.
    let everybody = client.batch_execute("SELECT host.grant_producer('work', 'public')").await;
    assert_eq!(everybody.unwrap_err().code().unwrap().code(), "HQ004");
    assert_eq!(scene.texts("SELECT payload FROM queue.sink ORDER BY id").await, HOSTILE);
    assert_eq!((scene.number(objects).await, scene.number(grants).await), before);
}

/// What the command line hands over as it is.
#[tokio::test]
async fn no_argument_of_a_command_becomes_a_statement() {
    let scene = Scene::new("").await;
    let echo = plugin("echo").display().to_string();
    for hostile in HOSTILE {
        let keyed = format!("{hostile}={hostile}");
        for args in [
            &["enqueue", "sink", hostile, "--header", &keyed][..],
            &["deploy", "--queue", "work", &echo, "--no-wait", "--config", &keyed],
        ] {
            scene.db.host(args).await.ok();
        }
        for args in [
            &["deploy", "--queue", hostile, &echo][..],
            &["deploy", "--queue", "work", &echo, "--name", hostile],
            &["rollback", "--queue", "work", "--name", hostile],
            &["queue", "grant", "work", hostile],
            &["queue", "create", "new", "--payload", hostile],
            &["dead", "list", "work", "--reason", hostile],
            &["dead", "show", "work", hostile],
            &["dead", "retry", "work", "--where", hostile],
            &["dead", "move", "work", "--all", "--to", hostile],
            &["handlers", "remove", hostile, "--yes"],
            &["handlers", "pause", &format!("work/{hostile}")],
            &["peek", hostile],
            &["cancel", "work", hostile],
            &["cron", "add", hostile, "@daily", "--queue", "work", "--payload", "1"],
            &["handlers", "--queue", hostile],
        ] {
            let text = scene.db.host(args).await.error(2);
            assert!(!text.contains("syntax"), "{args:?}: {text}");
        }
    }
    assert_eq!(scene.texts("SELECT payload FROM queue.sink ORDER BY id").await, HOSTILE);
    scene.number("SELECT count(*) FROM host.status()").await;
}
