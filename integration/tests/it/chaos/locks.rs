//! Locks that sessions acquire and release.

use rand::RngExt;
use serde_json::json;
use tribune_integration::linear::{Lock, LockCall};

use super::{CLIENTS, Door, Storm, Told, Written};

#[test]
fn locks_have_one_holder_while_servers_are_killed_stopped_and_cut_off() {
    let mut storm = Storm::prepare();
    // Bound to nothing that a fault could end: what ends a session is another test's business.
    let body = json!({"LockDelay": "0s", "NodeChecks": [], "Checks": []});
    let sessions: Vec<String> = (0..CLIENTS)
        .map(|_| {
            let answer = storm.cluster.node(0).put("/v1/session/create", &body).unwrap().json().unwrap();
            answer["ID"].as_str().unwrap().to_owned()
        })
        .collect();
    storm.rage::<Lock, _>(|client| {
        let sessions = &sessions;
        move |door: &Door, key: &str| call(door, key, client, sessions)
    });
}

fn call(door: &Door, key: &str, client: usize, sessions: &[String]) -> Told<LockCall> {
    let session = u32::try_from(client).unwrap();
    let target = format!("/v1/kv/{key}");
    let kind = rand::rng().random_range(0..10);
    let (verb, call): (_, fn(u32, Option<bool>) -> LockCall) = match kind {
        0..4 => ("acquire", |session, done| LockCall::Acquire { session, done }),
        4..8 => ("release", |session, done| LockCall::Release { session, done }),
        _ => return read(door, &target, sessions),
    };
    match door.write("PUT", &format!("{target}?{verb}={}", sessions[client]), "held") {
        Written::Answered(done) => Told::Known(call(session, Some(done))),
        Written::Unknown => Told::Unknown(call(session, None)),
        Written::Never => Told::Nothing,
    }
}

fn read(door: &Door, target: &str, sessions: &[String]) -> Told<LockCall> {
    let Some(answer) = door.read(target) else { return Told::Nothing };
    if answer.status == 404 {
        return Told::Known(LockCall::Read { holder: None, acquired: 0 });
    }
    let body = answer.json().unwrap();
    let number = |session: &str| sessions.iter().position(|known| known == session).unwrap();
    let holder = body[0]["Session"].as_str().map(|session| u32::try_from(number(session)).unwrap());
    Told::Known(LockCall::Read { holder, acquired: body[0]["LockIndex"].as_u64().unwrap() })
}
