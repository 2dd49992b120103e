//! One question of a guest, and what is to be done about it: the part of the server that touches
//! neither sockets nor time. Whatever bytes come in, it ends, and says something or nothing.

use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::names::Names;

/// For how long an answer may be kept, in seconds: VMs come and go.
const TTL: u32 = 1;

/// What is done about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// This is the answer.
    Answer(Vec<u8>),
    /// The host's servers are asked for this name, in lower case and without the last dot.
    Forward(String),
    /// Nothing is said.
    Nothing,
}

/// Decides about a question. `leads_out` is whether anything may be forwarded.
pub(crate) fn decide(bytes: &[u8], names: &mut Names, leads_out: bool) -> Decision {
    let Ok(message) = Message::from_vec(bytes) else {
        return Decision::Nothing;
    };
    if message.metadata.message_type != MessageType::Query {
        return Decision::Nothing;
    }
    if message.metadata.op_code != OpCode::Query {
        return reply(&message, ResponseCode::NotImp, Vec::new());
    }
    let [query] = &message.queries[..] else {
        return reply(&message, ResponseCode::FormErr, Vec::new());
    };
    let name = text_of(&query.name);
    if query.query_class == DNSClass::IN
        && let Some(answers) = own_answers(query, &name, names)
    {
        return match answers {
            Ok(answers) => reply(&message, ResponseCode::NoError, answers),
            Err(code) => reply(&message, code, Vec::new()),
        };
    }
    if leads_out {
        Decision::Forward(name)
    } else {
        reply(&message, ResponseCode::Refused, Vec::new())
    }
}

/// The answer of a name that the VM is not to ask for.
pub(crate) fn refusal(bytes: &[u8]) -> Option<Vec<u8>> {
    failure(bytes, ResponseCode::Refused)
}

/// The answer that a failure of every server behind this one is.
pub(crate) fn failure(bytes: &[u8], code: ResponseCode) -> Option<Vec<u8>> {
    let message = Message::from_vec(bytes).ok()?;
    match reply(&message, code, Vec::new()) {
        Decision::Answer(bytes) => Some(bytes),
        _ => None,
    }
}

/// Whether `answer` is one to `question`: the same number and the same question.
pub(crate) fn answers(question: &[u8], answer: &[u8]) -> bool {
    let (Ok(question), Ok(answer)) = (Message::from_vec(question), Message::from_vec(answer))
    else {
        return false;
    };
    answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == question.metadata.id
        && answer.queries == question.queries
}

/// A name in lower case and without the last dot.
pub(crate) fn text_of(name: &Name) -> String {
    let mut text = name.to_lowercase().to_ascii();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

/// What is known here about a question, or that nobody else is to be asked.
fn own_answers(
    query: &Query,
    name: &str,
    names: &mut Names,
) -> Option<Result<Vec<Record>, ResponseCode>> {
    if query.query_type == RecordType::PTR {
        let address = query.name.parse_arpa_name().ok()?;
        let address =
            Some(address.addr()).filter(|_| address.prefix_len() == address.max_prefix_len())?;
        return match names.name(address) {
            Some(name) => {
                let name = Name::from_ascii(format!("{name}.")).ok()?;
                let data = RData::PTR(PTR(name));
                Some(Ok(vec![Record::from_rdata(query.name.clone(), TTL, data)]))
            }
            None => names.is_own(address).then_some(Err(ResponseCode::NXDomain)),
        };
    }
    let Some(addresses) = names.addresses(name) else {
        // One word is a VM's name, or nobody's.
        let is_address = matches!(query.query_type, RecordType::A | RecordType::AAAA);
        let is_word = !name.is_empty() && !name.contains('.');
        return (is_address && is_word).then_some(Err(ResponseCode::NXDomain));
    };
    let wanted = addresses
        .into_iter()
        .filter_map(|address| match (address, query.query_type) {
            (IpAddr::V4(v4), RecordType::A) => Some(RData::A(A(v4))),
            (IpAddr::V6(v6), RecordType::AAAA) => Some(RData::AAAA(AAAA(v6))),
            _ => None,
        });
    let records = wanted.map(|data| Record::from_rdata(query.name.clone(), TTL, data));
    Some(Ok(records.collect()))
}

fn reply(message: &Message, code: ResponseCode, answers: Vec<Record>) -> Decision {
    let request = &message.metadata;
    let mut answer = Message::response(request.id, request.op_code);
    answer.metadata = Metadata::response_from_request(request);
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = code;
    // Others than one are none that could be repeated.
    if let [query] = &message.queries[..] {
        answer.add_query(query.clone());
    }
    answer.add_answers(answers);
    answer.to_vec().map_or(Decision::Nothing, Decision::Answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let id = firebuild_core::MachineId::from_random([3; 20]);
        Names::new("/nonexistent".into(), id)
    }

    fn question(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    fn code(decision: &Decision) -> Option<ResponseCode> {
        let Decision::Answer(bytes) = decision else {
            return None;
        };
        Some(Message::from_vec(bytes).unwrap().metadata.response_code)
    }

    #[test]
    fn what_is_not_known_here_is_forwarded_or_not() {
        let forward = |name: &str| Decision::Forward(name.to_owned());
        for (name, kind, expected) in [
            ("Example.ORG.", RecordType::A, forward("example.org")),
            ("example.org.", RecordType::MX, forward("example.org")),
            ("com.", RecordType::NS, forward("com")),
            (
                "1.2.0.192.in-addr.arpa.",
                RecordType::PTR,
                forward("1.2.0.192.in-addr.arpa"),
            ),
        ] {
            let asked = question(name, kind);
            assert_eq!(decide(&asked, &mut names(), true), expected, "{name}");
            let refused = decide(&asked, &mut names(), false);
            assert_eq!(code(&refused), Some(ResponseCode::Refused), "{name}");
        }
        let word = decide(&question("nobody.", RecordType::A), &mut names(), true);
        assert_eq!(code(&word), Some(ResponseCode::NXDomain));
    }

    #[test]
    fn answers_are_told_from_others() {
        let asked = question("example.org.", RecordType::A);
        let answer = failure(&asked, ResponseCode::ServFail).unwrap();
        assert!(answers(&asked, &answer));
        assert!(!answers(&asked, &asked));
        assert!(!answers(&question("example.com.", RecordType::A), &answer));
        let mut other = answer.clone();
        other[0] ^= 1;
        assert!(!answers(&asked, &other));
        assert!(!answers(&asked, &answer[..5]));
    }

    #[test]
    fn what_is_no_question_gets_no_answer_or_a_refusal() {
        let asked = question("example.org.", RecordType::A);
        let mut response = asked.clone();
        response[2] |= 0x80;
        assert_eq!(decide(&response, &mut names(), true), Decision::Nothing);
        let mut update = asked.clone();
        update[2] |= 5 << 3;
        let refused = decide(&update, &mut names(), true);
        assert!(!matches!(refused, Decision::Forward(_)));
        for length in 0..asked.len() {
            let part = decide(&asked[..length], &mut names(), true);
            assert!(!matches!(part, Decision::Forward(_)), "{length}");
        }
    }

    proptest::proptest! {
        /// Whatever a guest sends, it is decided, and what is answered is small and can be read.
        #[test]
        fn any_bytes_are_decided(
            head in proptest::collection::vec(proptest::num::u8::ANY, 0..12),
            rest in proptest::collection::vec(proptest::num::u8::ANY, 0..600),
            flip in 0_usize..40,
            with in proptest::num::u8::ANY,
        ) {
            let mut near = question("a.example.org.", RecordType::A);
            let place = flip % near.len();
            near[place] = with;
            for bytes in [[&head[..], &rest[..]].concat(), near] {
                if let Decision::Answer(answer) = decide(&bytes, &mut names(), true) {
                    proptest::prop_assert!(answer.len() <= bytes.len() + 600);
                    proptest::prop_assert!(Message::from_vec(&answer).is_ok());
                }
            }
        }
    }
}
