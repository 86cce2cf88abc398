//! Changes to documents, and the conditions under which they are made.

use bson::{Bson, Document, oid::ObjectId};

use crate::{
    claim::Claim,
    encoding::{integer, whole_number},
    filter::Filter,
    name,
    state::State,
};

/// What is written to a document, in one atomic step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// Fields and their new values; a name may be a dotted path.
    pub set: Document,
    /// Fields that go.
    pub unset: Vec<String>,
    /// Whole numbers that grow; an absent one counts as 0. A name may be a dotted path.
    pub increment: Vec<(String, i64)>,
    /// The document goes; nothing else is written then.
    pub delete: bool,
}

impl Change {
    /// No change yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The document goes.
    pub fn delete() -> Self {
        Self {
            delete: true,
            ..Self::default()
        }
    }

    /// `field` becomes `value`.
    #[must_use]
    pub fn set(mut self, field: impl Into<String>, value: impl Into<Bson>) -> Self {
        self.put(field, value);
        self
    }

    /// `field` goes.
    #[must_use]
    pub fn unset(mut self, field: impl Into<String>) -> Self {
        self.take(field);
        self
    }

    /// `field` grows by `by`.
    #[must_use]
    pub fn increment(mut self, field: impl Into<String>, by: i64) -> Self {
        self.increment.push((field.into(), by));
        self
    }

    /// `field` becomes `value`, whatever was said of it before.
    pub fn put(&mut self, field: impl Into<String>, value: impl Into<Bson>) {
        let field = field.into();
        self.unset.retain(|other| *other != field);
        self.set.insert(field, value.into());
    }

    /// `field` goes, whatever was said of it before.
    pub fn take(&mut self, field: impl Into<String>) {
        let field = field.into();
        self.set.remove(&field);
        if !self.unset.contains(&field) {
            self.unset.push(field);
        }
    }

    /// Does what `other` says as well; of one field the later word counts.
    pub fn add(&mut self, other: Self) {
        for (field, value) in other.set {
            self.put(field, value);
        }
        other.unset.into_iter().for_each(|field| self.take(field));
        self.increment.extend(other.increment);
        self.delete |= other.delete;
    }

    /// The state after the change, where it sets one.
    pub fn state(&self) -> Option<State> {
        self.set
            .get_str(name::STATE)
            .ok()
            .and_then(State::from_name)
    }

    /// Whether nothing would be written.
    pub fn is_empty(&self) -> bool {
        !self.delete && self.set.is_empty() && self.unset.is_empty() && self.increment.is_empty()
    }

    /// Writes the change to `document`, except that it does not delete.
    pub fn apply(&self, document: &mut Document) {
        for (path, value) in &self.set {
            if let Some((parent, leaf)) = parent(document, path, true) {
                parent.insert(leaf, value.clone());
            }
        }
        for path in &self.unset {
            if let Some((parent, leaf)) = parent(document, path, false) {
                parent.remove(leaf);
            }
        }
        for (path, by) in &self.increment {
            if let Some((parent, leaf)) = parent(document, path, true) {
                let before = parent.get(leaf).and_then(whole_number).unwrap_or(0);
                parent.insert(leaf, integer(before.saturating_add(*by)));
            }
        }
    }
}

/// The document that holds the last part of `path`, and that part.
fn parent<'d, 'p>(
    document: &'d mut Document,
    path: &'p str,
    create: bool,
) -> Option<(&'d mut Document, &'p str)> {
    let Some((head, rest)) = path.split_once('.') else {
        return Some((document, path));
    };
    if create && !matches!(document.get(head), Some(Bson::Document(_))) {
        document.insert(head, Document::new());
    }
    match document.get_mut(head) {
        Some(Bson::Document(inner)) => parent(inner, rest, create),
        _ => None,
    }
}

/// What must hold for a change to be made. It is checked and the change made in one atomic step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Guard {
    /// The job is in one of these states; none given means any.
    pub states: Vec<State>,
    /// The job is held under this claim.
    pub claim: Option<Claim>,
    /// A further condition.
    pub matching: Option<Filter>,
}

impl Guard {
    /// The fence of a claim's holder: running, under this token, with this worker.
    pub fn claimed(claim: Claim) -> Self {
        Self {
            states: vec![State::Running],
            claim: Some(claim),
            matching: None,
        }
    }

    /// The job is in one of `states`.
    pub fn states(states: impl IntoIterator<Item = State>) -> Self {
        Self {
            states: states.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Further, `filter` matches.
    #[must_use]
    pub fn matching(mut self, filter: Filter) -> Self {
        self.matching = Some(filter);
        self
    }

    /// Whether it holds for `document`; the definition of its meaning. The rest of the envelope may
    /// be broken.
    pub fn holds(&self, document: &Document) -> bool {
        let claim = |claim: &Claim| {
            text(document, name::CLAIM) == Some(&claim.token)
                && text(document, name::WORKER_NAME) == Some(&claim.worker_name)
        };
        (self.states.is_empty() || self.names(state(document)))
            && self.claim.as_ref().is_none_or(claim)
            && self
                .matching
                .as_ref()
                .is_none_or(|filter| filter.matches(document))
    }

    /// Why it does not hold for `document`.
    pub fn refusal(&self, document: &Document) -> Refusal {
        match state(document) {
            found if self.claim.is_some() && self.names(found) => Refusal::ClaimLost,
            // A state that nobody knows is as good as failed: only an operator can help.
            found => Refusal::State(found.unwrap_or(State::Failed)),
        }
    }

    fn names(&self, state: Option<State>) -> bool {
        state.is_some_and(|state| self.states.contains(&state))
    }
}

fn state(document: &Document) -> Option<State> {
    text(document, name::STATE).and_then(State::from_name)
}

fn text<'d>(document: &'d Document, field: &str) -> Option<&'d str> {
    document.get_str(field).ok()
}

/// One conditional change of one job.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    /// The job.
    pub id: ObjectId,
    /// The condition.
    pub guard: Guard,
    /// The change.
    pub change: Change,
}

impl Patch {
    /// Whether `document` shows that an earlier try with the same claim was made, whose answer was
    /// lost: it stands under the claim's token in the state to which the change leads, or an attempt
    /// that is tried again has left its mark, which outlasts the next claim. Only changes that end a
    /// claim can be told so.
    pub fn was_made(&self, document: &Document) -> bool {
        let (Some(claim), Some(target)) = (&self.guard.claim, self.change.state()) else {
            return false;
        };
        if let Ok(mark) = self.change.set.get_str(name::RETRIED_CLAIM) {
            return text(document, name::RETRIED_CLAIM) == Some(mark);
        }
        !self.change.delete
            && target != State::Running
            && state(document) == Some(target)
            && text(document, name::CLAIM) == Some(&claim.token)
    }
}

/// Why a change was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No such job.
    NotFound,
    /// The job is in this state, or in it a further condition does not hold.
    State(State),
    /// The job is in the right state, but under another claim.
    ClaimLost,
    /// Another job holds a unique key, or a place in a limit, that the change would take.
    Existing(ObjectId),
}

/// What became of one change of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Made, by this call or by an earlier try whose answer was lost.
    Accepted,
    /// Not made.
    Refused(Refusal),
}

/// What became of one job of an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insertion {
    /// Stored.
    Inserted,
    /// Not stored: this job holds the same unique key, or is the same job from an earlier try.
    Existing(ObjectId),
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn a_change_writes_nested_fields_and_counts_absent_as_zero() {
        let mut document = doc! { "a": { "b": 1 }, "gone": true };
        Change::new()
            .set("a.c", "x")
            .unset("gone")
            .increment("a.b", 2)
            .increment("statistics.rows", 5)
            .apply(&mut document);
        assert_eq!(
            document,
            doc! { "a": { "b": 3, "c": "x" }, "statistics": { "rows": 5 } }
        );
    }

    #[test]
    fn the_last_word_on_a_field_counts() {
        let change = Change::new().set("ready", true).unset("ready");
        assert_eq!((change.set.len(), change.unset.len()), (0, 1));
        let change = change.set("ready", true);
        assert_eq!((change.set.len(), change.unset.len()), (1, 0));
    }
}
