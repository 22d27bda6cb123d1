//! Which patterns may match a text: those whose prefix begins it, found without asking each.
//!
//! The prefixes are sorted. Every prefix that begins the text is the last one that is not behind the text, or a prefix of that one:
//! for what lies between two texts, the first of which begins the second, begins with the first. So a binary search
//! finds one, and each knows the longest other that begins it.

/// Sorted prefixes, and what stands for each.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    /// The first bytes of each as a number that sorts as they do: most comparisons end here.
    heads: Vec<u64>,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    prefix: Box<[u8]>,
    /// The longest other prefix that begins it.
    parent: Option<usize>,
    /// The numbers that stand for it.
    numbers: Vec<usize>,
}

/// The first bytes, zeros for what is missing.
fn head(text: &[u8]) -> u64 {
    let mut head = [0; 8];
    head.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
    u64::from_be_bytes(head)
}

impl Prefixes {
    /// Of numbered prefixes, some of which may be the same.
    pub(super) fn new<'p>(prefixes: impl IntoIterator<Item = (usize, &'p [u8])>) -> Self {
        let mut sorted: Vec<(&[u8], usize)> = prefixes.into_iter().map(|(number, prefix)| (prefix, number)).collect();
        sorted.sort_unstable();
        let mut all = Self::default();
        // Those that begin the last one, the longest last.
        let mut open: Vec<usize> = Vec::new();
        for (prefix, number) in sorted {
            if let Some(last) = all.nodes.last_mut().filter(|last| *last.prefix == *prefix) {
                last.numbers.push(number);
                continue;
            }
            let begins = |at: &usize| all.nodes.get(*at).is_some_and(|node| prefix.starts_with(&node.prefix));
            while open.last().is_some_and(|at| !begins(at)) {
                open.pop();
            }
            let parent = open.last().copied();
            open.push(all.nodes.len());
            all.heads.push(head(prefix));
            all.nodes.push(Node { prefix: prefix.into(), parent, numbers: vec![number] });
        }
        all
    }

    /// The numbers of all prefixes that begin the text, the longest prefix first.
    pub(super) fn that_begin(&self, text: &[u8]) -> impl Iterator<Item = usize> {
        let head = head(text);
        let first = self.heads.partition_point(|other| *other < head);
        let behind = self.heads.partition_point(|other| *other <= head);
        let same = self.nodes.get(first..behind).unwrap_or_default();
        let behind = first + same.partition_point(|node| *node.prefix <= *text);
        let last = behind.checked_sub(1).and_then(|at| self.nodes.get(at));
        let common =
            last.map_or(0, |node| node.prefix.iter().zip(text).take_while(|(one, other)| one == other).count());
        let parent = move |node: &&Node| node.parent.and_then(|at| self.nodes.get(at));
        let chain = std::iter::successors(last, parent).skip_while(move |node| node.prefix.len() > common);
        chain.flat_map(|node| node.numbers.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(prefixes: &[&str], text: &str) -> Vec<usize> {
        let numbered = prefixes.iter().map(|prefix| prefix.as_bytes()).enumerate();
        let mut found: Vec<usize> = Prefixes::new(numbered).that_begin(text.as_bytes()).collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn all_that_begin_a_text_are_found() {
        let prefixes = ["user:", "", "user:7", "users", "a", "user:", "user:long-enough-for-two", "user:7\0", "z"];
        for text in
            ["user:7", "user:7\0", "user:", "user", "", "users", "user:long-enough-for-two:x", "zz", "b", "\u{ff}"]
        {
            let begins = |(at, prefix): (usize, &&str)| text.starts_with(prefix).then_some(at);
            let expected: Vec<usize> = prefixes.iter().enumerate().filter_map(begins).collect();
            assert_eq!(found(&prefixes, text), expected, "{text}");
        }
        assert!(found(&[], "a").is_empty());
    }
}
