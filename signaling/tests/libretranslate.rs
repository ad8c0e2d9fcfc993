//! The contract of LibreTranslate's interface, as its version 1.9.6 keeps it. `tests/peers` holds the
//! same requests against the original.
#![allow(clippy::unwrap_used)]

mod fake_studio;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::MockConnectInfo;
use axum::http::{Method, Request};
use fake_studio::{FakeStudio, Reply, send};
use serde_json::{Value, json};
use signaling::libretranslate::{FaceKey, LibreTranslateFace, router};

const NOT_UNDERSTOOD: &str =
    "The browser (or proxy) sent a request that this server could not understand.";
const INTERNAL: &str = "The server encountered an internal error and was unable to complete your \
    request. Either the server is overloaded or there is an error in the application.";

fn limited() -> LibreTranslateFace {
    LibreTranslateFace {
        char_limit: 200,
        batch_limit: 4,
        alternatives_limit: 3,
        ..LibreTranslateFace::default()
    }
}

fn face(config: LibreTranslateFace) -> Router {
    at(Arc::new(FakeStudio::default()), config)
}

fn at(studio: Arc<FakeStudio>, config: LibreTranslateFace) -> Router {
    let address: SocketAddr = "192.0.2.1:9".parse().unwrap();
    router(studio, config).layer(MockConnectInfo(address))
}

async fn post(router: &Router, path: &str, content_type: &str, body: impl Into<Body>) -> Reply {
    let request = Request::post(path).header("content-type", content_type);
    send(router, request.body(body.into()).unwrap()).await
}

async fn translate(router: &Router, body: Value) -> Reply {
    post(router, "/translate", "application/json", body.to_string()).await
}

async fn form(router: &Router, path: &str, body: &str) -> Reply {
    post(router, path, "application/x-www-form-urlencoded", body.to_owned()).await
}

async fn get(router: &Router, path: &str) -> Reply {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

fn assert_refused(reply: &Reply, status: u16, error: &str) {
    assert_eq!((reply.status.as_u16(), reply.json()), (status, json!({ "error": error })));
    assert_eq!(reply.header("content-type"), "application/json");
    assert_eq!(reply.header("access-control-allow-origin"), "*");
}

#[tokio::test]
async fn a_text_is_translated_from_json_a_form_parts_and_the_address() {
    let face = face(limited());
    let expected = json!({ "translatedText": "[es] Hi there" });
    let asked = json!({ "q": "Hi there", "source": "en", "target": "es" });
    let reply = translate(&face, asked).await;
    assert_eq!(reply.json(), expected);
    assert_eq!(reply.text(), "{\"translatedText\":\"[es] Hi there\"}\n");
    let fields = "q=Hi+there&source=en&target=ES";
    assert_eq!(form(&face, "/translate", fields).await.json(), expected);
    assert_eq!(
        post(&face, &format!("/translate?{fields}"), "text/plain", "").await.json(),
        expected
    );
    let part = |name, value| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let parts = part("q", "Hi there") + &part("source", "en") + &part("target", "es") + "--b--\r\n";
    let reply = post(&face, "/translate", "multipart/form-data; boundary=b", parts).await;
    assert_eq!(reply.json(), expected);
}

#[tokio::test]
async fn an_array_comes_back_as_arrays_and_its_language_is_detected_once() {
    let asked = json!({
        "q": ["hola", "hello, hola a todos"], "source": "auto", "target": "en", "alternatives": 2
    });
    let reply = translate(&face(limited()), asked).await;
    assert_eq!(
        reply.json(),
        json!({
            "translatedText": ["[en] hola", "[en] hello, hola a todos"],
            "detectedLanguage": [
                { "confidence": 90.0, "language": "es" },
                { "confidence": 90.0, "language": "es" },
            ],
            "alternatives": [["[en.1] hola"], ["[en.1] hello, hola a todos"]],
        })
    );
    let body = reply.text();
    let places: Vec<_> = ["alternatives", "detectedLanguage", "translatedText"]
        .iter()
        .map(|key| body.find(key).unwrap())
        .collect();
    assert!(places.is_sorted(), "{body}");
    assert!(body.contains("\"confidence\":90.0"), "{body}");
}

#[tokio::test]
async fn the_detected_language_and_alternatives_come_only_when_asked_for() {
    let face = face(limited());
    let asked = json!({ "q": "hola", "source": "auto", "target": "en" });
    assert_eq!(
        translate(&face, asked).await.json(),
        json!({
            "translatedText": "[en] hola",
            "detectedLanguage": { "confidence": 90.0, "language": "es" },
        })
    );
    let asked = json!({ "q": "你好", "source": "auto", "target": "en", "alternatives": "1" });
    assert_eq!(
        translate(&face, asked).await.json(),
        json!({
            "translatedText": "[en] 你好",
            "detectedLanguage": { "confidence": 100.0, "language": "zh-Hans" },
            "alternatives": ["[en.1] 你好"],
        })
    );
}

#[tokio::test]
async fn what_has_no_words_comes_back_untouched() {
    let face = face(limited());
    let asked = json!({ "q": "😀", "source": "auto", "target": "es", "alternatives": 1 });
    assert_eq!(
        translate(&face, asked).await.json(),
        json!({
            "translatedText": "😀",
            "detectedLanguage": { "confidence": 0.0, "language": "en" },
            "alternatives": [],
        })
    );
    let asked = json!({ "q": ["", ""], "source": "en", "target": "es" });
    assert_eq!(translate(&face, asked).await.json(), json!({ "translatedText": ["", ""] }));
}

#[tokio::test]
async fn html_is_translated_between_its_tags() {
    let asked = json!({
        "q": "<p title=\"x\">Tom &amp; I <b>agree</b></p><br>", "source": "en", "target": "es",
        "format": "html", "alternatives": 2
    });
    assert_eq!(
        translate(&face(limited()), asked).await.json(),
        json!({
            "translatedText": "<p title=\"x\">[es] Tom &amp; I <b>[es] agree</b></p><br>",
            "alternatives": [],
        })
    );
}

#[tokio::test]
async fn faults_are_told_in_the_originals_words() {
    let face = face(limited());
    let long = "é".repeat(201);
    for (body, status, error) in [
        (json!({}), 400, "Invalid request: missing q parameter"),
        (json!({ "q": "" }), 400, "Invalid request: missing q parameter"),
        (json!({ "q": [] }), 400, "Invalid request: missing q parameter"),
        (json!({ "q": "a" }), 400, "Invalid request: missing source parameter"),
        (json!({ "q": "a", "source": "en" }), 400, "Invalid request: missing target parameter"),
        (json!({ "q": "a", "source": "xx", "target": "es" }), 400, "xx is not supported"),
        (json!({ "q": "a", "source": 7, "target": "es" }), 400, "7 is not supported"),
        (
            json!({ "q": "a", "source": "en", "target": "yy", "format": "md" }),
            400,
            "yy is not supported",
        ),
        (
            json!({ "q": "a", "source": "en", "target": "es", "format": "md" }),
            400,
            "md format is not supported",
        ),
        (
            json!({ "q": "a", "source": "en", "target": "pt" }),
            400,
            "Portuguese (pt) is not available as a target language from English (en)",
        ),
        (
            json!({ "q": long, "source": "en", "target": "es" }),
            400,
            "Invalid request: request (201) exceeds text limit (200)",
        ),
        (
            json!({ "q": ["a", "b", "c", "d", "e"], "source": "en", "target": "es" }),
            400,
            "Invalid request: request (5) exceeds text limit (4)",
        ),
        (
            json!({ "q": "a", "source": "en", "target": "es", "alternatives": 4 }),
            400,
            "Invalid request: alternatives parameter must be <= 3",
        ),
        (json!({ "q": "a", "source": "en", "target": "es", "alternatives": "x" }), 500, INTERNAL),
        (json!({ "q": 5, "source": "en", "target": "es" }), 500, INTERNAL),
        (json!({ "q": [5], "source": "en", "target": "es" }), 500, INTERNAL),
        (json!([1]), 400, "Invalid JSON format"),
    ] {
        assert_refused(&translate(&face, body).await, status, error);
    }
    let broken = post(&face, "/translate", "application/json", "{\"q\":").await;
    assert_refused(&broken, 400, NOT_UNDERSTOOD);
    let not_read = post(&face, "/translate", "text/plain", "q=a").await;
    assert_refused(&not_read, 400, "Invalid request: missing q parameter");
    let fields = "q=a&source=en&target=es&alternatives=x";
    let error = "Invalid request: alternatives parameter is not a number";
    assert_refused(&form(&face, "/translate", fields).await, 400, error);
}

#[tokio::test]
async fn a_form_counts_line_ends_as_json_does() {
    let face = face(LibreTranslateFace { char_limit: 3, ..limited() });
    let reply = form(&face, "/translate", "q=a%0D%0Ab%0D%0A&source=en&target=es").await;
    assert_eq!(reply.json(), json!({ "translatedText": "[es] a\nb" }));
}

#[tokio::test]
async fn detection_gives_candidates_and_english_when_there_are_none() {
    let face = face(limited());
    assert_eq!(
        form(&face, "/detect", "q=hola").await.json(),
        json!([
            { "confidence": 90.0, "language": "es" },
            { "confidence": 5.0, "language": "pt" },
        ])
    );
    let asked = json!({ "q": "123" }).to_string();
    let reply = post(&face, "/detect", "application/json", asked).await;
    assert_eq!(reply.json(), json!([{ "confidence": 0.0, "language": "en" }]));
    let missing = form(&face, "/detect", "").await;
    assert_refused(&missing, 400, "Invalid request: missing q parameter");
}

#[tokio::test]
async fn languages_name_their_targets_themselves_among_them() {
    let reply = get(&face(limited()), "/languages").await;
    let listed = reply.json();
    assert_eq!(
        listed[0],
        json!({ "code": "en", "name": "English", "targets": ["en", "es", "zh-Hans"] })
    );
    assert_eq!(listed[3]["code"], "zh-Hans");
}

#[tokio::test]
async fn a_variety_that_is_missing_finds_its_language() {
    let asked = json!({ "q": "olá", "source": "pt-BR", "target": "en" });
    let reply = translate(&face(limited()), asked).await;
    assert_eq!(reply.json(), json!({ "translatedText": "[en] olá" }));
}

#[tokio::test]
async fn health_and_settings_are_as_programs_expect_them() {
    let face = face(limited());
    assert_eq!(get(&face, "/health").await.text(), "{\"status\":\"ok\"}\n");
    assert_eq!(
        get(&face, "/frontend/settings").await.json(),
        json!({
            "apiKeys": false, "charLimit": 200, "filesTranslation": false, "frontendTimeout": 500,
            "keyRequired": false,
            "language": {
                "source": { "code": "auto", "name": "Auto Detect" },
                "target": { "code": "es", "name": "Spanish" },
            },
            "suggestions": false, "supportedFilesFormat": [],
        })
    );
}

#[tokio::test]
async fn what_is_switched_off_says_so() {
    let face = face(limited());
    let suggested = form(&face, "/suggest", "q=a&s=b").await;
    assert_refused(&suggested, 403, "Suggestions are disabled on this server.");
    let file = form(&face, "/translate_file", "").await;
    assert_refused(&file, 403, "Files translation are disabled on this server.");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_pages() {
    let face = face(limited());
    let missing = get(&face, "/nothing").await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.header("content-type"), "text/html; charset=utf-8");
    assert!(missing.text().contains("<title>404 Not Found</title>"), "{}", missing.text());
    assert_eq!(missing.header("access-control-allow-origin"), "", "as the original");
    let refused = get(&face, "/translate").await;
    assert_eq!((refused.status.as_u16(), refused.header("allow")), (405, "POST, OPTIONS"));
    assert!(refused.text().contains("<h1>Method Not Allowed</h1>"), "{}", refused.text());
    assert_eq!(refused.header("access-control-allow-origin"), "");
    let page = get(&face, "/").await;
    assert_eq!((page.status.as_u16(), page.header("access-control-allow-origin")), (404, "*"));
}

#[tokio::test]
async fn every_answer_of_a_path_carries_the_headers_for_other_origins() {
    let face = face(limited());
    let preflight = Request::builder().method(Method::OPTIONS).uri("/translate");
    let preflight = send(&face, preflight.body(Body::empty()).unwrap()).await;
    assert_eq!((preflight.status.as_u16(), preflight.header("allow")), (200, "POST, OPTIONS"));
    for reply in [preflight, get(&face, "/health").await, form(&face, "/suggest", "").await] {
        for (name, value) in [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-headers", "Authorization, Content-Type"),
            ("access-control-expose-headers", "Authorization"),
            ("access-control-allow-methods", "GET, POST"),
            ("access-control-allow-credentials", "true"),
            ("access-control-max-age", "1728000"),
        ] {
            assert_eq!(reply.header(name), value, "{name}");
        }
    }
}

#[tokio::test]
async fn more_requests_than_allowed_are_slowed_down_and_a_batch_counts_its_texts() {
    let face = face(LibreTranslateFace { req_limit: 3, ..limited() });
    let asked = json!({ "q": ["a", "b"], "source": "en", "target": "es" });
    assert_eq!(translate(&face, asked).await.status, 200);
    let one = "q=a&source=en&target=es";
    assert_eq!(form(&face, "/translate", one).await.status, 200);
    let refused = form(&face, "/translate", one).await;
    assert_refused(&refused, 429, "Slowdown: 3 per 1 minute");
    assert_eq!(refused.header("retry-after"), "");
    assert_eq!(form(&face, "/detect", "q=a").await.status, 200, "it counts for itself");
    assert_eq!(get(&face, "/languages").await.status, 200, "it is not counted");
}

fn with_key(require_key: bool) -> LibreTranslateFace {
    let key = FaceKey { key: "the-right-one".to_owned(), req_limit: Some(1), char_limit: Some(3) };
    LibreTranslateFace { keys: vec![key], require_key, req_limit: 50, ..limited() }
}

#[tokio::test]
async fn a_key_has_limits_of_its_own_and_a_wrong_one_is_refused() {
    let face = face(with_key(false));
    let ask =
        |q: &str, key: &str| json!({ "q": q, "source": "en", "target": "es", "api_key": key });
    assert_eq!(translate(&face, ask("four", "")).await.status, 200);
    assert_refused(&translate(&face, ask("a", "wrong")).await, 403, "Invalid API key");
    let long = translate(&face, ask("four", "the-right-one")).await;
    assert_refused(&long, 400, "Invalid request: request (4) exceeds text limit (3)");
    let again = translate(&face, ask("a", "the-right-one")).await;
    assert_refused(&again, 429, "Slowdown: 1 per 1 minute");
}

#[tokio::test]
async fn where_a_key_is_needed_a_request_without_one_is_told_whom_to_ask() {
    let face = face(with_key(true));
    let error = "Please contact the server operator to get an API key";
    assert_refused(&form(&face, "/detect", "q=a").await, 400, error);
    assert_eq!(form(&face, "/detect", "q=a&api_key=the-right-one").await.status, 200);
    assert_eq!(get(&face, "/languages").await.status, 200);
    let settings = get(&face, "/frontend/settings").await.json();
    assert_eq!((&settings["apiKeys"], &settings["keyRequired"]), (&json!(true), &json!(true)));
}

#[tokio::test]
async fn overload_and_defects_have_the_originals_words_and_no_secrets() {
    let studio = Arc::new(FakeStudio::default());
    let face = at(Arc::clone(&studio), limited());
    for q in ["break", "panic"] {
        let reply = translate(&face, json!({ "q": q, "source": "en", "target": "es" })).await;
        assert_eq!(
            (reply.status.as_u16(), reply.json()["error"].as_str().unwrap()),
            (500, INTERNAL)
        );
    }
    studio.overloaded.store(true, Ordering::Relaxed);
    let reply = translate(&face, json!({ "q": "a", "source": "en", "target": "es" })).await;
    assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (503, "7"));
    assert!(reply.json()["error"].as_str().unwrap().contains("temporarily unable"));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let text = "x".repeat(3 << 20);
    let reply = form(&face(limited()), "/translate", &format!("q={text}")).await;
    assert_eq!(reply.status, 413);
    assert!(reply.text().contains("Request Entity Too Large"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_sent_the_answer_is_json_or_a_page(
        body in "\\{?(\"(q|source|target|alternatives|format)\":(\"\\PC{0,9}\"|-?[0-9]{1,20}|null|\\[\\]),?){0,5}\\}?|\\PC{0,80}",
        content_type in "application/json|application/x-www-form-urlencoded|multipart/form-data; boundary=b",
        path in "/(translate|detect)",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let reply = runtime.block_on(post(&face(limited()), &path, &content_type, body));
        let is_page = reply.text().starts_with("<!doctype html>");
        proptest::prop_assert!(is_page || reply.json().is_object() || reply.json().is_array());
    }
}
