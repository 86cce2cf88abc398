//! Random operations. They name jobs and claims by number, modulo how many there are, so that a
//! sequence stays meaningful when it is shrunk.

use proptest::{collection::vec, option, prelude::*, sample::select};
use rocketjob_core::{State, Transition};

use crate::operator::Original;

pub(super) const KINDS: [&str; 3] = ["A", "B", "C"];
/// Keys of limits, and how many of each may run.
pub(super) const LIMITS: [(&str, u32); 2] = [("narrow", 1), ("wide", 2)];

#[derive(Debug, Clone, Copy)]
pub(super) enum Mark {
    Ready,
    /// Marked ready, with a time in the future.
    Early,
    /// Held, with a time in the future.
    Scheduled,
    /// Held, with a time in the past.
    Due,
    /// Held for something.
    Held,
    /// As the original writes it.
    Unmarked,
    /// As the original writes it, with a time in the future.
    UnmarkedScheduled,
}

#[derive(Debug, Clone)]
pub(super) struct NewJob {
    pub(super) kind: &'static str,
    pub(super) priority: i32,
    pub(super) mark: Mark,
    pub(super) unique: Option<&'static str>,
    pub(super) unfinished: Option<&'static str>,
    /// The key of a limit, which counts in claims that observe limits.
    pub(super) limit: Option<&'static str>,
    pub(super) step: i32,
}

#[derive(Debug, Clone)]
pub(super) enum Conditions {
    None,
    /// Only jobs of this step.
    Step(i32),
    /// Observing the limits.
    Limits,
    /// Leaving this many at the head to others.
    Skip(usize),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Write {
    Complete,
    CompleteAndDelete,
    Fail,
    RetryNow,
    RetryLater,
    Abort,
    HandBack,
    Expire,
    Save(i32),
    /// Takes a unique key.
    TakeKey(&'static str),
}

#[derive(Debug, Clone)]
pub(super) enum Operation {
    Insert(Vec<NewJob>),
    InsertAgain {
        job: usize,
    },
    Claim {
        server: usize,
        count: usize,
        kinds: Vec<&'static str>,
        conditions: Conditions,
    },
    Settle(Vec<(usize, Write)>),
    Operate {
        job: usize,
        transition: Transition,
    },
    /// A change of a job whose step is this one.
    Step {
        job: usize,
        step: i32,
    },
    Remove {
        job: usize,
        state: State,
    },
    Original {
        job: usize,
        act: Original,
    },
    Promote,
    Release {
        hold: String,
        count: usize,
    },
    Delete {
        state: State,
        kind: &'static str,
    },
    Look {
        step: i32,
        descending: bool,
        limit: usize,
    },
    ClaimsOf {
        server: usize,
    },
}

pub(super) fn sequences() -> impl Strategy<Value = Vec<Operation>> {
    vec(operation(), 1..=30)
}

fn operation() -> impl Strategy<Value = Operation> {
    let which = 0..64_usize;
    prop_oneof![
        12 => vec(new_job(), 1..6).prop_map(Operation::Insert),
        1 => which.clone().prop_map(|job| Operation::InsertAgain { job }),
        10 => (0..3_usize, 1..5_usize, kinds(), conditions()).prop_map(
            |(server, count, kinds, conditions)| Operation::Claim { server, count, kinds, conditions }
        ),
        10 => vec((which.clone(), write()), 1..4).prop_map(Operation::Settle),
        8 => (which.clone(), transition())
            .prop_map(|(job, transition)| Operation::Operate { job, transition }),
        1 => (which.clone(), step()).prop_map(|(job, step)| Operation::Step { job, step }),
        1 => (which.clone(), select(&State::ALL[..]))
            .prop_map(|(job, state)| Operation::Remove { job, state }),
        6 => (which, original()).prop_map(|(job, act)| Operation::Original { job, act }),
        3 => Just(Operation::Promote),
        3 => (hold(), 0..3_usize).prop_map(|(hold, count)| Operation::Release { hold, count }),
        1 => (select(&State::ALL[..]), select(&KINDS[..]))
            .prop_map(|(state, kind)| Operation::Delete { state, kind }),
        1 => (step(), any::<bool>(), 1..4_usize)
            .prop_map(|(step, descending, limit)| Operation::Look { step, descending, limit }),
        1 => (0..3_usize).prop_map(|server| Operation::ClaimsOf { server }),
    ]
}

fn new_job() -> impl Strategy<Value = NewJob> {
    let mark = prop_oneof![
        10 => Just(Mark::Ready),
        1 => Just(Mark::Early),
        1 => Just(Mark::Scheduled),
        1 => Just(Mark::Due),
        1 => Just(Mark::Held),
        1 => Just(Mark::Unmarked),
        1 => Just(Mark::UnmarkedScheduled),
    ];
    (
        select(&KINDS[..]),
        1..4_i32,
        mark,
        option::weighted(0.3, key()),
        option::weighted(0.2, key()),
        option::weighted(0.6, select(&["narrow", "wide"][..])),
        step(),
    )
        .prop_map(
            |(kind, priority, mark, unique, unfinished, limit, step)| NewJob {
                kind,
                priority,
                mark,
                unique,
                unfinished,
                limit,
                step,
            },
        )
}

fn kinds() -> impl Strategy<Value = Vec<&'static str>> {
    prop_oneof![
        3 => Just(KINDS.to_vec()),
        1 => proptest::sample::subsequence(&KINDS[..], 0..=3),
    ]
}

fn conditions() -> impl Strategy<Value = Conditions> {
    prop_oneof![
        3 => Just(Conditions::None),
        3 => Just(Conditions::Limits),
        1 => step().prop_map(Conditions::Step),
        1 => (1..4_usize).prop_map(Conditions::Skip),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        Just(Write::Complete),
        Just(Write::CompleteAndDelete),
        Just(Write::Fail),
        Just(Write::RetryNow),
        Just(Write::RetryLater),
        Just(Write::Abort),
        Just(Write::HandBack),
        Just(Write::Expire),
        step().prop_map(Write::Save),
        key().prop_map(Write::TakeKey),
    ]
}

fn transition() -> impl Strategy<Value = Transition> {
    select(
        &[
            Transition::Abort,
            Transition::Pause,
            Transition::Fail,
            Transition::Resume,
            Transition::Retry,
            Transition::Requeue,
        ][..],
    )
}

fn original() -> impl Strategy<Value = Original> {
    select(
        &[
            Original::Abort,
            Original::Pause,
            Original::Requeue,
            Original::Start,
        ][..],
    )
}

fn hold() -> impl Strategy<Value = String> {
    select(&["held", "limit:narrow", "limit:wide"][..]).prop_map(Into::into)
}

fn key() -> impl Strategy<Value = &'static str> {
    select(&["one", "two"][..])
}

fn step() -> impl Strategy<Value = i32> {
    0..3_i32
}
