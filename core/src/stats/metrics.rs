//! The one table of figures: what each is called, what it says, in which unit.
//!
//! Here a counter is named once. Everything that shows it, adds it up, keeps it by the minute or documents it goes over the
//! table. Names are those of Prometheus: `_total` for what only grows, the unit before it.

/// How a figure moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It grows, until counting starts anew.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// What a figure is kept in, which is not always what it is shown in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of something.
    Count,
    /// Bytes.
    Bytes,
    /// Milliseconds, shown as seconds.
    Millis,
    /// Millionths, shown as a share.
    Millionths,
}

impl Unit {
    /// A figure as text, in the unit that its name says.
    pub fn show(self, value: u64) -> String {
        match self {
            Self::Count | Self::Bytes => value.to_string(),
            Self::Millis => format!("{}.{:03}", value / 1000, value % 1000),
            Self::Millionths => format!("{}.{:06}", value / 1_000_000, value % 1_000_000),
        }
    }
}

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name in this house.
    pub field: &'static str,
    /// Its name in `INFO`, where `expcache_` stands before it.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// What it is kept in.
    pub unit: Unit,
    /// What it says.
    pub help: &'static str,
}

/// A set of figures: a field for each, and the table of them in the same order.
macro_rules! figures {
    ($(#[$of:meta])* $name:ident, $kind:ident { $(#[doc = $help:literal] $field:ident: $metric:literal, $unit:ident;)+ }) => {
        $(#[$of])*
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct $name {
            $(#[doc = $help] pub $field: u64,)+
        }

        impl $name {
            /// All of them.
            pub const METRICS: [Metric; [$($metric),+].len()] = [
                $(Metric { field: stringify!($field), name: $metric, kind: Kind::$kind, unit: Unit::$unit, help: $help.trim_ascii() },)+
            ];

            /// Their values, in the order of the table.
            pub fn values(&self) -> [u64; Self::METRICS.len()] {
                [$(self.$field,)+]
            }

            /// What has these values.
            pub fn from_values([$($field,)+]: [u64; Self::METRICS.len()]) -> Self {
                Self { $($field,)+ }
            }

            /// Each with its value.
            pub fn iter(&self) -> impl Iterator<Item = (&'static Metric, u64)> {
                Self::METRICS.iter().zip(self.values())
            }

            /// Both together.
            pub fn add(&mut self, other: &Self) {
                $(self.$field = self.$field.saturating_add(other.$field);)+
            }
        }
    };
}

/// Calls a macro with the table of counters: what is counted, and then what is added up of costs. A counter stands here and nowhere
/// else; the struct, `INFO`, `STATS` and a client's struct are made of it. In `STATS` it has its field's name, with hyphens.
#[macro_export]
macro_rules! with_counters {
    ($then:ident) => {
        $then! {
            counts {
                /// Payloads handed out fresh, or known by the client to be so.
                hits: "hits_total", Count;
                /// Payloads handed out stale.
                stale_hits: "stale_hits_total", Count;
                /// Reads that handed out nothing.
                misses: "misses_total", Count;
                /// Misses of keys that never were, or of which nothing is remembered.
                misses_cold: "misses_cold_total", Count;
                /// Misses of entries whose time was over.
                misses_expired: "misses_expired_total", Count;
                /// Misses of entries that were invalidated.
                misses_invalidated: "misses_invalidated_total", Count;
                /// Values stored.
                sets: "sets_total", Count;
                /// Entries deleted by a command.
                deletes: "deletes_total", Count;
                /// Entries that the server expired.
                expired: "expired_total", Count;
                /// Entries that made room: for `maxmemory` or for their type's limits.
                evicted: "evicted_total", Count;
                /// Entries that an invalidation made go, or stale.
                invalidated: "invalidated_total", Count;
                /// Values refused by their type's policy.
                rejected: "rejected_total", Count;
                /// Entries found to differ from their hash.
                corrupt: "corrupt_total", Count;
                /// Leases given out.
                leases: "leases_total", Count;
                /// Values refused because what they may have been computed from was invalidated.
                fenced: "fenced_total", Count;
                /// Reads that waited for another's production.
                waits: "waits_total", Count;
                /// Productions that failed, as their producers said.
                failures: "failures_total", Count;
                /// Values stored by holders of a lease that `WARM` gave out.
                warmed: "warmed_total", Count;
                /// Such values that were read before they went.
                warmed_hits: "warmed_hits_total", Count;
            }
            costs {
                /// What producing the stored values took, together, where that is known.
                produce_ms: "produce_seconds_total", Millis;
                /// How many stored values it is known of what producing them took.
                productions: "productions_total", Count;
                /// What producing again all that was handed out would have taken.
                saved_ms: "saved_seconds_total", Millis;
            }
        }
    };
}

macro_rules! counters {
    (counts { $($count:tt)+ } costs { $($cost:tt)+ }) => {
        figures! {
            /// What was counted since the start or the last reset. Saturates rather than wraps; never persisted, never replicated.
            Counters, Counter { $($count)+ $($cost)+ }
        }
    };
}

with_counters!(counters);

figures! {
    /// What there is of a type, or of all.
    Sizes, Gauge {
        /// Entries that there are; those that an invalidation made dead are not.
        entries: "entries", Count;
        /// Length of the payloads.
        payload_bytes: "payload_bytes", Bytes;
        /// Length of what these are kept in.
        stored_bytes: "stored_bytes", Bytes;
    }
}

figures! {
    /// What there is besides, of the whole server.
    Gauges, Gauge {
        /// Types that have a policy or an entry.
        types: "types", Count;
        /// Different tags on the entries, of each database.
        tags: "tags", Count;
        /// Memory of the index: names, tags, types, rankings.
        index_bytes: "index_bytes", Bytes;
        /// Memory of what is counted by the minute and by the hour, and of why keys went.
        statistics_bytes: "statistics_bytes", Bytes;
        /// Memory of the audit log.
        audit_bytes: "audit_bytes", Bytes;
        /// For how long has been counted: since the start or the last reset.
        counting_ms: "counting_seconds", Millis;
        /// The share of reads that were hits, since the start or the last reset.
        hit_ratio: "hit_ratio", Millionths;
        /// How many times smaller the stored bytes are than the payloads.
        compression_ratio: "compression_ratio", Millionths;
        /// Leases held now.
        leases_held: "leases_held", Count;
        /// Memory of the pieces of payloads that holders of leases have sent and not stored yet.
        parts_bytes: "parts_bytes", Bytes;
        /// Keys for which no lease is given, because a production failed.
        keys_backing_off: "keys_backing_off", Count;
        /// Names that are remembered of invalidations because a lease is held.
        fences: "fences", Count;
        /// Clients that wait for another's production.
        waiting_clients: "waiting_clients", Count;
        /// Searches for names that go on in slices.
        searches: "searches", Count;
        /// Entries whose invalidation is still to be carried out in the keyspace.
        reclaim_backlog: "reclaim_backlog", Count;
        /// How far the number of entries in the index is from the number that the types count; anything but 0 is a fault.
        index_disagreements: "index_disagreements", Count;
        /// Bytes of payloads that are kept as they came.
        stored_identity_bytes: "stored_identity_bytes", Bytes;
        /// Bytes of payloads that are kept as gzip.
        stored_gzip_bytes: "stored_gzip_bytes", Bytes;
        /// Bytes of payloads that are kept as zstd.
        stored_zstd_bytes: "stored_zstd_bytes", Bytes;
        /// Bytes of payloads that are kept as LZ4.
        stored_lz4_bytes: "stored_lz4_bytes", Bytes;
        /// Threads for large payloads that there may be.
        workers: "workers", Count;
        /// Those of them that are at work.
        workers_busy: "workers_busy", Count;
        /// Pieces of work that clients wait for and none of them has begun.
        worker_queue: "worker_queue", Count;
        /// Payloads that wait to be compressed, and what they did that waits for the main thread to use it.
        settle_queue: "settle_queue", Count;
        /// Keys of which is remembered why they went.
        miss_memory_keys: "miss_memory_keys", Count;
        /// How far back that memory is whole: older misses of a known cause may count as cold.
        miss_memory_reach_ms: "miss_memory_reach_seconds", Millis;
        /// Memory of what is followed to give advice on.
        advice_bytes: "advice_bytes", Bytes;
        /// Keys that are kept in mind to be warmed.
        warm_keys: "warm_keys", Count;
        /// Memory of these keys.
        warm_bytes: "warm_bytes", Bytes;
        /// Those of them that are due to be produced.
        warm_due: "warm_due", Count;
        /// Is a ranking being completed in the background after it lost entries? 1 if so.
        ranking: "ranking", Count;
        /// Rules that there are.
        rules: "rules", Count;
    }
}

figures! {
    /// What was done to large payloads since the start.
    Work, Counter {
        /// Pieces of work that worker threads did, since the start.
        aside: "worker_jobs_total", Count;
        /// Pieces of work on large payloads that the main thread did itself, in a transaction or for want of workers, since the start.
        here: "worker_inline_total", Count;
    }
}

figures! {
    /// What rules did since the start or the last reset.
    RuleCounts, Counter {
        /// How often a rule was carried out.
        fired: "rules_fired_total", Count;
        /// Entries that rules made go, or stale.
        entries: "rules_entries_total", Count;
        /// How often a rule could not be carried out, because a name in it stood for nothing or came to something too long.
        errors: "rules_errors_total", Count;
    }
}

impl Counters {
    /// Reads, whatever they found.
    pub fn reads(&self) -> u64 {
        self.hits + self.stale_hits + self.misses
    }

    /// The share of reads that handed out a fresh payload, 0–1; 0 before the first read.
    pub fn hit_rate(&self) -> f64 {
        share(self.hits, self.reads())
    }

    /// What `STATS` shows of them, in its order: each under its field's name, the hit rate behind the misses, and of the costs of
    /// production their mean.
    pub fn in_stats(&self) -> Vec<(String, Shown)> {
        let mut shown = Vec::with_capacity(Self::METRICS.len());
        for (metric, value) in self.iter() {
            let value = match metric.field {
                "productions" => continue,
                "produce_ms" => self.mean_produce_ms(),
                // What was thought to be invalidated and had expired is a step down, which may be all there is in a window.
                "invalidated" => value.cast_signed().max(0).cast_unsigned(),
                _ => value,
            };
            shown.push((metric.field.replace('_', "-"), Shown::Count(value)));
            if metric.field == "misses_invalidated" {
                shown.push(("hit-rate".to_owned(), Shown::Share(self.hit_rate())));
            }
        }
        shown
    }

    /// Counts a value that was stored, and what producing it took if that is known.
    pub fn count_set(&mut self, cost_ms: Option<u64>) {
        self.sets += 1;
        if let Some(cost_ms) = cost_ms {
            self.produce_ms = self.produce_ms.saturating_add(cost_ms);
            self.productions += 1;
        }
    }

    /// What producing one value takes on average, ms; 0 before the first.
    pub fn mean_produce_ms(&self) -> u64 {
        self.produce_ms.checked_div(self.productions).unwrap_or(0)
    }

    /// How the counters have moved since they were `earlier`. Wraps: what is taken back (an entry thought to be invalidated
    /// had expired) is a step down, and adds up like the others.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let (mut values, earlier) = (self.values(), earlier.values());
        values.iter_mut().zip(earlier).for_each(|(value, earlier)| *value = value.wrapping_sub(earlier));
        Self::from_values(values)
    }
}

/// A figure of `STATS`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shown {
    /// A number of something.
    Count(u64),
    /// A share, 0–1.
    Share(f64),
}

/// A part of a whole; 0 of nothing.
pub fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// How many times smaller the stored bytes are than the payloads; 1 when there are none.
pub fn compression_ratio(payload_bytes: u64, stored_bytes: u64) -> f64 {
    if stored_bytes == 0 { 1.0 } else { share(payload_bytes, stored_bytes) }
}

/// The figures that are shown overall and for each type.
pub fn of_types() -> impl Iterator<Item = &'static Metric> {
    Counters::METRICS.iter().chain(&Sizes::METRICS)
}

/// The figures that are shown overall only.
pub fn overall() -> impl Iterator<Item = &'static Metric> {
    Gauges::METRICS.iter().chain(&Work::METRICS).chain(&RuleCounts::METRICS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_such_as_prometheus_has() {
        let mut names: Vec<&str> = of_types().chain(overall()).map(|metric| metric.name).collect();
        for metric in of_types().chain(overall()) {
            assert!(
                metric.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{}",
                metric.name
            );
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            let suffix = match metric.unit {
                Unit::Count => "",
                Unit::Bytes => "_bytes",
                Unit::Millis => "_seconds",
                Unit::Millionths => "_ratio",
            };
            assert!(metric.name.trim_end_matches("_total").ends_with(suffix), "{}", metric.name);
            assert!(metric.help.len() > 10 && metric.help.ends_with('.'), "{}", metric.help);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn statistics_show_each_counter_under_its_name() {
        let counted = Counters {
            hits: 3,
            misses: 1,
            produce_ms: 40,
            productions: 2,
            invalidated: u64::MAX,
            ..Counters::default()
        };
        let shown = counted.in_stats();
        let names: Vec<&str> = shown.iter().map(|(name, _)| name.as_str()).collect();
        let known = "hits stale-hits misses misses-cold misses-expired misses-invalidated hit-rate sets deletes expired evicted \
                     invalidated rejected corrupt leases fenced waits failures warmed warmed-hits produce-ms saved-ms";
        assert_eq!(names.join(" "), known);
        let of = |wanted: &str| shown.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
        assert_eq!(of("hit-rate"), Some(Shown::Share(0.75)));
        assert_eq!((of("produce-ms"), of("invalidated")), (Some(Shown::Count(20)), Some(Shown::Count(0))));
    }

    #[test]
    fn figures_are_shown_in_the_unit_of_their_name() {
        assert_eq!(Unit::Count.show(7), "7");
        assert_eq!(Unit::Millis.show(61_007), "61.007");
        assert_eq!(Unit::Millionths.show(625_000), "0.625000");
    }

    #[test]
    fn values_are_those_of_the_fields() {
        let one = Counters { hits: 3, misses: 1, saved_ms: 40, ..Counters::default() };
        assert_eq!(Counters::from_values(one.values()), one);
        assert_eq!(one.iter().find(|(metric, _)| metric.name == "saved_seconds_total").map(|(_, ms)| ms), Some(40));
        let mut two = one.clone();
        two.add(&one);
        assert_eq!((two.hits, two.since(&one)), (6, one.clone()));
        assert_eq!((one.hit_rate(), Counters::default().hit_rate()), (0.75, 0.0));
    }
}
