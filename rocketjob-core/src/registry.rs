//! The kinds that a program can perform.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;

use crate::{
    definition::{Definition, PublishedDefinition},
    document::JobDocument,
    error::{Error, Result},
    failure::JobFailure,
    job::Perform,
    limit::{Limit, Limits},
    name,
    perform::{Handler, KindHandler, guarded},
    version,
};

/// A kind that registers itself at link time; written by the derive.
#[derive(Debug)]
pub struct Registration {
    handler: fn() -> Arc<dyn Handler>,
}

impl Registration {
    /// The registration of `T`.
    pub const fn of<T: Perform>() -> Self {
        Self {
            handler: handler_of::<T>,
        }
    }
}

fn handler_of<T: Perform>() -> Arc<dyn Handler> {
    Arc::new(KindHandler::<T>::new())
}

inventory::collect!(Registration);

/// Kinds by name and alias, each with the Rust type that performs it.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    handlers: BTreeMap<&'static str, Arc<dyn Handler>>,
}

impl Registry {
    /// No kinds.
    pub fn new() -> Self {
        Self::default()
    }

    /// The kinds that registered themselves in this program. A library from which the program
    /// uses nothing is left out by the linker, and its kinds with it: [`register`](Self::register)
    /// those.
    ///
    /// # Errors
    /// [`Error::DuplicateKind`] when two types have one kind or alias, and what
    /// [`register`](Self::register) finds wrong with a definition.
    pub fn collected() -> Result<Self> {
        let mut registry = Self::new();
        for registration in inventory::iter::<Registration> {
            registry.add(&(registration.handler)())?;
        }
        Ok(registry)
    }

    /// Adds a kind; one that is there already stays.
    ///
    /// # Errors
    /// [`Error::DuplicateKind`] when another type has the kind or one of its aliases, and
    /// [`Error::Configuration`] when fields of the struct and of its concerns have one name.
    pub fn register<T: Perform>(&mut self) -> Result<()> {
        self.add(&handler_of::<T>())
    }

    fn add(&mut self, handler: &Arc<dyn Handler>) -> Result<()> {
        let definition = handler.definition();
        check(definition)?;
        for kind in definition.names() {
            if let Some(other) = self.handlers.get(kind)
                && other.rust_type() != handler.rust_type()
            {
                return Err(Error::DuplicateKind {
                    kind: kind.into(),
                    first: other.definition().rust_type.into(),
                    second: definition.rust_type.into(),
                });
            }
        }
        for kind in definition.names() {
            self.handlers.insert(kind, Arc::clone(handler));
        }
        Ok(())
    }

    /// Leaves only the kinds for which `keep` holds, each with its aliases.
    pub fn retain(&mut self, keep: impl Fn(&Definition) -> bool) {
        self.handlers
            .retain(|_, handler| keep(handler.definition()));
    }

    /// The handler of a kind or alias.
    pub fn handler(&self, kind: &str) -> Option<&Arc<dyn Handler>> {
        self.handlers.get(kind)
    }

    /// What is known of a kind or alias.
    pub fn definition(&self, kind: &str) -> Option<&'static Definition> {
        self.handlers.get(kind).map(|handler| handler.definition())
    }

    /// All kinds and aliases, sorted.
    pub fn kinds(&self) -> Vec<String> {
        self.handlers
            .keys()
            .map(|kind| (*kind).to_owned())
            .collect()
    }

    /// All definitions, as servers publish them.
    pub fn publish(&self) -> Vec<PublishedDefinition> {
        let own = self
            .handlers
            .iter()
            .filter(|(kind, handler)| **kind == handler.definition().kind);
        own.map(|(_, handler)| handler.definition().publish())
            .collect()
    }

    /// Whether there is nothing to perform.
    pub fn is_empty(&self) -> bool {
        self.handlers.is_empty()
    }
}

impl Limits for Registry {
    fn limits(
        &self,
        job: &JobDocument,
        now: Timestamp,
    ) -> std::result::Result<Vec<Limit>, JobFailure> {
        match self.definition(job.kind()) {
            Some(definition) => limits_of(definition, job, now),
            None => Ok(Vec::new()),
        }
    }

    fn knows(&self, kind: &str) -> bool {
        self.handlers.contains_key(kind)
    }
}

/// The limits that the concerns of a kind set to `job`.
///
/// # Errors
/// The failure that the job gets when one of them panics.
pub fn limits_of(
    definition: &Definition,
    job: &JobDocument,
    now: Timestamp,
) -> std::result::Result<Vec<Limit>, JobFailure> {
    if let Some(limit) = version::limit(definition, job) {
        return Ok(vec![limit]);
    }
    if definition.concerns.is_empty() {
        return Ok(Vec::new());
    }
    let document = job.as_document();
    let upgraded = version::is_other(definition, document)
        .then(|| JobDocument::new(version::upgraded(definition, document)).ok());
    let job = upgraded.as_ref().and_then(Option::as_ref).unwrap_or(job);
    let concerns = definition.concerns.iter();
    guarded(|| {
        concerns
            .flat_map(|concern| concern.limits(job, now))
            .collect()
    })
}

/// What the derive cannot see: the fields of concerns.
fn check(definition: &Definition) -> Result<()> {
    let mut owners: BTreeMap<&str, &str> = definition
        .fields
        .iter()
        .map(|field| (field.name, "the struct"))
        .collect();
    for concern in definition.concerns {
        let fields: BTreeSet<&str> = concern.fields().iter().map(|field| field.name).collect();
        for field in &fields {
            let owner = owners
                .insert(field, concern.name())
                .or_else(|| name::is_envelope(field).then_some("the envelope"));
            if let Some(owner) = owner {
                return Err(Error::configuration(format!(
                    "kind `{}`: field `{field}` of concern `{}` is also a field of {owner}: rename one of them",
                    definition.kind,
                    concern.name()
                )));
            }
        }
        if let Some(unnamed) = concern
            .initial_state()?
            .keys()
            .find(|key| !fields.contains(key.as_str()))
        {
            return Err(Error::configuration(format!(
                "kind `{}`: concern `{}` keeps `{unnamed}` but does not name it in `Concern::fields`",
                definition.kind,
                concern.name()
            )));
        }
    }
    Ok(())
}
