//! Ctrl-C and SIGTERM, for commands that can end half-way.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Tells whether the process was asked to end. From its making on, that no longer ends it by itself.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub(crate) fn listen() -> Self {
        let asked = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&asked);
        tokio::spawn(async move {
            rocketjob_worker::terminated().await;
            flag.store(true, Ordering::Relaxed);
        });
        Self(asked)
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
