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

/// More than a line mostly has.
const LINE_BYTES: usize = 1024;

/// An `INFO` in the making.
struct Report(*mut raw::RedisModuleInfoCtx);

impl Report {
    /// Begins the section. `false` if it was not asked for.
    fn section(&self) -> bool {
        // SAFETY: the report is live; without a name of its own the section has the module's.
        unsafe { api!(RedisModule_InfoAddSection)(self.0, std::ptr::null()) == raw::REDISMODULE_OK as c_int }
    }

    fn field(&self, (metric, value): (&Metric, u64)) {
        self.text(metric.name, metric.unit.show(value));
    }

    /// A line that holds fields. It is written as the server would, which for each field takes several times as long.
    fn line(&self, name: &str, fields: impl Iterator<Item = (&'static Metric, u64)>) {
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
