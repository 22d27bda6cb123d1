//! What was stored in each format. A type has as many formats of its own as it has room for; the values of further ones are
//! counted together, under [`OTHER`].

use hashbrown::HashMap;

/// The most formats of a type that are told apart.
pub const MOST: usize = 32;
/// What further ones are counted under.
pub const OTHER: &[u8] = b"other";

/// What was stored in one format.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Format {
    /// Its name.
    pub name: Box<[u8]>,
    /// Values stored.
    pub sets: u64,
    /// Length of their payloads, together.
    pub bytes: u64,
    /// Length of the longest of them.
    pub max_bytes: u64,
}

impl Format {
    fn add(&mut self, sets: u64, bytes: u64, max_bytes: u64) {
        self.sets += sets;
        self.bytes += bytes;
        self.max_bytes = self.max_bytes.max(max_bytes);
    }
}

/// What was stored in all of them.
#[derive(Debug, Clone, Default)]
pub struct Formats(Vec<Format>);

impl Formats {
    fn of(&mut self, name: &[u8]) -> Option<&mut Format> {
        let find = |formats: &[Format], name: &[u8]| formats.iter().position(|format| *format.name == *name);
        let at = match find(&self.0, name) {
            Some(at) => at,
            None if self.0.len() >= MOST && name != OTHER => return self.of(OTHER),
            None => {
                self.0.push(Format { name: name.into(), ..Format::default() });
                self.0.len() - 1
            }
        };
        self.0.get_mut(at)
    }

    /// Counts a value stored.
    pub fn count(&mut self, name: &[u8], payload_bytes: u64) {
        self.add_one(name, 1, payload_bytes, payload_bytes);
    }

    fn add_one(&mut self, name: &[u8], sets: u64, bytes: u64, max_bytes: u64) {
        self.of(name).into_iter().for_each(|format| format.add(sets, bytes, max_bytes));
    }

    /// Both together.
    pub fn add(&mut self, other: &Self) {
        for format in &other.0 {
            self.add_one(&format.name, format.sets, format.bytes, format.max_bytes);
        }
    }

    /// All of these together. However many they are, each is looked up once.
    pub fn sum<'f>(all: impl IntoIterator<Item = &'f Self>) -> Self {
        let (mut sum, mut places) = (Self::default(), HashMap::new());
        for format in all.into_iter().flat_map(|formats| &formats.0) {
            let mut name: &[u8] = &format.name;
            if sum.0.len() >= MOST && !places.contains_key(name) {
                name = OTHER;
            }
            let at = *places.entry(name).or_insert_with(|| {
                sum.0.push(Format { name: name.into(), ..Format::default() });
                sum.0.len() - 1
            });
            sum.0.get_mut(at).into_iter().for_each(|of| of.add(format.sets, format.bytes, format.max_bytes));
        }
        sum
    }

    /// In the order in which they came.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Format> {
        self.0.iter()
    }

    /// Bytes of memory that they take.
    pub fn size_bytes(&self) -> usize {
        self.0.capacity() * size_of::<Format>() + self.0.iter().map(|format| format.name.len()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_apart_up_to_a_bound() {
        let mut formats = Formats::default();
        formats.count(b"csv", 10);
        formats.count(b"csv", 30);
        formats.count(b"json", 5);
        let seen = |formats: &Formats, name: &[u8]| formats.iter().find(|f| *f.name == *name).cloned();
        let csv = Format { name: b"csv".as_slice().into(), sets: 2, bytes: 40, max_bytes: 30 };
        assert_eq!(seen(&formats, b"csv"), Some(csv));
        for n in 0..100u8 {
            formats.count(&[n], 1);
        }
        assert_eq!(formats.iter().len(), MOST + 1);
        assert_eq!(seen(&formats, OTHER).map(|other| other.sets), Some(100 - (MOST as u64 - 2)));
        let all = Formats::sum([&formats, &formats]);
        let mut added = formats.clone();
        added.add(&formats);
        assert_eq!(all.0, added.0);
        assert_eq!(all.iter().map(|f| f.sets).sum::<u64>(), 206);
        assert_eq!(seen(&all, b"csv").map(|csv| (csv.bytes, csv.max_bytes)), Some((80, 30)));
    }
}
