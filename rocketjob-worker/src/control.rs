//! What a server does when it is steered by events.

use std::{sync::Arc, time::Duration};

use rocketjob_core::{
    BoxError, Cancelled, ServerState, Settlement, Subscriber, Subscribers, Subscription,
    control::{SERVER, ServerAction, ServerCommand, WORKER, WorkerAction, WorkerCommand},
};

use crate::{
    crew::Crew,
    dump::Dump,
    ending::Ending,
    orders::Orders,
    place::Place,
    settler::Item,
    standing::{Mode, Post},
    worker::Performing,
};

/// How long dropping the future of a job may take that does not stop.
const DROP_GRACE: Duration = Duration::from_millis(100);

/// What steering takes.
#[derive(Debug, Clone)]
pub(crate) struct Controls {
    pub(crate) post: Arc<Post>,
    pub(crate) crew: Arc<Crew>,
    pub(crate) ending: Arc<Ending>,
    pub(crate) orders: Arc<Orders>,
    pub(crate) place: Place,
    /// How long code that was told to stop may take.
    pub(crate) cancel_grace: Duration,
}

impl Controls {
    /// Subscribes to the events that steer servers and workers.
    pub(crate) fn subscribe(&self, subscribers: &Subscribers) -> Vec<Subscription> {
        vec![
            subscribers.subscribe(ServerSubscriber(self.clone())),
            subscribers.subscribe(WorkerSubscriber(self.clone())),
        ]
    }

    fn pause(&self) {
        tracing::info!(server = self.post.now().name, "told to pause");
        if self.post.mode() == Mode::Working {
            self.post.set_mode(Mode::Paused);
        }
        self.orders.give(ServerState::Paused);
        self.crew.hand_back_all(self.crew.queue.drain());
    }

    /// A server that is fenced stays so: its next sign of life ends that.
    fn resume(&self) {
        tracing::info!(server = self.post.now().name, "told to go on");
        if self.post.mode() == Mode::Paused {
            self.post.set_mode(Mode::Working);
        }
        self.orders.give(ServerState::Running);
    }

    pub(crate) fn dump(&self) {
        Dump::of(&self.post, &self.crew).log();
    }

    fn stop_worker(&self, number: usize) -> Result<(), BoxError> {
        if self.crew.dismiss(number) {
            tracing::info!(worker = number, "told to end: another takes its place");
            return Ok(());
        }
        Err(format!("there is no worker {number}").into())
    }

    /// Ends the worker, and the job that it has in hand now.
    async fn kill_worker(self, number: usize, performing: Performing, wait: Duration) {
        tokio::time::sleep(wait).await;
        let id = performing.context.id();
        self.crew.tell(number, id, Cancelled::Shutdown);
        tokio::time::sleep(self.cancel_grace).await;
        // Where the code awaits something, it ends here.
        performing.given_up.cancel();
        tokio::time::sleep(DROP_GRACE).await;
        match self.crew.replace_stuck(number, id) {
            Ok(true) => {
                tracing::error!(%id, worker = number, "does not stop: its job is handed back and the worker replaced");
                if let Some(claim) = performing.context.document().claim() {
                    let job = performing.context.document();
                    let settling = Settlement::hand_back(job, claim, self.crew.store.now());
                    let context = performing.context;
                    self.crew.settle(Item { context, settling });
                }
            }
            Ok(false) => {}
            Err(error) => tracing::error!(error = error.chain(), "cannot replace a worker"),
        }
    }
}

/// Does what servers are asked for.
struct ServerSubscriber(Controls);

impl Subscriber for ServerSubscriber {
    const NAME: &'static str = SERVER;
    type Action = ServerCommand;

    async fn act(&self, command: ServerCommand) -> Result<(), BoxError> {
        let server = self.0.post.now();
        if !command.target.is(server.id, &server.name) {
            return Ok(());
        }
        match command.action {
            ServerAction::Stop => self.0.ending.told(),
            ServerAction::Pause => self.0.pause(),
            ServerAction::Resume => self.0.resume(),
            ServerAction::Kill { wait } => self.0.ending.kill(wait),
            ServerAction::Refresh => self.0.orders.refresh(),
            ServerAction::ThreadDump => self.0.dump(),
        }
        Ok(())
    }
}

/// Does what single workers are asked for.
struct WorkerSubscriber(Controls);

impl Subscriber for WorkerSubscriber {
    const NAME: &'static str = WORKER;
    type Action = WorkerCommand;

    async fn act(&self, command: WorkerCommand) -> Result<(), BoxError> {
        if command.server != self.0.post.id() {
            return Ok(());
        }
        let number = usize::try_from(command.worker)?;
        match command.action {
            WorkerAction::Stop => self.0.stop_worker(number)?,
            WorkerAction::Kill { wait } => {
                self.0.stop_worker(number)?;
                if let Some(performing) = self.0.crew.performs(number) {
                    let kill = self.0.clone().kill_worker(number, performing, wait);
                    // It ends by itself.
                    drop(self.0.place.spawn(kill));
                }
            }
            WorkerAction::ThreadDump => {
                let dump = Dump::of(&self.0.post, &self.0.crew);
                let worker = dump.worker(number);
                worker
                    .ok_or_else(|| format!("there is no worker {number}"))?
                    .log(&dump.server);
            }
        }
        Ok(())
    }
}
