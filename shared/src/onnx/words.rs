//! Heads that look at a sentence's words together: at neighbours, or at tags one after another.
//!
//! The graph is told where each word begins, and chooses the tags itself.

use super::graph::{Graph, Value};
use super::linear::Weights;
use super::proto::{AttributeProto, Dimension, GraphProto, Kind, ValueInfoProto};
use crate::bert::{HeadShape, follows};
use crate::checkpoint::Error;

const BATCH: Dimension = Dimension::Named("batch");

/// The score of a transition that IOB2 does not have, as where the client decodes.
const NEVER: f64 = -1e9;
/// That of a state that cannot be: beside it every other is larger.
const IMPOSSIBLE: f64 = -1e30;
/// What stands for the tag of a word that is none.
const NO_TAG: i64 = -1;

/// Of `words`, `[batch, words]`, the first sub-token's place or a negative number: scores and tags.
pub(super) fn tags(
    graph: &mut Graph,
    weights: &Weights<'_>,
    features: &str,
    (words, tags): (&str, usize),
) -> Result<(Value, Value), Error> {
    let config = &weights.checkpoint.config;
    let nothing = graph.long(0);
    let present = graph.node("GreaterOrEqual", &[words, &nothing], Vec::new());
    let of_words = of_words(graph, features, words, &present);
    let read = with_neighbours(graph, &config.head, &of_words);
    let shape = [config.head_width(), tags];
    let scores = weights.linear_float(graph, "classifier", &read, shape)?;
    let chosen = if config.head.crf || config.head.iob2 {
        let field = Field::of(weights, tags)?;
        field.most_probable(graph, &scores, (words, &present))
    } else {
        most_probable(graph, &scores, -1, false)
    };
    let no_tag = graph.long(NO_TAG);
    let chosen = graph.node("Where", &[&present, &chosen, &no_tag], Vec::new());
    Ok((scores, chosen))
}

/// The features of each word's first sub-token, zero where there is no word: `[batch, words, width]`.
fn of_words(graph: &mut Graph, features: &str, words: &str, present: &str) -> Value {
    let nothing = graph.long(0);
    let places = graph.node("Max", &[words, &nothing], Vec::new());
    let places = graph.unsqueeze(&places, &[-1]);
    let batch = AttributeProto::int("batch_dims", 1);
    let found = graph.node("GatherND", &[features, &places], vec![batch]);
    let present = graph.cast(present, Kind::Float);
    let present = graph.unsqueeze(&present, &[-1]);
    graph.node("Mul", &[&found, &present], Vec::new())
}

/// The features of the words before and after beside a word's own.
fn with_neighbours(graph: &mut Graph, head: &HeadShape, features: &str) -> Value {
    let context = head.context as i64;
    if context == 0 {
        return features.to_owned();
    }
    let beyond = graph.longs(&[0, context, 0, 0, context, 0]);
    let padded = graph.node("Pad", &[features, &beyond], Vec::new());
    let parts: Vec<Value> = (0..=2 * context)
        .map(|shift| {
            let end = match shift - 2 * context {
                0 => i64::MAX,
                before => before,
            };
            graph.slice(&padded, 1, shift, end)
        })
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    graph.node("Concat", &parts, vec![AttributeProto::int("axis", -1)])
}

/// The place of the first of the largest values along an axis.
fn most_probable(graph: &mut Graph, scores: &str, axis: i64, keep: bool) -> Value {
    let attributes = vec![
        AttributeProto::int("axis", axis),
        AttributeProto::int("keepdims", keep.into()),
    ];
    graph.node("ArgMax", &[scores], attributes)
}

/// What is added to the scores of tags along a sentence: a CRF, the rules of IOB2, or both.
struct Field {
    tags: usize,
    /// From each tag to each, then from where a sentence begins: `[tags + 1, tags]`.
    moves: Vec<f64>,
    end: Vec<f64>,
}

impl Field {
    fn of(weights: &Weights<'_>, tags: usize) -> Result<Self, Error> {
        let head = &weights.checkpoint.config.head;
        let (mut moves, mut end) = (vec![0.0; (tags + 1) * tags], vec![0.0; tags]);
        if head.crf {
            let part = |name: &str| weights.checkpoint.tensor(&format!("crf.{name}"));
            let rows = [part("transitions")?, part("start_transitions")?].concat();
            moves = rows.into_iter().map(f64::from).collect();
            end = part("end_transitions")?
                .iter()
                .map(|v| f64::from(*v))
                .collect();
        }
        if head.iob2 {
            for (place, value) in moves.iter_mut().enumerate() {
                let (from, to) = (place / tags, place % tags);
                if !follows((from < tags).then_some(from), to) {
                    *value = NEVER;
                }
            }
        }
        Ok(Self { tags, moves, end })
    }

    /// The tags of each sentence that are most probable together (Viterbi 1967), the first of those alike, as the
    /// client finds them.
    fn most_probable(
        &self,
        graph: &mut Graph,
        scores: &str,
        (words, present): (&str, &str),
    ) -> Value {
        let tags = self.tags;
        graph.doubles("field.moves", &[tags + 1, tags], &self.moves);
        let end = graph.doubles("field.end", &[tags], &self.end);
        let mut begin = vec![IMPOSSIBLE; tags];
        begin.push(0.0);
        let begin = graph.doubles("field.begin", &[1, tags + 1], &begin);
        let scores = graph.cast(scores, Kind::Double);
        let batch = vec![AttributeProto::int("end", 1)];
        let batch = graph.node("Shape", &[words], batch);
        let states = graph.longs(&[tags as i64 + 1]);
        let axis = AttributeProto::int("axis", 0);
        let shape = graph.node("Concat", &[&batch, &states], vec![axis]);
        let begin = graph.node("Expand", &[&begin, &shape], Vec::new());

        let forwards = vec![
            AttributeProto::graph("body", self.forwards()),
            AttributeProto::int("num_scan_inputs", 2),
            AttributeProto::ints("scan_input_axes", &[1, 1]),
            AttributeProto::ints("scan_output_axes", &[1]),
        ];
        let [best, origins] = graph.nodes("Scan", &[&begin, &scores, present], forwards);
        let best = graph.slice(&best, 1, 0, tags as i64);
        let best = graph.node("Add", &[&best, &end], Vec::new());
        let last = most_probable(graph, &best, 1, true);
        let backwards = vec![
            AttributeProto::graph("body", backwards(tags)),
            AttributeProto::int("num_scan_inputs", 1),
            AttributeProto::ints("scan_input_axes", &[1]),
            AttributeProto::ints("scan_input_directions", &[1]),
            AttributeProto::ints("scan_output_axes", &[1]),
            AttributeProto::ints("scan_output_directions", &[1]),
        ];
        let [_, chosen] = graph.nodes("Scan", &[&last, &origins], backwards);
        chosen
    }

    /// One word further: the best score of a sequence that ends in each tag, and the tag before it. The last state
    /// is that of no word yet. Where there is no word, nothing changes.
    fn forwards(&self) -> GraphProto {
        let mut body = Graph::new("forwards.");
        let states = [BATCH, Dimension::Of(self.tags + 1)];
        let info = |name: &str, kind, shape: &[Dimension]| {
            ValueInfoProto::new(&format!("forwards.{name}"), kind, shape)
        };
        body.input(info("before", Kind::Double, &states));
        body.input(info(
            "scores",
            Kind::Double,
            &[BATCH, Dimension::Of(self.tags)],
        ));
        body.input(info("present", Kind::Truth, &[BATCH]));
        let from = body.unsqueeze("forwards.before", &[2]);
        let along = body.node("Add", &[&from, "field.moves"], Vec::new());
        let attributes = vec![
            AttributeProto::ints("axes", &[1]),
            AttributeProto::int("keepdims", 0),
        ];
        let best = body.node("ReduceMax", &[&along], attributes);
        let origin = most_probable(&mut body, &along, 1, false);
        let best = body.node("Add", &[&best, "forwards.scores"], Vec::new());
        let one_more = body.longs(&[0, 0, 0, 1]);
        let impossible = body.doubles("forwards.impossible", &[], &[IMPOSSIBLE]);
        let best = body.node("Pad", &[&best, &one_more, &impossible], Vec::new());
        let nowhere = body.long(self.tags as i64);
        let origin = body.node("Pad", &[&origin, &one_more, &nowhere], Vec::new());
        let present = body.unsqueeze("forwards.present", &[1]);
        let best = body.node("Where", &[&present, &best, "forwards.before"], Vec::new());
        let same: Vec<i64> = (0..=self.tags as i64).collect();
        let same = body.longs(&same);
        let origin = body.node("Where", &[&present, &origin, &same], Vec::new());
        body.output(&best, info("best", Kind::Double, &states));
        body.output(&origin, info("origin", Kind::Long, &states));
        body.finish("forwards")
    }
}

/// One word back: its tag, and the one before it.
fn backwards(tags: usize) -> GraphProto {
    let mut body = Graph::new("backwards.");
    let info = |name: &str, shape: &[Dimension]| {
        ValueInfoProto::new(&format!("backwards.{name}"), Kind::Long, shape)
    };
    let one = [BATCH, Dimension::Of(1)];
    body.input(info("tag", &one));
    body.input(info("origins", &[BATCH, Dimension::Of(tags + 1)]));
    let axis = AttributeProto::int("axis", 1);
    let origins = ["backwards.origins", "backwards.tag"];
    let before = body.node("GatherElements", &origins, vec![axis]);
    let axes = body.longs(&[1]);
    let tag = body.node("Squeeze", &["backwards.tag", &axes], Vec::new());
    body.output(&before, info("before", &one));
    body.output(&tag, info("chosen", &[BATCH]));
    body.finish("backwards")
}
