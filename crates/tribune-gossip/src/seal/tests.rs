//! Packets and frames that are opened, and the many that are not.

use super::*;

const OLD: &str = "AQEBAQEBAQEBAQEBAQEBAQ==";
const NEW: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
const ODD: &str = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD";

fn dc(name: &str) -> Label {
    Label::lan(&Datacenter::new(name).unwrap())
}

fn seal(label: Label, keys: &[&str]) -> Seal {
    let keyring = (!keys.is_empty()).then(|| Keyring::from_keys(keys.iter().copied()).unwrap());
    Seal::new(label, keyring)
}

#[test]
fn a_packet_is_opened_by_whoever_has_the_key() {
    for keys in [&[][..], &[OLD], &[NEW], &[ODD]] {
        let (one, two) = (seal(dc("dc1"), keys), seal(dc("dc1"), keys));
        assert_eq!(two.open_packet(&one.packet(b"hello")), Ok(b"hello".to_vec()));
    }
    let (one, two) = (seal(dc("dc1"), &[NEW, OLD]), seal(dc("dc1"), &[OLD, NEW]));
    assert_eq!(two.open_packet(&one.packet(b"hello")), Ok(b"hello".to_vec()), "in the middle of a rotation");
    let packet = one.packet(b"secret words");
    assert!(!packet.windows(6).any(|part| part == b"secret"));
    assert_ne!(packet, one.packet(b"secret words"), "each has a nonce of its own");
}

#[test]
fn forged_packets_are_refused() {
    let (ours, theirs) = (seal(dc("dc1"), &[OLD]), seal(dc("dc1"), &[NEW]));
    assert_eq!(ours.open_packet(&theirs.packet(b"x")), Err(Refusal::Undecryptable));
    assert_eq!(ours.open_packet(&seal(dc("dc1"), &[]).packet(b"x")), Err(Refusal::Plaintext));
    assert_eq!(seal(dc("dc1"), &[]).open_packet(&ours.packet(b"x")), Err(Refusal::Unexpected));
    assert_eq!(ours.open_packet(&seal(dc("dc2"), &[OLD]).packet(b"x")), Err(Refusal::OtherTag));
    let packet = ours.packet(b"hello");
    for length in 0..packet.len() {
        assert!(ours.open_packet(&packet[..length]).is_err(), "cut to {length}");
    }
    for at in 0..packet.len() {
        let mut forged = packet.to_vec();
        forged[at] ^= 1;
        assert!(ours.open_packet(&forged).is_err(), "changed at {at}");
    }
}

#[test]
fn the_pool_is_authenticated_and_not_only_named() {
    let (ours, theirs) = (seal(dc("dc1"), &[OLD]), seal(dc("dc2"), &[OLD]));
    let mut forged = theirs.packet(b"x").to_vec();
    forged[2..6].copy_from_slice(&ours.packet(b"x")[2..6]);
    assert_eq!(ours.open_packet(&forged), Err(Refusal::Undecryptable));
}

#[test]
fn an_answer_belongs_to_its_request() {
    let (one, two) = (seal(dc("dc1"), &[OLD]), seal(dc("dc1"), &[OLD]));
    let (request, nonce) = one.request(b"question");
    let opened = two.open_request(&request).ok().unwrap();
    assert_eq!(opened.body, b"question");
    let answer = two.answer(&opened.envelope, b"answer");
    assert_eq!(one.open_answer(nonce, &answer), Ok(b"answer".to_vec()));
    let (_, other) = one.request(b"another question");
    assert_eq!(one.open_answer(other, &answer), Err(Refusal::Undecryptable), "an answer of before");
    assert!(one.open_request(&answer).is_err(), "sent back as a request");
    assert!(one.open_answer(nonce, &request).is_err());
}

#[test]
fn who_was_away_during_a_rotation_can_read_the_answer() {
    let (away, there) = (seal(dc("dc1"), &[OLD]), seal(dc("dc1"), &[NEW, OLD]));
    let (request, nonce) = away.request(b"question");
    let opened = there.open_request(&request).ok().unwrap();
    assert!(opened.envelope.old_key);
    assert_eq!(away.open_answer(nonce, &there.answer(&opened.envelope, b"answer")), Ok(b"answer".to_vec()));
}

#[test]
fn an_answer_never_goes_in_clear_text_because_its_key_was_removed() {
    let (away, there) = (seal(dc("dc1"), &[OLD]), seal(dc("dc1"), &[NEW, OLD]));
    let (request, nonce) = away.request(b"question");
    let opened = there.open_request(&request).ok().unwrap();
    there.set_keyring(Keyring::new(NEW).unwrap());
    let answer = there.answer(&opened.envelope, b"secret words");
    assert!(!answer.windows(6).any(|part| part == b"secret"));
    let told = Refusal::Told(Refusal::Undecryptable.to_string());
    assert_eq!(away.open_answer(nonce, &answer), Err(told));
}

#[test]
fn refusals_name_both_datacenters_to_both_sides() {
    let (ours, theirs) = (seal(dc("dc1"), &[OLD]), seal(dc("dc2"), &[OLD]));
    let (request, nonce) = theirs.request(b"question");
    let refusal = ours.open_request(&request).err().unwrap();
    assert!(
        refusal.to_string().contains("this agent is in datacenter 'dc1', the other in 'dc2'"),
        "{refusal}"
    );
    let told = theirs.open_answer(nonce, &ours.refuse(&refusal)).unwrap_err().to_string();
    assert!(told.contains("this agent is in datacenter 'dc2', the other in 'dc1'"), "{told}");
}

#[test]
fn a_reason_in_clear_text_cannot_do_harm() {
    let ours = seal(dc("dc1"), &[OLD]);
    let (_, nonce) = ours.request(b"question");
    let evil = Refusal::Told(format!("\u{1b}[2J{}", "x".repeat(10_000)));
    let told = ours.open_answer(nonce, &ours.refuse(&evil)).unwrap_err().to_string();
    assert!(told.len() <= REASON_BYTES_MAX && !told.contains('\u{1b}'));
    assert_eq!(ours.open_answer(nonce, &[VERSION, REFUSAL]), Err(Refusal::Told(String::new())));
    assert_eq!(ours.open_request(&[9, 0, 0, 0]).err(), Some(Refusal::Version(9)));
}
