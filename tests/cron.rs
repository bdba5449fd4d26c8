//! Cron: each firing is enqueued once, by whichever host; what was missed is made up for as its
//! entry says.

use serde_json::{Value, json};

use crate::harness::process::{finish, host_command};
use crate::harness::{Scene, TestDb, wait_until};

/// A database with the queues `ticks` and `texts`, on which nothing is handled.
async fn scene() -> Scene {
    let scene = Scene::of(TestDb::new().await).await;
    scene.queue("ticks", "").await;
    scene.queue("texts", "p_payload_type => 'text', p_payload_bytes_max => 100").await;
    scene
}

impl Scene {
    async fn cron(&self, args: &[&str]) -> String {
        self.db.host(&[&["cron"], args].concat()).await.ok()
    }

    async fn cron_refused(&self, args: &[&str], code: i32) -> String {
        self.db.host(&[&["cron"], args].concat()).await.error(code)
    }

    /// The entry of that name, as machines see it.
    async fn cron_entry(&self, name: &str) -> Value {
        let list: Value = serde_json::from_str(&self.cron(&["list", "--json"]).await).unwrap();
        let mut entries = list.as_array().expect("a list").iter();
        entries.find(|e| e["name"] == name).expect("the entry").clone()
    }
}

const TICKS: &str = "SELECT count(*) FROM queue.ticks";

#[tokio::test]
async fn each_second_comes_once_however_many_hosts_run_and_die() {
    let scene = scene().await;
    scene
        .cron(&["add", "t", "* * * * * *", "--queue", "ticks", "--payload", "1", "--missed", "all"])
        .await;
    let mut hosts = vec![scene.serve("a", &[]), scene.serve("b", &[]), scene.serve("c", &[])];
    let at_least = async |n: i64| {
        wait_until("enough ticks", async || scene.number(TICKS).await >= n).await;
    };
    at_least(2).await;
    for n in [4, 6] {
        hosts.remove(0).kill();
        hosts.push(scene.serve("next", &[]));
        at_least(n).await;
    }
    hosts.into_iter().for_each(crate::harness::process::Serve::kill);
    // For some seconds there is no host, and then one makes up for them.
    let due = "SELECT count(*) FROM host.cron WHERE next_at < clock_timestamp() - interval '3 s'";
    scene.wait_number(due, 1).await;
    let before = scene.number(TICKS).await;
    let _last = scene.serve("last", &[]);
    at_least(before + 5).await;
    // One statement: hosts go on meanwhile.
    let gaps = "SELECT count(*) FROM (
            SELECT at, lead(at) OVER (ORDER BY at) AS next
            FROM (SELECT (headers ->> 'cron-at')::timestamptz AS at FROM queue.ticks) t) t
        WHERE next <> at + interval '1 s'";
    assert_eq!(scene.number(gaps).await, 0, "a second twice, or left out");
}

#[tokio::test]
async fn what_was_missed_is_skipped_or_made_up_for() {
    let scene = scene().await;
    // Half an hour from now, and so half an hour ago as well, every hour.
    let minute = "to_char(now() + interval '30 min', 'FMMI')";
    let pattern = format!("{} * * * *", scene.texts(&format!("SELECT {minute}")).await[0]);
    for missed in ["skip", "one", "all"] {
        let args = ["add", missed, &pattern, "--queue", "ticks", "--payload", "1"];
        scene.cron(&[&args[..], &["--missed", missed]].concat()).await;
    }
    let next_at = "SELECT next_at FROM host.cron WHERE name = 'one'";
    let [next_at] = &scene.texts(next_at).await[..] else { panic!("one entry") };
    // As if for three of the times there had been no host.
    scene.run("UPDATE host.cron SET next_at = next_at - interval '3 h'").await;
    let _hosts = [scene.serve("a", &[]), scene.serve("b", &[])];
    let moved_on = format!("SELECT count(*) FROM host.cron WHERE next_at = '{next_at}'");
    scene.wait_number(&moved_on, 3).await;
    let made_up = format!(
        "SELECT headers ->> 'cron' || ' ' || extract(hour FROM '{next_at}' - (headers ->> 'cron-at')::timestamptz)::int
         FROM queue.ticks ORDER BY 1"
    );
    assert_eq!(scene.texts(&made_up).await, ["all 1", "all 2", "all 3", "one 1"]);
    assert_eq!(scene.cron_entry("all").await["messages"], 3);
    assert_eq!(scene.cron_entry("skip").await["last_at"], Value::Null);
}

#[tokio::test]
async fn an_entry_is_paused_resumed_run_by_hand_replaced_and_removed() {
    let scene = scene().await;
    let _host = scene.serve("host", &[]);
    let add = ["add", "t", "* * * * * *", "--queue", "ticks", "--payload", "1"];
    let text = scene.cron(&[&add[..], &["--tz", "europe/berlin"]].concat()).await;
    assert!(text.starts_with("Added cron entry t: it fires next at 20"), "{text}");
    assert!(text.ends_with(" in Europe/Berlin)\n"), "{text}");
    wait_until("it fires", async || scene.number(TICKS).await > 0).await;
    assert_eq!(scene.cron(&["pause", "t"]).await, "Cron entry t is paused\n");
    assert_eq!(scene.cron(&["pause", "t"]).await, "Cron entry t is already paused\n");
    let before = scene.number(TICKS).await;
    assert_eq!(scene.cron_entry("t").await["next_at"], Value::Null);
    let text = scene.cron(&["list"]).await;
    assert!(text.contains("* * * * * *  Europe/Berlin  ticks  one     paused"), "{text}");

    // As if it had been paused for long: nothing of that is made up for.
    scene.run("UPDATE host.cron SET next_at = next_at - interval '1 h', missed = 'all'").await;
    let run: Value = serde_json::from_str(&scene.cron(&["run", "t", "--json"]).await).unwrap();
    let by_hand = format!(
        "SELECT headers ->> 'cron' FROM queue.ticks WHERE id = {} AND headers ->> 'cron-at' ~ '\\.\\d{{6}}Z$'",
        run["id"].as_str().expect("text")
    );
    assert_eq!(scene.texts(&by_hand).await, ["t"]);
    assert_eq!(scene.number(TICKS).await, before + 1);
    scene.cron(&["resume", "t"]).await;
    wait_until("it fires again", async || scene.number(TICKS).await > before + 1).await;
    let old = "SELECT count(*) FROM queue.ticks
         WHERE (headers ->> 'cron-at')::timestamptz < now() - interval '30 min'";
    assert_eq!(scene.number(old).await, 0);
    let text = scene.cron(&["resume", "t"]).await;
    assert!(text.starts_with("Cron entry t is already active: it fires next at "), "{text}");

    let text = scene.cron_refused(&add, 1).await;
    assert_eq!(text, "cron entry \"t\" exists already; add --replace to replace it");
    scene.cron(&["add", "t", "@yearly", "--queue", "texts", "--payload", "x", "--replace"]).await;
    assert_eq!(scene.cron_entry("t").await["queue"], "texts");
    assert_eq!(scene.cron_entry("t").await["messages"], 0);
    assert_eq!(scene.cron(&["remove", "t"]).await, "Removed cron entry t\n");
    assert_eq!(scene.cron(&["list", "--json"]).await, "[]\n");
    assert!(scene.number(TICKS).await > before, "what it enqueued stays");
}

#[tokio::test]
async fn what_makes_no_entry_is_refused() {
    let scene = scene().await;
    scene.cron(&["add", "nightly", "@daily", "--queue", "texts", "--payload", "x"]).await;
    let refused = async |name: &str, pattern: &str, more: &[&str]| {
        let args = [&["add", name, pattern], more].concat();
        let said = scene.db.host(&[&["cron"], &args[..]].concat()).await;
        assert!(said.code == 1 || said.code == 2, "{said:?}");
        said.stderr
    };
    let to_texts = ["--queue", "texts", "--payload", "x"];
    // It fits into a message, and not beside what a firing adds.
    let long = format!("a={}", "x".repeat(65_500));
    for (name, pattern, more, why) in [
        ("A", "@daily", &to_texts[..], "\"A\" is not a cron name"),
        ("a", "* * * *", &to_texts, "\"* * * *\" is not a cron pattern"),
        ("a", "0 0 30 2 *", &to_texts, "never fires"),
        (
            "a",
            "@daily",
            &["--queue", "texts", "--payload", "x", "--tz", "Mars"],
            "no time zone \"Mars\"",
        ),
        ("a", "@daily", &["--queue", "text", "--payload", "x"], "did you mean \"texts\"?"),
        (
            "a",
            "@daily",
            &["--queue", "ticks", "--payload", "{"],
            "does not fit queue ticks (jsonb): not JSON",
        ),
        (
            "a",
            "@daily",
            &["--queue", "texts", "--payload", &"x".repeat(101)],
            "size 101 B is out of range",
        ),
        (
            "a",
            "@daily",
            &["--queue", "texts", "--payload", "x", "--header", "cron=b"],
            "the header \"cron\"",
        ),
        (
            "a",
            "@daily",
            &["--queue", "texts", "--payload", "x", "--header", &long],
            "a message has at most 65536",
        ),
        (
            "a",
            "@daily",
            &["--queue", "texts", "--payload", "x", "--missed", "some"],
            "skip, one, all",
        ),
    ] {
        let text = refused(name, pattern, more).await;
        assert!(text.contains(why), "{text}");
    }
    let by_hand = "SELECT host.cron_add('a', 'texts', '@daily', 'UTC', 'one', 'x',
        jsonb_build_object('a', repeat('x', 65500)), now(), false)";
    let error = scene.client.batch_execute(by_hand).await.unwrap_err();
    assert!(error.as_db_error().unwrap().message().contains("too long"), "{error:?}");
    for command in ["pause", "resume", "remove", "run"] {
        let text = scene.cron_refused(&[command, "nigtly"], 2).await;
        assert_eq!(text, "no cron entry \"nigtly\"; did you mean \"nightly\"?");
    }
}

#[tokio::test]
async fn a_payload_is_only_ever_data() {
    let scene = scene().await;
    scene.queue("bytes", "p_payload_type => 'bytea'").await;
    let evil = "'); DROP TABLE host.cron; -- $1 \\ %s \u{1f4a3}";
    let header = format!("note={evil}");
    let quoted = json!(evil).to_string();
    for (name, queue, payload) in [("a", "texts", evil), ("b", "ticks", &quoted)] {
        let args = ["add", name, "@yearly", "--queue", queue, "--payload", payload];
        scene.cron(&[&args[..], &["--header", &header]].concat()).await;
        scene.cron(&["run", name]).await;
    }
    // From standard input, whatever the bytes.
    let mut add =
        host_command(&["cron", "add", "c", "@yearly", "--queue", "bytes", "--payload", "-"]);
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("bytes"), b"\x00\xff'").expect("write");
    let input = std::fs::File::open(dir.path().join("bytes")).expect("open");
    add.stdin(input).env("DATABASE_URL", &scene.db.url);
    finish(add).await.ok();
    scene.cron(&["run", "c"]).await;
    assert_eq!(scene.texts("SELECT payload FROM queue.texts").await, [evil]);
    assert_eq!(scene.texts("SELECT payload #>> '{}' FROM queue.ticks").await, [evil]);
    assert_eq!(scene.texts("SELECT headers ->> 'note' FROM queue.ticks").await, [evil]);
    assert_eq!(scene.texts("SELECT payload FROM queue.bytes").await, ["\\x00ff27"]);
}

#[tokio::test]
async fn an_entry_that_cannot_be_fired_is_named_once_and_stops_no_other() {
    let scene = scene().await;
    for (name, queue) in [("bad", "texts"), ("good", "ticks")] {
        scene.cron(&["add", name, "* * * * * *", "--queue", queue, "--payload", "1"]).await;
    }
    // Nothing that a command could have foreseen.
    scene.run("ALTER TABLE queue.texts ADD CONSTRAINT no_ones CHECK (payload <> '1')").await;
    let host = scene.serve("host", &[]);
    host.wait_for_log("a cron entry cannot be fired; trying again").await;
    let tries = "SELECT extract(epoch FROM retry_at) * 1000 FROM host.cron WHERE name = 'bad'";
    let first = scene.number(tries).await;
    wait_until("it is tried again", async || {
        // Sooner than by itself; the other entry wakes the host every second.
        let sooner = format!("UPDATE host.cron SET retry_at = now() WHERE ({tries}) = {first}");
        scene.run(&sooner).await;
        scene.number(tries).await > first + 5_000
    })
    .await;
    assert_eq!(host.log().matches("cannot be fired").count(), 1, "{}", host.log());
    let text = scene.db.host(&["status"]).await.ok();
    assert!(text.contains("! cron bad: due ") && text.contains("no_ones"), "{text}");
    let before = scene.number(TICKS).await;
    wait_until("the other goes on", async || scene.number(TICKS).await > before + 1).await;

    scene.run("ALTER TABLE queue.texts DROP CONSTRAINT no_ones; UPDATE host.cron SET retry_at = now()").await;
    wait_until("it fires", async || scene.number("SELECT count(*) FROM queue.texts").await > 0)
        .await;
    let text = scene.db.host(&["status"]).await.ok();
    assert!(!text.contains("! cron"), "{text}");
}

#[tokio::test]
async fn a_queue_goes_with_its_entries_only_if_that_is_meant() {
    let scene = scene().await;
    for (name, queue) in [("a", "texts"), ("b", "texts"), ("c", "ticks")] {
        scene.cron(&["add", name, "* * * * * *", "--queue", queue, "--payload", "1"]).await;
    }
    let text = scene.db.host(&["queue", "drop", "texts"]).await.error(1);
    assert!(text.contains("cron enqueues on queue \"texts\": a, b"), "{text}");
    assert_eq!(scene.number("SELECT count(*) FROM host.cron").await, 3);
    // While hosts fire them.
    let hosts = [scene.serve("x", &[]), scene.serve("y", &[])];
    wait_until("it fires", async || scene.number("SELECT count(*) FROM queue.texts").await > 0)
        .await;
    scene.db.host(&["queue", "drop", "texts", "--force"]).await.ok();
    assert_eq!(scene.texts("SELECT name FROM host.cron").await, ["c"]);
    let before = scene.number(TICKS).await;
    wait_until("the others go on", async || scene.number(TICKS).await > before + 1).await;
    for host in hosts {
        assert!(!host.log().contains("cannot be fired"), "{}", host.log());
    }
}

/// A trigger that skips the message: the entry has not fired, and says so.
#[tokio::test]
async fn a_firing_that_a_trigger_skips_is_none() {
    let scene = scene().await;
    scene.cron(&["add", "skipped", "* * * * * *", "--queue", "texts", "--payload", "1"]).await;
    scene
        .run(
            "CREATE FUNCTION public.skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER skip BEFORE INSERT ON queue.texts FOR EACH ROW EXECUTE FUNCTION public.skip()",
        )
        .await;
    let text = scene.cron_refused(&["run", "skipped"], 1).await;
    assert!(text.contains("1 of 1 messages were not written to queue.texts"), "{text}");
    let host = scene.serve("host", &[]);
    host.wait_for_log("something leaves them out").await;
    let text = scene.db.host(&["status"]).await.ok();
    assert!(text.contains("! cron skipped: due ") && text.contains("drop the trigger"), "{text}");
    assert_eq!(scene.cron_entry("skipped").await["messages"], 0);

    scene.run("DROP TRIGGER skip ON queue.texts; UPDATE host.cron SET retry_at = now()").await;
    wait_until("it fires", async || scene.number("SELECT count(*) FROM queue.texts").await > 0)
        .await;
    // The id is that of the message, whatever a trigger enqueues beside it.
    scene
        .run(
            "CREATE FUNCTION public.more() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN IF NEW.payload = ''1'' THEN INSERT INTO queue.texts (payload) VALUES (''more''); END IF; RETURN NULL; END';
             CREATE TRIGGER more AFTER INSERT ON queue.texts FOR EACH ROW EXECUTE FUNCTION public.more()",
        )
        .await;
    let json: Value =
        serde_json::from_str(&scene.cron(&["run", "skipped", "--json"]).await).unwrap();
    let of = format!("SELECT payload FROM queue.texts WHERE id = {}", json["id"].as_str().unwrap());
    assert_eq!(scene.texts(&of).await, ["1"]);
}
