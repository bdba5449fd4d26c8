//! The statements of one queue: calls of the functions that its template made. Never sends them.

use crate::lane::Lanes;
use crate::name::QueueName;

/// The text of each call, made once for a queue and prepared once on each connection.
#[derive(Debug)]
pub struct Statements {
    /// Whether the messages of a lease keep their order.
    pub(super) in_order: bool,
    pub(super) lease: String,
    pub(super) lease_of: String,
    pub(super) lease_lanes: String,
    pub(super) fetch: String,
    pub(super) fetch_lanes: String,
    pub(super) settle: String,
    pub(super) hand_on: String,
    pub(super) take_over: String,
    pub(super) strays: String,
    pub(super) promote: String,
    pub(super) set_asleep: String,
    pub(super) rotation: String,
    pub(super) truncate: String,
    pub(super) advance: String,
    pub(super) truncate_schedule: String,
    pub(super) truncate_history: String,
    pub(super) forget_keys: String,
}

impl Statements {
    /// Those of the queue of that name. The name is checked, so it cannot be anything but a name.
    #[must_use]
    pub fn new(queue: &QueueName, lanes: Lanes) -> Self {
        let call = |text: &str| text.replace("{q}", queue.as_str());
        Self {
            in_order: lanes.in_order(),
            lease: call(
                "SELECT lease_id, row_count, more, wait_ms, full_up FROM host.{q}__lease($1, $2, $3, $4, $5, $6)",
            ),
            lease_of: call(
                "SELECT lease_id, row_count, more, wait_ms, full_up FROM host.{q}__lease_of($7, $1, $2, $3, $4, $5, $6)",
            ),
            lease_lanes: call(
                "SELECT * FROM host.{q}__lease_lanes($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            ),
            fetch: call(include_str!("sql/fetch.sql")),
            fetch_lanes: call(include_str!("sql/fetch_lanes.sql")),
            settle: call(include_str!("sql/settle.sql")),
            hand_on: call("SELECT host.{q}__hand_on($1, $2, $3, $4, $5, $6)"),
            take_over: call(
                "SELECT lease_id, row_count, more FROM host.{q}__take_over($1, $2, $3, $4, $5, $6)",
            ),
            strays: call("SELECT host.{q}__strays($1, $2, $3)"),
            promote: call("SELECT again, next_ms FROM host.{q}__promote($1)"),
            set_asleep: call("SELECT setval('host.{q}__asleep', $1)"),
            rotation: call("SELECT used, full_one FROM host.{q}__rotation()"),
            truncate: call("SELECT host.{q}__truncate($1)"),
            advance: call("SELECT host.{q}__advance()"),
            truncate_schedule: call("SELECT host.{q}__truncate_schedule()"),
            truncate_history: call("SELECT host.{q}__truncate_history()"),
            forget_keys: call("SELECT host.{q}__forget_keys($1)"),
        }
    }
}
