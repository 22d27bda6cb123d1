//! The module's section of `INFO`: every figure of the table, a line each, and a line for each type.

use std::ffi::{CString, c_int};

use expcache_core::stats::metrics::Metric;
use redis_module::raw;

use super::api::api;
use super::context::Ctx;
use super::guard::guard;
use super::{state, workers};

/// Tells the server of the section.
pub(super) fn register(ctx: &Ctx) -> Result<(), String> {
    // SAFETY: the context is that of loading the module; the callback lives as long as the module.
    let status = unsafe { api!(RedisModule_RegisterInfoFunc)(ctx.raw(), Some(on_info)) };
    if status == raw::REDISMODULE_OK as c_int {
        Ok(())
    } else {
        Err("the section of INFO could not be registered".into())
    }
}

unsafe extern "C" fn on_info(ctx: *mut raw::RedisModuleInfoCtx, is_crash_report: c_int) {
    // Whoever crashed may have had hold of the state.
    if is_crash_report == 0 {
        guard((), || show(&Report(ctx)));
    }
}

/// An `INFO` in the making.
struct Report(*mut raw::RedisModuleInfoCtx);

impl Report {
    /// Begins the section. `false` if it was not asked for.
    fn section(&self) -> bool {
        // SAFETY: the report is live; without a name of its own the section has the module's.
        unsafe { api!(RedisModule_InfoAddSection)(self.0, std::ptr::null()) == raw::REDISMODULE_OK as c_int }
    }

    fn field(&self, (metric, value): (&Metric, u64)) {
        let texts =
            [metric.name.to_string(), metric.unit.show(value)].map(|text| CString::new(text).unwrap_or_default());
        let [name, value] = &texts;
        // SAFETY: the report is live; the server copies the texts.
        unsafe { api!(RedisModule_InfoAddFieldCString)(self.0, name.as_ptr(), value.as_ptr()) };
    }

    /// A line that holds fields.
    fn line(&self, name: &str, fields: impl Iterator<Item = (&'static Metric, u64)>) {
        let name = CString::new(name).unwrap_or_default();
        // SAFETY: the report is live; the server copies the text.
        unsafe { api!(RedisModule_InfoBeginDictField)(self.0, name.as_ptr()) };
        fields.for_each(|field| self.field(field));
        // SAFETY: the line was begun.
        unsafe { api!(RedisModule_InfoEndDictField)(self.0) };
    }
}

fn show(report: &Report) {
    if !report.section() {
        return;
    }
    let (all, types, gauges) = state::with(|s| {
        let (all, types) = s.all_figures();
        let gauges = s.gauges(&all, types.len());
        let named = types.into_iter().map(|(id, figures)| (escaped(&s.types.get(id).name), figures));
        (all, named.collect::<Vec<_>>(), gauges)
    });
    let done = workers::figures().done;
    let overall = all.counters.iter().chain(all.sizes.iter()).chain(gauges.iter()).chain(done.iter());
    overall.for_each(|field| report.field(field));
    for (name, figures) in &types {
        report.line(&format!("type_{name}"), figures.counters.iter().chain(figures.sizes.iter()));
    }
}

/// A type's name in a form that no line breaks at.
fn escaped(name: &[u8]) -> String {
    let one = |byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => char::from(*byte).to_string(),
        other => format!("%{other:02x}"),
    };
    name.iter().map(one).collect()
}
