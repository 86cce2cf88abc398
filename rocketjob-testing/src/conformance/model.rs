//! Random sequences of operations, compared with a model: the store must give the same answers and
//! hold the same documents in the end. A sequence that shows a difference is shrunk.

mod case;
mod comparison;
mod operation;
mod reference;

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use tokio::{runtime::Handle, task::block_in_place};

use crate::Harness;

/// The store agrees with the model on [`Harness::MODEL_CASES`] sequences of up to 30 operations of
/// producers, servers, operators and the original, on two handles.
///
/// The environment variable `PROPTEST_RNG_SEED` repeats a run.
pub async fn agrees<H: Harness>(harness: &H) {
    let handles = [harness.store(), harness.second().await];
    let config = Config {
        cases: H::MODEL_CASES,
        failure_persistence: None,
        max_shrink_iters: 4 * H::MODEL_CASES,
        ..Config::default()
    };
    let checked = TestRunner::new(config).run(&operation::sequences(), |operations| {
        block_in_place(|| Handle::current().block_on(case::check(harness, &handles, &operations)))
            .map_err(TestCaseError::fail)
    });
    match checked {
        Ok(()) => {}
        Err(TestError::Fail(reason, operations)) => panic!("{reason}\nafter {operations:#?}"),
        Err(aborted) => panic!("{aborted}"),
    }
}
