//! The span in which a job is performed.

use tracing::Span;

use crate::{
    context::JobContext,
    definition::LogLevel,
    log::{LogControl, log_control},
    trace::continue_trace,
};

/// A job in the hands of a worker, as `tracing` sees it: a span `perform` with the job's `id`, `kind`
/// and `attempt`, and its `log_level` where it has its own. It continues the job's trace.
#[derive(Debug)]
pub struct PerformSpan {
    span: Span,
    level: Option<LogLevel>,
    control: Option<&'static dyn LogControl>,
}

impl PerformSpan {
    /// What the span is called.
    pub const NAME: &'static str = "perform";
    /// The span's target.
    pub const TARGET: &'static str = "rocketjob::perform";
    /// The field of the span that holds the job's own level, empty in the spans of other jobs.
    pub const LOG_LEVEL: &'static str = "log_level";

    /// The span of the job of `context`, which is about to be performed.
    pub fn begin(context: &JobContext) -> Self {
        let level = context.log_level();
        let control = log_control().map(|control| &**control);
        if let Some(control) = control {
            control.job_begins(level);
        }
        let span = span(context, level);
        continue_trace(context.document(), &span);
        Self {
            span,
            level,
            control,
        }
    }

    /// The span itself.
    pub fn span(&self) -> &Span {
        &self.span
    }
}

impl Drop for PerformSpan {
    fn drop(&mut self) {
        // Closed, unless the job has left something behind that goes on in it.
        self.span = Span::none();
        if let Some(control) = self.control {
            control.job_ended(self.level);
        }
    }
}

/// Of the highest level: a warning from within a job is worth little without the job, and whoever
/// looks for the levels of jobs must see it whatever else is kept.
fn span(context: &JobContext, level: Option<LogLevel>) -> Span {
    tracing::error_span!(
        target: PerformSpan::TARGET,
        PerformSpan::NAME,
        id = %context.id(),
        kind = context.kind(),
        attempt = context.attempt(),
        log_level = level.map(LogLevel::as_str),
    )
}
