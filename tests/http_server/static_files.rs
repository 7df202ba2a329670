//! The files of `--root`, as curl fetches, resumes and revalidates them.

use std::fs;
use std::process::Command;

use crate::site::{Folder, Site};
use crate::support::{prints, tool};

/// A server with a directory of its own.
struct Served {
    folder: Folder,
    site: Site,
    /// The large file there.
    large: Vec<u8>,
}

impl Served {
    fn start() -> Served {
        let folder = Folder::new();
        let large = fs::read(folder.file("large.bin", 20 << 20)).expect("it was written");
        fs::write(folder.path("page.html"), "<!doctype html><p>bells").expect("there is room");
        let site = Site::start(&["--root", &folder.path("")]);
        Served { folder, site, large }
    }

    fn curl(&self, arguments: &[&str], name: &str) -> Option<Command> {
        let mut command = tool("curl")?;
        command
            .args(["-sS", "--max-time", "40"])
            .args(arguments)
            .arg(self.site.url(&format!("/static/{name}")));
        Some(command)
    }
}

#[test]
fn curl_downloads_ranges_and_resumes() {
    let served = Served::start();
    let (copy, len) = (Folder::new(), served.large.len());
    let path = copy.path("copy");
    let arrives = |arguments: &[&str], status: &str, expected: &[u8]| {
        let arguments = [arguments, &["-o", &path, "-w", "%{http_code}"]].concat();
        let Some(mut curl) = served.curl(&arguments, "large.bin") else { return false };
        assert_eq!(prints(&mut curl), status, "{arguments:?}");
        assert!(fs::read(&path).expect("a file") == expected, "{arguments:?}");
        true
    };
    if !arrives(&[], "200", &served.large) {
        return;
    }
    arrives(&["--http1.0"], "200", &served.large);
    arrives(&["--compressed"], "200", &served.large);
    arrives(&["-r", "0-99"], "206", &served.large[..100]);
    arrives(&["-r", "1000000-"], "206", &served.large[1_000_000..]);
    arrives(&["-r", "-777"], "206", &served.large[len - 777..]);
    // A download that was broken off goes on where it was.
    for at in [1, 1_234_567, len - 1] {
        fs::write(&path, &served.large[..at]).expect("there is room");
        arrives(&["-C", "-"], "206", &served.large);
    }
    served.site.stop();
}

#[test]
fn curl_revalidates_what_it_has() {
    let served = Served::start();
    let tag = served.folder.path("tag");
    let asks = |arguments: &[&str], name: &str| {
        let status = ["-o", "/dev/null", "-w", "%{http_code} %{content_type}"];
        served.curl(&[arguments, &status].concat(), name).map(|mut curl| prints(&mut curl))
    };
    let Some(first) = asks(&["--etag-save", &tag], "page.html") else { return };
    assert_eq!(first, "200 text/html; charset=utf-8");
    let again = asks(&["--etag-compare", &tag], "page.html").expect("curl is installed");
    assert!(again.starts_with("304"), "{again}");
    let again = asks(&["-z", &served.folder.path("page.html")], "page.html").expect("curl is installed");
    assert!(again.starts_with("304"), "{again}");
    for (arguments, name, status) in [
        (&[][..], "not-there", "404"),
        (&["--path-as-is"], "../../../etc/passwd", "4"),
        (&["-X", "DELETE"], "page.html", "405"),
        (&["-r", "99999999-"], "page.html", "416"),
    ] {
        let answer = asks(arguments, name).expect("curl is installed");
        assert!(answer.starts_with(status), "{name}: {answer}");
    }
    let head = prints(&mut served.curl(&["-I"], "large.bin").expect("curl is installed"));
    for line in
        ["HTTP/1.1 200", "Content-Length: 20971520", "Accept-Ranges: bytes", "ETag: ", "Last-Modified: "]
    {
        assert!(head.to_ascii_lowercase().contains(&line.to_ascii_lowercase()), "{line}: {head}");
    }
    served.site.stop();
}
