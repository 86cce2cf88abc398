//! The single things that are looked at.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use crate::{
    claim::ClaimToken,
    error::Result,
    inspection::{Finding, Severity, Subject},
    job_set::{ALL_PRIORITIES, COUNTED, JobSet},
    limit::Limit,
    name,
    server::{ServerDocument, ServerState},
    storage::Storage,
    why::{Ahead, Roughly},
};

/// How many kinds, reasons to hold jobs, and servers without documents are looked at.
const MOST: usize = 1_000;
/// How many undecodable documents are looked for, and how many of them are named.
const UNDECODABLE: (usize, usize) = (100, 10);
/// From when on a difference of clocks is worth a word, and from when on it does harm.
const OFFSETS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// How long after its time a scheduled job is ready at the latest.
const OVERDUE: Duration = Duration::from_secs(10);

/// Whether this machine's clock is that of the store.
pub(super) fn clock(offset: SignedDuration) -> Option<Finding> {
    let by = offset.unsigned_abs();
    let severity = match by {
        by if by >= OFFSETS.1 => Severity::Error,
        by if by >= OFFSETS.0 => Severity::Warning,
        _ => return None,
    };
    let direction = if offset.is_negative() {
        "ahead of"
    } else {
        "behind"
    };
    Some(Finding::new(
        severity,
        Subject::Clock,
        format!(
            "this machine's clock is {} {direction} the store's, by which all times of jobs go",
            Roughly(by)
        ),
        "let both follow a time server (NTP), and see which of them is wrong",
    ))
}

/// What is known while the store is examined.
pub(super) struct Examination<'e> {
    store: &'e dyn Storage,
    servers: Vec<ServerDocument>,
    now: Timestamp,
}

impl<'e> Examination<'e> {
    pub(super) async fn start(store: &'e dyn Storage) -> Result<Self> {
        Ok(Self {
            store,
            servers: store.servers().await?,
            now: store.now(),
        })
    }

    pub(super) fn live(&self) -> impl Iterator<Item = &ServerDocument> {
        let now = self.now;
        self.servers
            .iter()
            .filter(move |server| !server.is_lapsed(now))
    }

    pub(super) async fn run(&self) -> Vec<Finding> {
        let mut findings = self.servers();
        findings.extend(looked_at(Subject::Kind, self.kinds().await));
        findings.extend(looked_at(Subject::Document, self.documents().await));
        findings.extend(looked_at(Subject::Hold, self.holds().await));
        findings.extend(looked_at(Subject::Hold, self.overdue().await));
        findings.extend(looked_at(Subject::Claim, self.claims().await));
        findings
    }

    fn servers(&self) -> Vec<Finding> {
        let ours = env!("CARGO_PKG_VERSION");
        let newest = self.live().map(|server| server.version.as_str());
        let newest = newest.chain([ours]).max_by_key(|version| numbers(version));
        let mut findings = Vec::new();
        for server in &self.servers {
            let ServerDocument { name, version, .. } = server;
            if server.is_lapsed(self.now) {
                findings.push(Finding::new(
                    Severity::Warning,
                    Subject::Server,
                    format!(
                        "the server {name} has given no sign of life for {}",
                        Roughly(server.silent_for(self.now))
                    ),
                    "see whether its process is dead, stopped or cut off: while another server is alive, that one ends its claims",
                ));
                continue;
            }
            let newest = newest.unwrap_or(ours);
            if !server.is_original() && numbers(version) < numbers(newest) {
                findings.push(Finding::new(
                    Severity::Warning,
                    Subject::Server,
                    format!("the server {name} runs version {version}, and others {newest}"),
                    "deploy it anew",
                ));
            }
            if server.state == ServerState::Paused {
                findings.push(Finding::new(
                    Severity::Note,
                    Subject::Server,
                    format!("the server {name} is paused, and takes no work"),
                    "resume it if that is over",
                ));
            }
        }
        findings
    }

    /// Kinds of which jobs are ready, and that nobody performs.
    async fn kinds(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let mut after = String::new();
        for _ in 0..MOST {
            let Some(kind) = self.store.next_kind(&after).await? else {
                break;
            };
            if !self.is_performed(&kind) {
                let ready = JobSet::ready([kind.as_str()], ALL_PRIORITIES);
                let count = self.count(&ready).await?;
                let remedy = if self.live().next().is_none() {
                    "start a server: none is alive"
                } else {
                    "deploy a program that has the kind, add its name to the aliases of the kind that took its place, or delete its jobs"
                };
                let what =
                    format!("{count} jobs of the kind {kind} wait, which no live server performs");
                findings.push(Finding::new(Severity::Error, Subject::Kind, what, remedy));
            }
            after = kind;
        }
        Ok(findings)
    }

    async fn documents(&self) -> Result<Vec<Finding>> {
        let (most, named) = UNDECODABLE;
        let found = self.store.undecodable(most).await?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let or_more = if found.len() == most { " or more" } else { "" };
        let each = found.iter().take(named);
        let each: Vec<_> = each
            .map(|aside| format!("{} ({})", aside.id, aside.reason))
            .collect();
        let and_more = if found.len() > named { ", …" } else { "" };
        Ok(vec![Finding::new(
            Severity::Error,
            Subject::Document,
            format!(
                "{}{or_more} documents cannot be read as jobs: {}{and_more}",
                found.len(),
                each.join(", ")
            ),
            "correct them or the struct, and retry them; or delete them",
        )])
    }

    /// Jobs that are held, and that nobody releases.
    async fn holds(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let mut after = String::new();
        for _ in 0..MOST {
            let Some(job) = self.store.next_held(&after).await? else {
                break;
            };
            let Some(hold) = job.hold().map(ToOwned::to_owned) else {
                break;
            };
            let stuck = match hold.as_str() {
                name::HOLD_SCHEDULED => None,
                name::HOLD_SUSPECT if self.live().next().is_some() => None,
                name::HOLD_SUSPECT => Some((Severity::Warning, "start a server: none is alive")),
                limit if limit.starts_with(&Limit::hold("")) => (!self.is_performed(job.kind()))
                    .then_some((
                        Severity::Warning,
                        "start a server that performs their kind: it gives them the places that are free",
                    )),
                _ => Some((
                    Severity::Warning,
                    "no server knows this reason: run them now if they should go on",
                )),
            };
            if let Some((severity, remedy)) = stuck {
                let count = self.count(&JobSet::Held(hold.clone())).await?;
                let what = format!("{count} jobs are held for `{hold}`, and nobody releases them");
                findings.push(Finding::new(severity, Subject::Hold, what, remedy));
            }
            after = hold;
        }
        Ok(findings)
    }

    async fn overdue(&self) -> Result<Vec<Finding>> {
        let Some(due) = self.store.next_due().await? else {
            return Ok(Vec::new());
        };
        let late = Duration::try_from(self.now.duration_since(due)).unwrap_or_default();
        let overdue = (late > OVERDUE).then(|| {
            Finding::new(
                Severity::Error,
                Subject::Hold,
                format!(
                    "a scheduled job has been due for {}, and nobody makes it ready",
                    Roughly(late)
                ),
                "start a server, or see in the log of those that are alive what keeps them from it",
            )
        });
        Ok(overdue.into_iter().collect())
    }

    /// Running jobs whose servers are gone.
    async fn claims(&self) -> Result<Vec<Finding>> {
        let mut strays: BTreeMap<String, usize> = BTreeMap::new();
        let mut after = String::new();
        for _ in 0..MOST {
            let Some(job) = self.store.next_claim(&after).await? else {
                break;
            };
            let Some(token) = job.token() else { break };
            match ClaimToken::server_of(token) {
                Some(holder) => {
                    if !self.servers.iter().any(|server| server.id == holder) {
                        *strays.entry(job.kind().to_owned()).or_default() += 1;
                    }
                    after = ClaimToken::end(holder);
                }
                None => token.clone_into(&mut after),
            }
        }
        let finding = |(kind, servers): (String, usize)| {
            let (severity, remedy) = if self.is_performed(&kind) {
                let remedy = "nothing, if it has just happened: a server that performs the kind ends them within some ten seconds";
                (Severity::Note, remedy)
            } else {
                let remedy = "start a server that performs the kind: it ends them";
                (Severity::Error, remedy)
            };
            let what =
                format!("jobs such as {kind} are running for {servers} servers that are gone");
            Finding::new(severity, Subject::Claim, what, remedy)
        };
        Ok(strays.into_iter().map(finding).collect())
    }

    fn is_performed(&self, kind: &str) -> bool {
        self.live().any(|server| server.performs(kind))
    }

    async fn count(&self, set: &JobSet) -> Result<Ahead> {
        let count = self.store.count_set(set, COUNTED).await?;
        Ok(Ahead {
            count,
            or_more: count == COUNTED,
        })
    }
}

/// What was found about `subject`, or that it could not be looked at: without one of its indexes a
/// store refuses the query that needs it.
fn looked_at(subject: Subject, found: Result<Vec<Finding>>) -> Vec<Finding> {
    found.unwrap_or_else(|error| {
        vec![Finding::new(
            Severity::Error,
            subject,
            format!("this could not be looked at: {}", error.chain()),
            "mend what else was found about the store first, and ask again",
        )]
    })
}

/// A version as what it is compared by; a part that is no number counts as 0.
fn numbers(version: &str) -> Vec<u64> {
    let release = version.split(['-', '+']).next().unwrap_or(version);
    let parts = release.split('.');
    parts.map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("0.9.3") < numbers("0.10.0"));
        assert!(numbers("1.0.0") < numbers("1.0.1-rc.1"));
        assert_eq!(numbers("1.2.3+build"), numbers("1.2.3"));
    }

    #[test]
    fn a_clock_that_is_off_is_told_with_the_direction() {
        assert_eq!(clock(SignedDuration::from_millis(-1_900)), None);
        let behind = clock(SignedDuration::from_secs(60)).unwrap();
        assert_eq!(behind.severity, Severity::Error);
        assert!(behind.what.contains("1 min 0 s behind"), "{behind}");
        let ahead = clock(SignedDuration::from_secs(-5)).unwrap();
        assert_eq!(ahead.severity, Severity::Warning);
        assert!(ahead.what.contains("5.0 s ahead of"), "{ahead}");
    }
}
