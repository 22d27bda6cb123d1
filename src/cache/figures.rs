//! The figures that `STATS` and `INFO` show, as they stand: added up over types and databases, never over entries.

use expcache_core::codec::Encoding;
use expcache_core::stats::spread::Left;
use expcache_core::stats::{Counters, Gauges, Sizes, compression_ratio};

use super::{Cache, with};
use crate::server::clock;

/// The figures of one type, or of all.
#[derive(Default)]
pub struct Figures {
    /// Entries and bytes now.
    pub sizes: Sizes,
    /// Counters since the start or the last reset.
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

impl Cache {
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
    fn bytes_encoded_as(&self, encoding: Encoding) -> u64 {
        self.databases.indexes().map(|(_, index)| index.kept_as(encoding)).sum()
    }

    /// Bytes of memory that all indexes take.
    pub fn index_bytes(&mut self) -> u64 {
        self.databases.settle();
        self.databases.bytes()
    }

    /// How many different tags there are, of each database.
    pub fn tag_count(&mut self) -> u64 {
        self.databases.settle();
        self.databases.indexes().map(|(_, index)| index.tag_count()).sum()
    }

    /// How long the entries of a type, or all, have left.
    pub fn lifetimes_left(&mut self, type_id: Option<u16>) -> Left {
        let (mut left, now_ms) = (Left::default(), clock::unix_ms());
        for (_, index) in self.databases.indexes() {
            for (id, _) in index.types().filter(|(id, _)| type_id.is_none_or(|wanted| wanted == *id)) {
                index.add_left(id, now_ms, &mut left);
            }
        }
        left
    }

    /// How far the number of entries in the index is from the number that the types count.
    pub fn index_disagreements(&self) -> u64 {
        let indexed: u64 = self.databases.indexes().map(|(_, index)| index.len() + index.dead_len()).sum();
        let counted: u64 = self.types.iter().map(|(_, known)| known.entries).sum();
        indexed.abs_diff(counted)
    }
}

/// Fills in what the books know.
pub fn gauges(gauges: &mut Gauges) {
    with(|cache| {
        gauges.tags = cache.tag_count();
        gauges.index_bytes = cache.index_bytes();
        let misses = cache.departures.misses();
        gauges.statistics_bytes = (cache.types.statistics_bytes() + misses.size_bytes()) as u64;
        gauges.counting_ms = cache.counting_ms();
        gauges.index_disagreements = cache.index_disagreements();
        gauges.stored_identity_bytes = cache.bytes_encoded_as(Encoding::Identity);
        gauges.stored_gzip_bytes = cache.bytes_encoded_as(Encoding::Gzip);
        gauges.stored_zstd_bytes = cache.bytes_encoded_as(Encoding::Zstd);
        gauges.stored_lz4_bytes = cache.bytes_encoded_as(Encoding::Lz4);
        gauges.miss_memory_keys = misses.len();
        gauges.miss_memory_reach_ms = misses.reach_s(clock::steady_ms() / 1000) * 1000;
    });
}
