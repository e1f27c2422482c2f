//! What the pages refuse, over plain HTTP.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::dashboard::{Answer, Dashboard, ask, enter, get, parts, raw};
use crate::setting::Setting;

fn operator_page(setting: &Setting, more: &[&str]) -> Result<Dashboard> {
    let mut arguments = vec!["dashboard"];
    arguments.extend(more);
    let command = setting.cluster.coordinator_command(&arguments)?;
    Dashboard::start(command, &setting.cluster.log("page"))
}

/// Only a reason and a hint: nothing of the federation.
fn assert_refused(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(
        !answer.body.contains("demo") && !answer.body.contains("<html"),
        "{answer:?}"
    );
}

#[test]
fn strangers_other_names_other_pages_and_stale_addresses_get_nothing() -> Result<()> {
    let setting = Setting::new()?;
    let page = operator_page(&setting, &[])?;
    let address = page.address()?;
    let (host, once) = parts(&address)?;
    let (_, place) = enter(&address)?;
    // The control: whoever has the key sees the federation, and nothing of it may be framed or kept.
    let seen = get(host, &place)?;
    assert_eq!(seen.status, 200);
    assert!(
        seen.body.contains("demo") && seen.body.contains("There is no run yet."),
        "{seen:?}"
    );
    let head = seen.head.to_lowercase();
    for line in [
        "content-security-policy: default-src 'none'",
        "cache-control: no-store",
        "referrer-policy: same-origin",
        "x-frame-options: deny",
    ] {
        assert!(head.contains(line), "{line}: {head}");
    }
    assert!(
        !head.contains("unsafe-inline") && !head.contains("set-cookie"),
        "{head}"
    );
    assert!(
        !seen.body.contains("<style")
            && !seen.body.contains("style=")
            && !seen.body.contains("onclick")
    );
    // Nothing is asked for from elsewhere.
    assert!(!seen.body.contains("src=\"http") && !seen.body.contains("href=\"http"));

    assert_refused(&get(host, once)?, 403);
    for path in [
        "/",
        "/s/",
        "/s/0000/",
        "/style.css",
        "/live",
        "/s/../",
        "/open/",
        "/open/x",
    ] {
        let answer = get(host, path)?;
        assert!([403, 404].contains(&answer.status), "{path}: {answer:?}");
        assert_refused(&answer, answer.status);
    }
    let cut = &place[..place.len() - 2];
    assert_refused(&get(host, &format!("{cut}/"))?, 403);
    let port = host.rsplit(':').next().context("a port")?;
    for name in [
        "evil.example",
        "127.0.0.1.nip.example",
        "localhost.evil.example",
    ] {
        let request =
            format!("GET {place} HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\r\n");
        assert_refused(&raw(host, &request)?, 403);
    }
    let nameless = format!("GET {place} HTTP/1.0\r\n\r\n");
    assert_refused(&raw(host, &nameless)?, 403);
    for more in [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
    ] {
        assert_refused(&ask("GET", host, &place, more, "")?, 403);
        assert_refused(
            &ask("POST", host, &format!("{place}act"), more, "once=1")?,
            403,
        );
    }
    // A form that says nothing of where it stands is no browser's.
    assert_refused(
        &ask("POST", host, &format!("{place}act"), "", "once=1")?,
        403,
    );
    let own = format!("Origin: http://{host}\r\n");
    let answer = ask("POST", host, &format!("{place}act"), &own, "once=1")?;
    assert_eq!(
        answer.status, 409,
        "the control: the page's own form is read"
    );
    let large = "x".repeat(1 << 20);
    let answer = ask(
        "POST",
        host,
        &format!("{place}act"),
        &own,
        &format!("once={large}"),
    )?;
    assert_eq!(answer.status, 413);
    let answer = get(host, &format!("{place}events?words={}", "a".repeat(8000)))?;
    assert!([414, 431].contains(&answer.status), "{}", answer.status);
    // The address that is printed after the first was used is good once too.
    let next = page.address()?;
    ensure!(next != address);
    enter(&next)?;
    assert_refused(&get(host, parts(&next)?.1)?, 403);
    Ok(())
}

#[test]
fn text_with_markup_and_hidden_characters_is_shown_as_text() -> Result<()> {
    let setting = Setting::new()?;
    let page = operator_page(&setting, &[])?;
    let (host, place) = enter(&page.address()?)?;
    let attack = "%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AE%1B%5B2J";
    let paths = [
        format!("{place}events?words={attack}"),
        format!("{place}runs/{attack}"),
        format!("{place}models/{attack}"),
        format!("{place}act?what=pause&name={attack}"),
        format!("{place}act?what={attack}&name=a"),
    ];
    for path in paths {
        let answer = get(&host, &path)?;
        assert!(
            answer.status == 200 || answer.status == 404,
            "{path}: {answer:?}"
        );
        let body = &answer.body;
        assert!(!body.contains("<script>"), "{path}");
        assert!(
            !body.contains('\u{202e}') && !body.contains('\u{1b}'),
            "{path}"
        );
    }
    Ok(())
}

#[test]
fn a_viewer_sees_everything_and_changes_nothing() -> Result<()> {
    let setting = Setting::new()?;
    let page = operator_page(&setting, &["--viewer"])?;
    let (host, place) = enter(&page.address()?)?;
    let seen = get(&host, &place)?;
    assert!(
        seen.body.contains("viewer") && !seen.body.contains("Invite an institution"),
        "{seen:?}"
    );
    let asked = get(&host, &format!("{place}act?what=invite&name=a&to=60"))?;
    assert_eq!(asked.status, 403);
    assert!(asked.body.contains("role-forbidden"), "{asked:?}");
    let own = format!("Origin: http://{host}\r\n");
    let answer = ask("POST", &host, &format!("{place}act"), &own, "once=1")?;
    assert_eq!(answer.status, 403);
    // The control: an operator is asked, and each question counts once.
    let page = operator_page(&setting, &[])?;
    let (host, place) = enter(&page.address()?)?;
    let asked = get(&host, &format!("{place}act?what=invite&name=north&to=60"))?;
    assert_eq!(asked.status, 200);
    let once = asked
        .body
        .split("name=\"once\" value=\"")
        .nth(1)
        .context("a number")?;
    let once = once.split('"').next().context("its end")?;
    let own = format!("Origin: http://{host}\r\n");
    let form = format!("once={once}");
    let done = ask("POST", &host, &format!("{place}act"), &own, &form)?;
    assert!(done.body.contains("authority_sha256"), "{done:?}");
    let again = ask("POST", &host, &format!("{place}act"), &own, &form)?;
    assert_eq!(again.status, 409);
    let open = setting.cluster.coordinate(&["invite", "list"])?;
    assert_eq!(open.as_array().map(Vec::len), Some(1), "{open}");
    Ok(())
}

/// A thousand, or a third of the files that this process may open: other tests need theirs.
fn streams() -> Result<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<usize>().ok());
    Ok(soft.map_or(1000, |soft| (soft / 3).min(1000)))
}

#[test]
fn browsers_that_stop_reading_and_a_thousand_streams_hold_nothing_up() -> Result<()> {
    let setting = Setting::new()?;
    let page = operator_page(&setting, &[])?;
    let (host, place) = enter(&page.address()?)?;
    let before = page.memory();
    let mut open = Vec::new();
    for _ in 0..streams()? {
        let mut stream = TcpStream::connect(&host)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        // It never reads what it asked for.
        write!(stream, "GET {place}live HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
        open.push(stream);
    }
    // Streams beyond a few end the oldest, so that there is room for a person.
    let seen = get(&host, &place)?;
    assert_eq!(seen.status, 200);
    let first = open.first_mut().context("a stream")?;
    let mut text = String::new();
    first
        .read_to_string(&mut text)
        .context("the oldest stream ends")?;
    assert!(text.contains("event: change"), "{text}");
    if let (Some(before), Some(now)) = (before, page.memory()) {
        let grown = now.saturating_sub(before);
        assert!(grown < 40 << 20, "it grew by {grown} bytes");
    }
    Ok(())
}
