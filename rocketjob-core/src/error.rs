//! The one error type of the library: a variant exists where a caller would act differently on it.

use std::fmt;

use bson::oid::ObjectId;

use crate::state::{State, Transition};

/// What goes wrong between a program and its jobs.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A cause that a store or the application hands over, kept as it is.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why an operation on jobs was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The job breaks a rule of its own or of a concern; nothing was stored.
    #[error("{0}")]
    Invalid(ValidationFailed),

    /// A job with the same unique key is active; nothing was stored or changed.
    #[error("Validation failed: {reason} (job {existing})")]
    Existing {
        /// What the concern that owns the key says, such as `State Another instance …`.
        reason: String,
        /// The job that is in the way.
        existing: ObjectId,
    },

    /// No job has this id, or it was deleted.
    #[error("job {id} does not exist: it was deleted or never created")]
    NotFound {
        /// The id that was looked for.
        id: ObjectId,
    },

    /// The state machine does not allow the transition.
    #[error("job {id} is {from} and may not {transition}")]
    WrongState {
        /// The job that was to change.
        id: ObjectId,
        /// The state in which the store holds it.
        from: State,
        /// What was asked for.
        transition: Transition,
    },

    /// A callback of the job does not allow the transition; nothing was changed.
    #[error("job {id} may not {transition}: {}", reason.message)]
    Vetoed {
        /// The job.
        id: ObjectId,
        /// What was asked for.
        transition: Transition,
        /// What the callback said.
        reason: crate::failure::JobFailure,
    },
    /// The claim was taken away: paused, aborted, requeued or given to another worker.
    /// Whoever gets this must drop what it was about to write.
    #[error("the claim on job {id} is lost: nothing was written")]
    ClaimLost {
        /// The job that is no longer this worker's.
        id: ObjectId,
    },

    /// `perform_now` ended with this failure.
    #[error("the job failed: {0}")]
    Failed(crate::failure::JobFailure),

    /// A stored document does not fit the struct of its kind.
    #[error("job {id} of kind `{kind}` cannot be decoded: {reason}")]
    Undecodable {
        /// The document's id, as text since it may be of any type.
        id: String,
        /// Its `_type`, or what stands in its place.
        kind: String,
        /// Which field is wrong and how.
        reason: String,
    },

    /// A struct cannot be stored as a job of its kind.
    #[error("a job of kind `{kind}` cannot be stored: {reason}")]
    Unstorable {
        /// The kind of the job.
        kind: String,
        /// Which field is wrong and what would be right.
        reason: String,
    },

    /// Two Rust types claim one kind or alias.
    #[error(
        "kind `{kind}` belongs to both `{first}` and `{second}`: give one of them another name with `#[rocketjob(kind = \"…\")]`"
    )]
    DuplicateKind {
        /// The name that both use.
        kind: String,
        /// The type registered first.
        first: String,
        /// The type that came second.
        second: String,
    },

    /// A server would start without anything that it could perform.
    #[error(
        "no job kinds are registered: call `register::<YourJob>()` for each kind that this program performs (a library that the program never mentions registers nothing by itself)"
    )]
    NoKinds,

    /// A setting, an address or an argument makes no sense; the text says which and what would.
    #[error("{0}")]
    Configuration(String),

    /// Another server document has this name.
    #[error(
        "a server named `{name}` is already registered: stop it, or start this one under another name"
    )]
    ServerNameTaken {
        /// The name in use.
        name: String,
    },

    /// The store cannot be reached; the same call may succeed later.
    #[error("the store at {address} is not available")]
    Unavailable {
        /// Where the store was looked for, without any password.
        address: String,
        /// What the driver said.
        #[source]
        source: BoxError,
    },

    /// The store refused or broke off an operation.
    #[error("the store failed")]
    Storage(#[source] BoxError),
}

impl Error {
    /// Whether the same call may succeed when it is tried again a little later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// A setting, an address or an argument that makes no sense.
    pub fn configuration(text: impl Into<String>) -> Self {
        Self::Configuration(text.into())
    }

    /// The error and all its causes in one line, for logs and terminals.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error and its causes in one line, without saying the same thing twice.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The rules that a job breaks, each with the field that breaks it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValidationFailed {
    problems: Vec<Problem>,
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field, such as `recipient`: by its stored name, or for a rule of `validator` by its name
    /// in the struct.
    pub field: String,
    /// What is wrong with it, as the second half of a sentence: `is not a valid email`.
    pub message: String,
}

impl ValidationFailed {
    /// Nothing broken so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that `field` breaks a rule.
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem {
            field: field.into(),
            message: message.into(),
        });
    }

    /// All broken rules, in the order in which they were found.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// `Ok` when no rule is broken.
    pub fn into_result(self) -> Result<()> {
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(Error::Invalid(self))
        }
    }

    pub(crate) fn add_rules(&mut self, errors: &validator::ValidationErrors) {
        self.add_nested("", errors);
    }

    fn add_nested(&mut self, prefix: &str, errors: &validator::ValidationErrors) {
        use validator::ValidationErrorsKind as Kind;
        let mut fields: Vec<_> = errors.errors().iter().collect();
        fields.sort_by_key(|(name, _)| name.to_string());
        for (name, kind) in fields {
            let path = format!("{prefix}{name}");
            match kind {
                Kind::Field(list) => {
                    for error in list {
                        self.add(path.clone(), rule_text(error));
                    }
                }
                Kind::Struct(inner) => self.add_nested(&format!("{path}."), inner),
                Kind::List(list) => {
                    for (index, inner) in list {
                        self.add_nested(&format!("{path}[{index}]."), inner);
                    }
                }
            }
        }
    }
}

fn rule_text(error: &validator::ValidationError) -> String {
    if let Some(message) = &error.message {
        return message.to_string();
    }
    let mut limits: Vec<_> = error
        .params
        .iter()
        .filter(|(name, _)| *name != "value")
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    limits.sort();
    let value = error
        .params
        .get("value")
        .map(|value| format!(": {value}"))
        .unwrap_or_default();
    if limits.is_empty() {
        format!("breaks the rule `{}`{value}", error.code)
    } else {
        format!(
            "breaks the rule `{}` ({}){value}",
            error.code,
            limits.join(", ")
        )
    }
}

impl fmt::Display for ValidationFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Validation failed: ")?;
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "`{}` {}", problem.field, problem.message)?;
        }
        Ok(())
    }
}
