//! The Rust of `docs/clients.md`, compiled: what stands here between the marks is what the page shows.

#![allow(dead_code, reason = "it is compiled, and not run")]

use expcache_client::{BoxError, Error};

#[derive(serde::Serialize, serde::Deserialize)]
struct Trip {
    from: String,
    to: String,
}

async fn trips_of_may() -> std::io::Result<Vec<Trip>> {
    Ok(Vec::new())
}

async fn one_call() -> Result<(), BoxError> {
    // [shown
    use expcache_client::{BoxError, Cache, Config, Export};
    use std::time::Duration;

    let cache = Cache::open(Config::single("redis://127.0.0.1/")?)?;

    let request = cache
        .request("trips")
        .format("csv")
        .company(42)
        .filters(&serde_json::json!({"month": 5}))
        .grace(Duration::from_secs(300))
        .build()?;

    // Whatever fails in it, here an `io::Error` or that of the export, is a `BoxError`.
    let produce = || async { Ok::<_, BoxError>(Export::csv(trips_of_may().await?)?) };
    let served = cache.get_or_produce(&request, produce).await?;
    println!("{} bytes, {:?}, {}", served.payload().len(), served.how(), served.cache_status_header());

    cache.invalidate_company(42).await?;
    // shown]
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum MyError {
    #[error(transparent)]
    Database(#[from] std::io::Error),
    #[error(transparent)]
    Cache(#[from] Error),
}

// [shown
use expcache_client::{Cache, cached};
use std::time::Duration;

#[cached(type = "trips", company = company, grace = Duration::from_secs(300))]
async fn trips(cache: &Cache, company: String, month: u8) -> Result<Vec<Trip>, MyError> {
    Ok(query(&company, month).await?)
}
// shown]

async fn query(_company: &str, _month: u8) -> std::io::Result<Vec<Trip>> {
    Ok(Vec::new())
}

#[test]
fn the_page_shows_this() {
    let page = include_str!("../../../docs/clients.md");
    let shown: Vec<String> = include_str!("page.rs").split("// [shown\n").skip(1).filter_map(snippet).collect();
    for snippet in &shown {
        assert!(page.contains(&format!("```rust\n{snippet}\n```\n")), "docs/clients.md does not show\n{snippet}");
    }
    // The other program is in contrib/clients.
    assert_eq!(page.matches("```rust\n").count(), shown.len() + 1);
}

/// Up to the mark of its end, without what it is indented by.
fn snippet(text: &str) -> Option<String> {
    let (lines, _) = text.split_once("// shown]")?;
    let indent = lines.len() - lines.trim_start().len();
    let lines = lines.lines().map(|line| line.get(indent..).unwrap_or_default());
    Some(lines.collect::<Vec<_>>().join("\n").trim_end().to_owned())
}
