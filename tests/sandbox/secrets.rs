//! Secrets: who is given them, and where they do not show.

use host::secret::Secret;
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
