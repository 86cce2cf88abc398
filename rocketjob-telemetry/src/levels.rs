//! The levels in force: those that were set, and those of the jobs that are being performed.
//!
//! `tracing` remembers for each line of code whether anybody wants what it says, so that a line that
//! nobody wants costs one comparison. As long as no job with a level of its own is performed, that
//! holds here too. While one is, each line must be looked at in its place (`raised`), since it may be
//! that job's; so what was remembered is thrown away when it begins, and again some time after the
//! last of them has ended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use rocketjob_core::{Error, LogLevel, Result};
use tracing::{callsite, level_filters::LevelFilter};
use tracing_log::AsLog as _;
use tracing_subscriber::{EnvFilter, filter::Directive};

/// For so long lines are looked at in their places, at least: many short jobs with levels of their
/// own must not throw away what was remembered again and again.
const RAISED: Duration = Duration::from_secs(1);

/// All levels, for [`Levels::raised`].
const ALL: [LevelFilter; 6] = [
    LevelFilter::OFF,
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

#[derive(Debug)]
pub(crate) struct Levels {
    /// What counts outside of jobs with their own levels.
    base: RwLock<Arc<EnvFilter>>,
    /// Up to which level lines are looked at in their places, as an index of [`ALL`]; 0 while no
    /// line is.
    raised: AtomicU8,
    /// How many spans of jobs with their own levels are open.
    pub(crate) spans: AtomicUsize,
    /// Whether the lines of the crate `log` come here.
    pub(crate) hears_log: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What the program began with.
    directives: String,
    /// What was changed since: of one module, or of all.
    changes: Vec<(Option<String>, LevelFilter)>,
    /// How many jobs with their own levels are in the hands of workers.
    jobs: usize,
    raised_at: Instant,
}

impl Levels {
    pub(crate) fn new(directives: &str) -> Result<Self> {
        Ok(Self {
            base: RwLock::new(Arc::new(build(directives, &[])?)),
            raised: AtomicU8::new(0),
            spans: AtomicUsize::new(0),
            hears_log: AtomicBool::new(false),
            state: Mutex::new(State {
                directives: directives.to_owned(),
                changes: Vec::new(),
                jobs: 0,
                raised_at: Instant::now(),
            }),
        })
    }

    /// What counts outside of jobs with their own levels. No lock is held: what formats a field of a
    /// span may write lines itself, and change levels.
    pub(crate) fn base(&self) -> Arc<EnvFilter> {
        Arc::clone(&self.base.read())
    }

    /// Begins anew with other directives.
    pub(crate) fn reload(&self, directives: &str) -> Result<()> {
        let base = build(directives, &[])?;
        let mut state = self.state.lock();
        directives.clone_into(&mut state.directives);
        state.changes.clear();
        *self.base.write() = Arc::new(base);
        self.forget_interest();
        Ok(())
    }

    pub(crate) fn set(&self, module: Option<&str>, level: LogLevel) -> Result<()> {
        if let Some(module) = module {
            check_module(module)?;
        }
        let mut state = self.state.lock();
        let mut changes = state.changes.clone();
        changes.retain(|(changed, _)| changed.as_deref() != module);
        changes.push((module.map(str::to_owned), level_filter(level)));
        let base = build(&state.directives, &changes)?;
        state.changes = changes;
        *self.base.write() = Arc::new(base);
        self.forget_interest();
        Ok(())
    }

    /// Up to which level lines are looked at in their places; `OFF` while no line is.
    pub(crate) fn raised(&self) -> LevelFilter {
        ALL[usize::from(self.raised.load(Ordering::Acquire)).min(ALL.len() - 1)]
    }

    pub(crate) fn job_begins(&self, level: Option<LogLevel>) {
        let Some(level) = level else {
            return self.calm_down();
        };
        let wanted = index(level);
        let mut state = self.state.lock();
        state.jobs += 1;
        if self.raised.load(Ordering::Acquire) < wanted {
            state.raised_at = Instant::now();
            self.raised.store(wanted, Ordering::Release);
            self.forget_interest();
        }
    }

    pub(crate) fn job_ended(&self, level: Option<LogLevel>) {
        if level.is_some() {
            let mut state = self.state.lock();
            state.jobs = state.jobs.saturating_sub(1);
        }
        self.calm_down();
    }

    /// Lets lines be remembered again, if no job with its own level has been there for a while.
    fn calm_down(&self) {
        if self.raised.load(Ordering::Acquire) == 0 {
            return;
        }
        let state = self.state.lock();
        let over = state.jobs == 0 && self.spans.load(Ordering::Acquire) == 0;
        if over && state.raised_at.elapsed() >= RAISED && self.raised.swap(0, Ordering::AcqRel) > 0
        {
            self.forget_interest();
        }
    }

    /// Lets `tracing` ask anew which lines are wanted. Only to be called outside of its calls to the
    /// subscriber, and while the state is locked, so that the last change is asked for last.
    fn forget_interest(&self) {
        callsite::rebuild_interest_cache();
        if self.hears_log.load(Ordering::Acquire) {
            log::set_max_level(LevelFilter::current().as_log());
        }
    }
}

fn build(directives: &str, changes: &[(Option<String>, LevelFilter)]) -> Result<EnvFilter> {
    let filter = EnvFilter::builder().parse(directives).map_err(|error| {
        Error::configuration(format!(
            "`{directives}` says no log levels ({error}): write, for example, `info` or `warn,shop::billing=debug`"
        ))
    })?;
    changes.iter().try_fold(filter, |filter, (module, level)| {
        let directive: Directive = match module {
            None => (*level).into(),
            Some(module) => format!("{module}={level}").parse().map_err(|error| {
                Error::configuration(format!("`{module}` is no path of a module: {error}"))
            })?,
        };
        Ok(filter.add_directive(directive))
    })
}

/// What is no path would be read as something else by the parser of directives.
fn check_module(module: &str) -> Result<()> {
    let is_path = !module.is_empty()
        && module
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '-' | '.'));
    if is_path {
        return Ok(());
    }
    Err(Error::configuration(format!(
        "`{}` is no path of a module: write one like `shop::billing`",
        module.escape_debug()
    )))
}

/// From which level on lines are kept.
pub(crate) fn level_filter(level: LogLevel) -> LevelFilter {
    ALL[usize::from(index(level))]
}

fn index(level: LogLevel) -> u8 {
    match level {
        LogLevel::Fatal | LogLevel::Error => 1,
        LogLevel::Warn => 2,
        LogLevel::Info => 3,
        LogLevel::Debug => 4,
        LogLevel::Trace => 5,
    }
}
