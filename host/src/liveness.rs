//! Which sessions are dead, from what one host has seen of them over time. Clocks of different
//! machines are never compared: what counts is how long, on this host's own clock, a session's beat
//! has not changed. Pure: the time is passed in.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::id::SessionId;

/// How often a host beats and looks.
pub const BEAT_EVERY: Duration = Duration::from_millis(250);
/// A session whose lock is gone is dead when it has not beaten for this long.
pub const DEAD_WITHOUT_LOCK: Duration = Duration::from_secs(2);
/// A session that has not beaten for this long is dead whether it holds its lock or not: its host may
/// be frozen, or cut off with the connection half open.
pub const TTL: Duration = Duration::from_secs(15);
/// A host that has not been able to beat for this long stops its handlers: others will soon take
/// its leases over.
pub const STOP_AFTER: Duration = Duration::from_secs(12);

/// What one look shows of a live session.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Which.
    pub session: SessionId,
    /// Its newest beat, if it has one.
    pub beat: Option<i64>,
    /// Whether the lock that it holds for as long as it is connected is held.
    pub locked: bool,
}

/// Remembers what was seen when.
#[derive(Debug, Default)]
pub struct Observer {
    sessions: HashMap<SessionId, (Option<i64>, Instant)>,
    /// Identifies this run of the server.
    server: Option<String>,
    /// All locks vanished at once at this time: a restart or a failover.
    grace_until: Option<Instant>,
}

impl Observer {
    /// Notes what was seen at `now`, of a server that `server` identifies, and says who is dead.
    pub fn look(&mut self, now: Instant, server: &str, seen: &[Seen]) -> Vec<SessionId> {
        if self.server.as_deref() != Some(server) {
            if self.server.is_some() {
                // Everybody lost the lock and could not beat: a full TTL for everybody.
                self.grace_until = Some(now + TTL);
                self.sessions.clear();
            }
            self.server = Some(server.to_owned());
        }
        self.sessions.retain(|id, _| seen.iter().any(|s| s.session == *id));
        let in_grace = self.grace_until.is_some_and(|until| now < until);
        let mut dead = Vec::new();
        for s in seen {
            let (beat, since) = self.sessions.entry(s.session).or_insert((s.beat, now));
            if *beat != s.beat {
                (*beat, *since) = (s.beat, now);
            }
            let silent = now - *since;
            if silent >= TTL || (!s.locked && !in_grace && silent >= DEAD_WITHOUT_LOCK) {
                dead.push(s.session);
            }
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: SessionId = SessionId::new(1);

    fn seen(beat: i64, locked: bool) -> [Seen; 1] {
        [Seen { session: ONE, beat: Some(beat), locked }]
    }

    #[test]
    fn a_killed_host_is_dead_in_two_seconds_and_a_frozen_one_in_fifteen() {
        let t = Instant::now();
        let mut observer = Observer::default();
        assert!(observer.look(t, "a", &seen(1, true)).is_empty());
        assert!(observer.look(t + Duration::from_millis(1_900), "a", &seen(1, false)).is_empty());
        assert_eq!(observer.look(t + Duration::from_secs(2), "a", &seen(1, false)), [ONE]);
        assert!(observer.look(t + Duration::from_secs(14), "a", &seen(1, true)).is_empty());
        assert_eq!(observer.look(t + Duration::from_secs(15), "a", &seen(1, true)), [ONE]);
    }

    #[test]
    fn a_beat_is_life_even_without_the_lock() {
        let t = Instant::now();
        let mut observer = Observer::default();
        for i in 0..100 {
            let at = t + Duration::from_secs(u64::try_from(i).unwrap());
            assert!(observer.look(at, "a", &seen(i, false)).is_empty());
        }
    }

    #[test]
    fn a_restart_of_the_server_gives_everybody_a_full_ttl() {
        let t = Instant::now();
        let mut observer = Observer::default();
        observer.look(t, "a", &seen(1, true));
        let restarted = t + Duration::from_secs(5);
        assert!(observer.look(restarted, "b", &seen(1, false)).is_empty());
        assert!(
            observer.look(restarted + Duration::from_secs(14), "b", &seen(1, false)).is_empty()
        );
        assert_eq!(observer.look(restarted + TTL, "b", &seen(1, false)), [ONE]);
    }
}
