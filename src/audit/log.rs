//! The log of this node, and its settings.

use expcache_core::audit::{Action, Actor, AuditLog};
use expcache_core::grammar::is;
use expcache_core::{Error, Result};
use sha2::{Digest, Sha256};

use crate::server::main_thread::MainThread;
use crate::server::setting::Setting;
use crate::server::{clock, discard};

/// The most memory of the log; 0: there is none.
pub static AUDIT_MEMORY: Setting = Setting::size(c"audit-memory", 8 << 20, 0..=1 << 30);
/// How keys stand in the log.
pub static AUDIT_KEYS: Setting = Setting::text(c"audit-keys", PLAIN, check_keys);

const PLAIN: &std::ffi::CStr = c"plain";
const HASHED: &str = "hashed";

fn check_keys(mode: &[u8]) -> Result<()> {
    let is_one = is(mode, "plain") || is(mode, HASHED);
    if is_one { Ok(()) } else { Err(Error::invalid("keys are audited plain or hashed")) }
}

/// The log, and what keys are hashed with: the node makes it when it starts, and tells nobody.
struct Log {
    lines: AuditLog,
    memory: usize,
    salt: u128,
}

impl Default for Log {
    /// Numbers go on from the time of the day in µs: after a restart they are greater than any before, as no server writes a million lines
    /// a second for as long as it runs.
    fn default() -> Self {
        Self { lines: AuditLog::new(clock::unix_us()), memory: 0, salt: clock::secret() }
    }
}

static LOG: MainThread<Log> = MainThread::new();

impl Log {
    /// Gives it the memory that is configured.
    #[inline]
    fn fit(&mut self) {
        let memory = AUDIT_MEMORY.as_usize();
        if memory != self.memory {
            self.resize(memory);
        }
    }

    /// A thread frees what it gives up.
    #[cold]
    fn resize(&mut self, memory: usize) {
        self.memory = memory;
        let given_up = self.lines.resize(memory);
        if !given_up.is_empty() {
            discard::on_thread(given_up);
        }
    }
}

/// What stands for a key that nobody is to read in the log: of its hash with a salt that nobody outside the server knows, so many bytes
/// in hexadecimal.
fn conceal(key: &[u8], salt: u128) -> [u8; 32] {
    let hash = Sha256::new().chain_update(salt.to_le_bytes()).chain_update(key).finalize();
    let mut text = [0; 32];
    // Sixteen bytes fit 32 digits.
    let _ = hex::encode_to_slice(hash.get(..16).unwrap_or_default(), &mut text);
    text
}

/// Is there a log?
pub fn is_on() -> bool {
    AUDIT_MEMORY.get() > 0
}

/// Opens the log. `work` must not call the server.
pub fn with<R>(work: impl FnOnce(&AuditLog) -> R) -> R {
    LOG.with(|log| {
        log.fit();
        work(&log.lines)
    })
}

/// See [`Log::fit`].
pub fn fit() {
    LOG.with(Log::fit);
}

/// Bytes of memory that the log takes.
pub fn size_bytes() -> usize {
    LOG.with(|log| log.lines.size_bytes())
}

/// Adds a line.
pub fn push(actor: &Actor<'_>, action: &Action<'_>) {
    let is_hashed = action.key.is_some() && AUDIT_KEYS.with_text(|mode| is(mode, HASHED));
    let now_ms = clock::unix_ms_coarse();
    LOG.with(|log| {
        log.fit();
        match action.key.filter(|_| is_hashed) {
            None => log.lines.push(now_ms, actor, action),
            Some(key) => {
                let concealed = conceal(key, log.salt);
                log.lines.push(now_ms, actor, &Action { key: Some(&concealed), ..*action });
            }
        }
    });
}
