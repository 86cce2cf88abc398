//! The signals that end a server.

/// Returns when the process is asked to end: by SIGTERM or SIGINT, elsewhere by Ctrl-C.
///
/// From the first call on these signals no longer end the process by themselves.
pub async fn terminated() {
    Signals::new().next().await;
}

/// Counts the requests to end.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    signals: Option<(tokio::signal::unix::Signal, tokio::signal::unix::Signal)>,
}

impl Signals {
    /// Listens from now on: what comes between two calls of [`next`](Self::next) is not lost.
    pub(crate) fn new() -> Self {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let both = signal(SignalKind::terminate())
                .and_then(|terminate| Ok((terminate, signal(SignalKind::interrupt())?)));
            let signals = both
                .inspect_err(|error| {
                    tracing::error!(%error, "cannot listen for signals: stop this process by other means");
                })
                .ok();
            Self { signals }
        }
        #[cfg(not(unix))]
        Self {}
    }

    /// Returns at the next request.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        match &mut self.signals {
            Some((terminate, interrupt)) => {
                tokio::select! {
                    biased;
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            None => std::future::pending().await,
        }
        #[cfg(not(unix))]
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "cannot listen for Ctrl-C: stop this process by other means");
            std::future::pending::<()>().await;
        }
    }
}

/// Starts the program of this process anew in its place, with the same arguments: the process keeps
/// its id, and all its threads and memory go. Returns only when that is not possible, with the
/// reason; then end the process, so that whoever watches over it starts it again.
///
/// For a server whose [`Stopped`](crate::Stopped) says that its process is to be recycled.
#[must_use = "it returns only when it failed"]
pub fn recycle() -> std::io::Error {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        match std::env::current_exe() {
            Ok(program) => std::process::Command::new(program)
                .args(std::env::args_os().skip(1))
                .exec(),
            Err(error) => error,
        }
    }
    #[cfg(not(unix))]
    std::io::Error::other("a process cannot be replaced on this system")
}
