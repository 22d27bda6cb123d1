//! Without an async runtime.

use expcache_client::blocking;
use expcache_client::{Event, How, Purge, Rule, Selector, Set};

use super::*;

#[test]
fn the_same_without_a_runtime() {
    let server = Server::start();
    let cache = blocking::Cache::open(config(&server)).unwrap();
    let runs = Runs::default();
    let request = cache.request("trips").company(42).build().unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (cache, runs, request) = (cache.clone(), runs.clone(), request.clone());
            std::thread::spawn(move || {
                let produce = move || {
                    runs.next();
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    Ok::<_, std::io::Error>("v")
                };
                cache.get_or_produce(&request, produce).unwrap()
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap().payload(), "v");
    }
    assert_eq!(runs.count(), 1);
    assert_eq!(cache.get(&request).unwrap().unwrap().how(), How::Hit);
    cache.put(&request, "put").unwrap();
    assert_eq!(cache.get(&request).unwrap().unwrap().payload(), "put");
    assert_eq!(cache.invalidate_tags(["company:42"]).unwrap(), 1);
    assert!(!cache.remove(&request).unwrap());
    cache.run(cache.client().set(&Set::new("k", "v"))).unwrap();
    assert_eq!(cache.run(cache.client().stats()).unwrap().entries, 1);

    let producer_panics = || if true { panic!("on purpose") } else { Ok::<_, std::io::Error>("") };
    assert!(cache.get_or_produce(&request, producer_panics).is_err());

    let everything = cache.request("trips").company(1).user(2).project(3).object(4).build().unwrap();
    let rule = Rule::on_event("changed", Selector::new().type_name("trips"));
    cache.run(cache.client().set_rule("trips", &rule)).unwrap();
    let gone = [
        |cache: &blocking::Cache| cache.invalidate_company(1),
        |cache: &blocking::Cache| cache.invalidate_user(2),
        |cache: &blocking::Cache| cache.invalidate_project(3),
        |cache: &blocking::Cache| cache.invalidate_object(4),
        |cache: &blocking::Cache| Ok(cache.purge(&Selector::new().any(["object:4"]), Purge::hard())?.count),
        |cache: &blocking::Cache| Ok(cache.event(&Event::new("changed"))?.count),
        |cache: &blocking::Cache| cache.clear().map(|cleared| cleared - 1),
    ];
    for invalidate in gone {
        cache.put(&everything, "v").unwrap();
        assert_eq!(invalidate(&cache).unwrap(), 1);
        assert!(cache.get(&everything).unwrap().is_none());
    }
}
