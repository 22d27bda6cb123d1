//! Configuration: CONFIG GET, SET and REWRITE, the configuration file, and the module's arguments.

use crate::harness::{Server, Stop, Value, args, check, refused};

#[test]
fn every_setting_has_a_default_and_can_be_changed() {
    let server = Server::start();
    for (name, default, other) in [
        ("expcache.prefix", "export_cache", "acme"),
        ("expcache.default-ttl", "1h", "90m"),
        ("expcache.max-types", "1024", "2000"),
        ("expcache.reclaim-slice-us", "100", "1000"),
        ("expcache.reclaim-inline", "256", "100"),
        ("expcache.max-decoded", "268435456", "1048576"),
        ("expcache.max-decoded-at-once", "8388608", "67108864"),
        ("expcache.max-ratio", "250", "0"),
    ] {
        let mut c = server.conn();
        assert_eq!(c.config(name), default);
        c.ok(&["CONFIG", "SET", name, other]);
        assert_eq!(c.config(name), other);
        c.ok(&["CONFIG", "SET", name, default]);
        assert_eq!(c.config(name), default);
    }
}

#[test]
fn a_setting_that_makes_no_sense_is_refused() {
    let server = Server::start();
    let mut c = server.conn();
    for (name, value) in [
        ("expcache.default-ttl", "soon"),
        ("expcache.default-ttl", "3600"),
        ("expcache.default-ttl", "-1h"),
        ("expcache.default-ttl", ""),
        ("expcache.max-types", "many"),
        ("expcache.max-types", "-1"),
        ("expcache.reclaim-slice-us", "-1"),
        ("expcache.reclaim-slice-us", "long"),
        ("expcache.reclaim-inline", "-1"),
        ("expcache.max-decoded", "1000"),
        ("expcache.max-decoded", "1gb"),
        ("expcache.max-decoded-at-once", "1000"),
        ("expcache.max-ratio", "-1"),
        ("expcache.nonsense", "1"),
    ] {
        let before = c.map(&["CONFIG", "GET", "expcache.*"]);
        refused(&mut c, &["CONFIG", "SET", name, value], "ERR");
        assert_eq!(c.map(&["CONFIG", "GET", "expcache.*"]), before, "{name} {value}");
    }
}

#[test]
fn a_prefix_is_any_text() {
    let server = Server::start();
    let mut c = server.conn();
    for prefix in ["%s%n", "a:b", "#", "Préfixe"] {
        c.ok(&["CONFIG", "SET", "expcache.prefix", prefix]);
        assert_eq!(c.config("expcache.prefix"), prefix);
        let key = c.text("EXPCACHE.KEYFOR trips");
        assert_eq!(key, format!("{prefix}:trips:99914b932bd37a50b983c5e7c90ae93b"));
        c.ok(args!["EXPCACHE.SET", &key, "v"]);
        assert_eq!(c.map(args!["EXPCACHE.META", &key])["type"], "trips");
    }
    check(&mut c);
}

/// The server writes a module's settings into its file without quotes; whatever it accepts, it must start with again.
#[test]
fn every_prefix_that_is_accepted_survives_rewrite_and_restart() {
    let mut server = Server::start();
    for prefix in ["with a blank", "tab\t", "\"quoted\"", "it's", "line\nbreak", "", "#", "a\\x", "{a}:", "Préfixe"] {
        let mut c = server.conn();
        let before = c.config("expcache.prefix");
        let accepted = !matches!(c.cmd(&["CONFIG", "SET", "expcache.prefix", prefix]), Value::Error(_));
        assert_eq!(accepted, !prefix.is_empty() && !prefix.contains([' ', '\t', '\n', '"', '\'', '\\']), "{prefix:?}");
        c.ok("CONFIG REWRITE");
        server.restart(Stop::NoSave);
        let expected = if accepted { prefix } else { before.as_str() };
        assert_eq!(server.conn().config("expcache.prefix"), expected);
    }
}

#[test]
fn settings_survive_rewrite_and_restart() {
    let mut server = Server::start();
    let mut c = server.conn();
    c.ok("CONFIG SET expcache.prefix acme expcache.default-ttl 90m expcache.max-types 77");
    c.ok("CONFIG REWRITE");
    server.restart(Stop::NoSave);
    let mut c = server.conn();
    assert_eq!(c.config("expcache.prefix"), "acme");
    assert_eq!(c.config("expcache.default-ttl"), "90m");
    assert_eq!(c.config("expcache.max-types"), "77");
}

#[test]
fn the_configuration_file_is_read() {
    let server = Server::with(&["--expcache.prefix", "acme", "--expcache.default-ttl", "2h"]);
    let mut c = server.conn();
    assert_eq!(c.config("expcache.prefix"), "acme");
    assert_eq!(c.config("expcache.default-ttl"), "2h");
    assert_eq!(c.config("expcache.reclaim-inline"), "256");
}

#[test]
fn module_arguments_are_settings() {
    let mut server = Server::load(&["prefix", "acme", "default-ttl", "2h"], &[]).unwrap();
    let mut c = server.conn();
    assert_eq!(c.config("expcache.prefix"), "acme");
    assert_eq!(c.config("expcache.default-ttl"), "2h");
    assert_eq!(c.config("expcache.reclaim-inline"), "256");

    c.ok("CONFIG SET expcache.prefix other");
    c.ok("CONFIG REWRITE");
    server.restart(Stop::NoSave);
    let mut c = server.conn();
    assert_eq!(c.config("expcache.prefix"), "other", "rewritten, it wins");
    assert_eq!(c.config("expcache.default-ttl"), "2h");
}

#[test]
fn a_wrong_argument_stops_the_load_and_says_so() {
    for (module_args, complaint) in [
        (&["nonsense", "1"][..], "nonsense"),
        (&["prefix", "acme", "nonsense", "1"], "nonsense"),
        (&["nonsense"], "nonsense"),
        (&["prefix"], "prefix"),
        (&["default-ttl", "soon"], "default-ttl"),
        (&["default-ttl", "3600"], "default-ttl"),
        (&["max-types", "many"], "max-types"),
        (&["%s%n%s%n", "1"], "%s%n"),
    ] {
        match Server::load(module_args, &[]) {
            Ok(_) => panic!("started with {module_args:?}"),
            Err(log) => assert!(log.contains(complaint), "{module_args:?}:\n{log}"),
        }
    }
}

#[test]
fn a_wrong_line_in_the_configuration_file_stops_the_server() {
    for line in [["--expcache.default-ttl", "soon"], ["--expcache.nonsense", "1"]] {
        assert!(Server::load(&[], &line).is_err(), "started with {line:?}");
    }
}

#[test]
fn the_module_cannot_be_unloaded() {
    let server = Server::with(&["--enable-module-command", "yes"]);
    let mut c = server.conn();
    c.ok("EXPCACHE.SET k v");
    let modules = c.cmd("MODULE LIST");
    assert!(modules.items().iter().any(|module| module.fields()["name"] == "expcache"), "{modules}");
    refused(&mut c, "MODULE UNLOAD expcache", "ERR Error unloading module");
    assert_eq!(c.cmd("EXPCACHE.GET k"), "v");
}
