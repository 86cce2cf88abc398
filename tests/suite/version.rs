//! Versions of a kind's fields: what an earlier one stored is upgraded, what a later one stored waits.

use std::time::Duration;

use rocketjob::{
    Edits, Error, JobDocument, Kinds, Reason, Registry, edit, name, prelude::*, version_of, why,
};
use rocketjob_testing::eventually;
use serde::{Deserialize, Serialize};

use crate::stores::{Fixture, on_every_store};

/// The kind as it was.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "VersionedGreeting", keep_completed, unregistered)]
struct Earlier {
    name: String,
}

impl Perform for Earlier {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

/// The kind as it is.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "VersionedGreeting", keep_completed, unregistered, version = 3)]
struct Present {
    #[field(user_editable)]
    first: String,
    last: String,
    /// How often it was upgraded: only ever once.
    upgrades: i32,
    attempts: i32,
}

impl Upgrade for Present {
    fn upgrade(from: u32, fields: &mut bson::Document) -> JobResult {
        if from != 1 {
            return Err(JobError::from(format!("nobody wrote version {from}")));
        }
        let name = fields.remove("name");
        let name = name.as_ref().and_then(|name| name.as_str());
        let (first, last) = name
            .and_then(|name| name.split_once(' '))
            .ok_or("a name has two parts")?;
        fields.insert("first", first);
        fields.insert("last", last);
        let before = fields.get_i32("upgrades").unwrap_or(0);
        fields.insert("upgrades", before + 1);
        fields.insert("attempts", 0);
        Ok(())
    }
}

impl Perform for Present {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        self.attempts += 1;
        if job.attempt() < 3 {
            return Err("not yet").retry_after(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// What its successors inherit was written by an earlier version.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "VersionedChain", version = 2)]
#[restart]
#[throttle(running = 1, by = region)]
struct Chain {
    #[field(copy_on_restart)]
    region: String,
}

impl Upgrade for Chain {
    fn upgrade(_from: u32, fields: &mut bson::Document) -> JobResult {
        let area = fields.remove("area").ok_or("no `area`")?;
        fields.insert("region", area);
        Ok(())
    }
}

impl Perform for Chain {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        Ok(())
    }
}

async fn earlier(fixture: &Fixture, text: &str) -> JobHandle<Earlier> {
    let job = Earlier { name: text.into() };
    job.create(&fixture.store).await.unwrap()
}

async fn stored(fixture: &Fixture, job: &JobDocument) -> JobDocument {
    fixture.store.get(job.id()).await.unwrap().unwrap()
}

/// The kinds as a program knows them that has this one compiled in.
fn compiled() -> Kinds {
    let mut registry = Registry::new();
    registry.register::<Present>().unwrap();
    Kinds::compiled(registry)
}

on_every_store! {
    async fn what_an_earlier_version_stored_is_upgraded_once(fixture: &Fixture) {
        let job = earlier(fixture, "Ada Lovelace").await;
        assert_eq!(version_of(job.document().as_document()), 1);
        let server = fixture.server::<Present>().start().await.unwrap();
        assert_eq!(server.report().unreadable, []);
        let done = eventually("it completes", async || {
            let job = stored(fixture, job.document()).await;
            (job.state() == State::Completed).then_some(job)
        })
        .await;
        server.stop().await.unwrap();
        let document = done.as_document();
        assert_eq!(version_of(document), 3);
        assert!(!document.contains_key("name"), "{document}");
        let read: Present = rocketjob::decode(Present::DEFINITION, document).unwrap();
        assert_eq!((read.first.as_str(), read.last.as_str()), ("Ada", "Lovelace"));
        assert_eq!((read.upgrades, read.attempts), (1, 3), "attempts go on from what is stored");
    }

    async fn a_handle_reads_it_upgraded_and_saves_it_so(fixture: &Fixture) {
        let old = earlier(fixture, "Ada Lovelace").await;
        let mut job = Present::find(&fixture.store, old.id()).await.unwrap().unwrap();
        assert_eq!((job.last.as_str(), job.upgrades), ("Lovelace", 1));
        let untouched = stored(fixture, old.document()).await;
        assert_eq!(untouched.as_document(), old.document().as_document(), "reading writes nothing");

        // A program without the kind knows it as a server publishes it, and cannot upgrade.
        let elsewhere = Filter::eq(name::PRIORITY, 1);
        let server = fixture.server::<Present>().filter(elsewhere).start().await.unwrap();
        let published = Kinds::of(&fixture.store, Registry::new()).await.unwrap();
        server.stop().await.unwrap();
        let edits = Edits::new().set("first", "Augusta").set(name::PRIORITY, "7");
        let refused = edit(&fixture.store, &published, old.id(), &edits).await;
        let Err(Error::Invalid(problems)) = refused else {
            panic!("{refused:?}");
        };
        assert!(problems.to_string().contains("version 1"), "{problems}");
        let edits = Edits::new().set(name::PRIORITY, "7");
        let edited = edit(&fixture.store, &published, old.id(), &edits).await;
        assert_eq!(edited.unwrap().priority(), 7);

        let third = earlier(fixture, "Ada Byron").await;
        let edits = Edits::new().set("first", "Augusta");
        let edited = edit(&fixture.store, &compiled(), third.id(), &edits).await.unwrap();
        assert_eq!(version_of(edited.as_document()), 3);
        let read: Present = rocketjob::decode(Present::DEFINITION, edited.as_document()).unwrap();
        assert_eq!((read.first.as_str(), read.last.as_str()), ("Augusta", "Byron"));

        job.last = "King".into();
        job.save().await.unwrap();
        let after = stored(fixture, old.document()).await;
        assert_eq!(version_of(after.as_document()), 3);
        assert_eq!(after.as_document().get_str("last").unwrap(), "King");
        assert!(!after.as_document().contains_key("name"));
        let edits = Edits::new().set("first", "Augusta");
        let edited = edit(&fixture.store, &published, old.id(), &edits).await.unwrap();
        assert_eq!(edited.as_document().get_str("first").unwrap(), "Augusta");
    }

    async fn what_cannot_be_upgraded_fails_untouched_and_is_told_at_the_start(fixture: &Fixture) {
        let job = earlier(fixture, "Plato").await;
        let server = fixture.server::<Present>().start().await.unwrap();
        let [unreadable] = &server.report().unreadable[..] else {
            panic!("{:?}", server.report().unreadable);
        };
        assert_eq!((unreadable.count, unreadable.looked_at), (1, 1));
        assert_eq!(unreadable.first, job.id());
        assert!(unreadable.reason.contains("a name has two parts"), "{}", unreadable.reason);
        let failed = eventually("it fails", async || {
            let job = stored(fixture, job.document()).await;
            (job.state() == State::Failed).then_some(job)
        })
        .await;
        server.stop().await.unwrap();
        let exception = failed.exception().unwrap();
        assert_eq!(exception.class_name, "Undecodable");
        assert!(exception.message.contains("from version 1 to 3"), "{}", exception.message);
        assert_eq!(failed.as_document().get_str("name").unwrap(), "Plato");
        assert_eq!(version_of(failed.as_document()), 1);
    }

    async fn what_a_later_version_stored_waits_for_a_server_that_knows_it(fixture: &Fixture) {
        let job = Present { first: "Ada".into(), last: "King".into(), upgrades: 0, attempts: 0 };
        let job = job.create(&fixture.store).await.unwrap();
        let other = earlier(fixture, "Ada Lovelace").await;
        let old = fixture.server::<Earlier>().heartbeat_interval(Duration::from_millis(200));
        let old = old.start().await.unwrap();
        assert_eq!(old.report().unreadable.len(), 1);
        eventually("the other job completes", async || {
            (stored(fixture, other.document()).await.state() == State::Completed).then_some(())
        })
        .await;
        let waiting = stored(fixture, job.document()).await;
        assert_eq!((waiting.state(), waiting.failure_count()), (State::Queued, 0));
        assert_eq!(waiting.hold(), Some("limit:version:VersionedGreeting:3"));
        let explained = why(&*fixture.store, job.id()).await.unwrap();
        let nobody = Reason::HeldForVersion { version: 3, servers: vec![] };
        assert_eq!(explained.reason, nobody, "{explained}");

        let new = fixture.server::<Present>().heartbeat_interval(Duration::from_millis(200));
        let new = new.start().await.unwrap();
        eventually("it completes", async || {
            (stored(fixture, job.document()).await.state() == State::Completed).then_some(())
        })
        .await;
        old.stop().await.unwrap();
        new.stop().await.unwrap();
    }

    async fn limits_and_successors_see_it_upgraded(fixture: &Fixture) {
        let store = &fixture.store;
        let prepared = Chain { region: "north".into() }.create(store).await.unwrap();
        let mut document = prepared.document().as_document().clone();
        prepared.delete().await.unwrap();
        document.remove("region");
        document.remove(name::PAYLOAD_VERSION);
        document.insert("area", "north");
        let job = JobDocument::new(document).unwrap();
        let limits = rocketjob::limits_of(Chain::DEFINITION, &job, store.now()).unwrap();
        assert_eq!(limits[0].key, "throttle:VersionedChain:north");
        store.insert(vec![job.clone()]).await.unwrap();
        let mut handle = Chain::find(store, job.id()).await.unwrap().unwrap();
        handle.abort().await.unwrap();
        let next = Chain::query(store).state(State::Queued).list().await.unwrap();
        assert_eq!(next.len(), 1);
        assert_eq!(next[0].region, "north");
        assert_eq!(version_of(next[0].document().as_document()), 2);
    }
}
