//! What a program knows of kinds: those compiled into it, and those that servers publish.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    definition::{Definition, PublishedDefinition},
    error::{Error, Result},
    perform::Handler,
    registry::Registry,
    store::Store,
};

/// The kinds that can be administered: by their Rust types where they are compiled in, otherwise by
/// the definitions that servers publish.
#[derive(Debug, Clone, Default)]
pub struct Kinds {
    registry: Registry,
    published: BTreeMap<String, Arc<PublishedDefinition>>,
}

impl Kinds {
    /// The kinds of `registry` alone.
    pub fn compiled(registry: Registry) -> Self {
        let own = registry.publish();
        let mut kinds = Self {
            registry,
            published: BTreeMap::new(),
        };
        kinds.add(own);
        kinds
    }

    /// The kinds of `registry`, and those that the servers on `store` publish. What is compiled in
    /// comes first, then what the server says that started last.
    pub async fn of(store: &Store, registry: Registry) -> Result<Self> {
        let mut kinds = Self::default();
        for server in store.servers().await? {
            kinds.add(server.definitions);
        }
        kinds.add(registry.publish());
        kinds.registry = registry;
        Ok(kinds)
    }

    fn add(&mut self, definitions: Vec<PublishedDefinition>) {
        for definition in definitions.into_iter().map(Arc::new) {
            for alias in &definition.aliases {
                self.published
                    .insert(alias.clone(), Arc::clone(&definition));
            }
            self.published
                .insert(definition.kind.clone(), Arc::clone(&definition));
        }
    }

    /// What is known at compile time of a kind or alias.
    pub fn definition(&self, kind: &str) -> Option<&'static Definition> {
        self.registry.definition(kind)
    }

    /// What performs a kind or alias that is compiled in.
    pub fn handler(&self, kind: &str) -> Option<&Arc<dyn Handler>> {
        self.registry.handler(kind)
    }

    /// What is known of a kind or alias as data.
    pub fn published(&self, kind: &str) -> Option<&PublishedDefinition> {
        self.published.get(kind).map(AsRef::as_ref)
    }

    /// What is known of a kind or alias as data.
    ///
    /// # Errors
    /// [`Error::Configuration`] with the kinds that there are.
    pub fn expect(&self, kind: &str) -> Result<&PublishedDefinition> {
        self.published(kind).ok_or_else(|| {
            let names = self.names().join("`, `");
            Error::configuration(if names.is_empty() {
                format!("kind `{kind}` is not known: no server publishes any kind")
            } else {
                format!("kind `{kind}` is not known: there are `{names}`")
            })
        })
    }

    /// Whether a running job of the kind may be paused.
    pub fn is_pausable(&self, kind: &str) -> bool {
        self.published(kind)
            .is_some_and(|definition| definition.pausable)
    }

    /// All kinds, sorted, without aliases.
    pub fn names(&self) -> Vec<&str> {
        let all = self.published.iter();
        all.filter(|(name, definition)| **name == definition.kind)
            .map(|(name, _)| name.as_str())
            .collect()
    }
}
