//! What a refusal says in the form that Google's error model has for it (google.rpc.Status and ErrorInfo): general
//! gRPC tools show it, and libraries read it without a word of ours.

use std::collections::HashMap;

use fedner_shared::refusal::Refusal;
use prost::Message;
use tonic::Code;

/// Whose codes these are.
const DOMAIN: &str = "fedner";
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
/// Headers of an answer have little room; the message stands there once already.
const LONGEST: usize = 2048;

/// google.rpc.Status, as `google/rpc/status.proto` has it.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// google.protobuf.Any.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// google.rpc.ErrorInfo, as `google/rpc/error_details.proto` has it.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(map = "string, string", tag = "3")]
    metadata: HashMap<String, String>,
}

/// The details of a refusal's status: its code as the reason, and its hint.
pub(super) fn of(refusal: &Refusal, code: Code) -> Vec<u8> {
    if refusal.message.len() > LONGEST {
        return Vec::new();
    }
    let hint = ("hint".to_owned(), refusal.code.hint().to_owned());
    let info = ErrorInfo {
        reason: refusal.code.as_str().to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: HashMap::from([hint]),
    };
    let info = Any {
        type_url: ERROR_INFO.to_owned(),
        value: info.encode_to_vec(),
    };
    let status = RpcStatus {
        code: code.into(),
        message: refusal.message.clone(),
        details: vec![info],
    };
    status.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use fedner_shared::refusal::Code as Reason;

    use super::*;
    use crate::convert::status_of;

    #[test]
    fn a_status_has_its_reason_domain_and_hint_in_googles_form() {
        for code in Reason::ALL {
            let status = status_of(&Refusal::new(*code, "what was wrong"));
            let rich = RpcStatus::decode(status.details()).expect("a status");
            assert_eq!(rich.code, i32::from(status.code()));
            assert_eq!(rich.message, status.message());
            assert_eq!(rich.details.len(), 1);
            assert_eq!(rich.details[0].type_url, ERROR_INFO);
            let info = ErrorInfo::decode(rich.details[0].value.as_slice()).expect("an info");
            assert_eq!(
                (info.reason.as_str(), info.domain.as_str()),
                (code.as_str(), "fedner")
            );
            assert_eq!(info.metadata["hint"], code.hint());
        }
        let long = status_of(&Refusal::new(Reason::PlanInvalid, "x".repeat(3000)));
        assert!(long.details().is_empty(), "it would not fit beside itself");
    }
}
