//! From a request to its answer: MMDS version 2 without a network.

use std::time::Instant;

use http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serde_json::Value;

use super::tokens::LIFETIME;
use super::{Service, State, imds};
use firebuild_protocol::metadata::{TOKEN_HEADER, TOKEN_PATH, TOKEN_TTL_HEADER};

/// The names that Amazon's service has for the same headers; Firecracker takes them as well.
const AWS_TTL_HEADER: &str = "X-aws-ec2-metadata-token-ttl-seconds";
const AWS_TOKEN_HEADER: &str = "X-aws-ec2-metadata-token";

/// Answers one request.
#[must_use]
pub fn answer(
    service: &Service,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    now: Instant,
) -> Response<String> {
    service.with(|state| match *method {
        Method::GET => get(state, path, headers, now),
        Method::PUT => put(state, path, headers, now),
        _ => {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "Not allowed HTTP method.");
            let allowed = HeaderValue::from_static("GET, PUT");
            refused.headers_mut().insert(ALLOW, allowed);
            refused
        }
    })
}

fn put(state: &State, path: &str, headers: &HeaderMap, now: Instant) -> Response<String> {
    if headers.contains_key("X-Forwarded-For") {
        return plain(
            StatusCode::BAD_REQUEST,
            "Invalid header. Reason: X-Forwarded-For is not allowed.",
        );
    }
    if normal(path) != TOKEN_PATH {
        return not_found(path);
    }
    let Some((name, value)) = either(headers, TOKEN_TTL_HEADER, AWS_TTL_HEADER) else {
        return plain(
            StatusCode::BAD_REQUEST,
            "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or `X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime.",
        );
    };
    let seconds = value.to_str().ok().and_then(|text| text.parse().ok());
    let Some(seconds) = seconds.filter(|seconds| LIFETIME.contains(seconds)) else {
        return plain(
            StatusCode::BAD_REQUEST,
            "Invalid time to live value provided for token. It must be 1 to 21600 seconds.",
        );
    };
    let mut given = plain(StatusCode::OK, &state.tokens.give(seconds, now));
    given.headers_mut().insert(name, seconds.into());
    given
}

fn get(state: &State, path: &str, headers: &HeaderMap, now: Instant) -> Response<String> {
    let Some((_, token)) = either(headers, TOKEN_HEADER, AWS_TOKEN_HEADER) else {
        return plain(
            StatusCode::UNAUTHORIZED,
            "No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to specify the session token.",
        );
    };
    let valid = token.to_str().is_ok_and(|t| state.tokens.is_valid(t, now));
    if !valid {
        return plain(StatusCode::UNAUTHORIZED, "MMDS token not valid.");
    }
    let Some(value) = find(&state.document, path) else {
        return not_found(path);
    };
    if wants_json(headers) {
        let mut found = plain(StatusCode::OK, &value.to_string());
        let json = HeaderValue::from_static("application/json");
        found.headers_mut().insert(CONTENT_TYPE, json);
        return found;
    }
    match imds::text(value) {
        Some(text) => plain(StatusCode::OK, &text),
        None => plain(
            StatusCode::NOT_IMPLEMENTED,
            "Cannot retrieve value. The value has an unsupported type.",
        ),
    }
}

/// The value that `path` leads to. Slashes at the end and repeated ones count for nothing.
fn find<'a>(document: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('/')
        .filter(|part| !part.is_empty())
        .try_fold(document, |value, part| match value {
            Value::Object(entries) => entries.get(part),
            Value::Array(items) => items.get(part.parse::<usize>().ok()?),
            _ => None,
        })
}

fn normal(path: &str) -> String {
    path.split('/')
        .filter(|part| !part.is_empty())
        .fold(String::new(), |path, part| path + "/" + part)
}

fn either<'a>(
    headers: &'a HeaderMap,
    one: &'static str,
    two: &'static str,
) -> Option<(&'static str, &'a HeaderValue)> {
    [one, two]
        .into_iter()
        .find_map(|name| headers.get(name).map(|value| (name, value)))
}

fn wants_json(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|range| range.trim().eq_ignore_ascii_case("application/json"))
}

fn not_found(path: &str) -> Response<String> {
    let shown: String = path.chars().take(200).collect();
    plain(
        StatusCode::NOT_FOUND,
        &format!("Resource not found: {shown}."),
    )
}

fn plain(status: StatusCode, text: &str) -> Response<String> {
    let mut response = Response::new(text.to_owned());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metadata::tests::sample;

    fn ask(
        service: &Service,
        method: &Method,
        path: &str,
        headers: &[(&'static str, &str)],
        now: Instant,
    ) -> (u16, String) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let response = answer(service, method, path, &map, now);
        (response.status().as_u16(), response.into_body())
    }

    fn token(service: &Service, now: Instant) -> String {
        let ttl = [("x-metadata-token-ttl-seconds", "60")];
        let (status, token) = ask(service, &Method::PUT, TOKEN_PATH, &ttl, now);
        assert_eq!(status, 200);
        token
    }

    #[test]
    fn tokens_have_to_be_asked_for_properly() {
        let service = Service::new(sample()).unwrap();
        let now = Instant::now();
        for (path, headers, status) in [
            (
                TOKEN_PATH,
                &[("x-metadata-token-ttl-seconds", "1")][..],
                200,
            ),
            (
                TOKEN_PATH,
                &[("x-aws-ec2-metadata-token-ttl-seconds", "21600")],
                200,
            ),
            (
                "/latest//api/token/",
                &[("x-metadata-token-ttl-seconds", "1")],
                200,
            ),
            (TOKEN_PATH, &[("x-metadata-token-ttl-seconds", "0")], 400),
            (
                TOKEN_PATH,
                &[("x-metadata-token-ttl-seconds", "21601")],
                400,
            ),
            (
                TOKEN_PATH,
                &[("x-metadata-token-ttl-seconds", "99999999999999999999")],
                400,
            ),
            (TOKEN_PATH, &[("x-metadata-token-ttl-seconds", "é")], 400),
            (TOKEN_PATH, &[], 400),
            (
                TOKEN_PATH,
                &[
                    ("x-metadata-token-ttl-seconds", "1"),
                    ("x-forwarded-for", "10.0.0.1"),
                ],
                400,
            ),
            (
                "/latest/meta-data",
                &[("x-metadata-token-ttl-seconds", "1")],
                404,
            ),
        ] {
            assert_eq!(
                ask(&service, &Method::PUT, path, headers, now).0,
                status,
                "{path} {headers:?}"
            );
        }
        for method in [Method::POST, Method::DELETE, Method::PATCH, Method::HEAD] {
            assert_eq!(ask(&service, &method, "/", &[], now).0, 405);
        }
    }

    #[test]
    fn values_come_as_json_or_text() {
        let service = Service::new(sample()).unwrap();
        let now = Instant::now();
        let token = token(&service, now);
        let get = |path: &str, accept: &str| {
            let headers = [("x-metadata-token", token.as_str()), ("accept", accept)];
            ask(&service, &Method::GET, path, &headers, now)
        };
        let json = "text/html, application/json;q=0.9";
        assert_eq!(
            get("/latest/meta-data/hostname", json),
            (200, "\"web\"".into())
        );
        assert_eq!(
            get("/latest/meta-data/hostname/", "*/*"),
            (200, "web".into())
        );
        assert_eq!(get("/", "*/*"), (200, "latest/".into()));
        assert_eq!(get("/latest/meta-data/time", "*/*").0, 501);
        assert_eq!(get("/latest/meta-data/time", json), (200, "7".into()));
        assert_eq!(get("/latest/none", json).0, 404);
        assert_eq!(get("/latest/meta-data/hostname/x", json).0, 404);
        let (status, whole) = get("/latest/meta-data", json);
        assert_eq!(status, 200);
        let read: firebuild_protocol::metadata::Metadata = serde_json::from_str(&whole).unwrap();
        assert_eq!(read, sample());
    }

    #[test]
    fn nothing_without_a_valid_token() {
        let service = Service::new(sample()).unwrap();
        let now = Instant::now();
        let token = token(&service, now);
        let later = now + Duration::from_secs(61);
        for (headers, now) in [
            (&[][..], now),
            (&[("x-metadata-token", "")], now),
            (&[("x-metadata-token", "é")], now),
            (&[("x-metadata-token", token.as_str())], later),
        ] {
            assert_eq!(ask(&service, &Method::GET, "/latest", headers, now).0, 401);
        }
    }

    #[test]
    fn secrets_go_when_they_are_withdrawn() {
        let service = Service::new(sample()).unwrap();
        let now = Instant::now();
        let token = token(&service, now);
        let headers = [
            ("x-aws-ec2-metadata-token", token.as_str()),
            ("accept", "application/json"),
        ];
        let get = || ask(&service, &Method::GET, "/latest/meta-data", &headers, now).1;
        assert!(get().contains("the-key"));
        service.withdraw_secrets();
        assert!(!get().contains("the-key") && get().contains("hostname"));
    }
}
