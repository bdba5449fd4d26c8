//! Queues at rest, as a model of their own: a queue that no loop looks at must be stirred by
//! whatever comes. What producers do and what a host does is taken apart into the steps that others
//! can come between. All states of three transactions are gone through. Then a rule at a time is
//! left out, and the checker must find the message that waits for ever.
//!
//! | here | there |
//! | --- | --- |
//! | `Begun`, `Drawn` | a producer's INSERT has the lock of its table, then its id |
//! | `Committed`, `Idle` | its row can be seen, then the lock is free |
//! | `read_mark`, `ask_locks` | `RestWatch::look`: `rest_marks.sql`, then `rest_writers.sql` |
//! | `begin_look`, `end_look` | a lease, from the snapshot that it reads with to its answer |

use stateright::{Checker as _, Model, Property};

/// INSERTs of all producers together.
const INSERTS: u8 = 3;

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    /// Nobody asks for open transactions.
    NoLocks,
    /// They are asked for before the mark is read.
    LocksFirst,
    /// A look that began before the queue was calm counts as well.
    LookBeforeCalm,
    /// A stir during the look does not count.
    StirMissed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Producer {
    Idle,
    Begun,
    Drawn,
    Committed,
}

/// What the loop knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Looking {
    /// It looks again when it likes.
    Awake,
    /// `seen`: there was a message in its snapshot. `in_calm`, `stirs`: when it began.
    Under { seen: bool, in_calm: bool, stirs: u8 },
    /// It waits to be stirred.
    Rests { stirs: u8 },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    producers: [Producer; 2],
    inserts_left: u8,
    /// The sequence.
    ids: u8,
    /// Messages that can be seen and were not taken.
    waiting: u8,
    mark: Option<u8>,
    /// The mark was read, and the locks are to be asked for.
    asks: bool,
    /// The locks were free, asked for too early.
    were_free: bool,
    stirs: u8,
    is_calm: bool,
    looking: Looking,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Go(usize),
    Abort(usize),
    ReadMark,
    AskLocks,
    BeginLook,
    EndLook,
}

struct Scene {
    broken: Option<Broken>,
}

impl State {
    fn is_locked(&self) -> bool {
        self.producers.iter().any(|p| *p != Producer::Idle)
    }

    fn go(&mut self, producer: usize) -> Option<()> {
        let at = &mut self.producers[producer];
        *at = match *at {
            Producer::Idle => {
                self.inserts_left = self.inserts_left.checked_sub(1)?;
                Producer::Begun
            }
            Producer::Begun => {
                self.ids += 1;
                Producer::Drawn
            }
            Producer::Drawn => {
                self.waiting += 1;
                Producer::Committed
            }
            Producer::Committed => Producer::Idle,
        };
        Some(())
    }

    fn read_mark(&mut self, broken: Option<Broken>) {
        if broken == Some(Broken::LocksFirst) {
            self.were_free = !self.is_locked();
        }
        self.asks = true;
    }

    fn ask_locks(&mut self, broken: Option<Broken>) {
        self.asks = false;
        let is_free = match broken {
            Some(Broken::NoLocks) => true,
            Some(Broken::LocksFirst) => self.were_free,
            _ => !self.is_locked(),
        };
        self.is_calm = is_free;
    }

    /// The mark is taken in where it is read, but for the rule that turns the two about.
    fn take_mark(&mut self) {
        if self.mark.replace(self.ids) != Some(self.ids) {
            self.stirs += 1;
            self.is_calm = false;
        }
    }

    fn begin_look(&mut self) -> Option<()> {
        match self.looking {
            Looking::Under { .. } => return None,
            Looking::Rests { stirs } if stirs == self.stirs => return None,
            Looking::Rests { .. } | Looking::Awake => {}
        }
        self.looking =
            Looking::Under { seen: self.waiting > 0, in_calm: self.is_calm, stirs: self.stirs };
        Some(())
    }

    fn end_look(&mut self, broken: Option<Broken>) -> Option<()> {
        let Looking::Under { seen, in_calm, stirs } = self.looking else { return None };
        let in_calm = in_calm || broken == Some(Broken::LookBeforeCalm) && self.is_calm;
        let is_last = in_calm && (stirs == self.stirs || broken == Some(Broken::StirMissed));
        self.looking = match (seen, is_last) {
            (false, true) => Looking::Rests { stirs: self.stirs },
            _ => Looking::Awake,
        };
        if seen {
            self.waiting = 0;
        }
        Some(())
    }

    /// Whether the host, left alone, finds what waits.
    fn is_found(&self, broken: Option<Broken>) -> bool {
        let mut state = self.clone();
        for _ in 0..3 {
            let _ = state.end_look(broken);
            if state.asks {
                finish_asking(&mut state, broken);
            } else {
                start_asking(&mut state, broken);
                finish_asking(&mut state, broken);
            }
            let _ = state.begin_look();
        }
        let _ = state.end_look(broken);
        state.waiting == 0
    }
}

fn start_asking(state: &mut State, broken: Option<Broken>) {
    if broken != Some(Broken::LocksFirst) {
        state.take_mark();
    }
    state.read_mark(broken);
}

fn finish_asking(state: &mut State, broken: Option<Broken>) {
    if broken == Some(Broken::LocksFirst) {
        state.take_mark();
    }
    state.ask_locks(broken);
}

impl Model for Scene {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            producers: [Producer::Idle; 2],
            inserts_left: INSERTS,
            ids: 0,
            waiting: 0,
            mark: None,
            asks: false,
            were_free: false,
            stirs: 0,
            is_calm: false,
            looking: Looking::Awake,
        }]
    }

    fn actions(&self, _: &State, actions: &mut Vec<Action>) {
        use Action::{Abort, AskLocks, BeginLook, EndLook, Go, ReadMark};
        actions.extend([Go(0), Go(1), Abort(0), Abort(1), ReadMark, AskLocks, BeginLook, EndLook]);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Go(producer) => next.go(producer)?,
            Action::Abort(producer) => match &mut next.producers[producer] {
                at @ (Producer::Begun | Producer::Drawn) => *at = Producer::Idle,
                Producer::Idle | Producer::Committed => return None,
            },
            Action::ReadMark if !state.asks => start_asking(&mut next, self.broken),
            Action::AskLocks if state.asks => finish_asking(&mut next, self.broken),
            Action::ReadMark | Action::AskLocks => return None,
            Action::BeginLook => next.begin_look()?,
            Action::EndLook => next.end_look(self.broken)?,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("what is committed is found", |scene: &Self, state: &State| {
                state.is_locked() || state.is_found(scene.broken)
            }),
            Property::sometimes(
                "the loop rests",
                |_, state: &State| matches!(state.looking, Looking::Rests { stirs } if stirs == state.stirs),
            ),
            Property::sometimes("it rests while another inserts", |_, state: &State| {
                matches!(state.looking, Looking::Rests { .. }) && state.is_locked()
            }),
        ]
    }
}

#[test]
fn whatever_comes_to_a_queue_at_rest_is_found() {
    let checker = Scene { broken: None }.checker().spawn_dfs().join();
    println!("{} states", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn without_a_rule_a_message_waits_for_ever() {
    for broken in [Broken::NoLocks, Broken::LocksFirst, Broken::LookBeforeCalm, Broken::StirMissed]
    {
        let checker = Scene { broken: Some(broken) }.checker().spawn_dfs().join();
        let found = checker.discovery("what is committed is found");
        assert!(found.is_some(), "without the rule of {broken:?} nothing goes wrong");
    }
}
