//! A user's rules as the server writes them (`ACL LIST`): those of the user's own, then each further selector's in parentheses.
//!
//! ```text
//! on #<hash> ~app:* resetchannels -@all +@read (%R~shared:* resetchannels -@all +expcache.get)
//! ```
//!
//! No rule has a blank in it. A rule that is misread here is refused by the server, so the user has a right less, never one more.

/// The rules of one selector.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selector<'a> {
    /// Word by word.
    pub rules: Vec<&'a [u8]>,
    /// May every key be read by them?
    pub reads_all: bool,
    /// May every key be written and deleted?
    pub writes_all: bool,
}

impl<'a> Selector<'a> {
    fn add(&mut self, rule: &'a [u8]) {
        let (reads, writes) = all_keys(rule);
        self.reads_all |= reads;
        self.writes_all |= writes;
        self.rules.push(rule);
    }
}

/// The selectors of a user, his own first.
pub fn selectors(text: &[u8]) -> Vec<Selector<'_>> {
    let mut own = Selector::default();
    let mut further: Vec<Selector<'_>> = Vec::new();
    let mut is_inside = false;
    for word in text.split(|byte| *byte == b' ').filter(|word| !word.is_empty()) {
        let begun = if is_inside { None } else { word.strip_prefix(b"(") };
        if begun.is_some() {
            further.push(Selector::default());
            is_inside = true;
        }
        let word = begun.unwrap_or(word);
        let ended = if is_inside { word.strip_suffix(b")") } else { None };
        let target = further.last_mut().filter(|_| is_inside).unwrap_or(&mut own);
        match ended.unwrap_or(word) {
            b"" => (),
            rule => target.add(rule),
        }
        is_inside &= ended.is_none();
    }
    further.insert(0, own);
    further
}

/// Does the rule let every key be read, and written? A pattern does that is nothing but stars.
fn all_keys(rule: &[u8]) -> (bool, bool) {
    if rule == b"allkeys" {
        return (true, true);
    }
    let Some(tilde) = rule.iter().position(|byte| *byte == b'~') else { return (false, false) };
    let (kind, pattern) = (rule.get(..tilde).unwrap_or_default(), rule.get(tilde + 1..).unwrap_or_default());
    let is_all = !pattern.is_empty() && pattern.iter().all(|byte| *byte == b'*');
    match kind {
        b"" => (is_all, is_all),
        [b'%', rights @ ..] => {
            let has = |right: u8| is_all && rights.iter().any(|byte| byte.eq_ignore_ascii_case(&right));
            (has(b'R'), has(b'W'))
        }
        _ => (false, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_told_apart() {
        let text = b"on nopass ~a(b)* %R~* resetchannels -@all +@read (~c)* +get) (%RW~** &x -@all +@all) () ~z";
        let all = selectors(text);
        let words = |at: usize| {
            let rules = all.get(at).map(|selector| selector.rules.join(&b' '));
            String::from_utf8(rules.unwrap_or_default()).unwrap_or_default()
        };
        let all_keys: Vec<_> = all.iter().map(|selector| (selector.reads_all, selector.writes_all)).collect();
        assert_eq!(all_keys, [(true, false), (false, false), (true, true), (false, false)]);
        assert_eq!(words(0), "on nopass ~a(b)* %R~* resetchannels -@all +@read ~z");
        assert_eq!(words(1), "~c)* +get");
        assert_eq!(words(2), "%RW~** &x -@all +@all");
        assert_eq!(words(3), "");
    }

    #[test]
    fn all_keys_are_stars_and_nothing_else() {
        let (none, read, write, both) = ((false, false), (true, false), (false, true), (true, true));
        for (rule, expected) in [
            ("~*", both),
            ("~**", both),
            ("allkeys", both),
            ("%RW~*", both),
            ("%r~*", read),
            ("%W~***", write),
            ("~?", none),
            ("~?*", none),
            ("~", none),
            ("~a*", none),
            ("~[^a]*", none),
            ("~\\*", none),
            ("%R~a~*", none),
            ("&*", none),
            ("+@all", none),
            ("+x~*", none),
        ] {
            assert_eq!(all_keys(rule.as_bytes()), expected, "{rule}");
        }
    }
}
