//! The plugins that come with a host do what their documentation says.

use serde_json::{Value, json};

use super::*;

async fn run_with(name: &str, config: &[(&str, &str)], payload: Vec<u8>) -> Run {
    let mut settings = settings();
    settings.config = config.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    load(name, settings).runner().run(&message(payload)).await
}

#[tokio::test]
async fn echo_acks() {
    let run = run_with("echo", &[], b"anything".to_vec()).await;
    assert_eq!((run.verdict, run.follow_ups), (Verdict::Ack, vec![]));
}

#[tokio::test]
async fn email_renders_and_enqueues() {
    let order = json!({"to": "ada@example.com", "template": "welcome", "name": "Ada"});
    let run = run_with("email", &[], order.to_string().into()).await;
    assert_eq!(run.verdict, Verdict::Ack);
    assert_eq!(run.follow_ups[0].queue, "outbox");
    let email: Value = serde_json::from_slice(&run.follow_ups[0].payload).unwrap();
    assert_eq!(
        email,
        json!({
            "to": "ada@example.com",
            "subject": "Welcome, Ada",
            "body": "Dear Ada,\n\nyour account is ready.",
            "order": "100000000007",
        })
    );
}

#[tokio::test]
async fn email_gives_keys_if_it_is_told_to() {
    let order = json!({"to": "ada@example.com", "template": "welcome", "name": "Ada"});
    for (ordered, key) in [("true", Some("ada@example.com")), ("false", None)] {
        let mut settings = settings();
        settings.config = [("ordered".to_owned(), ordered.to_owned())].into();
        let outbox = QueueShape {
            payload_type: PayloadType::Jsonb,
            payload_bytes_max: 1 << 20,
            lanes: Lanes::Ordered(2),
            is_unique: false,
        };
        settings.targets.store(Arc::new([("outbox".to_owned(), outbox)].into_iter().collect()));
        let run = load("email", settings).runner().run(&message(order.to_string())).await;
        assert_eq!(run.verdict, Verdict::Ack);
        assert_eq!(run.follow_ups[0].key.as_deref(), key);
    }
}

#[tokio::test]
async fn email_takes_templates_from_its_configuration() {
    let order = json!({"to": "a@b.c", "template": "bill", "items": [{"n": 2}, {"n": 3}]});
    let bill = [("template.bill", "Bill\n{% for i in items %}{{ i.n }};{% endfor %}")];
    let run = run_with("email", &bill, order.to_string().into()).await;
    let email: Value = serde_json::from_slice(&run.follow_ups[0].payload).unwrap();
    assert_eq!((&email["subject"], &email["body"]), (&json!("Bill"), &json!("2;3;")));
}

#[tokio::test]
async fn email_tells_what_may_come_right_from_what_will_not() {
    let order = json!({"to": "a@b.c", "template": "later"}).to_string();
    let run = run_with("email", &[], order.into()).await;
    let reason = r#"no template "later"; deploy with --config template.later=…"#.into();
    assert_eq!(run.verdict, Verdict::Retry { after: None, reason });

    for (payload, reason) in [
        (r#"{"to": "nobody", "template": "welcome"}"#, r#"not an e-mail address: "nobody""#),
        ("[]", "the payload is no order for an e-mail: "),
        (r#"{"to": "a@b.c", "template": "broken"}"#, r#"template "broken": syntax error"#),
    ] {
        let run = run_with("email", &[("template.broken", "{% if")], payload.into()).await;
        let Verdict::DeadLetter { reason: given } = run.verdict else { panic!("{run:?}") };
        assert!(given.starts_with(reason), "{given}");
    }
}

/// The size in the header of a PNG file.
fn png_size(png: &[u8]) -> (u32, u32) {
    assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[tokio::test]
async fn thumbnail_scales_and_enqueues() {
    let photo = include_bytes!("photo.jpg").to_vec();
    let run = run_with("thumbnail", &[], photo.clone()).await;
    assert_eq!(run.verdict, Verdict::Ack);
    assert_eq!(run.follow_ups[0].queue, "thumbnails");
    assert_eq!(run.follow_ups[0].headers, [("source".into(), "100000000007".into())]);
    assert_eq!(png_size(&run.follow_ups[0].payload), (128, 96));
    let size: Value = serde_json::from_slice(&run.result.unwrap()).unwrap();
    let bytes = run.follow_ups[0].payload.len();
    assert_eq!(size, json!({"width": 128, "height": 96, "bytes": bytes}));

    let run = run_with("thumbnail", &[("width", "40"), ("to", "bytea")], photo).await;
    assert_eq!(run.follow_ups[0].queue, "bytea");
    assert_eq!(png_size(&run.follow_ups[0].payload), (40, 30));
    // What comes out is an image again.
    let again = run.follow_ups[0].payload.clone();
    let run = run_with("thumbnail", &[("width", "4")], again).await;
    assert_eq!(png_size(&run.follow_ups[0].payload), (4, 3));
}

#[tokio::test]
async fn thumbnail_dead_letters_what_is_not_an_image() {
    let run = run_with("thumbnail", &[], b"GIF89a".to_vec()).await;
    assert!(matches!(run.verdict, Verdict::DeadLetter { .. }), "{run:?}");
}
