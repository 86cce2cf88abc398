//! A handle on any store.

use std::{fmt, ops::Deref, sync::Arc};

use crate::storage::Storage;

/// Any store, shared: cloning it costs nothing. Dereferences to the storage traits.
#[derive(Clone)]
pub struct Store(Arc<dyn Storage>);

impl Store {
    /// Wraps a store.
    pub fn new(storage: impl Storage) -> Self {
        Self(Arc::new(storage))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.0.address()).finish()
    }
}

impl Deref for Store {
    type Target = dyn Storage;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// What `create`, `find` and the like accept: a [`Store`], or a store itself.
pub trait AsStore {
    /// The store behind it.
    fn as_store(&self) -> Store;
}

impl AsStore for Store {
    fn as_store(&self) -> Store {
        self.clone()
    }
}

impl<S: Storage + Clone> AsStore for S {
    fn as_store(&self) -> Store {
        Store::new(self.clone())
    }
}
