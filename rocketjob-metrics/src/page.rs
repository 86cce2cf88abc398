//! What is told, as text.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text::encode},
    metrics::MetricType,
    registry::{Registry, Unit},
};
use rocketjob_worker::{HealthMonitor, HistogramReading, KindReading, Meter, Reading};
use serde_json::json;

use crate::depth::{Depth, Gauge};

/// What all metrics begin with.
const PREFIX: &str = "rocketjob";

/// What can be asked for.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) server: Option<(Meter, HealthMonitor)>,
    pub(crate) gauge: Arc<Gauge>,
}

impl Page {
    /// All metrics in the text format.
    pub(crate) fn metrics(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(Snapshot {
            server: self.server.as_ref().map(|(meter, monitor)| {
                let is_claiming = meter.is_claiming();
                (meter.read(), is_claiming, monitor.clone())
            }),
            depth: self.gauge.last(),
            failures: self.gauge.failures.load(Ordering::Relaxed),
        }));
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }

    /// Whether the loops of the server make progress, each with how it is.
    pub(crate) fn health(&self) -> (bool, String) {
        let Some((_, monitor)) = &self.server else {
            return (true, json!({ "healthy": true }).to_string());
        };
        let health = monitor.health();
        let loops = health.loops.iter().map(|one| {
            json!({
                "loop": one.name,
                "healthy": one.is_healthy(),
                "seconds_since_progress": one.since.map(|since| since.as_secs_f64()),
                "seconds_allowed": one.budget.as_secs_f64(),
            })
        });
        let loops: Vec<_> = loops.collect();
        let is_healthy = health.is_healthy();
        let body = json!({ "healthy": is_healthy, "loops": loops });
        (is_healthy, body.to_string())
    }

    /// Whether the server takes work.
    pub(crate) fn readiness(&self) -> (bool, String) {
        let server = self.server.as_ref();
        let is_ready = server.is_none_or(|(meter, _)| meter.is_claiming());
        (is_ready, json!({ "ready": is_ready }).to_string())
    }
}

/// What is known at the time of a scrape.
#[derive(Debug)]
struct Snapshot {
    server: Option<(Reading, bool, HealthMonitor)>,
    depth: Option<Arc<Depth>>,
    failures: u64,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let out = &mut encoder;
        if let Some((reading, is_claiming, monitor)) = &self.server {
            kinds(out, &reading.kinds)?;
            lost(out, reading)?;
            workers(out, reading)?;
            claims(out, reading)?;
            gauge(
                out,
                "server_claiming",
                "1 while the server takes work",
                None,
                || {
                    vec![(
                        vec![("server", reading.server.as_str())],
                        f64::from(u8::from(*is_claiming)),
                    )]
                },
            )?;
            loops(out, monitor)?;
        }
        if let Some(depth) = &self.depth {
            queue(out, depth)?;
        }
        let help = "How often the queue could not be measured";
        counter(out, "queue_measure_failures", help, || {
            vec![(Vec::new(), self.failures)]
        })
    }
}

type Count = fn(&KindReading) -> u64;
type Times = fn(&KindReading) -> &HistogramReading;
type Labels<'l> = Vec<(&'static str, &'l str)>;

fn kinds(out: &mut DescriptorEncoder<'_>, kinds: &[KindReading]) -> fmt::Result {
    let counters: [(&str, &str, Count); 7] = [
        (
            "jobs_started",
            "How often a worker began to perform a job",
            |kind| kind.started,
        ),
        ("jobs_completed", "Jobs that completed", |kind| {
            kind.completed
        }),
        ("jobs_failed", "Jobs that failed", |kind| kind.failed),
        (
            "jobs_retried",
            "Failed attempts after which the job is tried again",
            |kind| kind.retried,
        ),
        (
            "jobs_aborted",
            "Jobs that were discarded by themselves, or expired",
            |kind| kind.aborted,
        ),
        (
            "jobs_handed_back",
            "Claims handed back without using up an attempt",
            |kind| kind.handed_back,
        ),
        (
            "settle_refused",
            "Outcomes that were refused since the claim was lost",
            |kind| kind.refused,
        ),
    ];
    for (name, help, count) in counters {
        counter(out, name, help, || {
            kinds
                .iter()
                .map(|kind| (of_kind(kind), count(kind)))
                .collect()
        })?;
    }
    let histograms: [(&str, &str, Times); 2] = [
        ("perform", "How long performing a job took", |kind| {
            &kind.perform
        }),
        (
            "pickup",
            "How long a job waited from when it could be taken until it began, first attempts only",
            |kind| &kind.pickup,
        ),
    ];
    for (name, help, times) in histograms {
        let unit = Unit::Seconds;
        let mut family = out.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
        for kind in kinds {
            histogram(&mut family, &of_kind(kind), times(kind))?;
        }
    }
    Ok(())
}

fn lost(out: &mut DescriptorEncoder<'_>, reading: &Reading) -> fmt::Result {
    let help = "Claims of servers that this server has declared dead";
    counter(out, "jobs_lost", help, || {
        let lost = reading.lost.iter();
        lost.map(|(kind, count)| (vec![("kind", kind.as_str())], *count))
            .collect()
    })
}

fn of_kind(kind: &KindReading) -> Labels<'_> {
    vec![("kind", kind.kind.as_str())]
}

fn histogram(
    family: &mut MetricEncoder<'_>,
    labels: &Labels<'_>,
    times: &HistogramReading,
) -> fmt::Result {
    // Of one look: what is noted meanwhile must not make the whole differ from its parts.
    let count = times.count();
    let mut metric = family.encode_family(labels)?;
    metric.encode_histogram::<NoLabelSet>(times.sum.as_secs_f64(), count, &times.classes, None)
}

fn workers(out: &mut DescriptorEncoder<'_>, reading: &Reading) -> fmt::Result {
    let help = "Workers by what they do; stuck ones were replaced and are not among the others";
    gauge(out, "workers", help, None, || {
        let idle = reading.workers.saturating_sub(reading.busy);
        let states = [
            ("busy", reading.busy),
            ("idle", idle),
            ("stuck", reading.stuck),
        ];
        let states = states.into_iter();
        states
            .map(|(state, count)| (vec![("state", state)], number(count)))
            .collect()
    })?;
    let help = "Jobs that the server holds: performed, read ahead, or being settled";
    gauge(out, "jobs_in_hand", help, None, || {
        vec![(Vec::new(), number(reading.claimed))]
    })
}

fn claims(out: &mut DescriptorEncoder<'_>, reading: &Reading) -> fmt::Result {
    let figures = reading.figures;
    for (name, help, count) in [
        (
            "claims",
            "How often the store was asked for jobs",
            figures.claims,
        ),
        (
            "claims_successful",
            "How often it had some",
            figures.successful_claims,
        ),
        ("jobs_claimed", "Jobs that the store gave", figures.claimed),
        (
            "jobs_claimed_by_others",
            "Jobs that another server was faster to claim",
            figures.lost,
        ),
        (
            "jobs_begun_at_once",
            "Jobs that began as they were created in this process",
            figures.at_once,
        ),
        (
            "outcomes_settled",
            "Outcomes that the store accepted",
            figures.settled,
        ),
    ] {
        counter(out, name, help, || vec![(Vec::new(), count)])?;
    }
    Ok(())
}

fn loops(out: &mut DescriptorEncoder<'_>, monitor: &HealthMonitor) -> fmt::Result {
    let loops = monitor.health().loops;
    let help = "How long ago a loop of the server last did all that it had to do; 0 while it rests";
    gauge(
        out,
        "loop_since_progress",
        help,
        Some(&Unit::Seconds),
        || {
            let since =
                |since: Option<std::time::Duration>| since.unwrap_or_default().as_secs_f64();
            loops
                .iter()
                .map(|one| (vec![("loop", one.name)], since(one.since)))
                .collect()
        },
    )?;
    let help = "1 while a loop of the server makes progress";
    gauge(out, "loop_healthy", help, None, || {
        let healthy = |healthy| f64::from(u8::from(healthy));
        loops
            .iter()
            .map(|one| (vec![("loop", one.name)], healthy(one.is_healthy())))
            .collect()
    })
}

fn queue(out: &mut DescriptorEncoder<'_>, depth: &Depth) -> fmt::Result {
    let labels = |band: &'_ crate::depth::Band| {
        vec![
            ("kind", band.kind.clone()),
            ("priority", band.priorities.to_owned()),
        ]
    };
    let bands = || depth.bands.iter();
    let help = "Jobs that a worker may take, exact up to 10000";
    let mut family = out.encode_descriptor("jobs_ready", help, None, MetricType::Gauge)?;
    for band in bands() {
        family
            .encode_family(&labels(band))?
            .encode_gauge(&band.ready)?;
    }
    let (help, unit) = (
        "For how long the oldest of these jobs has been ready",
        Unit::Seconds,
    );
    let mut family =
        out.encode_descriptor("jobs_ready_oldest", help, Some(&unit), MetricType::Gauge)?;
    for band in bands() {
        family
            .encode_family(&labels(band))?
            .encode_gauge(&band.oldest.as_secs_f64())?;
    }
    gauge(
        out,
        "jobs_held",
        "Jobs that are held by reason, exact up to 10000",
        None,
        || {
            let held = depth.held.iter();
            held.map(|(hold, count)| (vec![("hold", hold.as_str())], counted(*count)))
                .collect()
        },
    )?;
    gauge(
        out,
        "jobs",
        "Jobs by state, exact up to 10000",
        None,
        || {
            let states = depth.states.iter();
            states
                .map(|(state, count)| (vec![("state", state.as_str())], counted(*count)))
                .collect()
        },
    )?;
    let help = "How old these figures of the queue are";
    gauge(
        out,
        "queue_measured_ago",
        help,
        Some(&Unit::Seconds),
        || vec![(Vec::new(), depth.at.elapsed().as_secs_f64())],
    )?;
    let help = "How long it took to measure them";
    gauge(out, "queue_measure", help, Some(&Unit::Seconds), || {
        vec![(Vec::new(), depth.took.as_secs_f64())]
    })
}

fn counter<'l>(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl FnOnce() -> Vec<(Labels<'l>, u64)>,
) -> fmt::Result {
    let mut family = out.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values() {
        let mut metric = family.encode_family(&labels)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
    }
    Ok(())
}

fn gauge<'l>(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    values: impl FnOnce() -> Vec<(Labels<'l>, f64)>,
) -> fmt::Result {
    let mut family = out.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for (labels, value) in values() {
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

fn number(count: usize) -> f64 {
    counted(count as u64)
}

/// A number of jobs or workers: there are not so many that a fraction could not tell them.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn counted(count: u64) -> f64 {
    count as f64
}
