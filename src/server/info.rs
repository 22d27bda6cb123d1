//! Writes the module's section of `INFO`.

use std::ffi::{CString, c_int};
use std::sync::OnceLock;

use expcache_core::stats::metrics::Metric;
use redis_module::raw;

use super::api::api;
use super::context::Ctx;
use super::guard::guard;

static SHOW: OnceLock<fn(&Report)> = OnceLock::new();

/// Tells the server of the section, which `show` writes.
pub(super) fn register(ctx: &Ctx, show: Option<fn(&Report)>) -> Result<(), String> {
    let Some(show) = show else { return Ok(()) };
    let _ = SHOW.set(show);
    // SAFETY: the context is that of loading the module; the callback lives as long as the module.
    let status = unsafe { api!(RedisModule_RegisterInfoFunc)(ctx.raw(), Some(on_info)) };
    if status == raw::REDISMODULE_OK as c_int {
        Ok(())
    } else {
        Err("the section of INFO could not be registered".into())
    }
}

unsafe extern "C" fn on_info(ctx: *mut raw::RedisModuleInfoCtx, is_crash_report: c_int) {
    // Whoever crashed may have had a cell open.
    if is_crash_report == 0 {
        guard((), || SHOW.get().into_iter().for_each(|show| show(&Report(ctx))));
    }
}

/// More than a line mostly has.
const LINE_BYTES: usize = 1024;

/// An `INFO` in the making.
pub struct Report(*mut raw::RedisModuleInfoCtx);

impl Report {
    /// Begins the section. `false` if it was not asked for.
    pub fn section(&self) -> bool {
        // SAFETY: the report is live; without a name of its own the section has the module's.
        unsafe { api!(RedisModule_InfoAddSection)(self.0, std::ptr::null()) == raw::REDISMODULE_OK as c_int }
    }

    /// A field by itself.
    pub fn field(&self, (metric, value): (&Metric, u64)) {
        self.text(metric.name, metric.unit.show(value));
    }

    /// A line that holds fields. It is written as the server would, which for each field takes several times as long.
    pub fn line(&self, name: &str, fields: impl Iterator<Item = (&'static Metric, u64)>) {
        let mut line = String::with_capacity(LINE_BYTES);
        for (metric, value) in fields {
            let comma = if line.is_empty() { "" } else { "," };
            line.extend([comma, metric.name, "=", &metric.unit.show(value)]);
        }
        self.text(name, line);
    }

    fn text(&self, name: &str, value: String) {
        let [name, value] = [CString::new(name), CString::new(value)].map(Result::unwrap_or_default);
        // SAFETY: the report is live; the server copies the texts.
        unsafe { api!(RedisModule_InfoAddFieldCString)(self.0, name.as_ptr(), value.as_ptr()) };
    }
}
