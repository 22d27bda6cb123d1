//! The names of all keys, under dense small numbers.
//!
//! Names stand one after the other in pages of 32, so each takes its own length and three bytes. Changing one moves a
//! part of its page, a kilobyte or two at most times; nothing takes longer because there are many names.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::hint::Hint;
use super::slab::Slab;

const PAGE_BITS: u32 = 5;
const PAGE: usize = 1 << PAGE_BITS;
/// Names of this length or more stand elsewhere.
const LONG: usize = u8::MAX as usize;

/// The names of one page, `lens` long each. Which of the 32 there are say the bits of `used`; the others have no length. Of those the
/// numbers of `held` are not given out.
#[derive(Default)]
struct Page {
    bytes: Vec<u8>,
    lens: [u8; PAGE],
    hints: [Hint; PAGE],
    used: u32,
    held: u32,
}

impl Page {
    fn start(&self, at: usize) -> usize {
        self.lens.iter().take(at).map(|len| usize::from(*len)).sum()
    }

    fn name(&self, at: usize) -> Option<&[u8]> {
        if self.used >> at & 1 == 0 {
            return None;
        }
        let start = self.start(at);
        self.bytes.get(start..start + usize::from(*self.lens.get(at)?))
    }

    /// Puts a name shorter than `LONG` into the first free place.
    fn insert(&mut self, name: &[u8], hint: Hint) -> Option<u32> {
        let at = (self.used | self.held).trailing_ones();
        *self.lens.get_mut(at as usize)? = u8::try_from(name.len()).ok()?;
        *self.hints.get_mut(at as usize)? = hint;
        self.used |= 1 << at;
        let (start, len) = (self.start(at as usize), self.bytes.len() + name.len());
        if self.is_full() {
            self.bytes.reserve_exact(name.len());
        } else if len > self.bytes.capacity() {
            self.bytes.reserve_exact(len + len / 4 - self.bytes.len());
        }
        self.bytes.splice(start..start, name.iter().copied());
        if self.is_full() {
            self.bytes.shrink_to_fit();
        }
        Some(at)
    }

    fn remove(&mut self, at: usize) {
        let start = self.start(at);
        if let Some(len) = self.lens.get_mut(at) {
            self.bytes.drain(start..start + usize::from(std::mem::take(len)));
            self.used &= !(1 << at);
        }
    }

    fn is_full(&self) -> bool {
        self.used | self.held == u32::MAX
    }

    fn is_empty(&self) -> bool {
        self.used | self.held == 0
    }
}

/// See the module's head.
#[derive(Default)]
pub(super) struct Records {
    pages: Slab<Page>,
    /// The pages with room.
    roomy: RoaringBitmap,
    /// What is too long for a page, by its number; its place there is taken by an empty name.
    long: BTreeMap<u32, Box<[u8]>>,
    len: u32,
}

fn split(id: u32) -> (u32, usize) {
    (id >> PAGE_BITS, id as usize % PAGE)
}

impl Records {
    /// Keeps a name under the number that it returns; `None` when all four billion are taken.
    pub(super) fn insert(&mut self, name: &[u8]) -> Option<u32> {
        let page_at = match self.roomy.min() {
            Some(at) => at,
            None => self.add_page()?,
        };
        let page = self.pages.get_mut(page_at)?;
        let short = if name.len() < LONG { name } else { &[] };
        let id = page_at << PAGE_BITS | page.insert(short, Hint::of(name))?;
        if page.is_full() {
            self.roomy.remove(page_at);
        }
        if name.len() >= LONG {
            self.long.insert(id, name.into());
        }
        self.len += 1;
        Some(id)
    }

    fn add_page(&mut self) -> Option<u32> {
        if self.pages.len() >= u32::MAX >> PAGE_BITS {
            return None;
        }
        let at = self.pages.insert(Page::default())?;
        self.roomy.insert(at);
        Some(at)
    }

    /// Takes the name out; its number may be given out again when it is [free](Records::free).
    pub(super) fn remove(&mut self, id: u32) {
        let (page_at, at) = split(id);
        let Some(page) = self.pages.get_mut(page_at).filter(|page| page.used >> at & 1 != 0) else { return };
        page.remove(at);
        page.held |= 1 << at;
        if !self.long.is_empty() {
            self.long.remove(&id);
        }
        self.len -= 1;
    }

    /// The number of a name that was taken out may be given out again.
    pub(super) fn free(&mut self, id: u32) {
        let (page_at, at) = split(id);
        let Some(page) = self.pages.get_mut(page_at).filter(|page| page.held >> at & 1 != 0) else { return };
        let was_full = page.is_full();
        page.held &= !(1 << at);
        if page.is_empty() {
            self.pages.remove(page_at);
            self.roomy.remove(page_at);
        } else if was_full {
            self.roomy.insert(page_at);
        }
    }

    pub(super) fn get(&self, id: u32) -> Option<&[u8]> {
        let (page_at, at) = split(id);
        let name = self.pages.get(page_at)?.name(at)?;
        if !name.is_empty() || self.long.is_empty() {
            return Some(name);
        }
        Some(self.long.get(&id).map_or(name, |long| long))
    }

    /// To look at one name after the other, in rising order.
    pub(super) fn reader(&self) -> Reader<'_> {
        Reader { records: self, page: None, at: 0, start: 0 }
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    #[cfg(test)]
    pub(super) fn pages(&self) -> u32 {
        self.pages.len()
    }

    /// How many numbers are neither names' nor free.
    pub(super) fn held(&self) -> u64 {
        self.pages.iter().map(|(_, page)| u64::from(page.held.count_ones())).sum()
    }

    /// Some of the names from number `start` on, at most `steps`, and where to go on. Of free places not many more are
    /// passed at once, so there may be names further on even if there is none here.
    pub(super) fn slice(&self, start: u32, steps: usize) -> (Vec<(u32, &[u8])>, Option<u32>) {
        let (first, skipped) = split(start);
        // One page more, because the first may be looked at from its middle.
        let (pages, next) = self.pages.slice(first, steps / PAGE + 1);
        let ids = pages.iter().flat_map(|(page, _)| (page << PAGE_BITS..).take(PAGE));
        let from = (first << PAGE_BITS) + skipped as u32;
        let names = ids.filter(|id| *id >= from).filter_map(|id| Some((id, self.get(id)?)));
        let names: Vec<_> = names.take(steps).collect();
        let next = match names.last() {
            Some((last, _)) if names.len() == steps => last.checked_add(1),
            _ => next.map(|page| page << PAGE_BITS),
        };
        (names, next)
    }
}

/// Goes over names. Where the next one in a page begins it knows from the last.
pub(super) struct Reader<'r> {
    records: &'r Records,
    page: Option<(u32, &'r Page)>,
    /// A place in the page, and where its name begins.
    at: usize,
    start: usize,
}

impl<'r> Reader<'r> {
    /// The name under this number, if what tells something of its beginning is wanted.
    pub(super) fn name(&mut self, id: u32, is_wanted: impl Fn(Hint) -> bool) -> Option<&'r [u8]> {
        let (page_at, at) = split(id);
        let page = match self.page {
            Some((known, page)) if known == page_at && self.at <= at => page,
            _ => {
                let page = self.records.pages.get(page_at)?;
                (self.page, self.at, self.start) = (Some((page_at, page)), 0, 0);
                page
            }
        };
        if page.used >> at & 1 == 0 || !is_wanted(*page.hints.get(at)?) {
            return None;
        }
        self.start += page.lens.get(self.at..at)?.iter().map(|len| usize::from(*len)).sum::<usize>();
        self.at = at;
        let name = page.bytes.get(self.start..self.start + usize::from(*page.lens.get(at)?))?;
        if !name.is_empty() || self.records.long.is_empty() {
            return Some(name);
        }
        Some(self.records.long.get(&id).map_or(name, |long| long))
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn name(n: usize) -> Vec<u8> {
        vec![n as u8; [0, 1, 16, 54, LONG - 1, LONG, 3000][n % 7]]
    }

    #[test]
    fn names_of_every_length_come_back_under_dense_numbers() {
        let mut records = Records::default();
        for n in 0..5000 {
            assert_eq!(records.insert(&name(n)), Some(n as u32));
        }
        for n in (0..5000).step_by(3) {
            records.free(n as u32);
            records.remove(n as u32);
            records.remove(n as u32);
            assert_eq!(records.get(n as u32), None);
        }
        assert_eq!(records.insert(b"held"), Some(5000), "a number that is not free is not given out");
        records.remove(5000);
        (0..=5000).for_each(|n| records.free(n));
        assert_eq!(records.len(), 5000 - 1667);
        let again: Vec<u32> = (0..1667).filter_map(|n| records.insert(&name(n * 3))).collect();
        assert!(again.iter().copied().eq((0..5000).step_by(3)), "the lowest free number first");
        for n in 0..5000 {
            assert_eq!(records.get(n as u32), Some(name(n).as_slice()));
        }
        assert_eq!((records.len(), records.get(5000), records.get(u32::MAX)), (5000, None, None));
        for step in [1, 2, 7, 40] {
            let mut reader = records.reader();
            for n in (0..5001).step_by(step) {
                assert_eq!(reader.name(n, |_| n % 5 != 0), records.get(n).filter(|_| n % 5 != 0), "{n} of each {step}");
            }
            assert_eq!(reader.name(7, |_| true), records.get(7), "and from the beginning again");
        }
        (0..5000).for_each(|n| records.remove(n));
        (0..5000).for_each(|n| records.free(n));
        assert_eq!((records.len(), records.pages.len(), records.long.len()), (0, 0, 0));
        assert!(records.roomy.is_empty());
    }

    #[test]
    fn a_name_takes_its_length_and_three_bytes() {
        assert_eq!(size_of::<Page>(), 96);
        let mut records = Records::default();
        (0..3200).for_each(|n| _ = records.insert(format!("{n:016}").as_bytes()));
        assert!(records.pages.iter().all(|(_, page)| page.bytes.capacity() == PAGE * 16));
    }
}
