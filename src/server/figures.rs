//! The figures that `STATS` and `INFO` show, as they stand: added up over types and databases, never over entries.

use expcache_core::codec::Encoding;
use expcache_core::stats::spread::Left;
use expcache_core::stats::{Counters, Gauges, Sizes, compression_ratio};

use super::clock;
use super::state::State;
use super::workers;

/// What is said of one type, or of all.
#[derive(Default)]
pub struct Figures {
    /// What there is.
    pub sizes: Sizes,
    /// What was counted.
    pub counters: Counters,
}

impl Figures {
    /// How many times smaller the stored bytes are than the payloads; 1 when there are none.
    pub fn ratio(&self) -> f64 {
        compression_ratio(self.sizes.payload_bytes, self.sizes.stored_bytes)
    }

    fn add(&mut self, other: &Self) {
        self.sizes.add(&other.sizes);
        self.counters.add(&other.counters);
    }
}

fn millionths(share: f64) -> u64 {
    (share * 1e6).round() as u64
}

impl State {
    /// Those of a type.
    pub fn figures_of(&self, type_id: u16) -> Figures {
        let (known, dead, bytes) = (self.types.get(type_id), self.type_dead(type_id), self.type_bytes(type_id));
        let sizes = Sizes {
            entries: known.entries.saturating_sub(dead),
            payload_bytes: bytes.payload,
            stored_bytes: bytes.stored,
        };
        Figures { sizes, counters: known.total(dead) }
    }

    /// Those of all together, and of each type that there is something to say of.
    pub fn all_figures(&self) -> (Figures, Vec<(u16, Figures)>) {
        let mut all = Figures { counters: self.types.retired.clone(), ..Figures::default() };
        let mut types = Vec::new();
        for (id, known) in self.types.iter() {
            let figures = self.figures_of(id);
            all.add(&figures);
            if known.is_in_use() {
                types.push((id, figures));
            }
        }
        (all, types)
    }

    /// Bytes of payloads that are kept in this encoding.
    fn kept_as(&self, encoding: Encoding) -> u64 {
        self.indexes().map(|(_, index)| index.kept_as(encoding)).sum()
    }

    /// How many different tags there are, of each database.
    pub fn tag_count(&self) -> u64 {
        self.indexes().map(|(_, index)| index.tag_count()).sum()
    }

    /// How long the entries of a type, or all, have left.
    pub fn left(&mut self, type_id: Option<u16>) -> Left {
        let (mut left, now_ms) = (Left::default(), clock::unix_ms());
        for (_, index) in self.indexes() {
            for (id, _) in index.types().filter(|(id, _)| type_id.is_none_or(|wanted| wanted == *id)) {
                index.add_left(id, now_ms, &mut left);
            }
        }
        left
    }

    /// How far the number of entries in the index is from the number that the types count.
    pub fn index_disagreements(&self) -> u64 {
        let indexed: u64 = self.indexes().map(|(_, index)| index.len() + index.dead_len()).sum();
        let counted: u64 = self.types.iter().map(|(_, known)| known.entries).sum();
        indexed.abs_diff(counted)
    }

    /// Leases held, keys backing off and names that fences remember, in all databases.
    pub fn lease_counts(&mut self) -> [u64; 3] {
        self.all_leases_mut().fold([0; 3], |[leases, backing_off, fences], of| {
            [leases + of.len() as u64, backing_off + of.backing_off_len() as u64, fences + of.fences_len() as u64]
        })
    }

    /// What there is besides.
    pub fn gauges(&mut self, all: &Figures, types: usize) -> Gauges {
        let [leases_held, keys_backing_off, fences] = self.lease_counts();
        let (now_s, work) = (clock::steady_ms() / 1000, workers::figures());
        Gauges {
            types: types as u64,
            tags: self.tag_count(),
            index_bytes: self.index_bytes(),
            statistics_bytes: (self.types.statistics_bytes() + self.departed.size_bytes()) as u64,
            counting_ms: self.counting_ms(),
            hit_ratio: millionths(all.counters.hit_rate()),
            compression_ratio: millionths(all.ratio()),
            leases_held,
            keys_backing_off,
            fences,
            waiting_clients: self.waits.count() as u64,
            searches: self.searches.count() as u64,
            reclaim_backlog: self.marked_len(),
            index_disagreements: self.index_disagreements(),
            stored_identity_bytes: self.kept_as(Encoding::Identity),
            stored_gzip_bytes: self.kept_as(Encoding::Gzip),
            stored_zstd_bytes: self.kept_as(Encoding::Zstd),
            stored_lz4_bytes: self.kept_as(Encoding::Lz4),
            workers: workers::WORKERS.get() as u64,
            workers_busy: work.busy as u64,
            worker_queue: work.queued as u64,
            settle_queue: (work.aside + work.posted) as u64,
            miss_memory_keys: self.departed.len(),
            miss_memory_reach_ms: self.departed.reach_s(now_s) * 1000,
            ranking: self.ranking.is_under_way().into(),
        }
    }
}
