//! `top`: the federation on one screen of a terminal, live.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use clap::Args;
use fedner_host::machine::{Machine as _, ThisMachine};
use fedner_host::output::Output;
use fedner_host::signal::Terminate;
use fedner_shared::refusal::Code;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::feed;
use super::screen::{Screen, draw};
use super::site::Site;
use crate::cli::connect::{self, Who};
use crate::cli::failed::Failed;
use crate::config::{Config, Paths};

/// How often the screen is drawn: what has changed is written, and nothing else.
const EVERY: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Look with the viewer's certificate
    #[arg(long)]
    viewer: bool,
}

pub(in crate::cli) async fn run(
    arguments: Arguments,
    paths: &Paths,
    output: &Output,
) -> Result<(), Failed> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let message = "top draws on a terminal, and there is none: `run watch` writes lines, `dashboard` a page";
        return Err(Failed::refuse(Code::RequestInvalid, message));
    }
    let config = Config::read(paths)?;
    let who = if arguments.viewer {
        Who::Viewer
    } else {
        Who::present(paths)
    };
    // Whoever cannot connect hears it before the screen is taken.
    connect::monitoring_as(paths, who).await?;
    output.say("`q` ends it");
    let stop = CancellationToken::new();
    let site = Site::new(config, paths.clone(), who);
    let feed = tokio::spawn(feed::follow(site.clone(), stop.clone()));
    let mut terminate = Terminate::new()
        .map_err(|error| Failed::fault(format!("signals cannot be waited for: {error}")))?;
    let terminal = ratatui::try_init();
    let mut terminal =
        terminal.map_err(|error| Failed::fault(format!("the terminal cannot be used: {error}")))?;
    let outcome = tokio::select! {
        outcome = show(&mut terminal, &site, &stop) => outcome,
        () = terminate.received() => Ok(()),
    };
    stop.cancel();
    ratatui::restore();
    // It ends by that word; that it panicked was said by the runtime.
    let _ = feed.await;
    outcome.map_err(|error| Failed::fault(format!("the terminal cannot be used: {error}")))
}

async fn show(
    terminal: &mut DefaultTerminal,
    site: &Site,
    stop: &CancellationToken,
) -> io::Result<()> {
    let mut keys = keys(stop.clone());
    let mut screen = Screen::default();
    let home = site.home();
    loop {
        let now = ThisMachine.now();
        site.look(|world| terminal.draw(|frame| draw(frame, &mut screen, (&home, world), now)))?;
        let pressed = tokio::select! {
            pressed = keys.recv() => pressed,
            () = tokio::time::sleep(EVERY) => continue,
        };
        let Some(pressed) = pressed else {
            return Ok(());
        };
        if let Event::Key(key) = pressed?
            && !screen.take(key)
        {
            return Ok(());
        }
    }
}

/// What is typed, read by a thread of its own: the terminal has no other way.
fn keys(stop: CancellationToken) -> mpsc::Receiver<io::Result<Event>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        while !stop.is_cancelled() {
            let next = match event::poll(EVERY) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let failed = next.is_err();
            if sender.blocking_send(next).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

impl Screen {
    /// Whether it goes on after this key.
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the others mean nothing here"
    )]
    pub(super) fn take(&mut self, key: KeyEvent) -> bool {
        if key.kind == KeyEventKind::Release {
            return true;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('c') if control => return false,
            KeyCode::Down | KeyCode::Char('j') => self.scroll(1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll(-1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.scroll(10),
            KeyCode::PageUp => self.scroll(-10),
            KeyCode::Home => self.scroll(isize::MIN),
            _ => {}
        }
        true
    }
}
