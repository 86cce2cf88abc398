//! `why`: the reason for which a job is not running.

use rocketjob_core::{Reason, Store};

use crate::{arguments::WhyArguments, failure::Failure, output::Output};

/// Tells it.
pub(crate) async fn why(
    store: &Store,
    arguments: &WhyArguments,
    output: &Output,
) -> Result<(), Failure> {
    let explanation = rocketjob_core::why(&**store, arguments.id).await?;
    if explanation.reason == Reason::NoSuchJob {
        return Err(Failure::nothing(explanation.to_string()));
    }
    if output.is_json() {
        return output.serialized(&explanation);
    }
    output.line(&explanation.to_string())
}
