//! `EventStore`.

use std::collections::BTreeSet;

use bson::{doc, oid::ObjectId};
use rocketjob_core::{Event, EventCursor, Store};
use tokio::task::JoinHandle;

use crate::{Harness, Loss, eventually};

fn event(store: &Store, action: &str) -> Event {
    Event {
        id: store.next_id(),
        name: "RocketJob::Subscribers::Server".into(),
        action: Some(action.into()),
        parameters: doc! { "server_id": store.next_id(), "level": 5 },
        created_at: store.now(),
    }
}

/// Reads on until `count` different events have come, in the order in which they came first.
async fn read(store: &Store, cursor: &mut EventCursor, count: usize) -> Vec<Event> {
    let mut read: Vec<Event> = Vec::new();
    eventually("all events come", async || {
        let (events, behind) = store.events(cursor, 3).await.unwrap();
        assert!(events.len() <= 3);
        *cursor = behind;
        for event in events {
            if !read.iter().any(|known| known.id == event.id) {
                read.push(event);
            }
        }
        (read.len() >= count).then_some(())
    })
    .await;
    read
}

/// A subscriber gets what is published behind its beginning, whole, in order, page by page.
pub async fn come_in_the_order_of_publication(harness: &impl Harness) {
    let store = harness.store();
    let published: Vec<Event> = (0..8)
        .map(|number| event(&store, &number.to_string()))
        .collect();
    let mut cursor = store.event_end().await.unwrap();
    for event in &published {
        store.publish(event).await.unwrap();
    }
    assert_eq!(read(&store, &mut cursor, 8).await, published);
}

/// What was published before is not told.
pub async fn begin_at_the_end(harness: &impl Harness) {
    let store = harness.store();
    store.publish(&event(&store, "before")).await.unwrap();
    let mut cursor = store.event_end().await.unwrap();
    let after = event(&store, "after");
    store.publish(&after).await.unwrap();
    assert_eq!(read(&store, &mut cursor, 1).await, [after]);
}

/// Without action and parameters, too.
pub async fn may_say_next_to_nothing(harness: &impl Harness) {
    let store = harness.store();
    let mut cursor = store.event_end().await.unwrap();
    let bare = Event {
        action: None,
        parameters: doc! {},
        ..event(&store, "")
    };
    store.publish(&bare).await.unwrap();
    assert_eq!(read(&store, &mut cursor, 1).await, [bare]);
}

/// Nothing new is not an error, and the place stays good.
pub async fn may_be_asked_for_in_vain(harness: &impl Harness) {
    let store = harness.store();
    let end = store.event_end().await.unwrap();
    let (events, mut cursor) = store.events(&end, 10).await.unwrap();
    assert_eq!(events, []);
    let published = event(&store, "pause");
    store.publish(&published).await.unwrap();
    assert_eq!(read(&store, &mut cursor, 1).await, [published]);
}

/// Subscribers of another process get them, and a place may be read from more than once.
pub async fn reach_another_handle(harness: &impl Harness) {
    let (store, other) = (harness.store(), harness.second().await);
    let start = other.event_end().await.unwrap();
    let published = event(&store, "pause");
    store.publish(&published).await.unwrap();
    for _ in 0..2 {
        let mut cursor = start.clone();
        let read = read(&other, &mut cursor, 1).await;
        assert_eq!(read, std::slice::from_ref(&published));
    }
}

/// However many publish at once on two handles, a subscriber that reads meanwhile gets them all.
pub async fn are_never_left_out(harness: &impl Harness) {
    let handles = [harness.store(), harness.second().await];
    let mut cursor = handles[1].event_end().await.unwrap();
    let tasks: Vec<_> = (0..6)
        .map(|number| {
            let store = handles[number % 2].clone();
            tokio::spawn(async move {
                let mut published = Vec::new();
                for _ in 0..15 {
                    let event = event(&store, "pause");
                    store.publish(&event).await.unwrap();
                    published.push(event.id);
                }
                published
            })
        })
        .collect();
    let read = read(&handles[1], &mut cursor, 90).await;
    let mut published = BTreeSet::new();
    for task in tasks {
        published.extend(task.await.unwrap());
    }
    let read: BTreeSet<ObjectId> = read.iter().map(|event| event.id).collect();
    assert_eq!(read, published);
}

/// Waits on `store` for events, until it is dropped.
struct Listener(JoinHandle<()>);

impl Listener {
    async fn start(store: &Store) -> Self {
        let task = tokio::spawn({
            let store = store.clone();
            async move {
                let mut known = store.event_bells();
                loop {
                    known = store.event_published(known).await;
                }
            }
        });
        eventually("the store hears other processes", async || {
            store.hears_events().then_some(())
        })
        .await;
        Self(task)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Who waits on the handle through which an event is published is told, and who asks afterwards
/// finds it in the count.
pub async fn wake_who_waits_for_them(harness: &impl Harness) {
    let store = harness.store();
    let known = store.event_bells();
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.event_published(known).await }
    });
    store.publish(&event(&store, "pause")).await.unwrap();
    assert_ne!(waiting.await.unwrap(), known);
    assert_ne!(store.event_published(known).await, known);
}

/// Who waits on one handle is told of what is published through another, again and again.
pub async fn wake_who_waits_on_another_handle(harness: &impl Harness) {
    let (store, other) = (harness.store(), harness.second().await);
    let _listener = Listener::start(&store).await;
    for _ in 0..5 {
        let known = store.event_bells();
        other.publish(&event(&other, "pause")).await.unwrap();
        eventually("the bell rings", async || {
            (store.event_bells() != known).then_some(())
        })
        .await;
    }
}

/// Jobs wake nobody who waits for events.
pub async fn are_not_mixed_up_with_jobs(harness: &impl Harness) {
    let (store, other) = (harness.store(), harness.second().await);
    let _listener = Listener::start(&store).await;
    // What is left of the beginning.
    let published = event(&other, "pause");
    let before = store.event_bells();
    other.publish(&published).await.unwrap();
    eventually("the bell rings", async || {
        (store.event_bells() != before).then_some(())
    })
    .await;
    let known = store.event_bells();
    for _ in 0..20 {
        crate::job("A").insert(&other).await;
        crate::job("A").insert(&store).await;
    }
    // One more may be the echo of what was published.
    assert!(store.event_bells() <= known + 2);
}

/// Whatever becomes of the events and the place where they are kept: those that are published
/// afterwards are found behind the same place, and heard.
pub async fn are_found_whatever_became_of_those_before(harness: &impl Harness) {
    let (store, other) = (harness.store(), harness.second().await);
    let _listener = Listener::start(&store).await;
    let mut cursor = store.event_end().await.unwrap();
    for (count, loss) in [
        (3, Loss::Emptied),
        (3, Loss::Dropped),
        (1, Loss::Recreated),
        (5, Loss::Dropped),
        (7, Loss::Emptied),
        (2, Loss::Dropped),
    ] {
        let mut published = Vec::new();
        for number in 0..count {
            let event = event(&other, &format!("{loss:?} {number}"));
            let known = store.event_bells();
            other.publish(&event).await.unwrap();
            eventually("the bell rings", async || {
                (store.event_bells() != known).then_some(())
            })
            .await;
            published.push(event);
        }
        assert_eq!(
            read(&store, &mut cursor, count).await,
            published,
            "{loss:?}"
        );
        harness.lose_events(loss).await;
        let (events, behind) = store.events(&cursor, 10).await.unwrap();
        assert_eq!(events, [], "{loss:?}");
        cursor = behind;
    }
}

/// Also when more have been published since than there were before.
pub async fn are_found_when_there_are_more_than_before(harness: &impl Harness) {
    let store = harness.store();
    for loss in [Loss::Emptied, Loss::Dropped, Loss::Recreated] {
        let mut cursor = store.event_end().await.unwrap();
        store.publish(&event(&store, "before")).await.unwrap();
        read(&store, &mut cursor, 1).await;
        harness.lose_events(loss).await;
        let published: Vec<Event> = (0..9)
            .map(|number| event(&store, &number.to_string()))
            .collect();
        for event in &published {
            store.publish(event).await.unwrap();
        }
        assert_eq!(read(&store, &mut cursor, 9).await, published, "{loss:?}");
    }
}
