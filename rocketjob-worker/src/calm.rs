//! Keeping calm: a bell that keeps ringing for nothing is answered less often.
//!
//! All idle servers hear the bell, and one of them gets the job; a server of other kinds hears it for
//! each job of a bulk load. Whoever got something answers the next bell at once.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The pause after the second bell in a row that brought nothing; it doubles with each further one.
const FIRST: Duration = Duration::from_millis(1);
/// The longest pause: what comes in it waits no longer.
const LONGEST: Duration = Duration::from_millis(10);
/// Bells further apart than this are not in a row.
const ROW: Duration = Duration::from_millis(100);

/// How often the bell has rung in vain.
#[derive(Debug, Default)]
pub(crate) struct Calm(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    in_vain: u32,
    last_bell: Option<Instant>,
}

impl Calm {
    /// The bell has rung.
    pub(crate) fn rang(&self) {
        self.0.lock().last_bell = Some(Instant::now());
    }

    /// How long not to listen, after a claim that found something or nothing.
    pub(crate) fn pause(&self, found: bool) -> Duration {
        let mut state = self.0.lock();
        let in_a_row = state.last_bell.is_some_and(|last| last.elapsed() < ROW);
        state.in_vain = if found || !in_a_row {
            0
        } else {
            state.in_vain.saturating_add(1)
        };
        match state.in_vain {
            0 | 1 => Duration::ZERO,
            more => (FIRST * 2_u32.saturating_pow(more - 2).min(16)).min(LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bells_in_vain_are_answered_later_and_later() {
        let calm = Calm::default();
        let answer = |found| {
            calm.rang();
            calm.pause(found).as_millis()
        };
        let pauses: Vec<_> = (0..8).map(|_| answer(false)).collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 10, 10, 10]);
        assert_eq!(answer(true), 0, "it got something");
        assert_eq!((answer(false), answer(false)), (0, 1));
        tokio::time::advance(ROW).await;
        assert_eq!(calm.pause(false), Duration::ZERO, "a poll, much later");
        assert_eq!(answer(false), 0);
    }
}
