//! How far a worker is: told to all of its tasks, and each task that is left is counted by that.

use tokio::sync::watch;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Running,
    /// Nothing is begun any more.
    Stopping,
    /// What is under way is given up.
    Ended,
}

/// Returns when it is so far, or when nobody is left who would say so.
pub(super) async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    let _ = phase.wait_for(|phase| *phase >= wanted).await;
}
