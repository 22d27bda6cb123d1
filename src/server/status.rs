//! Facts about the server that are asked often and change seldom. None is older than a beat of the server's clock.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use expcache_core::Result;

use super::context::Ctx;

static IS_SAVING: AtomicBool = AtomicBool::new(false);
static IS_REPLICA: AtomicBool = AtomicBool::new(false);
static IS_LOADING: AtomicBool = AtomicBool::new(false);
static ACCEPTS_WRITES: AtomicBool = AtomicBool::new(false);
static IS_HEARD: AtomicU8 = AtomicU8::new(UNKNOWN);

const UNKNOWN: u8 = 0;
const SILENT: u8 = 1;
const HEARD: u8 = 2;

/// Is a child of the server saving? Then nothing is written that is merely good to know: each touched page would be copied.
pub fn is_saving() -> bool {
    IS_SAVING.load(Ordering::Relaxed)
}

pub(super) fn set_saving(is_saving: bool) {
    IS_SAVING.store(is_saving, Ordering::Relaxed);
}

/// Is this server a replica?
pub fn is_replica() -> bool {
    IS_REPLICA.load(Ordering::Relaxed)
}

pub(super) fn set_replica(is_replica: bool) {
    IS_REPLICA.store(is_replica, Ordering::Relaxed);
}

/// Is the server loading its data?
pub fn is_loading() -> bool {
    IS_LOADING.load(Ordering::Relaxed)
}

pub(super) fn set_loading(is_loading: bool) {
    IS_LOADING.store(is_loading, Ordering::Relaxed);
}

/// Whether anybody hears what is replicated has to be asked again.
pub(super) fn forget_who_hears() {
    IS_HEARD.store(UNKNOWN, Ordering::Relaxed);
}

/// Whether writes are accepted has to be asked again.
pub(super) fn forget_what_is_accepted() {
    ACCEPTS_WRITES.store(false, Ordering::Relaxed);
}

impl Ctx {
    /// Refuses what the server would refuse a command that writes. That it accepts writes is known until the next beat, as asking
    /// costs more than a small write.
    pub fn check_writes(&self) -> Result<()> {
        if !ACCEPTS_WRITES.load(Ordering::Relaxed) {
            self.ask_for_write()?;
            ACCEPTS_WRITES.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Does anybody get what is replicated: a replica, now or from the backlog, or the append-only file? While nobody does,
    /// the resolved form of a command need not be made: [`Ctx::replicate_verbatim`] then only marks the data as changed.
    ///
    /// Asking costs some microseconds, so the answer is kept until the next beat of the server's clock, and at the most until the
    /// server forks, loads or changes its role: one of these comes before anybody starts to listen. Should somebody get the
    /// command as it came all the same, it makes the same entry but for the time it takes to arrive. A payload that was put together of pieces is not
    /// in its command: there nothing but that order helps.
    pub fn is_heard(&self) -> bool {
        match IS_HEARD.load(Ordering::Relaxed) {
            UNKNOWN => (),
            known => return known == HEARD,
        }
        let is = |section, field, silent: &str| self.server_info(section, field).as_deref() == Some(silent);
        let silent = is(c"replication", c"connected_slaves", "0")
            && is(c"replication", c"repl_backlog_active", "0")
            && is(c"persistence", c"aof_enabled", "0")
            && is(c"cluster", c"cluster_enabled", "0");
        IS_HEARD.store(if silent { SILENT } else { HEARD }, Ordering::Relaxed);
        !silent
    }
}
