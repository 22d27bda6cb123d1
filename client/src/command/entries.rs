//! `EXPCACHE.GET`, `MGET` and `DEL`.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::client::Client;
use crate::error::Result;
use crate::link::{Call, Carries, Route, slot};
use crate::reply;

impl Client {
    /// The payload of a fresh entry.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        let call = Call { carries: Carries::Payload, ..Call::on_key("EXPCACHE.GET", key.as_ref()) };
        reply::optional(self.call(call).await?, reply::bytes)
    }

    /// The payloads of fresh entries, in the order of the keys. In a cluster: a command for each slot.
    pub async fn mget<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Bytes>>> {
        let mut values = vec![None; keys.len()];
        for places in self.by_slot(keys) {
            let call = Call { carries: Carries::Payload, ..of_keys("EXPCACHE.MGET", keys, &places) };
            let replies = reply::array(self.call(call).await?)?;
            for (place, value) in places.into_iter().zip(replies) {
                if let Some(slot) = values.get_mut(place) {
                    *slot = reply::optional(value, reply::bytes)?;
                }
            }
        }
        Ok(values)
    }

    /// Removes entries and fences their keys; returns how many there were. In a cluster: a command for each slot.
    pub async fn del<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<u64> {
        let mut removed = 0;
        for places in self.by_slot(keys) {
            removed += reply::count(self.call(of_keys("EXPCACHE.DEL", keys, &places)).await?)?;
        }
        Ok(removed)
    }

    /// The places of the keys, those together that one command may name.
    fn by_slot<K: AsRef<[u8]>>(&self, keys: &[K]) -> Vec<Vec<usize>> {
        let mut slots: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (place, key) in keys.iter().enumerate() {
            let slot = if self.is_cluster() { slot(key.as_ref()) } else { 0 };
            slots.entry(slot).or_default().push(place);
        }
        slots.into_values().collect()
    }
}

fn of_keys<K: AsRef<[u8]>>(command: &'static str, keys: &[K], places: &[usize]) -> Call {
    let mut call = Call::new(command, Route::Key(1));
    for key in places.iter().filter_map(|place| keys.get(*place)) {
        call.cmd.arg(key.as_ref());
    }
    call
}
