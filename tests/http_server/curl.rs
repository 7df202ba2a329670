//! curl: what everybody tries a server with.

use std::fs;
use std::process::{Command, Stdio};

use crate::site::{Folder, Site};
use crate::support::{prints, tool};

const HELLO: &str = "Hello, World!";

fn curl(arguments: &[&str]) -> Option<Command> {
    let mut command = tool("curl")?;
    command.args(["-sS", "--max-time", "40"]).args(arguments);
    Some(command)
}

#[test]
fn curl_is_answered_as_it_likes() {
    let site = Site::start(&[]);
    let (url, chunked, echo) = (site.url("/plaintext"), site.url("/chunked"), site.url("/echo"));
    let (url, chunked, echo) = (&url[..], &chunked[..], &echo[..]);
    let says = |arguments: &[&str]| curl(arguments).map(|mut curl| prints(&mut curl));
    let Some(hello) = says(&[url]) else { return };
    assert_eq!(hello, HELLO);
    let head = says(&["-I", url]).expect("curl is installed");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("Content-Length: 13"), "{head}");
    for option in ["--http1.0", "--compressed", "--no-keepalive", "--path-as-is"] {
        assert_eq!(says(&[option, url]).as_deref(), Some(HELLO), "{option}");
    }
    assert_eq!(says(&["--http1.0", chunked]).as_deref(), Some("chunk-0;chunk-1;chunk-2;"));
    assert_eq!(says(&["--raw", "--tr-encoding", url]).as_deref(), Some(HELLO));
    // Several on one connection, of several kinds.
    let next = ["-w", "%{http_code},%{num_connects};", "-o", "/dev/null"];
    let mut all = Vec::new();
    for (at, request) in
        [&[url][..], &[chunked], &["-d", "abc", echo], &["-I", url], &[chunked]].iter().enumerate()
    {
        all.extend((at > 0).then_some("--next"));
        all.extend(next.iter().chain(*request));
    }
    assert_eq!(says(&all).as_deref(), Some("200,1;200,0;200,0;200,0;200,0;"));
}

#[test]
fn curl_speaks_through_a_unix_socket() {
    let folder = Folder::new();
    let path = folder.path("socket");
    let site = Site::listen(&[&format!("unix:{path}")], &[]);
    let Some(mut curl) = curl(&["--unix-socket", &path, "http://a/plaintext", "http://b/plaintext"]) else {
        return;
    };
    assert_eq!(prints(&mut curl), [HELLO, HELLO].concat());
    site.stop();
    assert!(!fs::exists(path).expect("its folder is there"), "it leaves no socket behind");
}

#[test]
fn curl_uploads_and_gets_it_back() {
    let (site, folder) = (Site::start(&[]), Folder::new());
    let (file, copy) = (folder.file("10m", 10 << 20), folder.path("copy"));
    let data = format!("@{file}");
    for path in ["/echo", "/stream"] {
        let url = site.url(path);
        for (arguments, is_invited) in [
            (&["--data-binary", &data][..], false),
            (&["-H", "Expect: 100-continue", "--expect100-timeout", "30", "--data-binary", &data], true),
            (&["-H", "Expect:", "--data-binary", &data], false),
            (&["-H", "Transfer-Encoding: chunked", "-H", "Expect:", "--data-binary", &data], false),
            (&["-X", "POST", "-T", &file], true),
            (&["-X", "POST", "-T", "-", "--expect100-timeout", "30"], true),
            (&["--http1.0", "--data-binary", &data], false),
        ] {
            let Some(mut curl) = curl(arguments) else { return };
            let stdin = fs::File::open(&file).expect("it was written");
            let done = curl.args(["-v", "-o", &copy, &url]).stdin(stdin).stderr(Stdio::piped()).output();
            let done = done.expect("curl is installed");
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success() && said.contains(" 200 OK"), "{path} {arguments:?}: {said}");
            assert!(!is_invited || said.contains("< HTTP/1.1 100"), "{path} {arguments:?}: {said}");
            let same = fs::read(&file).expect("a file") == fs::read(&copy).expect("a file");
            assert!(same, "{path} {arguments:?}");
            fs::remove_file(&copy).expect("it is there");
        }
    }
}

#[test]
fn curl_is_told_at_once_that_a_body_is_too_long() {
    let (site, folder) = (Site::start(&["--body-limit", "1MiB"]), Folder::new());
    let data = format!("@{}", folder.file("20m", 20 << 20));
    for (arguments, sent) in [
        // It waits to be told to go on, and is told that it is not worth it.
        (&["-H", "Expect: 100-continue", "--expect100-timeout", "30"][..], Some("0")),
        (&["-H", "Expect:"], None),
        (&["-H", "Transfer-Encoding: chunked", "-H", "Expect:"], None),
    ] {
        let written = ["-o", "/dev/null", "-w", "%{http_code} %{size_upload}", "--data-binary", &data];
        let Some(mut curl) = curl(arguments) else { return };
        // That it could not send everything is an error to some versions, and no more than that.
        let done = curl.args(written).arg(site.url("/echo")).output().expect("curl is installed");
        let said = String::from_utf8_lossy(&done.stdout);
        let (status, uploaded) = said.split_once(' ').expect("two figures");
        assert_eq!(status, "413", "{arguments:?}");
        assert!(sent.is_none_or(|sent| sent == uploaded), "{arguments:?}: {uploaded} bytes");
    }
}
