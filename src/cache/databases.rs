//! An index for each database: found by the database's number or by its own, weighed, swapped, emptied.

use expcache_core::entry::Entry;
use expcache_core::index::Index;

use crate::server::alloc::weighed;

/// All of them.
#[derive(Default)]
pub struct Databases {
    all: Vec<Database>,
    /// Those that may know of entries that went.
    unsettled: Vec<usize>,
    /// The number of the index made last.
    last_number: u16,
}

#[derive(Default)]
struct Database {
    index: Box<Index>,
    bytes: isize,
    is_unsettled: bool,
}

impl Databases {
    /// The index of a database.
    pub fn index(&self, db: i32) -> Option<&Index> {
        usize::try_from(db).ok().and_then(|at| self.all.get(at)).map(|database| &*database.index)
    }

    /// Every database's index.
    pub fn indexes(&self) -> impl Iterator<Item = (i32, &Index)> {
        (0..).zip(self.all.iter().map(|database| &*database.index))
    }

    fn indexes_mut(&mut self) -> impl Iterator<Item = &mut Index> {
        self.all.iter_mut().map(|database| &mut *database.index)
    }

    /// The index that an entry is in. The server does not always say the right database (`MIGRATE` names its target's), so the entry
    /// does; `db` is where to look first.
    pub fn index_of(&self, db: i32, entry: &Entry) -> Option<&Index> {
        let hint = self.index(db).filter(|index| index.number() == entry.index());
        hint.or_else(|| self.indexes().map(|(_, index)| index).find(|index| index.number() == entry.index()))
    }

    /// The database whose index has this number: after `SWAPDB` it is another.
    pub fn db_of(&self, number: u16) -> Option<i32> {
        self.indexes().find(|(_, index)| index.number() == number).map(|(db, _)| db)
    }

    /// The index of this number, to be changed in ways that do not change its size.
    pub fn numbered_mut(&mut self, number: u16) -> Option<&mut Index> {
        self.indexes_mut().find(|index| index.number() == number)
    }

    /// Changes the index of a database, noting what that does to its size.
    pub fn change<R>(&mut self, db: i32, work: impl FnOnce(&mut Index) -> R) -> Option<R> {
        let at = usize::try_from(db).ok()?;
        self.make(at + 1);
        let database = self.all.get_mut(at)?;
        let (result, bytes) = weighed(|| work(&mut database.index));
        database.bytes += bytes;
        if !std::mem::replace(&mut database.is_unsettled, true) {
            self.unsettled.push(at);
        }
        Some(result)
    }

    /// Has all forget the last that went.
    pub fn settle(&mut self) {
        for at in std::mem::take(&mut self.unsettled) {
            let Some(database) = self.all.get_mut(at) else { continue };
            let ((), bytes) = weighed(|| database.index.settle());
            database.bytes += bytes;
            database.is_unsettled = false;
        }
    }

    /// Bytes of memory that all indexes take.
    pub fn bytes(&self) -> u64 {
        self.all.iter().map(|database| u64::try_from(database.bytes).unwrap_or(0)).sum()
    }

    /// See [`Index::reopen_rankings`].
    pub fn reopen_rankings(&mut self) {
        self.indexes_mut().for_each(Index::reopen_rankings);
    }

    /// Gives a database, or all, an index with nothing in it; returns the old ones.
    pub fn empty(&mut self, db: Option<i32>) -> Vec<Index> {
        let range = match db.map(usize::try_from) {
            None => 0..self.all.len(),
            Some(Ok(at)) if at < self.all.len() => at..at + 1,
            Some(_) => 0..0,
        };
        range
            .filter_map(|at| {
                let new = self.new_index();
                let database = self.all.get_mut(at)?;
                database.bytes = 0;
                Some(*std::mem::replace(&mut database.index, new))
            })
            .collect()
    }

    /// Exchanges two databases' indexes, as `SWAPDB` did their keys.
    pub fn swap(&mut self, first: i32, second: i32) {
        let (Ok(a), Ok(b)) = (usize::try_from(first), usize::try_from(second)) else { return };
        self.make(a.max(b) + 1);
        // Those that are to be settled are known by their places.
        self.settle();
        self.all.swap(a, b);
    }

    fn make(&mut self, count: usize) {
        while self.all.len() < count {
            let index = self.new_index();
            self.all.push(Database { index, bytes: 0, is_unsettled: false });
        }
    }

    /// An index with a number that no other has (as long as there are not 65,535 databases).
    fn new_index(&mut self) -> Box<Index> {
        loop {
            self.last_number = self.last_number.wrapping_add(1);
            let is_new = self.all.iter().all(|database| database.index.number() != self.last_number);
            if is_new || self.all.len() >= usize::from(u16::MAX) {
                return Box::new(Index::new(self.last_number));
            }
        }
    }
}
