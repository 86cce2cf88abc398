//! Where the queue begins, so that claims need not look for it.
//!
//! A claimed job leaves the index, but for minutes the storage engine keeps what was removed, and a
//! scan from the head passes by all of it: in a busy queue that takes longer than all else in a
//! claim. So the place of the first job is kept for a while, and the next claims that may lag begin
//! there. They leave out the kinds of which there are no jobs, since a scan that finds none goes on
//! to what was removed of the next kind. What becomes ready before the place is found with the next
//! look from the head, and at once if this process created it and no look was under way.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bson::{Document, doc, oid::ObjectId};
use parking_lot::Mutex;
use rocketjob_core::{Filter, JobDocument, name, whole_number};

/// For how long a look is good, at least and at most; between them it is as long as keeps the share
/// of the looks small.
const FRESH: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(250));
/// How many times longer a look is good than it took.
const SHARE: u32 = 20;
/// For how many sets of kinds places are kept; a process has as many as it has servers, if they
/// perform different ones.
const SETS: usize = 8;

/// The place of a job in the order of claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    priority: i64,
    id: ObjectId,
}

impl Place {
    /// `None` where the document does not say its priority.
    pub(crate) fn of_job(job: &JobDocument) -> Option<Self> {
        Self::of(job.as_document())
    }

    /// `None` where priority and id are not what they should be.
    pub(crate) fn of(found: &Document) -> Option<Self> {
        let priority = found.get(name::PRIORITY).and_then(whole_number)?;
        let id = found.get_object_id(name::ID).ok()?;
        Some(Self { priority, id })
    }

    /// The condition for what comes from here on with the same priority.
    pub(crate) fn onwards(self) -> Document {
        doc! { name::PRIORITY: self.priority, name::ID: { "$gte": self.id } }
    }
}

/// Which jobs are looked for.
#[derive(Debug, Clone, PartialEq)]
struct Wanted {
    kinds: Vec<String>,
    filter: Option<Filter>,
}

#[derive(Debug)]
struct Frontier {
    wanted: Wanted,
    start: Start,
    good_until: Instant,
}

/// Where to begin, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) place: Place,
    /// The kinds of which there are jobs.
    pub(crate) kinds: Vec<String>,
}

/// The first of the jobs of each kind.
pub(crate) fn first_of_kinds(jobs: &[JobDocument]) -> BTreeMap<String, Place> {
    let mut first = BTreeMap::new();
    for job in jobs {
        let Some(place) = Place::of_job(job) else {
            continue;
        };
        match first.get_mut(job.kind()) {
            Some(known) => *known = place.min(*known),
            None => {
                first.insert(job.kind().to_owned(), place);
            }
        }
    }
    first
}

/// The places that are known.
#[derive(Debug, Default)]
pub(crate) struct Frontiers(Mutex<Vec<Frontier>>);

impl Frontiers {
    /// Where the first of these jobs is.
    pub(crate) fn of(&self, kinds: &[&str], filter: Option<&Filter>) -> Option<Start> {
        let now = Instant::now();
        let mut known = self.0.lock();
        known.retain(|frontier| now < frontier.good_until);
        let mut known = known.iter();
        let frontier = known.find(|frontier| frontier.wanted.is(kinds, filter))?;
        Some(frontier.start.clone())
    }

    /// A look at the head, which took so long, has found the first of these jobs at `start`.
    pub(crate) fn found(
        &self,
        kinds: &[&str],
        filter: Option<&Filter>,
        start: Start,
        took: Duration,
    ) {
        self.lost(kinds, filter);
        let mut known = self.0.lock();
        if known.len() == SETS {
            known.remove(0);
        }
        known.push(Frontier {
            wanted: Wanted {
                kinds: kinds.iter().map(ToString::to_string).collect(),
                filter: filter.cloned(),
            },
            start,
            good_until: Instant::now() + good_for(took),
        });
    }

    /// A look from one place on has found the first of these jobs at another.
    pub(crate) fn moved(&self, kinds: &[&str], filter: Option<&Filter>, from: Place, to: Place) {
        let mut known = self.0.lock();
        let mut known = known.iter_mut();
        // Unless something has come before it meanwhile.
        if let Some(frontier) = known.find(|frontier| frontier.wanted.is(kinds, filter))
            && frontier.start.place == from
        {
            frontier.start.place = to;
        }
    }

    /// Where the first of these jobs is, is not known any more.
    pub(crate) fn lost(&self, kinds: &[&str], filter: Option<&Filter>) {
        let mut known = self.0.lock();
        known.retain(|frontier| !frontier.wanted.is(kinds, filter));
    }

    /// A job of this kind has come.
    pub(crate) fn came(&self, kind: &str, place: Place) {
        for Frontier { wanted, start, .. } in self.0.lock().iter_mut() {
            if !wanted.kinds.iter().any(|wanted| wanted == kind) {
                continue;
            }
            start.place = start.place.min(place);
            if !start.kinds.iter().any(|known| known == kind) {
                start.kinds.push(kind.to_owned());
            }
        }
    }

    /// Jobs that were claimed by this process are ready again, this one and younger ones.
    pub(crate) fn came_back(&self, first: ObjectId) {
        for Frontier { start, .. } in self.0.lock().iter_mut() {
            start.place.id = start.place.id.min(first);
        }
    }

    /// Jobs have become ready whose places are not known.
    pub(crate) fn forget(&self) {
        self.0.lock().clear();
    }
}

fn good_for(took: Duration) -> Duration {
    (took * SHARE).clamp(FRESH.0, FRESH.1)
}

impl Wanted {
    fn is(&self, kinds: &[&str], filter: Option<&Filter>) -> bool {
        self.kinds.iter().eq(kinds) && self.filter.as_ref() == filter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    fn place(priority: i64, last: u8) -> Place {
        let mut bytes = [0; 12];
        bytes[11] = last;
        let id = ObjectId::from_bytes(bytes);
        Place { priority, id }
    }

    fn start(priority: i64, last: u8, kinds: &[&str]) -> Start {
        let kinds = kinds.iter().map(ToString::to_string).collect();
        let place = place(priority, last);
        Start { place, kinds }
    }

    #[test]
    fn a_place_is_known_for_its_kinds_and_filter_alone() {
        let frontiers = Frontiers::default();
        let filter = Filter::missing("lost_claims");
        frontiers.found(&["A", "B"], None, start(50, 7, &["A"]), SHORT);
        assert_eq!(frontiers.of(&["A", "B"], None), Some(start(50, 7, &["A"])));
        assert_eq!(frontiers.of(&["A"], None), None);
        assert_eq!(frontiers.of(&["A", "B"], Some(&filter)), None);
        frontiers.moved(&["A", "B"], None, place(50, 7), place(50, 9));
        frontiers.moved(&["A"], None, place(50, 7), place(50, 9));
        assert_eq!(frontiers.of(&["A", "B"], None), Some(start(50, 9, &["A"])));
        assert_eq!(frontiers.of(&["A"], None), None);
        frontiers.lost(&["A"], None);
        assert_eq!(frontiers.of(&["A", "B"], None), Some(start(50, 9, &["A"])));
        frontiers.lost(&["A", "B"], None);
        assert_eq!(frontiers.of(&["A", "B"], None), None);
    }

    #[test]
    fn it_goes_back_when_a_job_comes_before_it() {
        let frontiers = Frontiers::default();
        let known = || frontiers.of(&["A", "B"], None);
        frontiers.found(&["A", "B"], None, start(50, 7, &["A"]), SHORT);
        frontiers.came("A", place(60, 1));
        frontiers.came("C", place(10, 1));
        assert_eq!(known(), Some(start(50, 7, &["A"])));
        frontiers.came("A", place(50, 6));
        assert_eq!(known(), Some(start(50, 6, &["A"])));
        frontiers.came("B", place(60, 1));
        assert_eq!(known(), Some(start(50, 6, &["A", "B"])));
        frontiers.came("B", place(40, 9));
        assert_eq!(known(), Some(start(40, 9, &["A", "B"])));
        frontiers.moved(&["A", "B"], None, place(50, 6), place(50, 9));
        let why = "that look began before the last of them came";
        assert_eq!(known(), Some(start(40, 9, &["A", "B"])), "{why}");
        frontiers.forget();
        assert_eq!(known(), None);
    }

    #[test]
    fn it_goes_back_with_a_job_that_comes_back() {
        let frontiers = Frontiers::default();
        frontiers.found(&["A"], None, start(50, 7, &["A"]), SHORT);
        frontiers.came_back(place(50, 8).id);
        assert_eq!(frontiers.of(&["A"], None), Some(start(50, 7, &["A"])));
        frontiers.came_back(place(50, 6).id);
        assert_eq!(frontiers.of(&["A"], None), Some(start(50, 6, &["A"])));
    }

    #[test]
    fn dear_looks_are_good_for_longer() {
        assert_eq!(good_for(Duration::ZERO), FRESH.0);
        assert_eq!(good_for(SHORT * 10), SHORT * 10 * SHARE);
        assert_eq!(good_for(Duration::from_secs(9)), FRESH.1);
    }

    #[test]
    fn only_so_many_are_kept() {
        let frontiers = Frontiers::default();
        let kinds: Vec<String> = (0..=SETS).map(|kind| format!("K{kind}")).collect();
        for kind in &kinds {
            frontiers.found(&[kind], None, start(50, 7, &[kind]), SHORT);
        }
        assert_eq!(frontiers.of(&[&kinds[0]], None), None);
        let last = kinds[SETS].as_str();
        assert_eq!(frontiers.of(&[last], None), Some(start(50, 7, &[last])));
    }
}
