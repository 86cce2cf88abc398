//! `InspectStore::inspect`.

use crate::{Harness, job};

/// A new store has no problems, nor has one with jobs; and it says what it is.
pub async fn finds_nothing_wrong_with_a_new_store(harness: &impl Harness) {
    let store = harness.store();
    job("A").insert(&store).await;
    for store in [store, harness.second().await] {
        let inspection = store.inspect().await.unwrap();
        assert_eq!(inspection.problems, [""; 0]);
        for text in [
            &inspection.product,
            &inspection.topology,
            &inspection.durability,
        ] {
            assert!(!text.is_empty(), "{inspection:?}");
        }
    }
}
