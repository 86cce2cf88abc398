//! The trace that a job continues: from whoever creates it into the process that performs it.
//!
//! It is stored beside the job's own fields, in the form that the W3C gives it
//! (<https://www.w3.org/TR/trace-context/>), so any tracing system can be at either end. Which one it
//! is, a [`Propagator`] knows, which the program brings.

use std::{fmt::Debug, sync::OnceLock};

use bson::{Bson, Document, doc};
use tracing::Span;

use crate::{
    document::JobDocument,
    error::{Error, Result},
    name,
};

/// The length of `00-<trace>-<parent>-<flags>`.
const PARENT_LENGTH: usize = 55;
/// Where its dashes are.
const DASHES: [usize; 3] = [2, 35, 52];
/// So much of a `tracestate` everyone must be able to pass on; what is longer is left out.
const STATE_LENGTH: usize = 512;
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// A place in a trace, as it is passed on from one process to another.
///
/// ```
/// use rocketjob_core::Trace;
///
/// let trace = Trace::new("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")?;
/// assert_eq!(trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// assert!(Trace::new("00-ffff").is_err());
/// # Ok::<_, rocketjob_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Trace {
    parent: String,
    state: Option<String>,
}

impl Trace {
    /// The place that a `traceparent` header names.
    ///
    /// # Errors
    /// [`Error::Configuration`] when it has not the form that the W3C gives it.
    pub fn new(traceparent: impl Into<String>) -> Result<Self> {
        let parent = traceparent.into();
        if !is_traceparent(&parent) {
            return Err(Error::configuration(format!(
                "`{}` is no `traceparent`: it has the form `00-<32 digits>-<16 digits>-<2 digits>`, in lower-case hexadecimal",
                parent
                    .escape_debug()
                    .take(2 * PARENT_LENGTH)
                    .collect::<String>()
            )));
        }
        Ok(Self {
            parent,
            state: None,
        })
    }

    /// With what tracing systems have to say of the trace, as in a `tracestate` header. Left out
    /// when it is empty, longer than 512 bytes, or no printable ASCII.
    #[must_use]
    pub fn with_state(mut self, tracestate: impl Into<String>) -> Self {
        let state = tracestate.into();
        let is_usable = (1..=STATE_LENGTH).contains(&state.len())
            && state.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        self.state = is_usable.then_some(state);
        self
    }

    /// The value of the `traceparent` header.
    pub fn traceparent(&self) -> &str {
        &self.parent
    }

    /// The value of the `tracestate` header.
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// The id of the trace, 32 hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        &self.parent[DASHES[0] + 1..DASHES[1]]
    }

    /// The id of the span that the next one has for a parent, 16 hexadecimal digits.
    pub fn parent_id(&self) -> &str {
        &self.parent[DASHES[1] + 1..DASHES[2]]
    }

    fn from_document(document: &Document) -> Option<Self> {
        let trace = Self::new(document.get_str(TRACEPARENT).ok()?).ok()?;
        Some(match document.get_str(TRACESTATE) {
            Ok(state) => trace.with_state(state),
            Err(_) => trace,
        })
    }
}

impl From<Trace> for Bson {
    fn from(trace: Trace) -> Self {
        let mut document = doc! { TRACEPARENT: trace.parent };
        if let Some(state) = trace.state {
            document.insert(TRACESTATE, state);
        }
        Self::Document(document)
    }
}

impl JobDocument {
    /// The trace that the job continues; `None` where there is none or it makes no sense.
    pub fn trace(&self) -> Option<Trace> {
        match self.get(name::TRACE) {
            Some(Bson::Document(document)) => Trace::from_document(document),
            _ => None,
        }
    }
}

/// Later versions may have more at the end.
fn is_traceparent(text: &str) -> bool {
    let bytes = text.as_bytes();
    let has_form = bytes.len() >= PARENT_LENGTH
        && bytes
            .iter()
            .take(PARENT_LENGTH)
            .enumerate()
            .all(|(at, byte)| {
                if DASHES.contains(&at) {
                    *byte == b'-'
                } else {
                    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
                }
            });
    if !has_form || !text.is_ascii() || text.starts_with("ff") {
        return false;
    }
    let ends = match &bytes[PARENT_LENGTH..] {
        [] => true,
        rest => !text.starts_with("00") && rest[0] == b'-',
    };
    let is_zero = |range: std::ops::Range<usize>| bytes[range].iter().all(|byte| *byte == b'0');
    ends && !is_zero(DASHES[0] + 1..DASHES[1]) && !is_zero(DASHES[1] + 1..DASHES[2])
}

/// Knows the tracing system of a program: reads from it in which trace it is, and tells it which
/// trace a span belongs to.
pub trait Propagator: Debug + Send + Sync + 'static {
    /// The place in its trace of the present span ([`Span::current`]); `None` when it is in none.
    /// Called once for each `create`, and once for each `create_many`.
    fn inject(&self) -> Option<Trace>;

    /// Makes `trace` the parent of `span`, which has not been entered yet.
    fn extract(&self, trace: &Trace, span: &Span);
}

static PROPAGATOR: OnceLock<Box<dyn Propagator>> = OnceLock::new();

/// Lets jobs that this process creates carry its traces, and spans of jobs that it performs continue
/// the traces that those carry.
///
/// # Errors
/// [`Error::Configuration`] when the process has a propagator already.
pub fn propagate_traces(propagator: impl Propagator) -> Result<()> {
    PROPAGATOR.set(Box::new(propagator)).map_err(|_| {
        Error::configuration(
            "this process has a propagator of traces already: set it once, where it starts",
        )
    })
}

/// The place of the present span.
pub(crate) fn current_trace() -> Option<Trace> {
    PROPAGATOR.get()?.inject()
}

/// Lets `span` continue the trace that `job` carries.
pub(crate) fn continue_trace(job: &JobDocument, span: &Span) {
    if let Some(propagator) = PROPAGATOR.get()
        && let Some(trace) = job.trace()
    {
        propagator.extract(&trace, span);
    }
}
