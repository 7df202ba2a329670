//! Load generators: none of them may meet an error.

use crate::site::{Site, beside};
use crate::support::{prints, tool};

/// The figure behind `name` in what a tool printed.
fn figure(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| Some(line.trim().strip_prefix(name)?.trim().to_owned()))
}

#[test]
fn wrk_meets_no_error() {
    let site = Site::start(&[]);
    let script = beside("pipelined.lua");
    let script = script.to_str().expect("a path of ordinary characters");
    for (path, arguments) in
        [("/plaintext", &["-c64"][..]), ("/json", &["-c512"]), ("/plaintext", &["-c64", "-s", script])]
    {
        let Some(mut wrk) = tool("wrk") else { return };
        let text = prints(wrk.args(["-t2", "-d1s"]).args(arguments).arg(site.url(path)));
        assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
        let rate = figure(&text, "Requests/sec:").expect("wrk says how many");
        assert!(rate.parse::<f64>().is_ok_and(|rate| rate > 0.0), "{text}");
        eprintln!("wrk {path} {arguments:?}: {rate} requests per second");
    }
    site.stop();
}

#[test]
fn ab_meets_no_error() {
    let site = Site::start(&[]);
    for keep_alive in [&["-k"][..], &[]] {
        let Some(mut ab) = tool("ab") else { return };
        let text =
            prints(ab.args(["-q", "-n", "3000", "-c", "50"]).args(keep_alive).arg(site.url("/plaintext")));
        assert_eq!(figure(&text, "Complete requests:").as_deref(), Some("3000"), "{text}");
        assert_eq!(figure(&text, "Failed requests:").as_deref(), Some("0"), "{text}");
        assert_eq!(figure(&text, "Non-2xx responses:"), None, "{text}");
        let kept = figure(&text, "Keep-Alive requests:");
        assert_eq!(kept.as_deref(), (!keep_alive.is_empty()).then_some("3000"), "{text}");
    }
    site.stop();
}

#[test]
fn h2load_meets_no_error() {
    let site = Site::start(&[]);
    let Some(mut h2load) = tool("h2load") else { return };
    let text = prints(h2load.args(["--h1", "-n", "5000", "-c", "100", "-t", "2"]).arg(site.url("/json")));
    assert!(text.contains("5000 succeeded, 0 failed, 0 errored, 0 timeout"), "{text}");
    site.stop();
}
