//! A clock of the day that a test sets, for one server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = include_str!("clock.c");
const AHEAD: &str = "clock-ahead";

/// Compiles what is loaded before the server, in the server's directory.
pub fn prepare(dir: &Path) -> [(&'static str, PathBuf); 2] {
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    fs::write(&source, SOURCE).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-nostdlib", "-fno-stack-protector", "-o"])
        .arg(&library)
        .arg(&source)
        .status();
    assert!(
        compiled.is_ok_and(|status| status.success()),
        "a C compiler is needed: run `make test`, which installs it"
    );
    set(dir, 0);
    [("LD_PRELOAD", library), ("CLOCK_AHEAD_FILE", dir.join(AHEAD))]
}

/// From now on the server's clock of the day is so many ms ahead of the true one, or behind it.
pub fn set(dir: &Path, ahead_ms: i64) {
    // Written in place: the server has the file mapped.
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(AHEAD)).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &ahead_ms.to_ne_bytes(), 0).unwrap();
}
