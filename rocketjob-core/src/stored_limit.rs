//! What a store keeps of a limit: the number that an operator has set, the starts that a rate has
//! used up, and when jobs that wait for it are to be looked at.
//!
//! A rate is a number of places, each of which is taken for one window by one start. So in any
//! window there are at most as many starts as places, wherever it begins; and a place that is free
//! again can be used at once, so that all of them are used while there are jobs. The places are not
//! in the jobs' documents, since jobs may run longer or shorter than the window, but in one small
//! document for each key, which is replaced as a whole if nobody else has replaced it meanwhile.
//!
//! A start is booked ahead of its time, as long as it takes to claim a job and to begin it (the
//! lead): the job is claimed with a `started_at` that is about to come, and its worker waits for it.
//! What begins later than it was booked by more than half of `Rate::slack` moves its booking first
//! (`start.rs`), and the lead grows; otherwise it becomes shorter again. So the windows hold for
//! the moments at which jobs begin, and not only for those at which they were claimed, and no place
//! lies idle while claims are under way.

use std::time::Duration;

use bson::{Bson, Document, doc, oid::ObjectId};
use jiff::Timestamp;

use crate::{
    clock::later,
    encoding::{date, integer, timestamp, whole_number},
    error::Result,
    name,
    storage::{JobStore, LimitStore},
};

/// How often a change is tried that others were faster than.
const TRIES: usize = 10;
/// How far ahead the starts are booked of a job that has several rates.
pub(crate) const TOGETHER: Duration = Duration::from_millis(50);
/// How far a booking is moved at most, and how far ahead it is made.
pub(crate) const MOST_LATE: Duration = Duration::from_millis(500);
/// How many times as far ahead as its lead a start is booked at most: jobs that wait are let go on so
/// much earlier than a place is over, since to let them go on and to claim them takes time as well.
const AHEAD: u32 = 3;
/// For how long jobs that were let go on may take to book their starts.
const PROMISED: Duration = Duration::from_millis(500);
/// How much time lies between two looks at least.
const PACE: Duration = Duration::from_millis(5);
/// The part by which the lead becomes shorter with each booking: who is late costs others more than
/// who waits.
const SHRINKS: u32 = 512;
/// For how long what is kept of an unused limit stays, so that clocks need not agree.
const KEPT: Duration = Duration::from_mins(1);

/// So many starts in any window of a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many starts.
    pub max: u32,
    /// How long the window is.
    pub per: Duration,
}

impl Rate {
    /// How far ahead of its time a start is booked, at least.
    pub(crate) fn least_lead(&self) -> Duration {
        whole_milliseconds(self.per / 32).min(Duration::from_millis(50))
    }

    /// And at most.
    fn most_lead(&self) -> Duration {
        whole_milliseconds(self.per / 6).min(MOST_LATE)
    }

    /// How much later than booked a job may begin.
    pub fn slack(&self) -> Duration {
        whole_milliseconds(self.per / 100)
            .clamp(Duration::from_millis(1), Duration::from_millis(200))
    }

    /// How much later than booked a job may begin whose booking is moved afterwards: by the time that
    /// is left its place is given to nobody else.
    pub(crate) fn most_late(&self) -> Duration {
        whole_milliseconds(self.per / 8).min(MOST_LATE)
    }

    /// When the place of a start at `start` may be used again. Rounded up, so that few times are kept
    /// however many starts there are.
    fn over(&self, start: Timestamp) -> Timestamp {
        let grain = whole_milliseconds(self.per / 128).max(Duration::from_millis(1));
        let grain = i64::try_from(grain.as_millis()).unwrap_or(1);
        let over = later(later(start, self.per), self.slack()).as_millisecond();
        let over = over.saturating_add(grain - 1) / grain * grain;
        Timestamp::from_millisecond(over).unwrap_or(Timestamp::MAX)
    }
}

fn whole_milliseconds(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// Starts whose places may be used again at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Taken {
    over: Timestamp,
    count: u32,
}

/// What a store keeps of a limit.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredLimit {
    /// The limit.
    pub key: String,
    /// Another one after each change: who would replace an older one is refused.
    pub version: ObjectId,
    /// The number that an operator has set, in place of what the jobs say; 0 is no limit.
    pub max: Option<u32>,
    /// When jobs that wait for it are to be looked at.
    pub next: Option<Timestamp>,
    /// How long after that again, where time alone does not tell.
    pub again: Option<Duration>,
    /// The number by which the last start was booked.
    booked_of: u32,
    /// How far ahead starts are booked.
    lead: Duration,
    /// When that became longer: starts that were booked before do not tell whether it suffices now.
    lengthened: Option<Timestamp>,
    /// By time.
    taken: Vec<Taken>,
    /// How many jobs were let go on and have not booked a start yet, and until when that counts.
    promised: Option<(u32, Timestamp)>,
}

impl StoredLimit {
    /// Nothing is kept of it yet.
    pub fn new(key: impl Into<String>, version: ObjectId) -> Self {
        Self {
            key: key.into(),
            version,
            max: None,
            next: None,
            again: None,
            booked_of: 0,
            lead: Duration::ZERO,
            lengthened: None,
            taken: Vec::new(),
            promised: None,
        }
    }

    /// The number that counts where the job says `stated`.
    pub fn most(&self, stated: u32) -> u32 {
        match self.max {
            Some(0) => u32::MAX,
            Some(most) => most,
            None => stated,
        }
    }

    /// How many starts may be booked at `now` of those by whose number the last one was booked.
    pub fn free(&self, now: Timestamp) -> usize {
        self.room(self.most(self.booked_of), self.horizon(now))
    }

    /// Up to when starts are booked at `now`.
    fn horizon(&self, now: Timestamp) -> Timestamp {
        later(now, self.lead * AHEAD)
    }

    /// Whether starts are booked in it.
    pub(crate) fn is_rate(&self) -> bool {
        self.booked_of > 0 || !self.taken.is_empty()
    }

    /// How many places are over by `time`.
    fn room(&self, most: u32, time: Timestamp) -> usize {
        let taken = self.taken.iter().filter(|taken| taken.over > time);
        let taken: u64 = taken.map(|taken| u64::from(taken.count)).sum();
        usize::try_from(u64::from(most).saturating_sub(taken)).unwrap_or(usize::MAX)
    }

    /// Books up to `wanted` starts at the time `now`, and says when each is to be. One that is not
    /// `alone`, but with others of other limits, is a little later, as they are.
    pub fn book(
        &mut self,
        rate: Rate,
        now: Timestamp,
        wanted: usize,
        alone: bool,
    ) -> Vec<Timestamp> {
        self.booked_of = rate.max;
        // Becomes shorter as long as nobody is late.
        let lead = self.lead * (SHRINKS - 1) / SHRINKS;
        self.lead = whole_milliseconds(lead).max(rate.least_lead());
        let (soonest, latest) = if alone {
            (later(now, self.lead), self.horizon(now))
        } else {
            (later(now, TOGETHER), later(now, TOGETHER))
        };
        let most = self.most(rate.max);
        self.taken.retain(|taken| taken.over > now);
        let mut left = self.room(most, latest).min(wanted);
        let at_once = self.room(most, Timestamp::MIN).min(left);
        let mut starts = vec![soonest; at_once];
        left -= at_once;
        while left > 0
            && let Some(first) = self.taken.first_mut()
        {
            let start = first.over.max(soonest);
            let used = left.min(usize::try_from(first.count).unwrap_or(usize::MAX));
            starts.extend(std::iter::repeat_n(start, used));
            left -= used;
            first.count -= u32::try_from(used).unwrap_or(first.count);
            if first.count == 0 {
                self.taken.remove(0);
            }
        }
        for start in &starts {
            self.take(rate.over(*start));
        }
        if let Some((promised, _)) = &mut self.promised {
            *promised = promised.saturating_sub(u32::try_from(starts.len()).unwrap_or(u32::MAX));
        }
        self.promised = self.promised.filter(|(promised, _)| *promised > 0);
        starts
    }

    /// Books a start for `start`, if a place is over by then.
    pub(crate) fn book_at(&mut self, rate: Rate, start: Timestamp) -> bool {
        self.booked_of = rate.max;
        let most = self.most(rate.max);
        if self.room(most, start) == 0 {
            return false;
        }
        if self.room(most, Timestamp::MIN) == 0
            && let Some(first) = self.taken.first().map(|first| first.over)
        {
            self.leave(first);
        }
        self.take(rate.over(start));
        true
    }

    /// Promises up to `free` starts to jobs that are let go on, and says how many were not promised
    /// before: else the same starts would be promised again until the first jobs have booked them.
    pub(crate) fn promise(&mut self, free: usize, now: Timestamp) -> usize {
        let before = self.promised.filter(|(_, until)| *until > now);
        let (promised, until) = before.unwrap_or((0, later(now, PROMISED)));
        let new = free.saturating_sub(usize::try_from(promised).unwrap_or(usize::MAX));
        let new = u32::try_from(new).unwrap_or(u32::MAX);
        self.promised = Some((promised.saturating_add(new), until));
        usize::try_from(new).unwrap_or(usize::MAX)
    }

    /// When it is to be looked at after a look at `now`.
    pub(crate) fn next_look(&self, now: Timestamp) -> Timestamp {
        let promised = self.promised.map(|(_, until)| until);
        let next = self.next_free(now).or(promised);
        next.map_or_else(|| later(now, PROMISED), |next| next.max(later(now, PACE)))
    }

    /// Gives starts back that were booked and not used. Until then their places are over, since the
    /// starts before them in these places are no sooner.
    pub fn give_back(&mut self, rate: Rate, starts: &[Timestamp]) {
        for start in starts {
            if self.leave(rate.over(*start)) {
                self.take(*start);
            }
        }
    }

    /// Moves a start that was booked for `booked` to `start`. `false` when its place has been given to
    /// another one since.
    pub(crate) fn move_start(&mut self, rate: Rate, booked: Timestamp, start: Timestamp) -> bool {
        let moved = self.leave(rate.over(booked));
        if moved {
            self.take(rate.over(start));
        }
        moved
    }

    /// A job turned out at `now` to be this much later than it was booked, for `booked`.
    pub(crate) fn note_late(
        &mut self,
        rate: Rate,
        booked: Timestamp,
        late: Duration,
        now: Timestamp,
    ) {
        if self
            .lengthened
            .is_some_and(|at| booked < later(at, self.lead))
        {
            // It was booked before: many are late for the same reason.
            return;
        }
        let longer = self.lead.max(rate.least_lead()) + late;
        self.lead = whole_milliseconds(longer).min(rate.most_lead());
        self.lengthened = Some(now);
    }

    fn take(&mut self, over: Timestamp) {
        match self.taken.binary_search_by_key(&over, |taken| taken.over) {
            Ok(index) => self.taken[index].count += 1,
            Err(index) => self.taken.insert(index, Taken { over, count: 1 }),
        }
    }

    fn leave(&mut self, over: Timestamp) -> bool {
        let found = self.taken.binary_search_by_key(&over, |taken| taken.over);
        if let Ok(index) = found {
            self.taken[index].count -= 1;
            if self.taken[index].count == 0 {
                self.taken.remove(index);
            }
        }
        found.is_ok()
    }

    /// When the next place may be booked that may not at `now`.
    pub fn next_free(&self, now: Timestamp) -> Option<Timestamp> {
        let ahead = self.horizon(now);
        let mut over = self.taken.iter().map(|taken| taken.over);
        let next = over.find(|over| *over > ahead)?;
        next.checked_sub(self.lead * AHEAD).ok()
    }

    /// A job waits for the limit from `now` on: it is to be looked at when there may be room, or
    /// after `again`.
    pub fn wait(&mut self, now: Timestamp, again: Option<Duration>) {
        let time = match again {
            Some(again) => later(now, again),
            None if self.free(now) > 0 => now,
            None => self.next_free(now).unwrap_or(now),
        };
        self.again = again;
        self.next = Some(self.next.map_or(time, |next| next.min(time)));
    }

    /// From when on nothing is lost when it is forgotten; `None` while it says something.
    pub fn expires_at(&self) -> Option<Timestamp> {
        let says_something = self.max.is_some() || self.next.is_some();
        let last = self.taken.last().map(|taken| taken.over);
        (!says_something).then(|| later(last.unwrap_or(Timestamp::UNIX_EPOCH), KEPT))
    }

    /// The stored form.
    pub fn to_document(&self) -> Document {
        let taken = self.taken.iter().map(|taken| {
            Bson::from(doc! { "at": date(taken.over), "n": integer(taken.count.into()) })
        });
        let mut document = doc! {
            name::ID: &self.key,
            "version": self.version,
            "taken": taken.collect::<Vec<_>>(),
            "of": integer(self.booked_of.into()),
        };
        if let Some(max) = self.max {
            document.insert("max", integer(max.into()));
        }
        if let Some(next) = self.next {
            document.insert("next", date(next));
        }
        if let Some(again) = self.again {
            let again = i64::try_from(again.as_millis()).unwrap_or(i64::MAX);
            document.insert("again", integer(again));
        }
        if !self.lead.is_zero() {
            let lead = i64::try_from(self.lead.as_millis()).unwrap_or(0);
            document.insert("lead", integer(lead));
        }
        if let Some(lengthened) = self.lengthened {
            document.insert("lengthened", date(lengthened));
        }
        if let Some((promised, until)) = self.promised {
            document.insert("promised", integer(promised.into()));
            document.insert("promised_until", date(until));
        }
        if let Some(expires_at) = self.expires_at() {
            document.insert("expires_at", date(expires_at));
        }
        document
    }

    /// The limit that is stored in `document`; what cannot be read of it counts as not there.
    pub fn from_document(document: &Document) -> Self {
        let number = |document: &Document, field: &str| {
            let number = document.get(field).and_then(whole_number)?;
            u32::try_from(number.max(0)).ok()
        };
        let time = |document: &Document, field: &str| match document.get(field) {
            Some(Bson::DateTime(time)) => timestamp(*time),
            _ => None,
        };
        let taken = document.get_array("taken").into_iter().flatten();
        let taken = taken.filter_map(|taken| {
            let taken = taken.as_document()?;
            Some(Taken {
                over: time(taken, "at")?,
                count: number(taken, "n")?,
            })
        });
        let mut taken: Vec<_> = taken.collect();
        taken.sort_unstable_by_key(|taken| taken.over);
        let again = document.get("again").and_then(whole_number);
        Self {
            key: document.get_str(name::ID).unwrap_or_default().to_owned(),
            version: document.get_object_id("version").unwrap_or_default(),
            max: number(document, "max"),
            next: time(document, "next"),
            again: again.and_then(|again| Some(Duration::from_millis(u64::try_from(again).ok()?))),
            booked_of: number(document, "of").unwrap_or(0),
            lead: Duration::from_millis(number(document, "lead").unwrap_or(0).into()),
            lengthened: time(document, "lengthened"),
            taken,
            promised: number(document, "promised").zip(time(document, "promised_until")),
        }
    }
}

/// Changes what `store` keeps of the limit `key`, as often as it takes, and returns what `change`
/// does. `None` when others were faster each time: then nothing was changed.
///
/// # Errors
/// Those of the store; whether the change was made stays open then.
pub async fn change_limit<S: JobStore + LimitStore + ?Sized, T>(
    store: &S,
    key: &str,
    mut change: impl FnMut(&mut StoredLimit) -> T + Send,
) -> Result<Option<T>> {
    for _ in 0..TRIES {
        let before = store.limit(key).await?;
        let previous = before.as_ref().map(|before| before.version);
        let mut after = match &before {
            Some(before) => before.clone(),
            None => StoredLimit::new(key, store.next_id()),
        };
        let outcome = change(&mut after);
        if before.as_ref() == Some(&after) {
            return Ok(Some(outcome));
        }
        after.version = store.next_id();
        if store.swap_limit(previous, &after).await? {
            return Ok(Some(outcome));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
