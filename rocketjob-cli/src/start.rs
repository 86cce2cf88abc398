//! `start`: a server.

use std::{pin::pin, time::Duration};

use futures_util::FutureExt;
use rocketjob_core::{Definition, Error, Filter, Registry, Store};
use rocketjob_metrics::{Endpoint, Exporter};
use rocketjob_worker::{Server, terminated};

use crate::{arguments::StartArguments, failure::Failure, pid_file::PidFile};

/// How long a start that is under way may take to come to its end when the process is to end: it
/// may wait for the name of another server.
const START_GRACE: Duration = Duration::from_secs(5);

/// Runs a server until it is told to end.
pub(crate) async fn start(
    store: &Store,
    mut registry: Registry,
    arguments: &StartArguments,
) -> Result<(), Failure> {
    if registry.is_empty() {
        return Err(Failure::usage(Error::NoKinds.to_string()));
    }
    restrict(&mut registry, &arguments.include, &arguments.exclude)?;
    let workers = usize::try_from(arguments.workers).unwrap_or(usize::MAX);
    let mut builder = Server::builder(store).only(registry).workers(workers);
    if let Some(name) = &arguments.name {
        builder = builder.name(name);
    }
    if let Some(condition) = &arguments.condition {
        builder = builder.filter(Filter::parse(condition, store.now())?);
    }
    let pid_file = match &arguments.pid_file {
        Some(path) => Some(PidFile::create(path)?),
        None => None,
    };
    // From now on a signal ends the server in an orderly way, also before it is there.
    let mut asked = pin!(terminated());
    let mut starting = pin!(builder.start());
    let server = tokio::select! {
        biased;
        () = &mut asked => match tokio::time::timeout(START_GRACE, starting).await {
            Ok(server) => {
                server?.stop_now().await?;
                return Ok(());
            }
            Err(_) => return Err(Failure::interrupted("interrupted before the server had started")),
        },
        server = &mut starting => server?,
    };
    let endpoint = match &arguments.http {
        Some(address) => match serve(&server, address).await {
            Ok(endpoint) => Some(endpoint),
            Err(failure) => {
                server.stop_now().await?;
                return Err(failure);
            }
        },
        None => None,
    };
    let stopped = if asked.now_or_never().is_some() {
        server.stop_now().await?
    } else {
        server.run_until_terminated().await?
    };
    if let Some(endpoint) = endpoint {
        endpoint.stop().await;
    }
    if let Some(reason) = stopped.recycle {
        tracing::error!(reason, "starting anew");
        drop(pid_file);
        let error = rocketjob_worker::recycle();
        return Err(Failure::other(format!(
            "this process must be started anew ({reason}), and that failed: {error}"
        )));
    }
    Ok(())
}

async fn serve(server: &Server, address: &str) -> Result<Endpoint, Failure> {
    let endpoint = Exporter::of(server).serve(address).await?;
    tracing::info!(address = %endpoint.address(), "metrics, health and readiness over HTTP");
    Ok(endpoint)
}

/// Leaves the kinds of which the name, or an alias, fits.
fn restrict(
    registry: &mut Registry,
    include: &[String],
    exclude: &[String],
) -> Result<(), Failure> {
    let known = registry.kinds().join("`, `");
    let (included, excluded) = (patterns(include)?, patterns(exclude)?);
    let fits = |definition: &Definition, pattern: &glob::Pattern| {
        definition.names().any(|kind| pattern.matches(kind))
    };
    for pattern in included.iter().chain(&excluded) {
        if !registry.kinds().iter().any(|kind| pattern.matches(kind)) {
            return Err(Failure::nothing(format!(
                "no kind fits the pattern `{pattern}`: there are `{known}`"
            )));
        }
    }
    registry.retain(|definition| {
        let any =
            |patterns: &[glob::Pattern]| patterns.iter().any(|pattern| fits(definition, pattern));
        (included.is_empty() || any(&included)) && !any(&excluded)
    });
    if registry.is_empty() {
        return Err(Failure::nothing(
            "--include and --exclude leave no kind to perform",
        ));
    }
    Ok(())
}

fn patterns(texts: &[String]) -> Result<Vec<glob::Pattern>, Failure> {
    let each = texts.iter().map(|text| {
        glob::Pattern::new(text).map_err(|error| {
            Failure::usage(format!("the pattern `{text}` makes no sense: {error}"))
        })
    });
    each.collect()
}
