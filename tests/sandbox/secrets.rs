//! Secrets: who is given them, and where they do not show.

use host_core::deployment::secret::Secret;
use serde_json::json;

use super::logged::Captured;
use super::*;

#[tokio::test]
async fn secrets_are_given_by_grant_and_as_they_are_now() {
    let mut settings = settings();
    settings.secret_names = ["granted", "unset"].map(|name| name.parse().unwrap()).into();
    let secrets = settings.secrets.clone();
    let value = |value: &str| {
        let pairs = [("granted", value), ("other", "not for you")];
        let secret = |value: &str| Secret::from_stored(value.to_owned());
        pairs.map(|(name, value)| (name.parse().unwrap(), secret(value))).into()
    };
    let tell = async |name: &str| {
        let command = json!({"do": "tell", "queue": "text", "text": name}).to_string();
        let run = load("misbehave", settings.clone()).runner().run(&message(command)).await;
        String::from_utf8(run.follow_ups[0].payload.clone()).unwrap()
    };
    assert_eq!(tell("granted").await, "no secret");
    secrets.store(Arc::new(value("first")));
    assert_eq!(tell("granted").await, "first");
    secrets.store(Arc::new(value("second")));
    assert_eq!(tell("granted").await, "second");
    for name in ["other", "unset", "", "no name"] {
        assert_eq!(tell(name).await, "no secret", "{name}");
    }
}

/// Settings with one secret, `key`.
fn with_secret(value: &str) -> HandlerSettings {
    let mut settings = settings();
    settings.secret_names = ["key".parse().unwrap()].into();
    let secret = Secret::from_stored(value.to_owned());
    settings.secrets.store(Arc::new([("key".parse().unwrap(), secret)].into()));
    settings.isolation = Isolation::Batch;
    settings
}

#[tokio::test]
async fn no_line_is_split_within_a_secret() {
    let secret = "correct horse battery";
    let (log, _guard) = Captured::start();
    let mut runner = load("misbehave", with_secret(secret)).runner();
    runner.run(&message(json!({"do": "tell", "text": "key"}).to_string())).await;
    for before in [4_070, 4_080, 4_095, 4_096, 8_180] {
        let text = "x".repeat(before) + secret + secret + "y";
        let command = json!({"do": "print", "n": 1, "text": text}).to_string();
        assert_eq!(runner.run(&message(command)).await.verdict, Verdict::Ack);
    }
    let said = log.lines().join("\n");
    for part in ["correct", "battery", "horse", "rect"] {
        assert!(!said.contains(part), "{said}");
    }
    assert_eq!(said.matches("***").count(), 3 + 5 * 2, "{said}");
}

#[tokio::test]
async fn what_looked_like_a_panic_is_no_reason_of_the_next_call() {
    let mut runner = load("misbehave", with_secret("panicked at nowhere:1:2:")).runner();
    let run = runner.run(&message(json!({"do": "tell", "text": "key"}).to_string())).await;
    assert!(matches!(run.verdict, Verdict::DeadLetter { .. }));
    let run = runner.run(&message("exit")).await;
    let why = "the guest exited with status 1".to_owned();
    assert_eq!(run.verdict, Verdict::Failed(Failure::Trap(why)));
}

#[tokio::test]
async fn a_secret_is_kept_out_of_logs_and_verdicts() {
    let mut settings = settings();
    settings.secret_names = ["key".parse().unwrap()].into();
    let secret = Secret::from_stored("correct horse".to_owned());
    settings.secrets.store(Arc::new([("key".parse().unwrap(), secret)].into()));
    let (log, _guard) = Captured::start();
    for n in [0, 1] {
        let command = json!({"do": "tell", "text": "key", "n": n}).to_string();
        let run = load("misbehave", settings.clone()).runner().run(&message(command)).await;
        let said = format!("{:?}", run.verdict);
        assert!(said.contains(if n == 0 { "dead ***" } else { "panic ***" }), "{said}");
        assert!(!said.contains("horse"), "{said}");
    }
    let said = log.lines().join("\n");
    assert!(!said.contains("horse"), "{said}");
    for wanted in ["log ***", "out ***", "err ***", "panic ***"] {
        assert!(said.contains(wanted), "{said}");
    }
}
