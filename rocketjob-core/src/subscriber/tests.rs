use std::sync::atomic::AtomicUsize;

use bson::doc;
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CountAction {
    Up,
    Panic,
    Fail,
}

#[derive(Default, Clone)]
struct Count(Arc<AtomicUsize>);

impl Subscriber for Count {
    const NAME: &'static str = "Count";
    type Action = CountAction;

    async fn act(&self, action: CountAction) -> Result<(), BoxError> {
        match action {
            CountAction::Up => self.0.fetch_add(1, Ordering::Relaxed),
            CountAction::Panic => panic!("as asked for"),
            CountAction::Fail => return Err("as asked for".into()),
        };
        Ok(())
    }
}

#[derive(Default, Clone)]
struct All(Arc<AtomicUsize>);

impl Subscriber for All {
    const NAME: &'static str = EVERYTHING;
    type Action = Event;

    async fn act(&self, _: Event) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
fn without_a_store_all_have_acted_when_it_is_published() {
    pollster::block_on(async {
        let (first, second, all) = (Count::default(), Count::default(), All::default());
        let subscribers = Subscribers::new();
        let of_first = subscribers.subscribe(first.clone());
        let _of_second = subscribers.subscribe(second.clone());
        subscribers.subscribe(all.clone()).keep();
        let heard = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        for action in [
            CountAction::Up,
            CountAction::Panic,
            CountAction::Fail,
            CountAction::Up,
        ] {
            Count::publish(&subscribers, action).await.unwrap();
        }
        assert_eq!(
            (heard(&first.0), heard(&second.0), heard(&all.0)),
            (2, 2, 4)
        );
        of_first.unsubscribe();
        Count::publish_named(&subscribers, "up", doc! {})
            .await
            .unwrap();
        assert_eq!(
            (heard(&first.0), heard(&second.0), heard(&all.0)),
            (2, 3, 5)
        );
    });
}

#[test]
fn how_many_have_acted_is_told() {
    pollster::block_on(async {
        let subscribers = Subscribers::new();
        assert!(subscribers.is_empty());
        let _count = subscribers.subscribe(Count::default());
        let _all = subscribers.subscribe(All::default());
        for (name, action, acted) in [
            ("Count", "up", 2),
            ("Count", "panic", 1),
            ("Count", "fail", 1),
            ("Count", "explode", 1),
            ("Another", "up", 1),
        ] {
            let heard = subscribers.dispatch(&event(name, action, doc! {})).await;
            assert_eq!(heard, acted, "{name} {action}");
        }
    });
}

#[test]
fn what_cannot_be_heard_is_not_published() {
    pollster::block_on(async {
        let subscribers = Subscribers::new();
        let all = All::default();
        let _all = subscribers.subscribe(all.clone());
        let thing = event("Any", "thing", doc! {});
        let refused = All::publish(&subscribers, thing).await.unwrap_err();
        assert!(
            refused.to_string().contains("has no events of its own"),
            "{refused}"
        );
        let refused = All::publish_named(&subscribers, "thing", doc! {}).await;
        assert!(refused.is_err());
        let refused = Count::publish_named(&subscribers, "down", doc! {})
            .await
            .unwrap_err();
        let expected = "the subscriber `Count` refuses it: there is no action `down`: \
                        there are `up`, `panic`, `fail`";
        assert_eq!(refused.to_string(), expected);
        assert_eq!(all.0.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_subscription_ends_with_its_scope() {
    pollster::block_on(async {
        let subscribers = Subscribers::new();
        let count = Count::default();
        {
            let _subscription = subscribers.subscribe(count.clone());
            Count::publish(&subscribers, CountAction::Up).await.unwrap();
        }
        Count::publish(&subscribers, CountAction::Up).await.unwrap();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(subscribers.is_empty());
    });
}
