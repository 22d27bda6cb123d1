//! `EXPCACHE.STATS` and `TOP`: in a cluster the sums of what the primaries counted.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use expcache_core::grammar::stats::StatsOptions;
use expcache_core::grammar::top::TopOptions;
use expcache_core::stats::{By, compression_ratio, share};
use redis::Value;
use serde::Serialize;

use super::client::Client;
use super::look::moment;
use super::shown;
use crate::error::{Error, Result};
use crate::link::{Call, Route};
use crate::reply::{self, Fields};
use crate::time::ms;
use crate::words::{name, words_of};

/// The struct of statistics: the server's table of counters, and what it says besides.
macro_rules! stats {
    (counts { $(#[doc = $help:literal] $count:ident: $name:literal, $unit:ident;)+ } costs { $($cost:tt)+ }) => {
        /// What was counted, overall or of one type. What a server does not count yet is 0.
        #[derive(Debug, Clone, Default, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub struct Stats {
            /// Entries that there are.
            pub entries: u64,
            /// Different tags on them; overall only. In a cluster a tag counts once for each node.
            pub tags: u64,
            /// Length of their payloads.
            pub payload_bytes: u64,
            /// Length of the bytes that these are kept in.
            pub stored_bytes: u64,
            /// Memory of the index; overall only.
            pub index_bytes: u64,
            $(#[doc = $help] pub $count: u64,)+
            /// What producing a value took on average. In a cluster weighed by the nodes' stores.
            #[serde(rename = "produce-ms", serialize_with = "shown::millis")]
            pub produce: Duration,
            /// What producing again all that was handed out would have taken.
            #[serde(rename = "saved-ms", serialize_with = "shown::millis")]
            pub saved: Duration,
            /// Stores by format.
            #[serde(serialize_with = "shown::by_name")]
            pub formats: BTreeMap<Bytes, Formats>,
            /// How many entries stay fresh for how long: upper bound in seconds, entries. The last bound is `u64::MAX`.
            pub ttl: BTreeMap<u64, u64>,
            /// Each type; overall only.
            #[serde(serialize_with = "shown::by_name")]
            pub types: BTreeMap<Bytes, TypeStats>,
        }

        impl Stats {
            fn parse(mut fields: Fields) -> Result<Self> {
                Ok(Self {
                    entries: fields.count("entries")?,
                    tags: fields.count("tags")?,
                    payload_bytes: fields.count("payload-bytes")?,
                    stored_bytes: fields.count("stored-bytes")?,
                    index_bytes: fields.count("index-bytes")?,
                    $($count: fields.count(&stringify!($count).replace('_', "-"))?,)+
                    produce: Duration::from_secs_f64(fields.double("produce-ms")?.max(0.0) / 1000.0),
                    saved: Duration::from_secs_f64(fields.double("saved-ms")?.max(0.0) / 1000.0),
                    formats: by_name(fields.take("formats"), format)?,
                    ttl: ttl(fields.take("ttl"))?,
                    types: by_name(fields.take("types"), type_stats)?,
                })
            }

            fn add_counts(&mut self, other: &Self) {
                $(self.$count += other.$count;)+
            }
        }
    };
}

expcache_core::with_counters!(stats);

/// The stores of one format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Formats {
    /// How many.
    pub sets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of the largest.
    pub max_bytes: u64,
}

/// A type among the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TypeStats {
    /// Its entries.
    pub entries: u64,
    /// Length of their payloads.
    pub payload_bytes: u64,
    /// Length of the bytes that these are kept in.
    pub stored_bytes: u64,
    /// Payloads handed out fresh.
    pub hits: u64,
    /// Reads that handed out nothing.
    pub misses: u64,
}

impl Stats {
    /// Hits among reads, 0 to 1; 0 before the first.
    pub fn hit_rate(&self) -> f64 {
        share(self.hits, self.hits + self.stale_hits + self.misses)
    }

    /// Payload bytes by stored bytes; 1 when there are none.
    pub fn ratio(&self) -> f64 {
        compression_ratio(self.payload_bytes, self.stored_bytes)
    }

    fn add(&mut self, other: Self) {
        let sets = (self.sets + other.sets).max(1);
        self.produce = (self.produce.mul_f64(share(self.sets, sets))) + other.produce.mul_f64(share(other.sets, sets));
        self.saved += other.saved;
        self.add_counts(&other);
        self.entries += other.entries;
        self.tags += other.tags;
        self.payload_bytes += other.payload_bytes;
        self.stored_bytes += other.stored_bytes;
        self.index_bytes += other.index_bytes;
        for (name, stores) in other.formats {
            self.formats.entry(name).or_default().add(stores);
        }
        for (bound, entries) in other.ttl {
            *self.ttl.entry(bound).or_default() += entries;
        }
        for (name, stats) in other.types {
            self.types.entry(name).or_default().add(stats);
        }
    }
}

impl Formats {
    fn add(&mut self, other: Self) {
        self.sets += other.sets;
        self.bytes += other.bytes;
        self.max_bytes = self.max_bytes.max(other.max_bytes);
    }
}

impl TypeStats {
    /// Hits among reads, 0 to 1; 0 before the first. Those that were handed out stale are not among them:
    /// [`Client::type_stats`] has these too.
    pub fn hit_rate(&self) -> f64 {
        share(self.hits, self.hits + self.misses)
    }

    fn add(&mut self, other: Self) {
        self.entries += other.entries;
        self.payload_bytes += other.payload_bytes;
        self.stored_bytes += other.stored_bytes;
        self.hits += other.hits;
        self.misses += other.misses;
    }
}

fn by_name<T>(value: Value, read: fn(Fields) -> Result<T>) -> Result<BTreeMap<Bytes, T>> {
    let pairs = reply::optional(value, reply::pairs)?.unwrap_or_default();
    pairs.into_iter().map(|(name, value)| Ok((reply::bytes(name)?, read(Fields::new(value)?)?))).collect()
}

fn format(mut fields: Fields) -> Result<Formats> {
    Ok(Formats { sets: fields.count("sets")?, bytes: fields.count("bytes")?, max_bytes: fields.count("max-bytes")? })
}

fn type_stats(mut fields: Fields) -> Result<TypeStats> {
    Ok(TypeStats {
        entries: fields.count("entries")?,
        payload_bytes: fields.count("payload-bytes")?,
        stored_bytes: fields.count("stored-bytes")?,
        hits: fields.count("hits")?,
        misses: fields.count("misses")?,
    })
}

/// An array of pairs; the bound of the last is negative: there is none.
fn ttl(value: Value) -> Result<BTreeMap<u64, u64>> {
    let pairs = reply::optional(value, reply::array)?.unwrap_or_default();
    let read = |pair| {
        let [bound, entries] = <[Value; 2]>::try_from(reply::array(pair)?).map_err(|_| Error::reply("no pair"))?;
        Ok((u64::try_from(reply::integer(bound)?).unwrap_or(u64::MAX), reply::count(entries)?))
    };
    pairs.into_iter().map(read).collect()
}

/// What [`Client::top`] ranks by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rank {
    /// How often it was handed out.
    #[default]
    Hits,
    /// How large it is.
    Size,
    /// What producing it took.
    Cost,
    /// What its hits saved.
    Saved,
}

impl Rank {
    fn figure(self) -> By {
        match self {
            Self::Hits => By::Hits,
            Self::Size => By::Size,
            Self::Cost => By::Cost,
            Self::Saved => By::Saved,
        }
    }

    fn of(self, entry: &TopEntry) -> u128 {
        let cost = entry.cost.unwrap_or_default().as_millis();
        match self {
            Self::Hits => entry.hits.into(),
            Self::Size => entry.size.into(),
            Self::Cost => cost,
            Self::Saved => cost * u128::from(entry.hits),
        }
    }
}

/// Which entries to rank.
#[derive(Debug, Clone, Default)]
pub struct Top {
    type_name: Option<Bytes>,
    by: Rank,
    count: Option<usize>,
}

impl Top {
    /// Of all entries, by this.
    pub fn by(by: Rank) -> Self {
        Self { by, ..Self::default() }
    }

    /// Of this type only.
    #[must_use]
    pub fn type_name(mut self, type_name: impl AsRef<[u8]>) -> Self {
        self.type_name = Some(name(type_name));
        self
    }

    /// So many at the most.
    #[must_use]
    pub fn count(mut self, count: usize) -> Self {
        self.count = Some(count);
        self
    }
}

/// An entry that stands out.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TopEntry {
    /// Its key.
    #[serde(serialize_with = "shown::text")]
    pub key: Bytes,
    /// Its type.
    #[serde(rename = "type", serialize_with = "shown::text")]
    pub type_name: Bytes,
    /// How often it was handed out.
    pub hits: u64,
    /// Its payload's length.
    pub size: u64,
    /// What producing it took, if that is known.
    #[serde(serialize_with = "shown::optional_millis")]
    pub cost: Option<Duration>,
    /// When it was last handed out or stored.
    #[serde(serialize_with = "shown::unix_millis")]
    pub last_access: SystemTime,
}

impl TopEntry {
    fn parse(value: Value) -> Result<Self> {
        let mut fields = Fields::new(value)?;
        Ok(Self {
            key: fields.bytes("key")?,
            type_name: fields.bytes("type")?,
            hits: fields.count("hits")?,
            size: fields.count("size")?,
            cost: fields.optional_count("cost")?.map(Duration::from_millis),
            last_access: moment(fields.count("last-access")?),
        })
    }
}

impl Client {
    /// What was counted since the start or the last reset.
    pub async fn stats(&self) -> Result<Stats> {
        Ok(self.stats_of(stats_call(None, None)).await?.unwrap_or_default())
    }

    /// What was counted in about the last so long.
    pub async fn stats_of_last(&self, window: Duration) -> Result<Stats> {
        Ok(self.stats_of(stats_call(None, Some(window))).await?.unwrap_or_default())
    }

    /// What was counted of a type, perhaps in about the last so long; `None` if nobody knows the type.
    pub async fn type_stats(&self, type_name: impl AsRef<[u8]>, window: Option<Duration>) -> Result<Option<Stats>> {
        self.stats_of(stats_call(Some(type_name.as_ref()), window)).await
    }

    /// Starts counting anew, on every primary.
    pub async fn reset_stats(&self) -> Result<()> {
        self.everywhere(Call::new("EXPCACHE.STATS RESET", Route::Primaries)).await.map(drop)
    }

    /// The entries that stand out, the first of all primaries.
    pub async fn top(&self, top: &Top) -> Result<Vec<TopEntry>> {
        let mut call = Call::new("EXPCACHE.TOP", Route::Primaries);
        let count = top.count.map(|count| count as u64);
        let options = TopOptions { type_name: top.type_name.as_deref(), by: Some(top.by.figure()), count };
        options.write(&mut words_of(&mut call.cmd));
        let mut all = Vec::new();
        for reply in self.everywhere(call).await? {
            for entry in reply::array(reply)? {
                all.push(TopEntry::parse(entry)?);
            }
        }
        all.sort_by_key(|entry| std::cmp::Reverse(top.by.of(entry)));
        all.truncate(top.count.unwrap_or(usize::MAX));
        Ok(all)
    }

    async fn stats_of(&self, call: Call) -> Result<Option<Stats>> {
        let mut total: Option<Stats> = None;
        for reply in self.everywhere(call).await? {
            let Some(fields) = Fields::optional(reply)? else { continue };
            let stats = Stats::parse(fields)?;
            match &mut total {
                Some(total) => total.add(stats),
                None => total = Some(stats),
            }
        }
        Ok(total)
    }
}

fn stats_call(type_name: Option<&[u8]>, window: Option<Duration>) -> Call {
    let mut call = Call::new("EXPCACHE.STATS", Route::Primaries);
    StatsOptions::Read { type_name, window_ms: window.map(ms) }.write(&mut words_of(&mut call.cmd));
    call
}
