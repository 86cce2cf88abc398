//! [`InspectStore`] for a database: the server, the replica set, our collections and indexes.

use std::ops::RangeInclusive;

use async_trait::async_trait;
use bson::{Document, doc};
use futures_util::TryStreamExt;
use mongodb::{Database, IndexModel, error::Error as DriverError, options::Acknowledgment};
use rocketjob_core::{
    Clock, Finding, InspectStore, Inspection, JobDocument, JobSet, JobStore, Result, SetAside,
    Severity, Subject, SystemClock, whole_number,
};

use crate::{error, schema, store::MongoStore};

/// The oldest version that does all that is asked of it.
const OLDEST: [i64; 2] = [4, 4];

#[async_trait]
impl InspectStore for MongoStore {
    async fn inspect(&self) -> Result<Inspection> {
        let database = self.database();
        let failed = |problem| self.error(problem);
        let command = |name: &str| database.run_command(doc! { name: 1 });
        let build = command("buildInfo").await.map_err(failed)?;
        let topology = Topology::new(&command("hello").await.map_err(failed)?);
        let version = build.get_str("version").unwrap_or("(no version)");
        let mut findings: Vec<_> = old_version(&build).into_iter().collect();
        findings.extend(topology.finding());
        findings.extend(self.careless_writes(&topology).await);
        findings.extend(layout(database).await.map_err(failed)?);
        Ok(Inspection {
            product: format!("MongoDB {version}"),
            topology: topology.to_text(),
            durability: topology.durability().into(),
            clock_offset: self.now().duration_since(SystemClock.now()),
            findings,
        })
    }

    async fn count_set(&self, set: &JobSet, at_most: u64) -> Result<u64> {
        self.count_jobs_in(set, at_most).await
    }

    async fn first_ready(
        &self,
        kind: &str,
        priorities: RangeInclusive<i64>,
        at_most: usize,
    ) -> Result<Vec<JobDocument>> {
        self.first_ready_jobs(kind, &priorities, at_most).await
    }

    async fn undecodable(&self, at_most: usize) -> Result<Vec<SetAside>> {
        self.undecodable_jobs(at_most).await
    }
}

impl MongoStore {
    /// Whether others who write with the defaults can lose what was acknowledged. What we write
    /// says for itself when it counts.
    async fn careless_writes(&self, topology: &Topology) -> Option<Finding> {
        if matches!(topology, Topology::Standalone) {
            return None;
        }
        let of_url = self
            .database()
            .write_concern()
            .and_then(|concern| concern.w.clone());
        let by_one = |w: &Acknowledgment| matches!(w, Acknowledgment::Nodes(0 | 1));
        let whose = if of_url.as_ref().is_some_and(by_one) {
            "the URL or client says"
        } else {
            let command = doc! { "getDefaultRWConcern": 1 };
            let admin = self.client().database("admin");
            // A user may not be allowed to ask, and not every server can tell.
            let defaults = admin.run_command(command).await.ok()?;
            let w = defaults
                .get_document("defaultWriteConcern")
                .ok()?
                .get("w")?;
            if whole_number(w)? > 1 {
                return None;
            }
            "the cluster's default is"
        };
        Some(Finding::new(
            Severity::Warning,
            Subject::WriteConcern,
            format!(
                "{whose} `w: 1`: what the program's own collections and servers of the original write may be lost in a failover (our own jobs are written with `w: \"majority\"` whatever is said)"
            ),
            "use `w=majority`, in the URL or by `setDefaultRWConcern`",
        ))
    }
}

fn old_version(build: &Document) -> Option<Finding> {
    let numbers = build.get_array("versionArray").ok()?;
    let numbers: Vec<i64> = numbers.iter().filter_map(whole_number).collect();
    let [oldest, minor] = OLDEST;
    (numbers.as_slice() < &OLDEST).then(|| {
        let version = build.get_str("version").unwrap_or_default();
        Finding::new(
            Severity::Error,
            Subject::Version,
            format!("MongoDB {version} is too old"),
            format!("update it to {oldest}.{minor} or newer"),
        )
    })
}

/// How the server stands among others.
#[derive(Debug, PartialEq)]
enum Topology {
    Standalone,
    Sharded,
    ReplicaSet {
        name: String,
        /// Those that keep data.
        members: usize,
        arbiters: usize,
    },
}

impl Topology {
    fn new(hello: &Document) -> Self {
        let count = |list: &str| hello.get_array(list).map_or(0, Vec::len);
        if hello.get_str("msg").is_ok_and(|text| text == "isdbgrid") {
            Self::Sharded
        } else if let Ok(name) = hello.get_str("setName") {
            Self::ReplicaSet {
                name: name.into(),
                members: count("hosts") + count("passives"),
                arbiters: count("arbiters"),
            }
        } else {
            Self::Standalone
        }
    }

    fn to_text(&self) -> String {
        match self {
            Self::Standalone => "standalone: no other server takes over".into(),
            Self::Sharded => "sharded cluster".into(),
            Self::ReplicaSet {
                name,
                members,
                arbiters,
            } => {
                let plural = |count: &usize| if *count == 1 { "" } else { "s" };
                let members = format!("replica set {name} of {members} member{}", plural(members));
                match arbiters {
                    0 => members,
                    _ => format!("{members} and {arbiters} arbiter{}", plural(arbiters)),
                }
            }
        }
    }

    fn durability(&self) -> &'static str {
        match self {
            Self::Standalone => "acknowledged by the one server, with journal; claims without",
            Self::Sharded | Self::ReplicaSet { .. } => {
                "acknowledged by a majority, with journal; claims by the primary alone"
            }
        }
    }

    /// Whether one server that is down is one too many, although it need not be.
    fn finding(&self) -> Option<Finding> {
        let (name, members, arbiters) = match self {
            Self::Standalone => return Some(standalone()),
            Self::Sharded => return None,
            Self::ReplicaSet {
                name,
                members,
                arbiters,
            } => (name, members, arbiters),
        };
        let majority = (members + arbiters) / 2 + 1;
        (*arbiters > 0 && *members <= majority).then(|| {
            Finding::new(
                Severity::Warning,
                Subject::Topology,
                format!("the replica set {name} has {members} members with data, and {majority} of them must confirm each write: as soon as one is down, work stands still"),
                "replace the arbiter by a member with data",
            )
        })
    }
}

fn standalone() -> Finding {
    Finding::new(
        Severity::Warning,
        Subject::Topology,
        "MongoDB runs standalone: nothing takes over when it is down, it has no transactions, and since it tells nobody of changes, idle servers poll twice a second",
        "make it a replica set, of one member to begin with: start it with `--replSet rs0` and run `rs.initiate()`",
    )
}

/// What our collections and indexes lack.
async fn layout(database: &Database) -> Result<Vec<Finding>, DriverError> {
    let mut findings = Vec::new();
    for (collection, wanted) in [
        (schema::JOBS, schema::indexes()),
        (schema::SERVERS, vec![schema::server_name()]),
    ] {
        let found = list(database, doc! { "listIndexes": collection }).await?;
        let differences = wanted.iter();
        findings.extend(differences.filter_map(|wanted| difference(collection, wanted, &found)));
    }
    let events = doc! { "listCollections": 1, "filter": { "name": schema::EVENTS } };
    let events = list(database, events).await?;
    findings.extend(uncapped(events.first()));
    Ok(findings)
}

/// What a command lists; nothing of a collection that is not there.
async fn list(database: &Database, command: Document) -> Result<Vec<Document>, DriverError> {
    match database.run_cursor_command(command).await {
        Ok(listed) => listed.try_collect().await,
        Err(problem) if error::is_missing_collection(&problem) => Ok(Vec::new()),
        Err(problem) => Err(problem),
    }
}

/// In what the index that stands under the name of `wanted` differs from it.
fn difference(collection: &str, wanted: &IndexModel, found: &[Document]) -> Option<Finding> {
    let options = wanted.options.as_ref()?;
    let name = options.name.as_deref()?;
    let named = |index: &&Document| index.get_str("name").is_ok_and(|found| found == name);
    let Some(index) = found.iter().find(named) else {
        return Some(Finding::new(
            Severity::Error,
            Subject::Index,
            format!("{collection}: the index `{name}` is missing"),
            "start a server, which creates it",
        ));
    };
    let is_ours = index
        .get_document("key")
        .is_ok_and(|keys| directions(keys) == directions(&wanted.keys))
        && index.get_document("partialFilterExpression").ok()
            == options.partial_filter_expression.as_ref()
        && index.get_bool("unique").unwrap_or(false) == options.unique.unwrap_or(false);
    (!is_ours).then(|| {
        Finding::new(
            Severity::Error,
            Subject::Index,
            format!("{collection}: the index `{name}` is another one than ours"),
            "drop it, and start a server, which creates it",
        )
    })
}

/// The fields of an index in their order, which comparing documents leaves out.
fn directions(keys: &Document) -> Vec<(&str, Option<f64>)> {
    let number = |value: &bson::Bson| {
        let whole = value.as_i32().map(f64::from);
        // The shell writes them as fractions.
        whole.or_else(|| value.as_f64())
    };
    keys.iter()
        .map(|(field, direction)| (field.as_str(), number(direction)))
        .collect()
}

fn uncapped(events: Option<&Document>) -> Option<Finding> {
    let collection = schema::EVENTS;
    let Some(events) = events else {
        return Some(Finding::new(
            Severity::Warning,
            Subject::Index,
            format!("{collection} is missing"),
            "start a server, which creates it",
        ));
    };
    let is_capped = events
        .get_document("options")
        .is_ok_and(|options| options.get_bool("capped").unwrap_or(false));
    (!is_capped).then(|| {
        Finding::new(
            Severity::Warning,
            Subject::Index,
            format!("{collection} is not capped, so that all events stay in it"),
            format!(
                "run `db.runCommand({{ convertToCapped: \"{collection}\", size: {} }})`",
                schema::EVENTS_SIZE
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_too_old_is_told() {
        let build = |version: &str, numbers: [i32; 4]| {
            old_version(&doc! { "version": version, "versionArray": numbers.to_vec() })
                .map(|finding| finding.to_string())
        };
        let problem = build("4.2.25", [4, 2, 25, 0]).unwrap();
        assert!(
            problem.contains("4.2.25") && problem.contains("to 4.4"),
            "{problem}"
        );
        assert_eq!(build("4.4.0", [4, 4, 0, 0]), None);
        assert_eq!(build("10.0.0", [10, 0, 0, 0]), None);
    }

    #[test]
    fn a_topology_is_told_with_what_may_come_of_it() {
        let set = |members: &[&str], arbiters: &[&str]| {
            Topology::new(&doc! { "setName": "rs0", "hosts": members, "arbiters": arbiters })
        };
        let three = set(&["a:1", "b:1", "c:1"], &[]);
        assert_eq!(three.to_text(), "replica set rs0 of 3 members");
        assert_eq!(three.finding(), None);
        assert_eq!(set(&["a:1"], &[]).to_text(), "replica set rs0 of 1 member");
        let arbitrated = set(&["a:1", "b:1"], &["c:1"]);
        assert_eq!(
            arbitrated.to_text(),
            "replica set rs0 of 2 members and 1 arbiter"
        );
        assert!(arbitrated.finding().unwrap().what.contains("one is down"));
        assert_eq!(set(&["a:1", "b:1", "c:1", "d:1"], &["e:1"]).finding(), None);
        assert_eq!(
            Topology::new(&doc! { "msg": "isdbgrid" }),
            Topology::Sharded
        );
        assert_eq!(Topology::new(&doc! {}), Topology::Standalone);
    }
}
