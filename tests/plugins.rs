//! The plugins, on their queues: what a user's own handler would look like.

use serde_json::{Value, json};

use crate::harness::{Deployment, Scene, wait_for};

const ORDER: &str = "INSERT INTO queue.email (payload) VALUES ($1)";

async fn outbox(scene: &Scene) -> Vec<Value> {
    let rows = scene.client.query("SELECT payload FROM queue.outbox ORDER BY id", &[]).await;
    rows.expect("the outbox").iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn email_renders_orders_into_the_outbox() {
    let scene = Scene::of(crate::harness::TestDb::new().await).await;
    scene.queue("email", "p_backoff_base_ms => 100, p_backoff_cap_ms => 100").await;
    scene.queue("outbox", "").await;
    scene.deploy("email", "email", Deployment::default()).await;
    let _host = scene.serve("host", &[]);
    for order in [
        json!({"to": "ada@example.com", "template": "welcome", "name": "Ada"}),
        json!({"to": "nowhere", "template": "welcome", "name": "Nobody"}),
    ] {
        scene.client.execute(ORDER, &[&order]).await.unwrap();
    }
    scene.wait_done("email").await;
    let id = &scene.texts("SELECT id FROM queue.email ORDER BY id LIMIT 1").await[0];
    let ada = json!({
        "to": "ada@example.com", "order": id, "subject": "Welcome, Ada",
        "body": "Dear Ada,\n\nyour account is ready."
    });
    assert_eq!(outbox(&scene).await, [ada]);
    let dead = "SELECT reason || ': ' || error FROM host.email__dead_letter";
    assert_eq!(scene.texts(dead).await, [r#"rejected: not an e-mail address: "nowhere""#]);

    // A template that is not there yet: tried again until a deployment brings it.
    let bill = json!({"to": "ada@example.com", "template": "bill", "sum": 7});
    scene.client.execute(ORDER, &[&bill]).await.unwrap();
    let retried = "SELECT count(*) FROM host.email__schedule WHERE attempt > 1
         AND history -> 0 ->> 'error' LIKE 'no template \"bill\"%'";
    scene.wait_number(&format!("LEAST(1, ({retried}))"), 1).await;
    let config = &[("template.bill", "Your bill\nPay {{ sum }}.")];
    scene.deploy("email", "email", Deployment { config, ..Deployment::default() }).await;
    let subjects = async || {
        outbox(&scene).await.iter().map(|mail| mail["subject"].clone()).collect::<Vec<_>>()
    };
    let both = vec![json!("Welcome, Ada"), json!("Your bill")];
    wait_for("the outbox", both, subjects).await;
    scene.wait_done("email").await;
}

#[tokio::test]
async fn thumbnail_scales_what_is_an_image() {
    let scene = Scene::of(crate::harness::TestDb::new().await).await;
    scene.queue("photos", "p_payload_type => 'bytea'").await;
    scene.queue("thumbnails", "p_payload_type => 'bytea'").await;
    let config = &[("width", "32")];
    scene.deploy("photos", "thumbnail", Deployment { config, ..Deployment::default() }).await;
    let photo = include_bytes!("sandbox/photo.jpg").as_slice();
    let insert = "INSERT INTO queue.photos (payload) VALUES ($1)";
    for payload in [photo, b"no photo"] {
        scene.client.execute(insert, &[&payload]).await.unwrap();
    }
    let _host = scene.serve("host", &[]);
    scene.wait_done("photos").await;
    let row = scene.client.query_one("SELECT payload, headers FROM queue.thumbnails", &[]).await;
    let row = row.unwrap();
    let (png, headers): (Vec<u8>, Value) = (row.get(0), row.get(1));
    // The signature, then the header's length and name, then the width.
    assert_eq!(png[..8], *b"\x89PNG\r\n\x1a\n");
    assert_eq!(png[16..20], 32_u32.to_be_bytes());
    let id = &scene.texts("SELECT min(id) FROM queue.photos").await[0];
    assert_eq!(headers, json!({"source": id}));
    let dead = "SELECT reason || ': ' || split_part(error, ':', 1) FROM host.photos__dead_letter";
    assert_eq!(scene.texts(dead).await, ["rejected: not a PNG or JPEG image"]);
}
