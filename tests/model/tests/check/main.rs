//! Checks the model: every state that a scene can come to, whatever happens in whatever order. Then
//! leaves out a rule at a time, and demands that the checker notices.

mod drain;
mod machine;
mod scene;

use std::sync::atomic::{AtomicU64, Ordering};

use model::{Broken, World};
use stateright::{Checker as _, HasDiscoveries, Model, Property};

use self::machine::State;
use self::scene::{Action, Scene, Tally};

impl Model for Scene {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        state.actions(self, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        state.next(self, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn always(name: &'static str, holds: fn(&Scene, &State) -> bool) -> Property<Scene> {
            Property::always(name, holds)
        }
        vec![
            always("I1 and I2: each message is in one place", |_, s| s.world.each_in_one_place()),
            always("I1: nothing is settled but what was run", |_, s| !s.world.db.settled_unseen),
            always("I1: one host can work everything off", |_, s| {
                // What is open can be committed or rolled back, so states without it are enough.
                !s.world.open.is_empty() || drain::can_be_worked_off(&s.world)
            }),
            always("I2: each effect happens once", |_, s| s.world.each_effect_once()),
            always("nothing unsettled is truncated", |_, s| !s.world.db.truncated_unsettled),
        ]
    }
}

/// Two messages, one handler, two leases, one session that nothing happens to.
fn scene() -> Scene {
    Scene {
        producers: 2,
        draws_early: false,
        aborts: 0,
        sessions: 1,
        handlers: 1,
        deploys: 0,
        batches: &[1, 2],
        leases: 2,
        attempts: 1,
        ends: 0,
        crashes: 0,
        generations: 0,
        deaths_max: 2,
        broken: None,
        tally: Tally::default(),
    }
}

/// Goes through all states of a scene. `saw`: what must have happened in one of them, or it shows
/// nothing.
fn check(scene: Scene, saw: &[fn(&Tally) -> &AtomicU64]) {
    let checker = scene.checker().spawn_dfs().join();
    let tally = &checker.model().tally;
    let (states, steps) = (checker.unique_state_count(), checker.state_count());
    println!("{states} states, {steps} steps, {tally:?}");
    checker.assert_properties();
    for (number, saw) in saw.iter().enumerate() {
        assert!(
            saw(tally).load(Ordering::Relaxed) > 0,
            "number {number} did not happen: {tally:?}"
        );
    }
}

#[test]
fn windows_lose_nothing_in_whatever_order_transactions_end() {
    check(Scene { producers: 3, aborts: 1, leases: 3, ..scene() }, &[|t| &t.repeated]);
}

#[test]
fn a_lease_that_is_taken_over_is_settled_by_one() {
    let scene = Scene { sessions: 2, ends: 1, leases: 3, ..scene() };
    check(scene, &[|t| &t.fenced, |t| &t.conflict]);
}

#[test]
fn whoever_loses_its_connection_loses_nothing_else() {
    let scene = Scene { sessions: 2, ends: 1, aborts: 2, ..scene() };
    check(scene, &[|t| &t.fenced, |t| &t.conflict]);
}

#[test]
fn a_message_that_hosts_die_with_becomes_a_dead_letter() {
    check(Scene { sessions: 2, ends: 1, deaths_max: 1, ..scene() }, &[|t| &t.poisoned]);
}

#[test]
fn a_crash_loses_leases_and_no_message() {
    check(Scene { crashes: 2, leases: 3, ..scene() }, &[|t| &t.lost, |t| &t.fenced]);
    check(Scene { crashes: 1, sessions: 2, ends: 1, ..scene() }, &[|t| &t.lost, |t| &t.fenced]);
}

#[test]
fn a_leaf_goes_when_all_in_it_is_settled() {
    let rotates = || Scene { generations: 3, ..scene() };
    check(Scene { draws_early: true, ..rotates() }, &[|t| &t.truncated, |t| &t.late]);
    let dies = Scene { producers: 1, sessions: 2, ends: 1, ..rotates() };
    check(dies, &[|t| &t.truncated, |t| &t.conflict]);
    let crashes = Scene { producers: 1, aborts: 1, crashes: 1, ..rotates() };
    check(crashes, &[|t| &t.truncated, |t| &t.lost]);
}

#[test]
fn a_retry_comes_once() {
    let retries = || Scene { attempts: 2, ..scene() };
    check(retries(), &[|t| &t.promoted]);
    let dies = Scene { producers: 1, sessions: 2, ends: 1, leases: 3, ..retries() };
    check(dies, &[|t| &t.promoted, |t| &t.conflict]);
    let crashes = Scene { producers: 1, crashes: 1, aborts: 1, leases: 3, ..retries() };
    check(crashes, &[|t| &t.promoted, |t| &t.lost]);
    let rotates = Scene { producers: 1, generations: 3, ..retries() };
    check(rotates, &[|t| &t.promoted, |t| &t.truncated]);
}

#[test]
fn each_handler_has_every_message_that_is_kept() {
    check(Scene { handlers: 2, leases: 3, ..scene() }, &[]);
    let retries =
        Scene { handlers: 2, producers: 1, batches: &[2], leases: 3, attempts: 2, ..scene() };
    check(retries, &[|t| &t.promoted]);
    for handlers in [0, 1] {
        let later = Scene { handlers, deploys: 1, producers: 1, generations: 3, ..scene() };
        check(later, &[|t| &t.truncated]);
    }
}

#[test]
fn every_rule_is_needed() {
    let rotates = || Scene { generations: 2, ..scene() };
    let dies = || Scene { sessions: 2, ends: 1, ..scene() };
    let without = [
        (Broken::NoToken, Scene { crashes: 1, ..scene() }),
        (Broken::NoToken, Scene { crashes: 1, producers: 1, handlers: 2, ..scene() }),
        (Broken::NoCompareAndSet, dies()),
        (Broken::NoLowWaterMark, Scene { producers: 1, ..rotates() }),
        (Broken::NoSecondLook, rotates()),
        (Broken::TakeOverWithoutLock, Scene { producers: 1, generations: 2, ..dies() }),
        (Broken::CursorOverIds, scene()),
        (Broken::LeaseWhereOneInserts, Scene { draws_early: true, ..scene() }),
        (
            Broken::NotOursDies,
            Scene {
                producers: 1,
                handlers: 2,
                attempts: 2,
                batches: &[2],
                deaths_max: 1,
                leases: 3,
                ..dies()
            },
        ),
        (Broken::NoLatePromotion, Scene { attempts: 2, ..scene() }),
    ];
    for (rule, scene) in without {
        let scene = Scene { broken: Some(rule), ..scene };
        let checker = scene.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let found =
            checker.discoveries().into_iter().min_by_key(|(_, path)| path.to_string().len());
        let Some((property, path)) = found else {
            panic!("without {rule:?} all {} states are right", checker.unique_state_count());
        };
        println!("{rule:?}: not \"{property}\" after {:?}", path.into_actions());
    }
}

/// The worlds are compared and hashed as they are, so nothing that is only a count may be in them.
#[test]
fn what_is_tried_in_vain_leaves_the_same_world() {
    let mut world = World::new(1, 2);
    world.deploy().expect("nothing is in the way");
    let before = world.clone();
    assert_eq!(world.lease(0, 0, 0, 0, (1, false)), Ok(None));
    world.commit(0);
    assert_eq!(world, before);
}
