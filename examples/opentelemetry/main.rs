//! A trace that goes on in another process: one program creates jobs, another performs them, and both
//! export their spans with OpenTelemetry.
//!
//! ```text
//! cargo run --example opentelemetry -- --store sqlite://jobs.db enqueue
//! cargo run --example opentelemetry -- --store sqlite://jobs.db perform
//! ```
//!
//! The spans are written to the standard output. Any other exporter goes in its place, such as that
//! of `opentelemetry-otlp` for a collector.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for a terminal"
)]

mod propagator;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use rocketjob::{Registry, prelude::*};
use rocketjob_telemetry::Telemetry;
use serde::{Deserialize, Serialize};
use tracing::{Instrument, level_filters::LevelFilter};
use tracing_subscriber::Layer;

use crate::propagator::OpenTelemetry;

#[derive(Parser)]
#[command(about = "Creates and performs jobs in one trace")]
struct Arguments {
    /// Where jobs are stored.
    #[arg(long)]
    store: String,
    /// Where spans go.
    #[arg(long, value_enum, default_value_t = Export::Stdout)]
    export: Export,
    #[command(subcommand)]
    part: Part,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Export {
    /// To the standard output, with all that is known of them.
    Stdout,
    /// Kept until the end, then a line each: name, trace, span, parent, job.
    Memory,
}

#[derive(Subcommand)]
enum Part {
    /// Creates jobs: one alone, and two at once.
    Enqueue,
    /// Performs what there is, and ends.
    Perform,
}

/// Sends an invoice.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "InvoiceJob", keep_completed)]
struct InvoiceJob {
    number: i64,
}

impl Perform for InvoiceJob {
    async fn perform(&mut self, _job: &JobContext) -> JobResult {
        async { tracing::info!(number = self.number, "sent") }
            .instrument(tracing::info_span!("send"))
            .await;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let kept = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder();
    let provider = match arguments.export {
        Export::Stdout => {
            provider.with_simple_exporter(opentelemetry_stdout::SpanExporter::default())
        }
        Export::Memory => provider.with_simple_exporter(kept.clone()),
    }
    .build();
    let spans = tracing_opentelemetry::layer().with_tracer(provider.tracer("rocketjob"));
    Telemetry::builder()
        .levels("warn")
        .layer(spans.with_filter(LevelFilter::INFO))
        .init()?;
    rocketjob::propagate_traces(OpenTelemetry::new())?;

    let store = rocketjob::connect(&arguments.store).await?;
    match arguments.part {
        Part::Enqueue => {
            let order = tracing::info_span!("order");
            enqueue(&store).instrument(order).await?;
        }
        Part::Perform => {
            let mut registry = Registry::new();
            registry.register::<InvoiceJob>()?;
            let server = Server::builder(&store).only(registry).workers(2);
            server.start().await?.run_until_idle().await?;
        }
    }
    provider.force_flush()?;
    for span in kept.get_finished_spans()? {
        let (trace, id) = (span.span_context.trace_id(), span.span_context.span_id());
        let job = span
            .attributes
            .iter()
            .find(|field| field.key.as_str() == "id");
        let job = job.map_or_else(|| "-".into(), |job| job.value.to_string());
        println!("{} {trace} {id} {} {job}", span.name, span.parent_span_id);
    }
    Ok(())
}

async fn enqueue(store: &Store) -> rocketjob::Result<()> {
    InvoiceJob { number: 1 }.create(store).await?;
    let more = (2..=3).map(|number| InvoiceJob { number });
    InvoiceJob::create_many(store, more).await?;
    Ok(())
}
