//! Exports read in parts.

use expcache_client::{Error, Set};
use futures_util::TryStreamExt as _;

use super::*;

#[tokio::test]
async fn the_parts_are_the_whole() {
    let server = Server::start();
    let client = client(&server);
    let whole: Vec<u8> = (0..100_003_u32).flat_map(u32::to_le_bytes).collect();
    client.set(&Set::new("k", whole.clone()).format("bin")).await.unwrap();
    for part_bytes in [1 << 12, 100_000, 1 << 30] {
        let parts = client.read_in_parts("k", part_bytes).await.unwrap().unwrap();
        assert_eq!((parts.size(), parts.format()), (whole.len() as u64, Some(b"bin".as_slice())));
        let read: Vec<_> = parts.into_stream().try_collect().await.unwrap();
        assert!(read.iter().all(|part| part.len() as u64 <= part_bytes));
        assert_eq!(read.concat(), whole);
    }
    let mut tail = client.read_in_parts("k", 1 << 20).await.unwrap().unwrap();
    tail.seek(whole.len() as u64 - 3);
    assert_eq!(tail.next().await.unwrap().unwrap(), whole[whole.len() - 3..]);
    assert_eq!(tail.next().await.unwrap(), None);
}

#[tokio::test]
async fn nothing_and_the_empty() {
    let server = Server::start();
    let client = client(&server);
    assert!(client.read_in_parts("k", 10).await.unwrap().is_none());
    client.set(&Set::new("k", "")).await.unwrap();
    assert_eq!(client.read_in_parts("k", 10).await.unwrap().unwrap().next().await.unwrap(), None);
}

#[tokio::test]
async fn never_a_mixture_of_two() {
    let server = Server::start();
    let client = client(&server);
    client.set(&Set::new("k", "0123456789")).await.unwrap();
    for change in ["EXPCACHE.SET k abcdefghij", "EXPCACHE.DEL k"] {
        let mut parts = client.read_in_parts("k", 4).await.unwrap().unwrap();
        parts.next().await.unwrap().unwrap();
        server.conn().cmd(change);
        assert!(matches!(parts.next().await, Err(Error::Changed)));
    }
}
