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
/// A session that has not beaten for this long is dead whether it holds its lock or not: its host
/// may be frozen, or cut off with the connection half open.
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
    looked_at: Option<Instant>,
    /// Identifies this run of the server.
    server: Option<String>,
    /// All locks vanished at once: a restart or a failover. Until then that alone proves nothing.
    grace_until: Option<Instant>,
}

impl Observer {
    /// Notes what was seen at `now`, of a server that `server` identifies, and says who is dead.
    pub fn look(&mut self, now: Instant, server: &str, seen: &[Seen]) -> Vec<SessionId> {
        if self.server.as_deref() != Some(server) {
            // Who knew it before sees everybody's lock gone. Who did not: several at once is rather
            // the server's doing than theirs. Then a full TTL for everybody.
            let unlocked = seen.iter().filter(|s| !s.locked).count();
            if self.server.is_some() || unlocked > 1 {
                self.grace_until = Some(now + TTL);
                self.sessions.clear();
            }
            self.server = Some(server.to_owned());
        }
        if self.looked_at.replace(now).is_some_and(|at| now - at >= DEAD_WITHOUT_LOCK) {
            // This host was not looking, or was frozen itself: nobody's silence is known.
            self.sessions.clear();
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

    /// Looks as often as a host does, until `until`; returns when somebody was dead.
    fn dead_at(
        observer: &mut Observer,
        t: Instant,
        from_ms: u64,
        until_ms: u64,
        locked: bool,
    ) -> Option<u64> {
        (from_ms..=until_ms).step_by(250).find(|ms| {
            let now = t + Duration::from_millis(*ms);
            observer.look(now, "a", &seen(1, locked)) == [ONE]
        })
    }

    #[test]
    fn a_killed_host_is_dead_in_two_seconds_and_a_frozen_one_in_fifteen() {
        let t = Instant::now();
        assert_eq!(dead_at(&mut Observer::default(), t, 0, 60_000, false), Some(2_000));
        assert_eq!(dead_at(&mut Observer::default(), t, 0, 60_000, true), Some(15_000));
    }

    #[test]
    fn a_beat_is_life_even_without_the_lock() {
        let t = Instant::now();
        let mut observer = Observer::default();
        for i in 0..100 {
            let at = t + Duration::from_secs(i);
            assert!(observer.look(at, "a", &seen(i as i64, false)).is_empty());
        }
    }

    #[test]
    fn a_host_that_was_frozen_itself_knows_nothing_of_the_others() {
        let t = Instant::now();
        let mut observer = Observer::default();
        assert_eq!(dead_at(&mut observer, t, 0, 1_000, false), None);
        assert_eq!(dead_at(&mut observer, t, 60_000, 61_750, false), None);
        assert_eq!(dead_at(&mut observer, t, 62_000, 70_000, false), Some(62_000));
    }

    #[test]
    fn a_restart_of_the_server_gives_everybody_a_full_ttl() {
        let t = Instant::now();
        let mut observer = Observer::default();
        observer.look(t, "before", &seen(1, true));
        assert_eq!(dead_at(&mut observer, t, 1_000, 60_000, false), Some(16_000));
    }

    #[test]
    fn a_newcomer_that_finds_several_without_their_locks_gives_them_a_full_ttl() {
        let t = Instant::now();
        let mut observer = Observer::default();
        let several = [seen(1, false)[0], Seen { session: SessionId::new(2), ..seen(1, false)[0] }];
        let dead_at = (0..60_000).step_by(250).find(|ms| {
            let now = t + Duration::from_millis(*ms);
            !observer.look(now, "a", &several).is_empty()
        });
        assert_eq!(dead_at, Some(15_000));
    }
}
