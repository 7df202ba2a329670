//! What is below the server's root, and beside it where no request may reach.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use crate::answer::SECRET;

pub const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz";
/// When all files were changed last: in seconds since 1970, and as a date.
const MODIFIED: u64 = 1_622_505_600;
pub const MODIFIED_DATE: &str = "Tue, 01 Jun 2021 00:00:00 GMT";

/// What the neighbours of `text.txt` hold: the suffix, the coding, and bytes that stand for it.
pub const NEIGHBOURS: [(&str, &str, &str); 3] = [
    ("gz", "gzip", "these bytes stand for gzip"),
    ("br", "br", "these stand for brotli"),
    ("zst", "zstd", "and these for zstandard"),
];

/// A folder with the root in it, which is gone when dropped.
#[derive(Debug)]
pub struct Site(PathBuf);

impl Site {
    pub fn make() -> Site {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("campanile-conformance-{}-{number}", std::process::id());
        let site = Site(std::env::temp_dir().join(name));
        let root = site.root();
        for folder in ["dir", "noindex"] {
            fs::create_dir_all(root.join(folder)).expect("a folder that is new");
        }
        let big = big();
        let files: [(&str, &[u8]); 28] = [
            ("../secret.txt", SECRET.as_bytes()),
            ("index.html", b"<!doctype html><title>index</title>\n"),
            ("hello.txt", b"hello from a file\n"),
            ("empty.txt", b""),
            ("alphabet.txt", ALPHABET.as_bytes()),
            ("text.txt", b"a text that has neighbours"),
            ("style.css", b"a {}"),
            ("style.css.gz", b"a style"),
            ("only.txt.gz", b"nobody's neighbour"),
            ("dir/index.html", b"<!doctype html><title>inner</title>\n"),
            ("dir/inner.txt", b"inner\n"),
            ("noindex/inner.txt", b"inner\n"),
            ("with space.txt", b"space"),
            ("plus+.txt", b"plus"),
            ("gr\u{fc}n.txt", b"green"),
            ("100%.txt", b"percent"),
            ("a:b;c,d.txt", b"signs"),
            (".hidden", b"hidden"),
            ("...", b"dots"),
            ("page.html", b"<!doctype html>"),
            ("script.js", b"0"),
            ("data.json", b"{}"),
            ("image.png", b"\x89PNG"),
            ("image.svg", b"<svg/>"),
            ("code.wasm", b"\0asm"),
            ("thing.unheardof", b"thing"),
            ("UPPER.TXT", b"upper"),
            ("big.bin", &big),
        ];
        let neighbours = NEIGHBOURS.map(|(suffix, _, text)| (format!("text.txt.{suffix}"), text.as_bytes()));
        let neighbours = neighbours.iter().map(|(name, text)| (&name[..], *text));
        for (name, content) in files.into_iter().chain(neighbours) {
            fs::write(root.join(name), content).expect("a file that is new");
            let file = File::options().write(true).open(root.join(name)).expect("it was written");
            file.set_modified(UNIX_EPOCH + Duration::from_secs(MODIFIED)).expect("it is ours");
        }
        let links = [
            ("inside", "hello.txt"),
            ("outside", "../secret.txt"),
            ("circle", "circle"),
            ("up", ".."),
            ("dangling", "not-there"),
            ("passwd", "/etc/passwd"),
        ];
        for (name, to) in links {
            std::os::unix::fs::symlink(to, root.join(name)).expect("a link that is new");
        }
        let absolute = site.0.join("secret.txt");
        std::os::unix::fs::symlink(absolute, root.join("absolute")).expect("a link that is new");
        let made = Command::new("mkfifo").arg(root.join("pipe")).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfifo comes with every system");
        site
    }

    pub fn root(&self) -> PathBuf {
        Path::new(&self.0).join("root")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What `big.bin` holds: longer than any buffer on its way.
pub fn big() -> Vec<u8> {
    (0..3 << 20).map(|n: u32| (n * 13 + n / 256) as u8).collect()
}
