//! A whole run followed on both pages in a real browser; pictures of them stay under the target directory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fedner_tests::browser::{self, Browser, Light};
use fedner_tests::skip::skipped;

use super::dashboard::Dashboard;
use crate::setting::{MINUTES, Setting, plan};

const PRIVACY: &str =
    "unit = \"institution\"\nclip = 1.0\nnoise_multiplier = 4.0\ndelta = 1e-5\nmax_epsilon = 50.0";

/// Where pictures are kept for whoever looks.
fn pictures() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The page at both widths, by day and by night; nothing hangs over its edge.
fn pictured(browser: &Browser, name: &str) -> Result<()> {
    let folder = pictures()?;
    for (width, light, word) in [
        (1440, Light::Night, "dark"),
        (390, Light::Night, "dark"),
        (390, Light::Day, "light"),
        (1440, Light::Day, "light"),
    ] {
        let file = folder.join(format!("{name}-{width}-{word}.png"));
        browser.picture(&file, width, light)?;
        let overhang = browser.overhang()?;
        ensure!(overhang <= 0, "{name} hangs over by {overhang} at {width}");
    }
    Ok(())
}

/// What axe-core finds to be serious or critical, where `.ci/run` has fetched it.
fn assert_accessible(browser: &Browser, name: &str) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/axe/node_modules/axe-core/axe.min.js");
    let Ok(script) = fs::read_to_string(&script) else {
        return skipped(
            "accessibility",
            "axe-core (npm), which .ci/run puts into target/axe",
        );
    };
    browser.run(&script)?;
    let found = browser.run_until_done(
        "const done = arguments[arguments.length - 1];
         axe.run().then((result) => done(result.violations.map((fault) => ({
             id: fault.id, impact: fault.impact, nodes: fault.nodes.map((node) => node.html.slice(0, 200)) }))));",
    )?;
    let found = found.as_array().context("a list")?;
    ensure!(found.is_empty(), "{name}: {found:#?}");
    Ok(())
}

/// Confirms what was asked, once.
fn confirm(browser: &Browser) -> Result<()> {
    browser.follow("#confirm")
}

/// A federation of three, of whom one asks its people about everything.
fn federation() -> Result<Setting> {
    let mut setting = Setting::with_model()?;
    for number in 0..3 {
        setting.enrol(&format!("i{number}"), number, 6)?;
    }
    let file = setting.cluster.client_directory("i0").join("policy.toml");
    let policy = fs::read_to_string(&file)?.replace("consent = \"auto\"", "consent = \"ask\"");
    fs::write(&file, format!("{policy}hold = true\n"))?;
    for number in 0..3 {
        setting.cluster.start_client(&format!("i{number}"))?;
    }
    Ok(setting)
}

#[test]
fn a_whole_run_is_followed_and_acted_on_in_a_browser() -> Result<()> {
    let Some(driver) = browser::driver() else {
        return skipped(
            "the pages in a browser",
            "Debian's chromium and chromium-driver",
        );
    };
    let setting = federation()?;
    let logs = setting.path("logs");
    let command = setting.cluster.coordinator_command(&["dashboard"])?;
    let operator_page = Dashboard::start(command, &setting.cluster.log("operator-page"))?;
    let command = setting.cluster.client_command("i0", &["dashboard"])?;
    let own_page = Dashboard::start(command, &setting.cluster.log("own-page"))?;
    let operator = Browser::start(&driver, &logs)?;
    let own = Browser::start(&driver, &logs)?;
    let opened = operator_page.address()?;
    operator.open(&opened)?;
    operator.wait_for("There is no run yet.")?;
    own.open(&own_page.address()?)?;
    own.wait_for("Nothing waits for you.")?;

    // The run appears on a page that nobody loads again, and so does its plan at the institution.
    let run = setting.start_run(&plan(3, 3, 2, "head", "away_after_s = 600", PRIVACY))?;
    operator.wait_for(&run)?;
    own.wait_for("Take part in notes?")?;
    own.wait_for("hides everything held here up to ε")?;
    pictured(&own, "institution-asked")?;
    assert_accessible(&own, "institution-asked")?;
    own.follow("form.row button")?;
    own.wait_for("Your text is read and checked now.")?;
    assert_accessible(&own, "institution-confirm")?;
    confirm(&own)?;
    own.wait_for("Nothing waits for you.")?;
    operator.open(&format!("{}runs/{run}", base(&operator)?))?;
    operator.wait_for("Waits for updates for round 1 of 2: i0")?;
    for round in 1..=2 {
        own.wait_for("An update waits to leave")?;
        own.wait_for(&format!("Round {round} of {run}"))?;
        if round == 1 {
            pictured(&own, "institution-held")?;
            pictured(&operator, "run-under-way")?;
            assert_accessible(&operator, "run-under-way")?;
        }
        own.follow("#release")?;
        confirm(&own)?;
        own.wait_for("Left lately")?;
    }
    operator.wait_for("completed")?;
    operator.wait_for("pooled")?;
    setting.wait_for_state(&run, "completed", MINUTES)?;
    pictured(&operator, "run-completed")?;
    assert_accessible(&operator, "run-completed")?;
    own.open(&base(&own)?)?;
    own.wait_for("Nothing waits for you.")?;
    pictured(&own, "institution-overview")?;
    own.follow("nav a[href=left]")?;
    own.wait_for("Every thing that left this institution")?;
    pictured(&own, "institution-left")?;
    assert_accessible(&own, "institution-left")?;

    roll_back(&setting, &operator)?;
    cancel(&setting, &operator)?;
    for (address, name) in [
        ("", "overview"),
        ("institutions", "institutions"),
        ("models", "models"),
        ("events", "events"),
    ] {
        operator.open(&format!("{}{address}", base(&operator)?))?;
        operator.wait_for("Overview")?;
        pictured(&operator, name)?;
        assert_accessible(&operator, name)?;
    }
    for browser in [&operator, &own] {
        let faults = browser.faults()?;
        ensure!(faults.is_empty(), "the browser reports {faults:#?}");
    }
    // Neither the address nor the key stands in a log.
    let word = opened.rsplit('/').next().context("a word")?;
    let key = base(&operator)?;
    let key = key
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .context("a key")?
        .to_owned();
    let said = fs::read_to_string(setting.cluster.log("operator-page"))?;
    ensure!(said.contains("an action was confirmed"), "{said}");
    ensure!(!said.contains(word) && !said.contains(&key), "{said}");
    setting.assert_replays()?;
    setting.assert_no_errors_logged();
    Ok(())
}

/// Where the pages begin that the browser looks at.
fn base(browser: &Browser) -> Result<String> {
    let found = browser.run("return document.baseURI")?;
    Ok(found.as_str().context("a base")?.to_owned())
}

fn roll_back(setting: &Setting, operator: &Browser) -> Result<()> {
    let published = setting.published()?;
    let digest = |number: usize| -> Result<&str> {
        let newest = published
            .iter()
            .find(|model| model["version"]["name"] == format!("notes@{number}"));
        newest
            .and_then(|model| model["digest"].as_str())
            .context("a version")
    };
    operator.open(&format!("{}models/{}", base(operator)?, digest(3)?))?;
    operator.wait_for("Scores by type")?;
    pictured(operator, "version")?;
    assert_accessible(operator, "version")?;
    operator.write("input[name=name]", "production")?;
    operator.follow("form.row button")?;
    operator.wait_for("Move the alias production to notes@3?")?;
    confirm(operator)?;
    operator.wait_for("production")?;
    operator.open(&format!("{}models/{}", base(operator)?, digest(2)?))?;
    operator.follow("#rollback")?;
    operator.wait_for("Roll the alias back production to notes@2?")?;
    pictured(operator, "confirm")?;
    assert_accessible(operator, "confirm")?;
    confirm(operator)?;
    operator.wait_for("production")?;
    let shown = setting
        .cluster
        .coordinate(&["model", "show", "production"])?;
    ensure!(shown["version"]["name"] == "notes@2", "{shown}");
    operator.open(&format!("{}events?kind=rolled_back", base(operator)?))?;
    operator.wait_for("production was rolled back to notes@2")?;
    Ok(())
}

fn cancel(setting: &Setting, operator: &Browser) -> Result<()> {
    let second =
        plan(3, 3, 5, "head", "away_after_s = 600", PRIVACY).replace("\"notes\"", "\"second\"");
    let run = setting.start_run(&second)?;
    operator.open(&base(operator)?)?;
    operator.wait_for(&run)?;
    operator.follow(&format!("a[href='runs/{run}']"))?;
    operator.follow("a.bad[href*=cancel]")?;
    operator.wait_for("It ends for good.")?;
    confirm(operator)?;
    operator.wait_for("cancelled")?;
    let view = setting.cluster.coordinate(&["run", "show", &run])?;
    ensure!(view["state"] == "cancelled", "{view}");
    operator.open(&format!("{}events?kind=run_cancelled", base(operator)?))?;
    operator.wait_for("the run was cancelled")?;
    Ok(())
}
