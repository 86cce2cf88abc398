//! What connects the traces of jobs with OpenTelemetry; a program can take it as it stands.

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use rocketjob::{Propagator, Trace};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// Writes and reads traces as the W3C has it.
#[derive(Debug)]
pub(crate) struct OpenTelemetry(TraceContextPropagator);

impl OpenTelemetry {
    pub(crate) fn new() -> Self {
        Self(TraceContextPropagator::new())
    }
}

impl Propagator for OpenTelemetry {
    fn inject(&self) -> Option<Trace> {
        let mut carrier = HashMap::new();
        self.0
            .inject_context(&Span::current().context(), &mut carrier);
        let trace = Trace::new(carrier.remove(PARENT)?).ok()?;
        Some(match carrier.remove(STATE) {
            Some(state) => trace.with_state(state),
            None => trace,
        })
    }

    fn extract(&self, trace: &Trace, span: &Span) {
        let mut carrier = HashMap::from([(PARENT.to_owned(), trace.traceparent().to_owned())]);
        if let Some(state) = trace.tracestate() {
            carrier.insert(STATE.to_owned(), state.to_owned());
        }
        // Fails for a span that nobody exports: there is nothing to continue then.
        let _ = span.set_parent(self.0.extract(&carrier));
    }
}
