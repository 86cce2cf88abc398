//! Hearing events: each is passed once to those who subscribed, whatever becomes of the store.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bson::oid::ObjectId;
use rocketjob_core::{AsStore, Event, EventCursor, Result, Store, Subscribers, Subscription};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{deadline::Deadline, health::Pulse, place::Place};

/// How often events are looked for while the store tells of them, and while it does not.
pub(crate) const SELDOM: Duration = Duration::from_secs(30);
const OFTEN: Duration = Duration::from_millis(250);
/// The pause between two looks: what comes together in it is one look.
const GAP: Duration = Duration::from_millis(5);
/// How long to wait after an error, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// How many events are read at a time.
const PAGE: usize = 100;
/// So many of the last events are known again when they come twice.
const KNOWN: usize = 10_000;
/// How many events wait for subscribers that are slow, at most; those that come then are lost to
/// them.
const WAITING: usize = 10_000;
/// How long one call of the store may take for a listener without a server.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// What listening takes.
#[derive(Debug)]
pub(crate) struct Listen {
    pub(crate) store: Store,
    pub(crate) cursor: EventCursor,
    /// Never wait for anything: they hear each event before the next is read.
    pub(crate) own: Subscribers,
    /// Subscriptions of `own`.
    pub(crate) subscriptions: Vec<Subscription>,
    /// The program's own, which may take their time.
    pub(crate) others: Subscribers,
    pub(crate) place: Place,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) stop: CancellationToken,
}

impl Listen {
    /// Listens until it is stopped.
    pub(crate) async fn run(self) {
        let (waiting, mut next) = mpsc::channel::<Event>(WAITING);
        let others = self.others.clone();
        // It ends with the sender, when what has been heard is done.
        drop(self.place.spawn(async move {
            while let Some(event) = next.recv().await {
                others.dispatch(&event).await;
            }
        }));
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.listen(&waiting) => {}
        }
        self.subscriptions
            .into_iter()
            .for_each(Subscription::unsubscribe);
    }

    async fn listen(&self, waiting: &mpsc::Sender<Event>) {
        let mut cursor = self.cursor.clone();
        let mut known = Recent::default();
        let mut back_off = BACK_OFF.0;
        let mut away: Option<Instant> = None;
        loop {
            let bells = self.store.event_bells();
            match self.read(&mut cursor, &mut known, waiting).await {
                Ok(()) => {
                    self.pulse.completed();
                    if let Some(since) = away.take() {
                        tracing::info!(away = ?since.elapsed(), "events are heard again");
                    }
                    back_off = BACK_OFF.0;
                    sleep(GAP).await;
                    self.wait(bells).await;
                }
                Err(error) => {
                    if away.is_none() {
                        away = Some(Instant::now());
                        tracing::warn!(
                            error = error.chain(),
                            "cannot hear events now: trying again"
                        );
                    }
                    sleep(back_off).await;
                    back_off = (back_off * 2).min(BACK_OFF.1);
                }
            }
        }
    }

    /// Passes on all events behind `cursor`.
    async fn read(
        &self,
        cursor: &mut EventCursor,
        known: &mut Recent,
        waiting: &mpsc::Sender<Event>,
    ) -> Result<()> {
        loop {
            let (events, behind) = self.store.events(cursor, PAGE).await?;
            *cursor = behind;
            let is_last = events.len() < PAGE;
            for event in events.into_iter().filter(|event| known.is_new(event.id)) {
                tracing::debug!(id = %event.id, name = event.name, action = event.action, "heard an event");
                self.own.dispatch(&event).await;
                if !self.others.is_empty() && waiting.try_send(event).is_err() {
                    tracing::error!("subscribers are too slow: an event is lost to them");
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Returns when the bell rings, or when it is time to look all the same.
    async fn wait(&self, bells: u64) {
        let at_most = if self.store.hears_events() {
            SELDOM
        } else {
            OFTEN
        };
        tokio::select! {
            biased;
            _ = self.store.event_published(bells) => {}
            () = sleep(at_most) => {}
        }
    }
}

/// The last events.
#[derive(Default)]
struct Recent {
    order: VecDeque<ObjectId>,
    ids: HashSet<ObjectId>,
}

impl Recent {
    fn is_new(&mut self, id: ObjectId) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

/// Hears the events of a store in a program without a server; a [`Server`](crate::Server) does so
/// itself. It ends when it is dropped.
///
/// ```
/// use rocketjob_core::{BoxError, MemoryStore, Subscriber, Subscribers};
/// use rocketjob_worker::Listener;
/// # use std::sync::Mutex;
///
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # enum PageAction { Reload }
/// # struct Page(Mutex<Option<tokio::sync::oneshot::Sender<()>>>);
/// # impl Subscriber for Page {
/// #     const NAME: &'static str = "Page";
/// #     type Action = PageAction;
/// #     async fn act(&self, _: PageAction) -> Result<(), BoxError> {
/// #         let _ = self.0.lock().unwrap().take().unwrap().send(());
/// #         Ok(())
/// #     }
/// # }
/// # let runtime = tokio::runtime::Runtime::new().unwrap();
/// # runtime.block_on(async {
/// # let store = MemoryStore::new();
/// # let (told, reloaded) = tokio::sync::oneshot::channel();
/// # let page = Page(Mutex::new(Some(told)));
/// let subscribers = Subscribers::new();
/// let _subscription = subscribers.subscribe(page);
/// let listener = Listener::start(&store, &subscribers).await.unwrap();
///
/// // From any process:
/// Page::publish(&store, PageAction::Reload).await.unwrap();
/// # reloaded.await.unwrap();
/// listener.stop().await;
/// # });
/// ```
#[derive(Debug)]
pub struct Listener {
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl Listener {
    /// Calls `subscribers` for what is published in `store` from now on, on the runtime of the
    /// caller. They must not block its threads.
    ///
    /// # Errors
    /// Errors of the store. Once it has started, the listener waits for a store that is away.
    pub async fn start(store: &impl AsStore, subscribers: &Subscribers) -> Result<Self> {
        let store = Store::new(Deadline::new(store.as_store(), CALL_TIMEOUT));
        let stop = CancellationToken::new();
        let listen = Listen {
            cursor: store.event_end().await?,
            store,
            own: Subscribers::new(),
            subscriptions: Vec::new(),
            others: subscribers.clone(),
            place: Place::current(),
            pulse: Pulse::new("listen", SELDOM * 2 + CALL_TIMEOUT),
            stop: stop.clone(),
        };
        Ok(Self {
            task: tokio::spawn(listen.run()),
            stop: stop.drop_guard(),
        })
    }

    /// Hears nothing more; what was heard before is still done.
    pub async fn stop(self) {
        drop(self.stop);
        let _ = self.task.await;
    }
}
