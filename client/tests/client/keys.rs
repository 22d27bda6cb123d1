//! Keys derived here are those that the server derives.

use expcache_client::expcache_core::key::KeyRequest;
use expcache_client::{Client, Request};

use super::*;
use harness::Random;

const REQUESTS: usize = 4000;

/// What trips up whoever normalizes, escapes or sorts in another way.
const TEXTS: [&str; 20] = [
    "",
    "a",
    "42",
    "é",
    "e\u{301}",
    "\u{fb33}",
    "€",
    "😂",
    "\u{10ffff}",
    "\u{e000}",
    "\u{ffff}",
    "\u{2028}",
    "\"\\/",
    "\u{0}",
    "\u{1f}\u{7f}\u{80}",
    "\r\n\t\u{8}\u{c}",
    "ﬁ",
    "İi̇ı",
    "ß",
    "a:{b}:c",
];

const NUMBERS: [&str; 26] = [
    "0",
    "-0",
    "-0.0",
    "1",
    "1.0",
    "1e0",
    "100",
    "1E2",
    "1e2",
    "0.1",
    "1e-7",
    "0.0000001",
    "1e21",
    "1e20",
    "123456789012345",
    "9007199254740992",
    "-9007199254740992",
    "9007199254740993",
    "18446744073709551616",
    "1.7976931348623157e308",
    "5e-324",
    "1e400",
    "333333333.33333329",
    "2e-3",
    "4.50",
    "1e23",
];

fn text(random: &mut Random) -> String {
    let parts = 1 + random.below(3);
    (0..parts).map(|_| TEXTS[random.below(TEXTS.len())]).collect()
}

fn json(random: &mut Random, depth: usize) -> String {
    let items = |random: &mut Random, item: &mut dyn FnMut(&mut Random) -> String| {
        let count = random.below(4);
        (0..count).map(|_| item(random)).collect::<Vec<_>>().join(" , ")
    };
    match random.below(if depth == 0 { 4 } else { 6 }) {
        0 => NUMBERS[random.below(NUMBERS.len())].to_owned(),
        1 => serde_json::to_string(&text(random)).unwrap(),
        2 => ["true", "false", "null"][random.below(3)].to_owned(),
        // Random digits: doubles of every shape.
        3 => format!("{}.{}e{}", random.below(1000), random.next(), random.below(40) as i64 - 20),
        4 => format!("[{}]", items(random, &mut |random| json(random, depth - 1))),
        _ => {
            let member = &mut |random: &mut Random| {
                format!("{}: {}", serde_json::to_string(&text(random)).unwrap(), json(random, depth - 1))
            };
            format!("{{ {} }}", items(random, member))
        }
    }
}

fn maybe(random: &mut Random) -> Option<String> {
    (random.below(2) == 0).then(|| text(random))
}

#[tokio::test]
async fn they_are_those_of_keyfor() {
    let server = Server::start();
    let client = client(&server);
    let mut random = Random::new(7);
    let (mut derived, mut refused) = (0, 0);
    for _ in 0..REQUESTS {
        match compare(&client, &mut random).await {
            true => derived += 1,
            false => refused += 1,
        }
    }
    assert!(derived > REQUESTS / 2 && refused > REQUESTS / 100, "{derived} derived, {refused} refused");
}

/// Asks both; they agree on the key, or both refuse.
async fn compare(client: &Client, random: &mut Random) -> bool {
    let filters = (random.below(3) > 0).then(|| json(random, 3));
    let [format, company, user, project] = std::array::from_fn(|_| maybe(random));
    let fields: Vec<(String, String)> = (0..random.below(4)).map(|_| (text(random), text(random))).collect();
    let hashtag = (random.below(4) == 0).then(|| text(random));
    let type_name = ["trips", "t:u", "é", "a{b"][random.below(4)];

    let request = KeyRequest {
        type_name: type_name.as_bytes(),
        format: format.as_deref().map(str::as_bytes),
        filters: filters.as_deref().map(str::as_bytes),
        company: company.as_deref().map(str::as_bytes),
        user: user.as_deref().map(str::as_bytes),
        project: project.as_deref().map(str::as_bytes),
        fields: fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect(),
        hashtag: hashtag.as_deref().map(str::as_bytes),
    };
    // An entry of nobody, or of a format without a name, is not stored: here it is refused at once.
    let is_empty = [&company, &user, &project, &format].into_iter().flatten().any(|text| text.is_empty());
    let theirs = client.key_for(&request).await.ok().filter(|_| !is_empty);

    let mut builder = Request::builder("export_cache", type_name);
    if let Some(format) = format {
        builder = builder.format(format);
    }
    if let Some(json) = &filters {
        builder = builder.filters_json(json);
    }
    if let Some(id) = company {
        builder = builder.company(id);
    }
    if let Some(id) = user {
        builder = builder.user(id);
    }
    if let Some(id) = project {
        builder = builder.project(id);
    }
    for (name, value) in &fields {
        builder = builder.field(name, value);
    }
    if let Some(text) = hashtag {
        builder = builder.hashtag(text);
    }
    let ours = builder.build().ok().map(|request| request.key().to_vec());
    assert_eq!(ours.as_deref(), theirs.as_deref(), "{filters:?} {fields:?}");
    ours.is_some()
}
