//! Write commands with many statements.
//!
//! The driver's own methods send one statement each; these send as many as fit into a message, and
//! tell for the whole how many documents were met. They are repeated when the connection breaks or
//! the primary changes, and then say so: what is met no longer tells what was done.

use std::time::Duration;

use bson::{Document, RawArrayBuf, RawDocumentBuf, doc, raw::cstr};
use rocketjob_core::{Error, Result, whole_number};

use crate::{error, schema, store::MongoStore};

/// How often a command is sent again.
const REPEATS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(50);
/// A command is one document of at most 16 MiB; a statement alone may need all of it.
const BYTES: usize = 12 << 20;
const STATEMENTS: usize = 10_000;

/// What the statements do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verb {
    Update,
    Delete,
}

/// How durable a write is when it is acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Durability {
    /// It is in the memory of the primary. Enough for a claim: the settlement comes behind it in
    /// the same log, and if the claim is lost the settlement finds nothing to settle.
    Primary,
    /// It outlives every failover.
    Majority,
}

/// What a command did.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// How many documents met their statements.
    pub(crate) met: u64,
    /// The statements that failed.
    pub(crate) failures: Vec<WriteFailure>,
    /// The command was sent more than once.
    pub(crate) repeated: bool,
}

/// A statement that failed.
#[derive(Debug)]
pub(crate) struct WriteFailure {
    pub(crate) statement: usize,
    pub(crate) code: i32,
    pub(crate) message: String,
    /// The value that a unique index has already.
    pub(crate) key: Option<Document>,
}

impl WriteFailure {
    pub(crate) fn is_duplicate(&self) -> bool {
        self.code == error::DUPLICATE_KEY
    }

    pub(crate) fn to_error(&self) -> Error {
        error::refused(self.code, &self.message)
    }
}

/// An update of the documents that meet `query`. The ids that it names are looked up directly,
/// whatever else the planner would try.
pub(crate) fn update(query: Document, change: &RawDocumentBuf) -> Result<RawDocumentBuf> {
    let mut statement = RawDocumentBuf::new();
    statement.append(
        cstr!("q"),
        RawDocumentBuf::try_from(query).map_err(error::unusable)?,
    );
    statement.append(cstr!("u"), change);
    statement.append(cstr!("multi"), true);
    statement.append(cstr!("hint"), "_id_");
    Ok(statement)
}

/// A deletion of the documents that meet `query`.
pub(crate) fn delete(query: Document) -> Result<RawDocumentBuf> {
    RawDocumentBuf::try_from(doc! { "q": query, "limit": 0, "hint": "_id_" })
        .map_err(error::unusable)
}

impl MongoStore {
    /// Sends `statements` to the jobs, unordered: each is tried whatever becomes of the others.
    ///
    /// An error leaves it open which of them were made.
    pub(crate) async fn write(
        &self,
        verb: Verb,
        statements: &[RawDocumentBuf],
        durability: Durability,
    ) -> Result<Written> {
        let mut written = Written::default();
        let mut rest = statements;
        let mut first = 0;
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(fitting(rest));
            let (reply, repeated) = self.send(command(verb, chunk, durability)).await?;
            written.met += reply.met;
            written.repeated |= repeated;
            for mut failure in reply.failures {
                failure.statement += first;
                written.failures.push(failure);
            }
            first += chunk.len();
            rest = behind;
        }
        Ok(written)
    }

    /// Sends `command` until the server answered it, and says whether it was sent more than once.
    async fn send(&self, command: RawDocumentBuf) -> Result<(Reply, bool)> {
        let mut sent = 0;
        loop {
            let answer = self.database().run_raw_command(command.clone()).await;
            sent += 1;
            let problem = match answer {
                Ok(reply) => {
                    let reply = Reply::new(&reply);
                    match reply.interruption {
                        None => return reply.checked().map(|reply| (reply, sent > 1)),
                        Some((code, message)) => Error::Unavailable {
                            address: self.address_text().into(),
                            source: format!(
                                "the write was interrupted with code {code}: {message}"
                            )
                            .into(),
                        },
                    }
                }
                Err(error) if error::is_interrupted(&error) => self.error(error),
                Err(error) => return Err(self.error(error)),
            };
            if sent > REPEATS {
                return Err(problem);
            }
            tracing::debug!(error = %problem.chain(), "a write is sent again");
            tokio::time::sleep(PAUSE * sent).await;
        }
    }
}

/// How many of the first statements go into one command; at least one.
fn fitting(statements: &[RawDocumentBuf]) -> usize {
    let mut bytes = 0;
    let fitting = statements.iter().take(STATEMENTS).take_while(|statement| {
        bytes += statement.as_bytes().len();
        bytes <= BYTES
    });
    fitting.count().max(1)
}

fn command(verb: Verb, statements: &[RawDocumentBuf], durability: Durability) -> RawDocumentBuf {
    let mut command = RawDocumentBuf::new();
    let list = match verb {
        Verb::Update => {
            command.append(cstr!("update"), schema::JOBS);
            cstr!("updates")
        }
        Verb::Delete => {
            command.append(cstr!("delete"), schema::JOBS);
            cstr!("deletes")
        }
    };
    command.append(cstr!("ordered"), false);
    let mut concern = RawDocumentBuf::new();
    match durability {
        Durability::Primary => concern.append(cstr!("w"), 1),
        Durability::Majority => {
            concern.append(cstr!("w"), "majority");
            concern.append(cstr!("j"), true);
        }
    }
    command.append(cstr!("writeConcern"), concern);
    let mut array = RawArrayBuf::new();
    for statement in statements {
        array.push(statement);
    }
    command.append(list, array);
    command
}

/// The server's answer to one command.
struct Reply {
    met: u64,
    failures: Vec<WriteFailure>,
    /// The primary went away: the command is to be sent again.
    interruption: Option<(i32, String)>,
    /// The write was made, but not as durably as asked for, and will not be.
    concern: Option<(i32, String)>,
}

impl Reply {
    fn new(reply: &Document) -> Self {
        let coded = |problem: &Document| {
            let code = problem.get("code").and_then(whole_number).unwrap_or(0);
            let message = problem.get_str("errmsg").unwrap_or_default().to_owned();
            (i32::try_from(code).unwrap_or(0), message)
        };
        let failures: Vec<WriteFailure> = reply
            .get_array("writeErrors")
            .into_iter()
            .flatten()
            .filter_map(|problem| problem.as_document())
            .map(|problem| {
                let (code, message) = coded(problem);
                let index = problem.get("index").and_then(whole_number).unwrap_or(0);
                WriteFailure {
                    statement: usize::try_from(index).unwrap_or(0),
                    code,
                    message,
                    key: problem.get_document("keyValue").ok().cloned(),
                }
            })
            .collect();
        let concern = reply.get_document("writeConcernError").ok().map(coded);
        let interrupted = failures
            .iter()
            .map(|failure| (failure.code, &failure.message))
            .chain(concern.iter().map(|(code, message)| (*code, message)))
            .find(|(code, _)| error::is_interruption(*code));
        let interruption = interrupted.map(|(code, message)| (code, message.clone()));
        let met = reply.get("n").and_then(whole_number).unwrap_or(0);
        Self {
            met: u64::try_from(met).unwrap_or(0),
            failures,
            interruption,
            concern,
        }
    }

    fn checked(self) -> Result<Self> {
        match &self.concern {
            None => Ok(self),
            Some((code, message)) => Err(error::refused(*code, message)),
        }
    }
}
