//! Explanations as sentences, each with what to do.

use std::{
    fmt::{self, Display, Formatter},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Explanation,
    reason::{Ahead, Busy, Passed, Passing, Reason, ServerStanding, Standing},
};

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (&self.reason, &self.kind) {
            (Reason::NoSuchJob, _) => write!(f, "there is no job {}: ", self.id)?,
            (_, Some(kind)) => write!(f, "{kind} {} ", self.id)?,
            (_, None) => write!(f, "job {} ", self.id)?,
        }
        self.reason.fmt(f)
    }
}

impl Display for Reason {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchJob => f.write_str(
                "it was never created here, was deleted, or has completed (kinds without `keep_completed` go then)",
            ),
            Self::Undecodable { problem } => write!(
                f,
                "cannot be read: {problem}; correct the document, or delete it"
            ),
            Self::Running {
                worker_name,
                since,
                server,
            } => running(f, worker_name.as_deref(), *since, server.as_ref()),
            Self::Completed { at } => write!(f, "has completed{}", At(*at)),
            Self::Failed {
                at,
                failures,
                class_name,
                message,
            } => {
                write!(f, "has failed{}", At(*at))?;
                if *failures > 1 {
                    write!(f, " after {failures} attempts that failed")?;
                }
                if let Some(class_name) = class_name {
                    write!(f, " with {class_name}")?;
                }
                if let Some(message) = message {
                    write!(f, ": {message}")?;
                }
                f.write_str("; retry it once the cause is mended")
            }
            Self::Aborted { at } => write!(f, "was aborted{}; create it anew if it is needed", At(*at)),
            Self::Paused { since } => write!(f, "is paused{}; resume it to go on", Since(*since)),
            Self::Expired { at } => write!(
                f,
                "has expired at {at}: the server that takes it discards it; create it anew if it is needed"
            ),
            Self::Scheduled { run_at, remaining } => write!(
                f,
                "is scheduled for {run_at}, in {}; run it now to start it before",
                Roughly(*remaining)
            ),
            Self::HeldForLimit { limit, holders } => held_for_limit(f, limit, holders),
            Self::HeldForTime { limit, next } => write!(
                f,
                "waits for the limit `{limit}`, which lets no more jobs start now: those that wait for it are looked at next at {next}; nothing needs to be done"
            ),
            Self::HeldForVersion { version, servers } if servers.is_empty() => write!(
                f,
                "was stored by version {version} of its kind, which no server that is alive knows: deploy the program that created it"
            ),
            Self::HeldForVersion { version, servers } => write!(
                f,
                "was stored by version {version} of its kind, and a server with an earlier one has put it aside: {} will take it within some twenty seconds; nothing needs to be done",
                Servers(servers)
            ),
            Self::HeldAsSuspect {
                lost_claims,
                waiting,
            } => write!(
                f,
                "is held since {lost_claims} {} died with it: servers perform such jobs one at a time, and {waiting} of them wait; nothing needs to be done, unless it should not be tried again: then abort it",
                plural(*lost_claims, "server", "servers")
            ),
            Self::Held { hold } => write!(
                f,
                "is held for `{hold}`, which no server ends; run it now if it should go on"
            ),
            other => other.of_servers(f),
        }
    }
}

impl Reason {
    fn of_servers(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoServer { lapsed } if lapsed.is_empty() => {
                f.write_str("waits for a server: there is none; start one")
            }
            Self::NoServer { lapsed } => write!(
                f,
                "waits for a server: none is alive ({}); start one",
                Servers(lapsed)
            ),
            Self::UnknownKind { servers, originals } => {
                write!(
                    f,
                    "waits for a server that performs its kind: none of these does: {}",
                    Servers(servers)
                )?;
                if *originals > 0 {
                    write!(
                        f,
                        " (of {originals} of the original it is not known what they perform)"
                    )?;
                }
                f.write_str("; deploy a program that has the kind, or add its name to the aliases of the kind that took its place")
            }
            Self::FilteredOut { servers } => {
                f.write_str("is left out by the filter of each server that performs its kind: ")?;
                list(f, servers, |Passed { name, filter }, f| {
                    write!(f, "{name} takes only `{filter}`")
                })?;
                f.write_str("; start one without, or with another filter")
            }
            Self::ServersAway { servers } => write!(
                f,
                "waits for servers that do not take new work now: {}; resume what is paused, or start another server",
                Servers(servers)
            ),
            Self::NotYetReady { because, within } => {
                f.write_str(match because {
                    Passing::Due => "has fallen due",
                    Passing::Unmarked => "was written by another program, and is to be adopted",
                })?;
                write!(f, ": a server makes it ready within {}", Roughly(*within))
            }
            Self::WorkersBusy {
                workers,
                busy,
                ahead,
            } => {
                match workers {
                    1 => f.write_str("waits for the one worker that takes it, which is busy")?,
                    workers => {
                        write!(f, "waits for a worker: all {workers} that take it are busy")?;
                    }
                }
                if !busy.is_empty() {
                    write!(f, " with {}", Jobs(busy))?;
                }
                if ahead.count > 0 {
                    write!(f, "; {} before it", ahead.jobs("comes", "come"))?;
                }
                f.write_str("; start another server, or more workers, if that is too long")
            }
            Self::Behind { ahead, idle } => write!(
                f,
                "waits behind {}, and {idle} {} idle; raise its priority if it cannot wait",
                ahead.jobs("", "").trim_end(),
                plural(*idle, "worker is", "workers are")
            ),
            Self::NothingInTheWay { within, servers } => write!(
                f,
                "has nothing in its way: it should start within {} on {}",
                Roughly(*within),
                servers.join(" or ")
            ),
            _ => Ok(()),
        }
    }
}

fn running(
    f: &mut Formatter<'_>,
    worker_name: Option<&str>,
    since: Option<Timestamp>,
    server: Option<&ServerStanding>,
) -> fmt::Result {
    let worker = worker_name.unwrap_or("an unknown worker");
    write!(f, "is running on {worker}{}", Since(since))?;
    match server {
        Some(server) if server.standing == Standing::Lapsed => write!(
            f,
            ", whose server {} has given no sign of life for {}: once another server that performs the kind has found it dead, the job is performed again",
            server.name,
            Roughly(server.silent_for)
        ),
        Some(_) => Ok(()),
        None => f.write_str(
            ", whose server is gone: another one that performs the kind ends the claim, and the job is performed again",
        ),
    }
}

fn held_for_limit(f: &mut Formatter<'_>, limit: &str, holders: &[Busy]) -> fmt::Result {
    write!(f, "waits for a place in the limit `{limit}`: ")?;
    if holders.is_empty() {
        return f.write_str(
            "nobody has one now, so that a server that performs the kind gives it one within some twenty seconds; start one if none is alive",
        );
    }
    write!(
        f,
        "taken by {}; it goes on when one of them ends, or raise the limit",
        Jobs(holders)
    )
}

impl Ahead {
    fn jobs(self, one: &str, several: &str) -> String {
        let (noun, verb) = match self.count {
            1 => ("job", one),
            _ => ("jobs", several),
        };
        format!("{self} {noun} {verb}")
    }
}

impl Display for Ahead {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let digits = self.count.to_string();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        f.write_str(if self.or_more { "+" } else { "" })
    }
}

struct At(Option<Timestamp>);

impl Display for At {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |time| write!(f, " at {time}"))
    }
}

struct Since(Option<Timestamp>);

impl Display for Since {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |time| write!(f, " since {time}"))
    }
}

/// A duration in the words of people: two units at most.
pub(crate) struct Roughly(pub(crate) Duration);

impl Display for Roughly {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
        let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
        match (days, hours, minutes) {
            (0, 0, 0) if seconds < 10 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            (0, 0, 0) => write!(f, "{rest} s"),
            (0, 0, _) => write!(f, "{minutes} min {rest} s"),
            (0, _, _) => write!(f, "{hours} h {minutes} min"),
            _ => write!(f, "{days} d {hours} h"),
        }
    }
}

struct Servers<'s>(&'s [ServerStanding]);

impl Display for Servers<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        list(f, self.0, |server, f| {
            f.write_str(&server.name)?;
            match server.standing {
                Standing::Starting => f.write_str(" is starting"),
                Standing::Running => f.write_str(" is running"),
                Standing::Paused => f.write_str(" is paused"),
                Standing::Stopping => f.write_str(" is stopping"),
                Standing::Lapsed => {
                    write!(f, " has been silent for {}", Roughly(server.silent_for))
                }
            }
        })
    }
}

struct Jobs<'j>(&'j [Busy]);

impl Display for Jobs<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        list(f, self.0, |busy, f| {
            let Busy {
                id, kind, since, ..
            } = busy;
            let worker = &busy.worker_name;
            write!(f, "{kind} {id} ({worker}, for {})", Roughly(*since))
        })
    }
}

/// How many of a list are told.
const TOLD: usize = 5;

fn list<T>(
    f: &mut Formatter<'_>,
    items: &[T],
    tell: impl Fn(&T, &mut Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    for (number, item) in items.iter().take(TOLD).enumerate() {
        if number > 0 {
            f.write_str(", ")?;
        }
        tell(item, f)?;
    }
    match items.len().saturating_sub(TOLD) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

fn plural<'t>(count: impl TryInto<u64>, one: &'t str, several: &'t str) -> &'t str {
    if count.try_into().ok() == Some(1) {
        one
    } else {
        several
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_durations_read_well() {
        let ahead = |count, or_more| Ahead { count, or_more };
        assert_eq!(ahead(10_000, true).to_string(), "10,000+");
        assert_eq!(ahead(999, false).to_string(), "999");
        assert_eq!(ahead(1_234_567, false).to_string(), "1,234,567");
        for (milliseconds, text) in [
            (40, "0.0 s"),
            (6_300, "6.3 s"),
            (59_900, "59 s"),
            (61_000, "1 min 1 s"),
            (3_600_000 + 120_000, "1 h 2 min"),
            (26 * 3_600_000, "1 d 2 h"),
        ] {
            let text_of = Roughly(Duration::from_millis(milliseconds)).to_string();
            assert_eq!(text_of, text);
        }
    }
}
