//! The one writer of the process: small writes of many callers share a transaction and its sync.
//!
//! Callers put their operation into a queue. Whoever finds nobody at work starts to work through
//! the queue, on a thread that may block; what arrives during a transaction makes up the next one.

use std::{collections::VecDeque, fmt, mem, sync::Arc};

use parking_lot::Mutex;
use rocketjob_core::{Bell, News, Result};
use rusqlite::Connection;
use tokio::{sync::oneshot, task::spawn_blocking};

use crate::{
    error::{Failure, broken_off},
    session::Session,
};

/// Writes to the file, one group of operations after the other.
pub(crate) struct Writer {
    connection: Mutex<Connection>,
    queue: Mutex<Queue>,
    bell: Arc<Bell>,
}

#[derive(Default)]
struct Queue {
    operations: VecDeque<Box<dyn Operation>>,
    /// Whether somebody works through the queue, or is about to.
    is_served: bool,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// One that rings `bell` for what it writes.
    pub(crate) fn new(connection: Connection, bell: Arc<Bell>) -> Self {
        Self {
            connection: Mutex::new(connection),
            queue: Mutex::default(),
            bell,
        }
    }

    /// Runs `act` in a transaction, maybe together with others, and returns when it is durable.
    ///
    /// An error of `act` undoes what it wrote and nothing else. `act` may not run at all when the
    /// caller has gone before its turn.
    pub(crate) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        address: &str,
        act: impl FnOnce(&Session<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let operation = Box::new(Pending {
            act: Some(act),
            result: None,
            reply,
        });
        if self.enqueue(operation) {
            let service = Service {
                writer: Arc::clone(self),
                group: Vec::new(),
                is_over: false,
            };
            spawn_blocking(move || service.run());
        }
        match answer.await {
            Ok(result) => result.map_err(|failure| failure.at(address)),
            Err(_) => Err(broken_off(address, "the write was broken off")),
        }
    }

    /// Adds an operation, and says whether the caller must see to it that the queue is served.
    fn enqueue(&self, operation: Box<dyn Operation>) -> bool {
        let mut queue = self.queue.lock();
        queue.operations.push_back(operation);
        !mem::replace(&mut queue.is_served, true)
    }

    fn next_group(&self) -> Option<Vec<Box<dyn Operation>>> {
        let mut queue = self.queue.lock();
        if queue.operations.is_empty() {
            queue.is_served = false;
            return None;
        }
        Some(mem::take(&mut queue.operations).into())
    }

    fn run_group(&self, group: &mut Vec<Box<dyn Operation>>) {
        group.retain(|operation| operation.is_wanted());
        if group.is_empty() {
            return;
        }
        let written = self.transact(group);
        for operation in group.drain(..) {
            operation.answer(written.as_ref().err());
        }
        if let Ok(news) = written {
            self.bell.ring(news);
        }
    }

    /// Runs a group in one transaction; the error is that of the transaction as a whole. Says
    /// what there is to tell.
    fn transact(&self, group: &mut [Box<dyn Operation>]) -> Result<News, Failure> {
        let connection = self.connection.lock();
        let run = |sql: &str| {
            connection
                .prepare_cached(sql)
                .and_then(|mut statement| statement.execute([]))
        };
        if !connection.is_autocommit() {
            // An operation before this one panicked.
            run("ROLLBACK")?;
        }
        run("BEGIN IMMEDIATE")?;
        let is_alone = group.len() == 1;
        let mut news = News::default();
        for operation in group {
            if !is_alone {
                run("SAVEPOINT operation")?;
            }
            let session = Session::new(&connection);
            let failure = operation.run(&session);
            if connection.is_autocommit() {
                // Disk full, for example: what the operations before this one wrote is gone, too.
                return Err(failure
                    .unwrap_or_else(|| Failure::Unexpected("the transaction ended early".into())));
            }
            match failure {
                None => news = news.and(session.news()),
                Some(_) if is_alone => {
                    run("ROLLBACK")?;
                    return Ok(News::default());
                }
                Some(_) => {
                    run("ROLLBACK TO operation")?;
                }
            }
            if !is_alone {
                run("RELEASE operation")?;
            }
        }
        if let Err(error) = run("COMMIT") {
            if !connection.is_autocommit() {
                run("ROLLBACK")?;
            }
            return Err(error.into());
        }
        Ok(news)
    }
}

/// The duty to work through the queue. When it is given up (a panic, the end of the runtime), those
/// who wait are told so.
struct Service {
    writer: Arc<Writer>,
    /// What is being written: let go after the duty, so that who is told finds the queue free.
    group: Vec<Box<dyn Operation>>,
    is_over: bool,
}

impl Service {
    fn run(mut self) {
        while let Some(group) = self.writer.next_group() {
            self.group = group;
            self.writer.run_group(&mut self.group);
        }
        // The duty ended together with the queue: somebody else may have it by now.
        self.is_over = true;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if !self.is_over {
            let mut queue = self.writer.queue.lock();
            queue.is_served = false;
            queue.operations.clear();
        }
    }
}

/// What is written for one caller.
trait Operation: Send {
    /// Whether the caller still waits.
    fn is_wanted(&self) -> bool;
    /// Does it, and says why not. The result is kept until the transaction is over.
    fn run(&mut self, session: &Session<'_>) -> Option<Failure>;
    /// Tells the caller the result, or why the whole transaction failed.
    fn answer(self: Box<Self>, failure: Option<&Failure>);
}

struct Pending<T, F> {
    act: Option<F>,
    result: Option<Result<T, Failure>>,
    reply: oneshot::Sender<Result<T, Failure>>,
}

impl<T, F> Operation for Pending<T, F>
where
    T: Send,
    F: FnOnce(&Session<'_>) -> Result<T, Failure> + Send,
{
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn run(&mut self, session: &Session<'_>) -> Option<Failure> {
        let result = self.act.take()?(session);
        let failure = result.as_ref().err().cloned();
        self.result = Some(result);
        failure
    }

    fn answer(self: Box<Self>, failure: Option<&Failure>) {
        let result = match failure {
            Some(failure) => Some(Err(failure.clone())),
            None => self.result,
        };
        if let Some(result) = result {
            // Whoever has gone meanwhile finds out from the store.
            let _ = self.reply.send(result);
        }
    }
}

#[cfg(test)]
mod tests;
