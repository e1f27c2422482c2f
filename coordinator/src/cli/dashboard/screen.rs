//! What `top` draws: runs, institutions and events of one moment.

use fedner_page::layout::text;
use fedner_page::words;
use fedner_shared::state::{InstitutionState, MemberState, RunState};
use fedner_shared::time::Time;
use fedner_shared::view::{InstitutionView, RunView};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table};

use super::attention::attention;
use super::overview::{is_connected, newest_runs, summary, waits_for};
use super::world::World;
use crate::cli::sentence;

/// Rows of runs at most; those under way come first.
const RUNS: u16 = 8;
const EVENTS: u16 = 8;

/// Where a person has scrolled to.
#[derive(Debug, Default)]
pub(super) struct Screen {
    /// The first institution that is shown.
    first: usize,
}

impl Screen {
    pub(super) fn scroll(&mut self, rows: isize) {
        self.first = self.first.saturating_add_signed(rows);
    }
}

pub(super) fn draw(
    frame: &mut Frame<'_>,
    screen: &mut Screen,
    (home, world): (&str, &World),
    now: Time,
) {
    let notes = attention(world, now);
    let runs = newest_runs(world);
    let rows = |rows: usize, most: u16| u16::try_from(rows).unwrap_or(most).clamp(1, most);
    let areas = Layout::vertical([
        Constraint::Length(1 + rows(notes.len(), 3) + u16::from(world.problem.is_some())),
        Constraint::Length(2 + rows(runs.len(), RUNS)),
        Constraint::Min(3),
        Constraint::Length(1 + rows(world.history.newest.len(), EVENTS)),
        Constraint::Length(1),
    ])
    .split(frame.area());
    let mut head = vec![Line::from(vec![
        Span::styled(home.to_owned(), Modifier::BOLD),
        Span::raw(format!("  {}", summary(world, now))),
    ])];
    if let Some(problem) = &world.problem {
        let said = text(problem);
        head.push(Line::styled(said, Style::new().fg(Color::Red)));
    }
    if notes.is_empty() {
        head.push(Line::styled("Nothing asks for a person.", muted()));
    }
    for note in notes.iter().take(3) {
        let said = format!("! {}", text(note.what()));
        head.push(Line::styled(said, Style::new().fg(Color::Yellow)));
    }
    frame.render_widget(Paragraph::new(head), areas[0]);
    frame.render_widget(of_runs(world, &runs, now), areas[1]);
    of_institutions(frame, areas[2], screen, world, now);
    frame.render_widget(of_events(world, areas[3].height, now), areas[3]);
    let help = "q ends it   ↑ ↓ go through institutions   Home begins anew";
    frame.render_widget(Line::styled(help, muted()), areas[4]);
}

fn muted() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn block(title: String) -> Block<'static> {
    Block::new().borders(Borders::TOP).title(title)
}

fn table(
    title: String,
    head: impl IntoIterator<Item = &'static str>,
    rows: Vec<Row<'_>>,
    widths: impl IntoIterator<Item = Constraint>,
) -> Table<'_> {
    let head = Row::new(head.into_iter().map(Cell::from)).style(muted());
    Table::new(rows, widths).header(head).block(block(title))
}

fn of_runs<'a>(world: &'a World, runs: &[&'a RunView], now: Time) -> Table<'a> {
    let row = |run: &&'a RunView| {
        let explained = world.explained.get(&run.run);
        let waits = match (explained, &run.failure) {
            (Some(view), _) => waits_for(view, now),
            (None, Some(reason)) => text(reason),
            (None, None) => String::new(),
        };
        let end = explained.and_then(|view| view.finish.or(view.expected));
        Row::new([
            Cell::from(run.run.to_string()),
            Cell::from(Span::styled(run.state.as_str(), colour(run.state))),
            Cell::from(format!("{}/{}", run.round, run.rounds)),
            Cell::from(run.f1.map_or("–".to_owned(), words::f1)),
            Cell::from(end.map_or("–".to_owned(), |at| words::relative(at, now))),
            Cell::from(waits),
        ])
    };
    let rows = runs.iter().take(usize::from(RUNS)).map(row).collect();
    let title = words::count(world.runs.len(), "run", "runs");
    let head = ["RUN", "STATE", "ROUND", "F1", "END", "WHAT IT WAITS FOR"];
    let widths = [
        Constraint::Max(28),
        Constraint::Length(11),
        Constraint::Length(9),
        Constraint::Length(6),
        Constraint::Length(12),
        Constraint::Min(20),
    ];
    table(title, head, rows, widths)
}

fn colour(state: RunState) -> Style {
    let colour = match state {
        RunState::Created | RunState::Scheduled | RunState::Cancelled => return Style::new(),
        RunState::Recruiting
        | RunState::Collecting
        | RunState::Aggregating
        | RunState::Evaluating => Color::Cyan,
        RunState::Paused => Color::Yellow,
        RunState::Completed => Color::Green,
        RunState::Failed => Color::Red,
    };
    Style::new().fg(colour)
}

fn of_institutions(
    frame: &mut Frame<'_>,
    area: Rect,
    screen: &mut Screen,
    world: &World,
    now: Time,
) {
    let mut views: Vec<&InstitutionView> = world.institutions.iter().collect();
    views.sort_by_key(|view| {
        (
            view.state,
            is_connected(view, now),
            view.institution.clone(),
        )
    });
    let room = usize::from(area.height.saturating_sub(2)).max(1);
    screen.first = screen.first.min(views.len().saturating_sub(room));
    let title = if views.len() > room {
        let last = (screen.first + room).min(views.len());
        format!(
            "{} to {last} of {} institutions",
            screen.first + 1,
            views.len()
        )
    } else {
        words::count(views.len(), "institution", "institutions")
    };
    let shown = views.iter().skip(screen.first).take(room);
    let rows = shown.map(|view| of_institution(world, view, now)).collect();
    let head = [
        "INSTITUTION",
        "STATE",
        "LAST SEEN",
        "CERTIFICATE",
        "AT WORK ON",
    ];
    let widths = [
        Constraint::Max(28),
        Constraint::Length(10),
        Constraint::Length(12),
        Constraint::Length(12),
        Constraint::Min(20),
    ];
    frame.render_widget(table(title, head, rows, widths), area);
}

fn of_institution<'a>(world: &World, view: &InstitutionView, now: Time) -> Row<'a> {
    let (state, colour) = match view.state {
        _ if view.twice => ("twice", Color::Red),
        InstitutionState::Active if is_connected(view, now) => ("connected", Color::Green),
        InstitutionState::Active => ("away", Color::Reset),
        InstitutionState::Suspended => ("suspended", Color::Yellow),
        InstitutionState::Revoked => ("revoked", Color::Red),
    };
    let under_way = world.runs.iter().filter(|run| !run.state.is_end());
    let works = under_way.filter_map(|run| {
        let own = |member: &&_| same(view, member);
        let member = run.members.iter().find(own)?;
        (member.state != MemberState::Left)
            .then(|| format!("{} {}", run.run, member.state.as_str().replace('_', " ")))
    });
    let works: Vec<String> = works.take(3).collect();
    let seen = view.last_seen;
    Row::new([
        Cell::from(view.institution.to_string()),
        Cell::from(Span::styled(state, Style::new().fg(colour))),
        Cell::from(seen.map_or("never".to_owned(), |seen| words::relative(seen, now))),
        Cell::from(words::relative(view.certificate_expires, now)),
        Cell::from(works.join(", ")),
    ])
}

fn same(view: &InstitutionView, member: &fedner_shared::view::MemberView) -> bool {
    member.institution == view.institution
}

fn of_events(world: &World, height: u16, now: Time) -> Paragraph<'static> {
    let room = usize::from(height.saturating_sub(1)).max(1);
    let newest = world.history.newest.iter().rev().take(room);
    let lines = newest.map(|entry| {
        let run = entry
            .run
            .as_ref()
            .map_or(String::new(), |run| format!("{run}: "));
        Line::from(vec![
            Span::styled(
                format!("{:>12}  ", words::relative(entry.time, now)),
                muted(),
            ),
            Span::raw(format!("{run}{}", text(&sentence::of(entry)))),
        ])
    });
    let lines: Vec<Line<'_>> = lines.collect();
    Paragraph::new(lines).block(block("latest events".to_owned()))
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::super::tests::{ROUNDS, at, large};
    use super::*;

    fn shown(width: u16, height: u16, screen: &mut Screen, world: &World) -> String {
        let backend = TestBackend::new(width, height);
        let mut terminal = Terminal::new(backend).expect("memory");
        let now = at(ROUNDS, 21_000);
        terminal
            .draw(|frame| draw(frame, screen, ("North federation", world), now))
            .expect("memory");
        terminal.backend().to_string()
    }

    #[test]
    fn one_screen_holds_runs_institutions_and_events() {
        let site = large();
        let text = site.look(|world| shown(120, 40, &mut Screen::default(), world));
        for part in [
            "North federation  400 of 400 institutions connected, 1 run under way.",
            "notes.0123abcd",
            "collecting",
            "300/300",
            "Waits for updates for round 300 of 300",
            "hospital-000",
            "of 400 institutions",
            "notes.0123abcd working",
            "latest events",
            "q ends it",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }

    #[test]
    fn it_scrolls_to_the_last_institution_and_no_further() {
        let site = large();
        let mut screen = Screen::default();
        let press =
            |screen: &mut Screen, code| screen.take(KeyEvent::new(code, KeyModifiers::NONE));
        for _ in 0..100 {
            assert!(press(&mut screen, KeyCode::PageDown));
            site.look(|world| shown(120, 40, &mut screen, world));
        }
        let text = site.look(|world| shown(120, 40, &mut screen, world));
        assert!(
            text.contains("hospital-399") && text.contains("to 400 of 400"),
            "{text}"
        );
        assert!(press(&mut screen, KeyCode::Home));
        let text = site.look(|world| shown(120, 40, &mut screen, world));
        assert!(text.contains("hospital-000"), "{text}");
        assert!(!press(&mut screen, KeyCode::Char('q')));
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(!screen.take(control));
    }

    #[test]
    fn names_do_nothing_to_the_terminal_and_small_screens_are_drawn_too() {
        let site = large();
        site.change(|world| {
            world.problem = Some("what is shown may be old: \u{1b}[2J\u{202e}".to_owned());
        });
        for (width, height) in [(120, 40), (40, 12), (20, 5), (1, 1)] {
            let text = site.look(|world| shown(width, height, &mut Screen::default(), world));
            assert!(
                !text.contains('\u{1b}') && !text.contains('\u{202e}'),
                "{text}"
            );
        }
        let text = site.look(|world| shown(120, 40, &mut Screen::default(), world));
        assert!(text.contains("may be old: \\u{1b}[2J"), "{text}");
    }

    #[test]
    fn an_empty_federation_has_a_screen() {
        let text = shown(80, 24, &mut Screen::default(), &World::default());
        assert!(
            text.contains("0 runs") && text.contains("0 institutions"),
            "{text}"
        );
    }
}
