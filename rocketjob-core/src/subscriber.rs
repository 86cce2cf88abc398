//! Subscribers: code that is called for events.

use std::{
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bson::{Document, oid::ObjectId};
use futures_util::{FutureExt, future::BoxFuture, future::join_all};
use parking_lot::Mutex;

use crate::{
    action::{Action, ActionError},
    clock::{Clock, SystemClock},
    error::{BoxError, Error, Result, chain},
    event::Event,
    perform::panic_message,
    store::AsStore,
};

/// The name of a subscriber that hears the events of all.
pub const EVERYTHING: &str = "*";

/// Code that is called when an event of its name is published, by whichever process.
///
/// An unknown action is ignored with a warning. Parameters that do not fit, an error and a panic are
/// logged, and the next event is heard as if nothing had been.
///
/// ```
/// use rocketjob_core::{BoxError, Subscriber, Subscribers};
/// use serde::{Deserialize, Serialize};
/// # use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(rename_all = "snake_case")]
/// enum CacheAction {
///     Clear,
///     Resize { megabytes: u32 },
/// }
///
/// struct Cache(Arc<AtomicU32>);
///
/// impl Subscriber for Cache {
///     const NAME: &'static str = "Cache";
///     type Action = CacheAction;
///
///     async fn act(&self, action: CacheAction) -> Result<(), BoxError> {
///         match action {
///             CacheAction::Clear => {}
///             CacheAction::Resize { megabytes } => self.0.store(megabytes, Ordering::Relaxed),
///         }
///         Ok(())
///     }
/// }
///
/// // In a test, without any store: whoever subscribed has acted when `publish` returns.
/// # pollster::block_on(async {
/// let size = Arc::new(AtomicU32::new(0));
/// let subscribers = Subscribers::new();
/// let subscription = subscribers.subscribe(Cache(size.clone()));
/// Cache::publish(&subscribers, CacheAction::Resize { megabytes: 64 }).await.unwrap();
/// assert_eq!(size.load(Ordering::Relaxed), 64);
///
/// subscription.unsubscribe();
/// Cache::publish(&subscribers, CacheAction::Clear).await.unwrap();
/// # });
/// ```
pub trait Subscriber: Send + Sync + 'static {
    /// The name of the events that it hears; [`EVERYTHING`], which is `*`, hears all of them, and
    /// may not publish.
    const NAME: &'static str;

    /// What it can be asked for; [`Event`] for one that hears everything.
    type Action: Action;

    /// Does what was asked for.
    fn act(&self, action: Self::Action) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Asks all subscribers of this name, in all processes, for `action`.
    ///
    /// # Errors
    /// [`Error::Configuration`] when this is [`EVERYTHING`], and errors of the store.
    fn publish(to: &impl Publish, action: Self::Action) -> impl Future<Output = Result<()>> + Send {
        let parts = publishable::<Self>().and_then(|()| action.to_parts());
        async move {
            let (action, parameters) = parts?;
            to.publish_event(Self::NAME, &action, parameters).await
        }
    }

    /// As [`publish`](Self::publish), for an action that is known by its name only.
    ///
    /// # Errors
    /// [`Error::Configuration`] also when there is no such action, or its parameters do not fit.
    fn publish_named(
        to: &impl Publish,
        action: &str,
        parameters: Document,
    ) -> impl Future<Output = Result<()>> + Send {
        let event = event(Self::NAME, action, parameters);
        let checked = publishable::<Self>().and_then(|()| {
            let known = Self::Action::from_event(&event);
            known.map(drop).map_err(|error| {
                Error::configuration(format!(
                    "the subscriber `{}` refuses it: {error}",
                    Self::NAME
                ))
            })
        });
        async move {
            checked?;
            let action = event.action.unwrap_or_default();
            to.publish_event(Self::NAME, &action, event.parameters)
                .await
        }
    }
}

fn publishable<S: Subscriber + ?Sized>() -> Result<()> {
    if S::NAME == EVERYTHING {
        return Err(Error::configuration(
            "a subscriber that hears everything has no events of its own to publish",
        ));
    }
    Ok(())
}

/// Where events can be published: a store, or in a test the [`Subscribers`] themselves.
#[async_trait]
pub trait Publish: Sync {
    /// Asks all subscribers of `name` for `action`.
    async fn publish_event(&self, name: &str, action: &str, parameters: Document) -> Result<()>;
}

#[async_trait]
impl<S: AsStore + Sync> Publish for S {
    async fn publish_event(&self, name: &str, action: &str, parameters: Document) -> Result<()> {
        let store = self.as_store();
        let event = Event::new(&store, name, action, parameters);
        store.publish(&event).await
    }
}

/// Calls those that subscribed; everyone who subscribed has acted when it returns.
#[async_trait]
impl Publish for Subscribers {
    async fn publish_event(&self, name: &str, action: &str, parameters: Document) -> Result<()> {
        self.dispatch(&event(name, action, parameters)).await;
        Ok(())
    }
}

/// An event that no store ever sees.
fn event(name: &str, action: &str, parameters: Document) -> Event {
    Event {
        id: ObjectId::new(),
        name: name.into(),
        action: Some(action.into()),
        parameters,
        created_at: SystemClock.now(),
    }
}

/// Those that subscribed in this process. Cloning it gives another handle on the same.
#[derive(Clone, Default)]
pub struct Subscribers(Arc<List>);

#[derive(Default)]
struct List {
    next: AtomicU64,
    /// In the order in which they subscribed.
    entries: Mutex<Vec<(u64, Arc<dyn Listening>)>>,
}

impl fmt::Debug for Subscribers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.0.entries.lock();
        let names = entries.iter().map(|(_, subscriber)| subscriber.name());
        f.debug_list().entries(names).finish()
    }
}

impl Subscribers {
    /// Nobody so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `subscriber` for events from now on, until the subscription ends.
    pub fn subscribe(&self, subscriber: impl Subscriber) -> Subscription {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.entries.lock().push((id, Arc::new(subscriber)));
        Subscription {
            list: Arc::clone(&self.0),
            id,
        }
    }

    /// Whether nobody subscribed.
    pub fn is_empty(&self) -> bool {
        self.0.entries.lock().is_empty()
    }

    /// Calls those that hear `event`, all at once, and returns when all have acted, with how many
    /// did so without any problem.
    pub async fn dispatch(&self, event: &Event) -> usize {
        let listening: Vec<_> = {
            let entries = self.0.entries.lock();
            let subscribers = entries.iter().map(|(_, subscriber)| subscriber);
            let listening = subscribers.filter(|subscriber| {
                subscriber.name() == EVERYTHING || subscriber.name() == event.name
            });
            listening.cloned().collect()
        };
        let heard = join_all(listening.iter().map(|subscriber| subscriber.hear(event))).await;
        heard.into_iter().filter(|acted| *acted).count()
    }
}

/// Ends a subscription, at the latest when it is dropped.
#[must_use = "the subscription ends when this is dropped: keep it, or call `keep`"]
pub struct Subscription {
    list: Arc<List>,
    id: u64,
}

impl Subscription {
    /// From now on the subscriber hears nothing more; what it has begun it ends.
    pub fn unsubscribe(self) {
        drop(self);
    }

    /// The subscriber stays for as long as the process.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subscription").field(&self.id).finish()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.list.entries.lock().retain(|(id, _)| *id != self.id);
    }
}

/// A subscriber of any type.
trait Listening: Send + Sync {
    fn name(&self) -> &'static str;

    /// Says whether it acted without any problem.
    fn hear<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, bool>;
}

impl<S: Subscriber> Listening for S {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn hear<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, bool> {
        async move {
            let problem = match S::Action::from_event(event) {
                Ok(action) => {
                    // Whatever it leaves behind is its own: the listener shares nothing with it.
                    match AssertUnwindSafe(async { self.act(action).await })
                        .catch_unwind()
                        .await
                    {
                        Ok(Ok(())) => return true,
                        Ok(Err(error)) => chain(error.as_ref()),
                        Err(panic) => format!("panicked: {}", panic_message(panic.as_ref())),
                    }
                }
                Err(ActionError::Unknown(text)) => format!("{text}; ignored"),
                Err(ActionError::Bad(text)) => text,
            };
            tracing::warn!(
                subscriber = S::NAME,
                event = %event.id,
                action = event.action,
                problem,
                "a subscriber could not do what an event asks for"
            );
            false
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
