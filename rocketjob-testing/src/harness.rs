//! What the conformance suite needs of a store under test.

use std::{future::Future, time::Duration};

use bson::{Document, oid::ObjectId};
use rocketjob_core::Store;
use tokio::{runtime::Builder, time::timeout};

/// What becomes of the events of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All are removed.
    Emptied,
    /// The place where they are kept is removed with them.
    Dropped,
    /// The place where they are kept is made again, in the plainest form.
    Recreated,
}

/// Opens an empty store for one test, and reaches around it as another program could.
///
/// `tests/memory.rs` of this crate is a whole one.
pub trait Harness: Sized + Send + Sync + 'static {
    /// How many random sequences of operations the store is compared with the model on.
    const MODEL_CASES: u32 = 64;

    /// An empty store for the test of this name, on which nobody else works.
    fn start(test: &'static str) -> impl Future<Output = Self> + Send;

    /// The store under test.
    fn store(&self) -> Store;

    /// Another handle on the same data, as another process would have it: it shares with the first
    /// nothing that two processes do not share.
    fn second(&self) -> impl Future<Output = Store> + Send;

    /// Writes a document as another program could, whatever is in it.
    fn put_raw(&self, document: Document) -> impl Future<Output = ()> + Send;

    /// Sets and removes fields of the job `id` without any condition, as a server of the original
    /// does.
    fn write_raw(
        &self,
        id: ObjectId,
        set: Document,
        unset: &[&str],
    ) -> impl Future<Output = ()> + Send;

    /// The stored document of the job `id`, as it stands.
    fn raw(&self, id: ObjectId) -> impl Future<Output = Option<Document>> + Send;

    /// Removes the events, as another program could.
    fn lose_events(&self, loss: Loss) -> impl Future<Output = ()> + Send;

    /// Cleans up after a test that went well; the data of a failed one may be looked at.
    fn finish(self) -> impl Future<Output = ()> + Send;
}

/// No promise takes longer; a store that hangs fails its test.
const CAP: Duration = Duration::from_mins(5);

/// Runs one test of the suite in a runtime of its own, as [`conformance!`](crate::conformance!)
/// does for each.
pub fn run<H: Harness>(test: &'static str, promise: impl AsyncFnOnce(&H)) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be started");
    runtime.block_on(async {
        let ended = timeout(CAP, async {
            let harness = H::start(test).await;
            promise(&harness).await;
            harness.finish().await;
        });
        assert!(ended.await.is_ok(), "{test} did not end within {CAP:?}");
    });
}
