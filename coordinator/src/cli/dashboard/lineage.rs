//! The graph of versions: which lanes pass by, end and join beside each row, newest first.

use std::fmt::Write as _;

use fedner_page::chart::COLOURS;
use fedner_shared::digest::Digest;
use maud::{Markup, html};

use super::world::Version;

const HEIGHT: usize = 42;
const STEP: usize = 16;
/// Further lanes are not drawn.
const LANES: usize = 12;

/// What is drawn beside one version.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    lane: usize,
    /// Lanes that come from above and go on below.
    through: Vec<usize>,
    /// Lanes from above that end in this version; each is a child of it.
    joins: Vec<usize>,
    /// Whether its own lane goes on to a parent.
    goes_on: bool,
    named: bool,
}

/// One row for each version; `versions` are newest first, so that children come before parents.
pub(super) fn rows(versions: &[&Version]) -> Vec<Row> {
    // The version that each lane waits for.
    let mut lanes: Vec<Option<Digest>> = Vec::new();
    let mut rows = Vec::with_capacity(versions.len());
    for version in versions {
        let waits = |lane: &Option<Digest>| *lane == Some(version.digest);
        let joins: Vec<usize> = (0..lanes.len()).filter(|at| waits(&lanes[*at])).collect();
        let free = lanes.iter().position(Option::is_none);
        let lane = joins.first().copied().or(free).unwrap_or(lanes.len());
        if lane == lanes.len() {
            lanes.push(None);
        }
        let through = (0..lanes.len()).filter(|at| lanes[*at].is_some() && !joins.contains(at));
        let through = through.collect();
        for at in &joins {
            lanes[*at] = None;
        }
        lanes[lane] = version.parent;
        rows.push(Row {
            lane,
            through,
            joins,
            goes_on: version.parent.is_some(),
            named: !version.aliases.is_empty(),
        });
    }
    rows
}

impl Row {
    pub(super) fn draw(&self) -> Markup {
        let x = |lane: usize| STEP / 2 + lane.min(LANES) * STEP;
        let lanes = self.through.iter().chain(&self.joins).chain([&self.lane]);
        let width = STEP * (1 + lanes.copied().max().unwrap_or(0).min(LANES));
        let (own, middle) = (x(self.lane), HEIGHT / 2);
        html! {
            svg width=(width) height=(HEIGHT) viewBox=(format!("0 0 {width} {HEIGHT}")) aria-hidden="true" {
                @for lane in &self.through {
                    g class=(format!("c{}", lane % COLOURS)) { path.edge d=(format!("M{} 0V{HEIGHT}", x(*lane))) {} }
                }
                @for lane in &self.joins {
                    @let mut path = String::new();
                    @let _ = write!(path, "M{} 0C{} {middle} {own} 0 {own} {middle}", x(*lane), x(*lane));
                    g class=(format!("c{}", lane % COLOURS)) { path.edge d=(path) {} }
                }
                g class=(format!("c{}", self.lane % COLOURS)) {
                    @if self.goes_on { path.edge d=(format!("M{own} {middle}V{HEIGHT}")) {} }
                    circle.full[self.named] cx=(own) cy=(middle) r="4.5" {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fedner_shared::time::Time;

    use super::*;

    fn version(name: &str, parent: Option<&Version>) -> Version {
        Version {
            digest: Digest::of(name.as_bytes()),
            name: name.parse().expect("name"),
            parent: parent.map(|parent| parent.digest),
            created: Time::from_millis(0),
            origin: "round",
            run: None,
            labels: Vec::new(),
            aliases: Vec::new(),
            f1: None,
            median_f1: None,
            by_type: Vec::new(),
            scored: 0,
            participants: 0,
            epsilon: None,
            pruned: None,
            audits: Vec::new(),
        }
    }

    #[test]
    fn branches_have_lanes_of_their_own_and_join_in_their_parent() {
        let base = version("base@1", None);
        let (left, right) = (version("a@1", Some(&base)), version("b@1", Some(&base)));
        let newest = version("a@2", Some(&left));
        let rows = rows(&[&newest, &right, &left, &base]);
        let lanes: Vec<usize> = rows.iter().map(|row| row.lane).collect();
        assert_eq!(lanes, [0, 1, 0, 0]);
        assert_eq!(rows[1].through, [0]);
        assert_eq!(rows[2].through, [1]);
        assert_eq!(rows[3].joins, [0, 1]);
        assert!(!rows[3].goes_on && rows[0].goes_on);
        // A lane that has ended is used again.
        let other = version("c@1", None);
        assert_eq!(super::rows(&[&base, &other])[1].lane, 0);
    }
}
