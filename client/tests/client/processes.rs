//! Two hundred tasks in four processes: one production.

use std::process::{Command, Stdio};
use std::time::Duration;

use expcache_client::How;

use super::*;

const PROCESSES: usize = 4;
const TASKS: usize = 50;
const PORT: &str = "EXPCACHE_TEST_PORT";
const ONE: &str = "processes::one_of_four";

#[test]
fn two_hundred_tasks_in_four_processes_produce_once() {
    let server = Server::start();
    let this = std::env::current_exe().unwrap();
    let one = || {
        let mut command = Command::new(&this);
        command.args(["--exact", ONE, "--ignored", "--nocapture"]).env(PORT, server.port().to_string());
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    let children: Vec<_> = (0..PROCESSES).map(|_| one()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let mut c = server.conn();
    assert_eq!(c.cmd("GET productions"), "1");
    assert_eq!(c.cmd("GET answers"), (PROCESSES * TASKS).to_string().as_str());
    assert_eq!(c.map("EXPCACHE.STATS")["sets"], 1);
}

/// What each of the processes does; it is started by the test above only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a part of another test"]
async fn one_of_four() {
    let Ok(port) = std::env::var(PORT) else { return };
    let address = format!("redis://127.0.0.1:{port}/");
    let cache = Cache::open(Config::single(address.as_str()).unwrap().patience(PATIENCE)).unwrap();
    let counter = redis::Client::open(address).unwrap().get_multiplexed_async_connection().await.unwrap();
    let incr = async |name: &str| {
        let count: i64 = redis::cmd("INCR").arg(name).query_async(&mut counter.clone()).await.unwrap();
        count
    };
    incr("ready").await;
    until("all four are ready", async || {
        let ready: usize = redis::cmd("GET").arg("ready").query_async(&mut counter.clone()).await.unwrap();
        ready == PROCESSES
    })
    .await;
    let asking: Vec<_> = (0..TASKS)
        .map(|_| {
            let (cache, mut counter) = (cache.clone(), counter.clone());
            tokio::spawn(async move {
                let produce = move || async move {
                    let run: i64 = redis::cmd("INCR").arg("productions").query_async(&mut counter).await?;
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    Ok::<_, redis::RedisError>(format!("run {run}"))
                };
                cache.get_or_produce(&request(&cache), produce).await.unwrap()
            })
        })
        .collect();
    for task in asking {
        let served = task.await.unwrap();
        assert_eq!(served.payload(), "run 1");
        assert_ne!(served.how(), How::Degraded);
        incr("answers").await;
    }
}
