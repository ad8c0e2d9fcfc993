//! The document that the API gives of itself, held against what is served.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;

use common::Face;
use serde_json::Value;

const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "patch", "trace"];

async fn document(face: &Face) -> Value {
    let reply = face.ask("GET", "/v1/openapi.json", &[], "").await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/json"));
    reply.json()
}

/// Each path with the methods that the document says it has.
fn paths(document: &Value) -> Vec<(&str, BTreeSet<&str>)> {
    let paths = document["paths"].as_object().unwrap();
    let methods = |item: &Value| {
        METHODS.into_iter().filter(|method| item.get(method).is_some()).collect::<BTreeSet<_>>()
    };
    paths.iter().map(|(path, item)| (path.as_str(), methods(item))).collect()
}

fn address(path: &str) -> String {
    path.replace("{room}", "lobby").replace("{session}", "x").replace("{identity}", "ana")
}

fn named(list: &str) -> BTreeSet<String> {
    list.split(',').map(|name| name.trim().to_ascii_lowercase()).collect()
}

#[tokio::test]
async fn what_is_documented_is_served_and_nothing_else() {
    let face = Face::new();
    let document = document(&face).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let paths = paths(&document);
    assert!(paths.len() >= 20, "{}", paths.len());
    for (path, methods) in paths {
        let address = address(path);
        for method in &methods {
            let reply = face.ask(&method.to_uppercase(), &address, &[], "").await;
            assert_ne!(reply.status, 405, "{method} {path}");
            let is_nowhere =
                reply.status == 404 && reply.problem().kind == "/problems/no-such-path";
            assert!(!is_nowhere, "{method} {path}");
        }
        let mut expected: BTreeSet<String> = methods.iter().map(ToString::to_string).collect();
        expected.insert("options".to_owned());
        if methods.contains("get") {
            expected.insert("head".to_owned());
        }
        // The first is made from the list of what is documented, the second by the router from the
        // handlers that it has.
        let options = face.ask("OPTIONS", &address, &[], "").await;
        assert_eq!(named(options.header("allow")), expected, "{path}");
        let refused = face.ask("TRACE", &address, &[], "").await;
        assert_eq!(refused.status, 405, "{path}");
        assert_eq!(named(refused.header("allow")), expected, "{path}");
    }
}

#[tokio::test]
async fn each_operation_has_a_name_of_its_own_and_says_what_it_answers() {
    let face = Face::new();
    let document = document(&face).await;
    let mut names = BTreeSet::new();
    for (path, methods) in paths(&document) {
        for method in methods {
            let operation = &document["paths"][path][method];
            let text = |field: &str| operation[field].as_str().unwrap_or_default();
            assert!(names.insert(text("operationId").to_owned()), "{method} {path}");
            assert!(!text("summary").is_empty() && !text("description").is_empty(), "{path}");
            let responses = operation["responses"].as_object().unwrap();
            for (status, response) in responses {
                assert!(response["headers"]["X-Request-Id"].is_object(), "{method} {path}");
                let types: Vec<_> = response["content"]
                    .as_object()
                    .into_iter()
                    .flat_map(|map| map.keys())
                    .collect();
                let is_error = status.as_str() >= "400";
                assert_eq!(types == ["application/problem+json"], is_error, "{path} {status}");
            }
            let is_success = |status: &String| status.starts_with('2');
            assert!(responses.keys().any(is_success), "{method} {path}");
            let is_open = operation["security"].as_array().is_none_or(Vec::is_empty);
            assert_eq!(responses.contains_key("401"), !is_open, "{method} {path}");
            let is_health = path.ends_with('z');
            assert_eq!(responses.contains_key("429"), !is_health, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn whoever_may_call_without_credentials_is_documented_so() {
    let face = Face::new();
    let document = document(&face).await;
    for (path, methods) in paths(&document) {
        for method in methods {
            let reply = face.ask(&method.to_uppercase(), &address(path), &[], "").await;
            let is_documented = document["paths"][path][method]["responses"].get("401").is_some();
            assert_eq!(reply.status == 401, is_documented, "{method} {path}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = document(&Face::new()).await;
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 30, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn every_kind_of_problem_is_said_of_an_operation() {
    let document = document(&Face::new()).await;
    let words = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let all = words(&document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]);
    assert!(all.len() > 30, "{all:?}");
    // What is answered where there is no operation.
    let mut said: BTreeSet<String> =
        ["no-such-path", "method-not-allowed"].map(|slug| format!("/problems/{slug}")).into();
    for (path, methods) in paths(&document) {
        for method in methods {
            let responses = document["paths"][path][method]["responses"].as_object().unwrap();
            for response in responses.values() {
                let schema = &response["content"]["application/problem+json"]["schema"];
                if let Some(narrowed) = schema["allOf"].get(1) {
                    said.extend(words(&narrowed["properties"]["type"]["enum"]));
                }
            }
        }
    }
    assert_eq!(said, all.into_iter().collect());
}

#[tokio::test]
async fn links_of_the_code_do_not_show() {
    fn descriptions<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("description").and_then(Value::as_str));
                map.values().for_each(|value| descriptions(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| descriptions(value, found)),
            _ => {}
        }
    }
    let document = document(&Face::new()).await;
    let mut found = Vec::new();
    descriptions(&document, &mut found);
    assert!(found.len() > 100, "{}", found.len());
    for text in found {
        assert!(!text.contains("[`") && !text.contains("::"), "{text}");
    }
}

#[tokio::test]
async fn a_client_that_has_the_document_is_not_sent_it_again() {
    let face = Face::new();
    let etag = face.ask("GET", "/v1/openapi.json", &[], "").await.header("etag").to_owned();
    assert!(etag.len() > 10 && etag.starts_with('"'), "{etag}");
    for (tag, status) in [
        (etag.clone(), 304),
        (format!("W/{etag}"), 304),
        (format!("\"x\", {etag}"), 304),
        ("*".to_owned(), 304),
        ("\"x\"".to_owned(), 200),
        (etag.trim_matches('"').to_owned(), 200),
    ] {
        let reply = face.ask("GET", "/v1/openapi.json", &[("if-none-match", &tag)], "").await;
        assert_eq!(reply.status.as_u16(), status, "{tag}");
        assert_eq!(reply.header("etag"), etag);
        assert_eq!(reply.body.is_empty(), status == 304);
    }
}
