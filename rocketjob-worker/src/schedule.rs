//! Scheduled jobs become ready when they fall due, jobs that wait for a limit when time lets them go
//! on, and those that the original wrote soon after.
//!
//! Each server knows when the next job falls due: its claims tell it while it is idle, the bell
//! when one is created, and it looks itself while it is busy. When the time has come, the servers
//! try one after the other within a few milliseconds, so that as a rule one of them writes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use rocketjob_core::{Registry, Result, Store, later, release_due};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::health::{Pulse, report};

/// How many jobs are made ready in one step.
const GROUP: usize = 1000;
/// How much later than a server of a better rank another tries, and at most.
const SPREAD: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(16));
/// The pause between two steps: what comes together in it is one step.
const GAP: Duration = Duration::from_millis(20);
/// How often in a row the pause is doubled after nothing was found that should be due: as a rule
/// another server was faster, and the next due job is not to wait for it.
const DOUBLINGS: u32 = 5;
/// How often the store's time is compared with the next due time, since clocks can jump. No request
/// is made for it.
pub(crate) const TICK: Duration = Duration::from_secs(1);
/// How often a busy server, which is told nothing by its claims, asks for the next due time.
const LOOK: Duration = Duration::from_millis(250);
/// How often jobs without any mark are looked for: by a server that is busy or was told of one, by
/// one that is not told, and by one that would be told.
const ADOPTION: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// What a server knows of the next due time.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    next: Mutex<Option<Timestamp>>,
    is_idle: AtomicBool,
    news: Notify,
}

impl Alarm {
    /// A job falls due at `due`; one that falls due earlier stays known.
    pub(crate) fn tell(&self, due: Option<Timestamp>) {
        let Some(due) = due else { return };
        let mut next = self.next.lock();
        if next.is_none_or(|next| due < next) {
            *next = Some(due);
            self.news.notify_one();
        }
    }

    /// The bell has rung for a job that is to become ready.
    pub(crate) fn rings(&self) {
        self.news.notify_one();
    }

    /// Until it is dropped, the claims tell of the next due time and somebody hears the bell.
    pub(crate) fn idles(&self) -> Idle<'_> {
        self.is_idle.store(true, Ordering::Relaxed);
        Idle(self)
    }
}

/// The server waits for work.
#[derive(Debug)]
pub(crate) struct Idle<'a>(&'a Alarm);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.is_idle.store(false, Ordering::Relaxed);
    }
}

/// What making jobs ready takes.
#[derive(Debug)]
pub(crate) struct Scheduler {
    pub(crate) store: Store,
    pub(crate) registry: Arc<Registry>,
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) rank: Arc<AtomicUsize>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) stop: CancellationToken,
}

/// What was done last, and what is to be done.
struct State {
    looked: Instant,
    promoted: Instant,
    /// How often the bell had rung by then.
    heard: u64,
    /// It has rung since the last look: a job may fall due that is not known.
    unseen: bool,
    /// It has rung since the last promotion: there may be a job without any mark.
    unadopted: bool,
    /// How often in a row nothing was found that should be due.
    in_vain: u32,
}

impl Scheduler {
    /// Makes jobs ready until the server has stopped.
    pub(crate) async fn run(self) {
        let now = Instant::now();
        let mut state = State {
            looked: now,
            promoted: now,
            heard: self.store.bells().waiting,
            unseen: true,
            unadopted: false,
            in_vain: 0,
        };
        // Whatever has fallen due while there was no server.
        let mut gap = self.promote(&mut state).await;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(gap) => {}
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.alarm.news.notified() => {}
                () = tokio::time::sleep(self.pause(&state)) => {}
            }
            gap = self.step(&mut state).await;
        }
    }

    /// Does what is to be done now, and says how long to pause at least.
    async fn step(&self, state: &mut State) -> Duration {
        let bells = self.store.bells().waiting;
        if std::mem::replace(&mut state.heard, bells) != bells {
            (state.unseen, state.unadopted) = (true, true);
        }
        let (look, adoption) = self.beats(state);
        let now = Instant::now();
        if self.is_due() || now >= state.promoted + adoption {
            return self.promote(state).await;
        }
        state.unseen |= look.is_some_and(|look| now >= state.looked + look);
        let looked = self.look_if_needed(state).await;
        if self.done("look for the next due time", &looked) {
            GAP
        } else {
            LOOK
        }
    }

    /// Makes all ready that is due, and says how long to pause at least.
    async fn promote(&self, state: &mut State) -> Duration {
        let is_due = self.is_due();
        state.promoted = Instant::now();
        let promoted = self.promote_all(state).await;
        if is_due && matches!(promoted, Ok(0)) {
            state.in_vain += 1;
        } else {
            state.in_vain = 0;
        }
        if !self.done("make due jobs ready", &promoted.map(drop)) {
            return LOOK;
        }
        // The first time in vain costs nothing more.
        GAP * 2_u32.pow(state.in_vain.saturating_sub(1).min(DOUBLINGS))
    }

    async fn promote_all(&self, state: &mut State) -> Result<u64> {
        // First what a rate lets go on: there each millisecond counts.
        let mut touched = release_due(&*self.store, &*self.registry).await?;
        loop {
            let more = self.store.promote(GROUP).await?;
            touched += more;
            if more < GROUP as u64 {
                break;
            }
        }
        state.unadopted = false;
        state.unseen |= touched > 0 || self.is_due();
        self.look_if_needed(state).await?;
        Ok(touched)
    }

    async fn look_if_needed(&self, state: &mut State) -> Result<()> {
        if !state.unseen {
            return Ok(());
        }
        state.looked = Instant::now();
        // Before the store is asked: what a claim tells meanwhile stays.
        let known = self.alarm.next.lock().take();
        match self.store.next_due().await {
            Ok(next) => {
                self.alarm.tell(next);
                state.unseen = false;
                Ok(())
            }
            Err(error) => {
                self.alarm.tell(known);
                Err(error)
            }
        }
    }

    fn done(&self, what: &str, outcome: &Result<()>) -> bool {
        let done = report(what, outcome);
        if done {
            self.pulse.completed();
        }
        done
    }

    /// How often to ask for the next due time, unless claims tell it, and how often to look for jobs
    /// without any mark.
    fn beats(&self, state: &State) -> (Option<Duration>, Duration) {
        let [soon, often, seldom] = ADOPTION;
        if !self.alarm.is_idle.load(Ordering::Relaxed) {
            (Some(LOOK), soon)
        } else if state.unadopted {
            (None, soon)
        } else if self.store.hears_others() {
            (None, seldom)
        } else {
            (None, often)
        }
    }

    /// How long to wait, if no bell rings.
    fn pause(&self, state: &State) -> Duration {
        let (look, adoption) = self.beats(state);
        let next = state.promoted + adoption;
        if state.unseen {
            return Duration::ZERO;
        }
        let next = look.map_or(next, |look| next.min(state.looked + look));
        let pause = next.saturating_duration_since(Instant::now()).min(TICK);
        self.until_due().map_or(pause, |due| due.min(pause))
    }

    fn is_due(&self) -> bool {
        self.until_due() == Some(Duration::ZERO)
    }

    /// How long it is until this server makes the next job ready, by the store's time.
    fn until_due(&self) -> Option<Duration> {
        let next = (*self.alarm.next.lock())?;
        let rank = u32::try_from(self.rank.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let spread = SPREAD.0.saturating_mul(rank).min(SPREAD.1);
        let until = later(next, spread).duration_since(self.store.now());
        Some(Duration::try_from(until).unwrap_or(Duration::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_keeps_the_earliest_time() {
        let alarm = Alarm::default();
        let second = |second| Timestamp::from_second(second).ok();
        for due in [second(5), second(3), None, second(4)] {
            alarm.tell(due);
        }
        assert_eq!(*alarm.next.lock(), second(3));
    }

    #[test]
    fn a_server_is_idle_as_long_as_it_waits() {
        let alarm = Alarm::default();
        let idle = alarm.idles();
        assert!(alarm.is_idle.load(Ordering::Relaxed));
        drop(idle);
        assert!(!alarm.is_idle.load(Ordering::Relaxed));
    }
}
