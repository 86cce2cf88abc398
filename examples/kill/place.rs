//! Where the jobs of a run are kept: a store of its own, which the run may kill.

use std::path::Path;

use rocketjob_testing::mongod::{Mongod, Options};

/// Which store to test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// A file.
    Sqlite,
    /// A `mongod` of the run's own, a replica set of one member.
    Mongodb,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Mongodb => "mongodb",
        }
    }
}

/// The store; it is gone when the value is dropped, its folder apart.
pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) mongod: Option<Mongod>,
}

impl Place {
    pub(crate) async fn start(kind: Kind, folder: &Path) -> Self {
        match kind {
            Kind::Sqlite => Self {
                url: format!("sqlite://{}", folder.join("jobs.db").display()),
                mongod: None,
            },
            Kind::Mongodb => {
                let mongod = Mongod::start(Options::replica_set("kill")).await;
                Self {
                    url: mongod.url("kill"),
                    mongod: Some(mongod),
                }
            }
        }
    }
}
