//! Levels of modules and of jobs, in one process that has one subscriber.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    io,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use rocketjob::{LogControl, prelude::*};
use rocketjob_telemetry::{Colors, LogHandle, Telemetry};
use serde::{Deserialize, Serialize};
use tokio::sync::Barrier;
use tracing::{Instrument as _, Level, level_filters::LevelFilter};

/// What was written.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Those with this word.
    fn with(&self, word: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let with = text
            .lines()
            .filter(|line| line.split(' ').any(|part| part == word));
        with.map(str::to_owned).collect()
    }
}

/// The subscriber of all tests: it keeps what is `warn` or worse.
fn telemetry() -> &'static (LogHandle, Lines) {
    static TELEMETRY: OnceLock<(LogHandle, Lines)> = OnceLock::new();
    TELEMETRY.get_or_init(|| {
        let lines = Lines::default();
        let writer = lines.clone();
        let builder = Telemetry::builder().levels("warn").colors(Colors::Never);
        let handle = builder.writer(move || writer.clone()).init().unwrap();
        (handle, lines)
    })
}

/// A line of each level, with this word.
fn talk(word: &str, place: &str) {
    tracing::trace!(place, "says {word} at trace");
    tracing::debug!(place, "says {word} at debug");
    tracing::info!(place, "says {word} at info");
    tracing::warn!(place, "says {word} at warn");
    tracing::error!(place, "says {word} at error");
}

/// Talks wherever a job can.
#[derive(RocketJob, Serialize, Deserialize, Debug)]
#[rocketjob(kind = "TalkJob")]
struct TalkJob {
    word: String,
}

impl Perform for TalkJob {
    async fn perform(&mut self, job: &JobContext) -> JobResult {
        let word = self.word.clone();
        let together = job.shared::<Arc<Barrier>>()?;
        together.wait().await;
        talk(&word, "job");
        tracing::debug_span!("inner", word = "hidden").in_scope(|| talk(&word, "span"));
        log::debug!("says {word} at log");
        let (first, second) = (word.clone(), word.clone());
        tokio::spawn(async move { talk(&first, "task") }.in_current_span()).await?;
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || span.in_scope(|| talk(&second, "thread"))).await?;
        together.wait().await;
        Ok(())
    }
}

fn performing(
    word: &str,
    level: Option<LogLevel>,
    together: &Arc<Barrier>,
) -> impl Future<Output = ()> {
    let job = rocketjob::NewJob::from(TalkJob { word: word.into() });
    let job = match level {
        Some(level) => job.log_level(level),
        None => job,
    };
    let shared = rocketjob::Shared::new().with(Arc::clone(together));
    async move { drop(job.perform_now_with(shared).await.unwrap()) }
}

fn alone() -> Arc<Barrier> {
    Arc::new(Barrier::new(1))
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test)
}

fn at(lines: &[String], level: &str) -> usize {
    let with = lines
        .iter()
        .filter(|line| line.split_whitespace().any(|part| part == level));
    with.count()
}

#[test]
fn a_job_with_a_level_of_its_own_shows_its_lines_and_no_others() {
    let (_, lines) = telemetry();
    run(async {
        let together = Arc::new(Barrier::new(3));
        let loud = performing("loud", Some(LogLevel::Trace), &together);
        let plain = performing("plain", None, &together);
        let quiet = performing("quiet", Some(LogLevel::Fatal), &together);
        tokio::join!(loud, plain, quiet, async {
            // Beside them, in no job.
            talk("nobody", "test");
        });
    });
    let loud = lines.with("loud");
    for level in ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"] {
        let more = usize::from(level == "DEBUG");
        assert_eq!(at(&loud, level), 4 + more, "{level}: {loud:#?}");
    }
    for place in ["job", "span", "task", "thread"] {
        let place = format!("place=\"{place}\"");
        assert_eq!(loud.iter().filter(|line| line.contains(&place)).count(), 5);
    }
    assert!(loud.iter().all(|line| line.contains("kind=\"TalkJob\"")));
    let plain = lines.with("plain");
    assert_eq!(
        (at(&plain, "WARN"), at(&plain, "ERROR"), plain.len()),
        (4, 4, 8),
        "{plain:#?}"
    );
    let quiet = lines.with("quiet");
    assert_eq!((at(&quiet, "ERROR"), quiet.len()), (4, 4), "{quiet:#?}");
    assert_eq!(lines.with("nobody").len(), 2);
}

/// Both are at the same point when they write, one after the other and many times.
#[test]
fn jobs_that_write_at_once_keep_to_their_levels() {
    let (_, lines) = telemetry();
    run(async {
        let mut jobs = tokio::task::JoinSet::new();
        for number in 0..20 {
            let level = [None, Some(LogLevel::Debug), Some(LogLevel::Error)][number % 3];
            let word = format!("crowd-{number}");
            jobs.spawn(async move {
                tokio::task::spawn_blocking(move || {
                    pollster::block_on(performing(&word, level, &alone()));
                })
                .await
                .unwrap();
            });
        }
        jobs.join_all().await;
    });
    for number in 0..20 {
        let lines = lines.with(&format!("crowd-{number}"));
        let wanted = [8, 17, 4][number % 3];
        assert_eq!(lines.len(), wanted, "{lines:#?}");
    }
}

#[test]
fn the_level_of_one_module_can_be_changed() {
    let (handle, lines) = telemetry();
    let write = |text: &str| {
        tracing::debug!(target: "shop::billing::tax", "{text}");
        tracing::debug!(target: "shop::mail", "{text}");
    };
    write("says before");
    handle
        .set_level(Some("shop::billing"), LogLevel::Debug)
        .unwrap();
    write("says during");
    handle
        .set_level(Some("shop::billing"), LogLevel::Error)
        .unwrap();
    write("says after");
    assert_eq!(lines.with("before"), [""; 0]);
    assert_eq!(lines.with("during").len(), 1);
    assert!(lines.with("during")[0].contains("shop::billing::tax"));
    assert_eq!(lines.with("after"), [""; 0]);
    assert!(handle.directives().contains("shop::billing=error"));
    assert!(handle.directives().contains("warn"));
}

#[test]
fn what_is_no_module_is_refused() {
    let (handle, _) = telemetry();
    for module in ["", "a=debug", "a,b", "[span]", "a b"] {
        let error = handle.set_level(Some(module), LogLevel::Trace).unwrap_err();
        assert!(
            error.to_string().contains("is no path of a module"),
            "{error}"
        );
    }
    let error = handle.reload("shop=loud").unwrap_err();
    assert!(
        error.to_string().contains("`shop=loud` says no log levels"),
        "{error}"
    );
    let error = LogHandle::new("info,=x=").unwrap_err();
    assert!(error.to_string().contains("write, for example"), "{error}");
}

#[test]
fn it_is_set_up_once() {
    telemetry();
    let error = Telemetry::init().unwrap_err();
    assert!(
        error.to_string().contains("set the telemetry up once"),
        "{error}"
    );
}

/// Otherwise every line of code would be looked at for ever after.
#[test]
fn when_such_jobs_have_ended_lines_cost_nothing_again() {
    telemetry();
    run(async {
        performing("costly", Some(LogLevel::Trace), &alone()).await;
        let end = tokio::time::Instant::now() + Duration::from_mins(1);
        // Other tests perform such jobs too, and end.
        while LevelFilter::current() > Level::WARN {
            assert!(
                tokio::time::Instant::now() < end,
                "still {}",
                LevelFilter::current()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
            performing("cheap", None, &alone()).await;
        }
    });
}
