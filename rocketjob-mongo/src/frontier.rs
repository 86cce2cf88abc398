//! Where the queue begins, so that claims need not look for it.
//!
//! A claimed job leaves the index, but for a while the storage engine keeps what was removed, and a
//! scan from the head passes by all of it: in a busy queue that takes longer than all else in a
//! claim. So the place of the first job is kept for a moment, and the next claims that may lag begin
//! there. What becomes ready before it is found at once if this process did it, and otherwise with
//! the next look from the head.

use std::time::{Duration, Instant};

use bson::{Document, doc, oid::ObjectId};
use parking_lot::Mutex;
use rocketjob_core::{Filter, JobDocument, name, whole_number};

/// How long a place is good for.
const FRESH: Duration = Duration::from_millis(50);
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
    pub(crate) fn of(job: &JobDocument) -> Option<Self> {
        let priority = job.get(name::PRIORITY).and_then(whole_number)?;
        let id = job.id();
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
    place: Place,
    looked: Instant,
}

/// The places that are known.
#[derive(Debug, Default)]
pub(crate) struct Frontiers(Mutex<Vec<Frontier>>);

impl Frontiers {
    /// Where the first of these jobs is.
    pub(crate) fn of(&self, kinds: &[&str], filter: Option<&Filter>) -> Option<Place> {
        let mut known = self.0.lock();
        known.retain(|frontier| frontier.looked.elapsed() < FRESH);
        let mut known = known.iter();
        let frontier = known.find(|frontier| frontier.wanted.is(kinds, filter))?;
        Some(frontier.place)
    }

    /// A look from the head has found the first of these jobs at `place`.
    pub(crate) fn found(&self, kinds: &[&str], filter: Option<&Filter>, place: Place) {
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
            place,
            looked: Instant::now(),
        });
    }

    /// A look from the known place on has found the first of these jobs at `place`.
    pub(crate) fn moved(&self, kinds: &[&str], filter: Option<&Filter>, place: Place) {
        let mut known = self.0.lock();
        let mut known = known.iter_mut();
        if let Some(frontier) = known.find(|frontier| frontier.wanted.is(kinds, filter)) {
            frontier.place = place;
        }
    }

    /// Where the first of these jobs is, is not known any more.
    pub(crate) fn lost(&self, kinds: &[&str], filter: Option<&Filter>) {
        let mut known = self.0.lock();
        known.retain(|frontier| !frontier.wanted.is(kinds, filter));
    }

    /// These jobs have come.
    pub(crate) fn came(&self, places: impl Iterator<Item = Place>) {
        if let Some(first) = places.min() {
            self.0.lock().retain(|frontier| frontier.place <= first);
        }
    }

    /// Jobs have become ready whose places are not known.
    pub(crate) fn forget(&self) {
        self.0.lock().clear();
    }
}

impl Wanted {
    fn is(&self, kinds: &[&str], filter: Option<&Filter>) -> bool {
        self.kinds.iter().eq(kinds) && self.filter.as_ref() == filter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(priority: i64, id: u8) -> Place {
        let mut bytes = [0; 12];
        bytes[11] = id;
        let id = ObjectId::from_bytes(bytes);
        Place { priority, id }
    }

    #[test]
    fn a_place_is_known_for_its_kinds_and_filter_alone() {
        let frontiers = Frontiers::default();
        let filter = Filter::missing("lost_claims");
        frontiers.found(&["A", "B"], None, place(50, 7));
        assert_eq!(frontiers.of(&["A", "B"], None), Some(place(50, 7)));
        assert_eq!(frontiers.of(&["A"], None), None);
        assert_eq!(frontiers.of(&["A", "B"], Some(&filter)), None);
        frontiers.moved(&["A", "B"], None, place(50, 9));
        frontiers.moved(&["A"], None, place(50, 9));
        assert_eq!(frontiers.of(&["A", "B"], None), Some(place(50, 9)));
        assert_eq!(frontiers.of(&["A"], None), None);
        frontiers.lost(&["A"], None);
        assert_eq!(frontiers.of(&["A", "B"], None), Some(place(50, 9)));
        frontiers.lost(&["A", "B"], None);
        assert_eq!(frontiers.of(&["A", "B"], None), None);
    }

    #[test]
    fn it_is_forgotten_when_a_job_comes_before_it() {
        let frontiers = Frontiers::default();
        frontiers.found(&["A"], None, place(50, 7));
        frontiers.came([place(60, 1), place(50, 8)].into_iter());
        assert_eq!(frontiers.of(&["A"], None), Some(place(50, 7)));
        frontiers.came([place(60, 1), place(50, 6)].into_iter());
        assert_eq!(frontiers.of(&["A"], None), None);
        frontiers.found(&["A"], None, place(50, 7));
        frontiers.forget();
        assert_eq!(frontiers.of(&["A"], None), None);
    }

    #[test]
    fn only_so_many_are_kept() {
        let frontiers = Frontiers::default();
        let kinds: Vec<String> = (0..=SETS).map(|kind| format!("K{kind}")).collect();
        for kind in &kinds {
            frontiers.found(&[kind], None, place(50, 7));
        }
        assert_eq!(frontiers.of(&[&kinds[0]], None), None);
        assert_eq!(frontiers.of(&[&kinds[SETS]], None), Some(place(50, 7)));
    }
}
