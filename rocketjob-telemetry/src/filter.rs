//! The filter that knows the levels of jobs.

use std::{
    fmt::Debug,
    sync::{Arc, atomic::Ordering},
};

use rocketjob_core::{LogLevel, PerformSpan};
use tracing::{
    Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::{
    layer::{Context, Filter},
    registry::LookupSpan,
};

use crate::levels::{Levels, level_filter};

/// Keeps what the levels of a [`LogHandle`](crate::LogHandle) say. Inside the span of a job that has
/// a level of its own, also in spans, tasks and blocking code under it, that level counts alone.
#[derive(Debug)]
pub struct JobFilter(Arc<Levels>);

/// Stands at the span of a job that has its own level.
struct JobLevel(LevelFilter);

impl JobFilter {
    pub(crate) fn new(levels: Arc<Levels>) -> Self {
        Self(levels)
    }
}

impl<S> Filter<S> for JobFilter
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        let interest = Filter::<S>::callsite_enabled(&*self.0.base(), metadata);
        let raised = self.0.raised();
        if is_of_job(metadata) {
            Interest::always()
        } else if raised == LevelFilter::OFF || interest.is_never() && *metadata.level() > raised {
            interest
        } else {
            Interest::sometimes()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        if is_of_job(metadata) {
            return true;
        }
        if self.0.raised() != LevelFilter::OFF
            && let Some(level) = job_level(context)
        {
            return *metadata.level() <= level;
        }
        Filter::enabled(&*self.0.base(), metadata, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let hint = self.0.base().max_level_hint();
        hint.map(|level| level.max(self.0.raised()))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if is_of_job(attributes.metadata())
            && let Some(level) = level_of(attributes)
            && let Some(span) = context.span(id)
        {
            span.extensions_mut().replace(JobLevel(level));
            self.0.spans.fetch_add(1, Ordering::AcqRel);
        }
        Filter::on_new_span(&*self.0.base(), attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        Filter::on_record(&*self.0.base(), id, values, context);
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        Filter::on_enter(&*self.0.base(), id, context);
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        Filter::on_exit(&*self.0.base(), id, context);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id);
        if span.is_some_and(|span| span.extensions().get::<JobLevel>().is_some()) {
            self.0.spans.fetch_sub(1, Ordering::AcqRel);
        }
        Filter::on_close(&*self.0.base(), id, context);
    }
}

/// Whether these are the spans of jobs, which are always kept: lines from within a job tell of it.
fn is_of_job(metadata: &Metadata<'_>) -> bool {
    metadata.is_span()
        && metadata.name() == PerformSpan::NAME
        && metadata.target() == PerformSpan::TARGET
}

/// The level of the innermost job, if it has one, in which the present line is.
fn job_level<S>(context: &Context<'_, S>) -> Option<LevelFilter>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let mut scope = context.lookup_current()?.scope();
    scope.find_map(|span| Some(span.extensions().get::<JobLevel>()?.0))
}

fn level_of(attributes: &Attributes<'_>) -> Option<LevelFilter> {
    let mut found = Found(None);
    attributes.record(&mut found);
    found.0.map(level_filter)
}

struct Found(Option<LogLevel>);

impl Visit for Found {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == PerformSpan::LOG_LEVEL {
            self.0 = LogLevel::from_name(value);
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn Debug) {}
}
