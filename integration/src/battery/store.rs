//! Keys, sessions and transactions.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Door, good};

pub(super) fn keys(door: &Door) -> Result<()> {
    let path = format!("/v1/kv/{}", door.own("keys/one"));
    let absent = door.send("GET", &path, "")?;
    ensure!(absent.status == 404 && absent.body.is_empty(), "absent: {} {}", absent.status, absent.text());
    ensure!(absent.header("x-consul-index").is_some(), "an absent key without index");
    is(door, "PUT", &format!("{path}?flags=42"), "first value", "true")?;
    let entry = door.json(&path)?;
    ensure!(entry[0]["Flags"] == 42 && entry[0]["Value"] == "Zmlyc3QgdmFsdWU=", "{entry}");
    ensure!(entry[0]["LockIndex"] == 0 && entry[0]["CreateIndex"] == entry[0]["ModifyIndex"], "{entry}");
    is(door, "GET", &format!("{path}?raw"), "", "first value")?;
    is(door, "PUT", &path, "second", "true")?;
    let changed = door.json(&path)?;
    ensure!(changed[0]["CreateIndex"] == entry[0]["CreateIndex"], "created anew: {changed}");
    ensure!(changed[0]["ModifyIndex"].as_u64() > entry[0]["ModifyIndex"].as_u64(), "not changed: {changed}");
    is(door, "DELETE", &path, "", "true")?;
    ensure!(door.send("GET", &path, "")?.status == 404, "still there");
    Ok(())
}

pub(super) fn swap(door: &Door) -> Result<()> {
    let path = format!("/v1/kv/{}", door.own("swap"));
    is(door, "PUT", &format!("{path}?cas=0"), "a", "true")?;
    is(door, "PUT", &format!("{path}?cas=0"), "b", "false")?;
    let index = door.json(&path)?[0]["ModifyIndex"].as_u64().context("no ModifyIndex")?;
    is(door, "PUT", &format!("{path}?cas={}", index + 1), "b", "false")?;
    is(door, "PUT", &format!("{path}?cas={index}"), "b", "true")?;
    is(door, "GET", &format!("{path}?raw"), "", "b")?;
    is(door, "DELETE", &format!("{path}?cas={index}"), "", "false")?;
    let index = door.json(&path)?[0]["ModifyIndex"].as_u64().context("no ModifyIndex")?;
    is(door, "DELETE", &format!("{path}?cas={index}"), "", "true")
}

pub(super) fn tree(door: &Door) -> Result<()> {
    let root = door.own("tree");
    for leaf in ["a", "b/one", "b/two", "c"] {
        is(door, "PUT", &format!("/v1/kv/{root}/{leaf}"), leaf, "true")?;
    }
    let names = door.json(&format!("/v1/kv/{root}/?keys"))?;
    let all = ["a", "b/one", "b/two", "c"].map(|leaf| format!("{root}/{leaf}"));
    ensure!(names == json!(all), "{names}");
    let top = door.json(&format!("/v1/kv/{root}/?keys&separator=/"))?;
    ensure!(top == json!(["a", "b/", "c"].map(|leaf| format!("{root}/{leaf}"))), "{top}");
    let entries = door.json(&format!("/v1/kv/{root}/b?recurse"))?;
    ensure!(entries.as_array().is_some_and(|list| list.len() == 2), "{entries}");
    is(door, "DELETE", &format!("/v1/kv/{root}/?recurse"), "", "true")?;
    ensure!(door.send("GET", &format!("/v1/kv/{root}/?keys"), "")?.status == 404, "still there");
    Ok(())
}

pub(super) fn sessions(door: &Door) -> Result<()> {
    let (one, other) = (session(door, "10s")?, session(door, "")?);
    let path = format!("/v1/kv/{}", door.own("lock"));
    is(door, "PUT", &format!("{path}?acquire={one}"), "by one", "true")?;
    is(door, "PUT", &format!("{path}?acquire={other}"), "by other", "false")?;
    let held = door.json(&path)?;
    ensure!(held[0]["Session"] == one.as_str() && held[0]["LockIndex"] == 1, "{held}");
    is(door, "PUT", &format!("{path}?release={other}"), "", "false")?;
    is(door, "PUT", &format!("{path}?release={one}"), "free", "true")?;
    is(door, "PUT", &format!("{path}?acquire={other}"), "by other", "true")?;
    let renewed = door.put(&format!("/v1/session/renew/{one}"), &Value::Null)?.json()?;
    ensure!(renewed[0]["ID"] == one.as_str() && renewed[0]["TTL"] == "10s", "{renewed}");
    let info = door.json(&format!("/v1/session/info/{other}"))?;
    ensure!(info[0]["Node"] == door.home_node.as_str(), "{info}");
    let on_node = door.json(&format!("/v1/session/node/{}", door.home_node))?.to_string();
    let all = door.json("/v1/session/list")?.to_string();
    ensure!([&one, &other].iter().all(|id| on_node.contains(*id) && all.contains(*id)), "{on_node} {all}");
    for session in [&one, &other] {
        is(door, "PUT", &format!("/v1/session/destroy/{session}"), "", "true")?;
    }
    let freed = door.json(&path)?;
    ensure!(freed[0].get("Session").is_none() && freed[0]["LockIndex"] == 2, "{freed}");
    is(door, "DELETE", &path, "", "true")?;
    let nobody = door.send("PUT", &format!("{path}?acquire={one}"), "")?;
    ensure!(nobody.status == 500 && nobody.text().contains("invalid session"), "{}", nobody.text());
    Ok(())
}

pub(super) fn transactions(door: &Door) -> Result<()> {
    let (one, two) = (door.own("txn/one"), door.own("txn/two"));
    let set = |key: &str| json!({"KV": {"Verb": "set", "Key": key, "Value": "eA=="}});
    let get = |key: &str| json!({"KV": {"Verb": "get", "Key": key}});
    let done = door.put("/v1/txn", &json!([set(&one), set(&two), get(&one)]))?.json()?;
    ensure!(done["Errors"].is_null() && done["Results"][2]["KV"]["Value"] == "eA==", "{done}");
    let absent = door.own("txn/absent");
    let refused =
        door.send("PUT", "/v1/txn", &json!([set(&door.own("txn/three")), get(&absent)]).to_string())?;
    ensure!(refused.status == 409, "answered {}: {}", refused.status, refused.text());
    let refused = refused.json()?;
    ensure!(refused["Results"].is_null() && refused["Errors"][0]["OpIndex"] == 1, "{refused}");
    let three = door.send("GET", &format!("/v1/kv/{}", door.own("txn/three")), "")?;
    ensure!(three.status == 404, "half of a refused transaction was done");
    for key in [one, two] {
        is(door, "DELETE", &format!("/v1/kv/{key}"), "", "true")?;
    }
    Ok(())
}

/// A session on the node at home that no check ends.
fn session(door: &Door, ttl: &str) -> Result<String> {
    let body = json!({"Node": door.home_node, "TTL": ttl, "LockDelay": "0s", "NodeChecks": [], "Checks": []});
    let answer = door.put("/v1/session/create", &body)?.json()?;
    Ok(answer["ID"].as_str().context("a session without ID")?.to_owned())
}

/// A request that must be answered 200 with exactly this text.
fn is(door: &Door, method: &str, path: &str, body: &str, expected: &str) -> Result<()> {
    let answer = good(method, path, door.send(method, path, body)?)?;
    let text = answer.text();
    ensure!(text.trim_end() == expected, "{method} {path} was answered {text:?} instead of {expected:?}");
    Ok(())
}
