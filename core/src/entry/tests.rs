#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::limits::{GRACES, MOMENTS};
use super::*;

fn names(tags: &[&str]) -> Names {
    Names::new(b"trips", tags.iter().map(|tag| tag.as_bytes()), None)
}

fn full(payload: &[u8]) -> Content<'_> {
    let extras = Extras {
        grace_ms: 60_000,
        cost_ms: Some(1200),
        records: Some(7),
        form: None,
        etag: None,
        format: Some(b"csv"),
        meta: Some(br#"{"from":"JFK"}"#),
        end: End::Named,
        born_ms: Some(1_600_000_000_321),
    };
    Content { created_ms: 1_700_000_000_123, lifetime_ms: 3_600_000, extras, stored: payload.into() }
}

#[test]
fn the_layout_is_what_the_head_draws() {
    assert_eq!(size_of::<Layout>(), 16);
    assert_eq!(TAIL_LEN_OFFSET, 16);
    assert_eq!(std::mem::offset_of!(Entry, tag_count), 24);
    assert_eq!(std::mem::offset_of!(Entry, lifetime_ms), 31);
    let plain = Content { stored: [7; 100].as_slice().into(), ..Content::default() };
    let entry = Entry::new(plain, 8).unwrap();
    assert_eq!(entry.size_bytes(), (160, 0), "a 100-byte payload with eight tags fills one 160-byte block");
}

#[test]
fn tag_ids_of_any_size_come_back() {
    let mut entry = Entry::new(full(b"payload"), 3).unwrap();
    entry.hit(124_000);
    for ids in [[1, 2, 3], [1, WIDE_TAG_ID - 1, 3], [1, WIDE_TAG_ID, 3], [u32::MAX, 2, 3]] {
        (0..).zip(ids).for_each(|(at, id)| entry.set_tag_id(at, id));
        entry.set_linked(7, 8, 9);
        assert!(entry.tag_ids().eq(ids));
        assert_eq!((entry.id(), entry.type_id(), entry.index(), entry.names()), (7, 8, 9, None));
        entry.set_unlinked();
        entry.carry(names(&["a", "b", "c"]), true);
        assert_eq!((entry.is_linked(), entry.carries_dead_mark(), entry.type_id()), (false, true, 8));
        assert_eq!(entry.take_names(), names(&["a", "b", "c"]));
        assert_eq!(entry.names(), None);
    }
    assert_eq!((entry.hits(), entry.touched_us()), (1, 124_000), "uses are kept on the way");
    assert_eq!((entry.stored(), entry.extras()), (b"payload".as_slice(), full(b"").extras));
}

#[test]
fn what_goes_in_comes_out() {
    for size in [0, 1, KEEP_ETAG_FROM - 1, KEEP_ETAG_FROM, 5000] {
        let payload = vec![0xA5; size];
        let mut entry = Entry::new_loose(full(&payload), names(&["a", "b"]), false).unwrap();
        assert_eq!(entry.stored(), payload);
        assert_eq!(entry.extras(), full(&payload).extras);
        assert_eq!((entry.grace_ms(), entry.created_ms(), entry.lifetime_ms()), (60_000, 1_700_000_000_123, 3_600_000));
        let etag: Etag = Md5::digest(&payload).into();
        assert_eq!((entry.etag(), entry.etag()), (etag, etag));
        assert_eq!(entry.extras().etag.is_some(), size >= KEEP_ETAG_FROM);
        assert_eq!(entry.extras().format, Some(b"csv".as_slice()));
    }
}

#[test]
fn encoding_round_trips_and_refuses_everything_else() {
    let mut entry = Entry::new_loose(full(&[1; 300]), names(&["a", "bb"]), false).unwrap();
    entry.etag();
    let bytes = entry.encode(b"trips", &[b"a", b"bb"], Verdict::Dead);
    let back = Entry::decode(&bytes, [1; 300].as_slice().into()).unwrap();
    assert_eq!(back.extras(), entry.extras());
    assert_eq!(back.names(), Some(&names(&["a", "bb"])));
    assert!(back.carries_dead_mark() && !back.is_linked());
    for cut in 0..bytes.len() {
        // A cut between two parts may leave a well-formed whole only where everything optional ends.
        if let Some(short) = Entry::decode(&bytes[..cut], PayloadBytes::default()) {
            assert_eq!(short.extras(), Extras::default());
        }
    }
    for (at, value) in [(0, 2), (1, 4), (bytes.len() - 1, b'x')] {
        let mut wrong = bytes.clone();
        wrong[at] = value;
        assert!(Entry::decode(&wrong, PayloadBytes::default()).is_none(), "byte {at}");
    }
    let longer = [bytes.as_slice(), b"x"].concat();
    assert!(Entry::decode(&longer, PayloadBytes::default()).is_none());
}

#[test]
fn a_soft_invalidation_travels_within_its_bounds() {
    let entry = Entry::new(Content::default(), 0).unwrap();
    let encode =
        |moment_ms, grace_ms| entry.encode(b"t", &[], Verdict::Soft(Soft { moment_ms, grace_ms: Some(grace_ms) }));
    let decoded = |bytes: &[u8]| {
        Entry::decode(bytes, PayloadBytes::default())
            .map(|entry| (entry.names().unwrap().soft, entry.carries_dead_mark()))
    };
    let soft = |moment_ms, grace_ms| Some((Some(Soft { moment_ms, grace_ms: Some(grace_ms) }), false));
    assert_eq!(decoded(&encode(1_700_000_000_123, 60_000)), soft(1_700_000_000_123, 60_000));
    assert_eq!(decoded(&encode(u64::MAX, u64::MAX)), soft(MOMENTS - 1, GRACES - 1));
    assert_eq!(decoded(&encode(0, 0)), soft(0, 1));
    for (at, value) in [(8, 1), (14, 1), (15, 1)] {
        let mut wrong = encode(0, 1);
        wrong[at] = value;
        assert_eq!(decoded(&wrong).is_none(), at != 14, "byte {at}");
    }
    let mut without_grace = encode(0, 1);
    without_grace[10] = 0;
    assert_eq!(decoded(&without_grace), None);
    for (moment_ms, kept_ms) in [(0, 0), (1_700_000_000_123, 1_700_000_000_123), (u64::MAX, MOMENTS - 1)] {
        let bytes = entry.encode(b"t", &[], Verdict::Soft(Soft { moment_ms, grace_ms: None }));
        assert_eq!(decoded(&bytes), Some((Some(Soft { moment_ms: kept_ms, grace_ms: None }), false)));
        let late = bytes.iter().enumerate().map(|(at, byte)| if at == 8 { 1 } else { *byte }).collect::<Vec<_>>();
        assert_eq!(decoded(&late), None, "a moment beyond all bounds");
    }
    assert_eq!(decoded(&entry.encode(b"t", &[], Verdict::Dead)), Some((None, true)));
    assert_eq!(decoded(&entry.encode(b"t", &[], Verdict::Alive)), Some((None, false)));
}

#[test]
fn a_tag_twice_or_too_many_tags_are_refused() {
    let entry = Entry::new(Content::default(), 2).unwrap();
    assert!(Entry::decode(&entry.encode(b"t", &[b"a", b"a"], Verdict::Alive), PayloadBytes::default()).is_none());
    assert!(Entry::decode(&entry.encode(b"", &[b"a", b"b"], Verdict::Alive), PayloadBytes::default()).is_none());
    assert!(Entry::new(Content::default(), MAX_TAGS + 1).is_none());
}

#[test]
fn uses_are_counted_and_timed_by_a_clock_of_their_own() {
    let mut entry = Entry::new(Content { created_ms: 1_000, ..Content::default() }, 0).unwrap();
    assert_eq!((entry.hits(), entry.touched_us()), (0, 0));
    entry.hit(1_234_567);
    assert_eq!((entry.hits(), entry.touched_us(), entry.use_order()), (1, 1_234_567, (1_234_567, 1_000)));
    entry.touch(1 << 47);
    assert_eq!((entry.hits(), entry.touched_us()), (1, 1 << 47));
    entry.touch(u64::MAX);
    assert_eq!(entry.touched_us(), (1 << 48) - 1, "nine years later they are not told apart any more");
}

#[test]
fn a_named_end_travels_and_what_has_none_is_as_it_always_was() {
    let encoded = |end| {
        let extras = Extras { end, ..Extras::default() };
        let content = Content { created_ms: 5, lifetime_ms: 7, extras, stored: [3; 9].as_slice().into() };
        Entry::new(content, 0).unwrap().encode(b"t", &[], Verdict::Alive)
    };
    let end =
        |bytes: &[u8]| Entry::decode(bytes, [3; 9].as_slice().into()).map(|entry| (entry.end(), entry.extras().etag));
    let (plain, named) = (encoded(End::OfLifetime), encoded(End::Named));
    assert_eq!(end(&plain), Some((End::OfLifetime, None)));
    assert_eq!(end(&named), Some((End::Named, None)));
    assert_eq!(named, [plain.as_slice(), &[128, 1]].concat());
    for wrong in [[128, 0], [128, 2], [128, 3], [128, 255]] {
        assert_eq!(end(&[plain.as_slice(), &wrong].concat()), None);
    }
    assert_eq!(end(&[plain.as_slice(), &[128]].concat()), None);
    // With everything else there is, and an MD5 that comes later.
    let mut entry = Entry::new(full(&[1; 300]), 0).unwrap();
    let etag = entry.etag();
    assert_eq!((entry.end(), entry.known_etag(), entry.extras().meta), (End::Named, Some(etag), full(b"").extras.meta));
}

#[test]
fn a_cost_is_bounded() {
    let cost = |cost_ms| {
        let extras = Extras { cost_ms, ..Extras::default() };
        Entry::new(Content { extras, ..Content::default() }, 0).unwrap().cost_ms()
    };
    assert_eq!(
        [None, Some(0), Some(MAX_COST_MS), Some(i64::MAX as u64)].map(cost)[..],
        [None, Some(0), Some(MAX_COST_MS), Some(MAX_COST_MS)]
    );
}

#[test]
fn a_key_was_born_no_later_than_it_was_stored() {
    let entry = |born_ms| {
        let extras = Extras { born_ms, ..Extras::default() };
        Entry::new(Content { created_ms: 5_000, extras, ..Content::default() }, 0).unwrap()
    };
    assert_eq!((entry(None).kept_born_ms(), entry(None).born_ms()), (None, 5_000));
    assert_eq!((entry(Some(3_000)).kept_born_ms(), entry(Some(3_000)).born_ms()), (Some(3_000), 3_000));
    assert_eq!(entry(Some(9_000)).born_ms(), 5_000, "as somebody may claim");
    assert_eq!(entry(None).extras_bytes(), None, "who has none pays nothing");
    assert_eq!(entry(Some(0)).extras_bytes().map(<[u8]>::len), Some(2 + 8));
    let mut entry = Entry::new(full(b"payload"), 0).unwrap();
    assert_eq!(entry.born_ms(), 1_600_000_000_321);
    entry.clamp_created_ms(7);
    assert_eq!(entry.born_ms(), 7);
}
