#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use std::collections::HashMap;

fn filters(json: &str) -> KeyRequest<'_> {
    KeyRequest { type_name: b"trips", filters: Some(json.as_bytes()), ..KeyRequest::default() }
}

fn canonical(request: &KeyRequest<'_>) -> String {
    String::from_utf8(canonical_json(request).unwrap()).unwrap()
}

fn canonical_filters(json: &str) -> String {
    let text = canonical(&filters(json));
    let inner = text.strip_prefix("{\"filters\":");
    inner.unwrap().strip_suffix('}').unwrap().to_owned()
}

fn key(request: &KeyRequest<'_>) -> String {
    String::from_utf8(derive_key(b"export_cache", request).unwrap()).unwrap()
}

fn refusal<T: fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().reply().into_owned()
}

#[test]
fn a_key_by_heart() {
    // Each digest can be had with `printf '%s' '<the JSON>' | md5sum`.
    let all = KeyRequest {
        type_name: b"trips",
        format: Some(b"csv"),
        filters: Some(br#"{"to": 2.50, "from": [1, true, null]}"#),
        company: Some(b"42"),
        user: Some(b"7"),
        project: Some("\u{20ac}".as_bytes()),
        fields: vec![(b"zone", b"b"), (b"area", b"a")],
        hashtag: None,
    };
    assert_eq!(
        canonical(&all),
        concat!(
            r#"{"company":"42","fields":{"area":"a","zone":"b"},"#,
            r#""filters":{"from":[1,true,null],"to":2.5},"#,
            "\"format\":\"csv\",\"project\":\"\u{20ac}\",\"user\":\"7\"}"
        )
    );
    let nothing = KeyRequest { type_name: b"trips", ..KeyRequest::default() };
    assert_eq!(canonical(&nothing), "{}");

    let tagged = KeyRequest { hashtag: Some(b"acme:42"), ..all.clone() };
    let cases = [
        (&nothing, "export_cache:trips:99914b932bd37a50b983c5e7c90ae93b"),
        (&all, "export_cache:trips:fbc97fbb95f179c3477a21cbb48c4066"),
        (&tagged, "export_cache:trips:{acme:42}:fbc97fbb95f179c3477a21cbb48c4066"),
    ];
    for (request, expected) in cases {
        assert_eq!(key(request), expected);
    }
    assert_eq!(derive_key(b"p:q", &nothing).unwrap(), b"p:q:trips:99914b932bd37a50b983c5e7c90ae93b");
}

#[test]
fn types_and_hash_tags_are_any_bytes() {
    let request = KeyRequest { type_name: b"\0\xff", hashtag: Some(b"\xfe"), ..KeyRequest::default() };
    let key = derive_key(b"\xfd", &request).unwrap();
    assert!(key.starts_with(b"\xfd:\0\xff:{\xfe}:"));
}

#[test]
fn rfc_8785_numbers() {
    let samples: [(u64, &str); 24] = [
        (0x0000000000000000, "0"),
        (0x8000000000000000, "0"),
        (0x0000000000000001, "5e-324"),
        (0x8000000000000001, "-5e-324"),
        (0x7fefffffffffffff, "1.7976931348623157e+308"),
        (0xffefffffffffffff, "-1.7976931348623157e+308"),
        (0x4340000000000000, "9007199254740992"),
        (0xc340000000000000, "-9007199254740992"),
        (0x4430000000000000, "295147905179352830000"),
        (0x44b52d02c7e14af5, "9.999999999999997e+22"),
        (0x44b52d02c7e14af6, "1e+23"),
        (0x44b52d02c7e14af7, "1.0000000000000001e+23"),
        (0x444b1ae4d6e2ef4e, "999999999999999700000"),
        (0x444b1ae4d6e2ef4f, "999999999999999900000"),
        (0x444b1ae4d6e2ef50, "1e+21"),
        (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
        (0x3eb0c6f7a0b5ed8d, "0.000001"),
        (0x41b3de4355555553, "333333333.3333332"),
        (0x41b3de4355555554, "333333333.33333325"),
        (0x41b3de4355555555, "333333333.3333333"),
        (0x41b3de4355555556, "333333333.3333334"),
        (0x41b3de4355555557, "333333333.33333343"),
        (0xbecbf647612f3696, "-0.0000033333333333333333"),
        (0x43143ff3c1cb0959, "1424953923781206.2"),
    ];
    for (bits, expected) in samples {
        let number = f64::from_bits(bits);
        // The shortest spelling that means this double, and one with far more digits than it needs.
        for written in [format!("{number:e}"), format!("{number:.800e}")] {
            assert_eq!(canonical_filters(&written), expected, "{written}");
        }
    }
}

#[test]
fn rfc_8785_text() {
    let sample = r#"{
        "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
        "literals": [null, true, false]
    }"#;
    let expected = concat!(
        r#"{"literals":[null,true,false],"#,
        r#""numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"#,
        "\"string\":\"\u{20ac}",
        r#"$\u000f\nA'B\"\\\\\"/"}"#,
    );
    assert_eq!(canonical_filters(sample), expected);
}

#[test]
fn rfc_8785_sorting() {
    let sample = r#"{
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\ud83d\ude00": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis"
    }"#;
    let expected = concat!(
        r#"{"\r":"Carriage Return","1":"One","#,
        "\"\u{80}\":\"Control\",",
        "\"\u{f6}\":\"Latin Small Letter O With Diaeresis\",",
        "\"\u{20ac}\":\"Euro Sign\",",
        "\"\u{1f600}\":\"Emoji: Grinning Face\",",
        "\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}",
    );
    assert_eq!(canonical_filters(sample), expected);
}

#[test]
fn the_same_parameters_give_the_same_key() {
    let spellings = [
        [r#"{"a":1,"b":{"c":[1,2],"d":"x"}}"#, r#" { "b" : {"d":"\u0078","c":[1.0,2e0]} , "a" : 10e-1 } "#],
        [r#"0.1"#, r#"0.10000000000000000001"#],
        [r#"-0"#, r#"0"#],
        [r#"1e21"#, r#"1000000000000000000000"#],
        [r#""\u00e9""#, "\"\u{e9}\""],
    ];
    for [one, other] in spellings {
        assert_eq!(key(&filters(one)), key(&filters(other)), "{one} {other}");
    }

    let fields: [(&[u8], &[u8]); 3] = [(b"a", b"1"), (b"b", b"2"), (b"c", b"3")];
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let keys = orders.map(|order| {
        key(&KeyRequest {
            type_name: b"trips",
            fields: order.map(|place| fields[place]).to_vec(),
            ..KeyRequest::default()
        })
    });
    assert!(keys.iter().all(|other| other == &keys[0]));
}

#[test]
fn different_parameters_give_different_keys() {
    let base = KeyRequest { type_name: b"trips", ..KeyRequest::default() };
    let with = |change: fn(&mut KeyRequest<'static>)| {
        let mut request = KeyRequest { type_name: b"trips", ..KeyRequest::default() };
        change(&mut request);
        request
    };
    let mut requests = vec![
        base,
        with(|r| r.type_name = b"Trips"),
        with(|r| r.type_name = b"trips:"),
        with(|r| r.format = Some(b"csv")),
        with(|r| r.format = Some(b"CSV")),
        with(|r| r.format = Some(b"")),
        with(|r| r.company = Some(b"csv")),
        with(|r| r.user = Some(b"csv")),
        with(|r| r.project = Some(b"csv")),
        with(|r| r.filters = Some(b"\"csv\"")),
        with(|r| r.fields = vec![(b"format", b"csv")]),
        with(|r| r.fields = vec![(b"csv", b"format")]),
        with(|r| r.fields = vec![(b"", b"")]),
        with(|r| r.fields = vec![(b"a", b"1"), (b"b", b"2")]),
        with(|r| r.fields = vec![(b"a", b"2"), (b"b", b"1")]),
        with(|r| r.fields = vec![(b"a\":\"1\",\"b", b"2")]),
        with(|r| r.filters = Some(br#"{"a":"1","b":"2"}"#)),
        with(|r| r.hashtag = Some(b"csv")),
        with(|r| r.hashtag = Some(b"x:{y")),
    ];
    let json = [
        "null",
        "true",
        "false",
        "0",
        "1",
        "0.1",
        "\"1\"",
        "\"\"",
        "[]",
        "{}",
        "[[]]",
        "[1,2]",
        "[2,1]",
        "[12]",
        "[1,\"2\"]",
        "{\"a\":null}",
        "{\"\":null}",
        "{\"a\":{\"b\":1}}",
        "{\"a\":1,\"b\":1}",
        "9007199254740991",
        "9007199254740992",
        "9007199254740994",
        "18446744073709551616.0",
        "0.30000000000000004",
        "0.3",
        "\"e\u{301}\"",
        "\"\u{e9}\"",
    ];
    requests.extend(json.map(filters));

    let mut seen = HashMap::new();
    for request in &requests {
        if let Some(other) = seen.insert(key(request), request) {
            panic!("{request:?} and {other:?} have the same key");
        }
    }
}

#[test]
fn integers_must_fit_a_double() {
    let cases = [
        ("9007199254740991", true),
        ("9007199254740992", true),
        ("9007199254740993", false),
        ("-9007199254740993", false),
        ("9007199254740994", true),
        ("9223372036854775807", false),
        ("9223372036854775808", true),
        ("-9223372036854775808", true),
        ("-9223372036854775809", false),
        ("18446744073709551615", false),
        ("18446744073709551616", true),
        ("18446744073709551617", false),
        ("10000000000000000000000", true),
        ("100000000000000000000000", false),
        // However it is written.
        ("9007199254740993.0", false),
        ("9007199254740993.000", false),
        ("[-9007199254740993.0]", false),
        ("9007199254740992.0", true),
        ("9007199254740994.00", true),
        ("9007199254740993.5", false),
        ("9007199254740992.5", false),
        ("4503599627370497.5", true),
        ("123456789012345.0625", true),
        ("-0.00000000000000000", true),
        ("0.10000000000000000555", true),
        // An exponent says that a double is meant.
        ("1e23", true),
        ("2.9514790517935283e+20", true),
        // Not a number.
        (r#""9007199254740993""#, true),
        (r#""\"9007199254740993""#, true),
        (r#"{"9007199254740993":"9007199254740993"}"#, true),
        // Anywhere.
        (r#"{"a":[1,{"b":9007199254740993}]}"#, false),
        (r#"["\\",9007199254740993]"#, false),
        (r#"["\\\"",9007199254740993,"\""]"#, false),
    ];
    for (json, accepted) in cases {
        assert_eq!(derive_key(b"p", &filters(json)).is_ok(), accepted, "{json}");
    }
    assert_eq!(
        refusal(derive_key(b"p", &filters("[18446744073709551617]"))),
        "ERR FILTERS has the integer 18446744073709551617, which a double cannot hold: write it as a string"
    );
    let endless = "9".repeat(MAX_JSON_BYTES);
    assert!(derive_key(b"p", &filters(&endless)).is_err());
}

#[test]
fn number_tokens_are_as_written() {
    let json = r#"{"1":-2.5e+3,"a\"4":[true,0,"5\\"],"e":{"f":false,"g":[[1E5],7]},"h":null}"#;
    let tokens: Vec<_> = number_tokens(json).collect();
    assert_eq!(tokens, ["-2.5e+3", "0", "1E5", "7"]);
}

#[test]
fn ambiguous_or_malformed_filters_are_refused() {
    let long = format!("\"{}\"", "x".repeat(MAX_JSON_BYTES - 1));
    let deep = "[".repeat(200) + &"]".repeat(200);
    let cases: [(&str, &[u8]); 20] = [
        ("member 'a' is given twice", br#"{"a":1,"a":1}"#),
        ("member 'a' is given twice", br#"{"a":1,"\u0061":2}"#),
        ("member 'b' is given twice", br#"[{"a":{"b":1,"c":2,"b":3}}]"#),
        ("member '\u{fffd}' is given twice", br#"{"\r":1,"\r":2}"#),
        ("valid JSON", b""),
        ("valid JSON", b"{"),
        ("valid JSON", b"{} {}"),
        ("valid JSON", b"{'a':1}"),
        ("valid JSON", b"[1,]"),
        ("valid JSON", b"01"),
        ("valid JSON", b"NaN"),
        ("valid JSON", b"1e400"),
        ("valid JSON", b"\"\\ud800\""),
        ("valid JSON", b"\"\x01\""),
        ("valid JSON", "\u{feff}{}".as_bytes()),
        ("valid JSON", b"null\0"),
        ("UTF-8", b"\"\xff\""),
        ("UTF-8", b"\xff"),
        ("recursion limit", deep.as_bytes()),
        ("at most 64 KiB", long.as_bytes()),
    ];
    for (expected, json) in cases {
        let request = KeyRequest { type_name: b"trips", filters: Some(json), ..KeyRequest::default() };
        let reply = refusal(derive_key(b"p", &request));
        assert!(reply.starts_with("ERR FILTERS "), "{reply}");
        assert!(reply.contains(expected), "{reply}");
        assert!(reply.len() < 200 && !reply.contains(['\r', '\n']), "{reply}");
    }
    let longest = format!("\"{}\"", "x".repeat(MAX_JSON_BYTES - 2));
    assert!(derive_key(b"p", &filters(&longest)).is_ok());
    let deepest = "[".repeat(127) + &"]".repeat(127);
    assert!(derive_key(b"p", &filters(&deepest)).is_ok());
}

#[test]
fn other_parameters_that_are_refused() {
    let long = [b'x'; MAX_NAME_BYTES + 1];
    let request = |change: &dyn Fn(&mut KeyRequest<'static>)| {
        let mut request = KeyRequest { type_name: b"trips", ..KeyRequest::default() };
        change(&mut request);
        refusal(derive_key(b"p", &request))
    };
    let cases = [
        (request(&|r| r.type_name = b""), "ERR a type must be 1 to 512 bytes"),
        (request(&|r| r.company = Some(b"\xff")), "ERR COMPANY must be UTF-8"),
        (request(&|r| r.format = Some(b"\xff")), "ERR FORMAT must be UTF-8"),
        (request(&|r| r.fields = vec![(b"a", b"\xff")]), "ERR FIELD must be UTF-8"),
        (request(&|r| r.fields = vec![(b"\xff", b"a")]), "ERR FIELD must be UTF-8"),
        (request(&|r| r.fields = vec![(b"a", b"1"), (b"b", b"1"), (b"a", b"1")]), "ERR FIELD 'a' is given twice"),
        (request(&|r| r.hashtag = Some(b"")), "ERR HASHTAG must not be empty and not contain '}'"),
        (request(&|r| r.hashtag = Some(b"a}b")), "ERR HASHTAG must not be empty and not contain '}'"),
        (request(&|r| r.type_name = b"a:{b}"), "ERR a type with ':{' in it cannot be part of a derived key"),
        (
            request(&|r| {
                r.type_name = b"{a";
                r.hashtag = Some(b"b");
            }),
            "ERR HASHTAG has no effect after a prefix or type with '{' in it",
        ),
    ];
    for (reply, expected) in cases {
        assert_eq!(reply, expected);
    }

    let too_long = KeyRequest { type_name: &long, ..KeyRequest::default() };
    assert!(derive_key(b"p", &too_long).is_err());
    let fixed_slot = KeyRequest { type_name: b"trips", hashtag: Some(b"b"), ..KeyRequest::default() };
    assert!(derive_key(b"{p}", &fixed_slot).is_err());
}

#[test]
fn types_by_key_name() {
    type Case = (&'static [u8], &'static [u8], usize, &'static [&'static [u8]]);
    let cases: [Case; 16] = [
        (b"p", b"p:trips:1", 0, &[b"trips", b"p"]),
        (b"p", b"p:trips:{a}:1", 0, &[b"trips", b"p"]),
        (b"p", b"p:trips", 0, &[b"p"]),
        (b"p", b"p::x", 0, &[b"p"]),
        (b"p", b"trips:1", 0, &[b"trips"]),
        (b"p", b"pp:trips:1", 0, &[b"pp"]),
        (b"p", b"trips", 0, &[]),
        (b"p", b":trips:1", 0, &[]),
        (b"p", b"", 9, &[]),
        (b"a:b", b"a:b:trips:1", 0, &[b"trips", b"a"]),
        (b"", b":trips:1", 0, &[b"trips"]),
        (b"\xff", b"\xff:\0:", 0, &[b"\0", b"\xff"]),
        // A name may have colons, and the longest is meant.
        (b"p", b"p:a:b:1", 1, &[b"a:b", b"a", b"p:a", b"p"]),
        (b"p", b"p:a:b:1", 9, &[b"a:b", b"a", b"p:a:b", b"p:a", b"p"]),
        // A hash tag is no part of it.
        (b"p", b"p:a:b:{c:d}:1", 9, &[b"a:b", b"a", b"p:a:b:{c:d}", b"p:a:b:{c", b"p:a:b", b"p:a", b"p"]),
        (b"p", b"::a:", 9, &[b"::a", b":"]),
    ];
    for (prefix, key, most_colons, expected) in cases {
        assert_eq!(types_in_key(prefix, key, most_colons).collect::<Vec<_>>(), expected, "{key:?} {most_colons}");
    }
}

/// Whatever type a key was derived for is the first one read off it, and another that is defined too changes nothing.
#[test]
fn the_type_of_a_derived_key_is_read_back() {
    let types: [&[u8]; 6] = [b"a", b"a:b", b"a:b:c", b":", b"a:", b"\xff:\0"];
    let tags: [Option<&[u8]>; 4] = [None, Some(b"x"), Some(b"x:y"), Some(b"{:")];
    for (type_name, hashtag) in types.iter().flat_map(|name| tags.map(|tag| (*name, tag))) {
        let request = KeyRequest { type_name, hashtag, ..KeyRequest::default() };
        let key = derive_key(b"p", &request).unwrap();
        let read = types_in_key(b"p", &key, 9).find(|name| types.contains(name));
        assert_eq!(read, Some(type_name), "{type_name:?} {hashtag:?}");
    }
}

#[test]
fn md5_in_hex() {
    let cases: [(&[u8], &str); 3] = [
        (b"", "d41d8cd98f00b204e9800998ecf8427e"),
        (b"abc", "900150983cd24fb0d6963f7d28e17f72"),
        (b"message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
    ];
    for (payload, expected) in cases {
        assert_eq!(md5_hex(payload), expected.as_bytes());
    }
}

#[test]
fn names() {
    let long = [b'x'; MAX_NAME_BYTES + 1];
    assert_eq!(validate_name("tag", b"\0"), Ok(()));
    assert_eq!(validate_name("tag", &long[1..]), Ok(()));
    for name in [&b""[..], &long] {
        let reply = refusal(validate_name("tag", name));
        assert_eq!(reply, "ERR a tag must be 1 to 512 bytes");
    }
}

#[test]
fn metadata() {
    let longest = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_JSON_BYTES - 8));
    let deep = "{\"a\":".repeat(9000) + "1" + &"}".repeat(9000);
    let good = [
        "{}",
        " \t\r\n{} ",
        r#"{"a":[1,{"b":null}],"c":"\u20ac"}"#,
        r#"{"a":1,"a":18446744073709551617}"#,
        &longest,
        &deep,
    ];
    for json in good {
        assert_eq!(validate_meta(json.as_bytes()), Ok(()));
    }

    let too_long = longest.clone() + " ";
    let text = format!("\"{}\"", "x".repeat(1000));
    let bad: [(&[u8], &str); 12] = [
        (b"", "valid JSON"),
        (b"[]", "a JSON object"),
        (b"null", "a JSON object"),
        (b"1", "a JSON object"),
        (text.as_bytes(), "a JSON object"),
        (b"{", "valid JSON"),
        (b"{}x", "valid JSON"),
        (b"{}{}", "valid JSON"),
        (b"\x0c{}", "valid JSON"),
        (b"{\"a\":}", "valid JSON"),
        (b"{\"a\":\"\xff\"}", "UTF-8"),
        (too_long.as_bytes(), "at most 64 KiB"),
    ];
    for (json, expected) in bad {
        let reply = refusal(validate_meta(json));
        assert!(reply.starts_with("ERR META must be "), "{reply}");
        assert!(reply.contains(expected) && reply.len() < 200, "{reply}");
    }
}
