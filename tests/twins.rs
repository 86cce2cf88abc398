//! Two Rust types with one kind: a program of its own, since it cannot start a server.

use rocketjob::{Error, MemoryStore, Registry, prelude::*};
use serde::{Deserialize, Serialize};

mod one {
    use super::*;

    #[derive(RocketJob, Serialize, Deserialize)]
    #[rocketjob(kind = "Twins")]
    pub(super) struct First {}

    impl Perform for First {
        async fn perform(&mut self, _job: &JobContext) -> JobResult {
            Ok(())
        }
    }
}

mod other {
    use super::*;

    #[derive(RocketJob, Serialize, Deserialize)]
    #[rocketjob(kind = "Other", aliases("Twins"))]
    pub(super) struct Second {}

    impl Perform for Second {
        async fn perform(&mut self, _job: &JobContext) -> JobResult {
            Ok(())
        }
    }
}

fn names_both(error: &Error) {
    let text = error.to_string();
    assert!(matches!(error, Error::DuplicateKind { .. }), "{text}");
    for part in [
        "`Twins`",
        "one::First",
        "other::Second",
        "rocketjob(kind = ",
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
}

#[tokio::test]
async fn a_server_does_not_start_and_names_both() {
    names_both(&Registry::collected().unwrap_err());
    names_both(
        &Server::builder(&MemoryStore::new())
            .start()
            .await
            .unwrap_err(),
    );
}

#[test]
fn registering_by_hand_finds_it_as_well() {
    let mut registry = Registry::new();
    registry.register::<one::First>().unwrap();
    registry
        .register::<one::First>()
        .expect("a kind that is there already stays");
    names_both(&registry.register::<other::Second>().unwrap_err());
}
