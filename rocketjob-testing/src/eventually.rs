//! Waiting for what must come true.

use std::time::Duration;

use tokio::time::{Instant, sleep};

const CAP: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

/// Repeats `check` until it yields a value.
///
/// # Panics
/// With the text `what` when it has not within half a minute.
pub async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + CAP;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < end, "did not come true: {what}");
        sleep(PAUSE).await;
    }
}
