//! Messages from the network.

use fedner_proto::{convert, v1};
use fedner_shared::digest::Digest;
use fedner_shared::refusal::Refusal;
use prost::Message;

/// Decodes what follows the first byte as the message that this byte chooses, converts it, and
/// holds what came out to the way back.
pub(crate) fn convert(input: &[u8]) {
    taken(input);
}

/// Whether it was taken for a sound message.
fn taken(input: &[u8]) -> bool {
    let Some((kind, bytes)) = input.split_first() else {
        return false;
    };
    match kind % 10 {
        0 => both_ways(bytes, convert::run_from_wire, convert::run_to_wire),
        1 => both_ways(
            bytes,
            convert::institution_from_wire,
            convert::institution_to_wire,
        ),
        2 => both_ways(
            bytes,
            convert::explanation_from_wire,
            convert::explanation_to_wire,
        ),
        3 => both_ways(
            bytes,
            |event: v1::Event| convert::entry_from_wire(&event),
            convert::entry_to_wire,
        ),
        4 => both_ways(bytes, convert::version_from_wire, convert::version_to_wire),
        5 => {
            let request = v1::SubmitAuditRequest::decode(bytes);
            request.is_ok_and(|request| convert::submitted_audit(request).is_ok())
        }
        6 => both_ways(
            bytes,
            |signed: v1::Signed| convert::signed("a", Some(signed)),
            convert::signed_to_wire,
        ),
        7 => {
            let record = String::from_utf8_lossy(bytes);
            let read = convert::version_from_record(&record);
            let named = |digest| digest == Digest::of(record.as_bytes());
            assert!(read.as_ref().is_ok_and(|(digest, _)| named(*digest)) || read.is_err());
            read.is_ok()
        }
        8 => both_ways(bytes, convert::trust, convert::trust_to_wire),
        _ => {
            let digest = convert::digest("a", bytes);
            assert_eq!(digest.is_ok(), bytes.len() == 32);
            let _ = convert::public_key("a", bytes);
            digest.is_ok()
        }
    }
}

/// What is converted once is the same when it was sent and converted again.
fn both_ways<M, T>(
    bytes: &[u8],
    from_wire: impl Fn(M) -> Result<T, Refusal>,
    to_wire: impl Fn(&T) -> M,
) -> bool
where
    M: Message + Default,
    T: PartialEq + std::fmt::Debug,
{
    let Ok(Ok(view)) = M::decode(bytes).map(&from_wire) else {
        return false;
    };
    let sent = to_wire(&view).encode_to_vec();
    let message = M::decode(sent.as_slice()).expect("own message");
    let again = from_wire(message).expect("own message is converted");
    // A NaN is not equal to itself, its letters are.
    assert_eq!(format!("{again:?}"), format!("{view:?}"));
    true
}

fn entry(event: &str) -> v1::Event {
    let previous = "00".repeat(32);
    v1::Event {
        sequence: 1,
        time_ms: 1,
        run: "a".into(),
        kind: "run_started".into(),
        entry: format!(
            r#"{{"sequence":1,"time":1,"previous":"{previous}","run":"a-1","event":{event}}}"#
        ),
    }
}

pub(crate) fn messages() -> Vec<Vec<u8>> {
    let digest = vec![7; 32];
    let run = v1::Run {
        run: "disease-ner-1".into(),
        state: "collecting".into(),
        name: "disease-ner".into(),
        plan: digest.clone(),
        method: "ffa-lora".into(),
        unit: "person".into(),
        version: digest.clone(),
        champion: digest.clone(),
        members: vec![v1::Member {
            institution: "st-anna".into(),
            state: "late".into(),
            examples: Some(5),
            epsilon: Some(f64::INFINITY),
            last_seen_ms: Some(3),
            f1: Some(-0.0),
            update_norm: Some(2.5),
            cosine_to_others: Some(-1.0),
            cosine_to_last_step: Some(f64::NAN),
            aside: "the operator: round 3".into(),
            refused: "data-unavailable".into(),
            annotation: Some(v1::Annotation {
                types: vec!["Drug".into()],
                in_part: vec!["Disease\u{202e}".into()],
            }),
        }],
        ..Default::default()
    };
    let institution = v1::Institution {
        institution: "st-anna".into(),
        state: "active".into(),
        enrolled_ms: 1,
        certificate_expires_ms: i64::MAX,
        last_seen_ms: Some(-1),
        software: "fedner-client/0.1.0".into(),
        not_before_ms: Some(i64::MAX),
        not_before_code: "outside-hours".into(),
        twice: true,
    };
    let explanation = v1::ExplainResponse {
        run: "disease-ner-1".into(),
        state: "recruiting".into(),
        awaits: "consents".into(),
        from: vec!["st-anna".into(), "mercy".into()],
        until_ms: Some(5),
        then: "failed".into(),
        ..Default::default()
    };
    let record = format!(
        r#"{{"name":"base@1","parent":null,"origin":{{"kind":"import"}},"labels":["A"],"weights":"{0}","config":"{0}","tokenizer":"{0}","created":1}}"#,
        "07".repeat(32)
    );
    let version = v1::ModelVersion {
        digest: Digest::of(record.as_bytes()).as_bytes().to_vec(),
        record: record.clone(),
        aliases: vec!["champion".into()],
        scores: vec![v1::InstitutionScores {
            institution: "st-anna".into(),
            by_type: vec![v1::TypeCounts {
                label: "A".into(),
                true_positives: 1,
                false_positives: u64::MAX,
                false_negatives: 0,
            }],
        }],
        f1: Some(0.5),
        ..Default::default()
    };
    let signed = v1::Signed {
        body: r#"{"a":1}"#.into(),
        signature: vec![1; 64],
    };
    let audit = v1::SubmitAuditRequest {
        report: Some(signed.clone()),
        version: Some("base@1".into()),
    };
    let trust = v1::Trust {
        authorities: vec!["-----BEGIN CERTIFICATE-----".into()],
        successions: vec![signed.clone()],
    };
    let messages = [
        (0, run.encode_to_vec()),
        (1, institution.encode_to_vec()),
        (2, explanation.encode_to_vec()),
        (3, entry(r#"{"kind":"run_started"}"#).encode_to_vec()),
        (
            3,
            entry(r#"{"kind":"joined","institution":"a","examples":3,"consent":"0707070707070707070707070707070707070707070707070707070707070707"}"#)
                .encode_to_vec(),
        ),
        (4, version.encode_to_vec()),
        (5, audit.encode_to_vec()),
        (6, signed.encode_to_vec()),
        (7, record.into_bytes()),
        (8, trust.encode_to_vec()),
        (9, digest),
    ];
    let tagged = messages.map(|(kind, bytes)| [vec![kind], bytes].concat());
    tagged.to_vec()
}

#[test]
fn the_seeds_are_sound_messages() {
    for (number, message) in messages().iter().enumerate() {
        assert!(taken(message), "message {number}");
    }
}
